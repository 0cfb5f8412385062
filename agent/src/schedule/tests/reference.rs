//! Schedules against a slow reference that walks minute by minute, looks at the clock on the wall, and remembers what it has seen.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use proptest::collection::btree_set;
use proptest::prelude::*;

use super::at;
use crate::schedule::{Cron, Due, Zone, due, expected_interval, next_due};

const ZONES: [Tz; 8] = [
    chrono_tz::Europe::Berlin,
    chrono_tz::America::New_York,
    chrono_tz::Australia::Lord_Howe,
    chrono_tz::Pacific::Apia,
    chrono_tz::Africa::Cairo,
    chrono_tz::America::St_Johns,
    chrono_tz::Africa::Casablanca,
    chrono_tz::UTC,
];
/// Shortly before clocks change in one of them or another, leap days, and turns of the year.
const DAYS: [&str; 16] = [
    "2026-03-28T12:00:00Z",
    "2026-10-24T12:00:00Z",
    "2026-03-07T20:00:00Z",
    "2026-10-31T20:00:00Z",
    "2026-04-04T08:00:00Z",
    "2026-10-03T08:00:00Z",
    "2011-12-29T12:00:00Z",
    "2011-04-02T08:00:00Z",
    "2026-04-23T12:00:00Z",
    "2026-10-29T12:00:00Z",
    "2010-11-06T20:00:00Z",
    "2010-03-13T20:00:00Z",
    "2026-02-14T20:00:00Z",
    "2026-03-21T20:00:00Z",
    "2028-02-28T12:00:00Z",
    "2026-12-30T20:00:00Z",
];

/// The fields as sets; empty stands for `*`.
#[derive(Debug, Clone)]
struct Fields {
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    weekdays: BTreeSet<u32>,
    hour_step: Option<u32>,
}

impl Fields {
    fn text(&self) -> String {
        let list = |set: &BTreeSet<u32>| match set.len() {
            0 => "*".to_owned(),
            _ => set.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        };
        let hours = match self.hour_step {
            Some(step) => format!("*/{step}"),
            None => list(&self.hours),
        };
        format!(
            "{} {hours} {} {} {}",
            list(&self.minutes),
            list(&self.days),
            list(&self.months),
            list(&self.weekdays)
        )
    }

    fn is_at(&self, wall: NaiveDateTime) -> bool {
        let has = |set: &BTreeSet<u32>, value: u32| set.is_empty() || set.contains(&value);
        let hour = match self.hour_step {
            Some(step) => wall.hour().is_multiple_of(step),
            None => has(&self.hours, wall.hour()),
        };
        let weekday = wall.weekday().num_days_from_sunday();
        let (day, weekday) = (has(&self.days, wall.day()), has(&self.weekdays, weekday));
        let day =
            if self.days.is_empty() || self.weekdays.is_empty() { day && weekday } else { day || weekday };
        has(&self.minutes, wall.minute()) && hour && has(&self.months, wall.month()) && day
    }

    fn is_of_every_hour(&self) -> bool {
        self.hour_step.is_some() || self.hours.is_empty() || self.hours.len() == 24
    }

    /// All its times from three days before an instant (so that it is known what was seen before) until another.
    fn walk(&self, begin: DateTime<Utc>, end: DateTime<Utc>, zone: Tz) -> Vec<DateTime<Utc>> {
        let wall = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
        let minute = TimeDelta::minutes(1);
        let mut seen = BTreeSet::new();
        let mut times = Vec::new();
        let mut now = begin - TimeDelta::days(3);
        while now <= end {
            let shown = wall(now);
            let is_first = seen.insert(shown);
            let regular = self.is_at(shown) && (is_first || self.is_of_every_hour());
            let mut left_out = wall(now - minute) + minute;
            let mut is_left_out = false;
            while left_out < shown {
                is_left_out |= self.is_at(left_out);
                left_out += minute;
            }
            let follows = || (0..60).any(|n| self.is_at(shown + minute * n));
            if regular || is_left_out && !(self.is_of_every_hour() && follows()) {
                times.push(now);
            }
            now += minute;
        }
        times.retain(|time| *time > begin);
        times
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let step = prop_oneof![4 => Just(None), 1 => (1_u32..13).prop_map(Some)];
    (
        btree_set(prop_oneof![Just(0_u32), Just(30), 0_u32..60], 0..3),
        btree_set(prop_oneof![2 => 0_u32..4, 1 => 0_u32..24], 0..4),
        prop_oneof![3 => Just(BTreeSet::new()), 1 => btree_set(1_u32..32, 1..4)],
        prop_oneof![3 => Just(BTreeSet::new()), 1 => btree_set(1_u32..13, 1..6)],
        prop_oneof![3 => Just(BTreeSet::new()), 1 => btree_set(0_u32..7, 1..4)],
        step,
    )
        .prop_map(|(minutes, hours, days, months, weekdays, hour_step)| Fields {
            minutes,
            hours,
            days,
            months,
            weekdays,
            hour_step,
        })
}

fn all_from(cron: &Cron, begin: DateTime<Utc>, end: DateTime<Utc>, zone: Zone) -> Vec<DateTime<Utc>> {
    std::iter::successors(cron.next_after(begin, zone), |at| cron.next_after(*at, zone))
        .take_while(|at| *at <= end)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn times_are_what_the_walk_finds(fields in fields(), day in 0..DAYS.len(), zone in 0..ZONES.len(), minutes in 0_i64..600) {
        let zone = ZONES[zone];
        let Ok(cron) = fields.text().parse::<Cron>() else { return Ok(()) };
        let begin = at(DAYS[day]) + TimeDelta::minutes(minutes);
        let end = begin + TimeDelta::days(2);
        let walked = fields.walk(begin, end, zone);
        prop_assert_eq!(&all_from(&cron, begin, end, Zone::Named(zone)), &walked, "{} in {}", fields.text(), zone);
        // Wherever one asks, the last that passed is the last that was found.
        for hours in [7, 20, 31, 48] {
            let until = begin + TimeDelta::hours(hours);
            if let Some(last) = walked.iter().rev().find(|time| **time <= until) {
                prop_assert_eq!(cron.last_until(until, Zone::Named(zone)), Some(*last));
            }
        }
    }

    /// A clock that jumps anywhere within a day: whoever asks at each stop handles each time once, in a run of its own or in one for several.
    #[test]
    fn what_is_due_is_handled_once_whatever_the_clock_does(fields in fields(), day in 0..DAYS.len(), zone in 0..ZONES.len(), jumps in prop::collection::vec(-600_i64..1500, 1..8)) {
        let zone = ZONES[zone];
        let Ok(cron) = fields.text().parse::<Cron>() else { return Ok(()) };
        let begin = at(DAYS[day]);
        let (mut now, mut latest, mut handled, mut runs) = (begin, begin, begin, 0);
        for minutes in jumps {
            now = (now + TimeDelta::minutes(minutes)).max(latest - TimeDelta::hours(23));
            latest = latest.max(now);
            if let Some(Due { at, missed }) = due(&cron, Zone::Named(zone), Default::default(), Some(handled), now) {
                prop_assert!(at > handled && at <= now);
                prop_assert_eq!(next_due(&cron, Zone::Named(zone), Default::default(), Some(handled), now), Some(now));
                (handled, runs) = (at, runs + 1 + missed);
            } else {
                let next = next_due(&cron, Zone::Named(zone), Default::default(), Some(handled), now).unwrap();
                prop_assert!(next > now);
                prop_assert_eq!(cron.next_after(handled, Zone::Named(zone)), Some(next));
            }
        }
        prop_assert_eq!(runs, fields.walk(begin, latest, zone).len() as u64);
    }

}

proptest! {
    // Two years of times each.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// No two following times of a year are further apart, but for what clocks are changed by, and some are that far apart.
    #[test]
    fn the_expected_interval_is_the_longest(mut fields in fields(), zone in 0..ZONES.len()) {
        // One a minute only takes longer.
        fields.minutes = [7].into();
        let zone = Zone::Named(ZONES[zone]);
        let Ok(cron) = fields.text().parse::<Cron>() else { return Ok(()) };
        let middle = at("2026-07-01T00:00:00Z");
        let expected = TimeDelta::from_std(expected_interval(&cron, zone, middle)).unwrap();
        let longest = |days: i64| {
            let (begin, end) = (middle - TimeDelta::days(days), middle + TimeDelta::days(days));
            let times = all_from(&cron, begin, end, zone);
            (times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(), times.len())
        };
        let (least, times) = longest(360);
        prop_assert!(least <= expected + TimeDelta::hours(2), "{}: {least} {expected}", fields.text());
        if times > 3 {
            // A year's longest may lie at the end of what was looked at.
            let (most, _) = longest(500);
            prop_assert!(most + TimeDelta::hours(2) >= expected, "{}: {most} {expected}", fields.text());
        }
    }
}
