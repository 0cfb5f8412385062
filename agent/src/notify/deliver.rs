//! Sending what is due. A message is claimed before it is sent, so that of several processes one sends it, and one that is killed holds it up for
//! minutes only. What fails is tried again, more and more rarely, for a day; then it is given up, counted, and the reason kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::channel::{self, Outcome, Prepared};
use super::digest::{self, AHEAD_MAX};
use super::event::Event;
use super::policy;
use super::queue::{Queue, from_millis, later, read_event, stored, to_millis, transact};
use super::settings::{Channel, Notify};
use crate::{Error, Result, threads};

/// How long a claim lasts: longer than any delivery, of which e-mail to a slow server takes longest.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// The wait after the first failure; it doubles with each.
const RETRY_FIRST: TimeDelta = TimeDelta::seconds(30);
/// The longest wait.
const RETRY_MAX: TimeDelta = TimeDelta::hours(1);
/// A message that could not be delivered for so long is given up.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);
/// A ping says what is true now: an older one would be taken for a new one.
const GIVE_UP_PING_AFTER: TimeDelta = TimeDelta::hours(1);
/// No message is given up before it was tried so often: a clock that jumps by a day is no reason.
const ATTEMPTS_MIN: i64 = 4;
/// No message is tried more often, whatever the clock does.
const ATTEMPTS_MAX: i64 = 60;
/// What is done with is kept for so long.
const KEEP: TimeDelta = TimeDelta::days(30);

/// What a call of [`Queue::deliver_due`] came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Messages that services have taken.
    pub sent: usize,
    /// Deliveries that failed and will be tried again.
    pub delayed: usize,
    /// Messages that were given up.
    pub failed: usize,
    /// What went wrong, in words for a log.
    pub troubles: Vec<String>,
    /// When to call again; `None` if nothing waits.
    pub next_due: Option<DateTime<Utc>>,
}

/// A message that this process is sending.
struct Claimed {
    id: i64,
    claim: i64,
    event: Event,
    created: DateTime<Utc>,
    attempts: i64,
}

/// Sends what is due: a message for each channel at once, in their order, until none is left.
///
/// # Errors
/// If the database fails.
pub(super) fn due(queue: Queue<'_>, now: DateTime<Utc>, stop: &AtomicBool) -> Result<Delivered> {
    let begun = Instant::now();
    let clock = || later(now, TimeDelta::from_std(begun.elapsed()).unwrap_or_default());
    let notify = queue.notify;
    transact(queue.conn, || {
        queue.remind(now)?;
        digest::gather(&queue, now)?;
        tidy(queue.conn, now)
    })?;
    let mut delivered = Delivered::default();
    let mut prepared: BTreeMap<&str, Result<Prepared<'_>>> = BTreeMap::new();
    // A channel that fails gets no further message now: the next would fail too, and each may take half a minute.
    let mut skipped: BTreeSet<&str> = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let open = notify.channels.iter().filter(|channel| !skipped.contains(channel.name.as_str()));
        let mut claimed = Vec::new();
        for channel in open {
            if let Some(message) = transact(queue.conn, || claim(queue.conn, channel, clock()))? {
                claimed.push((channel, message));
            }
        }
        if claimed.is_empty() {
            break;
        }
        // All secrets are known before anything is sent: one channel's may be in what another is told.
        if prepared.is_empty() {
            prepared = notify
                .channels
                .iter()
                .map(|channel| (channel.name.as_str(), Prepared::read(channel, &notify.redactor)))
                .collect();
        }
        let outcomes = send(notify, &claimed, &prepared, clock(), stop);
        for ((channel, message), outcome) in claimed.iter().zip(outcomes) {
            if !matches!(outcome, Outcome::Sent) {
                skipped.insert(&channel.name);
            }
            transact(queue.conn, || settle(queue, channel, message, outcome, clock(), &mut delivered))?;
        }
    }
    delivered.next_due = next_due(queue)?;
    Ok(delivered)
}

fn send(
    notify: &Notify,
    claimed: &[(&Channel, Claimed)],
    prepared: &BTreeMap<&str, Result<Prepared<'_>>>,
    now: DateTime<Utc>,
    stop: &AtomicBool,
) -> Vec<Outcome> {
    let sent = threads::at_once(claimed, |(channel, message)| {
        Ok(match prepared.get(channel.name.as_str()) {
            Some(Ok(prepared)) => channel::deliver(notify, prepared, &message.event, message.id, now, stop),
            Some(Err(e)) => Outcome::Later { why: unreadable(e), wait: None, is_limit: false },
            None => Outcome::Cancelled,
        })
    });
    // A thread that broke down is a bug, not a reason to try it for ever.
    sent.into_iter().map(|outcome| outcome.unwrap_or_else(|e| Outcome::Never { why: e })).collect()
}

fn unreadable(error: &Error) -> Error {
    let again = Error::new(error.kind(), error);
    match error.hint() {
        Some(hint) => again.with_hint(hint),
        None => again,
    }
}

/// The oldest message of the channel that is due and that nobody else is sending. To be called in a transaction.
fn claim(conn: &Connection, channel: &Channel, now: DateTime<Utc>) -> Result<Option<Claimed>> {
    let is_paused: bool = conn
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM notify_channels WHERE channel = ?1 AND paused_until > ?2 AND paused_until <= ?3)",
            params![channel.name, to_millis(now), to_millis(later(now, AHEAD_MAX))],
            |row| row.get(0),
        )
        .map_err(stored)?;
    if is_paused {
        return Ok(None);
    }
    loop {
        let found = conn
            .query_row(
                "SELECT id, event, created, attempts FROM notify_messages
                 WHERE state = 'waiting' AND channel = ?1
                     -- What is further ahead than anything can be was queued when the clock was wrong.
                     AND (due <= ?2 OR due > ?3)
                     AND (claimed_until IS NULL OR claimed_until <= ?2 OR claimed_until > ?4)
                 ORDER BY due, id LIMIT 1",
                params![
                    channel.name,
                    to_millis(now),
                    to_millis(later(now, AHEAD_MAX)),
                    to_millis(later(now, LEASE + LEASE))
                ],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        read_event(row, 1)?,
                        row.get::<_, i64>(2)?,
                        row.get::<_, i64>(3)?,
                    ))
                },
            )
            .optional()
            .map_err(stored)?;
        let Some((id, event, created, attempts)) = found else { return Ok(None) };
        let Some(event) = event else {
            finish(conn, id, "failed", now, Some("it was written by a newer lifeboat and cannot be read"))?;
            continue;
        };
        // The quiet hours may have begun since it failed, or been configured since.
        if let Some(end) = policy::quiet_until(channel, &event, now) {
            let sql = "UPDATE notify_messages SET due = ?2, held = 1, claim = NULL, claimed_until = NULL WHERE id = ?1";
            conn.execute(sql, params![id, to_millis(end)]).map_err(stored)?;
            continue;
        }
        let claim = random()? as i64;
        conn.execute(
            "UPDATE notify_messages SET claim = ?2, claimed_until = ?3 WHERE id = ?1",
            params![id, claim, to_millis(later(now, LEASE))],
        )
        .map_err(stored)?;
        return Ok(Some(Claimed { id, claim, event, created: from_millis(created), attempts }));
    }
}

/// Writes down what became of a message that was claimed. To be called in a transaction.
fn settle(
    queue: Queue<'_>,
    channel: &Channel,
    message: &Claimed,
    outcome: Outcome,
    now: DateTime<Utc>,
    delivered: &mut Delivered,
) -> Result<()> {
    let conn = queue.conn;
    let is_ours: bool = conn
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM notify_messages WHERE id = ?1 AND claim = ?2 AND state = 'waiting')",
            params![message.id, message.claim],
            |row| row.get(0),
        )
        .map_err(stored)?;
    // Whoever took it over after this process was suspended says what became of it.
    if !is_ours {
        return Ok(());
    }
    let (why, wait, is_limit, may_retry) = match outcome {
        Outcome::Sent => {
            finish(conn, message.id, "sent", now, None)?;
            delivered.sent += 1;
            return succeeded(conn, channel, now);
        }
        Outcome::Cancelled => return release(conn, message.id, None, message.attempts),
        Outcome::Later { why, wait, is_limit } => (why, wait, is_limit, true),
        Outcome::Never { why } => (why, None, false, false),
    };
    let why = queue.notify.redactor.redact(&why.to_string());
    let attempts = message.attempts + 1;
    let due = later(now, wait.unwrap_or_default().max(backoff(attempts, random()?)));
    let is_over = !may_retry
        || attempts >= ATTEMPTS_MAX
        || (attempts >= ATTEMPTS_MIN && due - message.created > patience(channel));
    failed(conn, channel, now, &why, !is_limit)?;
    if is_limit {
        pause(conn, channel, due)?;
    }
    if is_over {
        finish(conn, message.id, "failed", now, Some(&why))?;
        delivered.failed += 1;
        delivered.troubles.push(format!("{channel}: the message was given up: {why}"));
    } else {
        release(conn, message.id, Some(due), attempts)?;
        delivered.delayed += 1;
        delivered.troubles.push(format!("{channel}: {why}; it is tried again"));
    }
    Ok(())
}

fn patience(channel: &Channel) -> TimeDelta {
    if channel.service.is_ping() { GIVE_UP_PING_AFTER } else { GIVE_UP_AFTER }
}

/// The wait after so many failures, between four fifths and six fifths of twice the one before, so that what failed at once does not come again at
/// once. All values of `random` are equally likely.
pub(super) fn backoff(attempts: i64, random: u64) -> TimeDelta {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default().min(16);
    let wait = (RETRY_FIRST * (1 << doublings)).min(RETRY_MAX);
    let per_mille = 800 + i64::try_from(random % 401).unwrap_or_default();
    TimeDelta::milliseconds(wait.num_milliseconds() / 1000 * per_mille)
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::failed(format_args!("the system gives no random numbers: {e}")))?;
    Ok(u64::from_ne_bytes(bytes))
}

fn finish(conn: &Connection, id: i64, state: &str, now: DateTime<Utc>, error: Option<&str>) -> Result<()> {
    conn.execute(
        "UPDATE notify_messages SET state = ?2, finished = ?3, error = ?4, claim = NULL, claimed_until = NULL,
             attempts = attempts + 1 WHERE id = ?1",
        params![id, state, to_millis(now), error],
    )
    .map_err(stored)?;
    Ok(())
}

fn release(conn: &Connection, id: i64, due: Option<DateTime<Utc>>, attempts: i64) -> Result<()> {
    conn.execute(
        "UPDATE notify_messages SET claim = NULL, claimed_until = NULL, due = coalesce(?2, due), attempts = ?3 WHERE id = ?1",
        params![id, due.map(to_millis), attempts],
    )
    .map_err(stored)?;
    Ok(())
}

fn succeeded(conn: &Connection, channel: &Channel, now: DateTime<Utc>) -> Result<()> {
    conn.execute(
        "INSERT INTO notify_channels (channel, last_sent) VALUES (?1, ?2)
         ON CONFLICT (channel) DO UPDATE SET last_sent = excluded.last_sent, error = NULL, paused_until = NULL",
        params![channel.name, to_millis(now)],
    )
    .map_err(stored)?;
    Ok(())
}

/// A limit that the service asks to respect is no failure that counts.
fn failed(conn: &Connection, channel: &Channel, now: DateTime<Utc>, why: &str, counts: bool) -> Result<()> {
    conn.execute(
        "INSERT INTO notify_channels (channel, last_failed, error, failures) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (channel) DO UPDATE SET last_failed = excluded.last_failed, error = excluded.error,
             failures = failures + excluded.failures",
        params![channel.name, to_millis(now), why, i64::from(counts)],
    )
    .map_err(stored)?;
    Ok(())
}

fn pause(conn: &Connection, channel: &Channel, until: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE notify_channels SET paused_until = ?2 WHERE channel = ?1";
    conn.execute(sql, params![channel.name, to_millis(until)]).map_err(stored)?;
    Ok(())
}

/// Deletes what was done with long ago, and what waits for a channel that was taken out of the configuration.
fn tidy(conn: &Connection, now: DateTime<Utc>) -> Result<()> {
    conn.execute(
        "DELETE FROM notify_messages WHERE (state != 'waiting' AND finished < ?1) OR (state = 'waiting' AND created < ?1)",
        [to_millis(now - KEEP)],
    )
    .map_err(stored)?;
    Ok(())
}

/// When there is something to do next: a message, the end of a pause, a digest, a reminder.
fn next_due(queue: Queue<'_>) -> Result<Option<DateTime<Utc>>> {
    let mut times = Vec::new();
    for channel in &queue.notify.channels {
        let due: Option<i64> = queue
            .conn
            .query_row(
                "SELECT max(min(max(due, coalesce(claimed_until, 0))),
                            coalesce((SELECT paused_until FROM notify_channels WHERE channel = ?1), 0))
                 FROM notify_messages WHERE state = 'waiting' AND channel = ?1 AND held != 2",
                [&channel.name],
                |row| row.get(0),
            )
            .map_err(stored)?;
        times.extend(due.map(from_millis));
        times.extend(digest::next_due(queue.conn, channel)?);
    }
    for known in super::condition::open(queue.conn)? {
        times.extend(policy::next_reminder(&known, &queue.notify.reminders));
    }
    Ok(times.into_iter().min())
}

/// Sends `event` to a channel at once, past queue, filters and quiet hours: how `lifeboat notify test` finds out whether messages arrive.
///
/// # Errors
/// What the service, or the way to it, said.
pub fn now(notify: &Notify, channel: &Channel, event: &Event, stop: &AtomicBool) -> Result<()> {
    let prepared = Prepared::read(channel, &notify.redactor)?;
    let id = (random()? >> 1) as i64;
    let outcome = channel::deliver(notify, &prepared, event, id, event.time, stop);
    let why = match outcome {
        Outcome::Sent => return Ok(()),
        Outcome::Cancelled => return Err(Error::interrupted()),
        Outcome::Later { why, .. } | Outcome::Never { why } => why,
    };
    let clean = Error::new(why.kind(), notify.redactor.redact(&why.to_string()));
    Err(match why.hint() {
        Some(hint) => clean.with_hint(notify.redactor.redact(hint)),
        None => clean,
    })
}
