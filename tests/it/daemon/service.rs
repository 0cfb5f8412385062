//! A daemon with a configuration, a clock of its own and a disk to back up to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::process::{Server, wait_for};
use serde_json::Value;

use crate::scene::Scene;

/// When the clock begins: a Sunday.
pub const BEGIN: &str = "2027-01-03T12:30:00Z";

pub struct Service {
    pub scene: Scene,
    pub person: Person,
    clock: PathBuf,
    config: PathBuf,
    daemon: Option<Server>,
}

impl Service {
    /// With `more` in its configuration besides a destination `disk` and a source `web`, all hourly unless `more` says otherwise.
    pub fn new(more: &str) -> Self {
        let scene = Scene::new();
        let clock = scene.world.path("clock");
        let folder = scene.world.path("home/.config/lifeboat");
        fs::create_dir_all(&folder).unwrap();
        let person = Person::new(&scene.world.path("home"))
            .with("LIFEBOAT_PASSPHRASE", "secret")
            .with("LIFEBOAT_CLOCK", &clock)
            .with("TZ", "UTC");
        let config = folder.join("config.toml");
        let service = Self { scene, person, clock, config, daemon: None };
        service.set_clock(BEGIN);
        service.configure(more);
        service.run(&["init"]).expect(0);
        service
    }

    /// Writes the configuration: a disk, a source `web`, and `more`.
    pub fn configure(&self, more: &str) {
        let disk = self.scene.path("disk");
        let source = self.scene.source();
        let text = format!(
            "host = \"here\"\n{more}\n[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n\
             [[source]]\nname = \"web\"\npaths = [\"{source}\"]\n"
        );
        self.write_config(&text);
    }

    pub fn write_config(&self, text: &str) {
        fs::write(&self.config, text).unwrap();
        fs::set_permissions(&self.config, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// All classes but the hourly one switched off.
    pub fn hourly() -> Self {
        Self::new(HOURLY)
    }

    pub fn set_clock(&self, now: &str) {
        let new = self.clock.with_extension("new");
        fs::write(&new, now).unwrap();
        fs::rename(&new, &self.clock).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(arguments)
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let mut command = self.person.command(&["-v", "daemon"]);
        command.stdin(Stdio::null());
        self.daemon = Some(Server::start("daemon", command, &self.scene.world.path("daemon.log")));
        wait_for(|| format!("the daemon\n{}", self.log()), || self.socket().exists().then_some(()));
    }

    pub fn socket(&self) -> PathBuf {
        self.state().join("daemon.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.scene.world.path("home/.local/state/lifeboat")
    }

    pub fn daemon(&mut self) -> &mut Server {
        self.daemon.as_mut().unwrap()
    }

    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Server::log).unwrap_or_default()
    }

    /// SIGHUP.
    pub fn hang_up(&mut self) {
        let id = rustix::process::Pid::from_raw(self.daemon().id() as i32).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    }

    pub fn stop(&mut self) {
        self.daemon().stop();
    }

    /// As a power cut would.
    pub fn kill(&mut self) {
        self.daemon().kill();
        self.daemon = None;
    }

    /// All runs, the oldest first.
    pub fn runs(&self) -> Vec<Value> {
        self.run(&["runs", "--json", "-n", "1000"]).expect(0).json()
    }

    /// Waits until so many runs have ended.
    #[track_caller]
    pub fn wait_for_runs(&self, number: usize) -> Vec<Value> {
        wait_for(
            || format!("{number} runs: {:#?}\n{}", self.runs(), self.log()),
            || {
                Some(self.runs())
                    .filter(|runs| runs.iter().filter(|run| !run["ended"].is_null()).count() >= number)
            },
        )
    }

    /// Waits until the daemon has said it.
    #[track_caller]
    pub fn wait_until_said(&self, text: &str) {
        wait_for(|| format!("{text:?} in\n{}", self.log()), || self.log().contains(text).then_some(()));
    }

    /// Waits until the daemon has said it so many times.
    #[track_caller]
    pub fn wait_until_counted(&self, text: &str, times: usize) {
        wait_for(
            || format!("{text:?} {times} times in\n{}", self.log()),
            || (self.log().matches(text).count() >= times).then_some(()),
        );
    }

    /// Classes of the snapshots, the oldest first.
    pub fn snapshots(&self) -> Vec<String> {
        let listed = self.run(&["snapshots", "--json"]).expect(0).json();
        listed.iter().filter_map(|s| s["class"].as_str().map(str::to_owned)).collect()
    }
}

pub const HOURLY: &str = "[class.daily]\nschedule = \"off\"\n[class.weekly]\nschedule = \"off\"\n[class.monthly]\nschedule = \"off\"\n\
                          [schedule]\ntimezone = \"UTC\"\njitter = \"0s\"\nprune = \"off\"\ncheck = \"off\"";

/// What of the runs is worth comparing: class, cause, result.
pub fn summary(runs: &[Value]) -> Vec<String> {
    let word = |run: &Value, name: &str| run[name].as_str().unwrap_or("-").to_owned();
    runs.iter().map(|run| [word(run, "class"), word(run, "cause"), word(run, "result")].join(" ")).collect()
}
