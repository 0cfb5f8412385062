//! Runs: begun, ended, and what was said meanwhile.

use std::fmt;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::{Ledger, stamp, time};
use crate::Result;

/// So many runs are kept; standings outlive them.
const RUNS_MAX: u64 = 10_000;
/// So many lines of one run, and so many bytes of a line.
const LINES_MAX: u64 = 2_000;
const LINE_BYTES_MAX: usize = 4_000;

/// A word of a closed set, as the ledger and JSON have it.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As one word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// By its word.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().find(|known| known.word() == word).copied()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// What is run.
    JobKind {
        /// A source is backed up.
        Backup = "backup",
        /// Destinations are pruned.
        Prune = "prune",
        /// A part of the stored data is read and compared.
        Check = "check",
    }
}

words! {
    /// Why it is run.
    Trigger {
        /// Somebody asked for it.
        Manual = "manual",
        /// Its time had come.
        Schedule = "schedule",
        /// Its time had come while nobody could run it.
        CatchUp = "catch-up",
        /// Something changed.
        Change = "change",
    }
}

words! {
    /// What it came to.
    RunResult {
        /// All is done.
        Good = "ok",
        /// A snapshot was made, and something is missing: a path that could not be read, a destination that was away.
        Incomplete = "incomplete",
        /// Nothing was made.
        Failed = "failed",
        /// It was stopped, or ended without a word.
        Interrupted = "interrupted",
    }
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Job {
    /// What.
    pub kind: JobKind,
    /// The source, of a backup.
    pub source: Option<String>,
    /// The history that the snapshot belongs to.
    pub class: Option<String>,
    /// Why.
    pub cause: Trigger,
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// Files that were looked at.
    pub files: u64,
    /// Paths that could not be read as they are.
    pub errors: u64,
    /// Bytes of the source.
    pub bytes_total: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes of new chunks before compression.
    pub bytes_added: u64,
    /// Bytes that were stored at the first destination.
    pub bytes_stored: u64,
}

/// What became of the snapshot at a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The destination.
    pub destination: String,
    /// Whether the snapshot is there.
    pub stored: bool,
    /// How what is stored there is proved, as one word.
    pub verified: Option<String>,
    /// Bytes that were stored there.
    pub bytes_stored: u64,
    /// Why it is not there.
    pub error: Option<String>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ended {
    /// In a word.
    pub result: RunResult,
    /// The process's exit code.
    pub exit_code: u8,
    /// Why, if it is not good.
    pub message: Option<String>,
    /// The next step.
    pub hint: Option<String>,
    /// The snapshot, if one was made.
    pub snapshot: Option<String>,
    /// Counts.
    pub numbers: Numbers,
    /// For each destination.
    pub destinations: Vec<Stored>,
}

/// A run as remembered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// What was run.
    #[serde(flatten)]
    pub job: Job,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended; `None` while it is under way.
    pub ended: Option<DateTime<Utc>>,
    /// What it came to; `None` while it is under way.
    #[serde(flatten)]
    pub outcome: Option<Ended>,
}

/// A line of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logged {
    /// When.
    pub at: DateTime<Utc>,
    /// `notice`, `warning`, `damage` or `error`.
    pub level: String,
    /// What.
    pub text: String,
}

impl Ledger {
    /// Notes that a run begins, and returns its number. Whoever calls it holds the lock of what is run, so that an earlier run of the same that has
    /// not ended never will: it is noted as interrupted.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(&self, job: &Job, now: DateTime<Utc>) -> Result<i64> {
        self.end_lost(job, now)?;
        let insert = "INSERT INTO runs (kind, source, class, cause, started) VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![job.kind.word(), job.source, job.class, job.cause.word(), stamp(now)];
        self.named(self.connection.execute(insert, values))?;
        let id = self.connection.last_insert_rowid();
        let oldest = id.saturating_sub_unsigned(RUNS_MAX);
        self.named(
            self.connection.execute("DELETE FROM runs WHERE id <= ?1 AND ended IS NOT NULL", [oldest]),
        )?;
        Ok(id)
    }

    /// Notes of runs of the same that have not ended that they were interrupted, and returns how many there were. Whoever calls it holds the lock of
    /// what is run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end_lost(&self, job: &Job, now: DateTime<Utc>) -> Result<usize> {
        let update = "UPDATE runs SET ended = ?1, result = 'interrupted', message = 'it ended without a word: the process was killed, or the machine went down'
                      WHERE ended IS NULL AND kind = ?2 AND source IS ?3";
        self.named(self.connection.execute(update, params![stamp(now), job.kind.word(), job.source]))
    }

    /// Notes what a run came to: for itself, and for each source and destination.
    ///
    /// # Errors
    /// If it cannot be written; then nothing of it is.
    pub fn end(
        &self,
        id: i64,
        job: &Job,
        ended: &Ended,
        started: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let write = || {
            let transaction = self.connection.unchecked_transaction()?;
            let update = "UPDATE runs SET ended = ?1, result = ?2, exit_code = ?3, message = ?4, hint = ?5, snapshot = ?6, files = ?7, errors = ?8,
                          bytes_total = ?9, bytes_read = ?10, bytes_added = ?11, bytes_stored = ?12 WHERE id = ?13";
            let n = ended.numbers;
            transaction.execute(
                update,
                params![
                    stamp(now),
                    ended.result.word(),
                    ended.exit_code,
                    ended.message,
                    ended.hint,
                    ended.snapshot,
                    signed(n.files),
                    signed(n.errors),
                    signed(n.bytes_total),
                    signed(n.bytes_read),
                    signed(n.bytes_added),
                    signed(n.bytes_stored),
                    id
                ],
            )?;
            for at in &ended.destinations {
                transaction.execute(
                    "INSERT OR REPLACE INTO run_destinations VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![id, at.destination, at.stored, at.verified, signed(at.bytes_stored), at.error],
                )?;
            }
            if let Some(source) = &job.source {
                super::standing::note(&transaction, source, ended, started, now)?;
            }
            transaction.commit()
        };
        self.named(write())
    }

    /// Notes a line of a run. Beyond a bound lines are dropped, and one says so.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn log(&self, run: i64, level: &str, text: &str, now: DateTime<Utc>) -> Result<()> {
        let write = || {
            let count: i64 = self.connection.query_row(
                "SELECT coalesce(max(number), 0) FROM run_log WHERE run = ?1",
                [run],
                |row| row.get(0),
            )?;
            let (level, text) = match count.unsigned_abs() {
                LINES_MAX.. => return Ok(()),
                number if number + 1 == LINES_MAX => ("notice", "… and more, which is not kept"),
                _ => (level, cut(text)),
            };
            let values = params![run, count + 1, stamp(now), level, text];
            self.connection.execute("INSERT INTO run_log VALUES (?1, ?2, ?3, ?4, ?5)", values).map(drop)
        };
        self.named(write())
    }

    /// The newest runs first, of a source if one is named.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn runs(&self, source: Option<&str>, limit: u32) -> Result<Vec<Run>> {
        let select =
            format!("SELECT {COLUMNS} FROM runs WHERE ?1 IS NULL OR source = ?1 ORDER BY id DESC LIMIT ?2");
        let read = || {
            let mut statement = self.connection.prepare(&select)?;
            let mut runs: Vec<Run> =
                statement.query_map(params![source, limit], run)?.collect::<Result<_, _>>()?;
            for run in &mut runs {
                self.add_destinations(run)?;
            }
            Ok(runs)
        };
        self.named(read())
    }

    /// A run by its number.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn run(&self, id: i64) -> Result<Option<Run>> {
        let read = || {
            let select = format!("SELECT {COLUMNS} FROM runs WHERE id = ?1");
            let mut found = self.connection.query_row(&select, [id], run).optional()?;
            if let Some(run) = &mut found {
                self.add_destinations(run)?;
            }
            Ok(found)
        };
        self.named(read())
    }

    fn add_destinations(&self, run: &mut Run) -> rusqlite::Result<()> {
        let Some(ended) = &mut run.outcome else { return Ok(()) };
        let select = "SELECT destination, stored, verified, bytes_stored, error FROM run_destinations WHERE run = ?1 ORDER BY rowid";
        let mut statement = self.connection.prepare(select)?;
        let stored = |row: &Row<'_>| {
            Ok(Stored {
                destination: row.get(0)?,
                stored: row.get(1)?,
                verified: row.get(2)?,
                bytes_stored: unsigned(row, 3)?,
                error: row.get(4)?,
            })
        };
        ended.destinations = statement.query_map([run.id], stored)?.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What a run said, in order.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn lines(&self, run: i64) -> Result<Vec<Logged>> {
        let read = || {
            let mut statement = self
                .connection
                .prepare("SELECT at, level, text FROM run_log WHERE run = ?1 ORDER BY number")?;
            let line =
                |row: &Row<'_>| Ok(Logged { at: time(row.get(0)?), level: row.get(1)?, text: row.get(2)? });
            statement.query_map([run], line)?.collect()
        };
        self.named(read())
    }
}

const COLUMNS: &str = "id, kind, source, class, cause, started, ended, result, exit_code, message, hint, snapshot, files, errors, bytes_total, \
                       bytes_read, bytes_added, bytes_stored";

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let word = |at: usize| row.get::<_, String>(at);
    let job = Job {
        kind: JobKind::of_word(&word(1)?).unwrap_or(JobKind::Backup),
        source: row.get(2)?,
        class: row.get(3)?,
        cause: Trigger::of_word(&word(4)?).unwrap_or(Trigger::Manual),
    };
    let ended: Option<i64> = row.get(6)?;
    let result: Option<String> = row.get(7)?;
    let outcome = match result {
        None => None,
        Some(result) => Some(Ended {
            result: RunResult::of_word(&result).unwrap_or(RunResult::Failed),
            exit_code: row.get::<_, Option<u8>>(8)?.unwrap_or_default(),
            message: row.get(9)?,
            hint: row.get(10)?,
            snapshot: row.get(11)?,
            numbers: Numbers {
                files: unsigned(row, 12)?,
                errors: unsigned(row, 13)?,
                bytes_total: unsigned(row, 14)?,
                bytes_read: unsigned(row, 15)?,
                bytes_added: unsigned(row, 16)?,
                bytes_stored: unsigned(row, 17)?,
            },
            destinations: Vec::new(),
        }),
    };
    Ok(Run { id: row.get(0)?, job, started: time(row.get(5)?), ended: ended.map(time), outcome })
}

/// SQLite knows no unsigned numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or_default())
}

/// At most [`LINE_BYTES_MAX`] of a line, whole characters.
fn cut(text: &str) -> &str {
    match text.len() {
        0..=LINE_BYTES_MAX => text,
        _ => text.get(..text.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default(),
    }
}
