//! Days of 23 and 25 hours, hours that come twice, leap days, weeks at the turn of the year.

use chrono::{TimeDelta, TimeZone as _, Utc};
use chrono_tz::America::New_York;
use chrono_tz::Asia::Kolkata;
use chrono_tz::Australia::Lord_Howe;
use chrono_tz::Europe::Berlin;
use chrono_tz::Tz;

use super::{at, kept_times, snapshot};
use crate::retention::{Candidate, Period, Policies, Policy, plan};

/// How many different periods the instants have, one each `minutes` from `from` to before `to`.
fn periods(period: Period, zone: Tz, from: &str, to: &str, minutes: i64) -> usize {
    let (mut time, end) = (at(from), at(to));
    let mut buckets = Vec::new();
    while time < end {
        buckets.push(period.bucket(&time, &zone));
        time += TimeDelta::minutes(minutes);
    }
    buckets.dedup();
    let runs = buckets.len();
    buckets.sort_unstable();
    buckets.dedup();
    assert_eq!(runs, buckets.len(), "a period of {zone} is interrupted");
    runs
}

/// From local midnight to local midnight.
fn hours_of_day(zone: Tz, year: i32, month: u32, day: u32) -> usize {
    let midnight =
        |day| zone.with_ymd_and_hms(year, month, day, 0, 0, 0).unwrap().with_timezone(&Utc).to_rfc3339();
    let (from, to) = (midnight(day), midnight(day + 1));
    assert_eq!(periods(Period::Day, zone, &from, &to, 5), 1);
    periods(Period::Hour, zone, &from, &to, 5)
}

#[test]
fn days_on_which_clocks_change_have_one_hour_more_or_less() {
    assert_eq!(hours_of_day(Berlin, 2026, 3, 29), 23);
    assert_eq!(hours_of_day(Berlin, 2026, 10, 25), 25);
    assert_eq!(hours_of_day(New_York, 2026, 3, 8), 23);
    assert_eq!(hours_of_day(New_York, 2026, 11, 1), 25);
    // Half an hour: the fold makes a short hour of its own, and the gap a short one.
    assert_eq!(hours_of_day(Lord_Howe, 2026, 4, 5), 25);
    assert_eq!(hours_of_day(Lord_Howe, 2026, 10, 4), 24);
    // Hours begin at the half hour of UTC.
    assert_eq!(hours_of_day(Kolkata, 2026, 6, 1), 24);
}

#[test]
fn both_hours_of_a_fold_are_kept() {
    // 02:30 in Berlin, twice; 01:40 in Lord Howe, twice.
    for (zone, first, second) in [
        (Berlin, "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        (New_York, "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"),
        (Lord_Howe, "2026-04-04T14:40:00Z", "2026-04-04T15:10:00Z"),
    ] {
        let list = [snapshot(1, at(first), "hourly"), snapshot(2, at(second), "hourly")];
        let decisions = plan(&list, &Policies::of(Policy::by_class()), at(second), &zone).unwrap();
        assert!(decisions.iter().all(|decision| decision.keep), "{zone}: {decisions:?}");
        assert_eq!(decisions[0].reasons[0].to_string(), "class hourly: hourly 2 of 24", "{zone}");
        let day = Policy { periods: [(Period::Day, 9)].into(), ..Policy::default() };
        let decisions = plan(&list, &Policies::of(day), at(second), &zone).unwrap();
        assert_eq!(decisions.iter().filter(|decision| decision.keep).count(), 1, "{zone}: it is one day");
    }
}

#[test]
fn weeks_are_those_of_iso_at_the_turn_of_the_year() {
    // 2026-12-28 is a Monday, 2027-01-03 the Sunday of the same week 53; 2027-01-04 begins week 1.
    let week = |day: &str| Period::Week.bucket(&at(&format!("{day}T12:00:00Z")), &Utc);
    assert_eq!(week("2026-12-28"), week("2027-01-03"));
    assert_ne!(week("2027-01-03"), week("2027-01-04"));
    assert_ne!(week("2026-12-27"), week("2026-12-28"));
    // The last days of 2025 are of week 1 of 2026, and not of the January a year later.
    assert_eq!(week("2025-12-29"), week("2026-01-04"));
    assert_ne!(week("2025-12-29"), week("2025-01-01"));
}

#[test]
fn a_leap_day_is_a_day_of_its_month() {
    let noon = |day: &str| at(&format!("{day}T12:00:00Z"));
    for (period, day, same) in [
        (Period::Day, "2028-02-28", false),
        (Period::Day, "2028-03-01", false),
        (Period::Month, "2028-02-01", true),
        (Period::Month, "2028-03-01", false),
        (Period::Year, "2028-12-31", true),
    ] {
        let leap = period.bucket(&noon("2028-02-29"), &Utc);
        assert_eq!(leap == period.bucket(&noon(day), &Utc), same, "{period} {day}");
    }
    let list: Vec<Candidate> = ["2028-02-27", "2028-02-28", "2028-02-29", "2028-03-01"]
        .iter()
        .zip(1..)
        .map(|(day, number)| snapshot(number, noon(day), "daily"))
        .collect();
    let policy = Policy { classes: [("daily".to_owned(), 2)].into(), ..Policy::default() };
    let decisions = plan(&list, &Policies::of(policy), noon("2028-03-01"), &Utc).unwrap();
    assert_eq!(kept_times(&list, &decisions), ["02-29T12:00", "03-01T12:00"]);
}

#[test]
fn dates_out_of_any_calendar_do_no_harm() {
    use chrono::DateTime;
    let ends = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at("1969-12-31T23:59:59Z")];
    let list: Vec<Candidate> = ends.iter().zip(1..).map(|(time, n)| snapshot(n, *time, "hourly")).collect();
    for zone in [Berlin, Lord_Howe] {
        for now in ends.into_iter().chain([at("2026-11-21T20:00:00Z")]) {
            let policy = Policy { last: 1, within: Some("5y".parse().unwrap()), ..Policy::by_class() };
            assert_eq!(plan(&list, &Policies::of(policy), now, &zone).unwrap().len(), 3);
        }
        let _ = plan(&list, &Policies::of(Policy::by_class()), ends[1], &chrono::Local).unwrap();
    }
}
