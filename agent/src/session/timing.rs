//! How often a writer is heard of, and when it is taken for dead. A port, so that tests turn the clock and play several machines.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, SystemClock};
use super::process::Process;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The times of the protocol, the clock they are taken by, and the process that takes part.
#[derive(Debug, Clone)]
pub struct Timing {
    /// A writer puts its session again after this time.
    pub beat_every: Duration,
    /// A writer that was not heard of for so long is over, where it can be fenced.
    pub stale_with_fence: Duration,
    /// … and where it cannot, because the store has no conditional create.
    pub stale_without_fence: Duration,
    /// … though its process is known to be dead, as its last request may still be on its way.
    pub dead_without_fence: Duration,
    /// … and where it is a program from before there were beats and fences.
    pub stale_old_version: Duration,
    /// A writer that was not heard of for so long ends by itself, fenced or not.
    pub asleep_max: Duration,
    /// Outcomes without a session stay for so long after they were first seen, so that a process which wakes up late still meets them.
    pub outcomes_stay: Duration,
    /// What the times are taken by.
    pub clock: Arc<dyn Clock>,
    /// Whose sessions these are.
    pub process: Process,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat_every: 5 * MINUTE,
            stale_with_fence: 60 * MINUTE,
            stale_without_fence: 3 * DAY,
            dead_without_fence: 60 * MINUTE,
            stale_old_version: 7 * DAY,
            asleep_max: DAY,
            outcomes_stay: 30 * DAY,
            clock: Arc::new(SystemClock),
            process: Process::own(),
        }
    }
}

impl Timing {
    /// How long a session must be unchanged before it is over.
    pub const fn stale(&self, can_fence: bool) -> Duration {
        if can_fence { self.stale_with_fence } else { self.stale_without_fence }
    }

    /// A writer that cannot be fenced puts no snapshot later than this after it was last heard of.
    pub const fn grace(&self, can_fence: bool) -> Duration {
        Duration::from_secs(self.stale(can_fence).as_secs() / 2)
    }
}
