//! How far an operation is, how fast, and when it will be done.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Work;
use crate::cli::text;
use crate::events::Counters;
use crate::fs::size;
use crate::tree::path_text;

/// The rate is that of about this long.
const RATE_WINDOW: Duration = Duration::from_secs(8);
/// Before this an end that is foretold is a bad guess.
const FORETELLING_AFTER: Duration = Duration::from_secs(2);

/// What is known of an operation at one instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status {
    pub(super) files: u64,
    pub(super) files_total: u64,
    pub(super) bytes: u64,
    pub(super) bytes_passed: u64,
    pub(super) bytes_total: u64,
    pub(super) bytes_added: u64,
    pub(super) bytes_stored: u64,
    pub(super) errors: u64,
    pub(super) elapsed: Duration,
    pub(super) speed: Speed,
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speed {
    /// Of bytes that are read or written: what is shown.
    pub(super) moved: f64,
    /// Of bytes that are dealt with, also those that need not be read: when the end is reached.
    pub(super) done: f64,
}

impl Status {
    /// The counters now, with no speed yet.
    pub(super) fn of(counters: &Counters, elapsed: Duration) -> Self {
        let get = Counters::get;
        Self {
            files: get(&counters.files),
            files_total: get(&counters.files_total),
            bytes: get(&counters.bytes),
            bytes_passed: get(&counters.bytes_passed),
            bytes_total: get(&counters.bytes_total),
            bytes_added: get(&counters.bytes_added),
            bytes_stored: get(&counters.bytes_stored),
            errors: get(&counters.errors),
            elapsed,
            speed: Speed::default(),
        }
    }

    /// Bytes that were read or written.
    pub(super) const fn bytes_moved(&self) -> u64 {
        self.bytes.saturating_sub(self.bytes_passed)
    }

    /// How much of all is done, from 0 to 1. `None` if that is not known: a source may have grown since it was looked at.
    pub(super) fn share(&self) -> Option<f64> {
        (self.bytes_total > 0 && self.bytes <= self.bytes_total)
            .then(|| self.bytes as f64 / self.bytes_total as f64)
    }

    pub(super) fn seconds_left(&self) -> Option<u64> {
        self.share()?;
        let left = (self.bytes_total - self.bytes) as f64;
        (self.elapsed >= FORETELLING_AFTER && self.speed.done >= 1.0)
            .then_some((left / self.speed.done) as u64)
    }

    /// `1.2 GiB of 3.4 GiB`.
    pub(super) fn bytes_text(&self) -> String {
        let done = size::human(self.bytes);
        match (self.share(), self.bytes_total) {
            (Some(_), total) => format!("{done} of {}", size::human(total)),
            (None, 0) => done,
            (None, _) => format!("{done}, more than expected"),
        }
    }

    pub(super) fn rate_text(&self) -> String {
        format!("{}/s", size::human(self.speed.moved as u64))
    }

    pub(super) fn left_text(&self) -> Option<String> {
        Some(format!("{} left", text::coarse(self.seconds_left()?)))
    }

    /// `12,345 files`.
    pub(super) fn files_text(&self) -> Option<String> {
        (self.files > 0).then(|| text::count(self.files, "file", "files"))
    }

    /// How little of what was read had to be stored: `300.0 MiB new`.
    pub(super) fn new_text(&self, work: Work) -> Option<String> {
        (work == Work::Backup && self.bytes > 0).then(|| format!("{} new", size::human(self.bytes_added)))
    }

    pub(super) fn errors_text(&self) -> Option<String> {
        (self.errors > 0).then(|| text::count(self.errors, "error", "errors"))
    }

    /// All in one line: `3 min 05 s · 1.2 GiB of 3.4 GiB · 120.0 MiB/s · 20 s left · 12,345 files · 300.0 MiB new`.
    pub(super) fn line(&self, work: Work) -> String {
        let first = [text::duration(self.elapsed.as_secs() as f64), self.bytes_text(), self.rate_text()];
        let more = [self.left_text(), self.files_text(), self.new_text(work), self.errors_text()];
        first.into_iter().chain(more.into_iter().flatten()).collect::<Vec<_>>().join(" · ")
    }

    pub(super) fn json(&self, phase: &str, current: &[u8]) -> Value {
        let total = |total: u64| (total > 0).then_some(total);
        json!({
            "phase": phase,
            "seconds_elapsed": self.elapsed.as_secs(),
            "seconds_remaining": self.seconds_left(),
            "files_done": self.files,
            "files_total": total(self.files_total),
            "bytes_done": self.bytes,
            "bytes_total": total(self.bytes_total),
            "bytes_per_second": self.speed.moved as u64,
            "bytes_added": self.bytes_added,
            "bytes_stored": self.bytes_stored,
            "errors": self.errors,
            "current": (!current.is_empty()).then(|| path_text::to_text(current)),
        })
    }
}

/// The rate over the last seconds.
#[derive(Debug)]
pub(super) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { samples: VecDeque::from([(Instant::now(), 0)]) }
    }

    pub(super) fn update(&mut self, bytes: u64) -> f64 {
        let now = Instant::now();
        if self.samples.back().is_some_and(|(_, before)| bytes < *before) {
            // Counted anew: another pass over the same data.
            self.samples.clear();
        }
        self.samples.push_back((now, bytes));
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(at, _)| now - *at > RATE_WINDOW) {
            self.samples.pop_front();
        }
        let Some((since, before)) = self.samples.front() else { return 0.0 };
        let seconds = (now - *since).as_secs_f64();
        if seconds > 0.0 { bytes.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_need_not_be_read_brings_the_end_nearer_and_says_nothing_of_the_speed() {
        let counters = Counters::default();
        counters.expect(4 << 30);
        counters.pass(3 << 30);
        Counters::add(&counters.bytes, 1 << 20);
        let mut status = Status::of(&counters, Duration::from_secs(3));
        assert_eq!((status.bytes, status.bytes_moved()), ((3 << 30) + (1 << 20), 1 << 20));
        status.speed = Speed { moved: f64::from(1 << 20), done: f64::from(1 << 30) };
        let line = status.line(Work::Backup);
        assert!(line.contains("3.0 GiB of 4.0 GiB · 1.0 MiB/s · 0 s left"), "{line}");
        // A source that has grown: nothing is foretold any more.
        counters.pass(2 << 30);
        let status = Status { speed: status.speed, ..Status::of(&counters, Duration::from_secs(4)) };
        let line = status.line(Work::Backup);
        assert!(line.contains("5.0 GiB, more than expected · ") && !line.contains("left"), "{line}");
    }
}
