//! `doctor` on set-ups that are sound and on such that are not, and what works all the same with a cache that does not.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use lifeboat_agent::repository::Repository;
use lifeboat_agent::repository::connect::{Location, Mode};
use lifeboat_agent::seal::slot::Secret;
use lifeboat_tests::binary::Ended;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::world::append;
use zeroize::Zeroizing;

use crate::scene::{Scene, Tmpfs};

/// What was found wrong: subjects and messages, one a line.
fn wrong(said: &Ended) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let found = said.json();
    let wrong = found.iter().filter(|finding| finding["verdict"] == "wrong");
    wrong
        .map(|f| format!("{}: {} → {}\n", text(&f["subject"]), text(&f["message"]), text(&f["fix"])))
        .collect()
}

#[test]
fn a_sound_set_up_is_found_sound() {
    let scene = Scene::backed_up();
    let said = scene.run(&["doctor"]).expect(0);
    assert!(
        said.out.contains("Nothing is wrong") && said.out.contains("it can be written to"),
        "{}",
        said.out
    );
    assert_eq!(wrong(&scene.run(&["doctor", "--json"]).expect(0)), "");
}

#[test]
fn a_key_file_that_others_can_read_is_found() {
    let scene = Scene::backed_up();
    let file = scene.path("key");
    scene.run(&["key", "add", "--new-key-file", &file]).expect(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let found = wrong(&scene.run(&["doctor", "--json", "--key-file", &file]).expect(1));
    assert!(found.starts_with("key: ") && found.contains("chmod 600"), "{found}");
}

#[test]
fn a_repository_that_cannot_be_written_to_is_found() {
    let scene = Scene::new();
    let Some(nobody) = scene.nobody() else { return };
    nobody.run(&["backup", scene.source()]).expect(0);
    assert_eq!(wrong(&nobody.run(&["doctor", "--json"]).expect(0)), "");
    // One run as root is enough to leave a folder in which its owner cannot write.
    let store = scene.world.path("nobody/.local/share/lifeboat/repository");
    let foreign = fs::read_dir(store.join("packs")).unwrap().next().unwrap().unwrap().path();
    std::os::unix::fs::chown(&foreign, Some(0), Some(0)).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    let found = wrong(&nobody.run(&["doctor", "--json"]).expect(1));
    assert!(found.starts_with("store: 1 folder of it") && found.contains("chown"), "{found}");
    assert!(found.contains(foreign.to_str().unwrap()), "{found}");
    assert!(Command::new("chmod").args(["-R", "a-w"]).arg(&store).status().unwrap().success());
    let found = wrong(&nobody.run(&["doctor", "--json"]).expect(1));
    assert!(found.contains("folders of it cannot be written to"), "{found}");
}

#[test]
fn a_store_that_is_mounted_read_only_is_found() {
    let scene = Scene::new();
    let mount = scene.world.path("mount");
    let Some(mounted) = Tmpfs::mount(&mount, "2g") else { return };
    let person = scene.person.clone().with("LIFEBOAT_REPOSITORY", mount.join("repository"));
    person.run(&["init"]).expect(0);
    person.run(&["backup", scene.source()]).expect(0);
    mounted.remount("ro");
    let found = wrong(&person.run(&["doctor", "--json"]).expect(1));
    assert!(found.starts_with("store: ") && found.contains("remount,rw"), "{found}");
    person.run(&["backup", scene.source()]).expect_failure().says("read-only");
    let target = scene.path("target");
    person.run(&["restore", "latest", "--target", &target]).expect(0);
}

#[test]
fn a_clock_behind_the_newest_snapshot_is_found() {
    let scene = Scene::backed_up();
    let place = Location::parse(OsStr::new(&scene.path("repository")))
        .unwrap()
        .connect(Mode::Open, &Default::default())
        .unwrap();
    let secret = Secret::Passphrase(Zeroizing::new("secret".to_owned()));
    let repository = Repository::open(place, &secret, scene.world.machine("other")).unwrap();
    let mut manifest = repository.load_history().unwrap().snapshots[0].manifest.clone();
    manifest.time += std::time::Duration::from_secs(3 * 86_400);
    manifest.host = "from-the-future".to_owned();
    append(&repository, manifest);
    let found = wrong(&scene.run(&["doctor", "--json"]).expect(1));
    assert!(found.starts_with("clock: ") && found.contains("from-the-future"), "{found}");
}

#[test]
fn a_cache_that_cannot_be_used_is_found_and_ends_nothing() {
    let scene = Scene::new();
    fs::write(scene.path("a-file"), "").unwrap();
    let person = scene.person.clone().with("LIFEBOAT_CACHE_DIR", scene.path("a-file/cache"));
    person.run(&["init"]).expect(0);
    person.run(&["backup", scene.source()]).expect(0).says("LIFEBOAT_CACHE_DIR");
    let found = wrong(&person.run(&["doctor", "--json"]).expect(1));
    assert!(found.starts_with("cache: ") && found.contains("LIFEBOAT_CACHE_DIR"), "{found}");
    let target = scene.path("target");
    let which = format!("latest:{}", scene.source());
    let said = person.run(&["restore", &which, "--target", &target, "-q"]).expect(0).says("kept in memory");
    assert_eq!(said.err.matches("warning").count(), 1, "{}", said.err);
    see(target.as_ref()).assert_equals(&see(&scene.world.source()), "restored");
    person.run(&["ls", "latest"]).expect(0).says("kept in memory");
    person.run(&["backup", scene.source()]).expect(0);
    person.run(&["check", "--read-data"]).expect(0);
    // Nobody is told of a cache that is not needed.
    let listed = person.run(&["snapshots"]).expect(0);
    assert_eq!(listed.err, "");
}

/// As on a rescue system, where only the target can be written to.
#[test]
fn a_restore_needs_neither_cache_nor_state() {
    let scene = Scene::backed_up();
    fs::write(scene.path("a-file"), "").unwrap();
    let rescue = scene
        .person
        .clone()
        .with("LIFEBOAT_CACHE_DIR", scene.path("a-file/cache"))
        .with("LIFEBOAT_STATE_DIR", scene.path("a-file/state"));
    let target = scene.path("target");
    let which = format!("latest:{}", scene.source());
    rescue.run(&["restore", &which, "--target", &target, "--verify"]).expect(0).says("LIFEBOAT_STATE_DIR");
    see(target.as_ref()).assert_equals(&see(&scene.world.source()), "restored");
    // A backup needs its memory, and says so before it has read everything.
    let said = rescue.run(&["backup", scene.source(), "-v"]).expect(1).says("LIFEBOAT_STATE_DIR");
    assert!(!said.err.contains("backing up"), "{}", said.err);
}

#[test]
fn a_full_cache_ends_nothing() {
    let scene = Scene::new();
    let cache = scene.world.path("cache");
    let Some(_mounted) = Tmpfs::mount(&cache, "64k") else { return };
    let person = scene.person.clone().with("LIFEBOAT_CACHE_DIR", &cache);
    person.run(&["init"]).expect(0);
    let mut random = Random::new(80);
    for number in 0..3_000 {
        fs::write(scene.world.source().join(format!("file{number}")), random.bytes(40)).unwrap();
    }
    person.run(&["backup", scene.source()]).expect(0).says("no space left");
    let again = person.run(&["backup", scene.source(), "--json"]).expect(0).json();
    // What was stored is known again; the directories on the way to the source may have changed meanwhile.
    assert!(again.last().unwrap()["bytes_added"].as_u64().unwrap() < 10_000, "{again:?}");
    let target = scene.path("target");
    let which = format!("latest:{}", scene.source());
    person.run(&["restore", &which, "--target", &target, "--verify"]).expect(0).says("kept in memory");
    see(target.as_ref()).assert_equals(&see(&scene.world.source()), "restored");
    scene.run(&["check", "--read-data"]).expect(0);
}

/// Whoever can write to the store can destroy the backups.
#[test]
fn a_store_that_others_can_write_to_is_found() {
    let scene = Scene::backed_up();
    let root = scene.world.path("repository");
    let area = root.join("packs");
    let below = fs::read_dir(&area).unwrap().next().unwrap().unwrap().path();
    let set =
        |folder: &Path, mode: u32| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    let fix = format!("chmod -R go-w {}", root.display());
    for folder in [&root, &area, &below] {
        set(folder, 0o777);
        let found = wrong(&scene.run(&["doctor", "--json"]).expect(1));
        assert!(found.starts_with("store: 1 folder of it can be written to by every user"), "{found}");
        assert!(found.contains(folder.to_str().unwrap()) && found.contains(&fix), "{found}");
        set(folder, 0o770);
        // A group may share it on purpose.
        let said = scene.run(&["doctor"]).expect(0).prints("advice  store: ").prints(&fix);
        assert!(said.out.contains("other users of its group"), "{}", said.out);
        set(folder, 0o700);
    }
    let said = scene.run(&["doctor"]).expect(0);
    assert!(!said.out.contains("chmod"), "{}", said.out);
}

/// To forget snapshots alone frees nothing.
#[test]
fn a_store_that_is_nearly_full_comes_with_a_fix_that_works() {
    let scene = Scene::new();
    let mount = scene.world.path("mount");
    let Some(_mounted) = Tmpfs::mount(&mount, "64m") else { return };
    let person = scene.person.clone().with("LIFEBOAT_REPOSITORY", mount.join("repository"));
    person.run(&["init"]).expect(0);
    person.run(&["backup", scene.source()]).expect(0);
    let found = wrong(&person.run(&["doctor", "--json"]).expect(1));
    assert!(found.starts_with("space: only ") && found.contains("to a larger one"), "{found}");
    assert!(found.contains("forget snapshots and run `lifeboat prune`"), "{found}");
}
