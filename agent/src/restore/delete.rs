//! `--delete`: removes what is in restored directories and not in the snapshot. Only where the snapshot knows everything that there was.
//!
//! Never removed: this repository, its cache and state, what is in them and whatever they lie in; anything on another file system than the
//! target's; what lies in directories that were not themselves backed up (those on the way to what was); anything at all once something
//! could not be restored.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::Run;
use super::place::Place;
use crate::events::{Counters, Event};
use crate::fetch::walk::components;
use crate::fs::{DirEntry, FileType, capture, remove};
use crate::repository::{OwnDirectories, Repository};
use crate::tree::path_text;

/// Directories in which nothing must be removed, and those above them, which must stay: device and inode.
#[derive(Debug, Default)]
pub(super) struct Spared {
    directories: HashSet<(u64, u64)>,
    above: HashSet<(u64, u64)>,
}

impl Spared {
    /// What this program needs to restore.
    pub(super) fn of(repository: &Repository) -> Self {
        let mut spared = Self::default();
        OwnDirectories::of(repository).paths().for_each(|path| spared.add(path));
        spared
    }

    fn add(&mut self, path: &Path) {
        // What is not there cannot be removed.
        let Ok(real) = std::fs::canonicalize(path) else { return };
        for (level, path) in real.ancestors().enumerate() {
            if let Ok(metadata) = std::fs::metadata(path) {
                let set = if level == 0 { &mut self.directories } else { &mut self.above };
                set.insert((metadata.dev(), metadata.ino()));
            }
        }
    }

    /// Whether an entry is one of them. One that cannot be looked at may be.
    pub(super) fn has(&self, directory: BorrowedFd<'_>, name: &[u8]) -> bool {
        match capture::stat(directory, name) {
            Ok(stat) => {
                let entry = (stat.meta.device, stat.meta.inode);
                self.directories.contains(&entry) || self.above.contains(&entry)
            }
            Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Whether a directory is or lies in one in which nothing must be removed. One whose way up cannot be gone may.
    fn holds(&self, directory: BorrowedFd<'_>) -> bool {
        self.holds_below_root(directory).unwrap_or(true)
    }

    fn holds_below_root(&self, directory: BorrowedFd<'_>) -> std::io::Result<bool> {
        let identity = |fd: BorrowedFd<'_>| {
            let stat = rustix::fs::fstat(fd)?;
            std::io::Result::Ok((stat.st_dev, stat.st_ino))
        };
        let mut here = identity(directory)?;
        let mut fd = directory.try_clone_to_owned()?;
        while !self.directories.contains(&here) {
            fd = rustix::fs::openat(
                &fd,
                "..",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let up = identity(fd.as_fd())?;
            // The root is its own parent.
            if up == here {
                return Ok(false);
            }
            here = up;
        }
        Ok(true)
    }
}

impl Run<'_> {
    /// Whether the snapshot knows all that was in the directory at `path`: one of the backed up paths, or below one.
    pub(super) fn knows_all_of(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = components(path).collect();
        self.snapshot.manifest.path_bytes().iter().any(|root| {
            let root: Vec<&[u8]> = components(root).collect();
            names.starts_with(&root)
        })
    }

    /// Removes what is in a directory and not among `kept`, which is sorted.
    pub(super) fn delete_others(&self, place: &Place, kept: &[Box<[u8]>]) {
        let Some(fd) = place.opened() else { return };
        let path: &[u8] = &place.path;
        let names = match capture::read_names(fd) {
            Ok(names) => names,
            Err(e) => return self.failed_io(path, "cannot list it to delete what is not in the snapshot", e),
        };
        let (known, foreign): (Vec<DirEntry>, Vec<DirEntry>) =
            names.into_iter().partition(|name| kept.binary_search(&name.name).is_ok());
        if foreign.is_empty() {
            return;
        }
        let shown = path_text::display(path);
        if Counters::get(&self.tally.failed) > 0 {
            return self.warn(format_args!("nothing is deleted in {shown}: something could not be restored"));
        }
        if self.spared.holds(fd) {
            return self.warn(format_args!("nothing is deleted in {shown}: lifeboat needs what is in it"));
        }
        if place.is_elsewhere() {
            return self.warn(format_args!("nothing is deleted in {shown}: it is on another file system"));
        }
        // A name of the snapshot that is there and not listed is listed in other words: as one that must not go, perhaps.
        let listed = |name: &[u8]| known.binary_search_by(|entry| (*entry.name).cmp(name)).is_ok();
        if kept.iter().any(|name| !listed(name) && capture::stat(fd, name).is_ok()) {
            return self.warn(format_args!(
                "nothing is deleted in {shown}: its file system takes different names for one"
            ));
        }
        for name in foreign {
            self.delete(fd, path, &name);
        }
    }

    fn delete(&self, directory: BorrowedFd<'_>, path: &[u8], name: &DirEntry) {
        let child = [path, b"/", &name.name].concat();
        let kind = name.kind.or_else(|| capture::stat(directory, &name.name).ok().map(|stat| stat.kind));
        let is_dir = kind.is_none_or(|kind| kind == FileType::Directory);
        if !self.selection.includes(&child, is_dir) || self.selection.excludes(&child, is_dir) {
            return;
        }
        // What goes is named by where it is, not by where the snapshot has its directory.
        let here = capture::path_of(directory)
            .map_or_else(|| child.clone(), |path| [&*path, b"/", &*name.name].concat());
        if self.spared.has(directory, &name.name) {
            let here = path_text::display(&here);
            return self.warn(format_args!("{here} is not deleted: lifeboat needs what is in it"));
        }
        self.context.report(Event::Path { action: "deleted", path: here, bytes: 0 });
        if !self.options.dry_run
            && let Err(e) = remove::remove_entry(directory, &name.name)
        {
            return self.failed_io(&child, "cannot delete it", e);
        }
        Counters::add(&self.tally.deleted, 1);
    }

    pub(super) fn warn(&self, message: std::fmt::Arguments<'_>) {
        self.context.report(Event::Warning(message.to_string()));
    }
}

/// Whether a directory lies on another mount than the one it is reached from.
pub(super) fn is_other_mount(
    parent: BorrowedFd<'_>,
    directory: &impl std::os::fd::AsFd,
) -> std::io::Result<bool> {
    let (above, below) = (capture::stat_fd(parent)?, capture::stat_fd(directory.as_fd())?);
    Ok((above.mount, above.meta.device) != (below.mount, below.meta.device))
}
