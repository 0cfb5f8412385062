//! What is never backed up: the repository that is written to, and what this machine keeps beside it.

use std::path::Path;

use crate::repository::Repository;

/// The directories of one repository that are there on this machine, by device and inode.
#[derive(Debug, Default)]
pub(super) struct OwnDirectories {
    repository: Option<(u64, u64)>,
    cache: Option<(u64, u64)>,
    state: Option<(u64, u64)>,
}

impl OwnDirectories {
    pub(super) fn of(repository: &Repository) -> Self {
        let directories = repository.directories();
        Self {
            repository: repository.store().capabilities().local_root.as_deref().and_then(identity),
            cache: identity(&directories.cache),
            state: identity(&directories.state),
        }
    }

    /// Device and inode of the repository's own, if it is a local one.
    pub(super) const fn repository(&self) -> Option<(u64, u64)> {
        self.repository
    }

    /// What a directory is, if it is one of them.
    pub(super) fn describe(&self, device: u64, inode: u64) -> Option<&'static str> {
        let directory = Some((device, inode));
        if directory == self.repository {
            Some("this repository itself")
        } else if directory == self.cache {
            Some("this repository's cache")
        } else if directory == self.state {
            Some("what lifeboat remembers of this repository here")
        } else {
            None
        }
    }
}

/// `None` for what is not there: it cannot be met either.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
