//! What one repository takes up on this machine: never backed up into it, never deleted by a restore from it.

use std::path::{Path, PathBuf};

use super::Repository;

/// The directories of one repository that are there on this machine.
#[derive(Debug, Clone, Default)]
pub struct OwnDirectories(Vec<OwnDirectory>);

#[derive(Debug, Clone)]
struct OwnDirectory {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    what: &'static str,
}

impl OwnDirectories {
    /// Those that are there now: what is not there cannot be met either.
    pub fn of(repository: &Repository) -> Self {
        let directories = repository.directories();
        let mut own = Self::default();
        if let Some(root) = repository.store().capabilities().local_root {
            own = own.with(&root, "this repository itself");
        }
        own.with(directories.cache_of_all_places(), "this repository's cache")
            .with(&directories.state, "what lifeboat remembers of this repository here")
    }

    /// One more, if it is there.
    #[must_use]
    pub fn with(mut self, path: &Path, what: &'static str) -> Self {
        if let Ok(stat) = rustix::fs::stat(path) {
            let path = path.to_path_buf();
            self.0.push(OwnDirectory { path, identity: (stat.st_dev, stat.st_ino), what });
        }
        self
    }

    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|directory| directory.path.as_path())
    }

    /// What a directory is, if it is one of them.
    pub fn describe(&self, device: u64, inode: u64) -> Option<&'static str> {
        self.0.iter().find(|own| own.identity == (device, inode)).map(|own| own.what)
    }

    /// Whether one of them may have this inode, on whatever device.
    pub fn has_inode(&self, inode: u64) -> bool {
        self.0.iter().any(|own| own.identity.1 == inode)
    }

    /// What the directory is that a path lies in or leads to, if it is one of them.
    pub fn holding(&self, path: &Path) -> Option<&'static str> {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        real.ancestors().find_map(|place| {
            let stat = rustix::fs::lstat(place).ok()?;
            self.describe(stat.st_dev, stat.st_ino)
        })
    }
}
