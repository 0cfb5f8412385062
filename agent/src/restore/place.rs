//! Directories of the target, made when something lands in them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Run;
use crate::fs::create::{self, EnsuredDir, Inherited};
use crate::fs::{FileType, capture, remove};
use crate::tree::Meta;
use crate::tree::node::Names;
use crate::{Error, Result};

/// Names of a node's owners.
#[derive(Debug, Default)]
pub(super) struct Owners {
    pub(super) users: Names,
    pub(super) groups: Names,
}

/// A directory below the target.
pub(super) struct Place {
    pub(super) up: Option<Arc<Place>>,
    pub(super) name: Box<[u8]>,
    /// Path in the snapshot, for messages.
    pub(super) path: Vec<u8>,
    /// The directory's metadata; `None` for the target itself when it was there before.
    pub(super) meta: Option<(Meta, Arc<Owners>)>,
    directory: OnceLock<OwnedFd>,
    /// It was made just now, so it is empty, and this is what its files will have.
    inherited: OnceLock<Inherited>,
    /// Its mode was changed so that it can be read back.
    loosened: AtomicBool,
}

impl Place {
    /// The target.
    pub(super) fn root(directory: OwnedFd, path: &[u8], meta: Option<(Meta, Arc<Owners>)>) -> Self {
        let place = Self {
            up: None,
            name: Box::default(),
            path: path.to_vec(),
            meta,
            directory: OnceLock::new(),
            inherited: OnceLock::new(),
            loosened: AtomicBool::new(false),
        };
        // A new cell is empty, so this cannot fail.
        let _ = place.directory.set(directory);
        place
    }

    /// A directory that is not made yet.
    pub(super) fn below(up: &Arc<Self>, name: &[u8], path: &[u8], meta: Meta, owners: &Arc<Owners>) -> Self {
        Self {
            up: Some(up.clone()),
            name: name.into(),
            path: path.to_vec(),
            meta: Some((meta, owners.clone())),
            directory: OnceLock::new(),
            inherited: OnceLock::new(),
            loosened: AtomicBool::new(false),
        }
    }

    /// The open directory, if it was made or found.
    pub(super) fn opened(&self) -> Option<BorrowedFd<'_>> {
        self.directory.get().map(|fd| fd.as_fd())
    }

    /// What its new files have from the start, if it was made by this restore: then there is nothing in it but what was restored.
    pub(super) fn inherited(&self) -> Option<Inherited> {
        self.inherited.get().copied()
    }

    /// Whether its metadata must be applied once more.
    pub(super) fn is_loosened(&self) -> bool {
        self.loosened.load(Ordering::Acquire)
    }
}

impl Run<'_> {
    /// The open directory of a place, made with its parents if need be. `None` if it is not there and may not be made (dry run).
    pub(super) fn ensure<'p>(&self, place: &'p Place) -> Result<Option<BorrowedFd<'p>>> {
        if let Some(fd) = place.opened() {
            return Ok(Some(fd));
        }
        let Some(up) = &place.up else { return Ok(None) };
        let Some(parent) = self.ensure(up)? else { return Ok(None) };
        let opened = if self.verifying {
            create::open_dir_to_read(parent, &place.name).ok().map(|(fd, loosened)| {
                place.loosened.store(loosened, Ordering::Release);
                fd
            })
        } else if self.options.dry_run {
            capture::open_dir(parent, &place.name).ok()
        } else {
            Some(self.make(parent, place)?)
        };
        if let Some(fd) = opened {
            // Another thread may have been faster: its descriptor serves as well.
            let _ = place.directory.set(fd);
        }
        Ok(place.opened())
    }

    fn make(&self, parent: BorrowedFd<'_>, place: &Place) -> Result<OwnedFd> {
        let what = "cannot make the directory";
        match create::ensure_dir(parent, &place.name).map_err(|e| Error::io(what, e))? {
            EnsuredDir::Created(fd, inherited) => {
                if let Some(inherited) = inherited {
                    // Nobody else makes this place.
                    let _ = place.inherited.set(inherited);
                }
                Ok(fd)
            }
            EnsuredDir::Existing(fd) => {
                // It must take new entries; its own mode is set again at the end.
                create::make_writable(fd.as_fd()).map_err(|e| Error::io(what, e))?;
                Ok(fd)
            }
            EnsuredDir::InTheWay(kind) if self.may_replace(kind) => {
                remove::remove_entry(parent, &place.name).map_err(|e| Error::io(what, e))?;
                match create::ensure_dir(parent, &place.name).map_err(|e| Error::io(what, e))? {
                    EnsuredDir::Created(fd, _) | EnsuredDir::Existing(fd) => Ok(fd),
                    EnsuredDir::InTheWay(kind) => Err(in_the_way(kind)),
                }
            }
            EnsuredDir::InTheWay(kind) => Err(in_the_way(kind)),
        }
    }

    /// Whether something of another type may be removed to make room: never a directory with all below it, unless `--delete`.
    pub(super) fn may_replace(&self, kind: FileType) -> bool {
        match kind {
            FileType::Directory => self.options.delete,
            _ => self.overwrite != super::Overwrite::Never,
        }
    }
}

pub(super) fn in_the_way(kind: FileType) -> Error {
    Error::failed(format_args!("{} is in the way", kind.describe()))
        .with_hint("Move it away, or use --delete if it may go.")
}
