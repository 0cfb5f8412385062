//! Sessions on a store in memory: by a clock that the test turns.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::Clock;

/// A clock that goes when it is told to.
#[derive(Debug, Clone, Default)]
pub(super) struct TurnedClock(Arc<Mutex<(u64, u64)>>);

impl TurnedClock {
    /// Seconds pass.
    pub(super) fn pass(&self, seconds: u64) {
        let mut now = self.0.lock();
        *now = (now.0 + seconds, now.1 + seconds);
    }

    /// The machine was started so many seconds ago.
    pub(super) fn reboot(&self, seconds: u64) {
        self.0.lock().0 = seconds;
    }

    /// The wall clock is set forward.
    pub(super) fn jump(&self, seconds: u64) {
        self.0.lock().1 += seconds;
    }

    /// The wall clock is set back.
    pub(super) fn jump_back(&self, seconds: u64) {
        self.0.lock().1 -= seconds;
    }
}

impl Clock for TurnedClock {
    fn boot_time(&self) -> Duration {
        Duration::from_secs(self.0.lock().0)
    }

    fn wall_time(&self) -> Duration {
        Duration::from_secs(self.0.lock().1)
    }
}
