//! What a machine remembers of a repository: a cache, which may be deleted at any time, and the newest snapshot of each
//! writer, by which a rollback of the store is noticed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use lifeboat_providers::Sha256;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::seal::header::RepositoryId;
use crate::seal::keys::random_bytes;
use crate::snapshot::manifest::Witness;
use crate::{Error, Result};

/// The directories of one machine for all repositories, or for one.
#[derive(Debug, Clone)]
pub struct Directories {
    /// May be deleted at any time and is rebuilt.
    pub cache: PathBuf,
    /// Small; when lost, a rollback that happened before is not noticed.
    pub state: PathBuf,
    /// The place of the repository that they are for; empty if they are for all.
    pub place: String,
}

/// A directory's name for a place.
fn place_name(place: &str) -> String {
    Sha256::of(place.as_bytes()).to_string().chars().take(16).collect()
}

impl Directories {
    /// Directories for all repositories.
    pub fn new(cache: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), state: state.into(), place: String::new() }
    }

    /// The directories for one repository at one place. What is remembered is one for all places; what is cached is of one place, because
    /// each destination has its own index.
    #[must_use]
    pub fn of_repository(&self, id: RepositoryId, place: &str) -> Self {
        let name = id.to_string();
        Self {
            cache: self.cache.join(&name).join(place_name(place)),
            state: self.state.join(&name),
            place: place.to_owned(),
        }
    }

    /// The cache of the repository, whatever its place.
    pub fn cache_of_all_places(&self) -> &Path {
        match self.place.as_str() {
            "" => &self.cache,
            _ => self.cache.parent().unwrap_or(&self.cache),
        }
    }

    /// Where copies of a distant store's metadata are kept, whatever its place.
    pub fn object_copies(&self) -> PathBuf {
        self.cache_of_all_places().join("objects")
    }

    /// Where the local tables of the index are.
    pub fn index_tables(&self) -> PathBuf {
        self.cache.join("index")
    }

    /// Those of the same repository at another place.
    #[must_use]
    pub fn at(&self, place: &str) -> Self {
        let cache = self.cache.with_file_name(place_name(place));
        Self { cache, state: self.state.clone(), place: place.to_owned() }
    }
}

/// A writer's newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its place in the writer's chain.
    pub sequence: u64,
    /// Its id, 64 hex digits.
    pub id: String,
}

/// What a machine remembers of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// This machine as a writer of this repository: 32 hex digits.
    pub writer: String,
    /// The machine this file was made on: a copy of it on another machine must not continue its chain.
    pub machine: String,
    /// The newest snapshot seen of every writer, at whatever place.
    pub heads: BTreeMap<String, Head>,
    /// The newest snapshot seen of every writer at each place: destinations may have different histories.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, BTreeMap<String, Head>>,
    /// Snapshots that are known to be at other places and were not brought to this one yet, by place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owed: BTreeMap<String, Vec<Witness>>,
    /// When the packs at each place were last compared with its index, in seconds of this machine's clock.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packs_listed: BTreeMap<String, u64>,
    /// The records of labels that were seen at each place, and the snapshot of each: by place and record id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
}

impl Memory {
    /// Remembers that a writer's chain reached this far at a place.
    pub fn saw(&mut self, place: &str, writer: &str, sequence: u64, id: &Sha256) {
        let head = Head { sequence, id: id.to_string() };
        if let Some(owed) = self.owed.get_mut(place) {
            owed.retain(|witness| witness.id != head.id);
        }
        let known = self.places.entry(place.to_owned()).or_default();
        for heads in [known, &mut self.heads] {
            match heads.get_mut(writer) {
                Some(known) if known.sequence >= sequence => {}
                Some(known) => *known = head.clone(),
                None => {
                    heads.insert(writer.to_owned(), head.clone());
                }
            }
        }
    }

    /// What was seen at a place. A memory from before places were told apart knows of one.
    pub fn heads_at(&self, place: &str) -> Option<&BTreeMap<String, Head>> {
        if self.places.is_empty() { Some(&self.heads) } else { self.places.get(place) }
    }

    /// Snapshots that are known to be at another place and not to have come to this one.
    pub fn owed_at(&self, place: &str) -> &[Witness] {
        self.owed.get(place).map_or(&[], Vec::as_slice)
    }

    /// Remembers that a snapshot is not at a place yet.
    pub fn owes(&mut self, place: &str, witness: Witness) {
        let owed = self.owed.entry(place.to_owned()).or_default();
        if !owed.contains(&witness) {
            owed.push(witness);
        }
    }
}

/// The memory of one repository, locked against other processes of this machine while it is held.
#[derive(Debug)]
pub struct LockedMemory {
    /// What is remembered.
    pub memory: Memory,
    path: PathBuf,
    _lock: File,
}

const MEMORY_FILE: &str = "memory.json";
/// A memory that could not be read, kept when a new one is begun.
const UNUSABLE_FILE: &str = "memory.json.damaged";
const LOCK_FILE: &str = "lock";

impl LockedMemory {
    /// Opens the memory, waiting for another process that holds it; made anew when it is missing or was made on another
    /// machine, and when it cannot be read, which is then kept under another name.
    ///
    /// # Errors
    /// If the directory cannot be made or locked.
    pub fn open(directories: &Directories) -> Result<Self> {
        let lock = lock(directories, LOCK_FILE)?;
        let path = directories.state.join(MEMORY_FILE);
        let memory = match read(&path) {
            Ok(Some(memory)) if memory.machine == machine() => memory,
            Ok(Some(memory)) => Memory { writer: fresh()?.writer, machine: machine(), ..memory },
            Ok(None) => fresh()?,
            Err(_) => {
                // Beside the new one it can be looked at. Nobody's command ends because it cannot be.
                let _ = fs::rename(&path, directories.state.join(UNUSABLE_FILE));
                fresh()?
            }
        };
        Ok(Self { memory, path, _lock: lock })
    }

    /// Writes the memory back, atomically and durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<()> {
        let json = serde_json::to_vec_pretty(&self.memory).map_err(|e| Error::failed(e.to_string()))?;
        write_atomically(&self.path, &json)
    }
}

/// Locks a file of the state directory, which is made if need be, against other processes of this machine; waits for whoever holds it.
///
/// # Errors
/// If the directory cannot be made or the file not be opened or locked.
pub fn lock(directories: &Directories, name: &str) -> Result<File> {
    let hint = "Give this user write permission there, or name another directory by LIFEBOAT_STATE_DIR.";
    make_private_dir(&directories.state).map_err(|e| e.with_hint(hint))?;
    let path = directories.state.join(name);
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::io(format_args!("cannot open {}", path.display()), e).with_hint(hint))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
        .map_err(|e| Error::io(format_args!("cannot lock {}", path.display()), e))?;
    Ok(lock)
}

/// Remembers that a snapshot is not at these places yet, so that nobody takes it for removed there.
///
/// # Errors
/// If the memory cannot be opened or written; the words say what follows.
pub fn owe(directories: &Directories, places: &[String], snapshot: &Witness) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let remember = || {
        let mut memory = LockedMemory::open(directories)?;
        places.iter().for_each(|place| memory.memory.owes(place, snapshot.clone()));
        memory.save()
    };
    remember().map_err(|e| {
        Error::new(e.kind(), format_args!("{e}: which destinations are behind is not remembered"))
    })
}

/// What is remembered, without a lock and without making anything: for looking. [`trouble`] tells a memory that cannot be read from none.
pub fn peek(directories: &Directories) -> Option<Memory> {
    read(&directories.state.join(MEMORY_FILE)).ok().flatten()
}

/// What is wrong with the memory, and the next step, if it is there and cannot be read. It ends no command, but must not be passed over:
/// whoever can damage it and roll the store back would not be noticed.
pub fn trouble(directories: &Directories) -> Option<Error> {
    let path = directories.state.join(MEMORY_FILE);
    let why = read(&path).err()?;
    let text = format!(
        "what this machine remembers of the repository cannot be read ({}: {why}): if snapshots were removed before now, it does not notice",
        path.display()
    );
    Some(Error::failed(text).with_hint(format_args!(
        "Compare `lifeboat snapshots` with what should be there, or run `lifeboat check` on another machine. A command that reads \
         the snapshots begins a new memory, and keeps this file as {UNUSABLE_FILE}."
    )))
}

/// `None` if there is none; words if it cannot be read.
fn read(path: &Path) -> Result<Option<Memory>, String> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| e.to_string()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(crate::error::describe_io(&e)),
    }
}

fn fresh() -> Result<Memory> {
    let writer = u128::from_be_bytes(random_bytes()?);
    Ok(Memory { writer: format!("{writer:032x}"), machine: machine(), ..Memory::default() })
}

/// Tells this machine from a copy of its disk. Hashed: the id itself should not be spread.
pub fn machine() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let hash = blake3::derive_key("lifeboat 2026-11-21 v1 machine", id.trim().as_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a directory and its parents, readable by its owner only.
///
/// # Errors
/// If it cannot be made.
pub fn make_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io(format_args!("cannot make the directory {}", path.display()), e))
}

/// Writes a file so that a crash leaves the old or the new content.
///
/// # Errors
/// If it cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = directory.join(name);
    let write = || {
        let mut file =
            File::options().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::io(what(), e)
    })
}
