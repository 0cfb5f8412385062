//! Writers and a collector by the real code, on a store at which every call waits for its turn: a schedule drawn from a seed decides who goes on, who is
//! killed, what becomes of calls that were under way, what fails, and how the time passes. Whatever it draws, all that was acknowledged restores byte for
//! byte, all that is listed is whole, and in the end nobody is blocked and nothing is left over.
//!
//! A fixed set of seeds runs with the other tests. A long run, each seed with another schedule:
//! `LIFEBOAT_SIMULATIONS=10000 cargo test --release -p lifeboat-tests --test it -- --ignored simulation --nocapture`; with `LIFEBOAT_SIMULATION_SEED`
//! it begins there, which plays a schedule again. Which call comes next is the seed's; the names of objects are random all the same.

mod gate;
mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_agent::collect::{self, CollectOptions};
use lifeboat_agent::events::Context;
use lifeboat_agent::repository::{Area, Repository};
use lifeboat_agent::restore::{self, RestoreOptions, Selection};
use lifeboat_agent::session::Timing;
use lifeboat_agent::snapshot::Snapshot;
use lifeboat_providers::Sha256;
use lifeboat_providers::layer::Operation;
use lifeboat_providers::layer::fault::{Fault, FaultProvider, Rule, When};
use lifeboat_tests::proof;
use lifeboat_tests::random::Random;
use lifeboat_tests::world::{create, open};
use parking_lot::Mutex;

use gate::{Fate, Gate, Kind};
use machine::{Machine, Pool, Seen};

const KINDS: [Kind; 3] = [
    Kind { conditional_create: true, lags: false },
    Kind { conditional_create: false, lags: false },
    Kind { conditional_create: false, lags: true },
];
const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// All that a schedule acts on.
struct Simulation {
    dir: tempfile::TempDir,
    gate: Arc<Gate>,
    random: Random,
    machines: Vec<Machine>,
    pool: Arc<Pool>,
    /// What was acknowledged and not forgotten: the files of each snapshot.
    acknowledged: BTreeMap<Sha256, Seen>,
    /// What somebody began to forget.
    forgotten: Vec<Sha256>,
    processes: u64,
    /// A process that does nothing until so many others have come to their end.
    asleep: Option<(u64, usize)>,
    said: Tally,
}

/// What all schedules together came to: one in which nothing happens proves nothing.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    acknowledged: u64,
    killed: u64,
    fenced: u64,
    slept: u64,
    packs_deleted: u64,
    held_back: u64,
}

/// In memory, where the system has such a place: all is written durably, and would wait for a disk.
fn directory() -> tempfile::TempDir {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("lifeboat-simulation-");
        builder
    };
    builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir()).unwrap()
}

impl Simulation {
    fn new(kind: Kind, seed: u64) -> Self {
        let (dir, gate, mut random) = (directory(), Gate::new(kind, seed), Random::new(seed));
        gate.clock.pass(DAY);
        let maker = lifeboat_agent::repository::Directories::new(
            dir.path().join("maker-cache"),
            dir.path().join("maker-state"),
        );
        create(gate.store.clone(), &maker, Default::default());
        let pool = Arc::new(Pool::new(&mut random));
        let machines = ["a", "b", "c"].map(|name| Machine::new(dir.path(), name, &mut random)).into();
        Self {
            dir,
            gate,
            random,
            machines,
            pool,
            acknowledged: BTreeMap::new(),
            forgotten: Vec::new(),
            processes: 0,
            asleep: None,
            said: Tally::default(),
        }
    }

    fn run(&mut self, seed: u64) {
        loop {
            self.begin_what_waits(seed);
            let waiting = self.gate.wait_for_all();
            self.gather();
            let waiting: Vec<u64> =
                waiting.into_iter().filter(|process| self.gate.is_alive(*process)).collect();
            if waiting.is_empty() && self.machines.iter().all(Machine::is_done) {
                return;
            }
            let awake: Vec<u64> =
                waiting.iter().copied().filter(|process| !self.is_asleep(*process)).collect();
            let waiting = if awake.is_empty() { waiting } else { awake };
            match self.random.below(100) {
                0..=1 => self.kill(&waiting),
                2..=4 => self.pass(),
                5 => self.sleep(&waiting),
                6..=8 => self.gate.carry_out_late(&mut self.random, false),
                _ if waiting.is_empty() => {}
                _ => {
                    // Who is at it goes on for a while.
                    let process = *self.random.pick(&waiting);
                    for _ in 0..=self.random.below(6) {
                        if self.gate.wait_for_all().contains(&process) {
                            self.gate.let_through(process);
                        }
                    }
                }
            }
        }
    }

    fn begin_what_waits(&mut self, seed: u64) {
        for number in 0..self.machines.len() {
            if self.machines[number].may_begin() && self.random.chance(40) {
                self.processes += 1;
                let passage = self.gate.of_process(self.processes);
                let share = if self.random.chance(30) { 15 } else { 0 };
                let transient = lifeboat_providers::ErrorKind::Transient;
                let faulty = FaultProvider::new(passage)
                    .with_seed(seed ^ self.processes)
                    .with_rule(Rule::new(None, When::PerMille(share), Fault::FailBefore(transient)))
                    .with_rule(Rule::new(Operation::Put, When::PerMille(share), Fault::FailAfter(transient)));
                let machine = &mut self.machines[number];
                let began =
                    machine.begin(self.processes, Arc::new(faulty), &self.gate, &self.pool, &mut self.random);
                self.gate.say(format!("{}: {} begins {began}", self.processes, machine.name));
            }
        }
    }

    /// Takes note of what has ended.
    fn gather(&mut self) {
        for machine in &mut self.machines {
            let Some(ended) = machine.ended(&self.gate) else { continue };
            self.gate.say(format!("{} has ended: {:?}", machine.name, ended.what));
            self.said.acknowledged += u64::from(ended.acknowledged.is_some());
            self.said.fenced += u64::from(ended.is_fenced);
            self.said.packs_deleted += ended.packs_deleted;
            self.said.held_back += u64::from(ended.is_held_back);
            if let Some((_, others)) = &mut self.asleep {
                *others = others.saturating_sub(1);
            }
            self.forgotten.extend(&ended.forgotten);
            if let Some((snapshot, seen)) = ended.acknowledged {
                self.acknowledged.insert(snapshot, seen);
            }
            let may_fail = !self.gate.kind.conditional_create;
            assert!(!ended.is_damage || may_fail, "{:?}\n{:#?}", ended.what, self.gate.said());
        }
    }

    fn is_asleep(&self, process: u64) -> bool {
        self.asleep.is_some_and(|(asleep, others)| asleep == process && others > 0)
    }

    fn sleep(&mut self, waiting: &[u64]) {
        if waiting.is_empty() || self.asleep.is_some_and(|(process, _)| self.gate.is_alive(process)) {
            return;
        }
        let process = *self.random.pick(waiting);
        self.gate.say(format!("{process} sleeps"));
        self.asleep = Some((process, 1 + self.random.below(5)));
        self.said.slept += 1;
    }

    fn kill(&mut self, waiting: &[u64]) {
        if waiting.is_empty() {
            return;
        }
        self.said.killed += 1;
        let process = *self.random.pick(waiting);
        let random = &mut self.random;
        let gate = self.gate.clone();
        gate.kill(process, &mut |call| {
            let fate = *random.pick(&[Fate::Lost, Fate::Done, Fate::Late]);
            gate.say(format!("{process} is killed at {call}: {fate:?}"));
            fate
        });
    }

    fn pass(&mut self) {
        let seconds = *self.random.pick(&[60, 10 * 60, 40 * 60, 2 * HOUR, 12 * HOUR, 2 * DAY]);
        if !self.gate.kind.conditional_create {
            // Where nobody can be fenced, a call is not under way for that long; nor is a process suspended between its look at the clock and
            // its call (RFC 4, "What remains").
            self.gate.carry_out_late(&mut self.random, true);
            if seconds >= 12 * HOUR {
                for process in self.gate.wait_for_all() {
                    self.gate.let_through(process);
                }
                self.gate.wait_for_all();
            }
        }
        self.gate.clock.pass(seconds);
        self.gate.say(format!("{seconds} s pass"));
    }

    fn look(&self, name: &str) -> Repository {
        let directories = machine::directories(self.dir.path(), name);
        let repository = open(self.gate.store.clone(), &directories).unwrap();
        repository.with_timing(Timing { clock: self.gate.clock.clone(), ..Timing::default() })
    }

    /// All that was acknowledged is there and restores, and all that is listed is whole.
    fn prove(&self, when: &str) {
        let repository = self.look(&format!("proof {when}"));
        let history = repository.load_history().unwrap();
        let fail = |what: String| -> ! { panic!("{when}: {what}\n{:#?}", self.gate.said()) };
        for snapshot in &history.snapshots {
            let restored = self.restored(&repository, snapshot);
            match (restored, self.acknowledged.get(&snapshot.id)) {
                (Ok(files), Some(seen)) if files == *seen => {}
                (Ok(_), None) => {}
                (Ok(files), Some(seen)) => fail(format!("{} is {files:?}, not {seen:?}", snapshot.id)),
                (Err(_), None) if !self.gate.kind.conditional_create => {}
                (Err(e), _) => fail(format!("{} does not restore: {e}", snapshot.id)),
            }
        }
        for id in self.acknowledged.keys().filter(|id| !self.forgotten.contains(id)) {
            if !history.snapshots.iter().any(|snapshot| snapshot.id == *id) {
                fail(format!("{id} was acknowledged and is gone"));
            }
        }
    }

    /// What is stored is as it should be, by the words of the program itself.
    fn check(&self, when: &str) {
        let report = proof::check(&self.look(&format!("check {when}")));
        let is_sound = report.damages.is_empty() || !self.gate.kind.conditional_create;
        assert!(is_sound, "{when}: {report:#?}\n{:#?}", self.gate.said());
    }

    fn restored(&self, repository: &Repository, snapshot: &Snapshot) -> Result<Seen, String> {
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let options = RestoreOptions::into_directory(target.path().to_path_buf());
        let selection = Selection::default();
        let outcome = restore::run(repository, snapshot, None, &selection, &options, &Context::silent());
        outcome.and_then(|outcome| outcome.verdict()).map_err(|e| e.to_string())?;
        let host = &snapshot.manifest.host;
        let source = machine::source(self.dir.path(), host);
        self.pool.seen(&target.path().join(source.strip_prefix("/").unwrap()))
    }

    /// When everybody has ended: nobody is blocked, and after some collections nothing is left but what snapshots need.
    fn settle(&mut self) {
        self.gate.carry_out_late(&mut self.random, true);
        self.prove("at the end");
        self.check("at the end");
        self.gate.clock.pass(4 * DAY);
        let options = CollectOptions {
            host: "c".to_owned(),
            max_unused: collect::MaxUnused::Bytes(0),
            ..CollectOptions::default()
        };
        let repository = self.look("tidy");
        for wait in [0, 4 * DAY, 8 * DAY, 2 * HOUR, 2 * HOUR, 40 * DAY, 2 * HOUR, 40 * DAY] {
            self.gate.clock.pass(wait);
            if let Err(e) = collect::run(&repository, &options, &Context::silent()) {
                if e.kind() == lifeboat_agent::Kind::Locked {
                    // A collector that was killed is over some time after it was first seen.
                    continue;
                }
                // One snapshot that lacks something may remain where nobody can be fenced.
                assert!(!self.gate.kind.conditional_create, "{e}\n{:#?}", self.gate.said());
                return;
            }
        }
        self.prove("collected");
        self.check("collected");
        for area in [Area::Sessions, Area::Outcomes, Area::Tombstones] {
            let left = repository.store().list(&area.prefix()).unwrap();
            assert!(left.is_empty(), "{left:?} are left\n{:#?}", self.gate.said());
        }
        let unused =
            collect::run(&repository, &CollectOptions { dry_run: true, ..options }, &Context::silent());
        let frees = unused.unwrap().plan.frees();
        assert_eq!(frees, 0, "{:#?}", self.gate.said());
    }
}

fn simulate(kind: Kind, seed: u64) -> Tally {
    let mut simulation = Simulation::new(kind, seed);
    simulation.run(seed);
    simulation.settle();
    fs::remove_dir_all(simulation.dir.path()).unwrap();
    simulation.said
}

/// All kinds of stores with each of these seeds, on all cores.
fn simulate_all(first: u64, seeds: u64) -> Tally {
    let (next, all) = (AtomicU64::new(first), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    for kind in KINDS {
                        match std::panic::catch_unwind(|| simulate(kind, seed)) {
                            Ok(tally) => all.lock().add(&tally),
                            Err(panic) => {
                                eprintln!("seed {seed}, {kind:?}");
                                std::panic::resume_unwind(panic);
                            }
                        }
                    }
                }
            });
        }
    });
    all.into_inner()
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.killed += other.killed;
        self.fenced += other.fenced;
        self.slept += other.slept;
        self.packs_deleted += other.packs_deleted;
        self.held_back += other.held_back;
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_the_schedule() {
    let tally = simulate_all(1, 100);
    let Tally { acknowledged, killed, fenced, slept, packs_deleted, held_back } = tally.clone();
    for number in [acknowledged, killed, fenced, slept, packs_deleted, held_back] {
        assert!(number > 20, "{tally:?}");
    }
}

#[test]
#[ignore = "long: see the head of this file"]
fn thousands_of_schedules() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = number("LIFEBOAT_SIMULATIONS").unwrap_or(2000);
    let first = number("LIFEBOAT_SIMULATION_SEED").unwrap_or(10_000);
    println!("{} schedules: {:?}", seeds * KINDS.len() as u64, simulate_all(first, seeds));
}
