//! Times of the day in a zone: quiet hours, over midnight and over changes of the clock, and the hour of a digest.

use chrono::{
    DateTime, Datelike as _, Days as DayCount, Local, LocalResult, NaiveDate, NaiveDateTime, NaiveTime,
    TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;
use lifeboat_providers::pace::Days;

use super::event::Level;

/// Clocks were never put forward by more at once, but for whole days that a country left out.
const GAP_MAX_MINUTES: i64 = 25 * 60;

/// When a channel is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    /// The days on which they begin.
    pub days: Days,
    /// When they begin.
    pub from: NaiveTime,
    /// When they end; on the next day, if that is not after their beginning.
    pub to: NaiveTime,
    /// The zone of both; the system's unless set.
    pub zone: Option<Tz>,
    /// What is as bad as that comes all the same.
    pub except: Option<Level>,
}

impl QuietHours {
    /// The end of the quiet hours that `now` lies in; `None` if it lies in none.
    pub fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = local(now, self.zone).date();
        // Those of yesterday may go on past midnight.
        [today.checked_sub_days(DayCount::new(1)), Some(today)].into_iter().flatten().find_map(|day| {
            let (from, to) = self.of_day(day)?;
            (from <= now && now < to).then_some(to)
        })
    }

    /// Those that begin on `day`.
    fn of_day(&self, day: NaiveDate) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        // A small number by its definition.
        if !self.days.has(day.weekday().num_days_from_monday() as u8) {
            return None;
        }
        let last = if self.to > self.from { day } else { day.checked_add_days(DayCount::new(1))? };
        let from = instant(day.and_time(self.from), self.zone, Twice::First)?;
        Some((from, instant(last.and_time(self.to), self.zone, Twice::Second)?))
    }
}

/// The next time after `now` at which clocks in the zone show `time`. One that is left out when clocks are put forward comes when they are; of
/// one that comes twice, the first counts.
pub fn next_daily(time: NaiveTime, zone: Option<Tz>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let today = local(now, zone).date();
    let days = (0..3).filter_map(|days| today.checked_add_days(DayCount::new(days)));
    days.filter_map(|day| instant(day.and_time(time), zone, Twice::First)).find(|found| *found > now)
}

/// Which of two moments is meant when clocks are put back.
#[derive(Clone, Copy)]
enum Twice {
    First,
    Second,
}

fn local(time: DateTime<Utc>, zone: Option<Tz>) -> NaiveDateTime {
    match zone {
        Some(zone) => time.with_timezone(&zone).naive_local(),
        None => time.with_timezone(&Local).naive_local(),
    }
}

fn instant(wall: NaiveDateTime, zone: Option<Tz>, twice: Twice) -> Option<DateTime<Utc>> {
    match zone {
        Some(zone) => instant_in(&zone, wall, twice),
        None => instant_in(&Local, wall, twice),
    }
}

fn instant_in<Z: TimeZone>(zone: &Z, wall: NaiveDateTime, twice: Twice) -> Option<DateTime<Utc>> {
    match (zone.from_local_datetime(&wall), twice) {
        (LocalResult::Single(time), _)
        | (LocalResult::Ambiguous(time, _), Twice::First)
        | (LocalResult::Ambiguous(_, time), Twice::Second) => Some(time.to_utc()),
        // Clocks never show it: the moment at which they jump over it.
        (LocalResult::None, _) => (1..=GAP_MAX_MINUTES).find_map(|minutes| {
            let later = wall.checked_add_signed(TimeDelta::minutes(minutes))?;
            zone.from_local_datetime(&later).earliest().map(|time| time.to_utc())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn time(text: &str) -> NaiveTime {
        NaiveTime::parse_from_str(text, "%H:%M").unwrap()
    }

    fn hours(from: &str, to: &str, days: &str) -> QuietHours {
        let days = serde_json::from_str(days).unwrap();
        QuietHours {
            days,
            from: time(from),
            to: time(to),
            zone: Some(chrono_tz::Europe::Berlin),
            except: None,
        }
    }

    #[test]
    fn quiet_hours_go_over_midnight() {
        let night = hours("22:00", "07:00", r#""mon-sun""#);
        let end = Some(at("2026-11-22T07:00:00+01:00"));
        for (now, expected) in [
            ("2026-11-21T21:59:59+01:00", None),
            ("2026-11-21T22:00:00+01:00", end),
            ("2026-11-22T00:00:00+01:00", end),
            ("2026-11-22T06:59:59+01:00", end),
            ("2026-11-22T07:00:00+01:00", None),
        ] {
            assert_eq!(night.end(at(now)), expected, "{now}");
        }
        let noon = hours("12:00", "13:00", r#""mon-sun""#);
        assert_eq!(noon.end(at("2026-11-22T12:30:00+01:00")), Some(at("2026-11-22T13:00:00+01:00")));
        assert_eq!(noon.end(at("2026-11-22T23:30:00+01:00")), None);
    }

    #[test]
    fn days_are_those_on_which_the_hours_begin() {
        // The night from Saturday, 21 November 2026, to Sunday, and the one after it.
        let saturday = hours("22:00", "07:00", r#"["sat"]"#);
        assert!(saturday.end(at("2026-11-22T03:00:00+01:00")).is_some());
        assert!(saturday.end(at("2026-11-21T03:00:00+01:00")).is_none());
        assert!(saturday.end(at("2026-11-22T23:00:00+01:00")).is_none());
    }

    #[test]
    fn changes_of_the_clock_make_a_night_longer_or_shorter_and_lose_nothing() {
        // 29 March 2026: 02:00 becomes 03:00; 25 October 2026: 03:00 becomes 02:00.
        let to_three = hours("22:00", "02:30", r#""mon-sun""#);
        assert_eq!(to_three.end(at("2026-03-29T01:30:00+01:00")), Some(at("2026-03-29T03:00:00+02:00")));
        assert_eq!(to_three.end(at("2026-03-29T03:00:00+02:00")), None);
        assert_eq!(to_three.end(at("2026-10-25T02:29:00+02:00")), Some(at("2026-10-25T02:30:00+01:00")));
        assert_eq!(to_three.end(at("2026-10-25T02:29:00+01:00")), Some(at("2026-10-25T02:30:00+01:00")));
        let from_gap = hours("02:30", "06:00", r#""mon-sun""#);
        assert_eq!(from_gap.end(at("2026-03-29T01:59:00+01:00")), None);
        assert_eq!(from_gap.end(at("2026-03-29T03:00:00+02:00")), Some(at("2026-03-29T06:00:00+02:00")));
    }

    #[test]
    fn a_digest_comes_once_a_day_whatever_the_clock_does() {
        let zone = Some(chrono_tz::Europe::Berlin);
        let next = |now: &str| next_daily(time("02:30"), zone, at(now)).unwrap();
        assert_eq!(next("2026-11-22T02:29:00+01:00"), at("2026-11-22T02:30:00+01:00"));
        assert_eq!(next("2026-11-22T02:30:00+01:00"), at("2026-11-23T02:30:00+01:00"));
        assert_eq!(next("2026-03-29T01:00:00+01:00"), at("2026-03-29T03:00:00+02:00"));
        assert_eq!(next("2026-03-29T03:00:00+02:00"), at("2026-03-30T02:30:00+02:00"));
        assert_eq!(next("2026-10-25T00:00:00+02:00"), at("2026-10-25T02:30:00+02:00"));
        // Not again in the hour that comes twice.
        assert_eq!(next("2026-10-25T02:30:00+02:00"), at("2026-10-26T02:30:00+01:00"));
    }
}
