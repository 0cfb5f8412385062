//! The bridge between the engine's threads and an asynchronous provider.
//!
//! Only [`SealedObject`]s can be written: the compiler refuses plaintext.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lifeboat_providers::layer;
use lifeboat_providers::{
    Capabilities, ErrorKind, Key, ObjectInfo, Prefix, PutMode, Receipt, Sha256, SharedProvider, Usage,
};

use crate::seal::SealedObject;
use crate::{Error, Kind, Result};

/// An object store for blocking callers on any thread but a tokio worker.
#[derive(Clone, Debug)]
pub struct Store {
    provider: SharedProvider,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Store {
    /// A store over `provider`, with retries of what may pass.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(provider: SharedProvider) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store")
            .thread_keep_alive(Duration::from_secs(2))
            .enable_all()
            .build()
            .map_err(|e| Error::io("cannot start threads for the store", e))?;
        Ok(Self { provider, runtime: Arc::new(runtime) })
    }

    /// The same store, refusing every change.
    #[must_use]
    pub fn read_only(&self) -> Self {
        let provider: SharedProvider =
            Arc::new(layer::readonly::ReadOnlyProvider::new(self.provider.clone()));
        Self { provider, runtime: self.runtime.clone() }
    }

    /// The place, for messages.
    pub fn location(&self) -> String {
        self.provider.location()
    }

    /// What the store can do.
    pub fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    /// The provider itself.
    pub const fn provider(&self) -> &SharedProvider {
        &self.provider
    }

    /// Stores an object that must not be there yet.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::put`].
    pub fn create(&self, key: &Key, object: &SealedObject) -> Result<Receipt> {
        self.put(key, object, PutMode::CreateNew).map_err(|e| self.at(e))
    }

    /// Stores an object that is named by its content: if it is there already, with the same digest, that is as good.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::put`]; `Damaged` if other bytes lie under that name.
    pub fn create_or_same(&self, key: &Key, object: &SealedObject) -> Result<()> {
        match self.put(key, object, PutMode::CreateNew) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Exists => self.confirm_same(key, object),
            Err(e) => Err(self.at(e)),
        }
    }

    /// Stores an object in place of whatever is there.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::put`].
    pub fn replace(&self, key: &Key, object: &SealedObject) -> Result<Receipt> {
        self.put(key, object, PutMode::Replace).map_err(|e| self.at(e))
    }

    fn put(
        &self,
        key: &Key,
        object: &SealedObject,
        mode: PutMode,
    ) -> Result<Receipt, lifeboat_providers::Error> {
        let put = self.provider.put(key, object.body().clone(), object.sha256(), mode);
        self.runtime.block_on(put)
    }

    /// The name is taken: by the same bytes (an earlier run that was cut off), or by a damaged copy, which is replaced.
    fn confirm_same(&self, key: &Key, object: &SealedObject) -> Result<()> {
        let stored = self.get(key)?;
        if Sha256::of(&stored) != object.sha256() {
            self.replace(key, object)?;
        }
        Ok(())
    }

    /// Reads an object whole.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::get`].
    pub fn get(&self, key: &Key) -> Result<Bytes> {
        self.runtime.block_on(self.provider.get(key, None)).map_err(|e| self.at(e))
    }

    /// Reads a range of an object.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::get`].
    pub fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.runtime.block_on(self.provider.get(key, Some(range))).map_err(|e| self.at(e))
    }

    /// Reads an object that is named by its digest and compares the two.
    ///
    /// # Errors
    /// `Damaged` if they differ; else as [`Store::get`].
    pub fn get_named(&self, key: &Key) -> Result<Bytes> {
        let expected = super::layout::sha256_of(key)?;
        let bytes = self.get(key)?;
        if Sha256::of(&bytes) == expected {
            return Ok(bytes);
        }
        Err(Error::damaged(format_args!("{key} is damaged: its bytes do not have the hash it is named by")))
    }

    /// Whether there is an object of that key, and what the store says of it.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::head`], but `None` for no such object.
    pub fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        match self.runtime.block_on(self.provider.head(key)) {
            Ok(info) => Ok(Some(info)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.at(e)),
        }
    }

    /// Calls `each` with every object of a folder, while the listing runs.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::list`], and what `each` returns.
    pub fn for_each(&self, prefix: &Prefix, mut each: impl FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        self.runtime.block_on(async {
            let mut listing = self.provider.list(prefix);
            while let Some(info) = listing.next().await {
                each(info.map_err(|e| self.at(e))?)?;
            }
            Ok(())
        })
    }

    /// All objects of a folder, ordered by key.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::list`].
    pub fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectInfo>> {
        let mut all = Vec::new();
        self.for_each(prefix, |info| {
            all.push(info);
            Ok(())
        })?;
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// Removes an object; succeeds if it is not there.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::delete`].
    pub fn delete(&self, key: &Key) -> Result<()> {
        self.runtime.block_on(self.provider.delete(key)).map_err(|e| self.at(e))
    }

    /// Space used and left.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::usage`].
    pub fn usage(&self) -> Result<Usage> {
        self.runtime.block_on(self.provider.usage()).map_err(|e| self.at(e))
    }
}

impl Store {
    /// An error that also says which store it is of: a provider names the object only.
    fn at(&self, error: lifeboat_providers::Error) -> Error {
        let location = self.provider.location();
        let is_named = error.subject().contains(&location);
        let error = Error::from(error);
        if is_named { error } else { error.context(location) }
    }
}

/// Whether an error means that the object is not there (any more).
pub fn is_missing(error: &Error) -> bool {
    use std::error::Error as _;
    error.kind() == Kind::Damaged
        && error
            .source()
            .and_then(|source| source.downcast_ref::<lifeboat_providers::Error>())
            .is_some_and(|e| e.kind() == ErrorKind::NotFound)
}
