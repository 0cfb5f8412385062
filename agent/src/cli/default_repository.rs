//! The repository that is made and used when none is named: no configuration is needed for a first backup.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::destinations;
use super::output::Output;
use super::session::{Session, tag_cache};
use crate::config::{DefaultRepository, Settings, secrets};
use crate::repository::connect::{Location, Mode, StoreOptions};
use crate::repository::create::CreateOptions;
use crate::repository::{Repository, state};
use crate::seal::slot::{Cost, Purpose, Secret};
use crate::seal::{Cipher, SecretKey};
use crate::tree::path_text;
use crate::{Error, Kind, Result};

/// Whether it was made.
pub fn exists(settings: &Settings) -> bool {
    settings.default_repository.path.join("config").exists()
}

/// The error of every command but `backup` and `init` when there is none and none was named.
pub fn none_named(settings: &Settings) -> Error {
    let path = settings.default_repository.path.display();
    Error::new(
        Kind::NoRepository,
        format_args!("no repository was named, and there is none at the default place {path}"),
    )
    .with_hint("Name one by --repository or LIFEBOAT_REPOSITORY, or make one: `lifeboat backup PATH` does.")
}

/// Makes it with a key file of its own, and says where both are.
///
/// # Errors
/// If either cannot be made.
pub fn create(session: &Session, cipher: Cipher) -> Result<Repository> {
    let place = &session.settings.default_repository;
    let _alone = match place.path.parent() {
        Some(parent) => Some(lock(parent)?),
        None => None,
    };
    if exists(&session.settings) {
        // Another first run was faster.
        return session.open();
    }
    let (secret, purpose) = match &session.settings.secret {
        Some(source) => (source.load()?, source.purpose()),
        None => (Secret::Key(own_key(&place.key_file)?), Purpose::KeyFile),
    };
    let options =
        CreateOptions { cipher, purpose, label: String::new(), cost: Cost::DEFAULT, pack_bytes: None };
    let provider = Location::Local(place.path.clone()).connect(Mode::Create, &StoreOptions::default())?;
    let directories = session.settings.directories.clone();
    let repository = Repository::create(provider, &secret, &options, directories)?
        .with_other_places(destinations::local_places(&session.settings));
    tag_cache(repository.directories());
    tell(&session.output, place, session.settings.secret.is_none());
    Ok(repository)
}

/// Makes the directory and lets one first run at a time into it, until what is returned is dropped.
fn lock(directory: &Path) -> Result<File> {
    state::make_private_dir(directory)?;
    let cannot = |e: std::io::Error| Error::io(format_args!("cannot lock {}", directory.display()), e);
    let file = File::open(directory).map_err(cannot)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive))
        .map_err(|e| cannot(e.into()))?;
    Ok(file)
}

/// The key of a run that was cut off before it made the repository, or a new one.
fn own_key(path: &Path) -> Result<SecretKey> {
    if path.exists() {
        return secrets::read_key_file(path);
    }
    let key = SecretKey::generate()?;
    write_key_file(path, &key)?;
    Ok(key)
}

fn tell(output: &Output, place: &DefaultRepository, has_own_key: bool) {
    if output.json() {
        let text = |path: &Path| path_text::to_text(path.as_os_str().as_bytes());
        let key_file = has_own_key.then(|| text(&place.key_file));
        let _ = output.object(
            "repository_created",
            &serde_json::json!({ "repository": text(&place.path), "key_file": key_file }),
        );
        return;
    }
    // With -q too: it is said once, and who does not know of the key loses the backups with it.
    output.complain("No repository was named, so one was made:");
    output.complain(format_args!("  repository  {}", place.path.display()));
    if has_own_key {
        output.complain(format_args!("  key file    {}", place.key_file.display()));
        output.complain("Without the key nobody can read the backups, you neither: run `lifeboat key show`, copy the text to paper");
        output.complain("or to a password manager, and keep it away from this machine.");
    }
    output.warning(
        "The repository is on this machine: it protects from mistakes, not from a dead or stolen disk. Use --repository \
         with another disk as soon as you can.",
    );
}

/// Writes a new key file, readable by its owner only; never over another file.
///
/// # Errors
/// `Usage` if there is a file already; if it cannot be written.
pub fn write_key_file(path: &Path, key: &SecretKey) -> Result<()> {
    let cannot = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            return Error::usage(format_args!("{} is there already", path.display()))
                .with_hint("Name another file: a key file is never overwritten.");
        }
        Error::io(format_args!("cannot write the key file {}", path.display()), e)
    };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    let text = key.to_text();
    let written = file
        .write_all(b"# A Lifeboat key. Whoever has it can read the backups.\n")
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        });
    written.map_err(|e| {
        // Half a key file would be in the way of the next try.
        let _ = fs::remove_file(path);
        cannot(e)
    })
}
