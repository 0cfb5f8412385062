//! The ledger: what is remembered, for how long, by several processes, and what becomes of a damaged one.

use chrono::{TimeDelta, TimeZone as _};

use super::*;

fn at(minute: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_800_000_000 + 60 * minute, 0).unwrap()
}

fn job(source: &str) -> Job {
    Job {
        kind: JobKind::Backup,
        source: Some(source.to_owned()),
        class: Some("daily".to_owned()),
        cause: Trigger::Schedule,
    }
}

fn ended(result: RunResult, stored: &[(&str, bool)]) -> Ended {
    let destinations = stored.iter().map(|(name, stored)| Stored {
        destination: (*name).to_owned(),
        stored: *stored,
        verified: stored.then(|| "server".to_owned()),
        bytes_stored: 7,
        error: (!stored).then(|| "it is away".to_owned()),
    });
    Ended {
        result,
        exit_code: 0,
        message: None,
        hint: None,
        snapshot: Some("abc".to_owned()),
        numbers: Numbers { files: 3, bytes_total: u64::MAX, ..Numbers::default() },
        destinations: destinations.collect(),
    }
}

#[test]
fn a_run_is_remembered_with_all_it_came_to() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    assert!(ledger.is_new());
    let id = ledger.begin(&job("web"), at(0)).unwrap();
    assert_eq!(ledger.run(id).unwrap().unwrap().outcome, None);
    ledger.log(id, "warning", "a line", at(1)).unwrap();
    let came_to = ended(RunResult::Incomplete, &[("disk", true), ("far", false)]);
    ledger.end(id, &job("web"), &came_to, at(0), at(2)).unwrap();
    drop(ledger);
    let ledger = Ledger::open(directory.path()).unwrap();
    assert!(!ledger.is_new());
    let run = ledger.runs(Some("web"), 10).unwrap().remove(0);
    assert_eq!((run.id, run.started, run.ended), (id, at(0), Some(at(2))));
    let mut expected = came_to;
    expected.numbers.bytes_total = i64::MAX as u64;
    assert_eq!(run.outcome, Some(expected));
    assert_eq!(ledger.lines(id).unwrap()[0].text, "a line");
    assert!(ledger.runs(Some("other"), 10).unwrap().is_empty());
}

#[test]
fn last_good_is_kept_through_failures_and_never_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    for (minute, result, stored) in
        [(0, RunResult::Good, true), (10, RunResult::Failed, false), (20, RunResult::Failed, false)]
    {
        let id = ledger.begin(&job("web"), at(minute)).unwrap();
        ledger.end(id, &job("web"), &ended(result, &[("disk", stored)]), at(minute), at(minute + 1)).unwrap();
    }
    let standing = ledger.standings().unwrap().remove(0);
    assert_eq!((standing.last_good, standing.last_try), (Some(at(0)), Some(at(21))));
    assert_eq!(standing.last_result.as_deref(), Some("failed"));
    let tallies: Vec<_> = ledger.tallies().unwrap().into_iter().map(|t| (t.result, t.runs)).collect();
    assert_eq!(tallies, [("failed".to_owned(), 2), ("ok".to_owned(), 1)]);
    let learn = |minute| {
        let (source, destination) = ("web".to_owned(), "disk".to_owned());
        ledger
            .learn(&AtDestination { source, destination, time: at(minute), snapshot: "x".to_owned() })
            .unwrap();
        ledger.standings().unwrap().remove(0).last_good
    };
    assert_eq!(learn(-5), Some(at(0)));
    assert_eq!(learn(5), Some(at(5)));
}

#[test]
fn a_run_that_was_killed_is_noted_when_the_same_is_run_again() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let lost = ledger.begin(&job("web"), at(0)).unwrap();
    let other = ledger.begin(&job("db"), at(0)).unwrap();
    ledger.begin(&job("web"), at(9)).unwrap();
    let result = |id| ledger.run(id).unwrap().unwrap().outcome.map(|ended| ended.result);
    assert_eq!((result(lost), result(other)), (Some(RunResult::Interrupted), None));
}

#[test]
fn what_is_damaged_is_put_aside_and_what_is_newer_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    std::fs::write(&path, vec![7; 9000]).unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    assert!(ledger.is_new());
    assert_eq!(std::fs::read(ledger.put_aside().unwrap()).unwrap(), vec![7; 9000]);
    ledger.begin(&job("web"), at(0)).unwrap();
    ledger.connection().pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    let error = Ledger::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("later version"), "{error}");
    assert!(path.exists());
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn many_lines_and_long_ones_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let id = ledger.begin(&job("web"), at(0)).unwrap();
    // Each line is a transaction, and waits for the disk: that is not what is tested.
    ledger.connection().pragma_update(None, "synchronous", "OFF").unwrap();
    for _ in 0..2_100 {
        ledger.log(id, "notice", &"ä".repeat(3_000), at(1)).unwrap();
    }
    let lines = ledger.lines(id).unwrap();
    assert_eq!(lines.len(), 2_000);
    assert_eq!(lines[0].text.len(), 4_000);
    assert!(lines.last().unwrap().text.contains("and more"));
}

#[test]
fn several_processes_may_write() {
    let directory = tempfile::tempdir().unwrap();
    let one = Ledger::open(directory.path()).unwrap();
    let two = Ledger::open(directory.path()).unwrap();
    one.handle("web", "daily", at(1)).unwrap();
    two.handle("web", "daily", at(2)).unwrap();
    assert_eq!(one.handled("web", "daily").unwrap(), Some(at(2)));
    assert_eq!(one.handled("web", "hourly").unwrap(), None);
    let verified = Verified { destination: "disk".to_owned(), part: 3, at: at(4), good: true, message: None };
    two.verify(&verified).unwrap();
    assert_eq!(one.verifications().unwrap(), [verified]);
    let held = JobLock::try_take(directory.path(), "web").unwrap();
    assert!(held.is_some() && JobLock::try_take(directory.path(), "web").unwrap().is_none());
    drop(held);
    assert!(JobLock::try_take(directory.path(), "web").unwrap().is_some());
    assert!(at(0) + TimeDelta::minutes(1) == at(1));
}
