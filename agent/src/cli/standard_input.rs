//! Standard input that can be interrupted: a read waits for data or for the stop flag, whichever is first. And as a source of a backup.

use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::backup::{Given, Plan};
use crate::events::Context;
use crate::source::{Entries, Source};
use crate::{Error, Result};

/// How long a stop may go unnoticed.
const LOOK_AT_STOP_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Standard input.
pub struct StandardInput {
    stop: Arc<AtomicBool>,
}

impl StandardInput {
    /// Standard input whose reads fail once `stop` is set.
    pub const fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop }
    }
}

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = io::stdin();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
            let mut ready = [PollFd::new(&input, PollFlags::IN)];
            match poll(&mut ready, Some(&LOOK_AT_STOP_EVERY)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // Also at the end of the input, or for what cannot be waited for: the read says what it is.
                _ => {
                    return rustix::io::read(input.as_fd(), buffer)
                        .map_err(|e| io::Error::other(Error::io("cannot read standard input", e)));
                }
            }
        }
    }
}

/// Standard input as one file of a snapshot.
pub struct StandardInputSource {
    path: Vec<u8>,
    input: Mutex<Option<StandardInput>>,
}

impl StandardInputSource {
    /// Standard input that will appear at an absolute path.
    pub const fn new(path: Vec<u8>, input: StandardInput) -> Self {
        Self { path, input: Mutex::new(Some(input)) }
    }
}

impl Source for StandardInputSource {
    fn open(&self, _context: &Context) -> Result<Entries> {
        let input = self.input.lock().take();
        let input = input.ok_or_else(|| Error::failed("standard input was read already, and is gone"))?;
        let mut plan = Plan::default();
        plan.give(Given { path: self.path.clone(), meta: None, bytes: Box::new(input) })?;
        Ok(Entries::new(plan))
    }

    fn can_open_again(&self) -> bool {
        self.input.lock().is_some()
    }
}
