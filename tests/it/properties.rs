//! Random trees and edits: back up, edit, back up, restore both; every byte and all metadata as they were.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use lifeboat_agent::backup::BackupOptions;
use lifeboat_agent::repository::Repository;
use lifeboat_agent::seal::Cipher;
use lifeboat_agent::snapshot::Snapshot;
use lifeboat_providers::layer::{Operation, RecordProvider};
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::grow;
use lifeboat_tests::proof;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::world::{World, backup, backup_all, create, open, options, restore_source, settle};

/// Backs up four states of a random tree, then restores each of them.
fn round_trips(seed: u64, cipher: Cipher) {
    let mut random = Random::new(seed);
    let world = World::new();
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("a"), cipher);
    grow::grow(&world.source(), 60, &mut random);
    let mut states = Vec::new();
    for round in 0..4 {
        let tree = see(&world.source());
        // Every round goes by another way: as before, by a machine without a cache, reading everything.
        let repository =
            if round == 2 { open(store.clone(), &world.machine("b")).unwrap() } else { repository.clone() };
        let how = BackupOptions { rescan: round == 3, ..options() };
        let outcome = backup(&repository, &world.source(), &how).unwrap();
        assert_eq!(outcome.errors_total, 0, "seed {seed}");
        states.push((outcome.snapshot.unwrap(), tree));
        grow::edit(&world.source(), 25, &mut random);
    }
    proof::assert_whole(&repository, &format!("seed {seed}"));
    let reader = open(store, &world.machine("reader")).unwrap();
    for (number, (snapshot, tree)) in states.iter().enumerate() {
        world.restored(&reader, snapshot).assert_equals(tree, &format!("seed {seed}, state {number}"));
    }
}

#[test]
fn random_trees_come_back_as_they_were() {
    for seed in 0..6 {
        round_trips(seed, Cipher::XChaCha20Poly1305);
    }
}

#[test]
fn random_trees_come_back_as_they_were_with_aes() {
    for seed in 100..103 {
        round_trips(seed, Cipher::Aes256Gcm);
    }
}

/// Two backups of a tree that nothing disturbs between them. The directories above it are recorded too, and other tests make and remove
/// things there at any time: pairs that were disturbed so are tried again.
fn undisturbed(
    world: &World,
    record: &RecordProvider,
    repository: &Repository,
    second: &BackupOptions,
) -> [Snapshot; 2] {
    let above = || -> Vec<_> {
        let source = world.source();
        let metadata = |path: &Path| path.metadata().unwrap();
        source.ancestors().map(|path| (metadata(path).ctime(), metadata(path).ctime_nsec())).collect()
    };
    for _ in 0..100 {
        settle(&world.source());
        let before = above();
        let first = backup_all(repository, &world.source());
        record.reset();
        let second = backup(repository, &world.source(), second).unwrap().snapshot.unwrap();
        if above() == before {
            return [first, second];
        }
    }
    panic!("something changes the directories above the source all the time");
}

#[test]
fn a_second_backup_of_an_unchanged_tree_reads_and_stores_nothing() {
    let world = World::new();
    grow::grow(&world.source(), 80, &mut Random::new(7));
    grow::leave_the_future(&world.source());
    let record = Arc::new(RecordProvider::new(Arc::new(MemoryProvider::new())).with_log(1000));
    let repository = create(record.clone(), &world.machine("a"), Cipher::default());
    let [first, second] = undisturbed(&world, &record, &repository, &options());
    let summary = second.manifest.summary;
    assert!(summary.bytes_total > 0);
    assert_eq!((summary.bytes_read, summary.bytes_added, summary.chunks_added), (0, 0, 0), "{summary:?}");
    assert_eq!((summary.files_new, summary.files_changed), (0, 0), "{summary:?}");
    assert_eq!(summary.bytes_total, first.manifest.summary.bytes_total);
    assert_eq!(second.manifest.root, first.manifest.root);
    let puts: Vec<_> = record.log().into_iter().filter(|call| call.operation == Operation::Put).collect();
    let folders: Vec<_> = puts.iter().filter_map(|call| call.subject.split('/').next()).collect();
    assert_eq!(folders, ["sessions", "outcomes", "snapshots"]);
    // What an unchanged file costs must not be a read of the store: a write-only machine can back up too.
    let gets = record.log().into_iter().filter(|call| call.operation == Operation::Get);
    assert!(gets.clone().all(|call| !call.subject.starts_with("packs/")), "{:?}", gets.collect::<Vec<_>>());
}

/// Requests are money and time at a distant store: docs/performance.md says where each comes from.
#[test]
fn a_run_without_changes_costs_so_many_requests() {
    let world = World::new();
    grow::grow(&world.source(), 60, &mut Random::new(9));
    let record = Arc::new(RecordProvider::new(Arc::new(MemoryProvider::new())));
    backup_all(&create(record.clone(), &world.machine("a"), Cipher::default()), &world.source());
    record.reset();
    let repository = open(record.clone(), &world.machine("a")).unwrap();
    backup(&repository, &world.source(), &options()).unwrap();
    let calls = |operation| record.counts(operation).calls;
    let counted = [Operation::List, Operation::Get, Operation::Put, Operation::DeleteMany].map(calls);
    // At a store that creates conditionally an outcome is put, too, and removed with the session.
    assert_eq!(counted, [17, 2, 3, 1], "{:?}", record.all_counts());
}

#[test]
fn a_rescan_reads_everything_and_stores_nothing_new() {
    let world = World::new();
    grow::grow(&world.source(), 60, &mut Random::new(8));
    let record = Arc::new(RecordProvider::new(Arc::new(MemoryProvider::new())));
    let repository = create(record.clone(), &world.machine("a"), Cipher::default());
    let whole = backup_all(&repository, &world.source()).manifest.summary.bytes_read;
    let how = BackupOptions { rescan: true, ..options() };
    let [first, second] = undisturbed(&world, &record, &repository, &how);
    let summary = second.manifest.summary;
    assert!(whole > 0);
    assert_eq!(summary.bytes_read, whole);
    assert_eq!(summary.chunks_added, 0, "{summary:?}");
    assert_eq!(second.manifest.root, first.manifest.root);
}

#[test]
fn a_rescan_notices_what_times_hide() {
    let world = World::new();
    let path = world.source().join("file");
    fs::write(&path, b"before").unwrap();
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("a"), Cipher::default());
    backup_all(&repository, &world.source());
    fs::write(&path, b"behind").unwrap();
    let how = BackupOptions { rescan: true, ..options() };
    let snapshot = backup(&repository, &world.source(), &how).unwrap().snapshot.unwrap();
    world.restored(&repository, &snapshot).assert_equals(&see(&world.source()), "rescan");
}

/// A page that is mapped and dirty can be written to without any time of the file changing: what a coarse clock does to two writes in one
/// tick (new kernels have fine clocks), made on purpose. Nothing but the racy-timestamp rule can notice it.
#[test]
fn a_change_in_the_tick_of_the_backup_is_noticed_by_the_next() {
    /// The engine's tick, less some room.
    const TICK_NANOSECONDS: i64 = 15_000_000;
    let world = World::new();
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("a"), Cipher::default());
    let path = world.source().join("file");
    let mut racy = 0;
    for round in 0..40_u8 {
        fs::write(&path, vec![round; 4096]).unwrap();
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        // SAFETY: nobody shrinks the file while it is mapped.
        let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
        map[0] = 100;
        let before = path.metadata().unwrap();
        let first = backup_all(&repository, &world.source());
        map[1] = 101;
        let after = path.metadata().unwrap();
        let ctime = (after.ctime(), after.ctime_nsec());
        let unseen = (before.ctime(), before.ctime_nsec()) == ctime;
        let started = first.manifest.time.timestamp_nanos_opt().unwrap();
        // On a machine so slow that the backup began a tick later no rule can help, and none is asked to.
        if unseen && started - (ctime.0 * 1_000_000_000 + ctime.1) > TICK_NANOSECONDS {
            continue;
        }
        racy += u8::from(unseen);
        let snapshot = backup_all(&repository, &world.source());
        let restored = world.restored(&repository, &snapshot);
        restored.assert_equals(&see(&world.source()), &format!("round {round}"));
    }
    assert!(racy > 0, "no change fell into the tick of its backup");
}

#[test]
fn a_file_that_hides_its_change_behind_its_mtime_is_noticed_by_ctime() {
    let world = World::new();
    let path = world.source().join("file");
    fs::write(&path, b"before").unwrap();
    grow::set_mtime(&path, 1_600_000_000, 1);
    settle(&world.source());
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("a"), Cipher::default());
    backup_all(&repository, &world.source());
    settle(&world.source());
    fs::write(&path, b"behind").unwrap();
    grow::set_mtime(&path, 1_600_000_000, 1);
    let snapshot = backup_all(&repository, &world.source());
    world.restored(&repository, &snapshot).assert_equals(&see(&world.source()), "second");
}

#[test]
fn the_target_itself_becomes_the_directory() {
    let world = World::new();
    fs::write(world.source().join("file"), b"content").unwrap();
    grow::set_xattr(&world.source(), "user.own", b"value");
    grow::set_mtime(&world.source(), 1_600_000_000, 1);
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("a"), Cipher::default());
    let snapshot = backup_all(&repository, &world.source());
    let target = world.path("target");
    restore_source(&repository, &snapshot, &world.source(), &target).unwrap().verdict().unwrap();
    see(&target).assert_equals(&see(&world.source()), "target");
}

/// Somebody backed up a directory with an unfinished restore in it: its mark is a file like any other.
#[test]
fn a_file_called_like_the_mark_of_a_restore_comes_back() {
    let world = World::new();
    fs::write(world.source().join(".lifeboat-restore"), b"{\"snapshot\":\"not this one\"}").unwrap();
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("a"), Cipher::default());
    let snapshot = backup_all(&repository, &world.source());
    let target = world.path("target");
    restore_source(&repository, &snapshot, &world.source(), &target).unwrap().verdict().unwrap();
    assert_eq!(see(&target).contents(), see(&world.source()).contents());
}

#[test]
fn holes_stay_holes() {
    let world = World::new();
    let path = world.source().join("sparse");
    let mut file = fs::File::create(&path).unwrap();
    file.set_len(200 << 20).unwrap();
    for offset in [0, 5 << 20, (200 << 20) - 4096] {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(&Random::new(offset).bytes(4096)).unwrap();
    }
    file.sync_all().unwrap();
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("a"), Cipher::default());
    let snapshot = backup_all(&repository, &world.source());
    let summary = snapshot.manifest.summary;
    assert!(summary.bytes_read < 1 << 20, "holes were read: {summary:?}");
    let target = world.path("target");
    restore_source(&repository, &snapshot, &world.source(), &target).unwrap();
    see(&target.join("sparse")).assert_equals(&see(&path), "sparse");
    let restored = target.join("sparse").metadata().unwrap();
    let original = path.metadata().unwrap();
    assert!(
        restored.blocks() <= original.blocks() + 64,
        "{} blocks of {}",
        restored.blocks(),
        original.blocks()
    );
}

#[test]
fn a_directory_of_many_names_and_a_deep_path_come_back() {
    let world = World::new();
    let many = world.source().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..9_000 {
        fs::write(many.join(format!("entry-{number:06}")), format!("{number}")).unwrap();
    }
    // A path longer than PATH_MAX, which nobody can open in one call.
    let mut deep = fs::File::open(world.source()).unwrap();
    for _ in 0..60 {
        let name = "d".repeat(100);
        rustix::fs::mkdirat(&deep, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY;
        deep = rustix::fs::openat(&deep, name.as_str(), flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let bottom = rustix::fs::openat(&deep, "bottom", flags, rustix::fs::Mode::RWXU).unwrap();
    rustix::io::write(&bottom, b"at the bottom").unwrap();
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("a"), Cipher::default());
    let snapshot = backup_all(&repository, &world.source());
    assert_eq!(snapshot.manifest.summary.files_new, 9_001);
    let target = world.path("target");
    let outcome = restore_source(&repository, &snapshot, &world.source(), &target).unwrap();
    outcome.verdict().unwrap();
    see(&target.join("many")).assert_equals(&see(&many), "many");
    assert_eq!(read_deep(&target), b"at the bottom");
    // One entry more changes one node, not the whole directory.
    fs::write(many.join("entry-004500a"), "new").unwrap();
    let again = backup_all(&repository, &world.source());
    assert!(again.manifest.summary.bytes_added < 300 << 10, "{:?}", again.manifest.summary);
}

fn read_deep(target: &Path) -> Vec<u8> {
    let mut deep = fs::File::open(target).unwrap();
    for _ in 0..60 {
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY;
        let name = "d".repeat(100);
        deep = rustix::fs::openat(&deep, name.as_str(), flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    let flags = rustix::fs::OFlags::RDONLY;
    let bottom = rustix::fs::openat(&deep, "bottom", flags, rustix::fs::Mode::empty()).unwrap();
    let mut bytes = vec![0; 100];
    let len = rustix::io::read(&bottom, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}
