//! What there is to tell: one event with all that a person needs to know of it, as it is kept in the queue.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Info,
    /// It needs a look, soon.
    Warning,
    /// Something is not protected.
    Error,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A run began. Only pings tell it.
    Started,
    /// A run made a snapshot of everything.
    Success,
    /// A run made a snapshot, but could not read everything.
    Incomplete,
    /// A run made no snapshot.
    Failure,
    /// What was wrong is right again.
    Recovered,
    /// There was no good run for too long.
    Overdue,
    /// A destination runs out of space.
    StorageWarning,
    /// Stored data is damaged or missing.
    Damage,
    /// A destination lacks snapshots that others have.
    DestinationBehind,
    /// A restore was tried, and worked.
    DrillPassed,
    /// A restore was tried, and did not work.
    DrillFailed,
    /// Somebody wants to know whether messages arrive.
    Test,
    /// What came together since the last message.
    Digest,
}

impl EventKind {
    /// Those that a channel may be asked to tell, or not to.
    pub const CHOOSABLE: [Self; 10] = [
        Self::Success,
        Self::Incomplete,
        Self::Failure,
        Self::Recovered,
        Self::Overdue,
        Self::StorageWarning,
        Self::Damage,
        Self::DestinationBehind,
        Self::DrillPassed,
        Self::DrillFailed,
    ];

    /// Its name in the configuration, in `--json` and in what webhooks get.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Success => "success",
            Self::Incomplete => "incomplete",
            Self::Failure => "failure",
            Self::Recovered => "recovered",
            Self::Overdue => "overdue",
            Self::StorageWarning => "storage_warning",
            Self::Damage => "damage",
            Self::DestinationBehind => "destination_behind",
            Self::DrillPassed => "drill_passed",
            Self::DrillFailed => "drill_failed",
            Self::Test => "test",
            Self::Digest => "digest",
        }
    }

    /// How bad it is unless the one who reports it knows better.
    pub const fn level(self) -> Level {
        match self {
            Self::Started
            | Self::Success
            | Self::Recovered
            | Self::DrillPassed
            | Self::Test
            | Self::Digest => Level::Info,
            Self::Incomplete | Self::StorageWarning | Self::DestinationBehind => Level::Warning,
            Self::Failure | Self::Overdue | Self::Damage | Self::DrillFailed => Level::Error,
        }
    }

    /// Whether it lasts until something says that it is over: told once, with reminders that become rarer.
    pub const fn lasts(self) -> bool {
        matches!(
            self,
            Self::Incomplete
                | Self::Failure
                | Self::Overdue
                | Self::StorageWarning
                | Self::Damage
                | Self::DestinationBehind
                | Self::DrillFailed
        )
    }

    /// The lasting kinds that are over, for the same source and destination, when this happens.
    pub const fn ends(self) -> &'static [Self] {
        match self {
            Self::Success => &[Self::Failure, Self::Incomplete, Self::Overdue],
            // A snapshot was made.
            Self::Incomplete => &[Self::Failure, Self::Overdue],
            Self::DrillPassed => &[Self::DrillFailed],
            _ => &[],
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::CHOOSABLE.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::CHOOSABLE.iter().map(|kind| kind.name()).collect();
            format!("{text:?} is no event: write some of {}", names.join(", "))
        })
    }
}

/// Something that happened. Texts are as they are: channels escape, shorten and redact them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// How bad it is.
    pub level: Level,
    /// When.
    pub time: DateTime<Utc>,
    /// On which machine.
    pub host: String,
    /// Of which source; `None` where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// At which destination. `None` for the outcome of a whole run: these are what pings tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The class of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What happened, in a sentence.
    pub what: String,
    /// Why: the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// A word for the reason that stays the same while the reason does, such as `wrong_key`. Another one is told at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// When it was last as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<DateTime<Utc>>,
    /// Since when it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The how-manieth reminder of what lasts; 0 for what is new.
    #[serde(default)]
    pub reminder: u32,
    /// Of what is over: how bad it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_level: Option<Level>,
    /// Of what is over: what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_kind: Option<EventKind>,
    /// The id of the snapshot that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The id of the run, a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// What was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// What was stored, compressed and without what was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_stored: Option<u64>,
    /// What a digest sums up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Box<Digest>>,
}

/// What came together for one channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Since when; `None` if nothing was told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Messages that were held, in their order.
    pub events: Vec<Event>,
    /// Messages that are left out, because they are too many.
    pub events_left_out: u64,
    /// The good runs of each source.
    pub successes: Vec<Successes>,
    /// What is wrong still.
    pub open: Vec<Event>,
}

/// Good runs of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successes {
    /// The source.
    pub source: String,
    /// How many.
    pub runs: u64,
    /// The last one.
    pub last: DateTime<Utc>,
    /// What they stored.
    pub bytes_stored: u64,
}

impl Event {
    /// An event with nothing but what every event has.
    pub fn new(
        kind: EventKind,
        host: impl Into<String>,
        time: DateTime<Utc>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            level: kind.level(),
            time,
            host: host.into(),
            source: None,
            destination: None,
            class: None,
            what: what.into(),
            why: None,
            code: None,
            next_step: None,
            last_good: None,
            since: None,
            reminder: 0,
            ended_level: None,
            ended_kind: None,
            snapshot: None,
            run: None,
            duration_seconds: None,
            bytes_read: None,
            bytes_stored: None,
            digest: None,
        }
    }

    /// What `lifeboat notify test` sends.
    pub fn test(host: impl Into<String>, time: DateTime<Utc>) -> Self {
        let mut event =
            Self::new(EventKind::Test, host, time, "This is a test: messages of this machine arrive here.");
        event.next_step = Some("Nothing is to be done.".to_owned());
        event
    }

    /// The same of a source.
    #[must_use]
    pub fn of_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same at a destination.
    #[must_use]
    pub fn at_destination(mut self, destination: impl Into<String>) -> Self {
        self.destination = Some(destination.into());
        self
    }

    /// The same with what an error says of reason and next step.
    #[must_use]
    pub fn because(mut self, error: &crate::Error) -> Self {
        self.why = Some(error.to_string());
        self.code = Some(format!("{:?}", error.kind()).to_lowercase());
        self.next_step = error.hint().map(str::to_owned);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_stored_form_and_are_read_back() {
        for kind in EventKind::CHOOSABLE {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
            assert_eq!(kind.name().parse::<EventKind>().unwrap(), kind);
        }
        assert!("tset".parse::<EventKind>().unwrap_err().contains("storage_warning"));
    }

    #[test]
    fn an_event_is_kept_as_json_and_older_ones_without_new_fields_are_read() {
        let mut event =
            Event::new(EventKind::Failure, "box", Utc::now(), "no").of_source("db").at_destination("disk");
        event.digest = Some(Box::new(Digest { events: vec![event.clone()], ..Digest::default() }));
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        let least =
            r#"{"kind":"success","level":"info","time":"2026-11-22T04:00:00Z","host":"a","what":"b"}"#;
        assert_eq!(serde_json::from_str::<Event>(least).unwrap().kind, EventKind::Success);
    }
}
