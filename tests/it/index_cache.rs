//! The local copy of the index is a cache: whatever a disk makes of it, a restore finds every chunk and a backup stores none twice.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_agent::backup::BackupOptions;
use lifeboat_agent::check::{self, CheckOptions};
use lifeboat_agent::chunk::ChunkId;
use lifeboat_agent::events::Context;
use lifeboat_agent::fetch::ChunkReader;
use lifeboat_agent::index::{Index, Location};
use lifeboat_agent::pack::directory::PackKind;
use lifeboat_agent::repository::Repository;
use lifeboat_agent::seal::Cipher;
use lifeboat_agent::snapshot::Snapshot;
use lifeboat_providers::SharedProvider;
use lifeboat_providers::local::LocalProvider;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::{Tree, see};
use lifeboat_tests::world::{World, backup, backup_all, create, open, options, settle};
use lifeboat_tests::{grow, proof};

const BLOCK: usize = 4096;
/// New chunks that say nothing.
const FEW: u64 = 8;

struct Scene {
    world: World,
    store: SharedProvider,
    snapshot: Snapshot,
    tree: Tree,
}

impl Scene {
    fn new(store: impl FnOnce(&World) -> SharedProvider) -> Self {
        let world = World::new();
        let store = store(&world);
        let repository = create(store.clone(), &world.machine("own"), Cipher::default());
        let mut random = Random::new(23);
        for number in 0..150 {
            grow::file(&world.source().join(format!("file{number}")), 3_000, &mut random);
        }
        grow::leave_the_future(&world.source());
        settle(&world.source());
        let snapshot = backup_all(&repository, &world.source());
        // Now the cache is made of what is stored.
        drop(repository.load_catalog().unwrap());
        let tree = see(&world.source());
        Self { world, store, snapshot, tree }
    }

    fn in_memory() -> Self {
        Self::new(|_| Arc::new(MemoryProvider::new()))
    }

    fn open(&self) -> Repository {
        open(self.store.clone(), &self.world.machine("own")).unwrap()
    }

    fn tables(&self) -> Vec<PathBuf> {
        let mut tables = Vec::new();
        collect(&self.world.machine("own").cache, &mut tables);
        assert!(!tables.is_empty());
        tables
    }

    /// How many blocks the cache has.
    fn blocks(&self) -> usize {
        let bytes = |path: &PathBuf| fs::metadata(path).unwrap().len() as usize;
        self.tables().iter().map(|path| bytes(path) / BLOCK).sum()
    }

    /// Flips a bit in one block of the cache, in place: no program is told.
    fn flip(&self, block: usize) {
        let mut left = block;
        for path in self.tables() {
            let blocks = fs::metadata(&path).unwrap().len() as usize / BLOCK;
            if left < blocks {
                let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
                let at = (left * BLOCK + 700) as u64;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 4], at).unwrap();
                return;
            }
            left -= blocks;
        }
        panic!("there is no block {block}");
    }

    fn unchanged_run(&self, options: &BackupOptions) -> u64 {
        let outcome = backup(&self.open(), &self.world.source(), options).unwrap();
        assert_eq!(outcome.errors_total, 0);
        outcome.summary.chunks_added
    }
}

fn collect(folder: &Path, tables: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, tables);
        } else if path.extension().is_some_and(|extension| extension == "table") {
            tables.push(path);
        }
    }
    tables.sort();
}

fn places(index: &Index) -> Vec<(ChunkId, Location)> {
    let mut places = Vec::new();
    index.for_each_place(|id, location| places.push((id, *location))).unwrap();
    places
}

#[test]
fn a_cache_that_was_damaged_between_two_runs_hides_nothing_from_a_restore() {
    let scene = Scene::in_memory();
    for block in 0..scene.blocks() {
        scene.flip(block);
        let repository = scene.open();
        scene
            .world
            .restored(&repository, &scene.snapshot)
            .assert_equals(&scene.tree, &format!("block {block}"));
        proof::assert_whole(&repository, &format!("block {block}"));
        // What a restore did not touch is mended by the next who does; begin anew for the next block.
        fs::remove_dir_all(scene.world.machine("own").cache).unwrap();
        drop(repository.load_catalog().unwrap());
    }
}

#[test]
fn a_cache_that_is_damaged_in_the_middle_of_use_is_fetched_anew() {
    let scene = Scene::in_memory();
    let repository = scene.open();
    for block in 1..scene.blocks() {
        let index = Arc::new(repository.load_catalog().unwrap().index);
        let all = places(&index);
        assert!(all.len() > 100, "{}", all.len());
        let reader = ChunkReader::new(&repository, index.clone());
        scene.flip(block);
        index.trim_resident();
        // From several threads: none may see the index while it is only half there.
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (all, reader) = (&all, &reader);
                scope.spawn(move || {
                    for (id, place) in all.iter().skip(thread * 20) {
                        let read = match place.kind {
                            PackKind::Data => reader.data(id, place.length.into()),
                            PackKind::Metadata => reader.metadata(id),
                        };
                        assert!(read.is_ok(), "block {block}, chunk {id}: {:?}", read.err());
                    }
                });
            }
        });
        assert!(!index.is_damaged(), "block {block}");
        drop((reader, index));
    }
}

/// Nothing says so but the disk: the run after the one that met the damage must not meet it again.
#[test]
fn damage_that_one_run_meets_is_gone_for_the_next() {
    let scene = Scene::in_memory();
    let repository = scene.open();
    for block in 1..scene.blocks() {
        scene.flip(block);
        let met = repository.load_catalog().unwrap().index.verify().is_err();
        assert!(met || repository.load_catalog().unwrap().index.verify().is_ok(), "block {block}");
        let index = repository.load_catalog().unwrap().index;
        index.verify().unwrap_or_else(|e| panic!("block {block}, the run after: {e}"));
        assert!(index.packs().is_ok(), "block {block}");
    }
}

#[test]
fn a_backup_with_a_damaged_cache_stores_nothing_again() {
    let rescan = BackupOptions { rescan: true, threads: 1, ..options() };
    let in_memory = Scene::in_memory();
    // Where packs can be listed for nothing, a backup goes through the whole index first.
    let local = Scene::new(|world| Arc::new(LocalProvider::create(&world.path("store")).unwrap()));
    for (scene, name) in [(in_memory, "in memory"), (local, "local")] {
        // Directories above the source may have changed meanwhile.
        assert!(scene.unchanged_run(&rescan) < FEW, "{name}");
        let all = places(&scene.open().load_catalog().unwrap().index).len() as u64;
        for block in 1..scene.blocks() {
            scene.flip(block);
            let added = scene.unchanged_run(&rescan);
            assert!(
                added < FEW && all > 150,
                "{name}, block {block}: {added} of {all} chunks were stored again"
            );
            scene.flip_back_all();
        }
        for block in 1..scene.blocks() {
            scene.flip(block);
            assert!(scene.unchanged_run(&options()) < FEW, "{name}, block {block}: unchanged files");
            scene.flip_back_all();
        }
        proof::assert_whole(&scene.open(), name);
    }
}

impl Scene {
    /// A cache as it should be.
    fn flip_back_all(&self) {
        fs::remove_dir_all(self.world.machine("own").cache).unwrap();
        drop(self.open().load_catalog().unwrap());
    }
}

/// A check trusts no local table, so it makes its own; they would fill the cache if they stayed.
#[test]
fn a_check_leaves_nothing_in_the_cache() {
    let scene = Scene::in_memory();
    let machine = scene.world.machine("checker");
    let repository = open(scene.store.clone(), &machine).unwrap();
    check::run(&repository, &CheckOptions::default(), &Context::silent()).unwrap().verdict().unwrap();
    assert_eq!(fs::read_dir(repository.index_cache()).unwrap().count(), 0);
}
