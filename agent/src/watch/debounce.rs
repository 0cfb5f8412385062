//! Many changes are one: told after a time of quiet, or, where there is none, after ten such times.

use std::time::{Duration, Instant};

/// A database that is never quiet is backed up all the same.
const PATIENCE: u32 = 10;

/// Changes that were not told yet.
#[derive(Debug)]
pub struct Debounce {
    quiet: Duration,
    first: Option<Instant>,
    due: Option<Instant>,
}

impl Debounce {
    /// With so long a time of quiet.
    pub const fn new(quiet: Duration) -> Self {
        Self { quiet, first: None, due: None }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        let first = *self.first.get_or_insert(now);
        self.due = Some((now + self.quiet).min(first + self.quiet * PATIENCE));
    }

    /// When it is to be told.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is to be told now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// It could not be told: once more then.
    pub const fn postpone(&mut self, until: Instant) {
        self.due = Some(until);
    }

    /// It was told.
    pub const fn told(&mut self) {
        (self.first, self.due) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_waited_for_but_not_for_ever() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut debounce = Debounce::new(Duration::from_secs(10));
        assert!(!debounce.is_due(at(1000)));
        debounce.changed(at(0));
        debounce.changed(at(7));
        assert!(!debounce.is_due(at(16)) && debounce.is_due(at(17)));
        for second in 8..100 {
            debounce.changed(at(second));
        }
        assert_eq!(debounce.due(), Some(at(100)));
        debounce.told();
        assert_eq!(debounce.due(), None);
        debounce.changed(at(200));
        assert_eq!(debounce.due(), Some(at(210)));
    }
}
