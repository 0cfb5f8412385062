//! The store runs full at every write: what was there stays whole, the error says so, and with space the next backup succeeds.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lifeboat_agent::Kind;
use lifeboat_agent::seal::Cipher;
use lifeboat_providers::layer::FaultProvider;
use lifeboat_providers::local::LocalProvider;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::objects::{read_all, store_of};
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::world::{World, backup, backup_all, create, open, options};
use lifeboat_tests::{grow, proof};

#[test]
fn the_quota_ends_at_any_byte() {
    let mut random = Random::new(21);
    let world = World::new();
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("first"), Cipher::default());
    grow::file(&world.source().join("old"), 100_000, &mut random);
    let first_tree = see(&world.source());
    let first = backup_all(&repository, &world.source());
    let objects = read_all(&*store);
    for number in 0..10 {
        grow::file(&world.source().join(format!("new{number}")), 60_000, &mut random);
    }
    let tree = see(&world.source());
    let before: usize = objects.values().map(|bytes| bytes.len()).sum();
    backup_all(&repository, &world.source());
    let needed = read_all(&*store).values().map(|bytes| bytes.len()).sum::<usize>() - before;
    let mut full = 0;
    for part in 0..30 {
        let bytes_left = needed as u64 * part / 28;
        let when = format!("{bytes_left} bytes left of {needed}");
        let store = store_of(&objects);
        let machine = world.machine(&when);
        let small = Arc::new(FaultProvider::new(store.clone()).with_bytes_left(bytes_left));
        let repository = open(small, &machine).unwrap();
        if let Err(e) = backup(&repository, &world.source(), &options()) {
            assert_eq!(e.kind(), Kind::Quota, "{when}: {e:?}");
            full += 1;
        }
        let repository = open(store, &machine).unwrap();
        proof::assert_whole(&repository, &when);
        world.restored(&repository, &first).assert_equals(&first_tree, &when);
        let snapshot = backup_all(&repository, &world.source());
        world.restored(&repository, &snapshot).assert_equals(&tree, &when);
    }
    assert!(full > 20, "only {full} of 30 were full");
}

/// A mounted file system that is unmounted at the end.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Fills a small file system; `make_room` enlarges it.
fn a_full_disk(world: &World, mount: &Path, make_room: impl FnOnce()) {
    let mut random = Random::new(22);
    let place = mount.join("repository");
    let repository =
        create(Arc::new(LocalProvider::create(&place).unwrap()), &world.machine("a"), Cipher::default());
    grow::file(&world.source().join("old"), 100_000, &mut random);
    let first_tree = see(&world.source());
    let first = backup_all(&repository, &world.source());
    for number in 0..10 {
        std::fs::write(world.source().join(format!("new{number}")), random.bytes(1 << 20)).unwrap();
    }
    let tree = see(&world.source());
    for attempt in 0..2 {
        let error = backup(&repository, &world.source(), &options()).unwrap_err();
        assert_eq!(error.kind(), Kind::Quota, "attempt {attempt}: {error:?}");
        assert!(error.hint().is_some(), "{error:?}");
        proof::assert_whole(&repository, "full");
        world.restored(&repository, &first).assert_equals(&first_tree, "full");
    }
    // Nobody may hold the file system while it is enlarged.
    drop(repository);
    make_room();
    let repository = open(Arc::new(LocalProvider::open(&place).unwrap()), &world.machine("a")).unwrap();
    let snapshot = backup_all(&repository, &world.source());
    world.restored(&repository, &snapshot).assert_equals(&tree, "with room");
    proof::assert_whole(&repository, "with room");
}

#[test]
fn a_small_tmpfs_is_full() {
    let world = World::new();
    let mount = world.path("mount");
    std::fs::create_dir(&mount).unwrap();
    let at = mount.to_str().unwrap();
    if !run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", at]) {
        println!("skipped: cannot mount a tmpfs here");
        return;
    }
    let _mounted = Mounted(&mount);
    a_full_disk(&world, &mount, || assert!(run("mount", &["-o", "remount,size=64m", at])));
}

#[test]
fn a_small_ext4_is_full() {
    let world = World::new();
    let (mount, image) = (world.path("mount"), world.path("image"));
    std::fs::create_dir(&mount).unwrap();
    std::fs::File::create(&image).unwrap().set_len(6 << 20).unwrap();
    let (at, file) = (mount.to_str().unwrap(), image.to_str().unwrap());
    if !run("mkfs.ext4", &["-q", "-O", "^has_journal", file]) || !run("mount", &["-o", "loop", file, at]) {
        println!("skipped: cannot mount an ext4 image here");
        return;
    }
    let _mounted = Mounted(&mount);
    let ballast = mount.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    a_full_disk(&world, &mount, || {
        assert!(run("umount", &[at]));
        std::fs::File::options().write(true).open(&image).unwrap().set_len(64 << 20).unwrap();
        assert!(run("e2fsck", &["-fp", file]) && run("resize2fs", &[file]));
        assert!(run("mount", &["-o", "loop", file, at]));
    });
}
