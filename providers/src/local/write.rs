//! Writing and removing objects.
//!
//! A put is three phases, so that a batch of small puts could share the last one:
//! 1. [`Writer::stage`]: a temporary file is written, synced, read back from the disk and hashed;
//! 2. [`Writer::publish`]: one rename (or link) gives it its name: the object is there whole or not at all;
//! 3. [`Writer::settle`]: the folders that changed are synced, so that the name survives a crash of the machine.
//!
//! Whatever ends a put before it was published, its temporary file is removed; what a killed process leaves is
//! swept by [`super::sweep`].

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, RenameFlags, Stat, fstat, fsync, ftruncate, linkat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::{Errno, writev};

use super::direct::{self, Block};
use super::errno::{translate, translate_read};
use super::read_back;
use super::root::{Folder, Root, TEMP_FOLDER};
use super::sweep;
use crate::{Body, Error, ErrorKind, Key, Proof, PutMode, Receipt, Result, Sha256};

/// How many folders a process remembers as settled. More are forgotten, which costs a few syncs.
const SETTLED_FOLDERS_MAX: usize = 4096;
/// Bodies from this size on are written past the page cache.
const DIRECT_BYTES_MIN: u64 = 256 << 10;
/// Blocks kept for later puts at most.
const BLOCKS_MAX: usize = 4;

/// A point in the life of a put, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The temporary file is there, empty.
    Created,
    /// All bytes were written to it.
    Written,
    /// It is on the disk, as the kernel says.
    Synced,
    /// It was read back and has the digest.
    Proved,
    /// It has its name.
    Published,
    /// The name is on the disk too; the put is about to return.
    Settled,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Written, Self::Synced, Self::Proved, Self::Published, Self::Settled];
}

/// Called at each [`Step`] with the path of the file that is being worked on.
pub type StepHook = Arc<dyn Fn(Step, &Path) + Send + Sync>;

/// Everything that changes the store.
pub(super) struct Writer {
    root: Arc<Root>,
    /// Folders whose own names are known to be on the disk.
    settled: Mutex<HashSet<String>>,
    /// Whether the file system can rename without replacing; cleared when it was found that it cannot.
    has_rename_new: AtomicBool,
    hook: Option<StepHook>,
    /// Memory for reading and writing past the page cache that is free.
    blocks: Mutex<Vec<Block>>,
    /// Every folder synced so far.
    #[cfg(test)]
    synced: Mutex<Vec<String>>,
}

/// A temporary file, removed when dropped.
struct Temp<'a> {
    root: &'a Root,
    folder: OwnedFd,
    name: String,
    file: OwnedFd,
    published: bool,
}

/// A change of a folder that is to be settled.
struct Published {
    folder: String,
}

impl Writer {
    pub(super) fn new(root: Arc<Root>) -> Self {
        Self {
            root,
            settled: Mutex::default(),
            has_rename_new: AtomicBool::new(true),
            hook: None,
            blocks: Mutex::default(),
            #[cfg(test)]
            synced: Mutex::default(),
        }
    }

    pub(super) fn with_hook(mut self, hook: StepHook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// See [`crate::Provider::put`].
    pub(super) fn put(&self, key: &Key, body: &Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        if mode == PutMode::CreateNew {
            self.refuse_existing(key)?;
        }
        let temp = self.stage(key, body, sha256)?;
        let published = self.publish(temp, key, mode)?;
        self.step(Step::Published, || self.root.path().join(key.as_str()));
        self.settle(&[published]).map_err(|errno| translate("put", key, errno))?;
        self.step(Step::Settled, || self.root.path().join(key.as_str()));
        Ok(Receipt { size: body.len(), sha256, proof: Proof::ReadBack, version: None })
    }

    /// See [`crate::Provider::delete`].
    pub(super) fn delete(&self, key: &Key) -> Result<()> {
        match self.unlink(key)? {
            Some(change) => self.settle(&[change]).map_err(|errno| translate("delete", key, errno)),
            None => Ok(()),
        }
    }

    /// Removes all, then settles each folder once.
    pub(super) fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let mut changes = Vec::new();
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.unlink(key).map(|change| changes.extend(change)));
        }
        if let Err(errno) = self.settle(&changes) {
            for (key, result) in keys.iter().zip(&mut results).filter(|(_, result)| result.is_ok()) {
                *result = Err(translate("delete", key, errno));
            }
        }
        results
    }

    /// Spares the writing of what is going to be refused; [`Self::publish`] decides.
    fn refuse_existing(&self, key: &Key) -> Result<()> {
        let (folder, name) = split(key);
        match self.root.open_folder(folder) {
            Ok(fd) => match look(&fd, name, key)? {
                Some(_) => Err(self.exists(key)),
                None => Ok(()),
            },
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(translate("put", key, errno)),
        }
    }

    /// `Exists` is a statement that the object is durable, and whoever put it may not have come to that yet.
    fn exists(&self, key: &Key) -> Error {
        self.settled.lock().remove(split(key).0);
        match self.settle(&[Published::at(key)]) {
            Ok(()) => Error::new(ErrorKind::Exists, "put", key, "the object is there already"),
            Err(errno) => translate("put", key, errno),
        }
    }

    fn stage(&self, key: &Key, body: &Body, sha256: Sha256) -> Result<Temp<'_>> {
        let failed = |errno| translate("put", key, errno);
        let temp = Temp::create(&self.root).map_err(failed)?;
        self.step(Step::Created, || temp.path());
        let mut block = self.blocks.lock().pop().unwrap_or_else(Block::new);
        write_body(temp.file.as_fd(), body, &mut block).map_err(failed)?;
        self.step(Step::Written, || temp.path());
        fsync(&temp.file).map_err(failed)?;
        self.step(Step::Synced, || temp.path());
        let found = read_back::digest(temp.file.as_fd(), body.len(), &mut block)
            .map_err(|errno| translate_read("put", key, errno))?;
        self.keep(block);
        if found != Some(sha256) {
            return Err(mismatch(key, body, sha256, found));
        }
        self.step(Step::Proved, || temp.path());
        Ok(temp)
    }

    fn keep(&self, block: Block) {
        let mut blocks = self.blocks.lock();
        if blocks.len() < BLOCKS_MAX {
            blocks.push(block);
        }
    }

    fn publish(&self, mut temp: Temp<'_>, key: &Key, mode: PutMode) -> Result<Published> {
        let (folder, name) = split(key);
        let Folder { fd, made } = self.root.folder(folder).map_err(|errno| translate("put", key, errno))?;
        if made {
            self.settled.lock().remove(folder);
        }
        let taken = look(&fd, name, key)?.is_some();
        if mode == PutMode::CreateNew {
            if taken || !self.name_new(&mut temp, &fd, name, key)? {
                return Err(self.exists(key));
            }
        } else {
            renameat(&temp.folder, temp.name.as_str(), &fd, name).map_err(|errno| vanished(key, errno))?;
            temp.published = true;
        }
        Ok(Published::at(key))
    }

    /// Gives the temporary file its name unless it is taken: then `false`.
    fn name_new(&self, temp: &mut Temp<'_>, folder: &OwnedFd, name: &str, key: &Key) -> Result<bool> {
        if self.has_rename_new.load(Ordering::Relaxed) {
            match renameat_with(&temp.folder, temp.name.as_str(), folder, name, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    temp.published = true;
                    return Ok(true);
                }
                Err(Errno::EXIST) => return Ok(false),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.has_rename_new.store(false, Ordering::Relaxed);
                }
                Err(errno) => return Err(vanished(key, errno)),
            }
        }
        match linkat(&temp.folder, temp.name.as_str(), folder, name, AtFlags::empty()) {
            // The temporary name is dropped with `temp`.
            Ok(()) => Ok(true),
            // A file server's answer may have been lost and the call repeated: then the file there is ours.
            Err(Errno::EXIST) => Ok(look(folder, name, key)?.is_some_and(|stat| temp.is(&stat))),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::INVAL) => {
                let reason = "this file system can neither rename without replacing nor make hard links";
                Err(Error::new(ErrorKind::Unsupported, "put", key, reason))
            }
            Err(errno) => Err(vanished(key, errno)),
        }
    }

    /// Syncs every changed folder once, and the folders above those that are not known to be on the disk.
    fn settle(&self, changes: &[Published]) -> rustix::io::Result<()> {
        let mut folders = BTreeSet::new();
        for change in changes {
            folders.insert(change.folder.as_str());
            if !self.settled.lock().contains(&change.folder) {
                folders.extend(ancestors(&change.folder));
            }
        }
        // The deepest first, so that no name gets to the disk before what it names.
        for folder in folders.iter().rev() {
            sync_folder(self.root.open_folder(folder)?.as_fd())?;
            #[cfg(test)]
            self.synced.lock().push((*folder).to_owned());
        }
        let mut settled = self.settled.lock();
        if settled.len() + changes.len() > SETTLED_FOLDERS_MAX {
            settled.clear();
        }
        settled.extend(changes.iter().map(|change| change.folder.clone()));
        Ok(())
    }

    /// Removes the name; `None` if there was none.
    fn unlink(&self, key: &Key) -> Result<Option<Published>> {
        let failed = |errno| translate("delete", key, errno);
        let (folder, name) = split(key);
        let fd = match self.root.open_folder(folder) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {}
                FileType::Symlink => return Err(failed(Errno::LOOP)),
                _ => return Ok(None),
            },
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        }
        match unlinkat(&fd, name, AtFlags::empty()) {
            Ok(()) => Ok(Some(Published::at(key))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn step<P: AsRef<Path>>(&self, step: Step, path: impl FnOnce() -> P) {
        if let Some(hook) = &self.hook {
            hook(step, path().as_ref());
        }
    }

    /// Uses the way for file systems that cannot rename without replacing.
    #[cfg(test)]
    pub(super) fn without_rename_new(self) -> Self {
        self.has_rename_new.store(false, Ordering::Relaxed);
        self
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({})", self.root.path().display())
    }
}

impl<'a> Temp<'a> {
    fn create(root: &'a Root) -> rustix::io::Result<Self> {
        let folder = root.folder(TEMP_FOLDER)?.fd;
        let (name, file) = sweep::create_temp(folder.as_fd())?;
        root.give(file.as_fd());
        Ok(Self { root, folder, name, file, published: false })
    }

    fn path(&self) -> std::path::PathBuf {
        self.root.path().join(TEMP_FOLDER).join(&self.name)
    }

    fn is(&self, stat: &Stat) -> bool {
        fstat(&self.file).is_ok_and(|ours| (ours.st_dev, ours.st_ino) == (stat.st_dev, stat.st_ino))
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        match unlinkat(&self.folder, self.name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                tracing::warn!(path = %self.path().display(), %errno, "a temporary file stays behind")
            }
        }
    }
}

impl Published {
    fn at(key: &Key) -> Self {
        Self { folder: split(key).0.to_owned() }
    }
}

/// Syncs a folder's entries to the disk, where the file system has such a thing.
pub(super) fn sync_folder(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    loop {
        match fsync(folder) {
            Err(Errno::INTR) => {}
            // Some network file systems know no sync of folders: their server answers when it is done.
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// The file at `name`, if it is one; whatever else is there cannot become an object and is an error.
fn look(folder: &OwnedFd, name: &str, key: &Key) -> Result<Option<Stat>> {
    let errno = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Ok(Some(stat)),
            FileType::Symlink => Errno::LOOP,
            _ => Errno::ISDIR,
        },
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => errno,
    };
    Err(translate("put", key, errno))
}

/// Large bodies go past the page cache where that can be; of small ones it spares nothing.
fn write_body(file: BorrowedFd<'_>, body: &Body, block: &mut Block) -> rustix::io::Result<()> {
    if body.len() >= DIRECT_BYTES_MIN {
        if direct::past_the_cache(file, || direct::write(file, body, block))?.is_some() {
            return Ok(());
        }
        // Perhaps only a later block was refused.
        ftruncate(file, 0)?;
    }
    write_all(file, body)
}

fn write_all(file: BorrowedFd<'_>, body: &Body) -> rustix::io::Result<()> {
    let mut pieces: Vec<IoSlice<'_>> = body.pieces().iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = pieces.as_mut_slice();
    // Skips empty pieces in front: with only those left, `writev` would say 0 for ever.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        // Of more pieces than the system call takes (1,024), `rustix` hands over the first.
        match writev(file, rest) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn mismatch(key: &Key, body: &Body, expected: Sha256, found: Option<Sha256>) -> Error {
    if body.sha256() == expected {
        let found = found.map_or("not as many".to_owned(), |found| format!("SHA-256 {found}"));
        let reason = format_args!("the disk gave back other bytes than were written ({found})");
        Error::new(ErrorKind::Corrupt, "put", key, reason)
    } else {
        let reason = "the bytes handed over do not have the digest handed over";
        Error::new(ErrorKind::Corrupt, "put", key, reason)
    }
}

/// A temporary file that is gone before it was published was swept by somebody: the put may be tried again.
fn vanished(key: &Key, errno: Errno) -> Error {
    match errno {
        Errno::NOENT => {
            let reason = "the temporary file was removed while it was written";
            Error::new(ErrorKind::Transient, "put", key, reason).with_source(errno)
        }
        errno => translate("put", key, errno),
    }
}

fn split(key: &Key) -> (&str, &str) {
    key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()))
}

/// The folders above this one, the root (the empty path) included.
fn ancestors(folder: &str) -> impl Iterator<Item = &str> {
    let parent = |path: &str| path.rfind('/').unwrap_or(0);
    std::iter::successors((!folder.is_empty()).then_some(folder), move |path| {
        (!path.is_empty()).then(|| &path[..parent(path)])
    })
    .skip(1)
}

#[cfg(test)]
mod tests;
