//! Freeing space: what is forgotten goes, what is kept restores byte for byte, whatever happens in between.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_agent::collect::{self, Action, CollectOptions, MaxUnused, Outcome, Reason};
use lifeboat_agent::compress::Level;
use lifeboat_agent::events::Context;
use lifeboat_agent::fetch::ChunkReader;
use lifeboat_agent::index::Index;
use lifeboat_agent::ingest::{ChunkSink, Ingest, IngestOptions};
use lifeboat_agent::pack::directory::PackKind;
use lifeboat_agent::pack::segment::{OpenSegment, SegmentCoder};
use lifeboat_agent::repository::Repository;
use lifeboat_agent::repository::create::CreateOptions;
use lifeboat_agent::seal::Cipher;
use lifeboat_agent::seal::slot::{Cost, Purpose};
use lifeboat_agent::session::{self, Role, Timing, clock::Clock};
use lifeboat_agent::snapshot::Snapshot;
use lifeboat_agent::{Kind, Result};
use lifeboat_providers::layer::fault::{Fault, FaultHook, Rule, When};
use lifeboat_providers::layer::{FaultProvider, Operation};
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_providers::{ErrorKind, Prefix, SharedProvider};
use lifeboat_tests::grow;
use lifeboat_tests::objects::{self, Objects, keys_in, read_all, store_of};
use lifeboat_tests::proof;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::{Tree, see};
use lifeboat_tests::world::{World, backup, backup_all, create, open, options, secret};
use parking_lot::Mutex;

const ALL: MaxUnused = MaxUnused::Bytes(0);

/// Frees all that can be freed.
fn prune(repository: &Repository) -> Result<Outcome> {
    prune_to(repository, ALL)
}

fn prune_to(repository: &Repository, max_unused: MaxUnused) -> Result<Outcome> {
    let options = CollectOptions { max_unused, host: "test".to_owned(), ..CollectOptions::default() };
    collect::run(repository, &options, &Context::silent())
}

fn plan(repository: &Repository) -> collect::Plan {
    let options = CollectOptions {
        max_unused: ALL,
        dry_run: true,
        host: "test".to_owned(),
        ..CollectOptions::default()
    };
    collect::run(repository, &options, &Context::silent()).unwrap().plan
}

/// Bytes of packs.
fn stored(objects: &Objects) -> usize {
    let packs = ["packs", "meta"].into_iter().flat_map(|folder| keys_in(objects, folder));
    packs.map(|key| objects[&key].len()).sum()
}

/// A repository of which the first of three snapshots was forgotten.
struct Scene {
    world: World,
    store: Arc<MemoryProvider>,
    kept: Vec<(Snapshot, Tree)>,
    forgotten: Snapshot,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let world = World::new();
        let store = Arc::new(MemoryProvider::new());
        let repository = create(store.clone(), &world.machine("first"), Cipher::default());
        grow::grow(&world.source(), 15, &mut random);
        for number in 0..6 {
            grow::file(&world.source().join(format!("big{number}")), 120_000, &mut random);
        }
        let mut snapshots = vec![(backup_all(&repository, &world.source()), see(&world.source()))];
        for number in 0..4 {
            fs::remove_file(world.source().join(format!("big{number}"))).unwrap();
        }
        for round in 0..2 {
            grow::edit(&world.source(), 10, &mut random);
            grow::file(&world.source().join(format!("new{round}")), 50_000, &mut random);
            snapshots.push((backup_all(&repository, &world.source()), see(&world.source())));
        }
        let (forgotten, _) = snapshots.remove(0);
        repository.forget(&[&forgotten], "test").unwrap();
        Self { world, store, kept: snapshots, forgotten }
    }

    fn open(&self, machine: &str) -> Repository {
        self.open_over(self.store.clone(), machine)
    }

    fn open_over(&self, store: SharedProvider, machine: &str) -> Repository {
        open(store, &self.world.machine(machine)).unwrap()
    }

    /// All that is kept restores, and all is clean, for this machine and for another.
    fn assert_whole(&self, repository: &Repository, when: &str) {
        proof::assert_whole(repository, when);
        for (snapshot, tree) in &self.kept {
            self.world.restored(repository, snapshot).assert_equals(tree, when);
        }
    }
}

#[test]
fn what_is_forgotten_is_freed_once_and_what_is_kept_restores() {
    let scene = Scene::new(1);
    let repository = scene.open("first");
    let before = read_all(&*scene.store);
    let promised = plan(&repository);
    assert_eq!(read_all(&*scene.store), before, "a dry run changed something");
    let outcome = prune(&repository).unwrap();
    let after = read_all(&*scene.store);
    assert_eq!(outcome.plan, promised);
    assert!(outcome.packs_repacked > 0 && outcome.segments_repacked > 0, "{outcome:?}");
    assert_eq!(
        stored(&before) as i64 - stored(&after) as i64,
        outcome.bytes_freed(),
        "it says what it did: {outcome:?}"
    );
    // Four of six large files were only in the forgotten snapshot.
    assert!(outcome.bytes_freed() > 300_000, "{}", outcome.bytes_freed());
    scene.assert_whole(&repository, "after the prune");
    scene.assert_whole(&scene.open("stranger"), "for another machine");
    assert!(proof::places(&repository).values().all(|packs| packs.len() == 1));
    let outcome = prune(&scene.open("first")).unwrap();
    assert_eq!((outcome.packs_deleted, outcome.packs_repacked, outcome.plan.frees()), (0, 0, 0));
    assert_eq!(read_all(&*scene.store), after, "a second prune changed something");
    // Backups go on, and do not lean on what is gone.
    let snapshot = backup_all(&repository, &scene.world.source());
    scene
        .world
        .restored(&repository, &snapshot)
        .assert_equals(&see(&scene.world.source()), "the next backup");
}

/// In packs of several segments, those that are in use are copied as they are.
#[test]
fn whole_segments_are_copied_without_being_compressed_again() {
    let world = World::new();
    let store = Arc::new(MemoryProvider::new());
    let options = CreateOptions {
        cipher: Cipher::default(),
        purpose: Purpose::KeyFile,
        label: "test".to_owned(),
        cost: Cost::LOWEST,
        pack_bytes: Some(16 << 20),
    };
    let machine = world.machine("first");
    let repository = Repository::create(store.clone(), &secret(), &options, machine).unwrap();
    let noise = |name: &str, seed| {
        fs::write(world.source().join(name), Random::new(seed).bytes(2_000_000)).unwrap();
    };
    for seed in 0..6 {
        noise(&format!("file{seed}"), seed);
    }
    let forgotten = backup_all(&repository, &world.source());
    for seed in 0..2 {
        fs::remove_file(world.source().join(format!("file{seed}"))).unwrap();
    }
    let (kept, tree) = (backup_all(&repository, &world.source()), see(&world.source()));
    repository.forget(&[&forgotten], "test").unwrap();
    let outcome = prune(&repository).unwrap();
    assert!(outcome.segments_copied > 0 && outcome.bytes_freed() > 3_900_000, "{outcome:?}");
    proof::assert_whole(&repository, "after the prune");
    world.restored(&repository, &kept).assert_equals(&tree, "after the prune");
}

#[test]
fn within_the_limit_nothing_is_copied() {
    let scene = Scene::new(2);
    let outcome = prune_to(&scene.open("first"), MaxUnused::Unlimited).unwrap();
    assert!(outcome.packs_deleted > 0 && outcome.packs_repacked == 0, "{outcome:?}");
    scene.assert_whole(&scene.open("first"), "unlimited");
}

/// The store fails from every call of a prune on, or at that call alone: nothing is lost, and the next prune completes it.
fn survives_at_every_call(when: impl Fn(u64) -> When, fault: &Fault, name: &str) {
    let scene = Scene::new(3);
    let base = read_all(&*scene.store);
    let counting = Arc::new(FaultProvider::new(store_of(&base)));
    let counted = prune(&scene.open_over(counting.clone(), "counting")).unwrap();
    let calls = counting.calls_in_all();
    assert!(calls > 30 && counted.packs_deleted > 1, "{calls} calls: the scene is too small to say anything");
    for call in 1..=calls {
        let when_text = format!("{name} at call {call} of {calls}");
        let machine = when_text.replace('/', " ");
        let store = store_of(&base);
        let rule = Rule::new(None, when(call), fault.clone());
        let faulty = Arc::new(FaultProvider::new(store.clone()).with_rule(rule));
        let _ = open(faulty, &scene.world.machine(&machine)).and_then(|repository| prune(&repository));
        let repository = scene.open_over(store.clone(), &machine);
        proof::assert_whole(&repository, &format!("{when_text}, at once"));
        prune(&repository).unwrap_or_else(|e| panic!("{when_text}, the next prune: {e:?}"));
        let again = prune(&repository).unwrap();
        assert_eq!((again.packs_deleted, again.plan.frees()), (0, 0), "{when_text}: {again:?}");
        let objects = read_all(&*store);
        assert!(keys_in(&objects, "sessions").is_empty(), "{when_text}: sessions are left");
        scene.assert_whole(&repository, &format!("{when_text}, after the next prune"));
    }
}

#[test]
fn the_store_is_gone_from_a_call_on() {
    survives_at_every_call(When::From, &Fault::FailBefore(ErrorKind::Transient), "gone");
}

#[test]
fn the_store_does_and_denies_from_a_call_on() {
    survives_at_every_call(When::From, &Fault::FailAfter(ErrorKind::Transient), "denying");
}

#[test]
fn one_call_fails() {
    survives_at_every_call(When::Call, &Fault::FailBefore(ErrorKind::Denied), "failing once");
}

/// rustic #392: a chunk that is stored twice must not make a pack go that is in use.
#[test]
fn chunks_that_lie_in_two_packs_and_twice_in_one_are_kept_once() {
    let scene = Scene::new(4);
    let repository = scene.open("first");
    let reader = ChunkReader::new(&repository, Arc::new(repository.load_catalog().unwrap().index));
    let places = proof::places(&repository);
    let mut chunks = Vec::new();
    for id in places.keys() {
        let Some(location) = reader.index().lookup(id) else { continue };
        let bytes = match location.kind {
            PackKind::Data => reader.data(id, location.length.into()).unwrap().to_vec(),
            PackKind::Metadata => reader.metadata(id).unwrap().to_vec(),
        };
        chunks.push((location.kind, *id, bytes));
    }
    // Another machine at the same time, whose index knew nothing of all that.
    let blind = || {
        let index = Arc::new(Index::in_memory());
        Ingest::start(&repository, index, IngestOptions::default(), &Context::silent()).unwrap()
    };
    let ingest = blind();
    let mut sink = ChunkSink::new(&ingest).unwrap();
    for (kind, _, bytes) in &chunks {
        match kind {
            PackKind::Data => sink.data(bytes).unwrap(),
            PackKind::Metadata => sink.metadata(bytes).unwrap(),
        };
    }
    sink.flush().unwrap();
    ingest.finish().unwrap();
    // And one that stores each chunk twice in one pack.
    let ingest = blind();
    let mut coder = SegmentCoder::new(Level::DEFAULT, true).unwrap();
    for (kind, id, bytes) in chunks.iter().take(20) {
        for _ in 0..2 {
            let mut segment = OpenSegment::default();
            segment.push(*id, bytes);
            segment.push(*id, bytes);
            ingest.store_segment(*kind, &mut segment, &mut coder).unwrap();
        }
    }
    ingest.finish().unwrap();
    assert!(proof::places(&repository).values().any(|packs| packs.len() >= 5));
    let outcome = prune(&repository).unwrap();
    scene.assert_whole(&repository, "after the prune");
    scene.assert_whole(&scene.open("stranger"), "for another machine");
    let twice: Vec<_> = proof::places(&repository).into_iter().filter(|(_, packs)| packs.len() > 1).collect();
    assert!(twice.is_empty(), "{outcome:?}: {twice:?}");
    assert_eq!(prune(&repository).unwrap().plan.frees(), 0);
}

#[test]
fn a_writer_at_work_holds_back_what_it_may_need() {
    let scene = Scene::new(5);
    let (first, second) = (scene.open("first"), scene.open("second"));
    let writer = session::open(&second, "second", Role::Writer).unwrap();
    let before = keys_in(&read_all(&*scene.store), "packs");
    let outcome = prune(&first).unwrap();
    assert!(outcome.packs_deleted == 0 && !outcome.held_back.is_empty(), "{outcome:?}");
    assert!(outcome.held_back[0].by[0].contains("second"), "{:?}", outcome.held_back);
    let after = keys_in(&read_all(&*scene.store), "packs");
    assert!(before.iter().all(|key| after.contains(key)));
    scene.assert_whole(&first, "held back");
    // One that begins now knows what is about to go.
    let late = session::open(&second, "second", Role::Writer).unwrap();
    writer.close().unwrap();
    let outcome = prune(&first).unwrap();
    assert!(outcome.packs_deleted > 0 && outcome.held_back.is_empty(), "{outcome:?}");
    late.close().unwrap();
    scene.assert_whole(&first, "after the writer has ended");
}

#[test]
fn another_prune_at_work_is_said() {
    let scene = Scene::new(6);
    let other = session::open(&scene.open("second"), "nas", Role::Collector).unwrap();
    let before = read_all(&*scene.store);
    let error = prune(&scene.open("first")).unwrap_err();
    assert_eq!(error.kind().exit_code(), 11);
    assert!(error.to_string().contains("nas") && error.hint().is_some(), "{error:?}");
    assert_eq!(read_all(&*scene.store), before);
    other.close().unwrap();
    prune(&scene.open("first")).unwrap();
}

/// A backup that began before the prune commits between its plan and its sweep, and leans on what was to go.
#[test]
fn what_a_snapshot_made_meanwhile_needs_stays() {
    let scene = Scene::new(7);
    let committed: Arc<Mutex<Option<Snapshot>>> = Arc::default();
    let hook: FaultHook = {
        let (store, machine) = (scene.store.clone(), scene.world.machine("second"));
        let (manifest, committed) = (scene.forgotten.manifest.clone(), committed.clone());
        Arc::new(move |_, _| {
            let (store, machine) = (store.clone(), machine.clone());
            let (manifest, committed) = (manifest.clone(), committed.clone());
            let commit = std::thread::spawn(move || {
                let repository = open(store, &machine).unwrap();
                let session = session::open(&repository, "second", Role::Writer).unwrap();
                let snapshot = repository.append_snapshot(manifest, &session, &Context::silent()).unwrap();
                session.close().unwrap();
                *committed.lock() = Some(snapshot);
            });
            commit.join().unwrap();
        })
    };
    let rule = Rule::new(Operation::Put, When::Call(1), Fault::HookBefore(hook))
        .in_folder(Prefix::folder("tombstones").unwrap());
    let faulty = Arc::new(FaultProvider::new(scene.store.clone()).with_rule(rule));
    let outcome = prune(&scene.open_over(faulty, "first")).unwrap();
    assert!(outcome.packs_needed > 0, "{outcome:?}");
    let snapshot = committed.lock().take().unwrap();
    let repository = scene.open("first");
    let restore = |when: &str| {
        scene.assert_whole(&repository, when);
        assert!(!scene.world.restored(&repository, &snapshot).contents().is_empty());
    };
    restore("at once");
    // It lies only in packs that a tombstone names: now it is copied, and they go.
    let outcome = prune(&repository).unwrap();
    let again = |planned: &&collect::plan::Planned| planned.reason == Reason::NeededAgain;
    assert!(outcome.plan.packs.iter().filter(again).count() > 0, "{outcome:?}");
    restore("after the next prune");
    prune(&repository).unwrap();
    restore("after the one after that");
}

#[test]
fn what_cannot_be_deleted_is_said_and_borne() {
    let scene = Scene::new(8);
    let denied = Rule::new(Operation::Delete, When::Always, Fault::FailBefore(ErrorKind::Denied))
        .in_folder(Prefix::folder("packs").unwrap());
    let faulty = Arc::new(FaultProvider::new(scene.store.clone()).with_rule(denied));
    let repository = scene.open_over(faulty, "first");
    let outcome = prune(&repository).unwrap();
    assert!(outcome.denied.objects > 0 && outcome.denied.bytes > 0, "{outcome:?}");
    assert!(outcome.denied.reason.contains("packs/"), "{}", outcome.denied.reason);
    scene.assert_whole(&repository, "denied");
    let before = read_all(&*scene.store);
    let again = prune(&repository).unwrap();
    assert_eq!((again.denied.objects, again.packs_repacked), (outcome.denied.objects, 0));
    assert_eq!(read_all(&*scene.store), before, "a second try wrote something");
    let repository = scene.open("first");
    let allowed = prune(&repository).unwrap();
    assert_eq!(allowed.packs_deleted, outcome.denied.objects);
    scene.assert_whole(&repository, "allowed again");
}

#[test]
fn nothing_goes_while_a_snapshot_cannot_be_read() {
    for folder in ["meta", "snapshots", "index", "packs"] {
        let scene = Scene::new(9);
        let before = read_all(&*scene.store);
        for key in keys_in(&before, folder) {
            let store = store_of(&before);
            let damaged = bytes::Bytes::from(before[&key][..before[&key].len() / 2].to_vec());
            objects::put(&*store, &key, &damaged);
            let repository = scene.open_over(store.clone(), &key.replace('/', " "));
            let Err(error) = prune(&repository) else {
                // What it holds nothing needs.
                proof::assert_whole(&repository, &key);
                continue;
            };
            assert_eq!(error.kind(), Kind::Damaged, "{key}: {error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("lifeboat")), "{key}: {error:?}");
            let after = read_all(&*store);
            assert!(before.keys().all(|key| after.contains_key(key)), "{key}: something was deleted");
        }
    }
}

/// A reader that has loaded the index goes on when a prune moves what it reads.
#[test]
fn a_reader_finds_what_a_prune_has_moved() {
    let scene = Scene::new(10);
    let repository = scene.open("reader");
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = said.clone();
    let index = Arc::new(repository.load_catalog().unwrap().index);
    let reader = ChunkReader::new(&repository, index).with_rescue(move |text| heard.lock().push(text));
    let outcome = prune(&scene.open("first")).unwrap();
    assert!(outcome.packs_repacked > 0 && outcome.packs_deleted > 0, "{outcome:?}");
    for (snapshot, _) in &scene.kept {
        let root = snapshot.manifest.root().unwrap();
        read_below(&reader, root.content().unwrap());
    }
    assert!(said.lock().is_empty(), "{:?}", said.lock());
}

fn read_below(reader: &ChunkReader, directory: &lifeboat_agent::tree::Content) {
    use lifeboat_agent::tree::EntryKind;
    for entry in reader.directory(directory).unwrap() {
        match entry.kind {
            EntryKind::Directory { content, .. } => read_below(reader, &content),
            EntryKind::File { content, .. } => reader
                .for_each_extent(&content, &mut |extent| match extent.id {
                    Some(id) => reader.data(&id, extent.length).map(drop),
                    None => Ok(()),
                })
                .unwrap(),
            _ => {}
        }
    }
}

/// A clock that runs ahead of this machine's.
#[derive(Debug)]
struct Ahead(Mutex<Duration>);

impl Clock for Ahead {
    fn boot_time(&self) -> Duration {
        Duration::from_secs(1_000_000) + *self.0.lock()
    }

    fn wall_time(&self) -> Duration {
        Duration::from_secs(2_000_000_000) + *self.0.lock()
    }
}

#[test]
fn what_an_interrupted_run_has_stored_is_kept_for_a_week() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let scene = Scene::new(11);
    let clock = Arc::new(Ahead(Mutex::default()));
    let timed = || scene.open("first").with_timing(Timing { clock: clock.clone(), ..Timing::default() });
    prune(&timed()).unwrap();
    let before = keys_in(&read_all(&*scene.store), "packs");
    for number in 0..8 {
        grow::file(
            &scene.world.source().join(format!("more{number}")),
            90_000,
            &mut Random::new(number + 99),
        );
    }
    let rule = Rule::new(Operation::Put, When::Always, Fault::FailBefore(ErrorKind::Transient))
        .in_folder(Prefix::folder("index").unwrap());
    let faulty = Arc::new(FaultProvider::new(scene.store.clone()).with_rule(rule));
    backup(&scene.open_over(faulty, "second"), &scene.world.source(), &options()).unwrap_err();
    let stored = keys_in(&read_all(&*scene.store), "packs");
    assert!(stored.len() > before.len());
    for days in [0, 6] {
        *clock.0.lock() += days * DAY;
        let outcome = prune(&timed()).unwrap();
        assert_eq!(outcome.packs_deleted, 0, "after {days} days: {outcome:?}");
        let kept = |planned: &collect::plan::Planned| planned.reason == Reason::Interrupted;
        assert!(outcome.plan.packs.iter().any(kept), "after {days} days: {outcome:?}");
        assert_eq!(keys_in(&read_all(&*scene.store), "packs"), stored, "after {days} days");
    }
    *clock.0.lock() += 2 * DAY;
    let outcome = prune(&timed()).unwrap();
    assert!(outcome.packs_deleted > 0, "{outcome:?}");
    assert_eq!(keys_in(&read_all(&*scene.store), "packs"), before);
    assert!(keys_in(&read_all(&*scene.store), "sessions").is_empty());
    // Tombstones stay for a month after their packs are gone, then they go, too.
    assert!(!keys_in(&read_all(&*scene.store), "tombstones").is_empty());
    prune(&timed()).unwrap();
    *clock.0.lock() += 31 * DAY;
    prune(&timed()).unwrap();
    assert!(keys_in(&read_all(&*scene.store), "tombstones").is_empty());
    scene.assert_whole(&timed(), "at the end");
    assert_eq!(plan(&timed()).of(Action::Delete).count(), 0);
}
