//! For each snapshot whether it is kept, and why.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use lifeboat_providers::Sha256;

use super::candidate::{Candidate, Group};
use super::policy::{Policies, Policy};
use super::rule::{self, Reason};
use crate::Result;

/// Clocks of machines differ by so much without anything being wrong.
pub const TOLERANCE: TimeDelta = TimeDelta::minutes(10);

/// What becomes of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub id: Sha256,
    /// Whether it is kept.
    pub keep: bool,
    /// Why: all that speaks for it if it is kept, else all that speaks against it. Never empty.
    pub reasons: Vec<Reason>,
}

/// Decides on every candidate, in their order.
///
/// Of every group at least one snapshot is kept: the newest whole one, and the newest whole one that was made without errors; where none is
/// whole, the newest of those that are not.
///
/// # Errors
/// `Usage` for a policy that keeps nothing.
pub fn plan<Z: TimeZone>(
    candidates: &[Candidate],
    policies: &Policies,
    now: DateTime<Utc>,
    zone: &Z,
) -> Result<Vec<Decision>> {
    policies.check()?;
    Ok(decide_all(candidates, policies, now, zone))
}

/// The same for a policy that keeps nothing: what is kept stays whatever anybody wants.
pub fn floor<Z: TimeZone>(candidates: &[Candidate], now: DateTime<Utc>, zone: &Z) -> Vec<Decision> {
    decide_all(candidates, &Policies::of(Policy::default()), now, zone)
}

fn decide_all<Z: TimeZone>(
    candidates: &[Candidate],
    policies: &Policies,
    now: DateTime<Utc>,
    zone: &Z,
) -> Vec<Decision> {
    let mut groups: BTreeMap<(&Group, Option<&str>), Vec<usize>> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        // Sources with rules of their own do not compete with others, whatever the groups are.
        let own = candidate.source.as_deref().filter(|source| policies.sources.contains_key(*source));
        groups.entry((&candidate.group, own)).or_default().push(at);
    }
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); candidates.len()];
    for ((_, source), members) in groups {
        decide(candidates, members, policies.of_source(source), now, zone, &mut reasons);
    }
    let decisions = candidates.iter().zip(reasons).map(|(candidate, mut reasons)| {
        let keep = reasons.iter().any(Reason::keeps);
        reasons.retain(|reason| reason.keeps() == keep);
        if reasons.is_empty() {
            reasons.push(Reason::NoRule);
        }
        Decision { id: candidate.id, keep, reasons }
    });
    decisions.collect()
}

/// Decides on one group.
fn decide<Z: TimeZone>(
    candidates: &[Candidate],
    mut members: Vec<usize>,
    policy: &Policy,
    now: DateTime<Utc>,
    zone: &Z,
    reasons: &mut [Vec<Reason>],
) {
    members.sort_by_key(|at| {
        let candidate = &candidates[*at];
        Reverse((candidate.time, &candidate.order, candidate.id))
    });
    for at in &members {
        let candidate = &candidates[*at];
        let tagged = policy.tags.iter().filter(|tag| candidate.tags.contains(tag));
        let pinned = candidate.pinned.then_some(Reason::Pinned);
        reasons[*at].extend(pinned.into_iter().chain(tagged.cloned().map(Reason::Tag)));
    }
    let latest = now.checked_add_signed(TOLERANCE).unwrap_or(now);
    let (future, present): (Vec<usize>, Vec<usize>) =
        members.into_iter().partition(|at| candidates[*at].time > latest);
    future.into_iter().for_each(|at| reasons[at].push(Reason::Future));
    let whole: Vec<usize> = present.iter().copied().filter(|at| candidates[*at].whole).collect();
    let floor = [
        (whole.first().copied(), Reason::Newest),
        (whole.iter().copied().find(|at| candidates[*at].without_errors), Reason::NewestWithoutErrors),
        (present.first().copied().filter(|_| whole.is_empty()), Reason::NewestOfTheDamaged),
    ];
    for (at, reason) in floor {
        if let Some(at) = at {
            reasons[at].push(reason);
        }
    }
    // First those that are whole alone: nothing that lacks data pushes them out. Then all, for those that lack data.
    let mut view = |list: &[usize], speaks_of: &dyn Fn(&Candidate) -> bool| {
        let seen: Vec<&Candidate> = list.iter().map(|at| &candidates[*at]).collect();
        for (at, reason) in rule::apply(policy, &seen, now, zone) {
            let at = list[at];
            if speaks_of(&candidates[at]) {
                reasons[at].push(reason);
            }
        }
    };
    view(&whole, &|candidate| candidate.whole);
    view(&present, &|candidate| !candidate.whole);
    for at in present.into_iter().filter(|at| !candidates[*at].whole) {
        reasons[at].push(Reason::NotWhole);
    }
}
