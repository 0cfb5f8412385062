//! How each source stands at each destination, which dues were dealt with, and what was verified: kept apart from runs, which are forgotten.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::{Ended, Ledger, RunResult, stamp, time};
use crate::Result;

/// How a source stands at a destination.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Standing {
    /// The source.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// When the newest snapshot was made that is there.
    pub last_good: Option<DateTime<Utc>>,
    /// That snapshot.
    pub last_snapshot: Option<String>,
    /// When the last run ended that was to bring one there.
    pub last_try: Option<DateTime<Utc>>,
    /// What became of it there.
    pub last_result: Option<String>,
    /// How long it took, in seconds.
    pub last_seconds: Option<f64>,
}

/// How many runs came to what, of a source at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The source.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// What they came to.
    pub result: String,
    /// How many.
    pub runs: u64,
}

/// What is known of a destination from a snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtDestination {
    /// The source.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// When the snapshot was made.
    pub time: DateTime<Utc>,
    /// The snapshot.
    pub snapshot: String,
}

/// What was seen at a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The destination.
    pub destination: String,
    /// When.
    pub at: DateTime<Utc>,
    /// How many snapshots are there.
    pub snapshots: Option<u64>,
    /// What its objects take up, in bytes.
    pub used_bytes: Option<u64>,
}

/// When a part of a destination's data was read and compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The destination.
    pub destination: String,
    /// Which part of all; 0 for all of it at once.
    pub part: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether it was as it should be.
    pub good: bool,
    /// What was wrong.
    pub message: Option<String>,
}

/// Notes for a source what a run came to at each of its destinations.
pub(super) fn note(
    connection: &Connection,
    source: &str,
    ended: &Ended,
    started: DateTime<Utc>,
    now: DateTime<Utc>,
) -> rusqlite::Result<()> {
    let seconds = (now - started).as_seconds_f64();
    for at in &ended.destinations {
        let result = match (at.stored, ended.result) {
            (true, RunResult::Incomplete) if ended.numbers.errors > 0 => RunResult::Incomplete,
            (true, _) => RunResult::Good,
            (false, RunResult::Interrupted) => RunResult::Interrupted,
            (false, _) => RunResult::Failed,
        };
        connection.execute(
            "INSERT INTO standing (source, destination, last_try, last_result, last_seconds) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET last_try = ?3, last_result = ?4, last_seconds = ?5",
            params![source, at.destination, stamp(now), result.word(), seconds],
        )?;
        connection.execute(
            "INSERT INTO tallies VALUES (?1, ?2, ?3, 1) ON CONFLICT DO UPDATE SET runs = runs + 1",
            params![source, at.destination, result.word()],
        )?;
        if at.stored {
            let good = "UPDATE standing SET last_good = ?3, last_snapshot = ?4 WHERE source = ?1 AND destination = ?2";
            connection.execute(good, params![source, at.destination, stamp(started), ended.snapshot])?;
        }
    }
    Ok(())
}

impl Ledger {
    /// All standings, by source and destination.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn standings(&self) -> Result<Vec<Standing>> {
        let select = "SELECT source, destination, last_good, last_snapshot, last_try, last_result, last_seconds FROM standing ORDER BY 1, 2";
        let standing = |row: &Row<'_>| {
            Ok(Standing {
                source: row.get(0)?,
                destination: row.get(1)?,
                last_good: row.get::<_, Option<i64>>(2)?.map(time),
                last_snapshot: row.get(3)?,
                last_try: row.get::<_, Option<i64>>(4)?.map(time),
                last_result: row.get(5)?,
                last_seconds: row.get(6)?,
            })
        };
        self.all(select, standing)
    }

    /// All tallies, by source, destination and result.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tallies(&self) -> Result<Vec<Tally>> {
        let select = "SELECT source, destination, result, runs FROM tallies ORDER BY 1, 2, 3";
        let tally = |row: &Row<'_>| {
            let runs = u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
            Ok(Tally { source: row.get(0)?, destination: row.get(1)?, result: row.get(2)?, runs })
        };
        self.all(select, tally)
    }

    /// Notes a snapshot that is at a destination, where nothing newer is known of.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn(&self, at: &AtDestination) -> Result<()> {
        let insert = "INSERT INTO standing (source, destination, last_good, last_snapshot) VALUES (?1, ?2, ?3, ?4)
                      ON CONFLICT DO UPDATE SET last_good = ?3, last_snapshot = ?4 WHERE coalesce(last_good, 0) < ?3";
        let values = params![at.source, at.destination, stamp(at.time), at.snapshot];
        self.named(self.connection.execute(insert, values)).map(drop)
    }

    /// The due of a source and class that was dealt with last.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn handled(&self, source: &str, class: &str) -> Result<Option<DateTime<Utc>>> {
        let select = "SELECT due FROM handled WHERE source = ?1 AND class = ?2";
        let due = self.connection.query_row(select, [source, class], |row| row.get::<_, i64>(0)).optional();
        Ok(self.named(due)?.map(time))
    }

    /// Notes that a due was dealt with: its run has ended, or was given up.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn handle(&self, source: &str, class: &str, due: DateTime<Utc>) -> Result<()> {
        let insert = "INSERT INTO handled VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET due = ?3";
        self.named(self.connection.execute(insert, params![source, class, stamp(due)])).map(drop)
    }

    /// Since when a source is known, which is now if it was not.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn first_seen(&self, source: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let read = || {
            let select = "SELECT at FROM first_seen WHERE source = ?1 AND at <= ?2";
            self.connection
                .query_row(select, params![source, stamp(now)], |row| row.get::<_, i64>(0))
                .optional()
        };
        // Nobody waits for a writer to read what is known. What a wrong clock has left in the future is put right.
        if let Some(known) = self.named(read())? {
            return Ok(time(known));
        }
        let insert = "INSERT OR REPLACE INTO first_seen VALUES (?1, ?2)";
        self.named(self.connection.execute(insert, params![source, stamp(now)]))?;
        Ok(now)
    }

    /// Notes what was seen at a destination; what is not known stays as it was.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn see(&self, seen: &Seen) -> Result<()> {
        let insert = "INSERT INTO destinations VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET at = ?2,
                      snapshots = coalesce(?3, snapshots), used_bytes = coalesce(?4, used_bytes)";
        let signed = |number: Option<u64>| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let values =
            params![seen.destination, stamp(seen.at), signed(seen.snapshots), signed(seen.used_bytes)];
        self.named(self.connection.execute(insert, values)).map(drop)
    }

    /// What was seen last at each destination.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn destinations(&self) -> Result<Vec<Seen>> {
        let unsigned = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let seen = |row: &Row<'_>| {
            Ok(Seen {
                destination: row.get(0)?,
                at: time(row.get(1)?),
                snapshots: unsigned(row.get(2)?),
                used_bytes: unsigned(row.get(3)?),
            })
        };
        self.all("SELECT destination, at, snapshots, used_bytes FROM destinations ORDER BY 1", seen)
    }

    /// Notes that a part of a destination's data was read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn verify(&self, verified: &Verified) -> Result<()> {
        let insert = "INSERT OR REPLACE INTO verified VALUES (?1, ?2, ?3, ?4, ?5)";
        let values =
            params![verified.destination, verified.part, stamp(verified.at), verified.good, verified.message];
        self.named(self.connection.execute(insert, values)).map(drop)
    }

    /// What was read of which destination, by destination and part.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn verifications(&self) -> Result<Vec<Verified>> {
        let verified = |row: &Row<'_>| {
            Ok(Verified {
                destination: row.get(0)?,
                part: row.get(1)?,
                at: time(row.get(2)?),
                good: row.get(3)?,
                message: row.get(4)?,
            })
        };
        self.all("SELECT destination, part, at, good, message FROM verified ORDER BY 1, 2", verified)
    }

    fn all<T>(&self, select: &str, of_row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
        let read = || self.connection.prepare(select)?.query_map([], of_row)?.collect();
        self.named(read())
    }
}
