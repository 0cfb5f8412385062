//! How a file's data gets under its name.
//!
//! What is there stays untouched, and under its name, until all of the new data is beside it under another name, which then takes its place
//! at once. So a restore that is killed, or finds its stored data damaged half-way, costs nobody a file he had. Only a new file of one chunk
//! is written under its own name: that is one call. What a killed restore leaves under the other name is gone on with by the next restore
//! of the same snapshot.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use parking_lot::{RwLock, RwLockReadGuard, RwLockUpgradableReadGuard};

use crate::fs::create::Inherited;
use crate::fs::{FileType, Stat, capture, create, ranges, remove};
use crate::tree::{Content, Entry};
use crate::{Error, Result};

use lifeboat_providers::Sha256;

/// Beginning of the name under which a file is written. The rest depends on the snapshot and the file's name, so that no snapshot holds an
/// entry of that name for another file.
const PARTIAL_PREFIX: &str = ".lifeboat-partial-";

/// The name under which the file `name` of a snapshot is written until it is whole.
pub(super) fn partial_name(snapshot: &Sha256, name: &[u8]) -> Box<[u8]> {
    let hash = blake3::Hasher::new().update(snapshot.to_string().as_bytes()).update(name).finalize().to_hex();
    let short = hash.as_str().get(..24).unwrap_or_default();
    format!("{PARTIAL_PREFIX}{short}").into_bytes().into()
}

/// Whether a content is written by one call: nothing of it is ever half there.
pub(super) fn is_one_chunk(content: &Content) -> bool {
    content.level == 0 && matches!(content.extents.as_slice(), [] | [crate::tree::Extent { id: Some(_), .. }])
}

/// A file's place in its directory.
pub(super) struct Landing {
    name: Box<[u8]>,
    partial: Box<[u8]>,
    size: u64,
    /// What has the name.
    there: Option<Stat>,
    /// What a new file has from the start, if its directory is new too.
    inherited: Option<Inherited>,
    /// It has names elsewhere that are not the snapshot's: it is replaced, never changed.
    shared: bool,
    /// An interrupted restore left this much of it.
    begun: bool,
    one_chunk: bool,
    /// A new file of one chunk may be written under its own name.
    at_once: bool,
    /// It is restored, not only verified.
    may_write: bool,
    handle: RwLock<Handle>,
}

enum Handle {
    Closed,
    /// The file that is there: compared with, never written.
    There(OwnedFd),
    Written {
        file: OwnedFd,
        /// It has its own name already.
        named: bool,
    },
}

impl Handle {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Closed => None,
            Self::There(file) | Self::Written { file, .. } => Some(file.as_fd()),
        }
    }

    const fn is_written(&self) -> bool {
        matches!(self, Self::Written { .. })
    }
}

impl Landing {
    /// The place of `entry`, a file of `content`, in the directory `parent`, where `there` has its name.
    pub(super) fn new(
        parent: BorrowedFd<'_>,
        snapshot: &Sha256,
        entry: &Entry,
        content: &Content,
        there: Option<Stat>,
        (inherited, may_write, at_once): (Option<Inherited>, bool, bool),
    ) -> Self {
        let partial = partial_name(snapshot, &entry.name);
        let one_chunk = is_one_chunk(content);
        // Another name of the file would be somebody's try to have us write elsewhere.
        let is_ours = |stat: Stat| stat.kind == FileType::File && stat.meta.links == 1;
        let begun = inherited.is_none()
            && may_write
            && !one_chunk
            && capture::stat(parent, &partial).is_ok_and(is_ours);
        Self {
            name: entry.name.clone(),
            partial,
            size: entry.bytes(),
            shared: there.as_ref().is_some_and(|stat| stat.meta.links > entry.meta.links),
            there,
            inherited,
            begun,
            one_chunk,
            at_once,
            may_write,
            handle: RwLock::new(Handle::Closed),
        }
    }

    /// What has the name now.
    fn there(&self) -> Option<FileType> {
        self.there.as_ref().map(|stat| stat.kind)
    }

    /// Whether there are bytes that may be right already.
    pub(super) fn compares(&self) -> bool {
        self.begun || self.there() == Some(FileType::File)
    }

    /// Calls `act` with the file whose bytes are compared: the one that is there, or what was written of the new one.
    pub(super) fn read<T>(
        &self,
        parent: BorrowedFd<'_>,
        act: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Result<T> {
        let handle = self.opened(parent)?;
        let file = handle.fd().ok_or_else(|| Error::failed("it is not there"))?;
        act(file).map_err(|e| Error::io("cannot read it", e))
    }

    /// Calls `act` with the file to be written.
    pub(super) fn write<T>(
        &self,
        parent: BorrowedFd<'_>,
        act: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Result<T> {
        let handle = self.writable(parent, !self.one_chunk)?;
        let file = handle.fd().ok_or_else(|| Error::failed("it is not there"))?;
        act(file).map_err(|e| Error::io("cannot write it", e))
    }

    /// Calls `apply` with the file, which has all its data, to give it its metadata; then gives it its name. Returns whether anything
    /// was written.
    pub(super) fn finish(
        &self,
        parent: BorrowedFd<'_>,
        apply: impl FnOnce(BorrowedFd<'_>, Option<Inherited>) -> io::Result<()>,
    ) -> Result<bool> {
        let as_it_is = self.there.as_ref().is_some_and(|stat| {
            stat.kind == FileType::File && stat.size == self.size && !self.shared && !self.begun
        });
        let handle = if as_it_is { self.opened(parent)? } else { self.writable(parent, true)? };
        let file = handle.fd().ok_or_else(|| Error::failed("it is not there"))?;
        let applied = apply(file, self.inherited);
        if let Handle::Written { file, named: false } = &*handle {
            self.take_name(parent, file.as_fd())?;
        }
        let wrote = handle.is_written();
        drop(handle);
        self.close();
        applied.map_err(|e| Error::io("its data is restored, its metadata is not", e))?;
        Ok(wrote)
    }

    fn take_name(&self, parent: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<()> {
        let io = |e: io::Error| Error::io("cannot put it in its place", e);
        let Some(kind) = self.there() else {
            // Two names of the snapshot may be one to this file system: the second must not replace the first.
            return create::rename_new(parent, &self.partial, &self.name).map_err(io);
        };
        // Only when the new data is on the disk may the old go.
        if matches!(kind, FileType::File | FileType::Directory) {
            rustix::fs::fdatasync(file).map_err(|e| io(e.into()))?;
        }
        if kind == FileType::Directory {
            remove::remove_entry(parent, &self.name).map_err(io)?;
        }
        rustix::fs::renameat(parent, &*self.partial, parent, &*self.name).map_err(|e| io(e.into()))
    }

    /// Closes the file as it is.
    pub(super) fn close(&self) {
        *self.handle.write() = Handle::Closed;
    }

    /// Gives up: removes what was written, or gives it the name `aside` if that is free. Returns whether it has that name now.
    pub(super) fn give_up(&self, parent: BorrowedFd<'_>, aside: Option<&[u8]>) -> Result<bool> {
        let handle = std::mem::replace(&mut *self.handle.write(), Handle::Closed);
        let Handle::Written { named, .. } = handle else { return Ok(false) };
        let written = if named { &self.name } else { &self.partial };
        match aside.map(|aside| create::rename_new(parent, written, aside)) {
            Some(Ok(())) => return Ok(true),
            // An earlier restore put it there.
            Some(Err(e)) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Some(Err(e)) => {
                let name = crate::tree::path_text::display(written);
                return Err(Error::io(format_args!("what could be had of it stays in {name} beside it"), e));
            }
            None => {}
        }
        remove::remove_entry(parent, written)
            .map_err(|e| Error::io("cannot remove what was written of it", e))?;
        Ok(false)
    }

    /// The handle, not closed.
    fn opened(&self, parent: BorrowedFd<'_>) -> Result<RwLockReadGuard<'_, Handle>> {
        let handle = self.handle.upgradable_read();
        if handle.fd().is_some() {
            return Ok(RwLockUpgradableReadGuard::downgrade(handle));
        }
        let opened =
            if self.begun { self.written(parent, None)? } else { Handle::There(self.open_there(parent)?) };
        let mut handle = RwLockUpgradableReadGuard::upgrade(handle);
        *handle = opened;
        Ok(parking_lot::RwLockWriteGuard::downgrade(handle))
    }

    /// The handle, of a file to be written, which has the data of the one that is there if that is to be kept.
    fn writable(&self, parent: BorrowedFd<'_>, keep: bool) -> Result<RwLockReadGuard<'_, Handle>> {
        let handle = self.handle.upgradable_read();
        if handle.is_written() {
            return Ok(RwLockUpgradableReadGuard::downgrade(handle));
        }
        let written = match &*handle {
            Handle::There(there) if keep => self.written(parent, Some(there.as_fd()))?,
            // Of what is there, nothing was looked at so far.
            Handle::Closed if keep && self.there() == Some(FileType::File) && !self.begun => {
                let there = self.open_there(parent)?;
                self.written(parent, Some(there.as_fd()))?
            }
            _ => self.written(parent, None)?,
        };
        let mut handle = RwLockUpgradableReadGuard::upgrade(handle);
        *handle = written;
        Ok(parking_lot::RwLockWriteGuard::downgrade(handle))
    }

    fn open_there(&self, parent: BorrowedFd<'_>) -> Result<OwnedFd> {
        let file = create::open_to_read(parent, &self.name)
            .map_err(|e| Error::io("cannot open the file that is there", e))?;
        if !self.may_write {
            // What is verified is what the disk has. Advice: where it is refused, the cache is compared.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
        Ok(file)
    }

    /// Makes the file to be written: empty, or with the data of the one that is there.
    fn written(&self, parent: BorrowedFd<'_>, there: Option<BorrowedFd<'_>>) -> Result<Handle> {
        let io = |e: io::Error| Error::io("cannot make it", e);
        if self.one_chunk && self.there.is_none() && self.at_once {
            let file = create::create_file(parent, &self.name).map_err(io)?;
            return Ok(Handle::Written { file, named: true });
        }
        let begun = if self.begun { create::open_file_to_change(parent, &self.partial).ok() } else { None };
        let file = match begun {
            Some(file) => file,
            None => {
                if self.inherited.is_none() {
                    // Of another try, or one that had its final mode already.
                    remove::remove_entry(parent, &self.partial).map_err(io)?;
                }
                create::create_file(parent, &self.partial).map_err(io)?
            }
        };
        let filled = self.fill(file.as_fd(), there);
        if filled.is_err() {
            // Whatever comes of that: the first error is the one to tell.
            let _ = remove::remove_entry(parent, &self.partial);
        }
        filled.map(|()| Handle::Written { file, named: false })
    }

    /// Gives the file to be written its size, and the data of the one that is there.
    fn fill(&self, file: BorrowedFd<'_>, there: Option<BorrowedFd<'_>>) -> Result<()> {
        if let Some(there) = there {
            ranges::copy_data(there, file, self.size)
                .map_err(|e| Error::io("cannot copy what is there", e))?;
            let now = capture::stat_fd(there).map_err(|e| Error::io("cannot look at what is there", e))?;
            let moment = |stat: &Stat| (stat.size, stat.meta.mtime, stat.meta.ctime);
            if self.there.as_ref().is_some_and(|then| moment(then) != moment(&now)) {
                return Err(Error::failed("the file that is there was changed while it was being replaced")
                    .with_hint("Stop whatever writes to it, and restore it once more."));
            }
        }
        rustix::fs::ftruncate(file, self.size).map_err(|e| Error::io("cannot make it", e))
    }
}
