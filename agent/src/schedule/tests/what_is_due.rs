//! What is due after sleep, after jumps of the clock, and on many machines.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;

use super::{at, cron};
use crate::schedule::due::MISSED_MAX;
use crate::schedule::{Due, Zone, due, expected_interval, jitter, next_due};

const ZONE: Zone = Zone::Named(chrono_tz::Europe::Berlin);

fn ask(text: &str, handled: Option<&str>, now: &str) -> Option<(String, u64)> {
    due(&cron(text), ZONE, Duration::ZERO, handled.map(at), at(now))
        .map(|Due { at, missed }| (at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true), missed))
}

#[test]
fn what_was_missed_is_one_run() {
    // 02:00 in Berlin is 01:00 in UTC.
    let handled = Some("2026-11-10T01:00:00Z");
    assert_eq!(ask("0 2 * * *", handled, "2026-11-11T00:59:59Z"), None);
    assert_eq!(ask("0 2 * * *", handled, "2026-11-11T01:00:00Z"), Some(("2026-11-11T01:00:00Z".into(), 0)));
    assert_eq!(ask("0 2 * * *", handled, "2026-11-15T00:00:00Z"), Some(("2026-11-14T01:00:00Z".into(), 3)));
    // Ten years without power.
    let late = ask("* * * * *", Some("2016-11-10T01:00:00Z"), "2026-11-15T00:00:30Z");
    assert_eq!(late, Some(("2026-11-15T00:00:00Z".into(), MISSED_MAX)));
}

#[test]
fn what_never_ran_is_due_for_its_latest_time() {
    assert_eq!(ask("0 4 1 * *", None, "2026-11-15T00:00:00Z"), Some(("2026-11-01T03:00:00Z".into(), 0)));
    assert_eq!(ask("0 0 29 2 *", None, "2026-11-15T00:00:00Z"), Some(("2024-02-28T23:00:00Z".into(), 0)));
}

#[test]
fn a_clock_that_jumps_back_runs_nothing_again_but_does_not_stop_for_years() {
    let handled = Some("2026-11-10T12:00:00Z");
    assert_eq!(ask("0 * * * *", handled, "2026-11-10T02:30:00Z"), None);
    let next =
        next_due(&cron("0 * * * *"), ZONE, Duration::ZERO, handled.map(at), at("2026-11-10T02:30:00Z"));
    assert_eq!(next, Some(at("2026-11-10T13:00:00Z")));
    // The clock was wrong by a day and more when it was handled.
    assert_eq!(ask("0 * * * *", handled, "2026-11-09T11:59:00Z"), Some(("2026-11-09T11:00:00Z".into(), 0)));
    assert_eq!(
        ask("0 2 * * *", Some("2099-01-01T00:00:00Z"), "2026-11-10T12:00:00Z"),
        Some(("2026-11-10T01:00:00Z".into(), 0))
    );
}

#[test]
fn a_delay_moves_what_is_due_and_not_what_it_is_for() {
    let daily = cron("0 2 * * *");
    let delay = Duration::from_secs(240);
    let handled = Some(at("2026-11-10T01:00:00Z"));
    let ask = |now: &str| due(&daily, ZONE, delay, handled, at(now));
    assert_eq!(ask("2026-11-11T01:03:59Z"), None);
    assert_eq!(ask("2026-11-11T01:04:00Z"), Some(Due { at: at("2026-11-11T01:00:00Z"), missed: 0 }));
    let next = next_due(&daily, ZONE, delay, handled, at("2026-11-11T01:03:00Z"));
    assert_eq!(next, Some(at("2026-11-11T01:04:00Z")));
}

#[test]
fn machines_begin_at_times_of_their_own_that_stay() {
    let max = Duration::from_secs(300);
    let delays: BTreeSet<Duration> =
        (0..100).map(|n| jitter(&format!("host{n}"), "www", "daily", max)).collect();
    assert!(delays.len() > 70, "{} of 100 differ", delays.len());
    assert!(delays.iter().all(|delay| *delay < max));
    assert_eq!(jitter("a", "b", "c", max), jitter("a", "b", "c", max));
    assert_ne!(jitter("a", "bc", "d", max), jitter("ab", "c", "d", max));
    assert_eq!(jitter("a", "b", "c", Duration::ZERO), Duration::ZERO);
    // It must be the same after every upgrade.
    assert_eq!(jitter("a", "b", "c", Duration::from_secs(3600)), Duration::from_secs(383));
}

#[test]
fn how_long_schedules_leave_one_waiting() {
    for (text, hours) in [
        ("0 * * * *", 1),
        ("0 2 * * *", 24),
        ("0 3 * * 0", 24 * 7),
        ("0 4 1 * *", 24 * 31),
        ("0 0 * * 1-5", 24 * 3),
        ("0 9-17 * * 1-5", 24 * 3 - 8),
        ("0 2,14 * * *", 12),
        ("* * * 1 *", 24 * 334),
        ("0 0 29 2 *", 24 * 1461),
    ] {
        let interval = expected_interval(&cron(text), ZONE, at("2026-11-22T00:00:00Z"));
        let slack = TimeDelta::hours(1).to_std().unwrap();
        let hours = Duration::from_secs(hours * 3600);
        assert!(interval <= hours + slack && interval + slack > hours, "{text}: {interval:?}");
    }
    assert_eq!(
        expected_interval(&cron("* * * * *"), ZONE, at("2026-11-22T00:00:00Z")),
        Duration::from_secs(60)
    );
}
