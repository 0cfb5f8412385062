//! What people ask for, by example.

use chrono::{TimeDelta, Utc};

use super::{at, decide, kept_times, snapshot};
use crate::Kind;
use crate::retention::{Candidate, Period, Policies, Policy, plan};

fn now() -> chrono::DateTime<Utc> {
    at("2026-11-21T20:00:00Z")
}

/// One each so many minutes, the newest at `now`, oldest first.
fn history(count: u64, minutes: i64, class: &str) -> Vec<Candidate> {
    let one = |number: u64| {
        let back = i64::try_from(count - number).unwrap() * minutes;
        snapshot(number, now() - TimeDelta::minutes(back), class)
    };
    (1..=count).map(one).collect()
}

fn keep(policy: Policy) -> Policy {
    policy
}

fn reasons(candidates: &[Candidate], policy: &Policy, index: usize) -> Vec<String> {
    decide(candidates, policy, now())[index].reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_of_nothing_and_one_of_one() {
    let policy = keep(Policy { last: 1, ..Policy::default() });
    assert_eq!(decide(&[], &policy, now()), []);
    for age in [0, 10_000_000] {
        let one = [snapshot(1, now() - TimeDelta::minutes(age), "x")];
        assert!(decide(&one, &policy, now())[0].keep);
    }
    let none = Policies::of(Policy::default());
    assert_eq!(plan(&[], &none, now(), &Utc).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn several_of_one_minute_are_counted_exactly() {
    let list: Vec<Candidate> =
        (1..=10).map(|n| snapshot(n, now() + TimeDelta::seconds(n as i64), "manual")).collect();
    let decisions = decide(&list, &Policy { last: 3, ..Policy::default() }, now() + TimeDelta::seconds(11));
    let kept: Vec<bool> = decisions.iter().map(|decision| decision.keep).collect();
    assert_eq!(kept, [[false; 7].as_slice(), &[true; 3]].concat());
    assert_eq!(decisions[0].reasons[0].to_string(), "not among 3 last");
    assert_eq!(
        decisions[9].reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        "the newest; the newest without errors; last 1 of 3"
    );
}

#[test]
fn a_count_keeps_the_newest_of_hours_and_days_too() {
    // Every quarter of an hour for three days.
    let list = history(4 * 72, 15, "manual");
    let decisions = decide(&list, &Policy { last: 3, ..Policy::default() }, now());
    let expected = ["11-19T23:45", "11-20T23:45", "11-21T18:45", "11-21T19:30", "11-21T19:45", "11-21T20:00"];
    assert_eq!(kept_times(&list, &decisions), expected);
}

#[test]
fn same_seconds_are_one_place_of_a_period_and_the_chain_decides() {
    let list = [snapshot(1, now(), "daily"), snapshot(3, now(), "daily"), snapshot(2, now(), "daily")];
    let decisions = decide(&list, &Policy::by_class(), now());
    assert_eq!(decisions.iter().map(|d| d.keep).collect::<Vec<_>>(), [false, true, false]);
    let of = list[1].id.to_string();
    assert_eq!(
        reasons(&list, &Policy::by_class(), 0),
        [format!("class daily: {} stands for its day", &of[..8])]
    );
}

#[test]
fn a_hundred_of_one_class_in_a_minute_take_one_place() {
    let mut list = history(24, 60, "hourly");
    list.extend((100..200).map(|n| snapshot(n, now() + TimeDelta::milliseconds(n as i64), "hourly")));
    let kept = kept_times(&list, &decide(&list, &Policy::by_class(), now()));
    assert_eq!(kept.len(), 24, "{kept:?}");
}

#[test]
fn grandfather_father_son() {
    // Every day at 20:00 for two years.
    let list = history(730, 24 * 60, "manual");
    let periods = [(Period::Day, 3), (Period::Week, 2), (Period::Month, 3), (Period::Year, 5)];
    let policy = Policy { periods: periods.into(), ..Policy::default() };
    let kept = kept_times(&list, &decide(&list, &policy, now()));
    // The weeks end on Saturday 21st (today) and Sunday 15th; months at their last days; the years 2025 and 2024.
    let expected = [
        "09-30T20:00",
        "10-31T20:00",
        "11-15T20:00",
        "11-19T20:00",
        "11-20T20:00",
        "11-21T20:00",
        "12-31T20:00",
        "12-31T20:00",
    ];
    assert_eq!(kept, expected);
}

#[test]
fn what_is_within_is_kept_also_when_backups_have_stopped() {
    let list = history(10, 24 * 60, "manual");
    let policy = Policy { within: Some("3d".parse().unwrap()), ..Policy::default() };
    let kept =
        |later: i64| decide(&list, &policy, now() + TimeDelta::days(later)).iter().filter(|d| d.keep).count();
    assert_eq!((kept(0), kept(100)), (4, 4));
    assert_eq!(reasons(&list, &policy, 0), ["older than 3d"]);
}

#[test]
fn pins_and_tags_are_kept_and_take_no_place() {
    let mut list = history(5, 1, "manual");
    list[0].pinned = true;
    list[1].tags = vec!["release".to_owned()];
    let policy = Policy { last: 2, tags: vec!["release".to_owned()], ..Policy::default() };
    let kept: Vec<bool> = decide(&list, &policy, now()).iter().map(|d| d.keep).collect();
    assert_eq!(kept, [true, true, false, true, true]);
    assert_eq!(reasons(&list, &policy, 0), ["pinned"]);
    assert_eq!(reasons(&list, &policy, 1), ["tag release"]);
}

#[test]
fn the_future_is_kept_and_takes_no_place() {
    let mut list = history(4, 1, "manual");
    list.extend((10..20).map(|n| snapshot(n, now() + TimeDelta::days(n as i64), "manual")));
    let decisions = decide(&list, &Policy { last: 2, ..Policy::default() }, now());
    let kept: Vec<bool> = decisions.iter().map(|d| d.keep).collect();
    assert_eq!(kept[..4], [false, false, true, true]);
    assert!(kept[4..].iter().all(|keep| *keep));
    assert_eq!(decisions[4].reasons[0].to_string(), "dated in the future");
}

#[test]
fn what_lacks_data_does_not_push_out_what_is_whole() {
    let mut list = history(6, 24 * 60, "daily");
    for lost in &mut list[3..] {
        lost.whole = false;
    }
    let policy = Policy { periods: [(Period::Day, 2)].into(), ..Policy::default() };
    let kept: Vec<bool> = decide(&list, &policy, now()).iter().map(|d| d.keep).collect();
    // The last two whole ones, and the last two days.
    assert_eq!(kept, [false, true, true, false, true, true]);
    assert!(reasons(&list, &policy, 3).contains(&"lacks data".to_owned()));
    // In one period the whole one stands, though it is older.
    let mut one_day = history(2, 1, "daily");
    one_day[1].whole = false;
    let kept: Vec<bool> = decide(&one_day, &policy, now()).iter().map(|d| d.keep).collect();
    assert_eq!(kept, [true, false]);
    // Where nothing is whole, the newest of what is left stays.
    one_day[0].whole = false;
    let nothing = Policy { tags: vec!["x".to_owned()], ..Policy::default() };
    let kept: Vec<bool> = decide(&one_day, &nothing, now()).iter().map(|d| d.keep).collect();
    assert_eq!(kept, [false, true]);
}

#[test]
fn the_newest_without_errors_stays() {
    let mut list = history(30, 60, "hourly");
    list[2..].iter_mut().for_each(|snapshot| snapshot.without_errors = false);
    let decisions = decide(&list, &Policy::by_class(), now());
    assert!(decisions[1].keep && !decisions[0].keep);
    assert_eq!(reasons(&list, &Policy::by_class(), 1), ["the newest without errors"]);
}

#[test]
fn sources_have_their_own_rules_and_groups_their_own_places() {
    let mut list = history(4, 1, "manual");
    list[0].source = Some("db".to_owned());
    list[1].source = Some("db".to_owned());
    let mut policies = Policies::of(Policy { last: 1, ..Policy::default() });
    policies.sources.insert("db".to_owned(), Policy { last: 2, ..Policy::default() });
    let kept: Vec<bool> = plan(&list, &policies, now(), &Utc).unwrap().iter().map(|d| d.keep).collect();
    assert_eq!(kept, [true, true, false, true]);
}

#[test]
fn a_class_without_a_rule_is_kept_as_others_are_and_by_none_with_flags() {
    let list = history(30, 24 * 60, "made-up");
    assert_eq!(decide(&list, &Policy::by_class(), now()).iter().filter(|d| d.keep).count(), 20);
    let only_daily = Policy { classes: [("daily".to_owned(), 7)].into(), ..Policy::default() };
    assert_eq!(reasons(&list, &only_daily, 0), ["no rule for it"]);
}
