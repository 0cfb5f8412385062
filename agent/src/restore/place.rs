//! Directories of the target, made when something lands in them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Run;
use super::delete::is_other_mount;
use crate::events::Event;
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
    /// The mode it had, if that was changed so that it can be read or written to.
    loosened: OnceLock<u32>,
    /// It was there before, and its metadata is not asked for.
    keeps_metadata: AtomicBool,
    /// It lies on another file system than the target.
    elsewhere: AtomicBool,
    /// The restore is asked for it, not only for something in it.
    included: bool,
}

impl Place {
    /// The target.
    pub(super) fn root(directory: Option<OwnedFd>, path: &[u8], meta: Option<(Meta, Arc<Owners>)>) -> Self {
        let place = Self {
            up: None,
            name: Box::default(),
            path: path.to_vec(),
            meta,
            directory: OnceLock::new(),
            inherited: OnceLock::new(),
            loosened: OnceLock::new(),
            keeps_metadata: AtomicBool::new(false),
            elsewhere: AtomicBool::new(false),
            included: true,
        };
        // A new cell is empty, so this cannot fail.
        let _ = directory.map(|directory| place.directory.set(directory));
        place
    }

    /// A directory that is not made yet.
    pub(super) fn below(
        up: &Arc<Self>,
        name: &[u8],
        path: &[u8],
        (meta, owners): (Meta, &Arc<Owners>),
        included: bool,
    ) -> Self {
        Self {
            up: Some(up.clone()),
            name: name.into(),
            path: path.to_vec(),
            meta: Some((meta, owners.clone())),
            directory: OnceLock::new(),
            inherited: OnceLock::new(),
            loosened: OnceLock::new(),
            keeps_metadata: AtomicBool::new(false),
            elsewhere: AtomicBool::new(false),
            included,
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

    /// The mode it had, if that was changed.
    pub(super) fn mode_before(&self) -> Option<u32> {
        self.loosened.get().copied()
    }

    /// Whether its metadata stays as it was.
    pub(super) fn keeps_metadata(&self) -> bool {
        self.keeps_metadata.load(Ordering::Acquire)
    }

    /// Whether it lies on another file system than the target.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere.load(Ordering::Acquire)
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
            match create::open_dir_to_read(parent, &place.name) {
                Ok((fd, before)) => {
                    before.map(|mode| place.loosened.set(mode));
                    Some(fd)
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                Err(e) => return Err(Error::io("cannot open the directory", e)),
            }
        } else if self.options.dry_run {
            capture::open_dir(parent, &place.name).ok()
        } else {
            Some(self.make(parent, place)?)
        };
        if let Some(fd) = opened {
            let elsewhere = up.is_elsewhere()
                || is_other_mount(parent, &fd).map_err(|e| Error::io("cannot look at the directory", e))?;
            place.elsewhere.store(elsewhere, Ordering::Release);
            // Only the thread that walks the tree comes here.
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
            EnsuredDir::Existing(fd, before) => {
                // It must take new entries; its own mode is set again at the end.
                let changed = create::make_writable(fd.as_fd()).map_err(|e| Error::io(what, e))?;
                before.or(changed).map(|mode| place.loosened.set(mode));
                let keeps = !place.included || self.overwrite == super::Overwrite::Never;
                place.keeps_metadata.store(keeps, Ordering::Release);
                Ok(fd)
            }
            EnsuredDir::InTheWay(kind)
                if self.may_replace(parent, &place.name, kind)
                    && self.overwrite != super::Overwrite::IfNewer =>
            {
                self.context.report(Event::Path { action: "replaced", path: place.path.clone(), bytes: 0 });
                remove::remove_entry(parent, &place.name).map_err(|e| Error::io(what, e))?;
                match create::ensure_dir(parent, &place.name).map_err(|e| Error::io(what, e))? {
                    EnsuredDir::Created(fd, _) | EnsuredDir::Existing(fd, _) => Ok(fd),
                    EnsuredDir::InTheWay(kind) => Err(self.in_the_way(kind)),
                }
            }
            EnsuredDir::InTheWay(kind) => Err(self.in_the_way(kind)),
        }
    }

    /// The error of what has a name and may not be removed to make room.
    pub(super) fn in_the_way(&self, kind: FileType) -> Error {
        let error = Error::failed(format_args!("{} is in the way", kind.describe()));
        error.with_hint(match kind {
            FileType::Directory if self.options.delete => {
                "Move away the directory that is in the way: lifeboat needs what is in it."
            }
            FileType::Directory => {
                "Move away the directory that is in the way, or use --delete if it may go."
            }
            _ => "Move away what is in the way, or use --overwrite always if it may go.",
        })
    }

    /// Whether something of another type may be removed to make room: never a directory with all below it, unless `--delete`.
    pub(super) fn may_replace(&self, parent: BorrowedFd<'_>, name: &[u8], kind: FileType) -> bool {
        match kind {
            FileType::Directory => self.options.delete && !self.spared.has(parent, name),
            _ => self.overwrite != super::Overwrite::Never,
        }
    }
}
