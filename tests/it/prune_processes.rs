//! `prune` by real processes: killed at every call, beside backups, by its own words.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lifeboat_agent::collect::{self, CollectOptions, MaxUnused};
use lifeboat_agent::events::Context;
use lifeboat_agent::seal::Cipher;
use lifeboat_providers::local::LocalProvider;
use lifeboat_tests::binary::ended;
use lifeboat_tests::grow;
use lifeboat_tests::objects::{keys_in, read_all};
use lifeboat_tests::proof;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::victim::victim;
use lifeboat_tests::world::{World, backup_all, create, open};

use crate::scene::{Scene, walk};

fn killed_at_every(how: &str) {
    let mut random = Random::new(21);
    let world = World::new();
    let base = world.path("base");
    let repository =
        create(Arc::new(LocalProvider::create(&base).unwrap()), &world.machine("first"), Cipher::default());
    grow::grow(&world.source(), 8, &mut random);
    for number in 0..3 {
        grow::file(&world.source().join(format!("big{number}")), 60_000, &mut random);
    }
    let forgotten = backup_all(&repository, &world.source());
    fs::remove_file(world.source().join("big0")).unwrap();
    grow::edit(&world.source(), 8, &mut random);
    let tree = see(&world.source());
    let kept = backup_all(&repository, &world.source());
    repository.forget(&[&forgotten], "test").unwrap();
    let copy = |name: &str| {
        let store = world.path(name);
        assert!(Command::new("cp").arg("-a").arg(&base).arg(&store).status().unwrap().success());
        store
    };
    let (lived, calls) = victim(&world, &copy("counting"), "counting", how, 0);
    assert!(lived && calls > 20, "{calls}");
    for call in 1..=calls {
        let when = format!("killed {how} {call} of {calls}");
        let store = copy(&when);
        let (lived, _) = victim(&world, &store, &when, how, call);
        assert!(!lived || call + 2 >= calls, "{when}: it lived");
        let store = Arc::new(LocalProvider::open(&store).unwrap());
        let repository = open(store.clone(), &world.machine(&when)).unwrap();
        proof::assert_whole(&repository, &when);
        world.restored(&repository, &kept).assert_equals(&tree, &when);
        let options = CollectOptions { max_unused: MaxUnused::Bytes(0), ..CollectOptions::default() };
        collect::run(&repository, &options, &Context::silent()).unwrap();
        let again = collect::run(&repository, &options, &Context::silent()).unwrap();
        assert_eq!((again.packs_deleted, again.plan.frees()), (0, 0), "{when}: {again:?}");
        proof::assert_whole(&repository, &format!("{when}, after the next prune"));
        world.restored(&repository, &kept).assert_equals(&tree, &when);
        let left = keys_in(&read_all(&*store), "sessions");
        assert!(left.is_empty(), "{when}: sessions are left over: {left:?}");
    }
}

#[test]
fn killed_before_every_call() {
    killed_at_every("prune-before");
}

#[test]
fn killed_after_every_call() {
    killed_at_every("prune-after");
}

fn stored(scene: &Scene) -> u64 {
    let packs =
        ["packs", "meta"].into_iter().flat_map(|folder| walk(&scene.world.path("repository").join(folder)));
    packs.filter(|path| path.is_file()).map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// A repository with a snapshot of something large, which can be forgotten, and one of the source, which has nothing of it.
fn with_garbage() -> Scene {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let other = scene.world.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("large"), Random::new(1).bytes(3_000_000)).unwrap();
    scene.run(&["backup", other.to_str().unwrap()]).expect(0);
    scene.backup().expect(0);
    scene
}

#[test]
fn by_the_command_line() {
    let scene = with_garbage();
    scene.run(&["prune"]).expect(0).prints("Nothing to free.");
    scene.run(&["forget", "latest~1"]).expect(0);
    let before = stored(&scene);
    scene
        .run(&["prune", "--dry-run"])
        .expect(0)
        .prints("nothing of them is used")
        .prints("Would free 2.9 MiB");
    assert_eq!(stored(&scene), before);
    let dry = scene.run(&["prune", "--dry-run", "--json"]).expect(0).json();
    assert!(dry[0]["bytes_to_free"].as_u64().unwrap() > 2_900_000, "{dry:?}");
    assert_eq!((&dry[0]["dry_run"], &dry[0]["packs_deleted"]), (&true.into(), &0.into()));
    scene.run(&["prune", "--max-unused", "0"]).expect(0).prints("Freed 2.9 MiB");
    assert!(before - stored(&scene) > 2_900_000);
    scene.run(&["check", "--read-data"]).expect(0);
    let target = scene.path("target");
    scene.run(&["restore", "latest", "--target", &target]).expect(0);
    let restored = Path::new(&target).join(scene.world.source().strip_prefix("/").unwrap());
    see(&restored).assert_equals(&see(&scene.world.source()), "restored");
    scene.run(&["prune", "--max-unused", "0"]).expect(0).prints("Nothing to free.");
    scene.run(&["prune", "--max-unused", "lots"]).expect(2).says("--max-unused");
}

/// Whatever a prune that runs all the time does, backups that run beside it lose nothing.
#[test]
fn beside_backups_and_restores() {
    let scene = with_garbage();
    let mut random = Random::new(5);
    for round in 0..2 {
        grow::file(&scene.world.source().join(format!("file{round}")), 400_000, &mut random);
        let backup = scene.person.start(&["backup", "--rescan", scene.source()]);
        let prune = scene.person.start(&["prune", "--max-unused", "0"]);
        let target = scene.path(&format!("beside{round}"));
        let restore = scene.person.start(&["restore", "latest", "--target", &target]);
        ended(backup).expect(0);
        ended(prune).expect(0);
        ended(restore).expect(0);
        scene.run(&["check", "--read-data"]).expect(0);
        scene.run(&["forget", "latest~1"]).expect(0);
    }
    scene.run(&["prune", "--max-unused", "0"]).expect(0);
    scene.run(&["check", "--read-data"]).expect(0);
    let target = scene.path("target");
    scene.run(&["restore", "latest", "--target", &target]).expect(0);
    let restored = Path::new(&target).join(scene.world.source().strip_prefix("/").unwrap());
    see(&restored).assert_equals(&see(&scene.world.source()), "restored");
}

#[test]
fn what_the_disk_does_not_let_go_is_said_with_exit_code_3() {
    let scene = with_garbage();
    let Some(nobody) = scene.nobody() else { return };
    scene.run(&["forget", "latest~1"]).expect(0);
    let repository = scene.world.path("repository");
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(&repository).status().unwrap();
    assert!(owned.success());
    for folder in walk(&repository.join("packs")).into_iter().filter(|path| path.is_dir()) {
        std::os::unix::fs::chown(&folder, Some(0), Some(0)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = nobody.with("LIFEBOAT_REPOSITORY", &repository).with("LIFEBOAT_PASSPHRASE", "secret");
    let arguments = ["prune", "--max-unused", "unlimited"];
    nobody.run(&arguments).expect(3).says("did not let").says("packs/");
    nobody.run(&["check", "--read-data"]).expect(0);
    scene.run(&arguments).expect(0).prints("Freed 2.9 MiB");
}
