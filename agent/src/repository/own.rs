//! What one repository takes up on this machine, with all its destinations: never backed up into it, never deleted by a restore from it.

use std::path::{Path, PathBuf};

use super::Repository;

/// The directories of one repository, at all its destinations, that are there on this machine.
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
        Self::destinations(repository)
            .with(directories.cache_of_all_places(), "this repository's cache")
            .with(&directories.state, "what lifeboat remembers of this repository here")
    }

    /// As far as they are destinations.
    fn destinations(repository: &Repository) -> Self {
        let this = repository.store().capabilities().local_root;
        let this =
            this.map_or_else(Self::default, |root| Self::default().with(&root, "this repository itself"));
        let others = repository.other_places.iter();
        others.fold(this, |own, place| own.with(place, "another destination of the configuration"))
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

    /// Which of the destinations a new entry at a path would come to lie in, if it is one: links on the way lead where they lead, and what
    /// is not there yet would be made where the deepest directory that is there really lies.
    pub fn destination_around(repository: &Repository, path: &Path) -> std::io::Result<Option<&'static str>> {
        let absolute = std::path::absolute(path)?;
        let real = absolute.ancestors().find_map(|ancestor| std::fs::canonicalize(ancestor).ok());
        let own = Self::destinations(repository);
        let mut around = real.iter().flat_map(|real| real.ancestors()).chain(absolute.ancestors());
        Ok(around.find_map(|place| {
            let stat = rustix::fs::stat(place).ok()?;
            own.describe(stat.st_dev, stat.st_ino)
        }))
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
