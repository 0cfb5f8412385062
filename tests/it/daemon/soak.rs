//! The service for a long time: thousands of runs, and no more memory or file handles at the end than at the beginning.
//!
//! `LIFEBOAT_SERVICE_RUNS=2000 cargo test --release -p lifeboat-tests --test it -- --ignored daemon::soak --nocapture`

use std::fs;

use chrono::{DateTime, TimeDelta};

use super::service::{BEGIN, HOURLY, Service};

/// Resident memory in KiB, and open files.
fn taken(id: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (kib, fs::read_dir(format!("/proc/{id}/fd")).unwrap().count())
}

/// So many runs of an hour each, with a reload now and then.
fn soak(runs: usize) {
    let mut service = Service::new(HOURLY);
    service.start();
    service.wait_for_runs(1);
    let begin = DateTime::parse_from_rfc3339(BEGIN).unwrap().to_utc();
    let id = service.daemon().id();
    let mut measured = Vec::new();
    for run in 1..=runs {
        let hours = TimeDelta::try_hours(run as i64).unwrap();
        service.set_clock(&(begin + hours).to_rfc3339());
        fs::write(service.scene.world.source().join("counter"), run.to_string()).unwrap();
        service.wait_until_counted("web (hourly): ok", run + 1);
        if run % 7 == 0 {
            service.hang_up();
            service.wait_until_counted("the configuration was read anew", run / 7);
        }
        measured.push(taken(id));
    }
    let quarter = runs.div_ceil(4);
    let greatest = |part: &[(u64, usize)]| {
        (part.iter().map(|(kib, _)| *kib).max().unwrap(), part.iter().map(|(_, files)| *files).max().unwrap())
    };
    let (early, late) = (greatest(&measured[..quarter]), greatest(&measured[runs - quarter..]));
    println!(
        "{runs} runs: memory {} KiB at most in the first quarter, {} in the last; {} and {} files",
        early.0, late.0, early.1, late.1
    );
    assert!(late.1 <= early.1 + 2, "file handles grow: {early:?}, {late:?}");
    assert!(late.0 <= early.0 + early.0 / 10 + 2048, "memory grows: {early:?}, {late:?} KiB");
}

#[test]
fn memory_and_file_handles_are_flat() {
    soak(40);
}

#[test]
#[ignore = "takes as long as it is told to"]
fn memory_and_file_handles_stay_flat_for_long() {
    soak(std::env::var("LIFEBOAT_SERVICE_RUNS").map_or(1000, |runs| runs.parse().unwrap()));
}
