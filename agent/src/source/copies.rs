//! Temporary copies of what is backed up: in a directory of the cache that only this user can enter, gone with the run that made them.
//!
//! A run that is killed leaves its copies. The next one sweeps those whose owner is gone, which a lock on the directory tells: the system gives
//! it back whatever ended the owner. Making and sweeping hold a lock on the directory above, so none is swept while it is made.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::repository::state::make_private_dir;
use crate::{Error, Result};

/// Where they are in the directory for caches.
pub const FOLDER: &str = "copies";

/// A directory for copies. Removed when dropped.
#[derive(Debug)]
pub struct Copies {
    path: PathBuf,
    /// Says that the owner lives.
    _lock: File,
}

impl Copies {
    /// A new, empty directory below the directory for caches. Those of runs that are gone are removed.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(cache: &Path) -> Result<Self> {
        let folder = cache.join(FOLDER);
        make_private_dir(&folder)?;
        let hint = "Give this user write permission there, or name another directory by `cache_dir`.";
        let cannot = |e: std::io::Error| {
            let why = crate::error::describe_io(&e);
            Error::failed(format_args!("cannot make a directory for copies in {}: {why}", folder.display()))
                .with_hint(hint)
        };
        let above = File::open(&folder).map_err(cannot)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&above, FlockOperation::LockExclusive))
            .map_err(|e| cannot(e.into()))?;
        sweep(&folder);
        for number in 0_u64.. {
            let path = folder.join(format!("{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let lock = File::open(&path).map_err(cannot)?;
                    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
                        .map_err(|e| cannot(e.into()))?;
                    return Ok(Self { path, _lock: lock });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(cannot(e)),
            }
        }
        Err(Error::failed(format_args!("no name is left for copies in {}", folder.display())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // What stays is swept by the next run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories whose owners are gone. What cannot be removed stays.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(directory) = File::open(&path) else { continue };
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn leftovers_are_swept_and_copies_in_use_are_not() {
        let cache = tempfile::tempdir().unwrap();
        let used = Copies::make(cache.path()).unwrap();
        fs::write(used.path().join("copy"), "secret").unwrap();
        assert_eq!(fs::metadata(used.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let left = cache.path().join(FOLDER).join("1-0");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("copy"), "of a run that was killed").unwrap();
        let other = Copies::make(cache.path()).unwrap();
        assert!(!left.exists() && used.path().join("copy").exists() && other.path() != used.path());
        let path = used.path().to_path_buf();
        drop(used);
        assert!(!path.exists() && other.path().exists());
    }
}
