//! Where table files are kept: a directory of the cache; there, but without names, so that they go with the process; or in memory.
//!
//! A table is written under a temporary name that begins with a dot, then renamed. It is not synced: what a
//! power cut leaves of it is found out by its checksums. Several processes may share the directory: a name is
//! made of the contents' hash, files are never changed, and unlinking one leaves another process's mapping of
//! it intact. Temporary files are locked while they are written, so that left-over ones can be told apart.
//!
//! Memory is for what is small, or has no other place: it is not given back to the system as file cache is, and nothing counts it as this
//! process's own.
//!
//! A cache must not end what it only makes faster: when the directory cannot be written (any more), later tables are kept in memory, and
//! the reason is kept to be told.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::blocks::Resident;
use super::layout::Header;
use super::table::Table;
use crate::{Error, Result};

/// Mapped memory from which on entries are read instead, unless set otherwise: enough for all of an index of two
/// million chunks, or for the filters of 40 million.
const RESIDENT_BYTES_MAX: u64 = 64 << 20;

const EXTENSION: &str = "table";
const TEMPORARY_PREFIX: &str = ".new-";

/// Where table files are kept.
#[derive(Debug)]
pub(super) struct Storage {
    /// Without it they are kept in memory.
    dir: Option<PathBuf>,
    /// Files there get names, and serve later processes.
    is_cache: bool,
    resident: Arc<Resident>,
    trouble: Mutex<Trouble>,
}

/// Whether and why new tables are not kept in the directory.
#[derive(Debug, Default)]
struct Trouble {
    given_up: bool,
    untold: Option<Error>,
}

/// A table file that is being written; it goes away unless it is published.
pub(super) struct NewFile {
    pub(super) file: File,
    path: Option<PathBuf>,
    is_on_disk: bool,
}

impl Storage {
    /// The directory, which is made if it is not there.
    pub(super) fn directory(dir: &Path) -> Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| Error::io(format_args!("cannot create index cache {}", dir.display()), error))?;
        Ok(Self {
            dir: Some(dir.to_path_buf()),
            is_cache: true,
            resident: resident(),
            trouble: Mutex::default(),
        })
    }

    /// The directory, for files without names; in memory where it cannot be made.
    pub(super) fn scratch(dir: &Path) -> Self {
        Self::directory(dir).map_or_else(|_| Self::memory(), |storage| Self { is_cache: false, ..storage })
    }

    /// Whether tables are files that can be made anew from the stored shards.
    pub(super) const fn is_cache(&self) -> bool {
        self.is_cache
    }

    /// No files: tables go with the process.
    pub(super) fn memory() -> Self {
        Self { dir: None, is_cache: false, resident: resident(), trouble: Mutex::default() }
    }

    /// New tables are kept in memory from now on.
    pub(super) fn give_up(&self, reason: Error) {
        let mut trouble = self.trouble.lock();
        trouble.given_up = true;
        trouble.untold = Some(reason);
    }

    /// Why it was given up, once.
    pub(super) fn take_trouble(&self) -> Option<Error> {
        self.trouble.lock().untold.take()
    }

    /// Memory that the mappings of all tables can occupy.
    pub(super) fn resident(&self) -> &Resident {
        &self.resident
    }

    /// Maps all tables, and deletes what is none (damaged, torn, of another version) or was left half-written.
    pub(super) fn tables(&self) -> Result<Vec<Table>> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let failed = |error| Error::io(format_args!("cannot read index cache {}", dir.display()), error);
        let mut tables = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if is_temporary(&path) {
                remove_if_left_over(&path);
            } else if path.extension().is_some_and(|extension| extension == EXTENSION) {
                tables.extend(self.open_or_remove(path));
            }
        }
        Ok(tables)
    }

    /// A new file.
    pub(super) fn create(&self) -> Result<NewFile> {
        match self.dir.as_ref().filter(|_| !self.trouble.lock().given_up) {
            Some(dir) => match create_in(dir).and_then(|file| self.without_name_unless_cached(file)) {
                Ok(file) => Ok(file),
                Err(error) => {
                    self.give_up(error);
                    self.create()
                }
            },
            None => {
                let file = rustix::fs::memfd_create("lifeboat-index", rustix::fs::MemfdFlags::CLOEXEC);
                let file = file.map_err(|error| Error::io("cannot create index table in memory", error))?;
                Ok(NewFile { file: file.into(), path: None, is_on_disk: false })
            }
        }
    }

    fn without_name_unless_cached(&self, mut new: NewFile) -> Result<NewFile> {
        if let Some(path) = new.path.take_if(|_| !self.is_cache) {
            fs::remove_file(&path)
                .map_err(|error| Error::io(format_args!("cannot remove {}", path.display()), error))?;
        }
        Ok(new)
    }

    /// Gives a file that was written its name, and maps it.
    pub(super) fn publish(&self, mut new: NewFile, header: &Header) -> Result<Table> {
        let mut path = None;
        if let (Some(dir), Some(temporary)) = (&self.dir, &new.path) {
            let hash = blake3::hash(&header.to_block()).to_hex();
            let named = dir.join(&hash[..32]).with_extension(EXTENSION);
            let renamed = fs::rename(temporary, &named);
            renamed.map_err(|error| {
                Error::io(format_args!("cannot write index cache {}", named.display()), error)
            })?;
            new.path = None;
            path = Some(named);
        }
        let file = new.file.try_clone().map_err(|error| Error::io("cannot map index table", error))?;
        let table = Table::open(file, path, &self.resident);
        let table = table.map_err(|error| Error::io("cannot map index table", error))?;
        table.ok_or_else(|| Error::damaged("index table changed while it was written"))
    }

    /// Deletes a table's file; mappings of it stay.
    pub(super) fn remove(&self, table: &Table) {
        if let Some(path) = table.path() {
            // Left behind it costs space only: a later open finds it redundant and tries again.
            drop(fs::remove_file(path));
        }
    }

    fn open_or_remove(&self, path: PathBuf) -> Option<Table> {
        let file = File::open(&path).ok()?;
        match Table::open(file, Some(path.clone()), &self.resident) {
            Ok(Some(table)) => Some(table),
            Ok(None) => {
                drop(fs::remove_file(path));
                None
            }
            Err(_) => None,
        }
    }
}

fn resident() -> Arc<Resident> {
    Arc::new(Resident::new(RESIDENT_BYTES_MAX))
}

impl NewFile {
    /// Whether it lies in the directory and not in memory.
    pub(super) const fn is_on_disk(&self) -> bool {
        self.is_on_disk
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            drop(fs::remove_file(path));
        }
    }
}

fn create_in(dir: &Path) -> Result<NewFile> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()));
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => {
                // Without locks (some network file systems) left-over files are not told apart and stay.
                drop(file.lock());
                // Another process can have taken it for left over before it was locked.
                if file.metadata().is_ok_and(|metadata| metadata.nlink() > 0) {
                    return Ok(NewFile { file, path: Some(path), is_on_disk: true });
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::io(format_args!("cannot create {}", path.display()), error));
            }
        }
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(TEMPORARY_PREFIX))
}

/// Deletes a temporary file that nobody is writing.
fn remove_if_left_over(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    if file.try_lock().is_ok() {
        drop(fs::remove_file(path));
    }
}
