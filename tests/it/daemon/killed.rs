//! Kills and stops: nothing that was acknowledged is lost, and what was cut off is done again.

use std::fs;

use lifeboat_tests::grow;
use lifeboat_tests::process::wait_for;
use lifeboat_tests::random::Random;

use super::service::{HOURLY, Service, summary};

/// A hook that holds every run of `web` until the gate is opened.
fn with_gate(service: &Service) -> std::path::PathBuf {
    let gate = service.scene.world.path("gate");
    let (disk, source) = (service.scene.path("disk"), service.scene.source());
    let place = gate.display();
    service.write_config(&format!(
        "host = \"here\"\n{HOURLY}\n[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n[[source]]\nname = \"web\"\npaths = [\"{source}\"]\n\
         [source.hooks]\nbefore = [[\"sh\", \"-c\", \"[ -e {place}.open ] || {{ mkfifo {place}; read line < {place}; }}\"]]\n"
    ));
    gate
}

#[test]
fn a_daemon_that_is_killed_goes_on_after_a_restart() {
    let mut service = Service::hourly();
    let gate = with_gate(&service);
    service.start();
    wait_for(|| service.log(), || gate.exists().then_some(()));
    service.kill();
    // Its job goes with it: nobody would note what it comes to.
    fs::write(gate.with_extension("open"), "").unwrap();
    fs::remove_file(&gate).unwrap();
    service.start();
    let runs = service.wait_for_runs(2);
    assert_eq!(summary(&runs), ["hourly catch-up interrupted", "hourly catch-up ok"]);
    assert_eq!(service.snapshots().len(), 1);
}

#[test]
fn a_stop_ends_within_seconds_and_keeps_the_work() {
    let mut service = Service::hourly();
    let gate = with_gate(&service);
    grow::file(&service.scene.world.source().join("large"), 8 << 20, &mut Random::new(1));
    service.start();
    wait_for(|| service.log(), || gate.exists().then_some(()));
    service.stop();
    assert!(service.log().contains("stopping"), "{}", service.log());
    let runs = service.runs();
    assert_eq!(summary(&runs), ["hourly catch-up interrupted"]);
    assert!(service.run(&["check"]).code == Some(0));
}

#[test]
fn a_lost_ledger_is_learnt_anew_from_the_snapshots() {
    let mut service = Service::hourly();
    service.start();
    service.wait_for_runs(1);
    service.kill();
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(service.state().join(name));
    }
    service.start();
    service.set_clock("2027-01-03T13:00:05Z");
    service.wait_for_runs(1);
    let standing = service.run(&["status", "--json"]).expect(0).json();
    let web = standing.iter().find(|line| line["message_type"] == "source").unwrap();
    assert_eq!(web["source"], "web");
    assert!(web["last_good"].is_string(), "{web}");
}

#[test]
fn a_damaged_ledger_is_put_aside_and_begun_anew() {
    let mut service = Service::hourly();
    service.start();
    service.wait_for_runs(1);
    service.kill();
    for name in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(service.state().join(name));
    }
    fs::write(service.state().join("ledger.sqlite"), vec![9; 5000]).unwrap();
    service.start();
    service.wait_until_said("damaged and is begun anew");
    service.set_clock("2027-01-03T13:00:05Z");
    service.wait_for_runs(1);
}

#[test]
fn a_ledger_that_is_deleted_under_the_daemon_is_begun_anew_and_overdue_is_told_all_the_same() {
    let mut service = Service::hourly();
    let hook = lifeboat_tests::hook::Hook::start();
    let channel =
        format!("[[notify.channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"", hook.url("/x"));
    service.configure(&format!("{HOURLY}\n{channel}"));
    service.start();
    service.wait_for_runs(1);
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(service.state().join(name));
    }
    fs::rename(service.scene.world.path("disk"), service.scene.world.path("away")).unwrap();
    for hour in 13..18 {
        service.set_clock(&format!("2027-01-03T{hour}:00:01Z"));
        service.wait_until_counted("web (hourly): failed", hour - 12);
    }
    // While it is tried it is not called overdue.
    service.set_clock("2027-01-03T17:02:01Z");
    let told = |kind: &str| hook.heard().iter().any(|heard| heard.json()["event"]["kind"] == kind);
    wait_for(|| format!("{:#?}\n{}", hook.heard(), service.log()), || told("overdue").then_some(()));
    assert!(told("failure"));
}

#[test]
fn what_dies_without_a_word_is_a_failure_that_is_told() {
    let mut service = Service::hourly();
    let hook = lifeboat_tests::hook::Hook::start();
    let gate = with_gate(&service);
    let config = service.scene.world.path("home/.config/lifeboat/config.toml");
    let channel =
        format!("[[notify.channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\n", hook.url("/x"));
    service.write_config(&(fs::read_to_string(config).unwrap() + &channel));
    service.start();
    wait_for(|| service.log(), || gate.exists().then_some(()));
    let id = service.daemon().id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let run = children_of(id, &children);
    rustix::process::kill_process(run, rustix::process::Signal::KILL).unwrap();
    service.wait_until_said("it was killed");
    let told = || hook.heard().iter().any(|heard| heard.json()["event"]["kind"] == "failure");
    wait_for(|| service.log(), || told().then_some(()));
    assert_eq!(summary(&service.runs()), ["hourly catch-up interrupted"]);
}

/// The one process whose parent is this one.
fn children_of(id: u32, known: &str) -> rustix::process::Pid {
    let of_threads = fs::read_dir(format!("/proc/{id}/task"))
        .unwrap()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let all: Vec<i32> = of_threads
        .chain([known.to_owned()])
        .flat_map(|text| text.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    rustix::process::Pid::from_raw(*all.first().unwrap()).unwrap()
}
