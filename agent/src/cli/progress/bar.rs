//! A running operation as two lines that fit a terminal of any width. What matters least goes first.
//!
//! ```text
//! ━━━━━━╌╌╌╌╌╌╌╌╌╌  42%  1.2 GiB of 3.4 GiB · 120.0 MiB/s · 20 s left
//!   backing up · 12,345 files · 300.0 MiB new · /home/me/…/report.pdf
//! ```

use super::Work;
use super::status::Status;
use crate::cli::text::{self, columns_of, shorten};

const BAR_COLUMNS: usize = 16;
/// Below this there is a shorter bar.
const SHORT_BAR_BELOW: usize = 60;
/// Below this there is none.
const NO_BAR_BELOW: usize = 36;
/// What a path is left at least, where there is anything else beside it.
const PATH_COLUMNS_MIN: usize = 24;
const INDENT: &str = "  ";
const BETWEEN: &str = " · ";

/// What is shown.
pub(super) struct Frame<'a> {
    pub(super) status: &'a Status,
    pub(super) work: Work,
    pub(super) phase: &'a str,
    /// The path that is dealt with, for people; empty if there is none.
    pub(super) current: &'a str,
    /// Why there is no end in sight, if there is none.
    pub(super) note: &'a str,
}

/// Text and how much it matters: 0 stays.
type Part = (u8, Option<String>);

impl Frame<'_> {
    /// The two lines, neither wider than `columns`.
    pub(super) fn lines(&self, columns: usize) -> [String; 2] {
        [self.how_far(columns), self.with_what(columns)]
    }

    fn how_far(&self, columns: usize) -> String {
        let begin = match self.status.share() {
            Some(share) => format!("{}{:>3}%  ", bar(share, columns), (share * 100.0) as u8),
            None => INDENT.to_owned(),
        };
        let no_end = self.status.share().is_none();
        let parts = [
            (4, no_end.then(|| text::duration(self.status.elapsed.as_secs_f64()))),
            (0, Some(self.status.bytes_text())),
            (2, Some(self.status.rate_text())),
            (1, self.status.left_text()),
            (3, (self.status.bytes_total == 0 && !self.note.is_empty()).then(|| self.note.to_owned())),
        ];
        let room = columns.saturating_sub(columns_of(&begin));
        begin + &fit(parts, room)
    }

    fn with_what(&self, columns: usize) -> String {
        let room = columns.saturating_sub(INDENT.len());
        let parts = [
            (3, Some(self.phase.to_owned())),
            (2, self.status.files_text()),
            (1, self.status.new_text(self.work)),
            (0, self.status.errors_text()),
        ];
        if self.current.is_empty() {
            return format!("{INDENT}{}", fit(parts, room));
        }
        let begin = fit(parts, room.saturating_sub(PATH_COLUMNS_MIN + BETWEEN.len()));
        let begin = if begin.is_empty() { begin } else { begin + BETWEEN };
        let path = shorten(self.current, room.saturating_sub(columns_of(&begin)));
        format!("{INDENT}{begin}{path}")
    }
}

/// As many of the parts as there is room for, those that matter most.
fn fit<const N: usize>(parts: [Part; N], columns: usize) -> String {
    let mut parts: Vec<(u8, String)> =
        parts.into_iter().filter_map(|(rank, text)| Some((rank, text?))).collect();
    loop {
        let line = parts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(BETWEEN);
        if columns_of(&line) <= columns {
            return line;
        }
        let least = parts.iter().map(|(rank, _)| *rank).max().filter(|_| parts.len() > 1);
        match least {
            Some(least) => parts.retain(|(rank, _)| *rank != least),
            None => return shorten(&line, columns),
        }
    }
}

fn bar(share: f64, columns: usize) -> String {
    let width = match columns {
        ..NO_BAR_BELOW => return String::new(),
        NO_BAR_BELOW..SHORT_BAR_BELOW => BAR_COLUMNS / 2,
        SHORT_BAR_BELOW.. => BAR_COLUMNS,
    };
    let full = ((share * width as f64) as usize).min(width);
    format!("{}{} ", "━".repeat(full), "╌".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::status::Speed;
    use super::*;
    use crate::events::Counters;

    fn status(bytes: u64, total: u64) -> Status {
        let counters = Counters::default();
        counters.expect(total);
        Counters::add(&counters.bytes, bytes);
        Counters::add(&counters.bytes_added, bytes / 4);
        Counters::add(&counters.files, 1_234_567);
        Counters::add(&counters.errors, 12);
        let speed = Speed { moved: 1e9, done: 1e9 };
        Status { speed, ..Status::of(&counters, Duration::from_secs(4000)) }
    }

    fn lines(status: &Status, current: &str, columns: usize) -> [String; 2] {
        let note = "first backup: size not known yet";
        Frame { status, work: Work::Backup, phase: "backing up", current, note }.lines(columns)
    }

    #[test]
    fn all_that_people_want_to_know_fits_eighty_columns() {
        let path = "/home/somebody/a directory/with a long name/and another one in it/the report.pdf";
        let [first, second] = lines(&status(1023 << 30, 2000 << 30), path, 80);
        assert_eq!(first, "━━━━━━━━╌╌╌╌╌╌╌╌  51%  1023.0 GiB of 2.0 TiB · 953.7 MiB/s · 17 min left");
        assert_eq!(
            second,
            "  1,234,567 files · 255.8 GiB new · 12 errors · /home/some… in it/the report.pdf"
        );
        let [first, _] = lines(&status(1023 << 30, 0), path, 80);
        assert_eq!(first, "  1 h 06 min · 1023.0 GiB · 953.7 MiB/s · first backup: size not known yet");
    }

    #[test]
    fn no_line_is_ever_wider_than_the_terminal() {
        let wide = "/写真/".repeat(40);
        for columns in 0..140 {
            for (bytes, total) in [(0, 0), (7, 0), (5 << 40, 9 << 40), (9 << 40, 1), (1, 1)] {
                for current in ["", "/a", "/a/very/long/path/of/some/file/that/is/read.tar.gz", &wide] {
                    for line in lines(&status(bytes, total), current, columns) {
                        let width = columns_of(&line);
                        assert!(width <= columns.max(7), "{width} of {columns}: {line}");
                    }
                }
            }
        }
    }
}
