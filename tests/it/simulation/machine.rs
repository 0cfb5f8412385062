//! A machine of a simulation: its source, its memory, and what it does one after the other, each time in a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use lifeboat_agent::backup::{self, BackupOptions, Plan};
use lifeboat_agent::collect::{self, CollectOptions, MaxUnused};
use lifeboat_agent::events::Context;
use lifeboat_agent::repository::{Directories, Repository};
use lifeboat_agent::session::Timing;
use lifeboat_agent::session::process::Process;
use lifeboat_agent::{Kind, Result};
use lifeboat_providers::{Sha256, SharedProvider};
use lifeboat_tests::random::Random;
use lifeboat_tests::world::open;

use super::gate::Gate;

/// Few contents that all machines draw from: what one has forgotten another one stores again.
pub struct Pool(Vec<Vec<u8>>);

/// The files of a source by their contents' numbers.
pub type Seen = BTreeMap<String, usize>;

impl Pool {
    pub fn new(random: &mut Random) -> Self {
        Self((0..6).map(|_| random.bytes(3000)).collect())
    }

    fn write(&self, source: &Path, random: &mut Random) {
        for name in ["one", "two", "three"] {
            if random.chance(60) {
                fs::write(source.join(name), random.pick(&self.0)).unwrap();
            }
        }
    }

    /// What lies in a directory.
    ///
    /// # Errors
    /// If a file is none of the contents.
    pub fn seen(&self, directory: &Path) -> Result<Seen, String> {
        let mut seen = Seen::new();
        for entry in fs::read_dir(directory).map_err(|e| e.to_string())? {
            let path = entry.map_err(|e| e.to_string())?.path();
            let content = fs::read(&path).map_err(|e| e.to_string())?;
            let number = self.0.iter().position(|known| *known == content);
            let number = number.ok_or_else(|| format!("{} is none of the contents", path.display()))?;
            seen.insert(path.file_name().unwrap().to_string_lossy().into_owned(), number);
        }
        Ok(seen)
    }
}

pub fn directories(dir: &Path, name: &str) -> Directories {
    Directories::new(dir.join(name).join("cache"), dir.join(name).join("state"))
}

pub fn source(dir: &Path, name: &str) -> PathBuf {
    dir.join(name).join("source")
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Backup,
    ForgetOldest,
    ForgetNewest,
    Prune,
}

pub struct Machine {
    pub name: &'static str,
    directories: Directories,
    source: PathBuf,
    deeds: Vec<Deed>,
    running: Option<(u64, JoinHandle<Ended>)>,
}

/// What a process came to.
#[derive(Default)]
pub struct Ended {
    pub what: String,
    pub acknowledged: Option<(Sha256, Seen)>,
    /// Snapshots that it began to forget.
    pub forgotten: Vec<Sha256>,
    /// It met something that should not be.
    pub is_damage: bool,
    pub is_fenced: bool,
    pub is_held_back: bool,
    pub packs_deleted: u64,
}

impl Machine {
    pub fn new(dir: &Path, name: &'static str, random: &mut Random) -> Self {
        let source = source(dir, name);
        fs::create_dir_all(&source).unwrap();
        let deeds = match name {
            "c" => {
                use Deed::{ForgetNewest, ForgetOldest, Prune};
                [ForgetOldest, Prune, Prune, ForgetNewest, Prune, Prune, Prune]
            }
            .to_vec(),
            _ => (0..4)
                .map(|_| *random.pick(&[Deed::Backup, Deed::Backup, Deed::Backup, Deed::ForgetOldest]))
                .collect(),
        };
        Self { name, directories: directories(dir, name), source, deeds, running: None }
    }

    pub fn may_begin(&self) -> bool {
        self.running.is_none() && !self.deeds.is_empty()
    }

    pub fn is_done(&self) -> bool {
        self.running.is_none() && self.deeds.is_empty()
    }

    /// Begins the next deed in a process of its own; says which.
    pub fn begin(
        &mut self,
        process: u64,
        store: SharedProvider,
        gate: &Arc<Gate>,
        pool: &Arc<Pool>,
        random: &mut Random,
    ) -> String {
        let deed = self.deeds.remove(0);
        pool.write(&self.source, random);
        let who = Process {
            boot: format!("boot of {}", self.name),
            pid_namespace: "pid:[1]".to_owned(),
            // No such process is on this machine: for those of the same boot it is dead, unless it is their own.
            pid: 1_000_000_000 + process as u32,
            start: process,
        };
        let timing = Timing {
            beat_every: Duration::from_secs(1_000_000),
            clock: gate.clock.clone(),
            process: who,
            ..Timing::default()
        };
        let (directories, source, host) = (self.directories.clone(), self.source.clone(), self.name);
        let (gate, pool) = (gate.clone(), pool.clone());
        let run = move || {
            let mut ended = Ended::default();
            let done = open(store, &directories)
                .map(|repository| repository.with_timing(timing))
                .and_then(|repository| act(deed, &repository, &source, host, &pool, &mut ended));
            match done {
                Ok(what) => ended.what = format!("{deed:?}: {what}"),
                Err(e) => {
                    ended.is_damage = e.kind() == Kind::Damaged;
                    ended.is_fenced = e.kind() == Kind::Fenced;
                    ended.what = format!("{deed:?}: {e}");
                }
            }
            gate.ended(process);
            ended
        };
        let thread = std::thread::Builder::new().name(self.name.to_owned()).spawn(run).unwrap();
        self.running = Some((process, thread));
        format!("{deed:?}")
    }

    /// What its process came to, if it has come to an end or was killed.
    pub fn ended(&mut self, gate: &Gate) -> Option<Ended> {
        let (process, _) = self.running.as_ref()?;
        if gate.is_alive(*process) {
            return None;
        }
        let (_, thread) = self.running.take()?;
        Some(thread.join().unwrap())
    }
}

fn act(
    deed: Deed,
    repository: &Repository,
    source: &Path,
    host: &str,
    pool: &Pool,
    ended: &mut Ended,
) -> Result<String> {
    match deed {
        Deed::Backup => {
            let seen = pool.seen(source).unwrap();
            let options = BackupOptions { host: host.to_owned(), threads: 1, ..BackupOptions::default() };
            let plan = Plan::new(&[source.to_str().unwrap().as_bytes().to_vec()])?;
            let exclude = Default::default();
            let outcome = backup::run(repository, plan, &exclude, &options, &Context::silent())?;
            assert_eq!(outcome.errors_total, 0);
            let snapshot = outcome.snapshot.unwrap();
            ended.acknowledged = Some((snapshot.id, seen));
            Ok(format!("{} of {:?}", snapshot.id, ended.acknowledged))
        }
        Deed::ForgetOldest | Deed::ForgetNewest => {
            let history = repository.load_history()?;
            let chosen = match deed {
                Deed::ForgetOldest => history.snapshots.first(),
                _ => history.snapshots.last(),
            };
            let Some(chosen) = chosen else { return Ok("nothing".to_owned()) };
            ended.forgotten.push(chosen.id);
            repository.forget(&[chosen], host)?;
            Ok(chosen.id.to_string())
        }
        Deed::Prune => {
            let options = CollectOptions {
                host: host.to_owned(),
                max_unused: MaxUnused::Bytes(0),
                ..CollectOptions::default()
            };
            let outcome = collect::run(repository, &options, &Context::silent())?;
            ended.packs_deleted = outcome.packs_deleted;
            ended.is_held_back = !outcome.held_back.is_empty();
            Ok(format!("{} deleted, held back by {:?}", outcome.packs_deleted, outcome.held_back))
        }
    }
}
