//! Tables of decisions, and what holds of all of them.

use chrono::NaiveTime;
use proptest::prelude::*;

use super::*;
use crate::config::SecretValue;
use crate::notify::quiet::QuietHours;
use crate::notify::settings::{Address, DigestTime, Service};

const REMINDERS: [TimeDelta; 3] = [TimeDelta::hours(1), TimeDelta::hours(6), TimeDelta::days(1)];

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn now() -> DateTime<Utc> {
    at("2026-11-22T12:00:00Z")
}

fn event(kind: EventKind) -> Event {
    Event::new(kind, "box", now(), "so").of_source("db")
}

fn channel() -> Channel {
    let address = Address { url: SecretValue::Environment("URL".to_owned()), allow_plain: false };
    Channel {
        name: "ops".to_owned(),
        service: Service::Discord(address),
        events: EventKind::CHOOSABLE.into_iter().collect(),
        minimum_level: Level::Warning,
        every_nth_success: 0,
        quiet_hours: None,
        digest: None,
        sources: vec![],
        destinations: vec![],
    }
}

fn ping() -> Channel {
    let address = Address { url: SecretValue::Environment("URL".to_owned()), allow_plain: false };
    Channel { service: Service::Healthchecks { address, details: false }, ..channel() }
}

fn quiet(except: Option<Level>) -> QuietHours {
    let time = |hour| NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
    let days = lifeboat_providers::pace::Days::ALL;
    QuietHours { days, from: time(11), to: time(14), zone: Some(chrono_tz::UTC), except }
}

fn known(told_count: u32, told_last: DateTime<Utc>) -> Condition {
    Condition { since: told_last, told_last, told_count, reports: 1, event: event(EventKind::Failure) }
}

#[test]
fn what_lasts_is_told_when_it_begins_when_it_changes_and_by_reminders_that_become_rarer() {
    let failure = event(EventKind::Failure);
    let judged = |known: &Condition, event: &Event| judge(Some(known), event, &REMINDERS, now());
    assert_eq!(judge(None, &failure, &REMINDERS, now()), News::Changed);
    for (told_count, hours, expected) in [
        (1, 0, News::Known),
        (1, 1, News::Reminder(1)),
        (2, 5, News::Known),
        (2, 6, News::Reminder(2)),
        (3, 23, News::Known),
        (3, 24, News::Reminder(3)),
        (9, 23, News::Known),
        (9, 24, News::Reminder(9)),
    ] {
        let known = known(told_count, now() - TimeDelta::hours(hours));
        assert_eq!(judged(&known, &failure), expected, "told {told_count} times, {hours} h ago");
    }
    let just_told = known(1, now());
    let other_reason = Event { code: Some("wrongkey".to_owned()), ..failure.clone() };
    assert_eq!(judged(&just_told, &other_reason), News::Changed);
    let mut was_mild = just_told.clone();
    was_mild.event.level = Level::Warning;
    assert_eq!(judged(&was_mild, &failure), News::Changed);
    let milder = Event { level: Level::Warning, ..failure.clone() };
    assert_eq!(judged(&just_told, &milder), News::Known);
    assert_eq!(
        judge(Some(&known(1, now() - TimeDelta::days(99))), &failure, &[], now()),
        News::Known,
        "no reminders"
    );
    // Told in the future: the clock was put back by a year, which must not silence anybody for a year.
    assert_eq!(judged(&known(1, now() + TimeDelta::days(365)), &failure), News::Reminder(1));
}

#[test]
fn each_channel_is_told_what_it_asked_for() {
    let decided = |channel: &Channel, event: &Event, successes| decide(channel, event, successes, now());
    let recovered = |level| Event {
        ended_level: Some(level),
        ended_kind: Some(EventKind::Failure),
        ..event(EventKind::Recovered)
    };
    let every_third = Channel { every_nth_success: 3, ..channel() };
    let only_errors = Channel { minimum_level: Level::Error, ..channel() };
    let only_overdue = Channel { events: [EventKind::Overdue].into(), ..channel() };
    let of_web = Channel { sources: vec!["web".to_owned()], ..channel() };
    let of_disk = Channel { destinations: vec!["disk".to_owned()], ..channel() };
    let at_disk = event(EventKind::Overdue).at_destination("disk");
    let at_cloud = event(EventKind::Overdue).at_destination("cloud");
    let of_no_source = Event { source: None, ..event(EventKind::Damage) };
    for (is_sent, channel, event, successes) in [
        (true, &channel(), event(EventKind::Failure), 0),
        (false, &channel(), event(EventKind::Success), 1),
        (false, &channel(), event(EventKind::Started), 0),
        (false, &every_third, event(EventKind::Success), 2),
        (true, &every_third, event(EventKind::Success), 3),
        (false, &every_third, event(EventKind::Success), 4),
        (true, &only_errors, event(EventKind::Failure), 0),
        (false, &only_errors, event(EventKind::Incomplete), 0),
        (true, &only_errors, recovered(Level::Error), 0),
        (false, &only_errors, recovered(Level::Warning), 0),
        (false, &only_overdue, event(EventKind::Failure), 0),
        (false, &only_overdue, recovered(Level::Error), 0),
        (true, &only_overdue, event(EventKind::Overdue), 0),
        (false, &of_web, event(EventKind::Failure), 0),
        (true, &of_web, of_no_source, 0),
        (true, &of_disk, at_disk, 0),
        (false, &of_disk, at_cloud, 0),
        (true, &only_overdue, event(EventKind::Test), 0),
        (true, &ping(), event(EventKind::Started), 0),
        (true, &ping(), event(EventKind::Success), 7),
        (true, &ping(), event(EventKind::Failure), 0),
        (false, &ping(), event(EventKind::Overdue), 0),
        (false, &ping(), recovered(Level::Error), 0),
        (false, &ping(), event(EventKind::Failure).at_destination("disk"), 0),
    ] {
        let expected = if is_sent { Decision::Send } else { Decision::Drop };
        assert_eq!(decided(channel, &event, successes), expected, "{event:?} {channel:?}");
    }
}

#[test]
fn quiet_hours_hold_and_a_digest_gathers_but_not_what_may_come_through() {
    let end = at("2026-11-22T14:00:00Z");
    let held = Channel { quiet_hours: Some(quiet(None)), ..channel() };
    let let_through = Channel { quiet_hours: Some(quiet(Some(Level::Error))), ..channel() };
    assert_eq!(decide(&held, &event(EventKind::Failure), 0, now()), Decision::Hold(end));
    assert_eq!(decide(&held, &event(EventKind::Failure), 0, end), Decision::Send);
    assert_eq!(decide(&let_through, &event(EventKind::Failure), 0, now()), Decision::Send);
    assert_eq!(decide(&let_through, &event(EventKind::Incomplete), 0, now()), Decision::Hold(end));
    assert_eq!(decide(&held, &event(EventKind::Test), 0, now()), Decision::Send);
    let eight = DigestTime { at: NaiveTime::from_hms_opt(8, 0, 0).unwrap(), zone: Some(chrono_tz::UTC) };
    let digest = Channel { digest: Some(eight), quiet_hours: Some(quiet(None)), ..channel() };
    let morning = Decision::Digest(at("2026-11-23T08:00:00Z"));
    assert_eq!(decide(&digest, &event(EventKind::Incomplete), 0, now()), morning);
    assert_eq!(decide(&digest, &event(EventKind::Failure), 0, now()), Decision::Hold(end));
    let recovered = Event { ended_level: Some(Level::Error), ..event(EventKind::Recovered) };
    assert_eq!(decide(&digest, &recovered, 0, end), Decision::Send, "as what it ends");
}

proptest! {
    #[test]
    fn reminders_of_a_day_are_few_and_never_stop(step_minutes in 1_i64..120, days in 1_i64..20) {
        let end = now() + TimeDelta::days(days);
        let failure = event(EventKind::Failure);
        let mut condition: Option<Condition> = None;
        let (mut told, mut time) = (Vec::new(), now());
        while time < end {
            let news = judge(condition.as_ref(), &failure, &REMINDERS, time);
            let count = condition.as_ref().map_or(0, |known| known.told_count);
            if news != News::Known {
                told.push(time);
                condition = Some(known(count + 1, time));
            }
            time += TimeDelta::minutes(step_minutes);
        }
        // At the beginning, after 1 h, after 7 h, then once a day.
        let most = 3 + days;
        prop_assert!(i64::try_from(told.len()).unwrap() <= most, "{} in {} days", told.len(), days);
        let gaps: Vec<TimeDelta> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
        prop_assert!(gaps.iter().all(|gap| *gap <= TimeDelta::days(1) + TimeDelta::minutes(step_minutes)));
        prop_assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1] + TimeDelta::minutes(step_minutes)));
    }

    #[test]
    fn what_is_held_is_due_later_and_not_for_longer_than_a_day(minutes in 0_i64..525_600, kind in 0_usize..10) {
        let time = now() + TimeDelta::minutes(minutes);
        let quiet_hours = Some(QuietHours { zone: Some(chrono_tz::America::New_York), ..quiet(None) });
        let eight = DigestTime { at: NaiveTime::from_hms_opt(2, 30, 0).unwrap(), zone: Some(chrono_tz::America::New_York) };
        for digest in [None, Some(eight)] {
            let channel = Channel { quiet_hours, digest, minimum_level: Level::Info, ..channel() };
            match decide(&channel, &event(EventKind::CHOOSABLE[kind]), 1, time) {
                Decision::Hold(due) | Decision::Digest(due) => {
                    prop_assert!(due > time && due - time <= TimeDelta::hours(26));
                }
                Decision::Send | Decision::Drop => {}
            }
        }
    }
}
