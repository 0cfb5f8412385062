//! The ledger's tables. `PRAGMA user_version` says how many steps were taken; each is one transaction.

use rusqlite::{Connection, TransactionBehavior};

/// From nothing to what is current, one after the other. Steps are only ever added.
const STEPS: &[&str] = &[
    "
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        source TEXT,
        class TEXT,
        cause TEXT NOT NULL,
        started INTEGER NOT NULL,
        ended INTEGER,
        result TEXT,
        exit_code INTEGER,
        message TEXT,
        hint TEXT,
        snapshot TEXT,
        files INTEGER NOT NULL DEFAULT 0,
        errors INTEGER NOT NULL DEFAULT 0,
        bytes_total INTEGER NOT NULL DEFAULT 0,
        bytes_read INTEGER NOT NULL DEFAULT 0,
        bytes_added INTEGER NOT NULL DEFAULT 0,
        bytes_stored INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX runs_by_source ON runs (source, id);
    CREATE TABLE run_destinations (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        destination TEXT NOT NULL,
        stored INTEGER NOT NULL,
        verified TEXT,
        bytes_stored INTEGER NOT NULL,
        error TEXT,
        PRIMARY KEY (run, destination)
    ) STRICT;
    CREATE TABLE run_log (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        at INTEGER NOT NULL,
        level TEXT NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (run, number)
    ) STRICT;
    CREATE TABLE standing (
        source TEXT NOT NULL,
        destination TEXT NOT NULL,
        last_good INTEGER,
        last_snapshot TEXT,
        last_try INTEGER,
        last_result TEXT,
        last_seconds REAL,
        PRIMARY KEY (source, destination)
    ) STRICT;
    CREATE TABLE tallies (
        source TEXT NOT NULL,
        destination TEXT NOT NULL,
        result TEXT NOT NULL,
        runs INTEGER NOT NULL,
        PRIMARY KEY (source, destination, result)
    ) STRICT;
    CREATE TABLE handled (
        source TEXT NOT NULL,
        class TEXT NOT NULL,
        due INTEGER NOT NULL,
        PRIMARY KEY (source, class)
    ) STRICT;
    CREATE TABLE first_seen (
        source TEXT NOT NULL PRIMARY KEY,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE destinations (
        destination TEXT NOT NULL PRIMARY KEY,
        at INTEGER NOT NULL,
        snapshots INTEGER,
        used_bytes INTEGER
    ) STRICT;
    CREATE TABLE verified (
        destination TEXT NOT NULL,
        part INTEGER NOT NULL,
        at INTEGER NOT NULL,
        good INTEGER NOT NULL,
        message TEXT,
        PRIMARY KEY (destination, part)
    ) STRICT;
",
    crate::notify::SCHEMA,
];

/// Takes the steps that are missing.
///
/// # Errors
/// Of SQLite; `SQLITE_MISMATCH` with words for a file of a later version.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    // Nobody waits for a writer to find out that there is nothing to do.
    let done: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if usize::try_from(done) == Ok(STEPS.len()) {
        return Ok(());
    }
    // Others may be doing the same.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    if done > STEPS.len() {
        return Err(rusqlite::Error::ToSqlConversionFailure(
            format!(
                "it was written by a later version of lifeboat (step {done}, this one knows {})",
                STEPS.len()
            )
            .into(),
        ));
    }
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
    transaction.commit()
}
