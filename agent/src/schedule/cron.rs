//! Cron expressions and their times.
//!
//! Five fields: minute, hour, day of the month, month, day of the week (0 or 7 is Sunday), with `*`, lists, ranges, steps and names; also `L` (last),
//! `15W` (the weekday next to the 15th), `FRI#2` (the second Friday), and `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. Where both days are
//! given, either is enough. The crate `croner` reads the fields; zones and changes of clocks are ours: see [`super`].

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike as _, Utc,
};
use croner::parser::{CronParser, Seconds, Year};

use super::Zone;
use super::zone::Shown;

/// The calendar repeats after 400 years: what comes in none of these days never comes.
const DAYS_MAX: u32 = 146_097;
/// February 29th on a given weekday leaves one waiting for 40 years.
const YEARS_MAX: u64 = 45;
/// No sensible one is longer.
const LENGTH_MAX: usize = 200;
/// Nobody knows the zones of later years, and the crate ends in 5000.
const LAST_YEAR: i32 = 4000;
/// The first day of a cycle of the calendar.
const CYCLE_BEGIN: NaiveDate = match NaiveDate::from_ymd_opt(2000, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};
const MINUTES_OF_HOUR: u32 = 60;
const HOURS_OF_DAY: u32 = 24;

/// A schedule.
#[derive(Clone)]
pub struct Cron {
    /// As it was written, without needless blanks.
    text: String,
    /// Bit `n` is minute `n`.
    minutes: u64,
    /// Bit `n` is hour `n`.
    hours: u32,
    /// Days and months.
    days: Box<croner::CronPattern>,
    /// It is one of real time: see [`super`].
    every_hour: bool,
}

impl Cron {
    /// The first of its times after an instant. `None` only past the year 4000.
    pub fn next_after(&self, after: DateTime<Utc>, zone: Zone) -> Option<DateTime<Utc>> {
        // Nobody knows the zones of years before that.
        let after = after.max(DateTime::UNIX_EPOCH);
        // A time of yesterday may be shown again, or made up, today.
        let mut day = zone.wall(after).date().pred_opt()?;
        for _ in 0..=DAYS_MAX {
            if day.year() > LAST_YEAR {
                return None;
            }
            if let Some(found) = self.first_of_day(day, after, zone) {
                // Clocks that are put back over midnight show today again after the first times of tomorrow.
                let of_tomorrow = day.succ_opt().and_then(|next| self.first_of_day(next, after, zone));
                return Some(of_tomorrow.map_or(found, |other| found.min(other)));
            }
            day = day.succ_opt()?;
        }
        None
    }

    /// The last of its times that is not after an instant. `None` only where there was none in [`YEARS_MAX`] years, or since 1970.
    pub fn last_until(&self, until: DateTime<Utc>, zone: Zone) -> Option<DateTime<Utc>> {
        let next = |at: DateTime<Utc>| self.next_after(at, zone).filter(|next| *next <= until);
        let mut last = next(until.checked_sub_days(Days::new(366 * YEARS_MAX)).unwrap_or_default())?;
        // None of its times is between this and `until`.
        let mut none_after = until;
        while none_after - last > TimeDelta::minutes(1) {
            let middle = last + (none_after - last) / 2;
            match next(middle) {
                Some(later) => last = later,
                None => none_after = middle,
            }
        }
        std::iter::successors(Some(last), |at| next(*at)).last()
    }

    /// Whether it has times on a day.
    pub(super) fn is_on(&self, day: NaiveDate) -> bool {
        let weekday = croner::Weekday::from_days_from_sunday(day.weekday().num_days_from_sunday());
        self.days.month_match(day.month()).unwrap_or(false)
            && self.days.day_match(day.year(), day.month(), day.day(), weekday).unwrap_or(false)
    }

    /// Its times on a day that has any.
    pub(super) fn times(&self) -> impl Iterator<Item = NaiveTime> + '_ {
        let hours = (0..HOURS_OF_DAY).filter(|hour| self.hours >> hour & 1 == 1);
        let minutes = || (0..MINUTES_OF_HOUR).filter(|minute| self.minutes >> minute & 1 == 1);
        hours.flat_map(move |hour| {
            minutes().filter_map(move |minute| NaiveTime::from_hms_opt(hour, minute, 0))
        })
    }

    /// The earliest instant after `after` that belongs to a time of `day`.
    fn first_of_day(&self, day: NaiveDate, after: DateTime<Utc>, zone: Zone) -> Option<DateTime<Utc>> {
        if !self.is_on(day) {
            return None;
        }
        let wall = self.times().map(|time| day.and_time(time));
        if let Some(offset) = zone.offset_of_day(day) {
            let mut instants = wall.filter_map(|wall| Some(wall.checked_sub_signed(offset)?.and_utc()));
            return instants.find(|at| *at > after);
        }
        let instants = wall.flat_map(|wall| self.instants(wall, zone)).flatten();
        instants.filter(|at| *at > after).min()
    }

    /// When it runs for one of its times, on a day on which clocks may change.
    fn instants(&self, wall: NaiveDateTime, zone: Zone) -> [Option<DateTime<Utc>>; 2] {
        match zone.shown(wall) {
            Shown::Once(at) => [Some(at), None],
            Shown::Twice(first, second) => [Some(first), Some(second).filter(|_| self.every_hour)],
            Shown::Never(end) if self.every_hour && self.follows_within_an_hour(zone.wall(end)) => {
                [None, None]
            }
            Shown::Never(end) => [Some(end), None],
        }
    }

    fn follows_within_an_hour(&self, wall: NaiveDateTime) -> bool {
        (0..MINUTES_OF_HOUR)
            .filter_map(|minutes| wall.checked_add_signed(TimeDelta::minutes(minutes.into())))
            .any(|wall| self.is_at(wall))
    }

    fn is_at(&self, wall: NaiveDateTime) -> bool {
        self.hours >> wall.hour() & 1 == 1
            && self.minutes >> wall.minute() & 1 == 1
            && self.is_on(wall.date())
    }
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("a schedule of {} characters is too long", text.len()));
        }
        let wrong = |why: String| format!("{text:?} is no schedule: {why}");
        let fields = spelt_out(text).map_err(wrong)?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(&fields.join(" ")).map_err(|e| wrong(plain(&e)))?;
        let bits = |is_set: &dyn Fn(u32) -> bool, end: u32| {
            (0..end).filter(|bit| is_set(*bit)).fold(0_u64, |bits, bit| bits | 1 << bit)
        };
        let days = parsed.pattern;
        let minutes = bits(&|minute| days.minute_match(minute).unwrap_or(false), MINUTES_OF_HOUR);
        let hours = bits(&|hour| days.hour_match(hour).unwrap_or(false), HOURS_OF_DAY) as u32;
        let has_star = fields.get(1).is_some_and(|hours| hours.contains('*'));
        let every_hour = has_star || hours.count_ones() == HOURS_OF_DAY;
        let words: Vec<&str> = text.split_whitespace().collect();
        let cron = Self { text: words.join(" "), minutes, hours, days: Box::new(days), every_hour };
        let has_a_day = (0..DAYS_MAX)
            .any(|n| CYCLE_BEGIN.checked_add_days(Days::new(n.into())).is_some_and(|day| cron.is_on(day)));
        if !has_a_day || cron.times().next().is_none() {
            return Err(wrong("the day that it names never comes".to_owned()));
        }
        Ok(cron)
    }
}

/// The five fields, also of what has a name.
fn spelt_out(text: &str) -> Result<Vec<&str>, String> {
    const NAMES: &str = "@hourly, @daily, @weekly, @monthly or @yearly";
    let fields: Vec<&str> = text.split_whitespace().collect();
    let text = match fields.as_slice() {
        ["@hourly"] => "0 * * * *",
        ["@daily" | "@midnight"] => "0 0 * * *",
        ["@weekly"] => "0 0 * * 0",
        ["@monthly"] => "0 0 1 * *",
        ["@yearly" | "@annually"] => "0 0 1 1 *",
        [name] if name.starts_with('@') => return Err(format!("write {NAMES}, or five fields")),
        [_, _, _, _, _] => return Ok(fields),
        _ => {
            return Err(format!(
                "it has {}, and not five (minute, hour, day of the month, month, day of the week): \"0 2 * * *\" is each day at 02:00",
                crate::words::count(fields.len() as u64, "field", "fields")
            ));
        }
    };
    Ok(text.split(' ').collect())
}

/// The crate's words without the names of its types.
fn plain(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError;
    match error {
        CronError::InvalidPattern(why)
        | CronError::IllegalCharacters(why)
        | CronError::ComponentError(why) => {
            let why =
                why.replace("CronPattern contains illegal character", "there is an unexpected character");
            let why = why.replace(" in part ", " in ");
            why.trim_end_matches('.').to_owned()
        }
        other => other.to_string(),
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}
