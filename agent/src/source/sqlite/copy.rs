//! A consistent copy of a live database, and the proof that it is one.
//!
//! In WAL mode one read transaction sees one moment, however long it takes, and blocks nobody. In the other modes a reader keeps writers waiting:
//! a small database is copied in one go, a large one step by step with room for writers in between, which makes SQLite begin anew each time
//! something was written. After some of those the rest is copied with writers waiting.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::live::{self, Live};
use crate::events::Context;
use crate::fs::size::human;
use crate::{Error, Result};

/// Pages that are copied between two looks at the stop flag.
const STEP_PAGES: i32 = 1024;
/// A database of this size, in bytes, is copied in a moment.
const SMALL_BYTES_MAX: u64 = 64 << 20;
/// A database is copied so many times at most, by parts, before writers have to wait.
const ROUNDS_MAX: u64 = 3;
/// Writers get so long between two steps.
const PAUSE: Duration = Duration::from_millis(5);
/// So often a file that should not change may have changed.
const ATTEMPTS: usize = 5;
/// How long a stop may go unnoticed.
const LOOK_AT_STOP_EVERY: Duration = Duration::from_millis(200);

/// Copies a database.
///
/// # Errors
/// If it cannot be read, or not until then; if there is no space for the copy; `Interrupted`.
pub fn make(from: &Path, to: &Path, until: Instant, context: &Context) -> Result<()> {
    context.set_current(|current| {
        use std::os::unix::ffi::OsStrExt as _;
        current.extend_from_slice(from.as_os_str().as_bytes());
    });
    for _ in 0..ATTEMPTS {
        let live = live::open(from, until, context)?;
        copy(&live, from, to, until, context)?;
        if live.is_sound(from) {
            return Ok(());
        }
        let _ = std::fs::remove_file(to);
    }
    Err(Error::failed(format_args!("the database {} changes while it is copied", from.display())).with_hint(
        "This user may not make -shm beside it and so cannot see SQLite's locks: give it write permission for the directory.",
    ))
}

fn copy(live: &Live, from: &Path, to: &Path, until: Instant, context: &Context) -> Result<()> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = &live.connection;
    let mode: String = read(source, "PRAGMA journal_mode").map_err(|e| live::explain(from, &e))?;
    let page_bytes: i64 = read(source, "PRAGMA page_size").map_err(|e| live::explain(from, &e))?;
    let page_bytes = u64::try_from(page_bytes).unwrap_or_default();
    let mut copy = Connection::open_with_flags(to, flags).map_err(|e| explain_copy(from, to, &e))?;
    // It is nobody's but this run's, and worth nothing if that ends.
    for pragma in ["PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"] {
        let set = copy.execute_batch(pragma);
        set.map_err(|e| explain_copy(from, to, &e))?;
    }
    let backup = Backup::new(source, &mut copy).map_err(|e| explain_copy(from, to, &e))?;
    let mut is_held = false;
    let mut pages_copied = 0;
    loop {
        context.check_stop()?;
        if Instant::now() >= until {
            return Err(late(from));
        }
        let pages = u64::try_from(backup.progress().pagecount).unwrap_or_default();
        // Before the first step the number of pages is not known.
        let is_small = pages_copied > 0 && pages * page_bytes <= SMALL_BYTES_MAX;
        let is_late = pages_copied > ROUNDS_MAX * pages.max(1) && pages > 0;
        if !is_held && (mode == "wal" || live.is_immutable() || is_small || is_late) {
            match source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;") {
                Ok(()) => is_held = true,
                Err(e) if live::is_busy(&e) => {
                    let _ = source.execute_batch("ROLLBACK");
                    continue;
                }
                Err(e) => return Err(live::explain(from, &e)),
            }
        }
        match backup.step(STEP_PAGES) {
            Ok(StepResult::Done) => break,
            Ok(StepResult::More) if is_held => {}
            Ok(_) => std::thread::sleep(PAUSE),
            Err(e) if live::is_busy(&e) => std::thread::sleep(PAUSE),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                return Err(explain_copy(from, to, &e));
            }
            Err(e) => return Err(live::explain(from, &e)),
        }
        pages_copied += STEP_PAGES as u64;
    }
    drop(backup);
    copy.close().map_err(|(_, e)| explain_copy(from, to, &e))
}

/// Checks a copy: every page of it is read.
///
/// # Errors
/// If the database is damaged, or the check takes too long; `Interrupted`.
pub fn check(copy: &Path, of: &Path, until: Instant, context: &Context) -> Result<()> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection =
        Connection::open_with_flags(live::immutable(copy), flags).map_err(|e| live::explain(of, &e))?;
    let checked = interruptible(&connection, until, context, || {
        let mut statement = connection.prepare("PRAGMA integrity_check(3)")?;
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
    });
    match checked {
        Ok(lines) if lines == ["ok"] => Ok(()),
        Ok(lines) => Err(live::damaged(of, &lines.join("; "))),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            context.check_stop()?;
            Err(late(of))
        }
        Err(e) => Err(live::explain(of, &e)),
    }
}

fn read<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> rusqlite::Result<T> {
    connection.query_row(sql, [], |row| row.get(0))
}

/// Does something with a connection that ends when it is asked to stop, or is late.
fn interruptible<T>(
    connection: &Connection,
    until: Instant,
    context: &Context,
    work: impl FnOnce() -> T,
) -> T {
    let handle = connection.get_interrupt_handle();
    let (working, worked) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while worked.recv_timeout(LOOK_AT_STOP_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                if context.stopped() || Instant::now() >= until {
                    handle.interrupt();
                }
            }
        });
        let done = work();
        drop(working);
        done
    })
}

fn late(path: &Path) -> Error {
    Error::failed(format_args!("the copy of the database {} took too long", path.display()))
        .with_hint("Give the source a longer `timeout`, or run it when less is written.")
}

/// An error of the copy, not of the database.
fn explain_copy(from: &Path, to: &Path, error: &rusqlite::Error) -> Error {
    let folder = to.parent().unwrap_or(to).display();
    let bytes = std::fs::metadata(from).map_or(0, |metadata| metadata.len());
    let why = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        _ => error.to_string(),
    };
    Error::failed(format_args!("cannot copy the database {} to {folder}: {why}", from.display()))
        .with_hint(format_args!("It takes {} there; `cache_dir` names another directory.", human(bytes)))
}
