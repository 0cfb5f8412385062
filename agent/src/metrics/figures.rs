//! What monitoring is told, as plain data: whoever keeps the ledger fills it in.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

/// All figures of this machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// One for each source and each destination that it goes to, whether or not anything was ever backed up there: what is missing can
    /// only be alerted of when it is known to be expected.
    pub backups: Vec<BackupFigures>,
    /// One for each destination.
    pub destinations: Vec<DestinationFigures>,
    /// Notifications that could not be delivered, by the name of the channel; 0 for those that never failed.
    pub notification_failures: BTreeMap<String, u64>,
    /// The version of the program.
    pub version: String,
}

/// What is known of one source at one destination. What is not known is left out of the text, never told as 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackupFigures {
    /// The source's name.
    pub source: String,
    /// The destination's name.
    pub destination: String,
    /// When the newest good snapshot there was finished.
    pub last_success: Option<DateTime<Utc>>,
    /// When the last run ended, or began if it is under way, whatever came of it.
    pub last_attempt: Option<DateTime<Utc>>,
    /// What came of the last run that has ended.
    pub last_result: Option<RunResult>,
    /// How many runs ended how, ever. Results that are not in it are told as 0.
    pub runs: BTreeMap<RunResult, u64>,
    /// How long the last run took.
    pub duration_seconds: Option<f64>,
    /// The time between two runs that the schedule promises; `None` where there is no schedule, and so nothing to be overdue.
    pub expected_interval_seconds: Option<u64>,
    /// When the schedule runs it next.
    pub next_run: Option<DateTime<Utc>>,
    /// When its data was last proved to be whole there.
    pub verify_last_success: Option<DateTime<Utc>>,
    /// When a restore of it was last rehearsed with success.
    pub drill_last_success: Option<DateTime<Utc>>,
    /// How long the last rehearsal took.
    pub drill_duration_seconds: Option<f64>,
}

/// What is known of one destination.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DestinationFigures {
    /// The destination's name.
    pub destination: String,
    /// What is stored there, by kind (`data`, `index`, …). Their sum is what counts against the quota.
    pub repository_bytes: BTreeMap<String, u64>,
    /// What may be stored there at most, if there is a limit.
    pub quota_bytes: Option<u64>,
    /// How many snapshots are there.
    pub snapshots: Option<u64>,
    /// Whether the last check or drill found damage that is not mended yet; `None` before the first one.
    pub damage_found: Option<bool>,
}

/// What came of a run, as the label `result` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunResult {
    /// A whole snapshot was made.
    Success,
    /// A snapshot was made, but some of the source could not be read.
    Incomplete,
    /// No snapshot was made.
    Failure,
    /// The run was stopped before its end, such as by a restart.
    Interrupted,
    /// It was time, but nothing ran: the one before still did, or a condition was not met.
    Skipped,
}

impl RunResult {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 5] =
        [Self::Success, Self::Incomplete, Self::Failure, Self::Interrupted, Self::Skipped];

    /// The value of the label `result`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Incomplete => "incomplete",
            Self::Failure => "failure",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
        }
    }
}
