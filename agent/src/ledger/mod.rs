//! What this machine remembers of its runs: an SQLite file in the state directory, written by every `lifeboat run` and read by the daemon.
//!
//! | module | job |
//! |---|---|
//! | [`lock`] | that nothing is run twice at once |
//! | [`schema`] | its tables, and how older ones become them |
//! | [`runs`] | runs, what they came to, what they said |
//! | [`standing`] | source × destination: last good, last try; dues that were dealt with; what was verified |
//! | [`rebuild`](mod@rebuild) | what can be learnt from snapshots when it was lost |
//!
//! It may be deleted at any time: what matters is in the repositories. One that is damaged is put aside and a new one is begun. Several processes
//! write to it at once; each change is one transaction.

mod lock;
pub mod rebuild;
pub mod runs;
mod schema;
pub mod standing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, ErrorCode};

use crate::repository::state::make_private_dir;
use crate::{Error, Kind, Result};

pub use lock::JobLock;
pub use runs::{Ended, Job, JobKind, Logged, Numbers, Run, RunResult, Stored, Trigger};
pub use standing::{AtDestination, Seen, Standing, Verified};

/// Another process holds a write for less than that.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// The ledger of this machine, open.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    /// A damaged one was put aside there.
    put_aside: Option<PathBuf>,
    is_new: bool,
    /// Device and number of the file.
    inode: Option<(u64, u64)>,
}

impl Ledger {
    /// Opens the ledger in a state directory, which is made if need be; brings older ones up to date.
    ///
    /// # Errors
    /// If it cannot be opened or written, or is of a later version.
    pub fn open(state: &Path) -> Result<Self> {
        make_private_dir(state)?;
        let path = state.join("ledger.sqlite");
        let is_new = !path.exists();
        match Self::open_at(&path) {
            Ok(connection) => Ok(Self::of(connection, path, None, is_new)),
            Err(e) if is_damage(&e) => {
                let aside = put_aside(&path)?;
                let connection = Self::open_at(&path).map_err(|e| failed(&path, &e))?;
                Ok(Self::of(connection, path, Some(aside), true))
            }
            Err(e) => Err(failed(&path, &e)),
        }
    }

    fn of(connection: Connection, path: PathBuf, put_aside: Option<PathBuf>, is_new: bool) -> Self {
        let inode = std::fs::metadata(&path).ok().map(|found| (found.dev(), found.ino()));
        Self { connection, path, put_aside, is_new, inode }
    }

    /// One that nobody sees and that ends with this process: for a service whose disk is full, which has to go on.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn in_memory() -> Result<Self> {
        let path = PathBuf::from("(in memory)");
        let open = || {
            let mut connection = Connection::open_in_memory()?;
            schema::migrate(&mut connection)?;
            Ok(connection)
        };
        let connection = open().map_err(|e| failed(&path, &e))?;
        Ok(Self::of(connection, path, None, true))
    }

    fn open_at(path: &Path) -> rusqlite::Result<Connection> {
        // Nobody else may read what runs say: paths are in it. SQLite gives the files beside it the same mode. Only one that is not there is opened
        // here: closing a file takes away all locks that this process has on it, those of SQLite, too.
        if !path.exists() {
            // What is wrong SQLite says better.
            let _ = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
        }
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // So that who reads never waits for who writes.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate(&mut connection)?;
        Ok(connection)
    }

    /// The open file, for what keeps tables of its own in it.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether it was begun just now: what can be learnt from snapshots is not in it yet.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where a damaged one was put when it was opened.
    pub fn put_aside(&self) -> Option<&Path> {
        self.put_aside.as_deref()
    }

    /// Whether the file that is open is the one that others find there now: not if it was deleted, put aside, or never was one.
    pub fn is_current(&self) -> bool {
        let found = std::fs::metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        found.is_some() && found == self.inode
    }

    /// Turns an error of SQLite into one that names the file.
    fn named<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|e| failed(&self.path, &e))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("path", &self.path).finish_non_exhaustive()
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// Gives a damaged file another name, and takes away what belongs to it.
fn put_aside(path: &Path) -> Result<PathBuf> {
    let aside = path.with_extension(format!("damaged-{}", Utc::now().format("%Y%m%dT%H%M%S%.3f")));
    let named = |e| Error::io(format_args!("cannot put the damaged ledger {} aside", path.display()), e);
    std::fs::rename(path, &aside).map_err(named)?;
    for suffix in ["sqlite-wal", "sqlite-shm"] {
        // They hold nothing without the file.
        let _ = std::fs::remove_file(path.with_extension(suffix));
    }
    Ok(aside)
}

fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    let path = path.display();
    let code = error.sqlite_error_code();
    let kind = if code == Some(ErrorCode::DiskFull) { Kind::Quota } else { Kind::Failed };
    let own = Error::new(kind, format_args!("the ledger {path}: {error}"));
    match code {
        Some(ErrorCode::DiskFull) => own.with_hint("Free some space on the disk of the state directory."),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => own.with_hint(
            "It must be writable by the user who runs lifeboat: look at the owner of the state directory.",
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => own.with_hint(format_args!(
            "It may be deleted: a new one is begun, and repositories are not touched: rm {path}"
        )),
        _ => own,
    }
}

/// Milliseconds since 1970, as times are kept.
const fn stamp(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

/// The time of a [`stamp`].
fn time(stamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(stamp).unwrap_or_default()
}
