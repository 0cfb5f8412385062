//! What a newer version made is refused by name, and one damaged version byte blocks nothing but the object that it stands in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_agent::events::Context;
use lifeboat_agent::seal::slot::{Cost, Purpose, Secret};
use lifeboat_agent::seal::{Cipher, ObjectKind, SecretKey};
use lifeboat_agent::{Kind, check, repair};
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::binary::Person;
use lifeboat_tests::grow;
use lifeboat_tests::objects::{Objects, keys_in, read_all, store_of};
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::world::{World, backup, backup_all, create, open, options};

/// Where the format version stands in a sealed object and in a key slot.
const VERSION_AT: usize = 4;

/// Two objects of every kind; the second slot is not the one that opens.
fn two_of_everything(world: &World) -> Objects {
    let mut random = Random::new(5);
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("own"), Cipher::default());
    for round in 0..4 {
        grow::file(&world.source().join(format!("file{round}")), 90_000, &mut random);
        grow::leave_the_future(&world.source());
        let snapshot = backup_all(&repository, &world.source());
        if round == 0 {
            repository.forget(&[&snapshot], "test").unwrap();
        }
    }
    let another = Secret::Key(SecretKey::from_bytes([8; 32]));
    repository.add_slot(&another, Purpose::Recovery, "another", Cost::LOWEST).unwrap();
    let mut objects = read_all(&*store);
    let json =
        br#"{"version":1,"host":"elsewhere","boot":"1","pid":1,"pid_start":1,"time":"2026-01-01T00:00:00Z"}"#;
    let sealed = repository.seal(ObjectKind::Session, json).unwrap();
    objects.insert(format!("sessions/{:032x}", 1), sealed.body().to_bytes());
    objects
}

#[test]
fn a_flipped_version_byte_of_one_object_does_not_block_the_rest() {
    let world = World::new();
    let objects = two_of_everything(&world);
    for folder in ["keys", "snapshots", "forgotten", "index", "meta", "packs", "sessions"] {
        for (number, key) in keys_in(&objects, folder).into_iter().enumerate() {
            let what = format!("{key} claims version 9");
            let mut damaged = objects.clone();
            let mut bytes = damaged[&key].to_vec();
            bytes[VERSION_AT] = 9;
            damaged.insert(key.clone(), Bytes::from(bytes));
            let store = store_of(&damaged);
            let machine = world.machine(&format!("{folder}{number}"));
            let repository = match open(store.clone(), &machine) {
                Ok(repository) => repository,
                Err(e) => {
                    // The slot of our own key is the one that was damaged; all others open.
                    assert!(
                        folder == "keys" && matches!(e.kind(), Kind::Damaged | Kind::WrongKey),
                        "{what}: {e:?}"
                    );
                    continue;
                }
            };
            let report = check::run(&repository, &Default::default(), &Context::silent())
                .unwrap_or_else(|e| panic!("{what}: check: {e:?}"));
            // Header and footer of a pack are read by a check of all data.
            let deep = check::CheckOptions { read_data: check::ReadData::All, threads: 0 };
            let deep = check::run(&repository, &deep, &Context::silent()).unwrap();
            let named =
                |report: &check::Report| report.damages.iter().any(|d| format!("{d:?}").contains(&key));
            assert!(named(&report) || named(&deep), "{what}: {:?}", deep.damages);
            repair::index(&repository, Default::default(), &Context::silent())
                .unwrap_or_else(|e| panic!("{what}: repair index: {e:?}"));
            repair::snapshots(&repository, &Default::default(), &Context::silent())
                .unwrap_or_else(|e| panic!("{what}: repair snapshots: {e:?}"));
            let outcome = backup(&repository, &world.source(), &options())
                .unwrap_or_else(|e| panic!("{what}: backup: {e:?}"));
            let snapshot = outcome.snapshot.unwrap();
            world.restored(&repository, &snapshot).assert_equals(&see(&world.source()), &what);
        }
    }
}

/// The same for packs that no index names: a repair reads their headers, and so does a backup after one that was cut off.
#[test]
fn a_flipped_version_byte_of_a_pack_does_not_hide_the_others() {
    let world = World::new();
    let mut objects = two_of_everything(&world);
    objects.retain(|key, _| !key.starts_with("index/"));
    let repository = open(store_of(&objects), &world.machine("sealing")).unwrap();
    // Ours, of before the machine was started anew.
    let json =
        br#"{"version":1,"host":"test","boot":"1","pid":1,"pid_start":1,"time":"2026-01-01T00:00:00Z"}"#;
    let sealed = repository.seal(ObjectKind::Session, json).unwrap();
    objects.insert(format!("sessions/{:032x}", 2), sealed.body().to_bytes());
    for folder in ["meta", "packs"] {
        let keys = keys_in(&objects, folder);
        let key = &keys[0];
        let mut damaged = objects.clone();
        let mut bytes = damaged[key].to_vec();
        bytes[VERSION_AT] = 9;
        damaged.insert(key.clone(), Bytes::from(bytes));
        let packs = keys_in(&objects, "meta").len() + keys_in(&objects, "packs").len();

        let repository = open(store_of(&damaged), &world.machine(&format!("{folder} repaired"))).unwrap();
        let repaired = repair::index(&repository, Default::default(), &Context::silent()).unwrap();
        assert_eq!((repaired.found, &repaired.unreadable), (packs as u64 - 1, &vec![key.clone()]));

        let repository = open(store_of(&damaged), &world.machine(&format!("{folder} continued"))).unwrap();
        let outcome = backup(&repository, &world.source(), &options()).unwrap();
        let named = repository.load_catalog().unwrap().index.packs().unwrap();
        assert!(named.len() >= packs - 1 && named.iter().all(|pack| !key.ends_with(&pack.id.to_string())));
        world.restored(&repository, &outcome.snapshot.unwrap()).assert_equals(&see(&world.source()), key);
    }
}

/// A repository whose `config` was replaced by another, and all its files.
struct Newer {
    world: World,
    person: Person,
}

impl Newer {
    fn new(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        let world = World::new();
        fs::write(world.source().join("file"), "content").unwrap();
        let key = world.path("key");
        fs::write(&key, SecretKey::from_bytes([9; 32]).to_text().as_bytes()).unwrap();
        let person = Person::new(&world.path("home"))
            .with("LIFEBOAT_REPOSITORY", world.path("repository"))
            .with("LIFEBOAT_PASSPHRASE", "secret");
        person.run(&["init"]).expect(0);
        person.run(&["backup", world.source().to_str().unwrap()]).expect(0);
        let config = world.path("repository/config");
        let bytes = change(fs::read(&config).unwrap());
        fs::remove_file(&config).unwrap();
        fs::write(&config, bytes).unwrap();
        Self { world, person }
    }

    /// Every command that opens the repository says why it does not, and what to do, and changes nothing.
    fn is_refused(&self, because: &str) {
        let before = files(&self.world.path("repository"));
        let source = self.world.source();
        let (source, target) = (source.to_str().unwrap(), self.world.path("target"));
        let commands: [&[&str]; 9] = [
            &["backup", source],
            &["restore", "latest", "--target", target.to_str().unwrap()],
            &["check"],
            &["check", "--read-data"],
            &["snapshots"],
            &["ls", "latest"],
            &["forget", "latest"],
            &["repair", "index"],
            &["init"],
        ];
        for command in commands {
            let ended = self.person.run(command);
            if command == ["init"] {
                // There is one already, whoever made it.
                ended.expect(2);
                continue;
            }
            ended.expect(1).says(because).says("or a later one");
        }
        let json = self.person.run(&["snapshots", "--json"]).expect(1);
        let error: serde_json::Value = serde_json::from_str(json.err.trim()).unwrap();
        assert_eq!((&error["message_type"], &error["code"]), (&"exit_error".into(), &1.into()), "{error}");
        assert!(!target.exists());
        assert_eq!(files(&self.world.path("repository")), before, "{because}: the repository was changed");
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_repository_of_a_newer_format_version_is_refused_by_name() {
    let newer = Newer::new(|mut config| {
        config[8] = 2;
        config
    });
    newer.is_refused("format version 2");
}

#[test]
fn a_repository_with_an_unknown_feature_is_refused_by_name() {
    let feature = b"time-travel";
    let newer = Newer::new(|config| {
        assert_eq!(config[10], 0, "this version knows no features");
        [&config[..10], &[1, feature.len() as u8], feature, &config[11..]].concat()
    });
    newer.is_refused("time-travel");
}
