//! A time zone: what clocks on the wall show at an instant, and at which instants they show a time.
//!
//! All follows from the offset at an instant, which every zone knows. What a zone says of wall times is not asked: the system's and those of the tz
//! database say it in different ways.

use std::fmt;

use chrono::{
    DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

/// No clock is further from UTC, and no change of clocks takes them further (Samoa left out a whole day in 2011).
const FARTHEST: TimeDelta = TimeDelta::hours(24);

/// The zone of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// The one that this machine is set to.
    #[default]
    System,
    /// One of the tz database.
    Named(Tz),
}

/// When clocks show a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// At one instant.
    Once(DateTime<Utc>),
    /// At two: clocks are put back between them.
    Twice(DateTime<Utc>, DateTime<Utc>),
    /// Never: clocks are put forward over it, and this is the first instant after.
    Never(DateTime<Utc>),
}

impl Zone {
    /// What clocks show at an instant.
    pub fn wall(self, at: DateTime<Utc>) -> NaiveDateTime {
        let naive = at.naive_utc();
        naive.checked_add_signed(self.offset(at)).unwrap_or(naive)
    }

    /// When clocks show a time.
    pub fn shown(self, wall: NaiveDateTime) -> Shown {
        let as_utc = wall.and_utc();
        let near = |by: TimeDelta| as_utc.checked_add_signed(by).unwrap_or(as_utc);
        let (before, after) = (self.offset(near(-FARTHEST)), self.offset(near(FARTHEST)));
        let at = |offset: TimeDelta| {
            let instant = near(-offset);
            (self.offset(instant) == offset).then_some(instant)
        };
        match (at(before), at(after)) {
            (Some(first), Some(second)) if first != second => {
                Shown::Twice(first.min(second), first.max(second))
            }
            (Some(at), _) | (None, Some(at)) => Shown::Once(at),
            (None, None) => Shown::Never(self.first_past(wall)),
        }
    }

    /// The offset of a day on which no clock is changed, nor on those beside it.
    pub(super) fn offset_of_day(self, day: NaiveDate) -> Option<TimeDelta> {
        let midnight = day.and_time(NaiveTime::MIN).and_utc();
        let begin = self.offset(midnight.checked_sub_signed(FARTHEST)?);
        let end = self.offset(midnight.checked_add_signed(FARTHEST + TimeDelta::days(1))?);
        (begin == end).then_some(begin)
    }

    /// The first instant at which clocks show more than a time that they never show.
    fn first_past(self, wall: NaiveDateTime) -> DateTime<Utc> {
        let as_utc = wall.and_utc().timestamp();
        let instant = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        // Before the first of these they show less, at the last of them more.
        let (mut less, mut more) = (as_utc - 2 * FARTHEST.num_seconds(), as_utc + 2 * FARTHEST.num_seconds());
        while more - less > 1 {
            let middle = less + (more - less) / 2;
            if self.wall(instant(middle)) < wall {
                less = middle;
            } else {
                more = middle;
            }
        }
        instant(more)
    }

    fn offset(self, at: DateTime<Utc>) -> TimeDelta {
        let naive = at.naive_utc();
        let seconds = match self {
            Self::System => Local.offset_from_utc_datetime(&naive).fix().local_minus_utc(),
            Self::Named(zone) => zone.offset_from_utc_datetime(&naive).fix().local_minus_utc(),
        };
        TimeDelta::seconds(seconds.into())
    }
}

impl From<Option<Tz>> for Zone {
    fn from(zone: Option<Tz>) -> Self {
        zone.map_or(Self::System, Self::Named)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system's time zone"),
            Self::Named(zone) => f.write_str(zone.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(zone: Tz, wall: &str) -> Shown {
        Zone::Named(zone).shown(wall.parse().unwrap())
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn wall_times_come_once_twice_or_never() {
        use chrono_tz::{Australia::Lord_Howe, Europe::Berlin, Pacific::Apia};
        assert_eq!(shown(Berlin, "2026-07-01T02:30:00"), Shown::Once(at("2026-07-01T00:30:00Z")));
        assert_eq!(shown(Berlin, "2026-03-29T02:30:00"), Shown::Never(at("2026-03-29T01:00:00Z")));
        let twice = Shown::Twice(at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"));
        assert_eq!(shown(Berlin, "2026-10-25T02:30:00"), twice);
        assert_eq!(shown(Lord_Howe, "2026-10-04T02:15:00"), Shown::Never(at("2026-10-03T15:30:00Z")));
        assert_eq!(shown(Apia, "2011-12-30T12:00:00"), Shown::Never(at("2011-12-30T10:00:00Z")));
        assert_eq!(shown(Apia, "2011-12-29T23:59:00"), Shown::Once(at("2011-12-30T09:59:00Z")));
        assert_eq!(shown(Apia, "2011-12-31T00:00:00"), Shown::Once(at("2011-12-30T10:00:00Z")));
    }

    /// The ends of what the calendar can hold end nothing.
    #[test]
    fn the_ends_of_the_calendar_are_survived() {
        for zone in [Zone::System, Zone::Named(chrono_tz::Pacific::Kiritimati)] {
            for end in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
                let _ = (zone.wall(end), zone.shown(end.naive_utc()), zone.offset_of_day(end.date_naive()));
            }
        }
    }
}
