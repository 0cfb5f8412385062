//! Temporary sources, stores and machines; backing up and restoring in one line.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use lifeboat_agent::Result;
use lifeboat_agent::backup::{self, BackupOptions, Plan};
use lifeboat_agent::events::{Context, Event, Listener};
use lifeboat_agent::repository::create::CreateOptions;
use lifeboat_agent::repository::{Directories, Repository};
use lifeboat_agent::restore::{self, RestoreOptions, Selection};
use lifeboat_agent::seal::slot::{Cost, Purpose, Secret};
use lifeboat_agent::seal::{Cipher, SecretKey};
use lifeboat_agent::session::{self, Role};
use lifeboat_agent::snapshot::{Manifest, Snapshot};
use lifeboat_providers::SharedProvider;
use parking_lot::Mutex;

use crate::seen::{Tree, see};

/// Packs this small make many of them out of little data.
pub const SMALL_PACKS: usize = 64 << 10;

/// A temporary directory with a source, targets, stores and machines. Removed at the end.
pub struct World {
    dir: tempfile::TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world with an empty source.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("lifeboat-test-").tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        Self { dir }
    }

    /// What is backed up.
    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// A path in the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directories of a machine.
    pub fn machine(&self, name: &str) -> Directories {
        let machine = self.path("machines").join(name);
        Directories::new(machine.join("cache"), machine.join("state"))
    }

    /// Restores `snapshot` into a new directory, with its whole path, and looks at what was backed up from the source.
    pub fn restored(&self, repository: &Repository, snapshot: &Snapshot) -> Tree {
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let options = RestoreOptions::into_directory(target.path().to_path_buf());
        let outcome =
            restore::run(repository, snapshot, None, &Selection::default(), &options, &Context::silent())
                .unwrap();
        outcome.verdict().unwrap();
        let sockets_only =
            outcome.shortfalls.matches('×').count() == 1 && outcome.shortfalls.contains(" × socket ");
        assert!(outcome.shortfalls.is_empty() || sockets_only, "left out: {}", outcome.shortfalls);
        see(&target.path().join(self.source().strip_prefix("/").unwrap()))
    }
}

/// The secret of all repositories made here, unless a test says otherwise.
pub fn secret() -> Secret {
    Secret::Key(SecretKey::from_bytes([7; 32]))
}

/// A new repository with small packs.
pub fn create(store: SharedProvider, machine: &Directories, cipher: Cipher) -> Repository {
    let options = CreateOptions {
        cipher,
        purpose: Purpose::KeyFile,
        label: "test".to_owned(),
        cost: Cost::LOWEST,
        pack_bytes: Some(SMALL_PACKS),
    };
    Repository::create(store, &secret(), &options, machine.clone()).unwrap()
}

/// Opens as another process would.
///
/// # Errors
/// As [`Repository::open`].
pub fn open(store: SharedProvider, machine: &Directories) -> Result<Repository> {
    Repository::open(store, &secret(), machine.clone())
}

/// Options with a host.
pub fn options() -> BackupOptions {
    BackupOptions { host: "test".to_owned(), user: "tester".to_owned(), ..BackupOptions::default() }
}

/// Backs up a directory.
///
/// # Errors
/// As [`backup::run`].
pub fn backup(repository: &Repository, source: &Path, options: &BackupOptions) -> Result<backup::Outcome> {
    let plan = Plan::new(&[source.as_os_str().as_bytes().to_vec()])?;
    backup::run(repository, plan, &Default::default(), options, &Context::silent())
}

/// Makes a snapshot of what is stored already.
pub fn append(repository: &Repository, manifest: Manifest) -> Snapshot {
    let session = session::open(repository, "test", Role::Writer).unwrap();
    let snapshot = repository.append_snapshot(manifest, &session, &Context::silent()).unwrap();
    session.close().unwrap();
    snapshot
}

/// Backs up a directory that can be read in full, and returns the snapshot.
pub fn backup_all(repository: &Repository, source: &Path) -> Snapshot {
    let outcome = backup(repository, source, &options()).unwrap();
    let snapshot = outcome.snapshot.unwrap();
    assert_eq!(outcome.errors_total, 0, "{:?}", snapshot.manifest.errors);
    snapshot
}

/// Restores what was backed up from `source` into `target`.
///
/// # Errors
/// As [`restore::run`].
pub fn restore_source(
    repository: &Repository,
    snapshot: &Snapshot,
    source: &Path,
    target: &Path,
) -> Result<restore::Outcome> {
    restore_heard(repository, snapshot, source, target, &Context::silent())
}

/// As [`restore_source`], with somebody who listens.
///
/// # Errors
/// As [`restore::run`].
pub fn restore_heard(
    repository: &Repository,
    snapshot: &Snapshot,
    source: &Path,
    target: &Path,
    context: &Context,
) -> Result<restore::Outcome> {
    let path = Some(source.as_os_str().as_bytes());
    let options = RestoreOptions::into_directory(target.to_path_buf());
    restore::run(repository, snapshot, path, &Selection::default(), &options, context)
}

/// Waits until everything below `source` is older than any tick of the file system's clock, so that a backup trusts its times.
/// This waits for the clock, not for work to be done.
pub fn settle(source: &Path) {
    const TICK_NANOSECONDS: u128 = 25_000_000;
    let newest = newest_ctime(source);
    while SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
        <= newest + TICK_NANOSECONDS
    {
        std::thread::yield_now();
    }
}

fn newest_ctime(path: &Path) -> u128 {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::symlink_metadata(path).unwrap();
    let own = metadata.ctime() as u128 * 1_000_000_000 + metadata.ctime_nsec() as u128;
    let below = metadata.is_dir().then(|| fs::read_dir(path).unwrap());
    below.into_iter().flatten().map(|entry| newest_ctime(&entry.unwrap().path())).fold(own, u128::max)
}

/// Keeps all events.
#[derive(Default)]
pub struct Ear(Mutex<Vec<Event>>);

impl Listener for Ear {
    fn event(&self, event: &Event) {
        self.0.lock().push(event.clone());
    }
}

impl Ear {
    /// An ear and a context that it listens to.
    pub fn new() -> (Arc<Self>, Context) {
        let ear = Arc::new(Self::default());
        let context = Context::new(ear.clone(), Arc::default());
        (ear, context)
    }

    /// Everything that was said of damage, errors and warnings, one a line.
    pub fn complaints(&self) -> String {
        let events = self.0.lock();
        let lines = events.iter().filter_map(|event| match event {
            Event::Damage(text) | Event::Warning(text) => Some(format!("{text}\n")),
            Event::FileError { path, message, .. } => Some(format!("{}: {message}\n", path.escape_ascii())),
            _ => None,
        });
        lines.collect()
    }
}
