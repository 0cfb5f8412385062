//! Times of the week, by the wall clock where the agent runs: `days = ["mon-fri"]`, `from = "08:00"`, `to = "18:00"`.
//!
//! A window whose end is not after its beginning goes on past midnight and belongs to the day on which it begins.

use std::fmt;

use chrono::{Datelike as _, Timelike as _};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::{Direction, Limit};

const MINUTES_OF_DAY: u16 = 24 * 60;
const NAMES: [(&str, &str); 7] = [
    ("mon", "monday"),
    ("tue", "tuesday"),
    ("wed", "wednesday"),
    ("thu", "thursday"),
    ("fri", "friday"),
    ("sat", "saturday"),
    ("sun", "sunday"),
];

/// A moment of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// From 0, Monday, to 6.
    pub weekday: u8,
    /// Since midnight, below 1440.
    pub minute: u16,
}

impl LocalTime {
    /// What the wall clock shows here and now.
    pub fn now() -> Self {
        let now = chrono::Local::now();
        // Both are small numbers by their definition.
        let weekday = now.weekday().num_days_from_monday() as u8;
        Self { weekday, minute: (now.hour() * 60 + now.minute()) as u16 }
    }
}

/// Some days of the week.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// All seven.
    pub const ALL: Self = Self(0x7f);

    /// Whether the day, from 0 for Monday to 6, is one of them.
    pub const fn has(self, weekday: u8) -> bool {
        self.0 >> (weekday % 7) & 1 == 1
    }

    /// Adds `mon`, or `mon-fri`, or `sat-mon`.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (weekday(first)?, weekday(last)?);
        let mut day = first;
        loop {
            self.0 |= 1 << day;
            if day == last {
                return Ok(());
            }
            day = (day + 1) % 7;
        }
    }
}

fn weekday(text: &str) -> Result<u8, String> {
    let wanted = text.trim().to_ascii_lowercase();
    let found = (0_u8..).zip(NAMES).find(|(_, (short, long))| wanted == *short || wanted == *long);
    found.map(|(number, _)| number).ok_or_else(|| {
        format!("{text:?} is not a day: write mon, tue, wed, thu, fri, sat, sun, or a span such as mon-fri")
    })
}

impl fmt::Debug for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = (0..).zip(NAMES).filter(|(day, _)| self.has(*day)).map(|(_, (short, _))| short);
        f.debug_list().entries(names).finish()
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DaysVisitor)
    }
}

struct DaysVisitor;

impl<'de> Visitor<'de> for DaysVisitor {
    type Value = Days;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("days such as [\"mon-fri\", \"sun\"]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Days, E> {
        let mut days = Days(0);
        days.add(text).map_err(E::custom)?;
        Ok(days)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Days, A::Error> {
        let mut days = Days(0);
        while let Some(text) = texts.next_element::<String>()? {
            days.add(&text).map_err(de::Error::custom)?;
        }
        if days.0 == 0 {
            return Err(de::Error::custom("no day is named: leave `days` out for every day"));
        }
        Ok(days)
    }
}

/// A time of day in minutes since midnight; 24:00 is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TimeOfDay(u16);

impl TimeOfDay {
    fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.trim().split_once(':')?;
        let number = |digits: &str, most: u16| {
            let is_number = matches!(digits.len(), 1 | 2) && digits.bytes().all(|c| c.is_ascii_digit());
            digits.parse().ok().filter(|number: &u16| is_number && *number <= most)
        };
        let time = number(hours, 24)? * 60 + number(minutes, 59).filter(|_| minutes.len() == 2)?;
        (time <= MINUTES_OF_DAY).then_some(Self(time))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format_args!("{text:?} is not a time of day: write 00:00 to 24:00"))
        })
    }
}

/// A time of the week with limits of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Window {
    days: Days,
    from: TimeOfDay,
    to: TimeOfDay,
    upload: Option<Limit>,
    download: Option<Limit>,
}

/// A window as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    days: Option<Days>,
    from: Option<TimeOfDay>,
    to: Option<TimeOfDay>,
    upload: Option<Limit>,
    download: Option<Limit>,
}

impl TryFrom<Written> for Window {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { days, from, to, upload, download } = written;
        let (from, to) = match (from, to) {
            (None, None) => (TimeOfDay(0), TimeOfDay(MINUTES_OF_DAY)),
            (Some(from), Some(to)) => (from, to),
            _ => return Err("a window has both `from` and `to`, or neither for whole days"),
        };
        if from == to {
            return Err("the window ends when it begins: leave `from` and `to` out for whole days");
        }
        if from.0 == MINUTES_OF_DAY {
            return Err("a window that begins at the end of the day begins at 00:00 of the next");
        }
        if upload.is_none() && download.is_none() {
            return Err(
                "the window limits nothing: give it `upload`, `download` or both (\"off\" for no limit)",
            );
        }
        Ok(Self { days: days.unwrap_or(Days::ALL), from, to, upload, download })
    }
}

impl Window {
    /// Whether `time` lies in it.
    pub fn contains(&self, time: LocalTime) -> bool {
        let (from, to) = (self.from.0, self.to.0);
        if from < to {
            return self.days.has(time.weekday) && (from..to).contains(&time.minute);
        }
        let yesterday = (time.weekday + 6) % 7;
        (self.days.has(time.weekday) && time.minute >= from) || (self.days.has(yesterday) && time.minute < to)
    }

    /// What it says of a direction; `None` if nothing.
    pub const fn limit(&self, direction: Direction) -> Option<Limit> {
        match direction {
            Direction::Upload => self.upload,
            Direction::Download => self.download,
        }
    }
}
