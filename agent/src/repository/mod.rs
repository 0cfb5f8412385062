//! A repository: a store with a key.
//!
//! | module | job |
//! |---|---|
//! | [`layout`] | the names of all objects |
//! | [`store`] | calls of the provider, for blocking callers |
//! | [`ahead`] | what a distant store is asked for before it is needed |
//! | [`config`] | the `config` object |
//! | [`connect`] | from a path or URL to a store |
//! | [`catalog`] | bringing the local index up to the stored shards |
//! | [`create`] | making and unlocking a repository |
//! | [`lost`] | packs that the index names and the store does not have |
//! | [`object_cache`] | copies of a remote store's metadata |
//! | [`own`] | what it takes up on this machine |
//! | [`runtime`] | the threads that stores share |
//! | [`siblings`] | other destinations of the same repository, to heal from |
//! | [`slots`] | adding, listing, removing key slots |
//! | [`state`] | what a machine remembers of a repository: cache and heads |
//! | [`tombstones`] | packs that are about to be deleted |
//! | [`versioned`] | JSON that states its version |

mod ahead;
pub mod catalog;
pub mod config;
pub mod connect;
pub mod create;
pub mod layout;
pub mod lost;
mod object_cache;
mod own;
pub mod runtime;
pub mod siblings;
pub mod slots;
pub mod state;
pub mod store;
pub mod tombstones;
pub mod versioned;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_providers::{Key, Sha256};

use crate::events::Context;
use crate::pack::directory::PackKind;
use crate::seal::header::{Header, ObjectKind, RepositoryId};
use crate::seal::keys::{Keys, MasterKey};
use crate::seal::object::{SealedObject, open_whole, seal_whole};
use crate::session::Timing;
use crate::space::{Space, SpacePolicy};
use crate::{Kind, Result};

pub use config::Config;
pub use layout::Area;
pub use own::OwnDirectories;
pub use siblings::Siblings;
pub use state::Directories;
pub use store::Store;
pub use tombstones::Tombstones;

/// An unlocked repository.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Store,
    id: RepositoryId,
    config: Config,
    keys: Keys,
    master: MasterKey,
    directories: Directories,
    siblings: Siblings,
    /// Directories of this machine that other destinations are, whether they can be used or not.
    other_places: Arc<[PathBuf]>,
    /// Copies of metadata on this machine may stand for what is stored.
    reads_copies: bool,
    timing: Timing,
    /// What it may take up here.
    space: Arc<Space>,
    /// It may take what is left to those who free space.
    takes_reserve: bool,
}

impl Repository {
    /// Where its objects lie.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Which repository it is.
    pub const fn id(&self) -> RepositoryId {
        self.id
    }

    /// Its parameters.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its keys.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// This machine's directories for it.
    pub const fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Other destinations of it, which damage is healed from.
    pub const fn siblings(&self) -> &Siblings {
        &self.siblings
    }

    /// The same repository, which heals from these.
    #[must_use]
    pub fn with_siblings(self, siblings: Siblings) -> Self {
        Self { siblings, ..self }
    }

    /// The same repository, with the directories of this machine that other destinations are, whether they can be used or not: neither
    /// backed up nor deleted.
    #[must_use]
    pub fn with_other_places(self, places: Arc<[PathBuf]>) -> Self {
        Self { other_places: places, ..self }
    }

    /// The same repository, of which nothing is read from copies on this machine: for those who judge what is stored.
    #[must_use]
    pub fn without_copies(&self) -> Self {
        Self { reads_copies: false, ..self.clone() }
    }

    /// The same repository over another store: for tests and read-only use.
    #[must_use]
    pub fn with_store(&self, store: Store) -> Self {
        Self { store, ..self.clone() }
    }

    /// When writers are heard of and taken for dead.
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The same repository with other times: for tests.
    #[must_use]
    pub fn with_timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// What it may take up here, and what is known of that.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The same repository, which keeps to this.
    #[must_use]
    pub fn with_space(self, policy: SpacePolicy) -> Self {
        Self { space: Arc::new(Space::new(policy)), ..self }
    }

    /// Whether it may take what is left to those who free space.
    pub const fn takes_reserve(&self) -> bool {
        self.takes_reserve
    }

    /// The same repository for one who frees space: it may take what is left to that.
    #[must_use]
    pub fn to_free_space(&self) -> Self {
        Self { takes_reserve: true, ..self.clone() }
    }

    /// Stores a pack, if there is room for it.
    ///
    /// # Errors
    /// `Quota`; as [`Store::create_or_same`].
    pub fn put_pack(
        &self,
        kind: PackKind,
        id: &Sha256,
        object: &SealedObject,
        context: &Context,
    ) -> Result<Key> {
        let key = layout::pack(kind, id)?;
        let _writing = self.take_space(object.body().len(), context)?;
        self.store.create_or_same(&key, object)?;
        Ok(key)
    }

    /// A header for a new object.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn new_header(&self, kind: ObjectKind) -> Result<Header> {
        Header::generate(kind, self.config.cipher, self.id)
    }

    /// Seals a whole object.
    ///
    /// # Errors
    /// As [`seal_whole`].
    pub fn seal(&self, kind: ObjectKind, plain: &[u8]) -> Result<SealedObject> {
        let header = self.new_header(kind)?;
        Ok(SealedObject::from_stored(seal_whole(&header, &self.keys.seal, plain)?))
    }

    /// Opens a whole object's bytes.
    ///
    /// # Errors
    /// `Damaged` if they are not what they should be.
    pub fn open_object(&self, kind: ObjectKind, stored: &Bytes) -> Result<Vec<u8>> {
        let (header, plain) = open_whole(kind, &self.keys.seal, stored)?;
        if header.repository == self.id {
            Ok(plain)
        } else {
            Err(crate::Error::damaged("the object belongs to another repository"))
        }
    }

    /// Seals and stores a whole object under the hash of its bytes, which is returned.
    ///
    /// # Errors
    /// As [`Store::create_or_same`].
    pub fn put_whole(&self, area: Area, kind: ObjectKind, plain: &[u8]) -> Result<Sha256> {
        let object = self.seal(kind, plain)?;
        let id = object.sha256();
        let key = layout::named_by_hash(area, &id)?;
        self.store.create_or_same(&key, &object)?;
        if matches!(area, Area::Snapshots | Area::Forgotten | Area::Tombstones) {
            // The index has a better copy, and nobody reads the others twice.
            self.cache_object(&key, object.body().pieces());
        }
        Ok(id)
    }

    /// Reads, proves and opens a whole object that is named by its hash.
    ///
    /// # Errors
    /// `Damaged` if it is missing or not what it should be.
    pub fn get_whole(&self, key: &Key, kind: ObjectKind) -> Result<Vec<u8>> {
        match self.kept_copy(key, kind) {
            Some(stored) => self.open_object(kind, &stored).map_err(|e| e.context(key)),
            None => self.open_fetched(key, kind, self.store.get(key)),
        }
    }

    /// Several of them, in the order of their keys; those that have to be fetched come several at once.
    pub fn get_whole_each(&self, keys: &[Key], kind: ObjectKind) -> impl Iterator<Item = Result<Vec<u8>>> {
        let is_missing: Vec<bool> = keys.iter().map(|key| !(is_kept(kind) && self.has_copy(key))).collect();
        let missing =
            keys.iter().zip(&is_missing).filter(|(_, missing)| **missing).map(|(key, _)| key.clone());
        let mut fetched = self.store.get_each(missing.collect());
        keys.iter().zip(is_missing).map(move |(key, is_missing)| {
            match is_missing.then(|| fetched.next()).flatten() {
                Some(stored) => self.open_fetched(key, kind, stored),
                None => self.get_whole(key, kind),
            }
        })
    }

    /// The intact copy of an object on this machine, of the kinds that are kept.
    fn kept_copy(&self, key: &Key, kind: ObjectKind) -> Option<Bytes> {
        is_kept(kind).then(|| self.cached_object(key)).flatten()
    }

    /// Proves and opens what was fetched; heals what is damaged.
    fn open_fetched(&self, key: &Key, kind: ObjectKind, fetched: Result<Bytes>) -> Result<Vec<u8>> {
        let stored = match fetched.and_then(|stored| layout::prove(key, stored)) {
            // What vanished was removed on purpose; what is damaged was not.
            Err(e) if e.kind() == Kind::Damaged && !store::is_missing(&e) => self.heal(key).ok_or(e)?,
            stored => stored?,
        };
        if is_kept(kind) {
            self.cache_object(key, std::slice::from_ref(&stored));
        }
        self.open_object(kind, &stored).map_err(|e| e.context(key))
    }
}

/// Whether copies of such objects are kept on this machine.
const fn is_kept(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Snapshot | ObjectKind::Forgotten | ObjectKind::Label | ObjectKind::Tombstone)
}
