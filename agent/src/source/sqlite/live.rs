//! Opening a database that others write to, with as few rights as possible.
//!
//! SQLite can read a database it may not write to, with one exception: a database in WAL mode that nobody has open has no `-shm`, and who may not
//! make one cannot open it the usual way. Then it is read as a file that nobody changes, and whether that held is looked at afterwards.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{companion, holders, rights};
use crate::events::Context;
use crate::{Error, Result};

/// How long one call waits for a lock; in between it is looked whether to stop.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Whoever holds a database so that nobody can read it is waited for so long.
const LOCKED_MAX: Duration = Duration::from_secs(60);
/// What needs no escape in the path of a `file:` URI.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// An open database.
#[derive(Debug)]
pub struct Live {
    /// The connection, which reads only.
    pub connection: Connection,
    /// It is read as a file that nobody changes: what it looked like.
    untouched: Option<Look>,
}

/// What tells whether a file was changed.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    has_log: bool,
}

impl Live {
    /// Whether nobody changed a file that was taken for one that nobody changes. Others are guarded by SQLite's locks.
    pub fn is_sound(&self, path: &Path) -> bool {
        self.untouched.as_ref().is_none_or(|before| look(path).is_ok_and(|now| now == *before))
    }

    /// Whether it is read as a file that nobody changes.
    pub const fn is_immutable(&self) -> bool {
        self.untouched.is_some()
    }
}

/// Opens a database for reading.
///
/// # Errors
/// If it is none, is damaged, cannot be read by this user, or is locked for too long; `Interrupted`.
pub fn open(path: &Path, until: Instant, context: &Context) -> Result<Live> {
    let until = until.min(Instant::now() + LOCKED_MAX);
    loop {
        match attempt(path) {
            Ok(live) => return Ok(live),
            Err(e) if is_busy(&e) && Instant::now() < until => context.check_stop()?,
            Err(e) => return Err(explain(path, &e)),
        }
    }
}

fn attempt(path: &Path) -> rusqlite::Result<Live> {
    rights::use_effective();
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reading = connect(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY);
    let refused = match reading {
        Ok(connection) => return Ok(Live { connection, untouched: None }),
        Err(e) if needs_more(&e) => e,
        Err(e) => return Err(e),
    };
    // What a crash left has to be rolled back before anybody can read it, as any program would that opens it.
    if let Ok(connection) = connect(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE) {
        return Ok(Live { connection, untouched: None });
    }
    let Ok(before) = look(path) else { return Err(refused) };
    if before.has_log {
        return Err(refused);
    }
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = connect(&immutable(path), flags)?;
    Ok(Live { connection, untouched: Some(before) })
}

/// A connection that has read something: many errors are found only then.
fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// The URI of a database as a file that nobody changes.
pub(super) fn immutable(path: &Path) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    format!("file:{}?immutable=1", percent_encode(path.as_os_str().as_bytes(), PLAIN)).into()
}

fn look(path: &Path) -> std::io::Result<Look> {
    let metadata = std::fs::metadata(path)?;
    let is_there = |end| companion(path, end).symlink_metadata().is_ok();
    Ok(Look {
        inode: metadata.ino(),
        size: metadata.size(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        ctime: (metadata.ctime(), metadata.ctime_nsec()),
        has_log: is_there("-wal") || is_there("-journal"),
    })
}

/// Whether another program holds it for a moment.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// Whether reading needs something to be written.
fn needs_more(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// What SQLite's error means for the database, and what can be done.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let name = path.display();
    let code = error.sqlite_error_code();
    let words = match error {
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
        other => other.to_string(),
    };
    match code {
        Some(ErrorCode::NotADatabase) => {
            Error::failed(format_args!("{name} is not an SQLite database, or it is encrypted")).with_hint(
                "Check `paths`. Let the program that has the key write a copy, by a source of kind command or a hook.",
            )
        }
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, &words),
        _ if is_busy(error) => {
            let who = holders::of(path).words();
            let who = if who.is_empty() { String::new() } else { format!(": it is open in {who}") };
            Error::failed(format_args!("the database {name} stayed locked by another program{who}"))
                .with_hint("A backup has to read it for a moment: no program may lock it all the time.")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            let why = std::fs::File::open(path).err().map_or(words, |e| crate::error::describe_io(&e));
            Error::failed(format_args!("cannot open the database {name}: {why}")).with_hint(
                "This user needs read permission for the file and for -wal and -shm beside it. If a crash left a -journal or -wal behind, open the \
                 database once with its own program.",
            )
        }
        _ => Error::failed(format_args!("cannot read the database {name}: {words}")),
    }
}

/// The error of a damaged database.
pub(super) fn damaged(path: &Path, words: &str) -> Error {
    Error::failed(format_args!("the database {} is damaged: {words}", path.display())).with_hint(
        "It is not backed up, and older snapshots stay: `lifeboat source restore NAME` brings the last good one back.",
    )
}
