//! How long something took: a port, so that tests turn the clock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Two clocks of this machine. Neither is ever compared with another machine's.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Since the boot, counting suspension.
    fn boot_time(&self) -> Duration;
    /// Since 1970; may jump.
    fn wall_time(&self) -> Duration;
}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot_time(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn wall_time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    boot: Duration,
    wall: Duration,
}

impl Moment {
    /// Now.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { boot: clock.boot_time(), wall: clock.wall_time() }
    }

    /// The time since then by whichever clock says more: a machine that was paused from outside knows by its wall clock only.
    pub fn elapsed_at_most(self, clock: &dyn Clock) -> Duration {
        let now = Self::now(clock);
        now.boot.saturating_sub(self.boot).max(now.wall.saturating_sub(self.wall))
    }
}
