//! What a circuit knows of its store, and what follows from it. Pure: the time is handed in.

use std::time::Duration;

use tokio::time::Instant;

use super::CircuitPolicy;

/// Never zero, or a caller that heeds it would spin.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);

/// How a store is doing, for people to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// It answers, or nothing is known yet.
    Closed,
    /// It has not answered for so long, and is probed now and then.
    Open {
        /// Since the first failure.
        silent_for: Duration,
    },
    /// It has not answered for so long that calls fail for good.
    GivenUp {
        /// Since the first failure.
        silent_for: Duration,
    },
}

/// What becomes of a call.
pub(super) enum Admission {
    Pass,
    Probe,
    Refuse(Refusal),
}

/// Why a call is refused.
pub(super) enum Refusal {
    /// The store does not answer.
    Silent { silent_for: Duration, reason: String, retry_after: Duration, given_up: bool },
    /// The login was refused so long ago.
    Login { reason: String, ago: Duration },
}

/// What a failure means.
pub(super) enum Failure {
    /// It may pass.
    Passing,
    /// The store is dead still; the next probe comes after so long.
    Probe { retry_after: Duration },
    /// Nothing more is tried.
    GivenUp,
}

#[derive(Default)]
pub(super) struct State {
    /// The store has answered once, so it is there and configured.
    was_met: bool,
    outage: Option<Outage>,
    login: Option<Login>,
}

/// Failures without an answer since.
struct Outage {
    since: Instant,
    /// After so long the circuit opens, and after so long the store is given up.
    open_after: Duration,
    give_up_after: Duration,
    failures: u32,
    reason: String,
    /// Once the circuit is open.
    probes: Option<Probes>,
}

struct Probes {
    /// When the next one may be made.
    next: Instant,
    /// How long until the one after that.
    delay: Duration,
    /// One is under way.
    is_running: bool,
    /// Probes that were not answered.
    failed: u32,
}

/// A login that was refused.
struct Login {
    reason: String,
    at: Instant,
}

impl State {
    /// Whether a call may be made now.
    pub(super) fn admit(&mut self, policy: &CircuitPolicy, now: Instant) -> Admission {
        if let Some(login) = &self.login {
            let ago = now.saturating_duration_since(login.at);
            if ago < policy.login_memory {
                return Admission::Refuse(Refusal::Login { reason: login.reason.clone(), ago });
            }
            self.login = None;
        }
        let Some(outage) = &mut self.outage else { return Admission::Pass };
        let Some(probes) = &mut outage.probes else { return Admission::Pass };
        if !probes.is_running && now >= probes.next {
            probes.is_running = true;
            return Admission::Probe;
        }
        let outage = &*outage;
        let Some(probes) = &outage.probes else { return Admission::Pass };
        let retry_after = outage.retry_after(probes, now);
        let (silent_for, given_up) = (outage.silent_for(now), outage.is_given_up(now));
        let reason = outage.reason.clone();
        Admission::Refuse(Refusal::Silent { silent_for, reason, retry_after, given_up })
    }

    /// The store answered; perhaps by refusing the login, for this reason.
    pub(super) fn answered(&mut self, refused_login: Option<&str>, now: Instant) {
        self.was_met = true;
        self.outage = None;
        self.login = refused_login.map(|reason| Login { reason: reason.to_owned(), at: now });
    }

    /// A call failed without an answer.
    pub(super) fn failed(
        &mut self,
        policy: &CircuitPolicy,
        reason: &str,
        is_probe: bool,
        now: Instant,
    ) -> Failure {
        let give_up_after = match self.was_met {
            true => policy.give_up_after,
            false => policy.give_up_unmet_after.min(policy.give_up_after),
        };
        let outage = self.outage.get_or_insert_with(|| Outage {
            since: now,
            open_after: policy.open_after.min(give_up_after / 3),
            give_up_after,
            failures: 0,
            reason: String::new(),
            probes: None,
        });
        outage.failures = outage.failures.saturating_add(1);
        reason.clone_into(&mut outage.reason);
        let is_dead = outage.failures >= policy.failures_min && outage.silent_for(now) >= outage.open_after;
        match &mut outage.probes {
            None if is_dead => {
                let delay = policy.probe_delay_min.min(outage.give_up_after / 4);
                outage.probes = Some(Probes { next: now + delay, delay, is_running: false, failed: 0 });
            }
            Some(probes) if is_probe => {
                let delay =
                    probes.delay.saturating_mul(2).min(policy.probe_delay_max).min(outage.give_up_after / 2);
                let failed = probes.failed.saturating_add(1);
                *probes = Probes { next: now + delay, delay, is_running: false, failed };
            }
            // Called before the circuit opened, and ended only now.
            _ => {}
        }
        match &outage.probes {
            Some(_) if outage.is_given_up(now) => Failure::GivenUp,
            Some(probes) if is_probe => Failure::Probe { retry_after: outage.retry_after(probes, now) },
            _ => Failure::Passing,
        }
    }

    /// The call that probed was abandoned: the next one probes.
    pub(super) fn probe_was_dropped(&mut self) {
        if let Some(probes) = self.outage.as_mut().and_then(|outage| outage.probes.as_mut()) {
            probes.is_running = false;
        }
    }

    /// For people to see.
    pub(super) fn shown(&self, now: Instant) -> CircuitState {
        let Some(outage) = self.outage.as_ref().filter(|outage| outage.probes.is_some()) else {
            return CircuitState::Closed;
        };
        let silent_for = outage.silent_for(now);
        if outage.is_given_up(now) {
            CircuitState::GivenUp { silent_for }
        } else {
            CircuitState::Open { silent_for }
        }
    }
}

impl Outage {
    fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// When a refused call had best come again. Whoever waits is told when the store is given up, not only after the probe
    /// that follows.
    fn retry_after(&self, probes: &Probes, now: Instant) -> Duration {
        let until_probe =
            if probes.is_running { probes.delay } else { probes.next.saturating_duration_since(now) };
        let until_end = self.give_up_after.saturating_sub(self.silent_for(now));
        let soonest = if until_end.is_zero() { until_probe } else { until_probe.min(until_end) };
        soonest.max(RETRY_AFTER_MIN)
    }

    /// Not before a probe failed: where calls are rare, the first failures can be long ago when the circuit opens.
    fn is_given_up(&self, now: Instant) -> bool {
        let was_probed = self.probes.as_ref().is_some_and(|probes| probes.failed > 0);
        was_probed && self.silent_for(now) >= self.give_up_after
    }
}
