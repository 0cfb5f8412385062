//! A bucket that bytes are charged to and that drains at a rate: whoever charged more than drains in the meantime, waits.
//!
//! Charging comes after the fact and never fails; waiting takes a *place*, which is how much had been charged when the
//! wait began, and ends when that much has drained. So nobody holds anything while waiting (a waiter that goes away leaves
//! nothing behind), those who came first go first, and what was charged too much at once is made up for later.
//!
//! Counts in whole bytes and nanoseconds: no error adds up over a run of days.

use std::time::Duration;

use tokio::time::Instant;

use super::Rate;

/// A burst is what flows in this time …
const BURST: Duration = Duration::from_millis(100);

/// … but at least so much, or small rates would move a few bytes at a time.
const BURST_BYTES_MIN: u64 = 16 << 10;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// How much was charged, and how much of that has drained.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Option<Rate>,
    charged: u64,
    drained: u64,
    drained_at: Instant,
    /// What drained of the next byte, in billionths of it.
    fraction: u128,
}

impl Bucket {
    /// An empty one.
    pub(super) fn new(rate: Option<Rate>, now: Instant) -> Self {
        Self { rate, charged: 0, drained: 0, drained_at: now, fraction: 0 }
    }

    /// How fast it drains; `None` for at once.
    pub(super) const fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Drains at another rate from now on.
    pub(super) fn set_rate(&mut self, rate: Option<Rate>, now: Instant) {
        self.drain(now);
        self.rate = rate;
        self.drain(now);
    }

    /// Lets drain what had the time to. To be called before anything else, with the same `now`.
    pub(super) fn drain(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.drained_at).as_nanos();
        self.drained_at = now;
        let level = self.charged - self.drained;
        if let Some(rate) = self.rate {
            let due = nanos.saturating_mul(u128::from(rate.bytes_per_second())).saturating_add(self.fraction);
            let bytes = u64::try_from(due / NANOS_PER_SECOND).unwrap_or(u64::MAX);
            if bytes < level {
                (self.drained, self.fraction) = (self.drained + bytes, due % NANOS_PER_SECOND);
                return;
            }
        }
        // An empty bucket saves nothing up.
        (self.drained, self.fraction) = (self.charged, 0);
    }

    /// Adds bytes that were moved, or will be.
    pub(super) const fn charge(&mut self, bytes: u64) {
        self.charged = self.charged.saturating_add(bytes);
    }

    /// Takes back bytes that were charged and not moved.
    pub(super) fn refund(&mut self, bytes: u64) {
        // Places in the line stay what they are: the bytes count as drained.
        self.drained = self.drained.saturating_add(bytes).min(self.charged);
    }

    /// The last place in the line.
    pub(super) const fn place(&self) -> u64 {
        self.charged
    }

    /// How long until it is the turn of that place; `None` if it is now.
    pub(super) fn wait(&self, place: u64) -> Option<Duration> {
        let rate = self.rate?;
        let missing = place.saturating_sub(self.drained).saturating_sub(slack(rate));
        let nanos = (u128::from(missing) * NANOS_PER_SECOND).div_ceil(u128::from(rate.bytes_per_second()));
        (missing > 0).then(|| nanos_as_duration(nanos))
    }

    /// How many bytes one of so many streams may move in one turn; `None` for any number.
    pub(super) fn quantum(&self, streams: usize) -> Option<usize> {
        let share = slack(self.rate?) / streams.max(1) as u64;
        Some(share.clamp(QUANTUM_BYTES_MIN, QUANTUM_BYTES_MAX) as usize)
    }
}

/// Less than a few packets at a time costs more in calls than it smooths.
const QUANTUM_BYTES_MIN: u64 = 2 << 10;

/// Smooth at any rate that allows so much. Not less: timers tick in milliseconds, and a turn that is worth less than what
/// drains between two ticks would let whoever is asked first have several.
const QUANTUM_BYTES_MAX: u64 = 1 << 20;

/// How far charges may run ahead: half a burst. The other half is what all streams together move in one turn.
fn slack(rate: Rate) -> u64 {
    let burst = u128::from(rate.bytes_per_second()) * BURST.as_nanos() / NANOS_PER_SECOND;
    u64::try_from(burst).unwrap_or(u64::MAX).max(BURST_BYTES_MIN) / 2
}

fn nanos_as_duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes_per_second: u64) -> Rate {
        Rate::new(bytes_per_second).unwrap()
    }

    #[test]
    fn what_was_charged_drains_to_the_byte() {
        let began = Instant::now();
        let mut bucket = Bucket::new(Some(rate(3333)), began);
        bucket.charge(1_000_000);
        // In 100,000 odd steps no byte is lost or gained.
        for step in 1..=100_000_u64 {
            bucket.drain(began + Duration::from_nanos(step * 1_234_567));
        }
        assert_eq!(bucket.drained, 1_234_567 * 100_000 * 3333 / 1_000_000_000);
    }

    #[test]
    fn an_idle_bucket_saves_nothing_up() {
        let began = Instant::now();
        let mut bucket = Bucket::new(Some(rate(1 << 20)), began);
        let later = began + Duration::from_secs(3600);
        bucket.drain(later);
        bucket.charge(10 << 20);
        let wait = bucket.wait(bucket.place()).unwrap();
        assert!(wait > Duration::from_millis(9900) && wait <= Duration::from_secs(10), "{wait:?}");
    }

    #[test]
    fn another_rate_holds_for_what_is_left() {
        let began = Instant::now();
        let mut bucket = Bucket::new(Some(rate(1 << 20)), began);
        bucket.charge(10 << 20);
        let place = bucket.place();
        bucket.set_rate(Some(rate(2 << 20)), began + Duration::from_secs(5));
        let wait = bucket.wait(place).unwrap();
        assert!(wait < Duration::from_millis(2500) && wait > Duration::from_millis(2400), "{wait:?}");
        bucket.set_rate(None, began + Duration::from_secs(6));
        assert_eq!(bucket.wait(place), None);
    }

    #[test]
    fn a_refund_lets_those_behind_go_earlier() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Some(rate(1 << 20)), now);
        bucket.charge(10 << 20);
        let place = bucket.place();
        bucket.refund(10 << 20);
        assert_eq!(bucket.wait(place), None);
        bucket.refund(u64::MAX);
        bucket.drain(now);
        assert_eq!(bucket.charged, bucket.drained);
    }

    #[test]
    fn the_most_extreme_numbers_do_not_panic() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Some(rate(1 << 50)), now);
        bucket.charge(u64::MAX);
        bucket.charge(u64::MAX);
        assert!(bucket.wait(bucket.place()).is_some() && bucket.quantum(0).is_some());
        bucket.drain(now + Duration::from_secs(u64::from(u32::MAX)));
        bucket.set_rate(Some(rate(1 << 10)), now);
        assert!(bucket.wait(u64::MAX).is_none_or(|wait| wait > Duration::ZERO));
    }
}
