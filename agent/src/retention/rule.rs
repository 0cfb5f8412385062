//! One rule over a list of snapshots, the newest first: what it keeps, and why it keeps no others.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, TimeZone, Utc};
use lifeboat_providers::Sha256;

use super::candidate::Candidate;
use super::period::Period;
use super::policy::Policy;
use super::span::Span;

/// Why a snapshot is kept, or forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Kept: a person pinned it.
    Pinned,
    /// Kept: it is dated later than now. Somebody should look at a clock.
    Future,
    /// Kept: the newest whole one of its group.
    Newest,
    /// Kept: the newest whole one of its group that was made without errors.
    NewestWithoutErrors,
    /// Kept: all that is left of its group lacks data, and this is the newest of them.
    NewestOfTheDamaged,
    /// Kept: among the newest.
    Last(Counted),
    /// Kept: the newest of its period, one of the last that have any.
    Period(Period, Counted),
    /// Kept: the newest of its hour or day, one of the last that have any; a rule that counts snapshots keeps these too.
    Spread(Period, Counted),
    /// Kept: not older than this, before the newest.
    Within(Span),
    /// Kept: it has this tag.
    Tag(String),
    /// Forgotten: there are enough newer ones.
    Beyond(Rule, u64),
    /// Forgotten: another snapshot of its period is kept for it.
    StandsFor(Period, Option<String>, Sha256),
    /// Forgotten: older than that.
    Older(Span),
    /// Forgotten: it lacks data, and whole ones stand in its places.
    NotWhole,
    /// Forgotten: no rule keeps any of its class.
    NoRule,
}

/// The how manyeth of how many a rule keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Of snapshots of one class only.
    pub class: Option<String>,
    /// From 1, the newest.
    pub number: u64,
    /// What the rule says.
    pub of: u64,
}

/// Which rule, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The newest.
    Last,
    /// The newest of each period.
    Period(Period),
    /// Of a class.
    Class(String),
}

impl Reason {
    /// Whether it is a reason to keep a snapshot.
    pub const fn keeps(&self) -> bool {
        !matches!(
            self,
            Self::Beyond(..) | Self::StandsFor(..) | Self::Older(_) | Self::NotWhole | Self::NoRule
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Period(period) => f.write_str(period.adverb()),
            Self::Class(class) => write!(f, "of class {class}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = |counted: &Counted| match &counted.class {
            Some(class) => format!("class {class}: "),
            None => String::new(),
        };
        match self {
            Self::Pinned => f.write_str("pinned"),
            Self::Future => f.write_str("dated in the future"),
            Self::Newest => f.write_str("the newest"),
            Self::NewestWithoutErrors => f.write_str("the newest without errors"),
            Self::NewestOfTheDamaged => f.write_str("the newest of what is left"),
            Self::Last(counted) => {
                write!(f, "{}last {} of {}", class(counted), counted.number, counted.of)
            }
            Self::Period(period, counted) => {
                write!(f, "{}{} {} of {}", class(counted), period.adverb(), counted.number, counted.of)
            }
            Self::Spread(period, counted) => {
                write!(f, "{}newest of its {period}, {} of {}", class(counted), counted.number, counted.of)
            }
            Self::Within(span) => write!(f, "within {span}"),
            Self::Tag(tag) => write!(f, "tag {}", crate::tree::path_text::display(tag.as_bytes())),
            Self::Beyond(rule, 1) => write!(f, "not the newest {rule}"),
            Self::Beyond(rule, count) => write!(f, "not among {count} {rule}"),
            Self::StandsFor(period, class, id) => {
                let short: String = id.to_string().chars().take(8).collect();
                match class {
                    Some(class) => write!(f, "class {class}: {short} stands for its {period}"),
                    None => write!(f, "{short} stands for its {period}"),
                }
            }
            Self::Older(span) => write!(f, "older than {span}"),
            Self::NotWhole => f.write_str("lacks data"),
            Self::NoRule => f.write_str("no rule for it"),
        }
    }
}

/// What a rule says of one snapshot: its place in the list, and why.
pub type Verdict = (usize, Reason);

/// All rules of a policy over a list, the newest first. A snapshot may have several verdicts.
pub fn apply<Z: TimeZone>(
    policy: &Policy,
    list: &[&Candidate],
    now: DateTime<Utc>,
    zone: &Z,
) -> Vec<Verdict> {
    let all: Vec<usize> = (0..list.len()).collect();
    let rules = Rules { list, zone };
    let mut verdicts = Vec::new();
    if policy.last > 0 {
        rules.newest(&all, policy.last, None, &mut verdicts);
    }
    if let (Some(span), Some(newest)) = (policy.within, list.first()) {
        // Before the newest: where backups have stopped, nothing grows too old. Never less than before now, whatever a clock says.
        let limit = span.before(newest.time.min(now));
        verdicts.extend(all.iter().map(|at| match list[*at].time >= limit {
            true => (*at, Reason::Within(span)),
            false => (*at, Reason::Older(span)),
        }));
    }
    for (period, count) in policy.periods.iter().filter(|(_, count)| **count > 0) {
        rules.periods(&all, *period, *count, None, &mut verdicts);
    }
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for at in all {
        classes.entry(&list[at].class).or_default().push(at);
    }
    for (class, members) in classes {
        let count = policy.of_class(class);
        match Period::of_class(class) {
            _ if count == 0 => {}
            Some(period) => rules.periods(&members, period, count, Some(class), &mut verdicts),
            None => rules.newest(&members, count, Some(class), &mut verdicts),
        }
    }
    verdicts
}

struct Rules<'a, Z> {
    list: &'a [&'a Candidate],
    zone: &'a Z,
}

impl<Z: TimeZone> Rules<'_, Z> {
    /// The newest so many, and those that keep a flood from taking all places.
    fn newest(&self, members: &[usize], of: u64, class: Option<&str>, verdicts: &mut Vec<Verdict>) {
        let class = class.map(str::to_owned);
        let rule = class.clone().map_or(Rule::Last, Rule::Class);
        for (number, at) in (1..).zip(members) {
            verdicts.push((
                *at,
                match number <= of {
                    true => Reason::Last(Counted { class: class.clone(), number, of }),
                    false => Reason::Beyond(rule.clone(), of),
                },
            ));
        }
        let places = usize::try_from(of).unwrap_or(usize::MAX).min(members.len());
        let newest = members.get(..places).unwrap_or(members);
        // Without exception for those that are hardly older than the newest: what is forgotten today cannot stand for its day tomorrow.
        for period in [Period::Hour, Period::Day] {
            for (number, (first, _)) in (1..=of).zip(self.buckets(members, period)) {
                if newest.binary_search(&first).is_err() {
                    let counted = Counted { class: class.clone(), number, of };
                    verdicts.push((first, Reason::Spread(period, counted)));
                }
            }
        }
    }

    /// The newest whole one of each of the last so many periods.
    fn periods(
        &self,
        members: &[usize],
        period: Period,
        of: u64,
        class: Option<&str>,
        verdicts: &mut Vec<Verdict>,
    ) {
        let class = class.map(str::to_owned);
        for (number, (first, others)) in (1..).zip(self.buckets(members, period)) {
            let counted = Counted { class: class.clone(), number, of };
            let is_kept = number <= of;
            let beyond = || Reason::Beyond(class.clone().map_or(Rule::Period(period), Rule::Class), of);
            verdicts.push((first, if is_kept { Reason::Period(period, counted) } else { beyond() }));
            let stands = || Reason::StandsFor(period, class.clone(), self.list[first].id);
            verdicts.extend(others.into_iter().map(|at| (at, if is_kept { stands() } else { beyond() })));
        }
    }

    /// The periods that have any, the newest first: who stands for each, and the others in it. Whoever is whole stands for those who are not.
    fn buckets(&self, members: &[usize], period: Period) -> Vec<(usize, Vec<usize>)> {
        let mut buckets: BTreeMap<_, (usize, Vec<usize>)> = BTreeMap::new();
        for at in members {
            let bucket = period.bucket(&self.list[*at].time, self.zone);
            match buckets.get_mut(&bucket) {
                None => {
                    buckets.insert(bucket, (*at, Vec::new()));
                }
                Some((first, others)) if self.list[*at].whole && !self.list[*first].whole => {
                    others.push(std::mem::replace(first, *at));
                }
                Some((_, others)) => others.push(*at),
            }
        }
        let mut buckets: Vec<_> = buckets.into_values().collect();
        // By instants, not by names: where clocks are put back, the later of two hours has the smaller offset.
        buckets.sort_by_key(|(first, others)| others.iter().copied().chain([*first]).min());
        buckets
    }
}
