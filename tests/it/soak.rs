//! Real processes on an S3 server in this process and on Garage: three machines back up, a fourth forgets and prunes, all at once, and any of them may be killed at any
//! time. Afterwards every snapshot that was acknowledged and not forgotten restores byte for byte.
//!
//! Some rounds run with the other tests. The long form, which prints what it came to:
//! `LIFEBOAT_SOAK_ROUNDS=200 cargo test -p lifeboat-tests --test it -- --ignored soak --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use lifeboat_tests::binary::Person;
use lifeboat_tests::faulty_s3::{self, FaultyS3};
use lifeboat_tests::garage::{self, Garage};
use lifeboat_tests::random::Random;
use lifeboat_tests::world::World;
use serde_json::Value;

/// A machine that backs up.
struct Writer {
    person: Person,
    source: PathBuf,
    random: Random,
}

/// What a process came to.
struct Ran {
    status: ExitStatus,
    objects: Vec<Value>,
    said: String,
}

#[derive(Debug, Default)]
struct Tally {
    acknowledged: usize,
    forgotten: usize,
    killed: usize,
    packs_deleted: u64,
    fenced_or_locked: usize,
}

/// Reads what a process prints, and kills it after a time, unless it has ended before. Nothing depends on where that meets it.
fn run_for(mut child: Child, life: Option<Duration>) -> Ran {
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (ended, end) = mpsc::channel::<()>();
    let read = |stream: Box<dyn Read + Send>| {
        BufReader::new(stream).lines().map(Result::unwrap_or_default).collect::<Vec<_>>()
    };
    let (out, err) = std::thread::scope(|scope| {
        let err = scope.spawn(|| read(Box::new(err)));
        let out = scope.spawn(move || {
            let out = read(Box::new(out));
            drop(ended);
            out
        });
        if let Some(life) = life
            && end.recv_timeout(life) == Err(RecvTimeoutError::Timeout)
        {
            // It may have ended by itself.
            let _ = child.kill();
        }
        (out.join().unwrap(), err.join().unwrap())
    });
    let status = child.wait().unwrap();
    let objects = out.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ran { status, objects, said: err.join("\n") }
}

impl Writer {
    /// Some files change, some come back as they once were.
    fn change(&mut self) {
        let random = &mut self.random;
        for _ in 0..3 {
            let content = Random::new(random.below(40) as u64).bytes(200_000);
            fs::write(self.source.join(format!("file{}", random.below(12))), content).unwrap();
        }
        for _ in 0..5 {
            let folder = self.source.join(format!("folder{}", random.below(6)));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("small{}", random.below(6))), random.text(500)).unwrap();
        }
        // One that may be empty, or not there.
        let _ = fs::remove_dir_all(self.source.join(format!("folder{}", random.below(20))));
    }

    fn backup(&self, life: Option<Duration>) -> Ran {
        let source = self.source.to_str().unwrap();
        run_for(self.person.start(&["--json", "--no-progress", "backup", source]), life)
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A store, and with what it is opened.
struct Store {
    url: String,
    key: (&'static str, &'static str),
    /// Writers and collectors that were killed are over at once: elsewhere it takes an hour.
    fences: bool,
}

fn soak(store: &Store, rounds: usize) -> Tally {
    let (world, mut random, mut tally) = (World::new(), Random::new(rounds as u64), Tally::default());
    let person = |name: &str| {
        Person::new(&world.path(name))
            .with("LIFEBOAT_REPOSITORY", &store.url)
            .with("LIFEBOAT_PASSPHRASE", "secret")
            .with("AWS_ACCESS_KEY_ID", store.key.0)
            .with("AWS_SECRET_ACCESS_KEY", store.key.1)
    };
    let collector = person("collector");
    collector.run(&["init"]).expect(0);
    let mut writers: Vec<Writer> = (0..3)
        .map(|number| {
            let source = world.path(&format!("source{number}"));
            fs::create_dir_all(&source).unwrap();
            Writer { person: person(&format!("machine{number}")), source, random: Random::new(number) }
        })
        .collect();
    // Copies of the sources, by snapshot.
    let mut acknowledged: BTreeMap<String, (PathBuf, PathBuf)> = BTreeMap::new();
    let mut may_be_gone: BTreeSet<String> = BTreeSet::new();
    for round in 0..rounds {
        for writer in &mut writers {
            writer.change();
        }
        // A backup takes about half a second here.
        let mut life = || random.chance(40).then(|| Duration::from_millis(random.below(600) as u64));
        let lives: [_; 5] = std::array::from_fn(|_| life());
        let forgets = ["--json", "forget", "--keep-last", "2", "--group-by", "host,paths"];
        // Whatever was there by now may be forgotten; what is made meanwhile is the newest.
        let before: BTreeSet<String> = acknowledged.keys().cloned().collect();
        let (backed_up, collected) = std::thread::scope(|scope| {
            let backups: Vec<_> = writers
                .iter()
                .zip(&lives)
                .map(|(writer, life)| scope.spawn(|| writer.backup(*life)))
                .collect();
            let forgot = run_for(collector.start(&forgets), lives[3]);
            // A prune that is killed keeps others from it for an hour where nobody can be fenced: that is left to the end.
            let life = lives[4].filter(|_| store.fences || round * 4 >= rounds * 3);
            let prune: &[&str] = match round % 2 {
                0 => &["--json", "prune"],
                _ => &["--json", "prune", "--drop-interrupted", "--max-unused", "0%"],
            };
            let pruned = run_for(collector.start(prune), life);
            (backups.into_iter().map(|b| b.join().unwrap()).collect::<Vec<_>>(), [forgot, pruned])
        });
        for (number, ran) in backed_up.iter().enumerate() {
            assert!(!ran.said.contains("panicked"), "{}", ran.said);
            let made = ran.objects.iter().find_map(|object| object["snapshot"].as_str());
            if let Some(id) = made {
                let kept = world.path(&format!("copy-{id}"));
                copy(&writers[number].source, &kept);
                acknowledged.insert(id.to_owned(), (writers[number].source.clone(), kept));
            }
            count(&mut tally, ran);
        }
        for ran in &collected {
            assert!(!ran.said.contains("panicked"), "{}", ran.said);
            count(&mut tally, ran);
            let deleted = ran.objects.iter().find_map(|object| object["packs_deleted"].as_u64());
            tally.packs_deleted += deleted.unwrap_or_default();
        }
        let forgot = collected[0].objects.iter().filter(|object| object["keep"] == false);
        let named: BTreeSet<String> =
            forgot.filter_map(|object| object["id"].as_str().map(str::to_owned)).collect();
        match collected[0].status.signal() {
            // What it would have named is not known: all but the newest two of each source, at most.
            Some(_) => may_be_gone.extend(before),
            None => may_be_gone.extend(named),
        }
    }
    // Nobody is at work any more.
    let listed = collector.run(&["--json", "snapshots"]).expect(0).json();
    let there: BTreeSet<&str> = listed.iter().filter_map(|snapshot| snapshot["id"].as_str()).collect();
    let pruned = collector.run(&["prune"]);
    assert!(pruned.code == Some(0) || (!store.fences && pruned.code == Some(11)), "{}", pruned.err);
    collector.run(&["check", "--read-data"]).expect(0);
    tally.acknowledged = acknowledged.len();
    for (id, (source, kept)) in &acknowledged {
        if !there.contains(id.as_str()) {
            assert!(may_be_gone.contains(id), "{id} was acknowledged, not forgotten, and is gone");
            tally.forgotten += 1;
            continue;
        }
        let target = world.path("restored");
        let _ = fs::remove_dir_all(&target);
        let what = format!("{id}:{}", source.display());
        collector.run(&["restore", &what, "--target", target.to_str().unwrap()]).expect(0);
        let same =
            Command::new("diff").args(["-r", "--no-dereference"]).arg(kept).arg(&target).output().unwrap();
        assert!(same.status.success(), "{id}: {}", String::from_utf8_lossy(&same.stdout));
    }
    tally
}

fn count(tally: &mut Tally, ran: &Ran) {
    match (ran.status.signal(), ran.status.code()) {
        (Some(9), _) => tally.killed += 1,
        (_, Some(0)) => {}
        // Another collector of this machine that was just killed, or a session that was taken for dead.
        (_, Some(11)) => tally.fenced_or_locked += 1,
        _ => panic!("{:?}: {}", ran.status, ran.said),
    }
}

fn soak_each(rounds: usize) {
    let server = FaultyS3::start();
    let key = (faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY);
    let tally = soak(&Store { url: server.url("soak"), key, fences: true }, rounds);
    println!("{rounds} rounds on a store that creates conditionally: {tally:?}");
    assert!(tally.acknowledged > rounds && tally.killed > 0 && tally.packs_deleted > 0, "{tally:?}");
    if Garage::is_available() {
        let garage = Garage::start();
        let key = (garage::ACCESS_KEY, garage::SECRET_KEY);
        let tally = soak(&Store { url: garage.url("soak"), key, fences: false }, rounds);
        println!("{rounds} rounds on Garage: {tally:?}");
        assert!(tally.acknowledged > rounds && tally.killed > 0, "{tally:?}");
    }
}

#[test]
fn killed_machines_and_a_collector_lose_nothing() {
    soak_each(6);
}

#[test]
#[ignore = "long: see the head of this file"]
fn soak_for_long() {
    soak_each(std::env::var("LIFEBOAT_SOAK_ROUNDS").map_or(60, |text| text.parse().unwrap()));
}
