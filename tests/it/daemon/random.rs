//! The whole service against a real S3 store, with faults drawn by a seed: stores that die, refuse or stammer, a disk that is away, a daemon that is killed
//! or restarted, over all four classes. After each hour all that was missed was told; at the end every acknowledged snapshot restores.
//!
//! `LIFEBOAT_SERVICE_SEED=7 cargo test -p lifeboat-tests --test it daemon::random` draws others.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use lifeboat_drive_double::{Call, Fault, Rule, When};
use lifeboat_tests::garage::Garage;
use lifeboat_tests::process::wait_for;
use lifeboat_tests::random::Random;
use serde_json::Value;

use super::whole::{Load, Whole};
use crate::three_destinations::Three;

const BEGIN: &str = "2027-01-30T22:30:00Z";
const SCHEDULE: &str = "[schedule]\ntimezone = \"UTC\"\njitter = \"0s\"\nprune = \"off\"\ncheck = \"off\"";

/// Hours, and what is due besides the hourly class. Between some of them hours are missed.
const HOURS: [(&str, Option<&str>); 15] = [
    ("2027-01-30T23:00:01Z", None),
    ("2027-01-31T00:00:01Z", None),
    ("2027-01-31T01:00:01Z", None),
    ("2027-01-31T02:00:01Z", Some("daily")),
    ("2027-01-31T03:00:01Z", Some("weekly")),
    ("2027-01-31T04:00:01Z", None),
    ("2027-01-31T05:00:01Z", None),
    ("2027-01-31T12:00:01Z", None),
    ("2027-01-31T13:00:01Z", None),
    ("2027-01-31T14:00:01Z", None),
    ("2027-01-31T22:00:01Z", None),
    ("2027-01-31T23:00:01Z", None),
    ("2027-02-01T02:00:01Z", Some("daily")),
    ("2027-02-01T04:00:01Z", Some("monthly")),
    ("2027-02-01T05:00:01Z", None),
];
/// Then all is well again.
const WELL: [(&str, Option<&str>); 2] = [("2027-02-01T06:00:01Z", None), ("2027-02-01T07:00:01Z", None)];

const PAIRS: [(&str, &str); 8] = [
    ("web", "disk"),
    ("web", "s3"),
    ("web", "drive"),
    ("bot", "disk"),
    ("bot", "s3"),
    ("bot", "drive"),
    ("dump", "disk"),
    ("dump", "s3"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    GarageDead,
    GarageReadOnly,
    GarageRestarts,
    DriveStammers,
    DriveRefuses,
    DiskAway,
    DaemonKilled,
    DaemonRestarts,
    SourceFails,
}

const TROUBLES: [Trouble; 10] = [
    Trouble::None,
    Trouble::GarageDead,
    Trouble::GarageReadOnly,
    Trouble::GarageRestarts,
    Trouble::DriveStammers,
    Trouble::DriveRefuses,
    Trouble::DiskAway,
    Trouble::DaemonKilled,
    Trouble::DaemonRestarts,
    Trouble::SourceFails,
];

struct Service {
    whole: Whole<Garage>,
    random: Random,
}

impl Service {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.whole.three.scene.world.path(name)
    }

    /// One hour: the trouble begins, what is due runs, what was missed is told, the trouble may end.
    fn hour(&mut self, at: &str, class: Option<&str>, trouble: Trouble) {
        let (name, size) = (format!("at-{}", at.replace(':', "-")), 10_000 + self.random.below(300_000));
        self.whole.three.add(&name, size);
        self.begin(trouble);
        self.whole.set_clock(at);
        match trouble {
            Trouble::GarageRestarts => {
                self.wait_until_busy(at);
                self.whole.three.s3.kill();
                self.whole.three.s3.restart();
            }
            Trouble::DaemonKilled => {
                self.wait_until_busy(at);
                self.whole.daemon.as_mut().unwrap().kill();
                self.whole.start();
            }
            Trouble::DaemonRestarts => {
                self.wait_until_busy(at);
                self.whole.daemon.as_mut().unwrap().stop();
                self.whole.start();
            }
            _ => {}
        }
        self.wait_until_done(at, class);
        self.all_that_was_missed_is_told(at);
    }

    fn begin(&mut self, trouble: Trouble) {
        let seed = self.random.number();
        let three = &mut self.whole.three;
        match trouble {
            Trouble::GarageDead => three.s3.kill(),
            Trouble::GarageReadOnly => three.s3.allow_writing(false),
            Trouble::DriveStammers => {
                let faults = [
                    Fault::Error { status: 500, after_commit: true },
                    Fault::Error { status: 503, after_commit: false },
                    Fault::NoResponse,
                ];
                for (number, fault) in faults.into_iter().enumerate() {
                    let when = When::PerMille { calls: 30, seed: seed ^ number as u64 };
                    three.drive.fault(Rule::new(Call::Any, when, fault));
                }
            }
            Trouble::DriveRefuses => {
                let refused = Fault::Forbidden { reason: "insufficientFilePermissions".to_owned() };
                three.drive.fault(Rule::new(Call::Any, When::Always, refused));
            }
            Trouble::DiskAway => fs::rename(self.path("disk"), self.path("disk-away")).unwrap(),
            Trouble::SourceFails => fs::rename(self.path("source"), self.path("source-away")).unwrap(),
            _ => {}
        }
    }

    fn end(&mut self, trouble: Trouble) {
        let three = &mut self.whole.three;
        match trouble {
            Trouble::GarageDead => three.s3.restart(),
            Trouble::GarageReadOnly => three.s3.allow_writing(true),
            Trouble::DriveStammers | Trouble::DriveRefuses => three.drive.clear_faults(),
            Trouble::DiskAway => fs::rename(self.path("disk-away"), self.path("disk")).unwrap(),
            Trouble::SourceFails => fs::rename(self.path("source-away"), self.path("source")).unwrap(),
            _ => {}
        }
    }

    fn since(&self, at: &str) -> Vec<Value> {
        let is_new = |run: &Value| time(&run["started"]) >= moment(at);
        self.whole.runs().into_iter().filter(is_new).collect()
    }

    fn wait_until_busy(&self, at: &str) {
        wait_for(|| format!("a run at {at}\n{}", self.whole.log()), || self.since(at).first().map(drop));
    }

    /// Each source has tried each class that is due, and nothing runs.
    fn wait_until_done(&self, at: &str, class: Option<&str>) {
        let classes: Vec<&str> = std::iter::once("hourly").chain(class).collect();
        let is_done = || {
            let runs = self.since(at);
            let tried = |source: &str, class: &str| {
                let last = runs.iter().rev().find(|run| run["source"] == source && run["class"] == class);
                last.is_some_and(|run| {
                    ["ok", "incomplete", "failed"].map(Value::from).contains(&run["result"])
                })
            };
            let all =
                ["web", "bot", "dump"].iter().all(|source| classes.iter().all(|class| tried(source, class)));
            (all && runs.iter().all(|run| !run["ended"].is_null())).then_some(())
        };
        wait_for(|| format!("{classes:?} at {at}: {:#?}\n{}", self.since(at), self.whole.log()), is_done);
    }

    fn told(&self, kind: &str, source: &str, destination: Option<&str>, since: DateTime<Utc>) -> bool {
        self.whole.told().iter().any(|event| {
            event["kind"] == kind
                && event["source"] == source
                && destination.is_none_or(|destination| event["destination"] == destination)
                && time(&event["time"]) >= since
        })
    }

    /// By the runs alone: what failed since it was last good, what did not come to a destination, what is late there.
    fn all_that_was_missed_is_told(&self, at: &str) {
        let now = moment(at) + TimeDelta::minutes(2);
        self.whole.set_clock(&now.to_rfc3339());
        let runs = self.whole.runs();
        let good = |run: &&Value| run["snapshot"].is_string();
        let mut missed: BTreeMap<(&str, &str, Option<&str>), DateTime<Utc>> = BTreeMap::new();
        for source in ["web", "bot", "dump"] {
            let of = || runs.iter().filter(|run| run["source"] == source);
            let last_good = of().filter(good).map(|run| time(&run["started"])).max().unwrap();
            if of().any(|run| run["result"] == "failed" && time(&run["started"]) > last_good) {
                missed.insert(("failure", source, None), last_good);
            }
        }
        for (source, destination) in PAIRS {
            let of = || runs.iter().filter(|run| run["source"] == source && run["snapshot"].is_string());
            let there = |run: &&Value| stored(run, destination);
            let last = of().filter(there).map(|run| time(&run["started"])).max().unwrap();
            if of().any(|run| time(&run["started"]) > last) {
                missed.insert(("destination_behind", source, Some(destination)), last);
            }
            if now - last > TimeDelta::hours(2) {
                missed.insert(("overdue", source, Some(destination)), last);
            }
        }
        for ((kind, source, destination), since) in missed {
            wait_for(
                || {
                    format!(
                        "{kind} of {source} at {destination:?} since {since}: {:#?}\n{}",
                        self.whole.told(),
                        self.whole.log()
                    )
                },
                || self.told(kind, source, destination, since).then_some(()),
            );
        }
    }
}

fn stored(run: &Value, destination: &str) -> bool {
    let all = run["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().any(|at| at["destination"] == destination && at["stored"] == true)
}

fn moment(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn time(value: &Value) -> DateTime<Utc> {
    moment(value.as_str().unwrap())
}

#[test]
fn random_faults_lose_nothing_and_hide_nothing() {
    if !Garage::is_available() {
        return;
    }
    let seed = std::env::var("LIFEBOAT_SERVICE_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let whole = Whole::new(Three::with(Garage::start()), SCHEDULE, BEGIN);
    let mut service = Service { whole, random: Random::new(seed) };
    let mut load = Load::begin(&service.path("bot.db"));
    service.whole.start();
    for source in ["web", "bot", "dump"] {
        service.whole.wait_for_good(source, 1);
    }
    let mut trouble = Trouble::None;
    for (at, class) in HOURS {
        // Some last longer than others.
        if trouble == Trouble::None || service.random.chance(60) {
            service.end(trouble);
            trouble = *service.random.pick(&TROUBLES);
            println!("{at}: {trouble:?}");
            service.hour(at, class, trouble);
        } else {
            println!("{at}: still {trouble:?}");
            service.hour(at, class, Trouble::None);
        }
        // The next hour adds to it.
        if trouble == Trouble::SourceFails {
            service.end(trouble);
            trouble = Trouble::None;
        }
    }
    service.end(trouble);
    for (at, class) in WELL {
        service.hour(at, class, Trouble::None);
    }
    assert!(load.end() > 10);
    let runs = service.whole.runs();
    for class in ["hourly", "daily", "weekly", "monthly"] {
        for source in ["web", "bot", "dump"] {
            let is_it = |run: &&Value| run["source"] == source && run["class"] == class;
            assert!(
                runs.iter().filter(is_it).any(|run| run["snapshot"].is_string()),
                "{source} {class}: {runs:#?}"
            );
        }
    }
    for (source, destination) in PAIRS {
        let last = runs.iter().rev().find(|run| run["source"] == source).unwrap();
        assert!(stored(last, destination), "{source} at {destination}: {last:#?}");
    }
    service.whole.daemon.as_mut().unwrap().stop();
    service.whole.verify();
}
