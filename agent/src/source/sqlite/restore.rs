//! Putting a database back: written beside its place, checked, then swapped for what is there.
//!
//! SQLite would replay a `-wal` or `-journal` of the old database into whatever has its name, which destroys it. So none may lie beside the new
//! one at any moment, also after a crash. The order, with the directory synced after each step:
//! 1. The new database is complete under a name of its own, checked, synced.
//! 2. The old one is locked, if it can be read, and takes in its `-wal`, which SQLite then removes.
//! 3. The old one gets a second name, `NAME.lifeboat-before-TIME`; what is left of `-wal` and `-journal` moves to that name, `-shm` goes.
//! 4. The new one takes the old one's name, in one call.
//!
//! A crash leaves the old database under its name, or the new one; doing the same again completes it. The old one stays under its second name:
//! a restore of the wrong moment is undone by it, and who does not want it deletes it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{COMPANIONS, companion, copy, holders};
use crate::events::{Context, Event};
use crate::fs::apply::{Applier, Wanted};
use crate::tree::Meta;
use crate::tree::node::Names;
use crate::{Error, Result};

/// The check of a restored database may take this long.
const CHECK_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A database that is being restored. What is beside the old one goes when this is dropped before the swap.
#[derive(Debug)]
pub struct Restoring {
    database: PathBuf,
    beside: PathBuf,
}

/// What a swap did.
#[derive(Debug, PartialEq, Eq)]
pub struct Swapped {
    /// Where the old database is now, if there was one.
    pub before: Option<PathBuf>,
}

/// Refuses a database that another process has open, and names it.
///
/// # Errors
/// `Locked`.
pub fn refuse_held(database: &Path) -> Result<()> {
    let holders = holders::of(database);
    if holders.is_empty() { Ok(()) } else { Err(held(database, &holders.words())) }
}

fn held(database: &Path, who: &str) -> Error {
    Error::new(
        crate::Kind::Locked,
        format_args!("the database {} is in use by {who}: it is not restored", database.display()),
    )
    .with_hint("Stop that program, restore, and start it again. Nothing was changed.")
}

impl Restoring {
    /// Begins: makes the file beside the database that is written to.
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub fn begin(database: &Path) -> Result<(Self, File)> {
        let mut name = std::ffi::OsString::from(".");
        name.push(database.file_name().unwrap_or_default());
        name.push(format!(".lifeboat-restore-{}", std::process::id()));
        let beside = database.with_file_name(name);
        // Of a run with the same number that was killed.
        let _ = fs::remove_file(&beside);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|e| {
            Error::io(format_args!("cannot write beside the database {}", database.display()), e)
                .with_hint("The directory must be there, and this user may write to it.")
        })?;
        Ok((Self { database: database.to_path_buf(), beside }, file))
    }

    /// Checks what was written, gives it its owner, mode and times, and puts it in the place of the old database.
    ///
    /// # Errors
    /// If it is damaged; `Locked` if another process has the old one open; errors of the file system: then the old one is as it was, or, after its
    /// last step, the new one is there.
    pub fn finish(self, file: &File, meta: &Meta, context: &Context) -> Result<Swapped> {
        let until = Instant::now() + CHECK_MAX;
        copy::check(&self.beside, &self.database, until, context)
            .map_err(|e| e.context("what the snapshot has is not restored"))?;
        context.check_stop()?;
        self.dress(file, meta, context)?;
        refuse_held(&self.database)?;
        let lock = lock(&self.database)?;
        let swapped = self.swap().map_err(|e| {
            Error::io(format_args!("cannot put the database {} in its place", self.database.display()), e)
                .with_hint("The old one is as it was. Run the same again when this is mended.")
        })?;
        if let Some(before) = &swapped.before {
            let late = holders::of(before);
            if !late.is_empty() {
                context.report(Event::Warning(format!(
                    "{} opened {} while it was restored and has the old one: restart it",
                    late.words(),
                    self.database.display()
                )));
            }
        }
        drop(lock);
        Ok(swapped)
    }

    fn dress(&self, file: &File, meta: &Meta, context: &Context) -> Result<()> {
        let cannot = |e: io::Error| Error::io(format_args!("cannot complete {}", self.beside.display()), e);
        let applier = Applier::default();
        let (users, groups) = (Names::new(), Names::new());
        let path = std::os::unix::ffi::OsStrExt::as_bytes(self.database.as_os_str());
        applier
            .file(file.as_fd(), &Wanted { meta, users: &users, groups: &groups, path })
            .and_then(|()| file.sync_all())
            .map_err(cannot)?;
        if !applier.shortfalls.is_empty() {
            context.report(Event::Warning(applier.shortfalls.to_string()));
        }
        Ok(())
    }

    /// Steps 3 and 4.
    fn swap(&self) -> io::Result<Swapped> {
        let directory = File::open(self.database.parent().unwrap_or_else(|| Path::new("/")))?;
        let before = match self.database.symlink_metadata() {
            Ok(_) => Some(self.keep_old(&directory)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // A log without its database belongs to nothing, and must not come to belong to the new one.
                let stamp = stamp();
                self.move_companions(&companion(&self.database, &stamp))?;
                None
            }
            Err(e) => return Err(e),
        };
        directory.sync_all()?;
        fs::rename(&self.beside, &self.database)?;
        directory.sync_all()?;
        Ok(Swapped { before })
    }

    fn keep_old(&self, directory: &File) -> io::Result<PathBuf> {
        let stamp = stamp();
        for number in 0_u32.. {
            let end = if number == 0 { stamp.clone() } else { format!("{stamp}-{number}") };
            let before = companion(&self.database, &end);
            match fs::hard_link(&self.database, &before) {
                Ok(()) => {
                    directory.sync_all()?;
                    self.move_companions(&before)?;
                    return Ok(before);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Takes what SQLite keeps beside the old database out of the new one's way. `-shm` can be made anew from `-wal`.
    fn move_companions(&self, before: &Path) -> io::Result<()> {
        for end in COMPANIONS {
            let old = companion(&self.database, end);
            let moved = match end {
                "-shm" => fs::remove_file(&old),
                _ => fs::rename(&old, companion(before, end)),
            };
            match moved {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        // After the swap it is not there any more.
        let _ = fs::remove_file(&self.beside);
    }
}

/// The end of the old database's second name.
fn stamp() -> String {
    format!(".lifeboat-before-{}", chrono::Utc::now().format("%Y%m%dT%H%M%SZ"))
}

/// Locks the old database, in which `-wal` is taken in; `None` if there is none that SQLite can read. It closes without touching any file, since
/// nothing is written after the log was taken in.
///
/// # Errors
/// `Locked` if another process is using it.
fn lock(database: &Path) -> Result<Option<Connection>> {
    if !database.exists() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let locked = || {
        let connection = Connection::open_with_flags(database, flags)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mode: String = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
        connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        if mode == "wal" {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                None,
            ));
        }
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(connection)
    };
    match locked() {
        Ok(connection) => Ok(Some(connection)),
        Err(e) => match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                let who = holders::of(database).words();
                Err(held(database, if who.is_empty() { "another program" } else { &who }))
            }
            // Damaged, or no database: that is why it is restored. That nobody has it open was looked at.
            _ => Ok(None),
        },
    }
}
