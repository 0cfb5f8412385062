//! That nothing is run twice at once on this machine: a locked file for each source, for maintenance, and for the daemon. The system lets go of
//! them with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::repository::state::make_private_dir;
use crate::{Error, Result};

/// Held while something is run; let go when dropped.
#[derive(Debug)]
pub struct JobLock {
    _file: File,
}

/// How often a lock is tried again.
const TRY_EACH: Duration = Duration::from_millis(100);

impl JobLock {
    /// As [`JobLock::try_take`], and waits for so long for another process to let go of it.
    ///
    /// # Errors
    /// If the file cannot be made; `Interrupted` once `stop` is set.
    pub fn take_within(
        state: &Path,
        name: &str,
        patience: Duration,
        stop: &AtomicBool,
    ) -> Result<Option<Self>> {
        let begun = Instant::now();
        loop {
            let taken = Self::try_take(state, name)?;
            if taken.is_some() || begun.elapsed() >= patience {
                return Ok(taken);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            std::thread::sleep(TRY_EACH);
        }
    }

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
