//! Several messages made one: the daily digest, which comes even if nothing happened, and what quiet hours held back.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::event::{Digest, Event, EventKind, Level, Successes};
use super::policy;
use super::queue::{Queue, from_millis, insert, read_event, stored, to_millis};
use super::quiet::next_daily;
use super::settings::{Channel, DigestTime};
use crate::Result;
use crate::words::count;

/// More messages than that are counted and not shown: no service takes as long a text.
const EVENTS_MAX: usize = 40;
/// No daily hour is further away, whatever clocks do. What is, was reckoned when the clock was wrong.
pub(super) const AHEAD_MAX: chrono::TimeDelta = chrono::TimeDelta::hours(26);

/// Held as part of a digest.
const FOR_DIGEST: u8 = 2;
/// Held by quiet hours.
const FOR_MORNING: u8 = 1;

/// Counts a good run of a source for a channel, and returns how many there were with it.
///
/// # Errors
/// If the database cannot be written.
pub fn count_success(conn: &Connection, channel: &Channel, event: &Event) -> Result<u64> {
    let source = event.source.as_deref().unwrap_or_default();
    let bytes = i64::try_from(event.bytes_stored.unwrap_or_default()).unwrap_or(i64::MAX);
    let total: i64 = conn
        .query_row(
            "INSERT INTO notify_successes (channel, source, total, since_digest, bytes_stored, last) VALUES (?1, ?2, 1, 1, ?3, ?4)
             ON CONFLICT (channel, source) DO UPDATE SET total = total + 1, since_digest = since_digest + 1,
                 bytes_stored = bytes_stored + excluded.bytes_stored, last = excluded.last
             RETURNING total",
            params![channel.name, source, bytes, to_millis(event.time)],
            |row| row.get(0),
        )
        .map_err(stored)?;
    Ok(total.unsigned_abs())
}

/// Makes what is due and held into one message for each channel. To be called in a transaction.
///
/// # Errors
/// If the database cannot be used.
pub fn gather(queue: &Queue<'_>, now: DateTime<Utc>) -> Result<()> {
    for channel in &queue.notify.channels {
        if let Some(time) = channel.digest {
            daily(queue, channel, time, now)?;
        }
        held(queue, channel, now)?;
    }
    Ok(())
}

/// When the next digest of a channel is due; `None` if it has none, or its first was not reckoned yet.
///
/// # Errors
/// If the database cannot be read.
pub fn next_due(conn: &Connection, channel: &Channel) -> Result<Option<DateTime<Utc>>> {
    if channel.digest.is_none() {
        return Ok(None);
    }
    Ok(state(conn, channel)?.0)
}

/// When the next digest is due, and since when it gathers.
type State = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn state(conn: &Connection, channel: &Channel) -> Result<State> {
    let sql = "SELECT digest_due, digest_since FROM notify_channels WHERE channel = ?1";
    let found = conn.query_row(sql, [&channel.name], |row| {
        Ok((row.get::<_, Option<i64>>(0)?.map(from_millis), row.get::<_, Option<i64>>(1)?.map(from_millis)))
    });
    Ok(found.optional().map_err(stored)?.unwrap_or_default())
}

/// Sends the digest of a channel if it is due, and reckons the next.
fn daily(queue: &Queue<'_>, channel: &Channel, time: DigestTime, now: DateTime<Utc>) -> Result<()> {
    let Some(next) = next_daily(time.at, time.zone, now) else { return Ok(()) };
    let (due, since) = state(queue.conn, channel)?;
    let is_due = due.is_some_and(|due| due <= now);
    // Another hour may have been configured since, or the clock put right.
    if due.is_some_and(|due| due > now && due <= next) {
        return Ok(());
    }
    if is_due {
        let (events, events_left_out) = take(queue.conn, channel, FOR_DIGEST, DateTime::<Utc>::MAX_UTC)?;
        let successes = take_successes(queue.conn, channel)?;
        let open = still_wrong(queue, channel, now)?;
        let digest = Digest { since, events, events_left_out, successes, open };
        let event = of_day(digest, &queue.notify.host, now);
        insert(queue.conn, channel, &event, now, now, 0)?;
    }
    let since = if is_due { Some(now) } else { since.or(Some(now)) };
    queue
        .conn
        .execute(
            "INSERT INTO notify_channels (channel, digest_due, digest_since) VALUES (?1, ?2, ?3)
             ON CONFLICT (channel) DO UPDATE SET digest_due = excluded.digest_due, digest_since = excluded.digest_since",
            params![channel.name, to_millis(next), since.map(to_millis)],
        )
        .map_err(stored)?;
    Ok(())
}

/// Makes one message of those that quiet hours held, once these are over. One alone stays as it is.
fn held(queue: &Queue<'_>, channel: &Channel, now: DateTime<Utc>) -> Result<()> {
    let number: i64 = queue
        .conn
        .query_row(
            "SELECT count(*) FROM notify_messages
             WHERE state = 'waiting' AND channel = ?1 AND held = ?2 AND due <= ?3 AND claim IS NULL",
            params![channel.name, FOR_MORNING, to_millis(now)],
            |row| row.get(0),
        )
        .map_err(stored)?;
    if number < 2 {
        return Ok(());
    }
    let (events, events_left_out) = take(queue.conn, channel, FOR_MORNING, now)?;
    let worst = events.iter().map(|event| event.level).max().unwrap_or(Level::Info);
    let total = events.len() as u64 + events_left_out;
    let what = format!("{} came in quiet hours.", count(total, "message", "messages"));
    let mut event = Event::new(EventKind::Digest, &queue.notify.host, now, what);
    event.level = worst;
    event.digest = Some(Box::new(Digest { events, events_left_out, ..Digest::default() }));
    insert(queue.conn, channel, &event, now, now, 0)
}

/// Takes held messages out of the queue: the newest, and how many there were beside them.
fn take(conn: &Connection, channel: &Channel, held: u8, until: DateTime<Utc>) -> Result<(Vec<Event>, u64)> {
    let what = "FROM notify_messages WHERE state = 'waiting' AND channel = ?1 AND held = ?2 AND due <= ?3 AND claim IS NULL";
    let values = params![channel.name, held, to_millis(until)];
    let mut statement = conn.prepare(&format!("SELECT event {what} ORDER BY id")).map_err(stored)?;
    let rows = statement.query_map(values, |row| read_event(row, 0)).map_err(stored)?;
    let mut events: Vec<Event> =
        rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>().map_err(stored)?;
    conn.execute(&format!("DELETE {what}"), values).map_err(stored)?;
    let left_out = events.len().saturating_sub(EVENTS_MAX);
    events.drain(..left_out);
    Ok((events, left_out as u64))
}

/// The good runs since the last digest, which count from 0 again.
fn take_successes(conn: &Connection, channel: &Channel) -> Result<Vec<Successes>> {
    let mut statement = conn
        .prepare(
            "SELECT source, since_digest, last, bytes_stored FROM notify_successes
             WHERE channel = ?1 AND since_digest > 0 ORDER BY source",
        )
        .map_err(stored)?;
    let rows = statement.query_map([&channel.name], |row| {
        Ok(Successes {
            source: row.get(0)?,
            runs: row.get::<_, i64>(1)?.unsigned_abs(),
            last: from_millis(row.get(2)?),
            bytes_stored: row.get::<_, i64>(3)?.unsigned_abs(),
        })
    });
    let successes = rows.map_err(stored)?.collect::<rusqlite::Result<_>>().map_err(stored)?;
    conn.execute(
        "UPDATE notify_successes SET since_digest = 0, bytes_stored = 0 WHERE channel = ?1",
        [&channel.name],
    )
    .map_err(stored)?;
    Ok(successes)
}

/// What is wrong now and is of interest to the channel.
fn still_wrong(queue: &Queue<'_>, channel: &Channel, now: DateTime<Utc>) -> Result<Vec<Event>> {
    let open = super::condition::open(queue.conn)?.into_iter().map(|condition| condition.event);
    Ok(open
        .filter(|event| policy::decide(channel, event, 0, now) != policy::Decision::Drop)
        .take(EVENTS_MAX)
        .collect())
}

fn of_day(digest: Digest, host: &str, now: DateTime<Utc>) -> Event {
    let runs: u64 = digest.successes.iter().map(|source| source.runs).sum();
    let told = digest.events.len() as u64 + digest.events_left_out;
    let wrong = digest.open.len() as u64;
    let state = match wrong {
        0 => "Nothing is wrong now".to_owned(),
        _ => format!("{} wrong now", count(wrong, "thing is", "things are")),
    };
    let what = format!(
        "{state}; {} of {} and {} since the last digest.",
        count(runs, "good run", "good runs"),
        count(digest.successes.len() as u64, "source", "sources"),
        count(told, "message", "messages"),
    );
    let mut event = Event::new(EventKind::Digest, host, now, what);
    event.level = digest.open.iter().map(|event| event.level).max().unwrap_or(Level::Info);
    event.digest = Some(Box::new(digest));
    event
}
