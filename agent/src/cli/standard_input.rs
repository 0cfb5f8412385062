//! Standard input that can be interrupted: a read waits for data or for the stop flag, whichever is first.

use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
                _ => return Ok(rustix::io::read(input.as_fd(), buffer)?),
            }
        }
    }
}
