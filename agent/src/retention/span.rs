//! Lengths of time as people write them: `7d`, `36h`, `2w`, `3m`, `1y`, or several of them: `1y6m`.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Months, TimeDelta, Utc};

/// A length of time: calendar months, then hours. Days have 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    months: u32,
    hours: u32,
}

const HOURS_OF_DAY: u32 = 24;
const MONTHS_OF_YEAR: u32 = 12;
/// More is a mistake, and would lead out of the calendar.
const MONTHS_MAX: u32 = 1_000 * MONTHS_OF_YEAR;
const HOURS_MAX: u32 = 1_000 * 366 * HOURS_OF_DAY;

impl Span {
    /// So many days; `None` for none at all, or more than a thousand years.
    pub fn days(days: u32) -> Option<Self> {
        let hours = days.checked_mul(HOURS_OF_DAY).filter(|hours| (1..=HOURS_MAX).contains(hours))?;
        Some(Self { months: 0, hours })
    }

    /// The instant so long before `time`. A month before the 31st of March is the last of February.
    pub fn before(self, time: DateTime<Utc>) -> DateTime<Utc> {
        time.checked_sub_months(Months::new(self.months))
            .and_then(|time| time.checked_sub_signed(TimeDelta::hours(self.hours.into())))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no length of time: write 7d, 36h, 2w, 3m (months) or 1y");
        let mut span = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let number: u32 = number.parse().map_err(|_| wrong())?;
            let mut tail = tail.chars();
            let (months, hours) = match tail.next() {
                Some('h') => (0, 1),
                Some('d') => (0, HOURS_OF_DAY),
                Some('w') => (0, 7 * HOURS_OF_DAY),
                Some('m') => (1, 0),
                Some('y') => (MONTHS_OF_YEAR, 0),
                _ => return Err(wrong()),
            };
            rest = tail.as_str();
            let add = |sum: u32, unit: u32, most: u32| {
                let sum = number.checked_mul(unit).and_then(|part| sum.checked_add(part));
                sum.filter(|sum| *sum <= most)
                    .ok_or_else(|| format!("{text:?} is more than a thousand years"))
            };
            span.months = add(span.months, months, MONTHS_MAX)?;
            span.hours = add(span.hours, hours, HOURS_MAX)?;
        }
        if span == Self::default() { Err(wrong()) } else { Ok(span) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.months / MONTHS_OF_YEAR, 'y'),
            (self.months % MONTHS_OF_YEAR, 'm'),
            (self.hours / HOURS_OF_DAY, 'd'),
            (self.hours % HOURS_OF_DAY, 'h'),
        ];
        parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(span: &str, time: &str) -> String {
        let time: DateTime<Utc> = time.parse().unwrap();
        span.parse::<Span>().unwrap().before(time).to_rfc3339()
    }

    #[test]
    fn what_people_write() {
        for (text, shown) in
            [("7d", "7d"), ("36h", "1d12h"), ("2w", "14d"), ("3m", "3m"), ("1y6m", "1y6m"), (" 18m ", "1y6m")]
        {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), shown);
        }
        for wrong in
            ["", "7", "d", "0d", "-1d", "7 d", "7days", "1d2", "é", "1é", "99999999999d", "5000000d", "9999y"]
        {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert_eq!(Span::days(7), Some("7d".parse().unwrap()));
        assert_eq!((Span::days(0), Span::days(u32::MAX)), (None, None));
    }

    #[test]
    fn months_end_where_the_calendar_ends_them() {
        assert_eq!(before("1m", "2028-03-31T10:00:00Z"), "2028-02-29T10:00:00+00:00");
        assert_eq!(before("1y", "2028-02-29T10:00:00Z"), "2027-02-28T10:00:00+00:00");
        assert_eq!(before("1d12h", "2026-03-29T10:00:00Z"), "2026-03-27T22:00:00+00:00");
        // Out of the calendar: everything is within.
        assert_eq!(
            "1000y".parse::<Span>().unwrap().before(DateTime::<Utc>::MIN_UTC),
            DateTime::<Utc>::MIN_UTC
        );
    }
}
