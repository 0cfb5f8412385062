//! A repair of the index that ends at any call of the store makes nothing unreadable, and the next one ends well.

use std::sync::Arc;

use lifeboat_providers::layer::fault::{Fault, Rule, When};
use lifeboat_providers::layer::{FaultProvider, Operation};
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_providers::{ErrorKind, SharedProvider};

use super::*;
use crate::check::{CheckOptions, ReadData};
use crate::chunk::ChunkId;
use crate::fetch::ChunkReader;
use crate::index::Index;
use crate::ingest::{ChunkSink, Ingest, IngestOptions};
use crate::repository::create::CreateOptions;
use crate::repository::{Directories, Store};
use crate::seal::slot::{Cost, Purpose, Secret};
use crate::seal::{SealedObject, SecretKey};

const ROUNDS: u8 = 4;
const CHUNKS: u8 = 9;

/// A store whose index has several shards, and the chunks of each.
struct Scene {
    dir: tempfile::TempDir,
    objects: Vec<(Key, SealedObject)>,
    rounds: Vec<Vec<(ChunkId, u64)>>,
    shards: Vec<Key>,
}

fn secret() -> Secret {
    Secret::Key(SecretKey::from_bytes([7; 32]))
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            dir: tempfile::tempdir().unwrap(),
            objects: Vec::new(),
            rounds: Vec::new(),
            shards: Vec::new(),
        };
        let options = CreateOptions {
            cipher: Default::default(),
            purpose: Purpose::KeyFile,
            label: String::new(),
            cost: Cost::LOWEST,
            pack_bytes: Some(4 << 10),
        };
        let store: SharedProvider = Arc::new(MemoryProvider::new());
        let repository = Repository::create(store, &secret(), &options, scene.machine("maker")).unwrap();
        for round in 0..ROUNDS {
            scene.rounds.push(store_chunks(&repository, round));
            let shards = repository.store().list(&Area::Index.prefix()).unwrap();
            let new = shards.into_iter().map(|info| info.key).find(|key| !scene.shards.contains(key));
            scene.shards.push(new.unwrap());
        }
        scene.objects = objects(repository.store());
        scene
    }

    fn machine(&self, name: &str) -> Directories {
        let path = self.dir.path().join(name);
        Directories::new(path.join("cache"), path.join("state"))
    }

    fn open(&self, store: SharedProvider, machine: &str) -> Result<Repository> {
        Repository::open(store, &secret(), self.machine(machine))
    }

    fn store(&self) -> Arc<MemoryProvider> {
        let provider = Arc::new(MemoryProvider::new());
        let store = Store::new(provider.clone()).unwrap();
        self.objects.iter().for_each(|(key, object)| drop(store.replace(key, object).unwrap()));
        provider
    }

    fn remove(&mut self, key: &Key) {
        self.objects.retain(|(known, _)| known != key);
    }

    fn flip(&mut self, key: &Key) {
        let (_, object) = self.objects.iter_mut().find(|(known, _)| known == key).unwrap();
        let mut bytes = object.body().to_bytes().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        *object = SealedObject::from_stored(bytes);
    }
}

fn objects(store: &Store) -> Vec<(Key, SealedObject)> {
    let infos = store.list(&lifeboat_providers::Prefix::all()).unwrap();
    infos
        .into_iter()
        .map(|info| {
            let bytes = store.get(&info.key).unwrap();
            (info.key, SealedObject::from_stored(bytes.to_vec()))
        })
        .collect()
}

/// Chunks that no other round has, in packs and a shard of their own.
fn store_chunks(repository: &Repository, round: u8) -> Vec<(ChunkId, u64)> {
    let index = Arc::new(Index::in_memory());
    let ingest = Ingest::start(repository, index, IngestOptions::default(), &Context::silent()).unwrap();
    let mut sink = ChunkSink::new(&ingest).unwrap();
    let chunks = (0..CHUNKS).map(|number| {
        let mut bytes = vec![0; 1500];
        blake3::Hasher::new().update(&[round, number]).finalize_xof().fill(&mut bytes);
        let id = sink.data(&bytes).unwrap();
        // Each in a segment of its own.
        sink.flush().unwrap();
        (id, bytes.len() as u64)
    });
    let chunks = chunks.collect();
    ingest.finish().unwrap();
    chunks
}

fn readable(repository: &Repository, chunks: &[(ChunkId, u64)]) -> Vec<ChunkId> {
    let index = Arc::new(repository.load_catalog().unwrap().index);
    let reader = ChunkReader::new(repository, index);
    chunks.iter().filter(|(id, length)| reader.data(id, *length).is_ok()).map(|(id, _)| *id).collect()
}

/// The largest pack of chunks: one of several segments.
fn large_pack(scene: &Scene) -> Key {
    let packs = scene.objects.iter().filter(|(key, _)| key.as_str().starts_with("packs/"));
    packs.max_by_key(|(_, object)| object.body().len()).unwrap().0.clone()
}

#[test]
fn ending_at_any_call_loses_nothing_and_the_next_repair_ends_well() {
    let mut scene = Scene::new();
    let (lost, flipped) = (scene.shards[0].clone(), scene.shards[1].clone());
    scene.remove(&lost);
    scene.flip(&flipped);
    let before = readable(&scene.open(scene.store(), "before").unwrap(), &scene.rounds.concat());
    assert_eq!(before.len(), 2 * usize::from(CHUNKS));
    end_at_any_call(&scene, IndexRepairOptions::default(), 0);
}

/// Of the damaged pack two shards in force may say different things, when the repair ends between them.
#[test]
fn ending_at_any_call_with_a_damaged_pack_loses_nothing_and_the_next_repair_ends_well() {
    let mut scene = Scene::new();
    let pack = large_pack(&scene);
    scene.flip(&pack);
    end_at_any_call(&scene, IndexRepairOptions { read_data: true }, 1);
}

fn end_at_any_call(scene: &Scene, options: IndexRepairOptions, lost: usize) {
    let all = scene.rounds.concat();
    let before = readable(&scene.open(scene.store(), "before").unwrap(), &all);
    let counting = Arc::new(FaultProvider::new(scene.store()));
    let repository = scene.open(counting.clone(), "counting").unwrap();
    let repaired = index(&repository, options, &Context::silent()).unwrap();
    let calls = counting.calls_in_all();
    let shards = repository.store().list(&Area::Index.prefix()).unwrap().len();
    assert!(!repaired.was_sound && shards > 2, "{shards} shards, {repaired:?}");
    let faults = [
        (Fault::FailBefore(ErrorKind::Transient), "before its effect"),
        (Fault::FailAfter(ErrorKind::Transient), "after its effect"),
    ];
    for (fault, effect) in faults {
        for call in 1..=calls {
            let when = format!("ended at call {call} of {calls}, {effect}");
            let store = scene.store();
            let rule = Rule::new(None, When::From(call), fault.clone());
            let faulty = Arc::new(FaultProvider::new(store.clone()).with_rule(rule));
            let ended = scene
                .open(faulty, &when)
                .and_then(|repository| index(&repository, options, &Context::silent()));
            assert!(ended.is_err(), "{when}: it did not fail");
            for machine in ["before", &format!("{when}, a stranger")] {
                let repository = scene.open(store.clone(), machine).unwrap();
                let found = readable(&repository, &all);
                assert!(before.iter().all(|id| found.contains(id)), "{when}, {machine}: a chunk is lost");
            }
            let repository = scene.open(store.clone(), &when).unwrap();
            index(&repository, options, &Context::silent()).unwrap();
            let catalog = repository.load_catalog().unwrap();
            let known = all.iter().filter(|(id, _)| catalog.index.contains(id)).count();
            let after = readable(&repository, &all).len();
            assert_eq!((known, after), (all.len() - lost, all.len() - lost), "{when}: after the next repair");
            let check = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
            let report = crate::check::run(&repository, &check, &Context::silent()).unwrap();
            assert!(report.verdict().is_ok() && report.orphans == 0, "{when}: {:?}", report.damages);
        }
    }
}

/// A shard that was replaced and is left over must not bring back what a repair had taken out.
#[test]
fn what_was_found_damaged_stays_out_of_the_index() {
    // Which shard is read last depends on their names, which are random.
    (0..8).for_each(|_| a_leftover_shard_brings_nothing_back());
}

fn a_leftover_shard_brings_nothing_back() {
    let mut scene = Scene::new();
    let shards = scene.shards.clone();
    let kept: Vec<_> = scene.objects.iter().filter(|(key, _)| shards.contains(key)).cloned().collect();
    let pack = scene.objects.iter().find(|(key, _)| key.as_str().starts_with("packs/")).unwrap().0.clone();
    scene.flip(&pack);
    let repository = scene.open(scene.store(), "own").unwrap();
    let options = IndexRepairOptions { read_data: true };
    let repaired = index(&repository, options, &Context::silent()).unwrap();
    assert_eq!(repaired.damaged.len(), 1, "{repaired:?}");
    let all = scene.rounds.concat();
    let known = |repository: &Repository| {
        let index = repository.load_catalog().unwrap().index;
        all.iter().filter(|(id, _)| index.contains(id)).count()
    };
    let sound = known(&repository);
    assert!(sound < all.len());
    // The repair was cut off before it removed the old shards, and something else is to be repaired.
    kept.iter().for_each(|(key, object)| drop(repository.store().replace(key, object).unwrap()));
    let stored = |repository: &Repository| {
        let infos = repository.store().list(&Area::Index.prefix()).unwrap();
        infos.into_iter().map(|info| info.key).collect::<Vec<_>>()
    };
    let present = stored(&repository);
    store_chunks(&repository, ROUNDS);
    let newest = stored(&repository).into_iter().find(|key| !present.contains(key)).unwrap();
    repository.store().delete(&newest).unwrap();
    let repaired = index(&repository, IndexRepairOptions::default(), &Context::silent()).unwrap();
    assert!(!repaired.was_sound, "{repaired:?}");
    assert_eq!(known(&repository), sound, "a damaged segment is in the index again");
}

/// Somebody's note in the folder is not ours to remove.
#[test]
fn a_foreign_file_among_the_shards_is_left_alone() {
    let mut scene = Scene::new();
    let lost = scene.shards[0].clone();
    scene.remove(&lost);
    let foreign = Key::new("index/readme").unwrap();
    scene.objects.push((foreign.clone(), SealedObject::from_stored(b"mine".to_vec())));
    let repository = scene.open(scene.store(), "own").unwrap();
    let repaired = index(&repository, IndexRepairOptions::default(), &Context::silent()).unwrap();
    assert_eq!((repaired.was_sound, repaired.damaged_shards), (false, 0));
    assert!(repository.store().head(&foreign).unwrap().is_some());
    assert!(index(&repository, IndexRepairOptions::default(), &Context::silent()).unwrap().was_sound);
}

/// What the last repair found is done with: what was intact was copied, and there is nothing left to write.
#[test]
fn what_is_out_of_the_index_already_is_not_written_again() {
    let mut scene = Scene::new();
    let pack = large_pack(&scene);
    scene.flip(&pack);
    let repository = scene.open(scene.store(), "own").unwrap();
    let options = IndexRepairOptions { read_data: true };
    let once = index(&repository, options, &Context::silent()).unwrap();
    let stored = |repository: &Repository| repository.store().list(&Area::Index.prefix()).unwrap();
    let before = stored(&repository);
    let twice = index(&repository, options, &Context::silent()).unwrap();
    assert_eq!((once.damaged.len(), once.corrected, once.lost_segments), (1, 1, 1), "{once:?}");
    assert!(once.saved > 0, "{once:?}");
    assert!(twice.was_sound && twice.damaged.is_empty() && twice.saved == 0, "{twice:?}");
    assert_eq!(stored(&repository), before);
    assert_eq!(readable(&repository, &scene.rounds.concat()).len(), scene.rounds.concat().len() - 1);
}

/// One error of the disk condemned a pack that was whole; a bad sector took all its other segments along.
#[test]
fn a_pack_that_cannot_be_read_whole_is_read_again_and_then_segment_by_segment() {
    let scene = Scene::new();
    let all = scene.rounds.concat();
    for (failures, damaged) in [(1, 0), (2, 1)] {
        let mut faulty = FaultProvider::new(scene.store());
        for call in 1..=failures {
            let rule = Rule::new(Operation::Get, When::Call(call), Fault::FailBefore(ErrorKind::Corrupt));
            faulty = faulty.with_rule(rule.in_folder(Area::of_packs(PackKind::Data).prefix()));
        }
        let repository = scene.open(Arc::new(faulty), &format!("{failures} failures")).unwrap();
        let options = IndexRepairOptions { read_data: true };
        let repaired = index(&repository, options, &Context::silent()).unwrap();
        assert_eq!((repaired.damaged.len(), repaired.lost_segments), (damaged, 0), "{repaired:?}");
        assert_eq!(readable(&repository, &all).len(), all.len(), "{repaired:?}");
    }
}
