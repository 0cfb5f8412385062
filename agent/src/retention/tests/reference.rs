//! The plan against a slow reference that decides on each snapshot by itself, by counting, with periods named by formatted texts.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{at, snapshot};
use crate::retention::plan::TOLERANCE;
use crate::retention::{Candidate, Period, Policies, Policy, plan};

const ZONES: [Tz; 4] = [
    chrono_tz::Europe::Berlin,
    chrono_tz::America::New_York,
    chrono_tz::Australia::Lord_Howe,
    chrono_tz::UTC,
];
/// Shortly before clocks change in Berlin, New York and Lord Howe, a leap day, and two turns of the year.
const DAYS: [&str; 6] = [
    "2026-10-24T20:00:00Z",
    "2026-10-31T20:00:00Z",
    "2026-04-04T08:00:00Z",
    "2028-02-28T12:00:00Z",
    "2026-12-27T12:00:00Z",
    "2027-12-30T12:00:00Z",
];
const CLASSES: [&str; 5] = ["hourly", "daily", "weekly", "manual", "api"];

fn name(period: Period, time: DateTime<Utc>, zone: Tz) -> String {
    let format = match period {
        Period::Hour => "%F %H %z",
        Period::Day => "%F",
        Period::Week => "%G-%V",
        Period::Month => "%Y-%m",
        Period::Year => "%Y",
    };
    time.with_timezone(&zone).format(format).to_string()
}

struct Reference<'a> {
    all: &'a [Candidate],
    policy: &'a Policy,
    now: DateTime<Utc>,
    zone: Tz,
}

impl Reference<'_> {
    fn keeps(&self, one: &Candidate) -> bool {
        if one.pinned || self.policy.tags.iter().any(|tag| one.tags.contains(tag)) {
            return true;
        }
        if one.time - self.now > TOLERANCE {
            return true;
        }
        let present = self.all.iter().filter(|c| c.group == one.group && c.time - self.now <= TOLERANCE);
        let whole: Vec<&Candidate> = present.clone().filter(|c| c.whole).collect();
        let view: Vec<&Candidate> = if one.whole { whole.clone() } else { present.collect() };
        let newer_in = |list: &[&Candidate]| list.iter().filter(|c| is_newer(c, one)).count();
        let faultless: Vec<&Candidate> = whole.iter().filter(|c| c.without_errors).copied().collect();
        if (one.whole || whole.is_empty()) && newer_in(&view) == 0
            || one.whole && one.without_errors && newer_in(&faultless) == 0
        {
            return true;
        }
        if let Some(span) = self.policy.within {
            let newest = view.iter().map(|c| c.time).max().unwrap().min(self.now);
            if span.before(newest) <= one.time {
                return true;
            }
        }
        let class: Vec<&Candidate> = view.iter().filter(|c| c.class == one.class).copied().collect();
        let of_class = self.policy.classes.get(&one.class).copied().unwrap_or(self.policy.other_classes);
        let by_class = match one.class.as_str() {
            "hourly" => self.stands(one, &class, Period::Hour, of_class),
            "daily" => self.stands(one, &class, Period::Day, of_class),
            "weekly" => self.stands(one, &class, Period::Week, of_class),
            _ => self.counts(one, &class, of_class),
        };
        let by_period = self.policy.periods.iter().any(|(period, n)| self.stands(one, &view, *period, *n));
        by_class || by_period || self.counts(one, &view, self.policy.last)
    }

    fn counts(&self, one: &Candidate, list: &[&Candidate], n: u64) -> bool {
        (list.iter().filter(|c| is_newer(c, one)).count() as u64) < n
            || self.stands(one, list, Period::Hour, n)
            || self.stands(one, list, Period::Day, n)
    }

    fn stands(&self, one: &Candidate, list: &[&Candidate], period: Period, n: u64) -> bool {
        let own = name(period, one.time, self.zone);
        let beats = |c: &&Candidate| {
            name(period, c.time, self.zone) == own
                && (c.whole, Newness::of(c)) > (one.whole, Newness::of(one))
        };
        let later: BTreeSet<String> = list
            .iter()
            .filter(|c| is_newer(c, one))
            .map(|c| name(period, c.time, self.zone))
            .filter(|name| *name != own)
            .collect();
        !list.iter().any(beats) && (later.len() as u64) < n
    }
}

type Newness<'a> = (DateTime<Utc>, &'a (String, u64), lifeboat_providers::Sha256);

trait Of<'a> {
    fn of(candidate: &'a Candidate) -> Self;
}

impl<'a> Of<'a> for Newness<'a> {
    fn of(candidate: &'a Candidate) -> Self {
        (candidate.time, &candidate.order, candidate.id)
    }
}

fn is_newer(a: &Candidate, b: &Candidate) -> bool {
    Newness::of(a) > Newness::of(b)
}

fn candidates() -> impl Strategy<Value = (Vec<Candidate>, DateTime<Utc>)> {
    // Quarters of an hour over three days, so that seconds, hours and days are shared; or days over half a year.
    let step = prop_oneof![Just(15_i64), Just(60), Just(60 * 24)];
    let one = (0_i64..200, 0..CLASSES.len(), any::<[bool; 2]>(), 0_u8..20);
    (0..DAYS.len(), step, vec(one, 0..40), 0_i64..220).prop_map(|(day, step, ones, now)| {
        let begin = at(DAYS[day]);
        let make = |(number, (when, class, [other_group, with_errors], odd)): (
            usize,
            (i64, usize, [bool; 2], u8),
        )| {
            let time = begin + TimeDelta::minutes(when * step);
            let mut candidate = snapshot(number as u64, time, CLASSES[class]);
            candidate.whole = odd > 3;
            candidate.pinned = odd == 19;
            candidate.tags = (odd == 18).then(|| "keep".to_owned()).into_iter().collect();
            candidate.without_errors = !with_errors;
            candidate.source = (other_group && odd % 2 == 0).then(|| "other".to_owned());
            candidate
        };
        (ones.into_iter().enumerate().map(make).collect(), begin + TimeDelta::minutes(now * step))
    })
}

pub fn policies() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![2 => Just(0_u64), 3 => 1_u64..5, 1 => 5_u64..30];
    let periods = (count(), count(), count(), count(), count());
    let span = proptest::option::of(1_u32..200);
    let all = (count(), span, periods, vec((0..CLASSES.len(), count()), 0..4), count(), any::<bool>());
    all.prop_map(|(last, hours, (hour, day, week, month, year), classes, other_classes, tag)| Policy {
        last,
        within: hours.map(|hours| format!("{hours}h").parse().unwrap()),
        periods: Period::ALL.into_iter().zip([hour, day, week, month, year]).collect(),
        tags: tag.then(|| "keep".to_owned()).into_iter().collect(),
        classes: classes.into_iter().map(|(class, count)| (CLASSES[class].to_owned(), count)).collect(),
        other_classes,
    })
    .prop_filter("keeps nothing", |policy| policy.check().is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_plan_is_what_the_reference_says((all, now) in candidates(), policy in policies(), zone in 0..ZONES.len()) {
        let zone = ZONES[zone];
        // Two groups, told apart by what a group is made of.
        let mut all = all;
        for candidate in &mut all {
            candidate.group = super::super::candidate::Group::of_source(candidate.source.clone());
        }
        let decisions = plan(&all, &Policies::of(policy.clone()), now, &zone).unwrap();
        let reference = Reference { all: &all, policy: &policy, now, zone };
        for (candidate, decision) in all.iter().zip(&decisions) {
            prop_assert_eq!(decision.id, candidate.id);
            prop_assert_eq!(decision.keep, reference.keeps(candidate), "{:?} {:?}", candidate, decision);
            prop_assert!(!decision.reasons.is_empty());
            prop_assert!(decision.reasons.iter().all(|reason| reason.keeps() == decision.keep));
        }
        // Nothing is left to forget, in whatever order snapshots come, and no group is empty.
        let mut kept: Vec<Candidate> =
            all.iter().zip(&decisions).filter(|(_, d)| d.keep).map(|(c, _)| c.clone()).collect();
        let groups = |list: &[Candidate]| list.iter().map(|c| c.group.clone()).collect::<BTreeSet<_>>();
        prop_assert_eq!(groups(&all), groups(&kept));
        kept.reverse();
        let again = plan(&kept, &Policies::of(policy), now, &zone).unwrap();
        prop_assert!(again.iter().all(|decision| decision.keep), "{:?}", again);
    }

    /// Whoever forgets after every backup keeps in the end what one plan over all of them keeps: nothing that is to stand for its period later is
    /// forgotten before.
    #[test]
    fn forgetting_after_every_backup_leaves_no_holes((all, _) in candidates(), policy in policies(), zone in 0..ZONES.len()) {
        let mut all = all;
        all.iter_mut().for_each(|candidate| candidate.whole = true);
        all.sort_by(|a, b| Newness::of(a).cmp(&Newness::of(b)));
        let policies = Policies::of(policy);
        let keep = |list: &[Candidate], now| -> Vec<Candidate> {
            let decisions = plan(list, &policies, now, &ZONES[zone]).unwrap();
            list.iter().zip(decisions).filter(|(_, d)| d.keep).map(|(c, _)| c.clone()).collect()
        };
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in &all {
            kept.push(candidate.clone());
            kept = keep(&kept, candidate.time);
        }
        if let Some(last) = all.last() {
            prop_assert_eq!(kept, keep(&all, last.time));
        }
    }
}
