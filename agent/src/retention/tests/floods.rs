//! What a flood of bogus snapshots can do: see "What a flood can do" in [`crate::retention`].

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use lifeboat_providers::Sha256;
use proptest::collection::vec;
use proptest::prelude::*;

use super::reference::policies;
use super::{at, decide, snapshot};
use crate::retention::plan::TOLERANCE;
use crate::retention::{Candidate, Decision, Period, Policy, Reason};

const CLASSES: [&str; 5] = ["hourly", "daily", "weekly", "manual", "api"];

fn now() -> DateTime<Utc> {
    at("2026-11-21T20:00:00Z")
}

fn good() -> impl Strategy<Value = Vec<Candidate>> {
    vec((0_i64..40 * 24 * 4, 0..CLASSES.len()), 1..80).prop_map(|all| {
        let one = |(number, (quarters, class)): (usize, (i64, usize))| {
            snapshot(number as u64, now() - TimeDelta::minutes(15 * quarters), CLASSES[class])
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

/// Any number within a window of up to three hours anywhere, of any class, and some of the future.
fn bogus() -> impl Strategy<Value = Vec<Candidate>> {
    let window = (0_i64..40 * 24 * 60, 1_i64..180);
    let one = (any::<u16>(), 0..CLASSES.len(), any::<[bool; 2]>(), 0_u8..10);
    (window, vec(one, 0..150)).prop_map(|((back, length), all)| {
        let begin = now() - TimeDelta::minutes(back);
        let one = |(number, (within, class, [whole, without_errors], future)): (
            usize,
            (u16, usize, [bool; 2], u8),
        )| {
            let seconds = i64::from(within) * length * 60 / i64::from(u16::MAX);
            let time = match future {
                0 => now() + TOLERANCE + TimeDelta::seconds(1 + i64::from(within) * 1_000),
                _ => (begin + TimeDelta::seconds(seconds)).min(now()),
            };
            let number = 1_000_000 + number as u64;
            Candidate {
                whole,
                without_errors,
                order: ("z".to_owned(), number),
                ..snapshot(number, time, CLASSES[class])
            }
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

/// The good ones that are kept for standing for a period, and no longer once there is a flood; not those that only are among the newest N, and
/// share their hour with a newer one.
fn lost(good: &[Candidate], before: &[Decision], after: &[Decision]) -> usize {
    let hour = |c: &Candidate| Period::Hour.bucket(&c.time, &Utc);
    let is_newer = |a: &Candidate, b: &Candidate| (a.time, &a.order) > (b.time, &b.order);
    let stands = |one: &Candidate, class: Option<&str>| {
        let mut others = good.iter().filter(|c| class.is_none_or(|class| c.class == class));
        !others.any(|c| hour(c) == hour(one) && is_newer(c, one))
    };
    let has_place = |one: &Candidate, reason: &Reason| match reason {
        Reason::Period(..) | Reason::Spread(..) | Reason::Newest | Reason::NewestWithoutErrors => true,
        Reason::Last(counted) => stands(one, counted.class.as_deref()),
        _ => false,
    };
    let decided = good.iter().zip(before).zip(after);
    let gone = decided.filter(|((one, before), after)| {
        before.keep && !after.keep && before.reasons.iter().any(|reason| has_place(one, reason))
    });
    gone.count()
}

/// What the rules may lose: for each rule that counts periods, as many as the flood touches; for each that counts snapshots, hours and days.
fn bound(policy: &Policy, good: &[Candidate], bogus: &[Candidate]) -> usize {
    let touched = |period: Period| {
        let present = bogus.iter().filter(|c| c.time <= now() + TOLERANCE && c.whole);
        present.map(|c| period.bucket(&c.time, &Utc)).collect::<HashSet<_>>().len()
    };
    let counting = touched(Period::Hour) + touched(Period::Day);
    let of_periods: usize =
        policy.periods.iter().filter(|(_, count)| **count > 0).map(|(period, _)| touched(*period)).sum();
    let classes: HashSet<&str> = good.iter().map(|c| c.class.as_str()).collect();
    let of_classes: usize = classes
        .into_iter()
        .filter(|class| policy.of_class(class) > 0)
        .map(|class| Period::of_class(class).map_or(counting, touched))
        .sum();
    // The newest, and the newest without errors.
    of_periods + of_classes + if policy.last > 0 { counting } else { 0 } + 2
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_flood_pushes_out_few(good in good(), bogus in bogus(), policy in policies()) {
        let before = decide(&good, &policy, now());
        let all: Vec<Candidate> = good.iter().chain(&bogus).cloned().collect();
        let after = decide(&all, &policy, now());
        let lost = lost(&good, &before, &after);
        let bound = bound(&policy, &good, &bogus);
        prop_assert!(lost <= bound, "{lost} are lost, more than {bound}");
        // The future is kept.
        for (candidate, decision) in all.iter().zip(&after) {
            prop_assert!(decision.keep || candidate.time <= now() + TOLERANCE);
        }
        // What is within is safe.
        if let Some(span) = policy.within {
            for (candidate, decision) in good.iter().zip(&after) {
                prop_assert!(decision.keep || candidate.time < span.before(now()));
            }
        }
    }

    /// Whatever their number: what lacks data, and what is of the future, changes nothing for what is whole.
    #[test]
    fn the_damaged_and_the_future_push_out_nothing(good in good(), bogus in bogus(), policy in policies()) {
        let before: BTreeMap<Sha256, bool> =
            decide(&good, &policy, now()).into_iter().map(|d| (d.id, d.keep)).collect();
        let mut bogus = bogus;
        for candidate in &mut bogus {
            candidate.whole &= candidate.time > now() + TOLERANCE;
        }
        let all: Vec<Candidate> = good.iter().chain(&bogus).cloned().collect();
        for decision in decide(&all, &policy, now()) {
            if let Some(kept) = before.get(&decision.id) {
                prop_assert_eq!(decision.keep, *kept);
            }
        }
    }
}

/// In numbers: a thousand snapshots of one evening against twenty manual ones of as many days, and against hourly ones.
#[test]
fn a_thousand_in_an_hour_push_out_next_to_nothing() {
    let mut all: Vec<Candidate> = (0..20)
        .flat_map(|day| {
            let time = now() - TimeDelta::days(day) - TimeDelta::hours(2);
            [
                snapshot(day as u64, time, "manual"),
                snapshot(100 + day as u64, now() - TimeDelta::hours(2 + day), "hourly"),
            ]
        })
        .collect();
    let kept_of = |all: &[Candidate], class: &str| {
        let decisions = decide(all, &Policy::by_class(), now());
        let good = all.iter().zip(decisions).filter(|(c, d)| d.keep && c.order.1 < 1_000 && c.class == class);
        good.count()
    };
    assert_eq!((kept_of(&all, "manual"), kept_of(&all, "hourly")), (20, 20));
    for number in 1_000..2_000 {
        let time = now() - TimeDelta::seconds(3 * (number as i64 - 1_000));
        all.push(snapshot(number, time, if number % 2 == 0 { "manual" } else { "hourly" }));
    }
    assert_eq!((kept_of(&all, "manual"), kept_of(&all, "hourly")), (20, 20));
    // Another flood on another day.
    for number in 2_000..3_000 {
        let time = now() - TimeDelta::hours(30) - TimeDelta::seconds(number as i64 - 2_000);
        all.push(snapshot(number, time, "manual"));
    }
    assert!(kept_of(&all, "manual") >= 19, "{}", kept_of(&all, "manual"));
}
