//! Live SQLite databases as a source.
//!
//! | module | job |
//! |---|---|
//! | [`live`] | opening a database that others write to, with as few rights as possible |
//! | [`copy`] | a consistent copy of it, checked |
//! | [`holders`] | who has it open |
//! | [`rights`] | by which rights SQLite looks for files |
//! | [`restore`] | putting one back in place of another |
//!
//! Each database is copied by SQLite's online backup while others use it. The copy has all that was committed, so `-wal`, `-shm` and `-journal`
//! beside it are no part of the backup. It appears in the snapshot at the database's real path with the database's owner, mode and times.

pub mod copy;
pub mod holders;
pub mod live;
pub mod restore;
pub mod rights;

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::copies::Copies;
use super::paths::{expand, patterns};
use super::{Entries, Source};
use crate::backup::{Given, Plan};
use crate::config::source::SqliteSource;
use crate::events::{Context, Event};
use crate::fs::capture;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::{Meta, path_text};
use crate::{Error, Kind, Result};

/// What SQLite keeps beside a database.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Databases, each copied when the source is opened.
#[derive(Debug)]
pub struct Sqlite {
    source: SqliteSource,
    cache: PathBuf,
}

/// A database that belongs to the source, and why it cannot be backed up.
struct Lacking {
    path: Vec<u8>,
    kind: FileErrorKind,
    error: Error,
}

impl Sqlite {
    /// Those of a source, with the directory for caches.
    pub const fn new(source: SqliteSource, cache: PathBuf) -> Self {
        Self { source, cache }
    }

    fn copied(&self, path: &Path, copies: &Copies, number: usize, context: &Context) -> Result<Given> {
        context.check_stop()?;
        let until = Instant::now() + self.source.timeout;
        let copy = copies.path().join(format!("{number}.db"));
        // Before the copy: if it changes meanwhile, the times say so to whoever compares.
        let meta = original(path)?;
        copy::make(path, &copy, until, context)?;
        copy::check(&copy, path, until, context)?;
        let bytes = File::open(&copy).map_err(|e| Error::io("cannot open the copy of a database", e))?;
        Ok(Given { path: path.as_os_str().as_bytes().to_vec(), meta: Some(meta), bytes: Box::new(bytes) })
    }
}

impl Source for Sqlite {
    fn open(&self, context: &Context) -> Result<Entries> {
        context.report(Event::Phase("copying databases"));
        let copies = Copies::make(&self.cache)?;
        let (databases, mut lacking) = databases(&self.source.paths);
        let mut plan = Plan::default();
        for (number, path) in databases.iter().enumerate() {
            match self.copied(path, &copies, number, context) {
                Ok(given) => plan.give(given)?,
                Err(e) if e.kind() == Kind::Interrupted => return Err(e),
                Err(error) => {
                    let path = path.as_os_str().as_bytes().to_vec();
                    lacking.push(Lacking { path, kind: FileErrorKind::Unreadable, error });
                }
            }
        }
        if !plan.has_given() {
            return Err(nothing_good(lacking));
        }
        for (written, pattern) in patterns(&self.source.paths) {
            plan.expect(&written, pattern);
        }
        for Lacking { path, kind, error } in lacking {
            if let Some(hint) = error.hint() {
                context.report(Event::Warning(format!("{error}. {hint}")));
            }
            plan.lack(&path, kind, error.to_string());
        }
        Ok(Entries { kept: vec![Box::new(copies)], ..Entries::new(plan) })
    }
}

/// The error of a source of which nothing can be backed up.
fn nothing_good(lacking: Vec<Lacking>) -> Error {
    let count = lacking.len();
    match lacking.into_iter().next() {
        Some(Lacking { error, .. }) if count > 1 => {
            error.context(format_args!("none of the {count} databases can be backed up; the first"))
        }
        Some(Lacking { error, .. }) => error,
        None => Error::usage("there is no database to back up")
            .with_hint("Check `paths` of the source: they match only directories, or files that SQLite keeps beside databases."),
    }
}

/// The real paths of the databases that are there, and what is not.
fn databases(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Lacking>) {
    let expanded = expand(paths);
    let mut databases = Vec::new();
    let mut lacking = Vec::new();
    for each in expanded.lacking {
        let error = Error::failed(format_args!("{}: {}", path_text::display(&each.path), each.message))
            .with_hint(
                "A database that is missing is an error. If it is gone for good, take it out of `paths`.",
            );
        lacking.push(Lacking { path: each.path, kind: each.kind, error });
    }
    for path in expanded.paths {
        let is_named = paths.contains(&path);
        // A pattern such as * also matches what SQLite keeps beside databases, and directories.
        if !is_named && (is_companion(&path) || path.is_dir()) {
            continue;
        }
        match std::fs::canonicalize(&path) {
            Ok(real) => databases.push(real),
            Err(e) => {
                let kind = match e.kind() {
                    std::io::ErrorKind::NotFound => FileErrorKind::Vanished,
                    _ => FileErrorKind::Unreadable,
                };
                let error = Error::io(format_args!("cannot open the database {}", path.display()), e)
                    .with_hint("A database that is missing is an error. If it is gone for good, take it out of `paths`.");
                lacking.push(Lacking { path: path.as_os_str().as_bytes().to_vec(), kind, error });
            }
        }
    }
    databases.sort_unstable();
    databases.dedup();
    (databases, lacking)
}

/// Whether SQLite keeps this file beside a database that is there.
fn is_companion(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    COMPANIONS.iter().any(|end| {
        let database = bytes.strip_suffix(end.as_bytes());
        database.is_some_and(|database| Path::new(std::ffi::OsStr::from_bytes(database)).exists())
    })
}

/// The name of a file beside the database, as `-wal`.
pub fn companion(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_os_string();
    name.push(end);
    PathBuf::from(name)
}

/// The database's own metadata. The file is not opened: closing it would give up locks that SQLite holds in this process.
fn original(path: &Path) -> Result<Meta> {
    let cannot =
        |e: std::io::Error| Error::io(format_args!("cannot look at the database {}", path.display()), e);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::failed(format_args!("{} is no database but a directory", path.display())));
    };
    let stat = std::fs::symlink_metadata(path).map_err(cannot)?;
    if !stat.is_file() {
        return Err(Error::failed(format_args!("{} is no database: it is no file", path.display())));
    }
    if stat.len() == 0 {
        return Err(Error::failed(format_args!("the database {} is empty: 0 bytes", path.display()))
            .with_hint("It is not backed up, and older snapshots stay. A database has at least one page."));
    }
    match capture::open_dir_path(directory.as_os_str().as_bytes()) {
        Ok(directory) => {
            let directory = std::os::fd::AsFd::as_fd(&directory);
            let mut meta = capture::stat(directory, name.as_bytes()).map_err(cannot)?.meta;
            // What cannot be read of these is no reason to have no copy.
            let _ = capture::read_xattrs_at(directory, name.as_bytes(), &mut meta.xattrs);
            Ok(meta)
        }
        // A directory that may be passed through and not be listed.
        Err(_) => Ok(plain_meta(&stat)),
    }
}

fn plain_meta(stat: &std::fs::Metadata) -> Meta {
    use std::os::unix::fs::MetadataExt as _;
    let time = |seconds, nanoseconds: i64| crate::tree::Time { seconds, nanoseconds: nanoseconds as u32 };
    Meta {
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        mtime: time(stat.mtime(), stat.mtime_nsec()),
        ctime: time(stat.ctime(), stat.ctime_nsec()),
        inode: stat.ino(),
        device: stat.dev(),
        links: 1,
        xattrs: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
