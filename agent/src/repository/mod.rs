//! A repository: a store with a key.
//!
//! | module | job |
//! |---|---|
//! | [`layout`] | the names of all objects |
//! | [`store`] | calls of the provider, for blocking callers |
//! | [`config`] | the `config` object |
//! | [`connect`] | from a path or URL to a store |
//! | [`create`] | making and unlocking a repository |
//! | [`own`] | what it takes up on this machine |
//! | [`slots`] | adding, listing, removing key slots |
//! | [`state`] | what a machine remembers of a repository: cache and heads |
//! | [`catalog`] | bringing the local index up to the stored shards |

pub mod catalog;
pub mod config;
pub mod connect;
pub mod create;
pub mod layout;
mod own;
pub mod slots;
pub mod state;
pub mod store;

use bytes::Bytes;
use lifeboat_providers::{Key, Sha256};

use crate::Result;
use crate::seal::header::{Header, ObjectKind, RepositoryId};
use crate::seal::keys::{Keys, MasterKey};
use crate::seal::object::{SealedObject, open_whole, seal_whole};

pub use config::Config;
pub use layout::Area;
pub use own::OwnDirectories;
pub use state::Directories;
pub use store::Store;

/// An unlocked repository.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Store,
    id: RepositoryId,
    config: Config,
    keys: Keys,
    master: MasterKey,
    directories: Directories,
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

    /// The same repository over another store: for tests and read-only use.
    #[must_use]
    pub fn with_store(&self, store: Store) -> Self {
        Self { store, ..self.clone() }
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
        self.store.create_or_same(&layout::named_by_hash(area, &id)?, &object)?;
        Ok(id)
    }

    /// Reads, proves and opens a whole object that is named by its hash.
    ///
    /// # Errors
    /// `Damaged` if it is missing or not what it should be.
    pub fn get_whole(&self, key: &Key, kind: ObjectKind) -> Result<Vec<u8>> {
        let stored = self.store.get_named(key)?;
        self.open_object(kind, &stored).map_err(|e| e.context(key))
    }
}
