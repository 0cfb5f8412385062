//! Messages on their way, in the state database: an event becomes one row for each channel that is to be told, in one transaction with what is
//! remembered of things that last. Rows stay until they are delivered or given up.
//!
//! Times are milliseconds since 1970. Whoever opens the database runs [`SCHEMA`] and sets a busy timeout: several processes use it at once.

use std::sync::atomic::AtomicBool;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::event::{Event, EventKind};
use super::policy::{self, Condition, Decision, News};
use super::settings::{Channel, Notify};
use super::{Delivered, condition, deliver, digest};
use crate::{Error, Kind, Result};

/// The tables, to be made in the state database. Running it again changes nothing.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS notify_messages (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    event TEXT NOT NULL,
    created INTEGER NOT NULL,
    due INTEGER NOT NULL,
    -- 0: sent when due; 1: held by quiet hours; 2: held for a digest.
    held INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    claim INTEGER,
    claimed_until INTEGER,
    -- 'waiting', 'sent' or 'failed'.
    state TEXT NOT NULL DEFAULT 'waiting',
    finished INTEGER,
    error TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS notify_messages_due ON notify_messages (state, channel, due);
CREATE TABLE IF NOT EXISTS notify_channels (
    channel TEXT PRIMARY KEY,
    failures INTEGER NOT NULL DEFAULT 0,
    last_sent INTEGER,
    last_failed INTEGER,
    error TEXT,
    paused_until INTEGER,
    digest_due INTEGER,
    digest_since INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS notify_successes (
    channel TEXT NOT NULL,
    source TEXT NOT NULL,
    total INTEGER NOT NULL,
    since_digest INTEGER NOT NULL,
    bytes_stored INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (channel, source)
) STRICT;
CREATE TABLE IF NOT EXISTS notify_conditions (
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    since INTEGER NOT NULL,
    told_last INTEGER NOT NULL,
    told_count INTEGER NOT NULL,
    reports INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (kind, source, destination)
) STRICT;
";

/// The queue in an open database.
#[derive(Clone, Copy)]
pub struct Queue<'q> {
    pub(super) conn: &'q Connection,
    pub(super) notify: &'q Notify,
}

/// What a report came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    /// Messages that were queued, over all channels.
    pub queued: usize,
    /// It was reported before, and nothing has changed.
    pub was_known: bool,
}

/// How a channel does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// Its name.
    pub channel: String,
    /// Messages that wait.
    pub waiting: u64,
    /// Deliveries that failed, ever: `lifeboat_notification_failures_total`.
    pub failures: u64,
    /// When a message was last taken by the service.
    pub last_sent: Option<DateTime<Utc>>,
    /// When a delivery last failed.
    pub last_failed: Option<DateTime<Utc>>,
    /// Why, unless one has arrived since.
    pub error: Option<String>,
}

impl<'q> Queue<'q> {
    /// The queue of `notify` in `conn`, where [`SCHEMA`] was run.
    pub const fn new(conn: &'q Connection, notify: &'q Notify) -> Self {
        Self { conn, notify }
    }

    /// Something happened. What lasts is told once, and again when it changes or a reminder is due; a success ends what was wrong with its source
    /// and destination, which is told once.
    ///
    /// Outcomes of runs (`Started`, `Success`, `Incomplete`, `Failure`) have no destination. A `Success` with one only ends what was wrong there.
    ///
    /// # Errors
    /// If the database cannot be written; then nothing is.
    pub fn report(&self, event: &Event, now: DateTime<Utc>) -> Result<Reported> {
        transact(self.conn, || {
            let ended = self.end(event.kind.ends(), event)?;
            if event.kind.lasts() {
                return self.report_lasting(event, now);
            }
            let is_outcome = event.kind != EventKind::Success || event.destination.is_none();
            let mut queued = if is_outcome { self.enqueue(event, now)? } else { 0 };
            if let Some(recovered) = recovered(ended, event) {
                queued += self.enqueue(&recovered, now)?;
            }
            Ok(Reported { queued, was_known: false })
        })
    }

    /// What lasted is over: `event` says of which source and destination, and in words what is good again. Nothing is told if nothing was wrong.
    ///
    /// # Errors
    /// If the database cannot be written; then nothing is.
    pub fn resolve(&self, kind: EventKind, event: &Event, now: DateTime<Utc>) -> Result<Reported> {
        transact(self.conn, || {
            let ended = self.end(&[kind], event)?;
            let queued = match recovered(ended, event) {
                Some(recovered) => self.enqueue(&recovered, now)?,
                None => 0,
            };
            Ok(Reported { queued, was_known: false })
        })
    }

    /// Sends what is due, and says when something is due next. It takes as long as the services do, at most about half a minute each for a message;
    /// `stop` ends it within a moment, and what was not sent stays.
    ///
    /// # Errors
    /// If the database fails. Services that fail are no error of this.
    pub fn deliver_due(&self, now: DateTime<Utc>, stop: &AtomicBool) -> Result<Delivered> {
        deliver::due(*self, now, stop)
    }

    /// All that is wrong now, the oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn open(&self) -> Result<Vec<Condition>> {
        condition::open(self.conn)
    }

    /// Drops what lasts of sources and destinations that `is_known` (given both) does not know any more, so that nobody is reminded of what was taken
    /// out of the configuration.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn keep_only(&self, is_known: impl Fn(Option<&str>, Option<&str>) -> bool) -> Result<()> {
        transact(self.conn, || {
            for known in condition::open(self.conn)? {
                let event = &known.event;
                if !is_known(event.source.as_deref(), event.destination.as_deref()) {
                    condition::end(self.conn, event.kind, event)?;
                }
            }
            Ok(())
        })
    }

    /// How each channel of the configuration does.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn channels(&self) -> Result<Vec<ChannelState>> {
        let sql = "SELECT failures, last_sent, last_failed, error,
                          (SELECT count(*) FROM notify_messages WHERE state = 'waiting' AND channel = ?1)
                   FROM (SELECT ?1 AS name) LEFT JOIN notify_channels ON channel = name";
        let mut statement = self.conn.prepare(sql).map_err(stored)?;
        let mut states = Vec::new();
        for channel in &self.notify.channels {
            let state = statement.query_row([&channel.name], |row| {
                let count =
                    |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.unwrap_or_default());
                Ok(ChannelState {
                    channel: channel.name.clone(),
                    failures: count(0)?.unsigned_abs(),
                    last_sent: row.get::<_, Option<i64>>(1)?.map(from_millis),
                    last_failed: row.get::<_, Option<i64>>(2)?.map(from_millis),
                    error: row.get(3)?,
                    waiting: count(4)?.unsigned_abs(),
                })
            });
            states.push(state.map_err(stored)?);
        }
        Ok(states)
    }

    fn end(&self, kinds: &[EventKind], event: &Event) -> Result<Vec<Condition>> {
        let ended = kinds.iter().map(|kind| condition::end(self.conn, *kind, event));
        ended.filter_map(Result::transpose).collect()
    }

    fn report_lasting(&self, event: &Event, now: DateTime<Utc>) -> Result<Reported> {
        let known = condition::load(self.conn, event.kind, event)?;
        let news = policy::judge(known.as_ref(), event, &self.notify.reminders, now);
        let mut condition = match known {
            Some(known) => {
                Condition { reports: known.reports.saturating_add(1), event: event.clone(), ..known }
            }
            None => Condition {
                since: event.time,
                told_last: now,
                told_count: 0,
                reports: 1,
                event: event.clone(),
            },
        };
        condition.event.since = Some(condition.since);
        let queued = self.tell(&mut condition, news, now)?;
        condition::save(self.conn, &condition)?;
        // A run that failed again did fail: pings say what each run came to.
        let pinged =
            if news == News::Known { self.enqueue_for(event, now, |c| c.service.is_ping())? } else { 0 };
        Ok(Reported { queued: queued + pinged, was_known: news == News::Known })
    }

    /// Queues what is to be told of something that lasts, and remembers it in `condition`.
    fn tell(&self, condition: &mut Condition, news: News, now: DateTime<Utc>) -> Result<usize> {
        let (reminder, told_count) = match news {
            News::Known => return Ok(0),
            News::Changed => (0, 1),
            News::Reminder(number) => (number, condition.told_count.saturating_add(1)),
        };
        (condition.told_last, condition.told_count) = (now, told_count);
        let event = Event { reminder, ..condition.event.clone() };
        self.enqueue(&event, now)
    }

    /// Tells again what lasts and was not told for long enough. Pings are no reminders.
    pub(super) fn remind(&self, now: DateTime<Utc>) -> Result<()> {
        for mut known in condition::open(self.conn)? {
            let news = policy::judge(Some(&known), &known.event, &self.notify.reminders, now);
            if let News::Reminder(number) = news {
                (known.told_last, known.told_count) = (now, known.told_count.saturating_add(1));
                let event = Event { reminder: number, ..known.event.clone() };
                self.enqueue_for(&event, now, |channel| !channel.service.is_ping())?;
                condition::save(self.conn, &known)?;
            }
        }
        Ok(())
    }

    fn enqueue(&self, event: &Event, now: DateTime<Utc>) -> Result<usize> {
        self.enqueue_for(event, now, |_| true)
    }

    fn enqueue_for(
        &self,
        event: &Event,
        now: DateTime<Utc>,
        picks: impl Fn(&Channel) -> bool,
    ) -> Result<usize> {
        let mut queued = 0;
        for channel in self.notify.channels.iter().filter(|channel| picks(channel)) {
            let successes = match event.kind {
                EventKind::Success => digest::count_success(self.conn, channel, event)?,
                _ => 0,
            };
            let (due, held) = match policy::decide(channel, event, successes, now) {
                Decision::Drop => continue,
                Decision::Send => (now, 0),
                Decision::Hold(until) => (until, 1),
                Decision::Digest(at) => (at, 2),
            };
            if channel.service.is_ping() {
                self.drop_older_pings(channel, event)?;
            }
            insert(self.conn, channel, event, now, due, held)?;
            queued += 1;
        }
        Ok(queued)
    }

    /// What a run came to is all that counts of what came before it; a beginning replaces only one that was not told yet.
    fn drop_older_pings(&self, channel: &Channel, event: &Event) -> Result<()> {
        let only = if event.kind == EventKind::Started { " AND kind = 'started'" } else { "" };
        let sql = format!(
            "DELETE FROM notify_messages WHERE state = 'waiting' AND claim IS NULL AND channel = ?1 AND source = ?2
             AND kind NOT IN ('test', 'digest'){only}"
        );
        let source = event.source.as_deref().unwrap_or_default();
        self.conn.execute(&sql, params![channel.name, source]).map_err(stored)?;
        Ok(())
    }
}

/// The one event that tells that all of `ended` is over.
fn recovered(ended: Vec<Condition>, event: &Event) -> Option<Event> {
    let since = ended.iter().map(|condition| condition.since).min()?;
    let worst = ended.into_iter().max_by_key(|condition| condition.event.level)?;
    let mut recovered = Event {
        kind: EventKind::Recovered,
        level: EventKind::Recovered.level(),
        since: Some(since),
        ended_level: Some(worst.event.level),
        ended_kind: Some(worst.event.kind),
        why: None,
        code: None,
        next_step: None,
        last_good: None,
        ..event.clone()
    };
    if event.kind == EventKind::Success {
        recovered.what = format!("{} Before, it was: {}", event.what, worst.event.what);
    }
    Some(recovered)
}

/// A new row.
pub(super) fn insert(
    conn: &Connection,
    channel: &Channel,
    event: &Event,
    now: DateTime<Utc>,
    due: DateTime<Utc>,
    held: u8,
) -> Result<()> {
    conn.execute(
        "INSERT INTO notify_messages (channel, kind, source, event, created, due, held) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            channel.name,
            event.kind.name(),
            event.source.as_deref().unwrap_or_default(),
            write_event(event)?,
            to_millis(now),
            to_millis(due),
            held,
        ],
    )
    .map_err(stored)?;
    Ok(())
}

/// Does `work` in one transaction that writes; within one that the caller has begun, in that.
pub(super) fn transact<T>(conn: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !conn.is_autocommit() {
        return work();
    }
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate).map_err(stored)?;
    let done = work()?;
    transaction.commit().map_err(stored)?;
    Ok(done)
}

/// An error of the database, as this crate tells it.
pub(super) fn stored(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Kind::Quota,
        _ => Kind::Failed,
    };
    Error::new(kind, format_args!("cannot use the queue of notifications in the state database: {error}"))
        .with_source(error)
}

pub(super) fn write_event(event: &Event) -> Result<String> {
    serde_json::to_string(event)
        .map_err(|e| Error::failed("cannot write a notification as JSON").with_source(e))
}

/// `None` for what a newer version has written and this one cannot read.
pub(super) fn read_event(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Event>> {
    let text: String = row.get(column)?;
    Ok(serde_json::from_str(&text).ok())
}

pub(super) const fn to_millis(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

/// A time that no calendar has is the beginning of 1970: long past.
pub(super) fn from_millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

/// `now` so much later, or the end of time.
pub(super) fn later(now: DateTime<Utc>, wait: TimeDelta) -> DateTime<Utc> {
    now.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
