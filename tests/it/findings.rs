//! Findings of hostile reviews that were mended, each with the test that would have found it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lifeboat_agent::Kind;
use lifeboat_agent::events::Context;
use lifeboat_agent::fetch::ChunkReader;
use lifeboat_agent::repair::{self, SnapshotRepairOptions};
use lifeboat_agent::repository::Repository;
use lifeboat_agent::seal::Cipher;
use lifeboat_agent::snapshot::Snapshot;
use lifeboat_agent::snapshot::manifest::FileErrorKind;
use lifeboat_agent::tree::Entry;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::binary::{self, Person};
use lifeboat_tests::grow;
use lifeboat_tests::objects::{keys_in, read_all, remove};
use lifeboat_tests::random::Random;
use lifeboat_tests::world::{Ear, World, backup, backup_all, create, options, restore_heard, settle};

/// The entry of a path below the source.
fn entry(repository: &Repository, snapshot: &Snapshot, path: &Path) -> Entry {
    let index = Arc::new(repository.load_catalog().unwrap().index);
    let reader = ChunkReader::new(repository, index);
    let root = snapshot.manifest.root().unwrap();
    reader.entry_at(&root, path.as_os_str().as_encoded_bytes()).unwrap()
}

/// A repository of which all file content is lost.
fn without_data(world: &World) -> (Repository, Snapshot, Arc<MemoryProvider>) {
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("own"), Cipher::default());
    let snapshot = backup_all(&repository, &world.source());
    for key in keys_in(&read_all(&*store), "packs") {
        remove(&*store, &key);
    }
    (repository, snapshot, store)
}

/// The second name was linked to the first before it was known that the first is damaged.
#[test]
fn no_name_of_a_damaged_file_looks_sound() {
    let world = World::new();
    let source = world.source();
    // One that is read in many windows' worth of chunks, and one of a single chunk.
    for (name, len) in [("large", 300_000), ("small", 10)] {
        grow::file(&source.join(format!("{name}-a")), len, &mut Random::new(3));
        for other in ["b", "c"] {
            fs::hard_link(source.join(format!("{name}-a")), source.join(format!("{name}-{other}"))).unwrap();
        }
    }
    grow::leave_the_future(&source);
    let (repository, snapshot, _store) = without_data(&world);
    let target = world.path("target");
    let (ear, context) = Ear::new();
    let outcome = restore_heard(&repository, &snapshot, &source, &target, &context).unwrap();
    assert_eq!(outcome.verdict().unwrap_err().kind(), Kind::Damaged);
    for size in ["large", "small"] {
        for name in ["a", "b", "c"] {
            let name = format!("{size}-{name}");
            assert!(!target.join(&name).exists(), "{name} is there as if it were whole");
            let said = ear.complaints();
            assert!(said.contains(&format!("/{name}: ")), "nothing was said of {name}: {said}");
        }
    }
}

/// Its error was recorded once, and the next run took the file for unchanged and well.
#[test]
fn attributes_that_could_not_be_read_are_looked_at_again() {
    let Ok(shm) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: no file system in memory");
        return;
    };
    let (source, store) = (shm.path().join("source"), Arc::new(MemoryProvider::new()));
    fs::create_dir(&source).unwrap();
    let file = source.join("file");
    fs::write(&file, "content").unwrap();
    fs::write(source.join("other"), "content").unwrap();
    // More than is kept of one entry: the only way to fail that needs no broken file system.
    let value = vec![b'x'; 64 << 10];
    for number in 0..70 {
        let name = format!("user.lifeboat{number}");
        if let Err(e) = rustix::fs::setxattr(&file, &name, &value, rustix::fs::XattrFlags::CREATE) {
            println!("skipped: cannot set attributes here: {e}");
            return;
        }
    }
    settle(&source);
    let world = World::new();
    let repository = create(store, &world.machine("own"), Cipher::default());
    for run in 1..=3 {
        let outcome = backup(&repository, &source, &options()).unwrap();
        assert_eq!(outcome.errors_total, 1, "run {run}: {:?}", outcome.summary);
        let snapshot = outcome.snapshot.unwrap();
        let error = &snapshot.manifest.errors[0];
        assert!(error.path.ends_with("/file") && error.message.contains("attributes"), "{error:?}");
        let entry = entry(&repository, &snapshot, &file);
        assert_eq!((entry.meta.ctime.seconds, entry.meta.ctime.nanoseconds), (0, 0), "run {run}");
        assert!(entry.meta.xattrs.len() > 50, "run {run}: those that could be read are kept");
        let unmodified = u64::from(run > 1);
        assert_eq!(
            outcome.summary.files_unmodified, unmodified,
            "run {run}: only the other file is as it was"
        );
    }
}

/// The manifest says why an entry of a repaired snapshot is incomplete: nobody failed to read it when it was backed up.
#[test]
fn a_repaired_snapshot_says_what_became_of_its_files() {
    let world = World::new();
    grow::file(&world.source().join("file"), 200_000, &mut Random::new(4));
    let (repository, snapshot, _store) = without_data(&world);
    let options = SnapshotRepairOptions::default();
    let repaired = repair::snapshots(&repository, &options, &Context::silent()).unwrap();
    let [(old, Some(new))] = &repaired.repaired[..] else { panic!("{repaired:?}") };
    assert_eq!(old.id, snapshot.id);
    assert_eq!(new.manifest.repaired_from.as_deref(), Some(&*old.id.to_string()));
    let path = world.source().join("file");
    let error = new.manifest.error_of(path.as_os_str().as_encoded_bytes()).unwrap();
    assert_eq!(error.kind, FileErrorKind::Lost);
    assert!(error.message.contains(&old.short_id()), "{error:?}");
    assert_eq!(new.manifest.errors_total, 1);
    assert!(entry(&repository, new, &world.source().join("file.lifeboat-damaged")).incomplete);
}

/// A directory of which nodes were lost was written without their entries, and nothing was said: exit code 0.
#[test]
fn a_repair_names_directories_whose_entries_are_lost() {
    let world = World::new();
    fs::create_dir(world.source().join("folder")).unwrap();
    fs::write(world.source().join("folder/file"), "content").unwrap();
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("own"), Cipher::default());
    let first = backup_all(&repository, &world.source());
    let before = keys_in(&read_all(&*store), "meta");
    fs::write(world.source().join("folder/newer"), "content").unwrap();
    let second = backup_all(&repository, &world.source());
    // All directories of the second are lost, those of the first are not.
    for key in keys_in(&read_all(&*store), "meta").iter().filter(|key| !before.contains(key)) {
        remove(&*store, key);
    }
    let repaired = repair::snapshots(&repository, &Default::default(), &Context::silent()).unwrap();
    let [(old, Some(new))] = &repaired.repaired[..] else { panic!("{repaired:?}") };
    assert!(old.id == second.id && new.id != first.id);
    assert_eq!(repaired.lost, [(second.id.to_string(), Vec::new())], "the top is lost, and must be named");
    assert!(new.manifest.root().unwrap().incomplete);
    assert_eq!(new.manifest.errors_total, 1);
}

/// A store that does not give a snapshot out just now: it was called lost, and its object removed.
#[test]
fn a_snapshot_that_the_store_denies_is_not_forgotten_by_a_repair() {
    use lifeboat_providers::layer::fault::{Fault, Rule, When};
    use lifeboat_providers::layer::{FaultProvider, Operation};
    use lifeboat_providers::{ErrorKind, Prefix};

    let world = World::new();
    fs::write(world.source().join("file"), "content").unwrap();
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("own"), Cipher::default());
    backup_all(&repository, &world.source());
    backup_all(&repository, &world.source());
    let before = keys_in(&read_all(&*store), "snapshots");
    let snapshots = Prefix::folder("snapshots").unwrap();
    let rule = |when, fault| Rule::new(Operation::Get, when, fault).in_folder(snapshots.clone());
    // It reads badly once, so that it seems lost, and is denied when it is asked for again.
    for call in 1..=2 {
        let faulty = FaultProvider::new(store.clone())
            .with_rule(rule(When::Call(call), Fault::FlipBit))
            .with_rule(rule(When::From(3), Fault::FailBefore(ErrorKind::Denied)));
        let faulty = Arc::new(faulty);
        let faulty = lifeboat_agent::repository::Store::new(faulty).unwrap();
        let options = SnapshotRepairOptions { forget: true, ..Default::default() };
        let repaired = repair::snapshots(&repository.with_store(faulty), &options, &Context::silent());
        assert_eq!(repaired.unwrap_err().kind(), Kind::Store, "read {call}");
        assert_eq!(keys_in(&read_all(&*store), "snapshots"), before, "read {call}");
    }
}

/// A check said that the next forget removes it; none did.
#[test]
fn a_forgotten_snapshot_that_could_not_be_removed_goes_with_the_next() {
    use lifeboat_providers::layer::fault::{Fault, Rule, When};
    use lifeboat_providers::layer::{FaultProvider, Operation};

    let world = World::new();
    fs::write(world.source().join("file"), "content").unwrap();
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("own"), Cipher::default());
    let [first, second, third] = [(); 3].map(|()| backup_all(&repository, &world.source()));
    let rule =
        Rule::new(Operation::Delete, When::Always, Fault::FailBefore(lifeboat_providers::ErrorKind::Denied));
    let faulty = Arc::new(FaultProvider::new(store.clone()).with_rule(rule));
    let faulty = repository.with_store(lifeboat_agent::repository::Store::new(faulty).unwrap());
    faulty.forget(&[&first], "test").unwrap_err();
    assert_eq!(repository.load_history().unwrap().lingering, [first.id]);
    repository.forget(&[&second], "test").unwrap();
    let history = repository.load_history().unwrap();
    assert!(history.lingering.is_empty());
    assert_eq!(keys_in(&read_all(&*store), "snapshots"), [format!("snapshots/{}", third.id)]);
    assert!(
        lifeboat_agent::check::run(&repository, &Default::default(), &Context::silent())
            .unwrap()
            .verdict()
            .is_ok()
    );
}

/// The answer to the last write of an `init` was lost: its only key slot was removed, from a repository that was there.
#[test]
fn a_repository_that_was_made_keeps_its_slot_whatever_the_store_answers() {
    use lifeboat_agent::repository::create::CreateOptions;
    use lifeboat_agent::seal::slot::{Cost, Purpose};
    use lifeboat_providers::layer::fault::{Fault, Rule, When};
    use lifeboat_providers::layer::{FaultProvider, Operation};
    use lifeboat_tests::world::{open, secret};

    let world = World::new();
    let options = || CreateOptions {
        cipher: Cipher::default(),
        purpose: Purpose::KeyFile,
        label: String::new(),
        cost: Cost::LOWEST,
        pack_bytes: None,
    };
    for call in 1..=2 {
        for fault in [
            Fault::FailAfter(lifeboat_providers::ErrorKind::Transient),
            Fault::FailBefore(lifeboat_providers::ErrorKind::Transient),
        ] {
            let store = Arc::new(MemoryProvider::new());
            let rule = Rule::new(Operation::Put, When::Call(call), fault);
            let faulty = Arc::new(FaultProvider::new(store.clone()).with_rule(rule));
            let made = Repository::create(faulty, &secret(), &options(), world.machine("own"));
            let has_config = read_all(&*store).contains_key("config");
            assert!(has_config || made.is_err(), "put {call}");
            if has_config {
                assert!(made.is_ok(), "put {call}: it was made: {:?}", made.err());
                open(store, &world.machine("own")).unwrap();
            } else {
                // Nothing is left, and nothing in the way of the next try.
                assert!(read_all(&*store).is_empty(), "put {call}");
                Repository::create(store, &secret(), &options(), world.machine("own")).unwrap();
            }
        }
    }
}

/// What the index says of a pack is not what the pack says of itself: all its bytes are sound, and nothing can be restored.
#[test]
fn a_check_of_all_data_compares_the_index_with_the_packs() {
    use lifeboat_agent::check::{self, CheckOptions, ReadData};
    use lifeboat_agent::repository::Area;
    use lifeboat_agent::seal::ObjectKind;

    let world = World::new();
    grow::file(&world.source().join("file"), 400_000, &mut Random::new(8));
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("own"), Cipher::default());
    backup_all(&repository, &world.source());
    let [key] = &keys_in(&read_all(&*store), "index")[..] else { panic!("one shard") };
    let id = key.rsplit('/').next().unwrap().parse().unwrap();
    let sound = repository.read_shard(&id).unwrap();
    remove(&*store, key);
    let all = CheckOptions { read_data: ReadData::All, threads: 0 };
    for wrong in ["salt", "two chunks exchanged", "nothing"] {
        let mut shard = sound.clone();
        let data = |pack: &&mut lifeboat_agent::index::PackEntry| {
            pack.directory.segments.iter().any(|segment| segment.chunks.len() > 1)
        };
        let pack = shard.packs.iter_mut().find(data).unwrap();
        match wrong {
            "salt" => pack.salt[0] ^= 1,
            "nothing" => {}
            _ => {
                let several =
                    |segment: &&mut lifeboat_agent::pack::directory::Segment| segment.chunks.len() > 1;
                pack.directory.segments.iter_mut().find(several).unwrap().chunks.swap(0, 1);
            }
        }
        repository.put_whole(Area::Index, ObjectKind::IndexShard, &shard.encode().unwrap()).unwrap();
        let report = check::run(&repository, &all, &Context::silent()).unwrap();
        assert_eq!(report.verdict().is_ok(), wrong == "nothing", "{wrong}: {:?}", report.damages);
        assert_eq!(report.touched.is_empty(), wrong == "nothing", "{wrong}: {:?}", report.touched);
        // The packs are right, so that a repair that reads them loses nothing.
        let options = repair::IndexRepairOptions { read_data: true };
        let repaired = repair::index(&repository, options, &Context::silent()).unwrap();
        assert_eq!(repaired.corrected, u64::from(wrong != "nothing"), "{wrong}: {repaired:?}");
        assert!(repaired.damaged.is_empty(), "{wrong}: {repaired:?}");
        let report = check::run(&repository, &all, &Context::silent()).unwrap();
        assert!(report.verdict().is_ok(), "{wrong}, repaired: {:?}", report.damages);
        for key in keys_in(&read_all(&*store), "index") {
            remove(&*store, &key);
        }
    }
}

/// Runs commands of a shell in a mount namespace of their own; `false` if this user may not.
fn with_own_mounts(person: &Person, script: &str, arguments: &[&Path]) -> bool {
    let allowed = Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: cannot make mounts of our own");
        return false;
    }
    let environment = person.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-euc", script, "sh"]).arg(binary::lifeboat()).args(arguments);
    command.env_clear().envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// `-x SOURCE SOURCE/named`: the mount that was named is backed up, the one that was not is left out, and both mount points are there.
#[test]
fn one_file_system_goes_into_mounts_that_are_named() {
    let world = World::new();
    let source = world.source();
    for folder in ["named", "other", "deep/named"] {
        fs::create_dir_all(source.join(folder)).unwrap();
    }
    fs::write(source.join("own"), "own").unwrap();
    let person = Person::new(&world.path("home"))
        .with("LIFEBOAT_REPOSITORY", world.path("repository"))
        .with("LIFEBOAT_PASSPHRASE", "secret");
    person.run(&["init"]).expect(0);
    let script = r#"
        for folder in named other deep/named; do
            mount -t tmpfs none "$2/$folder"
            mkdir "$2/$folder/sub"
            echo inside >"$2/$folder/sub/file"
        done
        mkdir "$2/named/nested"
        mount -t tmpfs none "$2/named/nested"
        echo nested >"$2/named/nested/file"
        "$1" backup -x "$2" "$2/named" "$2/deep/named"
    "#;
    if !with_own_mounts(&person, script, &[&source]) {
        return;
    }
    let target = world.path("target");
    let what = format!("latest:{}", source.display());
    person.run(&["restore", &what, "--target", target.to_str().unwrap()]).expect(0);
    let content = |path: &str| fs::read_to_string(target.join(path)).ok();
    assert_eq!(content("own").as_deref(), Some("own"));
    for named in ["named", "deep/named"] {
        assert_eq!(content(&format!("{named}/sub/file")).as_deref(), Some("inside\n"), "{named}");
    }
    for empty in ["other", "named/nested"] {
        let found = fs::read_dir(target.join(empty)).unwrap_or_else(|e| panic!("{empty}: {e}"));
        assert_eq!(found.count(), 0, "{empty} was not named");
    }
}

/// `--delete` took what the backup could not even list for something that is to go.
#[test]
fn delete_spares_directories_that_were_not_read() {
    if !grow::is_root() {
        println!("skipped: needs root to become another user");
        return;
    }
    let world = World::new();
    let source = world.source();
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(source.join("closed/below")).unwrap();
    fs::write(source.join("closed/below/precious"), "precious").unwrap();
    fs::write(source.join("open"), "open").unwrap();
    let program = world.path("program");
    fs::copy(binary::lifeboat(), &program).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let nobody = Person::new(&world.path("nobody"))
        .with("LIFEBOAT_REPOSITORY", world.path("nobody/repository"))
        .with("LIFEBOAT_PASSPHRASE", "secret")
        .as_user(65534)
        .program(&program);
    nobody.run(&["init"]).expect(0);
    nobody.run(&["backup", source.to_str().unwrap()]).expect(3);
    fs::write(source.join("newer"), "to be deleted").unwrap();
    // The restore is root's, in place.
    let root = Person::new(&world.path("home"))
        .with("LIFEBOAT_REPOSITORY", world.path("nobody/repository"))
        .with("LIFEBOAT_PASSPHRASE", "secret");
    let what = format!("latest:{}", source.display());
    let target = source.to_str().unwrap();
    let arguments = ["restore", &what, "--target", target, "--overwrite", "if-changed", "--delete"];
    let plain = root.run(&arguments).expect(2).says("could not be read");
    let forced = root.run(&[&arguments[..], &["--force"]].concat());
    for path in ["closed/below/precious", "open"] {
        assert!(source.join(path).exists(), "{path} is gone\n{plain:?}\n{forced:?}");
    }
    assert!(!source.join("newer").exists(), "nothing was deleted, so this says nothing\n{forced:?}");
}
