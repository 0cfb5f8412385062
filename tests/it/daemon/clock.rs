//! Schedules: on time, caught up once, not repeated by a clock that jumps, tried again after a failure, told when overdue.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::service::{HOURLY, Service, summary};

#[test]
fn what_is_due_runs_and_what_was_missed_is_caught_up_once() {
    let mut service = Service::hourly();
    service.start();
    // Never backed up: the time that has passed is caught up at once.
    assert_eq!(summary(&service.wait_for_runs(1)), ["hourly catch-up ok"]);
    service.set_clock("2027-01-03T13:00:05Z");
    assert_eq!(summary(&service.wait_for_runs(2))[1], "hourly schedule ok");
    // The machine sleeps for six hours.
    service.set_clock("2027-01-03T19:20:00Z");
    assert_eq!(summary(&service.wait_for_runs(3))[2], "hourly catch-up ok");
    service.set_clock("2027-01-03T20:00:05Z");
    let runs = service.wait_for_runs(4);
    assert_eq!((runs.len(), summary(&runs)[3].as_str()), (4, "hourly schedule ok"));
    service.stop();
    assert_eq!(service.snapshots(), ["hourly"; 4]);
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing_and_stops_nothing() {
    let mut service = Service::hourly();
    service.start();
    service.wait_for_runs(1);
    service.set_clock("2027-01-03T13:00:05Z");
    service.wait_for_runs(2);
    // Five minutes back, and on: 13:00 was dealt with.
    service.set_clock("2027-01-03T12:55:00Z");
    service.run(&["run", "web", "--class", "other"]).expect(0);
    service.set_clock("2027-01-03T13:01:00Z");
    service.run(&["run", "web", "--class", "other"]).expect(0);
    service.set_clock("2027-01-03T14:00:01Z");
    let runs = summary(&service.wait_for_runs(5));
    let hourly: Vec<_> = runs.iter().filter(|run| run.starts_with("hourly")).collect();
    assert_eq!(hourly, ["hourly catch-up ok", "hourly schedule ok", "hourly schedule ok"]);
}

#[test]
fn several_classes_of_one_time_each_have_their_snapshot() {
    let service = HOURLY.replace(
        "[class.daily]\nschedule = \"off\"",
        "[class.daily]\nschedule = \"0 2 * * *\"\nrescan = true",
    );
    let mut service = Service::new(&service);
    service.start();
    // The first run stands for all that would have been due.
    service.wait_for_runs(1);
    service.set_clock("2027-01-04T02:00:01Z");
    let mut runs = summary(&service.wait_for_runs(3));
    runs.sort_unstable();
    assert_eq!(runs, ["daily schedule ok", "hourly catch-up ok", "hourly catch-up ok"]);
}

#[test]
fn what_failed_is_tried_again_and_a_good_run_ends_it() {
    let mut service = Service::hourly();
    let disk = service.scene.world.path("disk");
    let away = service.scene.world.path("away");
    fs::rename(&disk, &away).unwrap();
    service.start();
    assert_eq!(summary(&service.wait_for_runs(1)), ["hourly catch-up failed"]);
    // After five minutes, not before.
    service.set_clock("2027-01-03T12:34:00Z");
    service.run(&["run", "web", "--class", "other"]);
    service.wait_for_runs(2);
    fs::rename(&away, &disk).unwrap();
    service.set_clock("2027-01-03T12:36:00Z");
    let runs = summary(&service.wait_for_runs(3));
    assert_eq!(runs, ["hourly catch-up failed", "other manual failed", "hourly catch-up ok"]);
}

#[test]
fn a_full_or_read_only_state_directory_stops_no_backup() {
    let mut service = Service::hourly();
    service.start();
    service.wait_for_runs(1);
    // No ledger can be written any more, whoever it is that writes: it is a directory.
    service.stop();
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(service.state().join(name));
    }
    fs::create_dir(service.state().join("ledger.sqlite")).unwrap();
    fs::set_permissions(service.state().join("ledger.sqlite"), fs::Permissions::from_mode(0o500)).unwrap();
    service.run(&["run", "web"]).expect(0).says("this run is not remembered");
    assert_eq!(service.snapshots().len(), 2);
}

#[test]
fn what_the_policy_does_not_keep_is_forgotten_after_a_run_and_prune_and_check_have_their_times() {
    let policy = HOURLY
        .replace("prune = \"off\"", "prune = \"30 14 * * *\"")
        .replace("check = \"off\"", "check = \"45 14 * * *\"");
    let mut service = Service::new(&format!("[retention]\nkeep_hourly = 2\n{policy}"));
    service.start();
    service.wait_for_runs(1);
    for (number, hour) in ["13", "14"].into_iter().enumerate() {
        service.set_clock(&format!("2027-01-03T{hour}:00:01Z"));
        service.wait_for_runs(number + 2);
    }
    assert_eq!(service.snapshots().len(), 2);
    service.set_clock("2027-01-03T14:30:01Z");
    service.wait_for_runs(4);
    service.set_clock("2027-01-03T14:45:01Z");
    let runs = service.wait_for_runs(5);
    let kinds: Vec<_> =
        runs.iter().skip(3).map(|run| (run["kind"].as_str(), run["result"].as_str())).collect();
    assert_eq!(kinds, [(Some("prune"), Some("ok")), (Some("check"), Some("ok"))]);
    let status = service.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status[0]["data_read_since"], "2027-01-03T14:45:01Z");
}
