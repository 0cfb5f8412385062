//! The queue of notifications: told once, reminded, over; retried and given up; claimed by one of several; quiet hours and digests. Time is a parameter.

use std::sync::atomic::AtomicBool;

use chrono::{DateTime, TimeDelta, Utc};
use lifeboat_agent::notify::{Delivered, Event, EventKind, Notify, Queue, SCHEMA};
use lifeboat_tests::hook::{Hook, Reply};
use rusqlite::Connection;

use crate::notify::{channel, database, failure, noon, notify, success};

/// Delivers what is due and returns the titles that arrived.
fn titles(queue: Queue<'_>, hook: &Hook, now: DateTime<Utc>) -> Vec<String> {
    let before = hook.heard().len();
    let delivered = queue.deliver_due(now, &AtomicBool::new(false)).unwrap();
    let heard = hook.heard();
    assert_eq!(
        (delivered.sent, delivered.delayed, delivered.failed),
        (heard.len() - before, 0, 0),
        "{delivered:?}"
    );
    let title = |heard: &lifeboat_tests::hook::Heard| heard.json()["title"].as_str().unwrap().to_owned();
    heard[before..].iter().map(|heard| title(heard).replace("Lifeboat on box: ", "")).collect()
}

fn to(hook: &Hook, more: &str) -> Notify {
    notify(&channel("ops", "webhook", &hook.url("in"), more))
}

fn deliver(queue: Queue<'_>, now: DateTime<Utc>) -> Delivered {
    queue.deliver_due(now, &AtomicBool::new(false)).unwrap()
}

#[test]
fn a_failure_is_told_once_reminded_more_and_more_rarely_and_its_end_is_told_once() {
    let hook = Hook::start();
    let notify = to(&hook, "");
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    let mut told = Vec::new();
    // A run each 10 minutes for two days, of which none works.
    for minute in (0..48 * 60).step_by(10) {
        let now = noon() + TimeDelta::minutes(minute);
        queue.report(&failure(now), now).unwrap();
        told.extend(titles(queue, &hook, now).into_iter().map(|title| (minute / 60, title)));
    }
    let hours: Vec<_> = told.iter().map(|(hour, _)| *hour).collect();
    assert_eq!(hours, [0, 1, 7, 31], "1 h, 6 h, 1 d apart: {told:?}");
    assert_eq!(told[0].1, "the backup of db failed");
    assert_eq!(told[2].1, "still: the backup of db failed (reminder 2)");
    let open = queue.open().unwrap();
    assert_eq!((open.len(), open[0].since, open[0].reports), (1, noon(), 288));

    let end = noon() + TimeDelta::hours(49);
    queue.report(&success(end), end).unwrap();
    assert_eq!(titles(queue, &hook, end), ["the backup of db works again"]);
    assert!(hook.heard().last().unwrap().body.contains("Since: "));
    queue.report(&success(end), end).unwrap();
    assert_eq!(titles(queue, &hook, end), [""; 0]);
    assert!(queue.open().unwrap().is_empty());
    queue.report(&failure(end), end).unwrap();
    assert_eq!(titles(queue, &hook, end), ["the backup of db failed"], "new again");
}

#[test]
fn a_reminder_comes_without_another_run_and_the_next_call_is_told() {
    let hook = Hook::start();
    let notify = to(&hook, "");
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    assert_eq!(deliver(queue, noon()).next_due, None);
    queue.report(&failure(noon()), noon()).unwrap();
    let next = deliver(queue, noon()).next_due.unwrap();
    assert_eq!(next, noon() + TimeDelta::hours(1));
    assert_eq!(titles(queue, &hook, next - TimeDelta::seconds(1)), [""; 0]);
    assert_eq!(titles(queue, &hook, next), ["still: the backup of db failed (reminder 1)"]);
    // What is no longer in the configuration is no longer reminded of.
    queue.keep_only(|source, _| source != Some("db")).unwrap();
    assert_eq!(titles(queue, &hook, noon() + TimeDelta::days(9)), [""; 0]);
}

#[test]
fn another_reason_is_news_and_each_source_and_destination_is_its_own() {
    let hook = Hook::start();
    let notify = to(&hook, "");
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    let report = |event: Event| {
        queue.report(&event, noon()).unwrap();
        titles(queue, &hook, noon()).len()
    };
    assert_eq!(report(failure(noon())), 1);
    assert_eq!(report(failure(noon())), 0);
    assert_eq!(report(Event { code: Some("wrongkey".to_owned()), ..failure(noon()) }), 1);
    assert_eq!(report(Event { source: Some("web".to_owned()), ..failure(noon()) }), 1);
    let overdue = |destination: &str| {
        Event::new(EventKind::Overdue, "box", noon(), "Nothing good came.")
            .of_source("db")
            .at_destination(destination)
    };
    assert_eq!(report(overdue("disk")), 1);
    assert_eq!(report(overdue("cloud")), 1);
    // One of them is good again: one message, and a success at a destination is no run.
    assert_eq!(report(success(noon()).at_destination("disk")), 1);
    assert_eq!(queue.open().unwrap().len(), 3);
    let behind = Event::new(EventKind::DestinationBehind, "box", noon(), "It lacks 2 snapshots.")
        .at_destination("disk");
    assert_eq!(report(behind.clone()), 1);
    queue
        .resolve(
            EventKind::DestinationBehind,
            &Event { what: "It has all.".to_owned(), ..behind.clone() },
            noon(),
        )
        .unwrap();
    assert_eq!(titles(queue, &hook, noon()), ["disk has caught up"]);
    queue.resolve(EventKind::DestinationBehind, &behind, noon()).unwrap();
    assert_eq!(titles(queue, &hook, noon()), [""; 0]);
}

#[test]
fn a_service_that_asks_to_be_left_alone_is_for_all_messages_of_its_channel() {
    let hook = Hook::start();
    let notify = Notify { reminders: vec![], ..to(&hook, "") };
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    queue.report(&failure(noon()), noon()).unwrap();
    queue.report(&Event { source: Some("web".to_owned()), ..failure(noon()) }, noon()).unwrap();
    hook.script([Reply::Status(429, vec![("Retry-After", "600".to_owned())], String::new())]);
    let delivered = deliver(queue, noon());
    assert_eq!((delivered.sent, delivered.delayed, hook.heard().len()), (0, 1, 1));
    let next = delivered.next_due.unwrap();
    assert!(next >= noon() + TimeDelta::minutes(10), "{next}");
    assert_eq!(deliver(queue, noon() + TimeDelta::seconds(590)).sent, 0);
    assert_eq!(hook.heard().len(), 1, "nothing was asked of it");
    assert_eq!(deliver(queue, next).sent, 2);
    assert_eq!(queue.channels().unwrap()[0].failures, 0, "a limit is no failure");
    // Discord says it in the body, with a fraction.
    queue.report(&Event { source: Some("c".to_owned()), ..failure(next) }, next).unwrap();
    hook.script([Reply::Status(
        429,
        vec![],
        r#"{"message": "slow", "retry_after": 3599.5, "global": false}"#.to_owned(),
    )]);
    let due = deliver(queue, next).next_due.unwrap();
    assert!(due >= next + TimeDelta::milliseconds(3_599_500), "{due}");
}

#[test]
fn what_fails_is_tried_more_and_more_rarely_and_given_up_after_a_day_and_counted() {
    let hook = Hook::start();
    let notify = to(&hook, "");
    let conn = database();
    let notify = Notify { reminders: vec![], ..notify };
    let queue = Queue::new(&conn, &notify);
    queue.report(&failure(noon()), noon()).unwrap();
    hook.script(std::iter::repeat_n(Reply::status(502), 200));
    let (mut now, mut waits) = (noon(), Vec::new());
    let last = loop {
        let delivered = deliver(queue, now);
        let Some(next) = delivered.next_due else { break delivered };
        assert_eq!((delivered.delayed, delivered.failed), (1, 0));
        waits.push(next - now);
        now = next;
    };
    assert_eq!((last.delayed, last.failed), (0, 1));
    assert!(last.troubles[0].contains("given up: the service failed with status 502"), "{last:?}");
    let age = now - noon();
    assert!(age > TimeDelta::hours(21) && age <= TimeDelta::hours(24), "{age}");
    assert!(waits[0] >= TimeDelta::seconds(24) && waits[0] <= TimeDelta::seconds(60), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= TimeDelta::minutes(73)), "{waits:?}");
    assert!(waits.len() > 20 && waits.len() < 45, "{}", waits.len());
    let state = queue.channels().unwrap().remove(0);
    assert_eq!((state.failures, state.waiting), (waits.len() as u64 + 1, 0));
    assert!(state.error.unwrap().contains("status 502"));
}

#[test]
fn a_message_arrives_when_the_service_is_back_and_its_error_is_forgotten() {
    let hook = Hook::start();
    let notify = to(&hook, "");
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    queue.report(&failure(noon()), noon()).unwrap();
    hook.script([Reply::status(500)]);
    let next = deliver(queue, noon()).next_due.unwrap();
    assert!(queue.channels().unwrap()[0].error.is_some());
    assert_eq!(titles(queue, &hook, next), ["the backup of db failed"]);
    let state = queue.channels().unwrap().remove(0);
    assert_eq!((state.error, state.failures, state.waiting), (None, 1, 0));
    // The same id both times, so that a receiver can tell.
    let ids: Vec<_> =
        hook.heard().iter().map(|heard| heard.header("x-lifeboat-id").unwrap().to_owned()).collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn of_several_processes_one_sends_each_message() {
    const SENDERS: usize = 6;
    const MESSAGES: usize = 30;
    let hook = Hook::start();
    let notify = to(&hook, "");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let open = || {
        let conn = Connection::open(&path).unwrap();
        conn.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        conn.execute_batch(SCHEMA).unwrap();
        conn
    };
    let conn = open();
    for number in 0..MESSAGES {
        let event = Event { source: Some(format!("s{number}")), ..failure(noon()) };
        Queue::new(&conn, &notify).report(&event, noon()).unwrap();
    }
    let sent: usize = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| scope.spawn(|| deliver(Queue::new(&open(), &notify), noon()).sent))
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    assert_eq!((sent, hook.heard().len()), (MESSAGES, MESSAGES));
}

#[test]
fn what_a_killed_process_had_claimed_is_sent_when_its_claim_has_run_out() {
    let hook = Hook::start();
    let notify = to(&hook, "");
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    queue.report(&failure(noon()), noon()).unwrap();
    let until = noon() + TimeDelta::minutes(5);
    conn.execute("UPDATE notify_messages SET claim = 7, claimed_until = ?1", [until.timestamp_millis()])
        .unwrap();
    let delivered = deliver(queue, noon() + TimeDelta::minutes(4));
    assert_eq!((delivered.sent, delivered.next_due), (0, Some(until)));
    assert_eq!(deliver(queue, until).sent, 1);
    // A claim that was made when the clock was a year ahead holds up nothing.
    queue.report(&Event { source: Some("web".to_owned()), ..failure(noon()) }, noon()).unwrap();
    let ahead = (noon() + TimeDelta::days(365)).timestamp_millis();
    conn.execute(
        "UPDATE notify_messages SET claim = 7, claimed_until = ?1, due = ?1 WHERE state = 'waiting'",
        [ahead],
    )
    .unwrap();
    assert_eq!(deliver(queue, until).sent, 1);
}

#[test]
fn quiet_hours_hold_what_comes_and_tell_it_together_when_they_end() {
    let hook = Hook::start();
    let hours = "quiet_hours = { from = \"22:00\", to = \"07:00\", timezone = \"Europe/Berlin\", except = \"error\" }";
    let notify = Notify { reminders: vec![], ..to(&hook, hours) };
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    let night = DateTime::parse_from_rfc3339("2026-11-22T23:00:00+01:00").unwrap().to_utc();
    let morning = DateTime::parse_from_rfc3339("2026-11-23T07:00:00+01:00").unwrap().to_utc();
    let incomplete = |source: &str, now| {
        Event::new(EventKind::Incomplete, "box", now, "2 files could not be read.").of_source(source)
    };
    queue.report(&incomplete("db", night), night).unwrap();
    assert_eq!(titles(queue, &hook, night), [""; 0]);
    queue.report(&failure(night), night).unwrap();
    assert_eq!(titles(queue, &hook, night), ["the backup of db failed"], "an error comes through");
    queue.report(&incomplete("web", night), night).unwrap();
    assert_eq!(titles(queue, &hook, morning - TimeDelta::seconds(1)), [""; 0]);
    assert_eq!(titles(queue, &hook, morning), ["messages of the quiet hours"]);
    let text = hook.heard().iter().map(|heard| heard.body.clone()).collect::<String>();
    assert!(text.contains("the backup of web could not read everything"), "{text}");
    assert_eq!(titles(queue, &hook, morning + TimeDelta::minutes(1)), [""; 0]);
    // One alone comes as it is.
    let (night, morning) = (night + TimeDelta::days(1), morning + TimeDelta::days(1));
    let behind =
        Event::new(EventKind::DestinationBehind, "box", night, "It lacks one.").at_destination("disk");
    queue.report(&behind, night).unwrap();
    assert_eq!(titles(queue, &hook, night), [""; 0]);
    assert_eq!(titles(queue, &hook, morning), ["disk is behind"]);
}

#[test]
fn what_failed_before_the_quiet_hours_is_not_tried_in_them() {
    let hook = Hook::start();
    let notify = to(&hook, "quiet_hours = { from = \"22:00\", to = \"07:00\", timezone = \"UTC\" }");
    let conn = database();
    let notify = Notify { reminders: vec![], ..notify };
    let queue = Queue::new(&conn, &notify);
    let evening = DateTime::parse_from_rfc3339("2026-11-22T21:59:50Z").unwrap().to_utc();
    queue.report(&failure(evening), evening).unwrap();
    hook.script([Reply::status(500)]);
    let next = deliver(queue, evening).next_due.unwrap();
    let delivered = deliver(queue, next);
    let morning = DateTime::parse_from_rfc3339("2026-11-23T07:00:00Z").unwrap().to_utc();
    assert_eq!((delivered.sent, delivered.next_due, hook.heard().len()), (0, Some(morning), 1));
    assert_eq!(deliver(queue, morning).sent, 1);
}

#[test]
fn a_digest_comes_each_day_with_good_runs_messages_and_what_is_wrong() {
    let hook = Hook::start();
    let notify = to(&hook, "digest = \"08:00\"\ntimezone = \"Europe/Berlin\"");
    let conn = database();
    let notify = Notify { reminders: vec![], ..notify };
    let queue = Queue::new(&conn, &notify);
    assert_eq!(titles(queue, &hook, noon()), [""; 0]);
    for hour in 0..5 {
        let now = noon() + TimeDelta::hours(hour);
        queue.report(&Event { bytes_stored: Some(1 << 20), ..success(now) }, now).unwrap();
    }
    let behind =
        Event::new(EventKind::DestinationBehind, "box", noon(), "It lacks one.").at_destination("disk");
    queue.report(&behind, noon()).unwrap();
    queue.report(&failure(noon()), noon()).unwrap();
    assert_eq!(titles(queue, &hook, noon()), ["the backup of db failed"], "errors do not wait");
    let eight = DateTime::parse_from_rfc3339("2026-11-23T08:00:00+01:00").unwrap().to_utc();
    assert_eq!(deliver(queue, eight - TimeDelta::seconds(1)).next_due, Some(eight));
    assert_eq!(titles(queue, &hook, eight), ["digest, 2 things are wrong"]);
    let text = hook.heard().last().unwrap().json()["text"].as_str().unwrap().to_owned();
    for part in [
        "2 things are wrong now; 5 good runs of 1 source and 1 message",
        "disk is behind",
        "db: 5 runs",
        "5.0 MiB stored",
        "the backup of db failed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The next day nothing happened, which is news of its own; a daemon that was down for days sends one digest and not one for each.
    queue.resolve(EventKind::DestinationBehind, &behind, eight).unwrap();
    queue.report(&success(eight), eight).unwrap();
    let told = titles(queue, &hook, eight + TimeDelta::days(5));
    assert_eq!(told, ["the backup of db works again", "digest, all is well"]);
    assert_eq!(titles(queue, &hook, eight + TimeDelta::days(5)), [""; 0]);
}

#[test]
fn every_nth_success_of_each_source_is_told() {
    let hook = Hook::start();
    let notify = to(&hook, "every_nth_success = 3");
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    let mut told = 0;
    for number in 1..=7 {
        queue.report(&success(noon()), noon()).unwrap();
        queue.report(&Event { source: Some("web".to_owned()), ..success(noon()) }, noon()).unwrap();
        told += titles(queue, &hook, noon()).len();
        assert_eq!(told, number / 3 * 2);
    }
}

#[test]
fn pings_tell_each_run_and_what_came_late_is_replaced_by_what_is_true_now() {
    let hook = Hook::start();
    let notify = notify(&channel("dead-man", "healthchecks", &hook.url("ping"), ""));
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    let started = |now| Event::new(EventKind::Started, "box", now, "It began.").of_source("db");
    let targets = |queue: Queue<'_>, now| {
        let before = hook.heard().len();
        deliver(queue, now);
        hook.heard()[before..].iter().map(|heard| heard.target.clone()).collect::<Vec<_>>()
    };
    queue.report(&started(noon()), noon()).unwrap();
    assert_eq!(targets(queue, noon()), ["/ping/start"]);
    for _ in 0..2 {
        queue.report(&failure(noon()), noon()).unwrap();
        assert_eq!(targets(queue, noon()), ["/ping/fail"], "each failed run, also when it is known");
    }
    queue.report(&failure(noon()), noon()).unwrap();
    hook.script([Reply::status(500)]);
    targets(queue, noon());
    queue.report(&started(noon()), noon()).unwrap();
    queue.report(&success(noon()), noon()).unwrap();
    assert_eq!(targets(queue, noon() + TimeDelta::minutes(5)), ["/ping"]);
    // A reminder is no run.
    queue.report(&failure(noon()), noon()).unwrap();
    targets(queue, noon());
    assert_eq!(targets(queue, noon() + TimeDelta::days(3)), [""; 0]);
}

#[test]
fn a_row_of_a_newer_version_holds_up_nothing() {
    let hook = Hook::start();
    let notify = to(&hook, "");
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    queue.report(&failure(noon()), noon()).unwrap();
    conn.execute_batch(
        "UPDATE notify_messages SET event = '{\"kind\": \"invented\"}'; UPDATE notify_conditions SET event = '{}'",
    )
    .unwrap();
    assert!(queue.open().unwrap().is_empty());
    queue.report(&Event { source: Some("web".to_owned()), ..failure(noon()) }, noon()).unwrap();
    assert_eq!(titles(queue, &hook, noon()), ["the backup of web failed"]);
}
