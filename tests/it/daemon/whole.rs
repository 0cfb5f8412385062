//! The whole service: three destinations, three kinds of sources, one under load, faults, a kill and restarts, a day and more in some minutes. At the end every
//! snapshot that was acknowledged restores, every source was backed up everywhere, and what was promised and missed was told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use lifeboat_drive_double::{Call, Fault, Rule, When};
use lifeboat_tests::binary::Person;
use lifeboat_tests::faulty_s3::{self, FaultyS3};
use lifeboat_tests::hook::Hook;
use lifeboat_tests::process::{Server, wait_for};
use serde_json::Value;

use super::service::HOURLY;
use crate::three_destinations::{S3, Three};

/// A machine with three destinations and three sources, its daemon, and who hears of it.
pub(super) struct Whole<S = FaultyS3> {
    pub(super) three: Three<S>,
    pub(super) person: Person,
    hook: Hook,
    clock: std::path::PathBuf,
    pub(super) daemon: Option<Server>,
}

/// Writes to a database all the time: each transaction moves an amount from one account to another.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Load {
    pub(super) fn begin(path: &Path) -> Self {
        let schema = "PRAGMA journal_mode=WAL; CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount INTEGER); \
                      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO accounts SELECT i, 100 FROM n;";
        sqlite(path, schema);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, path) = (stop.clone(), path.to_path_buf());
        let write = move || {
            let mut transactions = 0;
            while !stopped.load(Ordering::Relaxed) {
                sqlite(
                    &path,
                    "PRAGMA busy_timeout=20000; BEGIN IMMEDIATE; UPDATE accounts SET amount = amount - 7 WHERE id = 3; \
                               UPDATE accounts SET amount = amount + 7 WHERE id = 151; COMMIT;",
                );
                transactions += 1;
            }
            transactions
        };
        Self { stop, thread: Some(std::thread::spawn(write)) }
    }

    /// How many transactions there were.
    pub(super) fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn sqlite(path: &Path, statements: &str) -> String {
    let ran = Command::new("sqlite3").arg("-batch").arg(path).arg(statements).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

impl<S: S3> Whole<S> {
    /// With the schedule as TOML, at this time.
    pub(super) fn new(three: Three<S>, schedule: &str, now: &str) -> Self {
        let clock = three.scene.world.path("clock");
        let person = three.person.clone().with("LIFEBOAT_CLOCK", &clock).with("TZ", "UTC");
        let whole = Self { three, person, hook: Hook::start(), clock, daemon: None };
        whole.set_clock(now);
        let config = whole.three.scene.world.path("home/.config/lifeboat/config.toml");
        let destinations = fs::read_to_string(&config).unwrap();
        let (source, world) = (whole.three.scene.source(), whole.three.scene.path(""));
        let hook = whole.hook.url("/hook");
        let text = format!(
            "host = \"here\"\n{schedule}\n{destinations}\n[[source]]\nname = \"web\"\npaths = [\"{source}\"]\n\
             [[source]]\nname = \"bot\"\nkind = \"sqlite\"\npaths = [\"{world}/*.db\"]\n\
             [[source]]\nname = \"dump\"\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"cat {source}/top; seq 1 20000\"]\nfile = \"/dump.txt\"\n\
             to = [\"disk\", \"s3\"]\n\
             [[notify.channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{hook}\"\nminimum_level = \"info\"\n"
        );
        fs::write(&config, text).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        whole
    }

    pub(super) fn set_clock(&self, now: &str) {
        let new = self.clock.with_extension("new");
        fs::write(&new, now).unwrap();
        fs::rename(&new, &self.clock).unwrap();
    }

    pub(super) fn start(&mut self) {
        let command = self.person.command(&["-v", "daemon"]);
        self.daemon = Some(Server::start("daemon", command, &self.three.scene.world.path("daemon.log")));
    }

    pub(super) fn log(&self) -> String {
        self.daemon.as_ref().map(Server::log).unwrap_or_default()
    }

    pub(super) fn runs(&self) -> Vec<Value> {
        self.person.run(&["runs", "--json", "-n", "1000"]).expect(0).json()
    }

    /// Waits until a source has so many runs that made a snapshot.
    pub(super) fn wait_for_good(&self, source: &str, number: usize) {
        let made = |run: &&Value| run["source"] == source && run["snapshot"].is_string();
        wait_for(
            || format!("{number} runs of {source}: {:#?}\n{}", self.runs(), self.log()),
            || (self.runs().iter().filter(made).count() >= number).then_some(()),
        );
    }

    pub(super) fn told(&self) -> Vec<Value> {
        self.hook.heard().iter().map(|heard| heard.json()["event"].clone()).collect()
    }

    pub(super) fn wait_until_told(&self, event: &str, source: &str) {
        wait_for(
            || format!("{event} of {source} in {:#?}\n{}", self.told(), self.log()),
            || {
                let told = |body: &Value| body["kind"] == event && body["source"] == source;
                self.told().iter().any(told).then_some(())
            },
        );
    }
}

#[test]
fn a_day_with_faults_and_kills_loses_nothing_and_hides_nothing() {
    let mut whole = Whole::new(Three::new(), HOURLY, "2027-01-03T12:30:00Z");
    let database = whole.three.scene.world.path("bot.db");
    let mut load = Load::begin(&database);
    whole.start();
    for source in ["web", "bot", "dump"] {
        whole.wait_for_good(source, 1);
    }
    // An hour later, with a store that refuses now and then, and a daemon that is killed in the middle of it.
    whole.three.s3.fault(
        faulty_s3::Rule::always(faulty_s3::Fault::Refuse(faulty_s3::Refusal::slow_down())).after(3).times(4),
    );
    whole.set_clock("2027-01-03T13:00:01Z");
    wait_for(|| whole.log(), || whole.runs().iter().any(|run| run["ended"].is_null()).then_some(()));
    whole.daemon.as_mut().unwrap().kill();
    whole.three.add("while-it-was-dead", 300_000);
    whole.start();
    for source in ["web", "bot", "dump"] {
        whole.wait_for_good(source, 2);
    }
    whole.three.s3.heal();
    // Google Drive is away for a day: what is missing there is told, and what is not is done.
    let refused = Fault::Forbidden { reason: "insufficientFilePermissions".to_owned() };
    whole.three.drive.fault(Rule::new(Call::Any, When::Always, refused));
    for hour in ["14", "20"] {
        whole.set_clock(&format!("2027-01-03T{hour}:00:01Z"));
        whole.wait_for_good("web", if hour == "14" { 3 } else { 4 });
    }
    whole.wait_until_told("destination_behind", "web");
    whole.set_clock("2027-01-04T14:00:01Z");
    whole.wait_for_good("web", 5);
    // What is being run is not called overdue; a look later it is, at the one destination.
    whole.set_clock("2027-01-04T14:03:01Z");
    whole.wait_until_told("overdue", "web");
    whole.three.drive.clear_faults();
    whole.set_clock("2027-01-04T15:00:01Z");
    whole.wait_for_good("web", 6);
    whole.wait_until_told("recovered", "web");
    let transactions = load.end();
    assert!(transactions > 10);
    whole.set_clock("2027-01-04T16:00:01Z");
    let due: usize = 3 * 7;
    wait_for(
        || format!("{due} runs: {:#?}", whole.runs()),
        || (whole.runs().iter().filter(|run| run["snapshot"].is_string()).count() >= due).then_some(()),
    );
    whole.daemon.as_mut().unwrap().stop();
    whole.verify();
}

impl<S: S3> Whole<S> {
    /// Every acknowledged snapshot is where it was said to be, and all of it comes back.
    pub(super) fn verify(&self) {
        let runs = self.runs();
        let acknowledged: Vec<(&str, &str, Vec<&str>)> = runs
            .iter()
            .filter_map(|run| {
                let at = run["destinations"].as_array()?.iter().filter(|at| at["stored"] == true);
                Some((
                    run["source"].as_str()?,
                    run["snapshot"].as_str()?,
                    at.filter_map(|at| at["destination"].as_str()).collect(),
                ))
            })
            .collect();
        assert!(acknowledged.len() >= 12, "{runs:#?}");
        for (source, snapshot, destinations) in &acknowledged {
            for destination in destinations {
                assert!(!(*source == "dump" && *destination == "drive"), "it does not go there");
                let target =
                    self.three.scene.world.path(&format!("back-{source}-{}-{destination}", &snapshot[..8]));
                let target = target.to_str().unwrap();
                self.person.run(&["-r", destination, "restore", snapshot, "--target", target]).expect(0);
                if *source == "bot" {
                    let copy = Path::new(target)
                        .join(self.three.scene.world.path("bot.db").strip_prefix("/").unwrap());
                    assert_eq!(
                        sqlite(&copy, "PRAGMA integrity_check; SELECT sum(amount), count(*) FROM accounts"),
                        "ok\n20000|200\n"
                    );
                }
                fs::remove_dir_all(target).unwrap();
            }
        }
        self.person.run(&["check", "--all", "--read-data"]).expect(0);
        let status = self.person.run(&["status", "--json"]).expect(0).json();
        let sources: Vec<&Value> = status.iter().filter(|line| line["message_type"] == "source").collect();
        assert_eq!(sources.len(), 8);
        assert!(sources.iter().all(|line| line["overdue"] == false), "{sources:#?}");
    }
}
