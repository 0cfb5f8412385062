//! Tests of the rules: against a slow reference, in zones where clocks change, and against floods.

mod calendar;
mod examples;
mod floods;
mod reference;

use chrono::{DateTime, Utc};
use lifeboat_providers::Sha256;

use super::{Candidate, Decision, Group, Policies, Policy, plan};

/// A good snapshot of this class and time. `number` tells it from others, and decides between equals: the greater is the newer.
pub fn snapshot(number: u64, time: DateTime<Utc>, class: &str) -> Candidate {
    Candidate {
        id: Sha256::of(&number.to_be_bytes()),
        time,
        order: ("w".to_owned(), number),
        class: class.to_owned(),
        tags: Vec::new(),
        group: Group::default(),
        source: None,
        pinned: false,
        whole: true,
        without_errors: true,
    }
}

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub fn decide(candidates: &[Candidate], policy: &Policy, now: DateTime<Utc>) -> Vec<Decision> {
    plan(candidates, &Policies::of(policy.clone()), now, &Utc).unwrap()
}

/// The times of those that are kept, oldest first.
pub fn kept_times(candidates: &[Candidate], decisions: &[Decision]) -> Vec<String> {
    let kept = candidates.iter().zip(decisions).filter(|(_, decision)| decision.keep);
    let mut times: Vec<String> = kept.map(|(c, _)| c.time.format("%m-%dT%H:%M").to_string()).collect();
    times.sort_unstable();
    times
}
