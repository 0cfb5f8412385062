//! Making a repository, and unlocking one.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_providers::{Key, SharedProvider};

use super::config::{ClearHeader, Config};
use super::{Area, Directories, Repository, Siblings, Store, layout, slots};
use crate::seal::Cipher;
use crate::seal::header::RepositoryId;
use crate::seal::keys::{Keys, MasterKey};
use crate::seal::object::SealedObject;
use crate::seal::slot::{Cost, Purpose, Secret, Slot};
use crate::session::Timing;
use crate::tree::path_text;
use crate::{Error, Kind, Result};

/// Most bytes of snapshots, and of index shards, that are fetched while the key is derived.
const AHEAD_BYTES_MAX: u64 = 8 << 20;

/// What a new repository is made with.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Seals all objects.
    pub cipher: Cipher,
    /// The first key slot's purpose.
    pub purpose: Purpose,
    /// The first key slot's label.
    pub label: String,
    /// What guessing the passphrase costs.
    pub cost: Cost,
    /// Stored bytes of a pack; `None` for what suits the store.
    pub pack_bytes: Option<usize>,
}

impl Repository {
    fn assemble(
        store: Store,
        id: RepositoryId,
        config: Config,
        (master, keys): (MasterKey, Keys),
        directories: Directories,
    ) -> Self {
        Self {
            store,
            id,
            config,
            keys,
            master,
            directories,
            siblings: Siblings::none(),
            other_places: Arc::default(),
            reads_copies: true,
            timing: Timing::default(),
            space: Arc::default(),
            takes_reserve: false,
        }
    }

    /// Makes a repository in an empty store. Its `config` is written last: until then there is none.
    ///
    /// # Errors
    /// `Usage` if there is one already, or other files; errors of the store.
    pub fn create(
        provider: SharedProvider,
        secret: &Secret,
        options: &CreateOptions,
        directories: Directories,
    ) -> Result<Self> {
        let store = Store::new(provider)?;
        let key = layout::config()?;
        refuse_taken(&store)?;
        let id = RepositoryId::generate()?;
        let master = MasterKey::generate()?;
        let keys = Keys::derive(&master);
        let now = chrono::Utc::now();
        let slot = Slot::create(
            id,
            &master,
            secret,
            options.purpose,
            &options.label,
            u64::try_from(now.timestamp()).unwrap_or(0),
            options.cost,
        )?;
        let preferred = store.capabilities().pack_bytes_preferred;
        let pack_bytes = options.pack_bytes.unwrap_or_else(|| usize::try_from(preferred).unwrap_or(16 << 20));
        let config = Config::new(id, options.cipher, pack_bytes, now.to_rfc3339());
        let slot_key = layout::slot(slot.id)?;
        if let Err(e) = store.create(&slot_key, &SealedObject::from_stored(slot.encode())) {
            // Perhaps it is there all the same, and would be a stranger in a repository that is made later.
            let _ = store.delete(&slot_key);
            return Err(e);
        }
        if let Err(e) = store.create(&key, &config.seal(id, &keys.seal)?) {
            match stored_id(&store)? {
                // It is ours: only the answer was lost.
                Some(stored) if stored == id => {}
                // Somebody else made one at the same moment: our slot would be a stranger in it.
                other => {
                    store.delete(&slot_key)?;
                    return Err(if other.is_some() || exists(&store)? { already(&store) } else { e });
                }
            }
        }
        let directories = directories.of_repository(id, &store.location());
        Ok(Self::assemble(store, id, config, (master, keys), directories))
    }

    /// Unlocks the repository in a store.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`, `Damaged`; errors of the store.
    pub fn open(provider: SharedProvider, secret: &Secret, directories: Directories) -> Result<Self> {
        let store = Store::new(provider)?;
        store.list_ahead(&[
            Area::Keys,
            Area::Snapshots,
            Area::Forgotten,
            Area::Labels,
            Area::Sessions,
            Area::Tombstones,
            Area::Index,
        ]);
        let Some((stored, clear)) = stored_config(&store)? else {
            refuse_leftovers(&store)?;
            return Err(none_here(&store));
        };
        let id = clear.repository;
        let directories = directories.of_repository(id, &store.location());
        // While the key is derived; what is here already is not fetched.
        let (objects, index) = (directories.object_copies(), directories.index_tables());
        let is_absent = move |key: &Key| !objects.join(key.file_name()).exists();
        store.read_ahead(&[Area::Snapshots, Area::Forgotten], AHEAD_BYTES_MAX, is_absent);
        store.read_ahead(&[Area::Index], AHEAD_BYTES_MAX, move |_| !index.exists());
        let master = slots::unlock(&store, id, secret)?;
        let keys = Keys::derive(&master);
        let config = Config::open(&stored, &keys.seal).map_err(|e| {
            e.context(format_args!("the object `config` of {}", store.location()))
                .with_hint("Copy `config` from another copy of the repository.")
        })?;
        Ok(Self::assemble(store, id, config, (master, keys), directories))
    }

    /// The same repository at another destination, unlocked by the keys at hand.
    ///
    /// # Errors
    /// `NoRepository` if there is none; `Usage` if it is another one; `Damaged`; errors of the store.
    pub fn open_sibling(&self, provider: SharedProvider) -> Result<Self> {
        let store = Store::new(provider)?;
        let (stored, clear) = stored_config(&store)?.ok_or_else(|| none_here(&store))?;
        if clear.repository != self.id {
            return Err(Error::usage(format_args!(
                "{} and {} are two repositories, not two copies of one",
                store.location(),
                self.store.location()
            ))
            .with_hint("Destinations of one configuration hold the same repository: make a second one with `lifeboat init`."));
        }
        let config = Config::open(&stored, &self.keys.seal).map_err(|e| e.context(store.location()))?;
        let directories = self.directories.at(&store.location());
        Ok(Self {
            store,
            config,
            directories,
            siblings: Siblings::none(),
            space: Arc::default(),
            takes_reserve: false,
            ..self.clone()
        })
    }

    /// Makes the same repository at another destination, empty: its key slots and its `config`, byte for byte, the latter last.
    ///
    /// # Errors
    /// `Usage` if there is one already, or other files; errors of either store.
    pub fn create_sibling(&self, provider: SharedProvider) -> Result<Self> {
        let store = Store::new(provider.clone())?;
        let key = layout::config()?;
        refuse_taken(&store)?;
        for info in self.store.list(&Area::Keys.prefix())? {
            // Those of an earlier try are the same.
            store.replace(&info.key, &SealedObject::from_stored(self.store.get(&info.key)?.into()))?;
        }
        store.create(&key, &SealedObject::from_stored(self.store.get(&key)?.into()))?;
        self.open_sibling(provider)
    }

    pub(super) const fn master(&self) -> &MasterKey {
        &self.master
    }
}

/// Whether there is a repository in a store: the object `config` is there.
///
/// # Errors
/// Errors of the store.
pub fn exists(store: &Store) -> Result<bool> {
    Ok(store.head(&layout::config()?)?.is_some())
}

/// The stored `config` and what of it is clear; `None` if there is none.
fn stored_config(store: &Store) -> Result<Option<(Bytes, ClearHeader)>> {
    let stored = match store.get(&layout::config()?) {
        Ok(stored) => stored,
        Err(e) if super::store::is_missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let (clear, _) = ClearHeader::parse(&stored).map_err(|e| e.context(store.location()))?;
    Ok(Some((stored, clear)))
}

/// Refuses a place where a new repository would meet another one, what is left of one, or a person's files.
fn refuse_taken(store: &Store) -> Result<()> {
    if exists(store)? {
        return Err(already(store));
    }
    refuse_leftovers(store)?;
    refuse_strangers(store)
}

/// Which repository the stored `config` belongs to, if there is one that can be read.
fn stored_id(store: &Store) -> Result<Option<RepositoryId>> {
    match store.get(&layout::config()?) {
        Ok(stored) => Ok(ClearHeader::parse(&stored).ok().map(|(clear, _)| clear.repository)),
        Err(e) if super::store::is_missing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

fn already(store: &Store) -> Error {
    Error::usage(format_args!("there is a repository at {} already", store.location()))
        .with_hint("Use it as it is, or name another place.")
}

fn none_here(store: &Store) -> Error {
    Error::new(Kind::NoRepository, format_args!("there is no repository at {}", store.location()))
        .with_hint("Check the path, or make one with `lifeboat init`.")
}

/// Refuses a directory that holds something else: among a person's files a repository would be in the way, or be tidied away.
///
/// # Errors
/// `Usage` that names one of those files.
pub fn refuse_strangers(store: &Store) -> Result<()> {
    let Some(root) = store.capabilities().local_root else { return Ok(()) };
    // What cannot be listed cannot be written to either, which is said better elsewhere.
    let Ok(entries) = std::fs::read_dir(&root) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // What a creation that was cut off leaves behind, and what every new ext4 has.
        let own = name.to_str().is_some_and(|name| {
            [".tmp", "config", "lost+found"].contains(&name)
                || Area::ALL.iter().any(|area| area.name() == name)
        });
        if !own {
            return Err(Error::usage(format_args!(
                "{} is not empty and no repository: it holds {}",
                store.location(),
                path_text::display(name.as_bytes())
            ))
            .with_hint(format_args!(
                "Name an empty directory, or one that is not there yet, such as {}.",
                path_text::display(root.join("lifeboat").as_os_str().as_bytes())
            )));
        }
    }
    Ok(())
}

/// Packs without a `config` are a damaged repository, not an empty place: making a new one there would bury it.
fn refuse_leftovers(store: &Store) -> Result<()> {
    for area in [Area::Snapshots, Area::Packs] {
        if !store.list(&area.prefix())?.is_empty() {
            return Err(Error::damaged(format_args!(
                "{} holds objects of a repository, but its `config` is missing",
                store.location()
            ))
            .with_hint("Copy `config` from another copy of that repository, or name an empty place."));
        }
    }
    Ok(())
}
