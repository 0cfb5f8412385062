//! What lasts, in the state database: since when, what was told of it, and how often. One row for each kind, source and destination.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::event::{Event, EventKind};
use super::policy::Condition;
use super::queue::{from_millis, read_event, stored, to_millis, write_event};
use crate::Result;

const COLUMNS: &str = "since, told_last, told_count, reports, event";

/// What is known of the thing that `event` is a report of, or would be if it were of `kind`.
///
/// # Errors
/// If the database cannot be read.
pub fn load(conn: &Connection, kind: EventKind, event: &Event) -> Result<Option<Condition>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM notify_conditions WHERE kind = ?1 AND source = ?2 AND destination = ?3"
    );
    let found = conn.query_row(&sql, params![kind.name(), source(event), destination(event)], of_row);
    Ok(found.optional().map_err(stored)?.flatten())
}

/// Keeps it.
///
/// # Errors
/// If the database cannot be written.
pub fn save(conn: &Connection, condition: &Condition) -> Result<()> {
    let event = &condition.event;
    conn.execute(
        "INSERT OR REPLACE INTO notify_conditions (kind, source, destination, since, told_last, told_count, reports, event)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            event.kind.name(),
            source(event),
            destination(event),
            to_millis(condition.since),
            to_millis(condition.told_last),
            condition.told_count,
            i64::try_from(condition.reports).unwrap_or(i64::MAX),
            write_event(event)?,
        ],
    )
    .map_err(stored)?;
    Ok(())
}

/// It is over; returns what was known of it.
///
/// # Errors
/// If the database cannot be written.
pub fn end(conn: &Connection, kind: EventKind, event: &Event) -> Result<Option<Condition>> {
    let known = load(conn, kind, event)?;
    if known.is_some() {
        conn.execute(
            "DELETE FROM notify_conditions WHERE kind = ?1 AND source = ?2 AND destination = ?3",
            params![kind.name(), source(event), destination(event)],
        )
        .map_err(stored)?;
    }
    Ok(known)
}

/// All that lasts, the oldest first.
///
/// # Errors
/// If the database cannot be read.
pub fn open(conn: &Connection) -> Result<Vec<Condition>> {
    let sql = format!("SELECT {COLUMNS} FROM notify_conditions ORDER BY since, kind, source, destination");
    let mut statement = conn.prepare(&sql).map_err(stored)?;
    let rows = statement.query_map([], of_row).map_err(stored)?;
    rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>().map_err(stored)
}

/// `None` for what a newer version has written and this one cannot read.
fn of_row(row: &Row<'_>) -> rusqlite::Result<Option<Condition>> {
    let Some(event) = read_event(row, 4)? else { return Ok(None) };
    let told_count: i64 = row.get(2)?;
    let reports: i64 = row.get(3)?;
    Ok(Some(Condition {
        since: time(row, 0)?,
        told_last: time(row, 1)?,
        told_count: u32::try_from(told_count).unwrap_or(u32::MAX),
        reports: u64::try_from(reports).unwrap_or_default(),
        event,
    }))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    Ok(from_millis(row.get(column)?))
}

/// A thing of no source has the empty one, which no source is called: `NULL`s are all different.
fn source(event: &Event) -> &str {
    event.source.as_deref().unwrap_or_default()
}

fn destination(event: &Event) -> &str {
    event.destination.as_deref().unwrap_or_default()
}
