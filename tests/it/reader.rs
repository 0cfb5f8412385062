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
