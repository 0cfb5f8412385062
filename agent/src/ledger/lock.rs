//! That nothing is run twice at once on this machine: a locked file for each source, for maintenance, and for the daemon. The system lets go of
//! them with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::repository::state::make_private_dir;
use crate::{Error, Result};

/// Held while something is run; let go when dropped.
#[derive(Debug)]
pub struct JobLock {
    _file: File,
}

impl JobLock {
    /// Takes the lock of `name` (a source's, or what is done) in a state directory; `None` if another process has it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn try_take(state: &Path, name: &str) -> Result<Option<Self>> {
        let directory = state.join("running");
        make_private_dir(&directory)?;
        let path = directory.join(name);
        let cannot = |e: std::io::Error| Error::io(format_args!("cannot lock {}", path.display()), e);
        // Never removed: whoever waits for a removed file's lock and whoever makes it anew would both have it.
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(cannot)?;
        match rustix::io::retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(cannot(e.into())),
        }
    }
}
