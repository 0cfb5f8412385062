//! Words for people: times, ages, counts, tables.

use chrono::{DateTime, Local, SecondsFormat, TimeZone, Utc};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub use crate::words::{count, grouped};

/// A time in the local zone: `2026-11-21 14:03:07`.
pub fn local_time<Z: TimeZone>(time: &DateTime<Z>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time for programs. All of `--json` has this one form: RFC 3339 in UTC, with as many digits as are not zero, in threes.
pub fn json_time<Z: TimeZone>(time: &DateTime<Z>) -> String {
    time.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// How long ago: `3 min ago`, `2 days ago`; `in the future` if the clock says so.
pub fn age<Z: TimeZone>(time: &DateTime<Z>) -> String {
    let seconds = Utc::now().signed_duration_since(time.with_timezone(&Utc)).num_seconds();
    match seconds {
        ..-60 => "in the future".to_owned(),
        -60..60 => "just now".to_owned(),
        _ => format!("{} ago", coarse(seconds.unsigned_abs())),
    }
}

/// A duration to the nearest unit that matters: `45 s`, `12 min`, `5 h`, `3 days`.
pub fn coarse(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => format!("{} h", seconds / HOUR),
        DAY.. => count(seconds / DAY, "day", "days"),
    }
}

/// A duration in full: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// The value of an option that means nothing when it is empty: a script's variable that was not set must not decide anything.
///
/// # Errors
/// If there is nothing but blanks.
pub fn not_empty(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty; is a variable in your script not set?".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// How a column of a [`Table`] is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// Columns that line up.
#[derive(Debug)]
pub struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a title for each column.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            aligns: columns.iter().map(|(_, align)| *align).collect(),
            rows: vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect()],
        }
    }

    /// Adds a row: one text a column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, titles first, without blanks at their ends.
    pub fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        self.rows.iter().map(|row| self.render(row, &widths)).collect()
    }

    fn render(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).zip(&self.aligns).map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

/// The columns that a text takes on a terminal.
pub fn columns_of(text: &str) -> usize {
    text.width()
}

/// The middle of a long text left out: `/home/…/report.pdf`, at most `columns` wide.
pub fn shorten(text: &str, columns: usize) -> String {
    if columns_of(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    // The end of a path says more than its beginning.
    let begin: String = as_many(text.chars(), room / 3).collect();
    let end: Vec<char> = as_many(text.chars().rev(), room - columns_of(&begin)).collect();
    begin + "…" + &end.iter().rev().collect::<String>()
}

/// Characters as long as there is room for them.
fn as_many(text: impl Iterator<Item = char>, columns: usize) -> impl Iterator<Item = char> {
    let mut left = columns;
    text.map_while(move |c| {
        left = left.checked_sub(c.width().unwrap_or(0))?;
        Some(c)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_as_people_read_them() {
        let time = DateTime::parse_from_rfc3339("2026-11-21T14:03:07.25+01:00").unwrap();
        assert_eq!(json_time(&time), "2026-11-21T13:03:07.250Z");
        assert_eq!(duration(0.44), "0.4 s");
        assert_eq!(duration(185.0), "3 min 05 s");
        assert_eq!(coarse(3 * 86_400 + 5), "3 days");
    }

    #[test]
    fn long_paths_lose_their_middle() {
        assert_eq!(shorten("/a/b", 10), "/a/b");
        assert_eq!(shorten("/home/me/documents/report.pdf", 16), "/home…report.pdf");
        assert_eq!(shorten("/写真/写真/写真", 10), "/写…/写真");
        assert_eq!((shorten("abc", 1), shorten("abc", 0)), ("…".to_owned(), String::new()));
    }
}
