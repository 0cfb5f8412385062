//! The store's root folder, and the only way by which paths below it are opened.
//!
//! Invariant: no function here follows a symbolic link below the root or leaves the root. A link in the way is
//! `ELOOP`, whichever way it was noticed.

use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, mkdirat, openat, openat2,
    statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::errno::translate;
use crate::{Error, ErrorKind, Result};

/// Folder of temporary files below the root. Its name begins with a dot, so that no key can spell it.
pub(super) const TEMP_FOLDER: &str = ".tmp";

pub(super) const FOLDER_MODE: Mode = Mode::RWXU;

/// `openat2` answers `EAGAIN` when a rename anywhere on the system races with it.
const RESOLVE_ATTEMPTS_MAX: usize = 64;

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// An open handle of the root folder.
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    has_openat2: bool,
    /// Who is given what is made here, if that is somebody else.
    owner: Option<(Uid, Gid)>,
}

/// A folder that was opened to have an object put into it.
pub(super) struct Folder {
    /// The open folder.
    pub(super) fd: OwnedFd,
    /// Whether it, or a folder above it, was made just now.
    pub(super) made: bool,
}

impl Root {
    /// Makes the folder if it is not there, and opens it.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let subject = path.display();
        match mkdirat(CWD, path, FOLDER_MODE) {
            Ok(()) => sync_parent(path).map_err(|errno| translate("create", &subject, errno))?,
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => {
                let reason = "its parent folder is missing; make it, or mount the disk it should be on";
                return Err(Error::new(ErrorKind::Misconfigured, "create", subject, reason));
            }
            Err(errno) => return Err(translate("create", &subject, errno)),
        }
        let root = Self::open(path, "create")?;
        root.folder(TEMP_FOLDER).map_err(|errno| translate("create", &subject, errno))?;
        Ok(root)
    }

    /// Opens the folder, which must be there.
    pub(super) fn open(path: &Path, operation: &'static str) -> Result<Self> {
        let subject = path.display();
        let fd = match openat(CWD, path, FOLDER_FLAGS | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                let reason = "no such folder; is the disk mounted, the path right?";
                return Err(Error::new(ErrorKind::NotFound, operation, subject, reason));
            }
            Err(Errno::NOTDIR) => {
                return Err(Error::new(ErrorKind::Misconfigured, operation, subject, "it is not a folder"));
            }
            Err(errno) => return Err(translate(operation, &subject, errno)),
        };
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let has_openat2 = probe_openat2(fd.as_fd());
        let owner = foreign_owner(fd.as_fd());
        Ok(Self { fd, path, has_openat2, owner })
    }

    /// The root as an absolute path, for messages and [`crate::Capabilities::local_root`].
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open root folder.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens what lies at `path`, which is made of key segments or is empty for the root itself.
    pub(super) fn open_at(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        if self.has_openat2 {
            open_beneath(self.fd(), path, flags)
        } else {
            open_stepwise(self.fd(), path, flags)
        }
    }

    /// Opens a folder.
    pub(super) fn open_folder(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.open_at(path, FOLDER_FLAGS)
    }

    /// Opens a folder, making it and those above it where they are missing.
    pub(super) fn folder(&self, path: &str) -> rustix::io::Result<Folder> {
        match self.open_folder(path) {
            Ok(fd) => return Ok(Folder { fd, made: false }),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let mut fd = self.open_folder("")?;
        for name in path.split('/') {
            let made = match mkdirat(&fd, name, FOLDER_MODE) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(errno),
            };
            fd = open_one(fd.as_fd(), name, FOLDER_FLAGS)?;
            // Also one that root made before, and was killed before it gave it.
            if made || self.owner.is_some() && fstat(&fd).is_ok_and(|stat| stat.st_uid == 0) {
                self.give(fd.as_fd());
            }
        }
        Ok(Folder { fd, made: true })
    }

    /// Gives what was made just now to the owner of the store: when root writes into the store of a service, the service has to be able to read
    /// it. A file system that has no owners, or gives nothing away, stays as it is.
    pub(super) fn give(&self, made: BorrowedFd<'_>) {
        if let Some((user, group)) = self.owner {
            let _ = fchown(made, Some(user), Some(group));
        }
    }

    /// Uses the resolution for kernels without `openat2`.
    #[cfg(test)]
    pub(super) fn without_openat2(mut self) -> Self {
        self.has_openat2 = false;
        self
    }
}

/// The owner of a folder, where this process is root and the folder somebody else's.
fn foreign_owner(folder: BorrowedFd<'_>) -> Option<(Uid, Gid)> {
    let stat = fstat(folder).ok().filter(|stat| geteuid().is_root() && stat.st_uid != 0)?;
    Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)))
}

/// Opens one name in a folder, which must not be a symbolic link.
pub(super) fn open_one(folder: BorrowedFd<'_>, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        // With O_DIRECTORY a link is "not a directory": tell the two apart.
        Err(Errno::NOTDIR) if is_symlink(folder, name) => Err(Errno::LOOP),
        result => result,
    }
}

/// Whether system calls of that kind work here: old kernels lack `openat2`, some sandboxes forbid it.
fn probe_openat2(root: BorrowedFd<'_>) -> bool {
    !matches!(
        open_beneath(root, ".", FOLDER_FLAGS),
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG)
    )
}

fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // Without O_NOFOLLOW, which would hide a link at the path's end from NO_SYMLINKS.
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..RESOLVE_ATTEMPTS_MAX {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// One component after the other, none followed if it is a link. Keys have no `..`, so this stays beneath.
fn open_stepwise(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let Some((folders, name)) = path.rsplit_once('/') else {
        return open_one(root, path, flags);
    };
    let mut folder = open_one(root, ".", FOLDER_FLAGS)?;
    for segment in folders.split('/') {
        folder = open_one(folder.as_fd(), segment, FOLDER_FLAGS)?;
    }
    open_one(folder.as_fd(), name, flags)
}

fn is_symlink(folder: BorrowedFd<'_>, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn sync_parent(path: &Path) -> rustix::io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fd = openat(CWD, parent, FOLDER_FLAGS | OFlags::CLOEXEC, Mode::empty())?;
    super::write::sync_folder(fd.as_fd())
}
