//! The independent reader (`docs/reader`), written from the specification alone, restores what the agent stored.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use lifeboat_agent::repository::Repository;
use lifeboat_agent::repository::create::CreateOptions;
use lifeboat_agent::seal::slot::{Cost, Purpose, Secret};
use lifeboat_agent::seal::{Cipher, SecretKey};
use lifeboat_providers::local::LocalProvider;
use lifeboat_tests::grow;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::world::{World, backup_all};

/// The Python with the reader's packages, if there is one: `tests/run` makes it.
pub(crate) fn python() -> Option<PathBuf> {
    match std::env::var_os("LIFEBOAT_READER_PYTHON") {
        Some(python) => Some(python.into()),
        None => {
            println!(
                "skipped: LIFEBOAT_READER_PYTHON names no Python with the reader's packages (tests/run makes one)"
            );
            None
        }
    }
}

pub(crate) fn read(python: &Path, passphrase: Option<&str>, arguments: &[&Path]) -> Output {
    let reader =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/reader/lifeboat_reader.py");
    let mut command = Command::new(python);
    command.arg(reader).args(arguments).env_remove("LIFEBOAT_PASSPHRASE");
    if let Some(passphrase) = passphrase {
        command.env("LIFEBOAT_PASSPHRASE", passphrase);
    }
    command.output().unwrap()
}

#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}\n{err}", output.status);
    out.into_owned()
}

fn reads(cipher: Cipher, seed: u64) {
    let Some(python) = python() else { return };
    let world = World::new();
    let store = world.path("repository");
    let key = SecretKey::from_bytes([9; 32]);
    let options = CreateOptions {
        cipher,
        purpose: Purpose::KeyFile,
        label: String::new(),
        cost: Cost::LOWEST,
        pack_bytes: Some(256 << 10),
    };
    let provider = Arc::new(LocalProvider::create(&store).unwrap());
    let repository = Repository::create(
        provider,
        &Secret::Key(SecretKey::from_bytes([9; 32])),
        &options,
        world.machine("a"),
    )
    .unwrap();
    let passphrase = Secret::Passphrase(zeroize::Zeroizing::new("pass phrase ß".to_owned()));
    repository.add_slot(&passphrase, Purpose::Passphrase, "p", Cost::LOWEST).unwrap();
    let mut random = Random::new(seed);
    grow::grow(&world.source(), 100, &mut random);
    let first = backup_all(&repository, &world.source());
    let first_tree = see(&world.source());
    grow::edit(&world.source(), 30, &mut random);
    backup_all(&repository, &world.source());
    let tree = see(&world.source());

    let key_file = world.path("key");
    std::fs::write(&key_file, key.to_text().as_bytes()).unwrap();
    let list = succeeded(&read(&python, Some("pass phrase ß"), &["list".as_ref(), &store]));
    assert!(list.contains(&first.id.to_string()[..8]), "{list}");
    let below = world.source().strip_prefix("/").unwrap().to_path_buf();
    let by_passphrase = world.path("by-passphrase");
    succeeded(&read(
        &python,
        Some("pass phrase ß"),
        &["restore".as_ref(), &store, "latest".as_ref(), &by_passphrase],
    ));
    see(&by_passphrase.join(&below)).assert_equals(&tree, "latest");
    let by_key = world.path("by-key");
    let id = first.id.to_string();
    succeeded(&read(
        &python,
        None,
        &["restore".as_ref(), &store, id.as_ref(), &by_key, "--key-file".as_ref(), &key_file],
    ));
    see(&by_key.join(&below)).assert_equals(&first_tree, "the first");
    let wrong = read(&python, Some("not it"), &["list".as_ref(), &store]);
    assert_eq!(wrong.status.code(), Some(12), "{wrong:?}");
}

#[test]
fn reads_a_repository_of_xchacha() {
    reads(Cipher::XChaCha20Poly1305, 41);
}

#[test]
fn reads_a_repository_of_aes() {
    reads(Cipher::Aes256Gcm, 42);
}

/// A repaired index names ids of zeros in place of damaged chunks, a repaired snapshot has holes; the same chunks lie elsewhere again.
#[test]
fn reads_a_repository_that_was_repaired() {
    let Some(python) = python() else { return };
    let world = World::new();
    let store = world.path("repository");
    let provider = Arc::new(LocalProvider::create(&store).unwrap());
    let repository = lifeboat_tests::world::create(provider, &world.machine("a"), Cipher::default());
    let mut random = Random::new(43);
    for number in 0..30 {
        grow::file(&world.source().join(format!("file{number}")), 40_000, &mut random);
    }
    let tree = see(&world.source());
    let first = backup_all(&repository, &world.source());
    // One segment of the largest pack.
    let folders = std::fs::read_dir(store.join("packs")).unwrap();
    let packs = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let pack =
        packs.map(|pack| pack.unwrap().path()).max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let silent = lifeboat_agent::events::Context::silent();
    let options = lifeboat_agent::repair::IndexRepairOptions { read_data: true };
    let repaired = lifeboat_agent::repair::index(&repository, options, &silent).unwrap();
    assert_eq!(repaired.damaged.len(), 1, "{repaired:?}");
    let snapshots = lifeboat_agent::repair::snapshots(&repository, &Default::default(), &silent).unwrap();
    let [(_, Some(copy))] = &snapshots.repaired[..] else { panic!("{snapshots:?}") };

    let key_file = world.path("key");
    std::fs::write(&key_file, SecretKey::from_bytes([7; 32]).to_text().as_bytes()).unwrap();
    let restore = |id: &str, into: &str| {
        let out = world.path(into);
        let arguments: [&Path; 6] =
            ["restore".as_ref(), &store, id.as_ref(), &out, "--key-file".as_ref(), &key_file];
        (read(&python, None, &arguments), out.join(world.source().strip_prefix("/").unwrap()))
    };
    // What is lost is a hole in the damaged snapshot, and said; the repaired one holds what is left.
    let (output, _) = restore(&first.id.to_string(), "damaged");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (output, out) = restore(&copy.id.to_string(), "repaired");
    succeeded(&output);
    let files = std::fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let (lost, whole): (Vec<String>, Vec<String>) =
        files.partition(|name| name.ends_with(".lifeboat-damaged"));
    assert_eq!((lost.len(), lost.len() + whole.len()), (snapshots.lost.len(), 30));
    // Backed up again all is there again.
    backup_all(&repository, &world.source());
    let (output, out) = restore("latest", "again");
    succeeded(&output);
    see(&out).assert_equals(&tree, "backed up again");
    let (output, _) = restore(&first.id.to_string(), "healed");
    succeeded(&output);
}
