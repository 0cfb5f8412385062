//! Sessions on a store in memory: by a clock that the test turns.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_providers::Sha256;
use lifeboat_providers::memory::MemoryProvider;
use parking_lot::Mutex;

use super::clock::Clock;
use super::process::Process;
use super::*;
use crate::Kind;
use crate::chunk::ChunkId;
use crate::events::Context;
use crate::index::Index;
use crate::ingest::{ChunkSink, Ingest, IngestOptions};
use crate::repository::create::CreateOptions;
use crate::repository::tombstones::Tombstone;
use crate::repository::{Area, Directories, Repository, Tombstones, layout};
use crate::seal::header::ObjectKind;
use crate::seal::slot::{Cost, Purpose, Secret};
use crate::seal::{SealedObject, SecretKey};

/// A clock that goes when it is told to.
#[derive(Debug, Clone, Default)]
pub(super) struct TurnedClock(Arc<Mutex<(u64, u64)>>);

impl TurnedClock {
    /// Seconds pass.
    pub(super) fn pass(&self, seconds: u64) {
        let mut now = self.0.lock();
        *now = (now.0 + seconds, now.1 + seconds);
    }

    /// The machine was started so many seconds ago.
    pub(super) fn reboot(&self, seconds: u64) {
        self.0.lock().0 = seconds;
    }

    /// The wall clock is set forward.
    pub(super) fn jump(&self, seconds: u64) {
        self.0.lock().1 += seconds;
    }

    /// The wall clock is set back.
    pub(super) fn jump_back(&self, seconds: u64) {
        self.0.lock().1 -= seconds;
    }
}

impl Clock for TurnedClock {
    fn boot_time(&self) -> Duration {
        Duration::from_secs(self.0.lock().0)
    }

    fn wall_time(&self) -> Duration {
        Duration::from_secs(self.0.lock().1)
    }
}

/// A repository in memory with two data packs, and the chunks they hold.
struct Scene {
    dir: tempfile::TempDir,
    store: Arc<MemoryProvider>,
    clock: TurnedClock,
}

fn secret() -> Secret {
    Secret::Key(SecretKey::from_bytes([7; 32]))
}

impl Scene {
    fn new(store: MemoryProvider) -> Self {
        let scene =
            Self { dir: tempfile::tempdir().unwrap(), store: Arc::new(store), clock: TurnedClock::default() };
        scene.clock.pass(1_000_000);
        let options = CreateOptions {
            cipher: Default::default(),
            purpose: Purpose::KeyFile,
            label: String::new(),
            cost: Cost::LOWEST,
            pack_bytes: Some(4 << 10),
        };
        Repository::create(scene.store.clone(), &secret(), &options, scene.machine("maker")).unwrap();
        scene
    }

    fn machine(&self, name: &str) -> Directories {
        let path = self.dir.path().join(name);
        Directories::new(path.join("cache"), path.join("state"))
    }

    /// Opens it as another machine would, by the clock of the test; beats are far away.
    fn open(&self, machine: &str) -> Repository {
        self.open_beating(machine, HOURS_24)
    }

    fn open_beating(&self, machine: &str, beat_every: Duration) -> Repository {
        let repository = Repository::open(self.store.clone(), &secret(), self.machine(machine)).unwrap();
        repository.with_timing(Timing {
            beat_every,
            clock: Arc::new(self.clock.clone()),
            ..Timing::default()
        })
    }
}

const HOURS_24: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: u64 = 60 * 60;

fn begin(repository: &Repository, host: &str) -> OpenSession {
    open(repository, host, Role::Writer).unwrap()
}

/// A session of a machine that is far away: as stored by it.
fn foreign(repository: &Repository, id: u128, change: impl FnOnce(&mut SessionObject)) -> u128 {
    let mut object =
        SessionObject { boot: "far".to_owned(), ..SessionObject::new("far", Role::Writer, &Process::own()) };
    change(&mut object);
    put_foreign(repository, id, &object);
    id
}

fn put_foreign(repository: &Repository, id: u128, object: &SessionObject) {
    let sealed = repository.seal(ObjectKind::Session, &object.encode().unwrap()).unwrap();
    repository.store().replace(&layout::session(id).unwrap(), &sealed).unwrap();
}

fn object(repository: &Repository, text: &str) -> SealedObject {
    repository.seal(ObjectKind::Snapshot, text.as_bytes()).unwrap()
}

fn count(repository: &Repository, area: Area) -> usize {
    repository.store().list(&area.prefix()).unwrap().len()
}

fn settled(repository: &Repository) -> (usize, usize, usize) {
    let settled = settle(repository, None, &Context::silent()).unwrap();
    (settled.at_work.len(), settled.over.len(), settled.helped.len())
}

#[test]
fn a_session_that_is_closed_leaves_nothing_behind() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    let session = begin(&repository, "a");
    assert_eq!((count(&repository, Area::Sessions), settled(&repository)), (1, (1, 0, 0)));
    session.commit(&[object(&repository, "one"), object(&repository, "two")]).unwrap();
    assert_eq!((count(&repository, Area::Outcomes), count(&repository, Area::Snapshots)), (1, 2));
    session.close().unwrap();
    for area in [Area::Sessions, Area::Outcomes] {
        assert_eq!(count(&repository, area), 0, "{area:?}");
    }
}

#[test]
fn a_writer_that_was_fenced_commits_nothing() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    let session = begin(&repository, "a");
    assert_eq!(fence(&scene.open("b"), session.id()).unwrap(), Outcome::Fenced);
    let error = session.commit(&[object(&repository, "late")]).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Fenced, 11), "{error:?}");
    assert_eq!(count(&repository, Area::Snapshots), 0);
    session.close().unwrap();
    // The fence is not its own to remove: a late request of it must still meet it.
    assert_eq!((count(&repository, Area::Sessions), count(&repository, Area::Outcomes)), (0, 1));
}

#[test]
fn who_fences_too_late_finds_the_snapshots_and_puts_them() {
    let scene = Scene::new(MemoryProvider::new());
    let (repository, other) = (scene.open("a"), scene.open("b"));
    let session = begin(&repository, "a");
    let snapshot = object(&repository, "one");
    outcome::commit(&repository, session.id(), vec![snapshot.body().to_bytes()]).unwrap();
    // It is cut off here: before its put.
    assert!(matches!(fence(&other, session.id()).unwrap(), Outcome::Committed(_)));
    assert_eq!(settled(&other), (0, 0, 1));
    let key = layout::named_by_hash(Area::Snapshots, &snapshot.sha256()).unwrap();
    assert_eq!(other.store().get(&key).unwrap(), snapshot.body().to_bytes());
    assert_eq!((count(&other, Area::Sessions), count(&other, Area::Outcomes)), (0, 0));
}

#[test]
fn an_outcome_that_cannot_be_read_is_nobodys_commit() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    let session = begin(&repository, "a");
    let key = layout::outcome(session.id()).unwrap();
    repository.store().replace(&key, &SealedObject::from_stored(b"garbled".to_vec())).unwrap();
    assert_eq!(session.commit(&[object(&repository, "one")]).unwrap_err().kind(), Kind::Fenced);
    assert_eq!(count(&repository, Area::Snapshots), 0);
    // Whoever wrote it may be about to put what it said: for the stale time the session counts as at work.
    let id = foreign(&repository, 7, |_| {});
    let key = layout::outcome(id).unwrap();
    repository.store().replace(&key, &SealedObject::from_stored(b"garbled".to_vec())).unwrap();
    drop(session);
    let other = scene.open("b");
    assert_eq!(settle(&other, None, &Context::silent()).unwrap().at_work[0].id, id);
    scene.clock.pass(HOUR);
    assert!(settle(&other, None, &Context::silent()).unwrap().at_work.is_empty());
}

#[test]
fn a_machine_that_is_not_heard_of_is_over_after_the_stale_time_and_not_before() {
    for (store, stale) in
        [(MemoryProvider::new(), HOUR), (MemoryProvider::new().without_conditional_create(), 72 * HOUR)]
    {
        let scene = Scene::new(store);
        let repository = scene.open("a");
        let id = foreign(&repository, 7, |_| {});
        assert_eq!(settled(&repository), (1, 0, 0));
        scene.clock.pass(stale - 1);
        assert_eq!(settled(&repository), (1, 0, 0));
        // A beat begins the time anew; that of another machine's clock says nothing.
        foreign(&repository, id, |object| object.beat = 1);
        scene.clock.pass(1);
        assert_eq!(settled(&repository), (1, 0, 0));
        scene.clock.pass(stale);
        assert_eq!(settled(&repository), (0, 1, 0));
        let fences = usize::from(repository.store().capabilities().conditional_create);
        assert_eq!(count(&repository, Area::Outcomes), fences);
    }
}

#[test]
fn a_program_from_before_there_were_beats_is_waited_for_longer() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    foreign(&repository, 7, |object| object.version = 1);
    settled(&repository);
    scene.clock.pass(7 * 24 * HOUR - 1);
    assert_eq!(settled(&repository), (1, 0, 0));
    scene.clock.pass(1);
    assert_eq!(settled(&repository), (0, 1, 0));
}

#[test]
fn a_process_that_is_known_to_be_dead_is_fenced_at_once_or_waited_for() {
    for (store, waits) in
        [(MemoryProvider::new(), false), (MemoryProvider::new().without_conditional_create(), true)]
    {
        let scene = Scene::new(store);
        let repository = scene.open("a");
        drop(begin(&repository, "a"));
        assert_eq!(settled(&repository).0, usize::from(waits));
        scene.clock.pass(HOUR);
        assert_eq!(settled(&repository), (0, 1, 0));
    }
}

#[test]
fn without_conditional_create_a_writer_that_was_late_once_is_late_for_good() {
    let scene = Scene::new(MemoryProvider::new().without_conditional_create());
    let repository = scene.open("a");
    let session = begin(&repository, "a");
    scene.clock.pass(36 * HOUR);
    session.commit(&[object(&repository, "in time")]).unwrap();
    assert_eq!((count(&repository, Area::Snapshots), count(&repository, Area::Outcomes)), (1, 0));
    session.close().unwrap();
    let session = begin(&repository, "a");
    scene.clock.pass(36 * HOUR + 1);
    assert_eq!(session.commit(&[object(&repository, "late")]).unwrap_err().kind(), Kind::Fenced);
    // The beat of a machine that wakes up makes it no fresher.
    session.beats().put().unwrap();
    assert_eq!(session.commit(&[object(&repository, "late")]).unwrap_err().kind(), Kind::Fenced);
    assert_eq!(session.beats().assure().unwrap_err().kind(), Kind::Fenced);
    assert_eq!(count(&repository, Area::Snapshots), 1);
}

#[test]
fn a_writer_that_slept_looks_whether_it_was_fenced_before_it_writes_the_index() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    let (one, two) = (begin(&repository, "a"), begin(&repository, "a"));
    scene.clock.pass(HOUR);
    fence(&repository, two.id()).unwrap();
    one.beats().assure().unwrap();
    assert_eq!(two.beats().assure().unwrap_err().kind(), Kind::Fenced);
    scene.clock.pass(24 * HOUR + 1);
    assert_eq!(
        one.beats().assure().unwrap_err().kind(),
        Kind::Fenced,
        "it slept for longer than anybody may"
    );
}

#[test]
fn a_session_is_put_again_by_itself_and_says_what_it_wrote() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open_beating("a", Duration::from_millis(1));
    let session = begin(&repository, "a");
    session.beats().wrote(["ff".to_owned()], false);
    let said = || {
        let listed = list(&repository).unwrap().remove(0).session.unwrap();
        (listed.beat, listed.shards)
    };
    // Ends by beats alone; a test that hangs has failed.
    while !matches!(said(), (3.., shards) if shards == ["ff"]) {
        std::thread::yield_now();
    }
    session.close().unwrap();
    assert_eq!(count(&repository, Area::Sessions), 0, "a beat brought it back");
}

#[test]
fn tombstones_are_seen_and_said_and_one_that_cannot_be_read_stops_writers() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    let pack = Sha256::of(b"pack");
    let name =
        Tombstones::publish(&repository, &Tombstone { data: vec![pack], metadata: Vec::new() }).unwrap();
    // One machine listed it ahead, the other did not.
    for _ in 0..2 {
        let session = begin(&repository, "a");
        assert!(session.tombstones().packs.contains(&pack));
        let is_said = || list(&repository).unwrap()[0].session.as_ref().unwrap().has_seen(&name);
        while !is_said() {
            std::thread::yield_now();
        }
        session.close().unwrap();
    }
    let listed = foreign(&repository, 7, |_| {});
    assert!(list(&repository).unwrap().iter().all(|other| other.id == listed && other.holds_back(&name)));
    let key = layout::named_by_hash(Area::Tombstones, &name).unwrap();
    repository.store().replace(&key, &SealedObject::from_stored(b"garbled".to_vec())).unwrap();
    let other = scene.open("without a copy");
    let error = open(&other, "b", Role::Writer).err().unwrap();
    assert!(error.kind() == Kind::Damaged && error.hint().unwrap().contains("repair index"), "{error:?}");
    assert_eq!(count(&other, Area::Sessions), 1, "it left a session behind");
    let repaired = crate::repair::index(&other, Default::default(), &Context::silent()).unwrap();
    assert!(repaired.was_sound && count(&other, Area::Tombstones) == 0);
    begin(&other, "b").close().unwrap();
}

#[test]
fn what_was_listed_before_counts_only_if_it_is_still_so() {
    let scene = Scene::new(MemoryProvider::new());
    let other = scene.open("b");
    let put = |text: &str| {
        let object = object(&other, text);
        other
            .store()
            .create(&layout::named_by_hash(Area::Snapshots, &object.sha256()).unwrap(), &object)
            .unwrap();
    };
    put("one");
    let repository = scene.open("a");
    // Asked for by opening; another machine writes meanwhile.
    let before = repository.store().take_ahead(Area::Snapshots).unwrap();
    assert_eq!(before.len(), 1);
    repository.store().put_ahead(Area::Snapshots, before);
    put("two");
    let session = begin(&repository, "a");
    assert!(repository.store().take_ahead(Area::Index).is_none(), "an index from before is relied on");
    assert_eq!(repository.store().list(&Area::Snapshots.prefix()).unwrap().len(), 2);
    session.close().unwrap();
}

#[test]
fn the_index_is_not_made_anew_while_a_collector_is_at_work() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    foreign(&repository, 7, |object| object.role = Role::Collector);
    let repair = || crate::repair::index(&repository, Default::default(), &Context::silent());
    let error = repair().unwrap_err();
    assert!(error.kind() == Kind::Locked && error.to_string().contains("prune"), "{error:?}");
    assert_eq!(count(&repository, Area::Sessions), 1);
    scene.clock.pass(HOUR);
    repair().unwrap();
}

#[test]
fn a_fence_stays_for_thirty_days_after_its_session() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    fence(&repository, 7).unwrap();
    let expire = || over::expire(&repository, &Context::silent()).unwrap();
    foreign(&repository, 7, |_| {});
    expire();
    scene.clock.pass(40 * 24 * HOUR);
    assert_eq!(expire(), 0, "its session is there");
    repository.store().delete(&layout::session(7).unwrap()).unwrap();
    assert_eq!(expire(), 0);
    scene.clock.pass(30 * 24 * HOUR - 1);
    assert_eq!((expire(), count(&repository, Area::Outcomes)), (0, 1));
    scene.clock.pass(1);
    assert_eq!((expire(), count(&repository, Area::Outcomes)), (1, 0));
}

/// Stores one chunk in a pack of its own; returns its id and the pack.
fn store_chunk(repository: &Repository, index: Arc<Index>, text: &str) -> (ChunkId, Vec<Sha256>) {
    let packs = |repository: &Repository| -> Vec<Sha256> {
        let infos = repository.store().list(&Area::Packs.prefix()).unwrap();
        infos.iter().map(|info| layout::sha256_of(&info.key).unwrap()).collect()
    };
    let before = packs(repository);
    let ingest = Ingest::start(repository, index, IngestOptions::default(), &Context::silent()).unwrap();
    let mut sink = ChunkSink::new(&ingest).unwrap();
    let id = sink.data(text.as_bytes()).unwrap();
    sink.flush().unwrap();
    ingest.finish().unwrap();
    let new = packs(repository).into_iter().filter(|pack| !before.contains(pack)).collect();
    (id, new)
}

#[test]
fn what_a_tombstone_names_is_neither_deduplicated_against_nor_adopted() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    let fresh = || Arc::new(repository.load_catalog().unwrap().index);
    let (named, doomed) = store_chunk(&repository, fresh(), "named");
    // One more that no index names.
    let shards = repository.store().list(&Area::Index.prefix()).unwrap();
    let (orphan, lost) = store_chunk(&repository, fresh(), "orphan");
    for info in repository.store().list(&Area::Index.prefix()).unwrap() {
        if !shards.contains(&info) {
            repository.store().delete(&info.key).unwrap();
        }
    }
    let tombstone = Tombstone { data: [doomed.clone(), lost.clone()].concat(), metadata: Vec::new() };
    Tombstones::publish(&repository, &tombstone).unwrap();
    drop(begin(&repository, "a"));
    let session = begin(&repository, "a");
    let left = leftovers::settle(&session, "a", &Context::silent()).unwrap();
    let index = Arc::new(fresh_without(&repository, &session));
    assert!(!index.contains(&named) && index.lookup(&named).is_none() && index.packs().unwrap().is_empty());
    let ingest =
        Ingest::start(&repository, index.clone(), IngestOptions::default(), &Context::silent()).unwrap();
    left.adopt(&session, &index, ingest.indexer(), &Context::silent()).unwrap();
    assert!(!fresh().contains(&orphan), "a pack that is being deleted was adopted");
    let (again, new) = store_chunk(&repository, index.clone(), "named");
    assert_eq!((again, new.len()), (named, 1));
    assert!(index.contains(&named) && index.lookup(&named).is_some_and(|place| place.pack == new[0]));
    session.close().unwrap();
}

fn fresh_without(repository: &Repository, session: &OpenSession) -> Index {
    repository.load_catalog().unwrap().index.without(session.tombstones().packs.clone())
}

#[test]
fn what_was_left_unnamed_is_adopted_and_its_session_fenced_and_removed() {
    let scene = Scene::new(MemoryProvider::new());
    let repository = scene.open("a");
    let fresh = || Arc::new(repository.load_catalog().unwrap().index);
    let (orphan, _) = store_chunk(&repository, fresh(), "orphan");
    for info in repository.store().list(&Area::Index.prefix()).unwrap() {
        repository.store().delete(&info.key).unwrap();
    }
    let cut_off = begin(&repository, "a");
    cut_off.beats().wrote(["ab".to_owned()], false);
    cut_off.beats().put().unwrap();
    drop(cut_off);
    let session = begin(&repository, "a");
    let left = leftovers::settle(&session, "a", &Context::silent()).unwrap();
    let index = fresh();
    let ingest =
        Ingest::start(&repository, index.clone(), IngestOptions::default(), &Context::silent()).unwrap();
    left.adopt(&session, &index, ingest.indexer(), &Context::silent()).unwrap();
    assert!(index.contains(&orphan) && fresh().contains(&orphan));
    let listed = list(&repository).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].session.as_ref().unwrap().shards, ["ab"], "what it wrote is this run's now");
    assert_eq!(count(&repository, Area::Outcomes), 1, "its last request may still be on its way");
    session.close().unwrap();
}
