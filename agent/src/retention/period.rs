//! Calendar periods: which hour, day, week, month or year of a zone an instant lies in.
//!
//! Where clocks are put back, an hour comes twice: these are two hours, told apart by their offset from UTC. The day they lie in is one.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Datelike as _, Offset as _, TimeZone, Timelike as _, Utc};

/// 4000-01-01: what is later counts as this.
const LAST: DateTime<Utc> = match DateTime::from_timestamp(64_060_588_800, 0) {
    Some(last) => last,
    None => DateTime::UNIX_EPOCH,
};

/// A calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// A clock hour.
    Hour,
    /// A calendar day.
    Day,
    /// A week from Monday to Sunday, as ISO 8601 counts them.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

/// One hour, day, week, month or year. Two instants lie in the same one if and only if their buckets are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket {
    year: i32,
    /// Of the year: day, ISO week or month.
    part: u32,
    hour: u32,
    /// Of an hour: the offset from UTC in seconds.
    offset: i32,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// A count for each of [`Period::ALL`], in that order; without those that are not said.
    pub fn counts(counts: [Option<u64>; 5]) -> BTreeMap<Self, u64> {
        Self::ALL.into_iter().zip(counts).filter_map(|(period, count)| Some((period, count?))).collect()
    }

    /// The one that an instant lies in.
    pub fn bucket<Z: TimeZone>(self, time: &DateTime<Utc>, zone: &Z) -> Bucket {
        // Nobody knows the zones of other years, and what a hostile date makes of the calendar.
        let time = (*time).clamp(DateTime::UNIX_EPOCH, LAST);
        let local = time.with_timezone(zone);
        let bucket = |year, part| Bucket { year, part, hour: 0, offset: 0 };
        match self {
            Self::Hour => Bucket {
                hour: local.hour(),
                offset: local.offset().fix().local_minus_utc(),
                ..bucket(local.year(), local.ordinal())
            },
            Self::Day => bucket(local.year(), local.ordinal()),
            Self::Week => bucket(local.iso_week().year(), local.iso_week().week()),
            Self::Month => bucket(local.year(), local.month()),
            Self::Year => bucket(local.year(), 0),
        }
    }

    /// The period that a class of snapshots is named after.
    pub fn of_class(class: &str) -> Option<Self> {
        Some(match class {
            "hourly" => Self::Hour,
            "daily" => Self::Day,
            "weekly" => Self::Week,
            "monthly" => Self::Month,
            "yearly" => Self::Year,
            _ => return None,
        })
    }

    /// The adverb: `hourly`.
    pub const fn adverb(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}
