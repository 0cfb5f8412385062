//! How many calls at once suit a store: found by trying, and by what the store says. Pure: the time is handed in.
//!
//! - **Throttled**: half as many, once for all calls that were under way together. Then one more after each round of calls, up to
//!   just below where the store complained; that number is not tried again for a while, which doubles each time it fails.
//! - **Growing**: one more, and if the bytes per second of the next rounds are better for it, one more again; if not, one
//!   less, and the next try comes later.
//! - **Congested** (calls hang on a line that is too slow for so many): half as many, and no way back but by growing.
//!
//! A *round* is as many calls as to judge by. A round in which the callers did not use what they were given says nothing.

use std::time::Duration;

use tokio::time::Instant;

/// A round has so many calls at least, or chance would judge.
const ROUND_CALLS_MIN: usize = 6;

/// How much of the gain that one more call at once would bring to a store without any limit must be there. Less is noise.
const GAIN_SHARE_MIN: f64 = 0.3;

/// Callers used what they were given if on average so much of it was in use.
const IN_USE_MIN: f64 = 0.8;

/// How much a round counts in the average of those before it.
const AVERAGE_SHARE: f64 = 0.3;

/// How long after a try that did not help the next one comes; doubles each time.
const TRY_AGAIN_MIN: Duration = Duration::from_secs(10);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(5 * 60);

/// How long the number at which the store complained is not tried again; doubles each time.
const CEILING_HOLDS_MIN: Duration = Duration::from_secs(30);
const CEILING_HOLDS_MAX: Duration = Duration::from_secs(10 * 60);

/// The search for the number.
#[derive(Debug)]
pub(super) struct Adapt {
    limit: usize,
    max: usize,
    phase: Phase,
    round: Round,
    /// Bytes per second that the number before the one tried gave.
    average: Option<f64>,
    try_again: Duration,
    ceiling: Option<Ceiling>,
    /// Calls that began before this were under way together with one that was throttled.
    cut_at: Option<Instant>,
    in_flight: usize,
    /// When that changed last.
    counted_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The number stays, until the next try.
    Steady { until: Instant },
    /// One more is allowed; calls under the old number are still ending.
    Settling,
    /// One more is allowed, and judged.
    Trying,
    /// Back to a number that was good before.
    Returning { to: usize },
}

/// The calls since the last decision.
#[derive(Debug)]
struct Round {
    began: Instant,
    calls: usize,
    bytes: u64,
    /// Seconds that calls were under way, all together.
    call_seconds: f64,
}

/// The largest number at which the store did not complain.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    at: usize,
    until: Instant,
    holds: Duration,
}

impl Round {
    const fn new(now: Instant) -> Self {
        Self { began: now, calls: 0, bytes: 0, call_seconds: 0.0 }
    }
}

impl Adapt {
    /// Begins with `start` calls at once and never allows more than `max`.
    pub(super) fn new(start: usize, max: usize, now: Instant) -> Self {
        let max = max.max(1);
        Self {
            limit: start.clamp(1, max),
            max,
            phase: Phase::Steady { until: now },
            round: Round::new(now),
            average: None,
            try_again: TRY_AGAIN_MIN,
            ceiling: None,
            cut_at: None,
            in_flight: 0,
            counted_at: now,
        }
    }

    /// How many calls at once are allowed.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// How many calls are under way.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A call begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.count(now);
        self.in_flight += 1;
    }

    /// A call is over. What came of it was told before.
    pub(super) fn end(&mut self, now: Instant) {
        self.count(now);
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    fn count(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.counted_at.max(self.round.began)).as_secs_f64();
        self.round.call_seconds += seconds * self.in_flight as f64;
        self.counted_at = now;
    }

    /// The store answered a call that is ending.
    pub(super) fn done(&mut self, bytes: u64, now: Instant) {
        self.count(now);
        let round = &mut self.round;
        round.calls += 1;
        round.bytes = round.bytes.saturating_add(bytes);
        let needed = match self.phase {
            Phase::Settling | Phase::Returning { .. } => self.limit,
            Phase::Steady { .. } | Phase::Trying => (2 * self.limit).max(ROUND_CALLS_MIN),
        };
        if round.calls < needed || now <= round.began {
            return;
        }
        let seconds = now.saturating_duration_since(round.began).as_secs_f64();
        let was_full = round.call_seconds >= IN_USE_MIN * self.limit as f64 * seconds;
        let speed = round.bytes as f64 / seconds;
        let has_bytes = round.bytes > 0;
        self.round = Round::new(now);
        if !was_full {
            self.stop_trying(now);
        } else if let Phase::Returning { to } = self.phase {
            self.go_back_up(to, now);
        } else if has_bytes {
            self.judge(speed, now);
        }
    }

    /// The store asked for less at a call that began at `began` and is ending.
    pub(super) fn throttled(&mut self, began: Instant, now: Instant) {
        // Of a store that complains about a few calls of the many that it may get, their number is not the reason.
        let is_busy = self.in_flight * 2 >= self.limit;
        let Some(at) = self.cut(began, now) else { return };
        if !is_busy {
            return;
        }
        let below = (at - 1).max(1);
        let holds = match self.ceiling {
            Some(ceiling) if at > ceiling.at => (ceiling.holds * 2).min(CEILING_HOLDS_MAX),
            _ => CEILING_HOLDS_MIN,
        };
        self.ceiling = Some(Ceiling { at: below, until: now + holds, holds });
        if self.limit < below {
            self.phase = Phase::Returning { to: below };
        }
    }

    /// A call that began at `began` hung.
    pub(super) fn congested(&mut self, began: Instant, now: Instant) {
        if self.cut(began, now).is_some() {
            let until = now + CEILING_HOLDS_MIN;
            self.ceiling = Some(Ceiling { at: self.limit, until, holds: CEILING_HOLDS_MIN });
        }
    }

    /// Halves, once for all calls that were under way together. The number that was too much.
    fn cut(&mut self, began: Instant, now: Instant) -> Option<usize> {
        if self.cut_at.is_some_and(|cut| began <= cut) {
            return None;
        }
        let is_busy = self.in_flight * 2 >= self.limit;
        let at = if is_busy { self.in_flight.clamp(1, self.limit) } else { self.limit };
        self.limit = (at / 2).max(1);
        self.cut_at = Some(now);
        self.average = None;
        self.phase = Phase::Steady { until: now };
        self.round = Round::new(now);
        Some(at)
    }

    /// Nothing can be learned: a try is taken back.
    fn stop_trying(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Settling | Phase::Trying) {
            self.limit = (self.limit - 1).max(1);
            self.phase = Phase::Steady { until: now };
        }
        self.average = None;
    }

    fn go_back_up(&mut self, to: usize, now: Instant) {
        self.limit = (self.limit + 1).min(self.max);
        if self.limit >= to {
            self.phase = Phase::Steady { until: now };
        }
    }

    fn judge(&mut self, speed: f64, now: Instant) {
        match self.phase {
            Phase::Steady { until } => {
                self.average = Some(match self.average {
                    Some(average) => average + (speed - average) * AVERAGE_SHARE,
                    None => speed,
                });
                if now >= until {
                    self.grow(now);
                }
            }
            Phase::Settling => self.phase = Phase::Trying,
            Phase::Trying => {
                let before = self.average.unwrap_or(0.0);
                let gain_min = GAIN_SHARE_MIN / (self.limit.max(2) - 1) as f64;
                if speed >= before * (1.0 + gain_min) {
                    self.average = Some(speed);
                    self.try_again = TRY_AGAIN_MIN;
                    self.grow(now);
                } else {
                    self.limit = (self.limit - 1).max(1);
                    self.phase = Phase::Steady { until: now + self.try_again };
                    self.try_again = (self.try_again * 2).min(TRY_AGAIN_MAX);
                }
            }
            Phase::Returning { .. } => {}
        }
    }

    /// Allows one more, if that may be.
    fn grow(&mut self, now: Instant) {
        let ceiling = self.ceiling.filter(|ceiling| now < ceiling.until);
        let most = ceiling.map_or(self.max, |ceiling| ceiling.at.min(self.max));
        if self.limit < most {
            self.limit += 1;
            self.phase = Phase::Settling;
        } else {
            self.phase = Phase::Steady { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One second of calls that all ended in use of all that is allowed.
    fn round(adapt: &mut Adapt, speed: impl Fn(u64) -> u64, now: &mut Instant) {
        let bytes_per_second = speed(adapt.limit() as u64);
        let calls = (2 * adapt.limit()).max(ROUND_CALLS_MIN) as u64;
        for call in 1..=calls {
            while adapt.in_flight() < adapt.limit() {
                adapt.begin(*now + Duration::from_millis(1000 * (call - 1) / calls));
            }
            let at = *now + Duration::from_millis(1000 * call / calls);
            adapt.done(bytes_per_second / calls, at);
            adapt.end(at);
        }
        *now += Duration::from_secs(1);
    }

    #[test]
    fn it_grows_while_that_helps_and_goes_back_when_it_does_not() {
        let mut now = Instant::now();
        let mut adapt = Adapt::new(2, 16, now);
        let mut seen = Vec::new();
        for _ in 0..60 {
            // A line that six calls fill.
            round(&mut adapt, |limit| 1_000_000 * limit.min(6), &mut now);
            seen.push(adapt.limit());
        }
        assert!(seen.iter().all(|limit| (2..=7).contains(limit)), "{seen:?}");
        assert!(seen.iter().skip(20).filter(|limit| **limit == 6).count() >= 30, "{seen:?}");
    }

    #[test]
    fn one_burst_of_refusals_halves_once() {
        let now = Instant::now();
        let mut adapt = Adapt::new(12, 16, now);
        let later = now + Duration::from_secs(1);
        (0..12).for_each(|_| adapt.begin(now));
        for _ in 0..12 {
            adapt.throttled(now, later);
            adapt.end(later);
        }
        assert_eq!((adapt.limit(), adapt.in_flight()), (6, 0));
        // What began after the cut is another burst.
        let later = now + Duration::from_secs(2);
        (0..6).for_each(|_| adapt.begin(later));
        adapt.throttled(later, later);
        assert_eq!(adapt.limit(), 3);
        for second in 3..100 {
            adapt.throttled(now + Duration::from_secs(second), now + Duration::from_secs(second));
        }
        assert_eq!(adapt.limit(), 1);
    }

    #[test]
    fn it_comes_back_to_just_below_where_the_store_complained() {
        let mut now = Instant::now();
        let mut adapt = Adapt::new(8, 16, now);
        (0..8).for_each(|_| adapt.begin(now));
        now += Duration::from_secs(1);
        adapt.throttled(now, now);
        (0..8).for_each(|_| adapt.end(now));
        assert_eq!(adapt.limit(), 4);
        for _ in 0..20 {
            round(&mut adapt, |limit| 1_000_000 * limit, &mut now);
            assert!(adapt.limit() <= 7);
        }
        assert_eq!(adapt.limit(), 7);
        // In the end it is tried again.
        for _ in 0..20 {
            round(&mut adapt, |limit| 1_000_000 * limit, &mut now);
        }
        assert!(adapt.limit() > 7);
    }

    /// A store that always complains at five is hardly ever bothered with five.
    #[test]
    fn a_number_that_fails_again_and_again_is_tried_ever_more_rarely() {
        let mut now = Instant::now();
        let mut adapt = Adapt::new(4, 16, now);
        let mut complaints = 0;
        for _ in 0..3600 {
            if adapt.limit() > 4 {
                complaints += 1;
                adapt.begin(now);
                now += Duration::from_millis(1);
                adapt.throttled(now, now);
                adapt.end(now);
            }
            round(&mut adapt, |limit| 1_000_000 * limit, &mut now);
        }
        assert!((5..=12).contains(&complaints), "{complaints} in an hour");
    }

    #[test]
    fn callers_who_do_not_use_what_they_have_teach_nothing() {
        let mut now = Instant::now();
        let mut adapt = Adapt::new(4, 16, now);
        for call in 1..1000_u64 {
            adapt.begin(now);
            now += Duration::from_millis(10);
            adapt.done(call * 1000, now);
            adapt.end(now);
        }
        assert_eq!(adapt.limit(), 4);
    }

    #[test]
    fn hung_calls_halve_without_a_quick_return() {
        let mut now = Instant::now();
        let mut adapt = Adapt::new(8, 16, now);
        now += Duration::from_secs(60);
        adapt.congested(now, now);
        for _ in 0..100 {
            round(&mut adapt, |_| 1_000_000, &mut now);
            // One more is tried now and then.
            assert!(adapt.limit() <= 5);
        }
    }
}
