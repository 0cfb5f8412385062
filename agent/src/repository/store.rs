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
    Capabilities, ErrorKind, Key, ObjectInfo, Prefix, ProviderExt as _, PutMode, Receipt, Sha256,
    SharedProvider, Usage,
};
use tokio::runtime::Runtime;

use super::ahead::Ahead;
use super::{Area, runtime};
use crate::seal::SealedObject;
use crate::{Error, Kind, Result};

/// An object store for blocking callers on any thread but a tokio worker.
#[derive(Clone, Debug)]
pub struct Store {
    provider: SharedProvider,
    runtime: &'static Runtime,
    ahead: Arc<Ahead>,
}

impl Store {
    /// A store over `provider`, with retries of what may pass.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(provider: SharedProvider) -> Result<Self> {
        Ok(Self { provider, runtime: runtime::shared()?, ahead: Arc::default() })
    }

    /// Asks a store that is some milliseconds away for listings, so that they are here when they are needed. Records of forgotten snapshots and
    /// the index are listed after the snapshots, packs after the index, never before.
    pub fn list_ahead(&self, areas: &[Area]) {
        if self.is_far() {
            self.ahead.list(areas, &self.provider, self.runtime);
        }
    }

    /// Lists areas now, at once, whatever was asked for before; in the order of `areas`.
    ///
    /// # Errors
    /// The first error of any listing.
    pub fn list_now(&self, areas: &[Area]) -> Result<Vec<Vec<ObjectInfo>>> {
        let prefixes: Vec<Prefix> = areas.iter().map(|area| area.prefix()).collect();
        let listings = prefixes.iter().map(|prefix| self.provider.list_all(prefix));
        let all = self.runtime.block_on(futures_util::future::join_all(listings));
        all.into_iter().map(|listing| listing.map_err(|e| self.at(e))).collect()
    }

    /// The listing that was asked for ahead, if there is one: `None` if not, or if it failed.
    pub fn take_ahead(&self, area: Area) -> Option<Vec<ObjectInfo>> {
        self.runtime.block_on(self.ahead.listing(&area.prefix()))
    }

    /// The same, left for who asks for it next.
    pub fn peek_ahead(&self, area: Area) -> Option<Arc<Vec<ObjectInfo>>> {
        self.runtime.block_on(self.ahead.peek(&area.prefix()))
    }

    /// Listings that were asked for ahead are not to be used any more.
    pub fn forget_ahead(&self) {
        self.ahead.forget_listings();
    }

    /// What the next [`Store::list`] of an area returns.
    pub fn put_ahead(&self, area: Area, listing: Vec<ObjectInfo>) {
        self.ahead.insert(area, listing);
    }

    /// Reads the objects that listings which were asked for ahead will name, as far as they are `wanted`, and few: of each area at most 64
    /// objects and `bytes_max` bytes, which stay in memory until they are read whole, or as long as this store is used.
    pub fn read_ahead(&self, areas: &[Area], bytes_max: u64, wanted: impl Fn(&Key) -> bool + Send + 'static) {
        if self.is_far() {
            self.ahead.read(areas, bytes_max, wanted, &self.provider, self.runtime);
        }
    }

    /// Whether a request takes milliseconds.
    pub fn is_far(&self) -> bool {
        self.capabilities().local_root.is_none()
    }

    /// Reads objects, some at once, in the order of their keys, while the caller works on those that came before.
    pub fn get_each(&self, keys: Vec<Key>) -> impl Iterator<Item = Result<Bytes>> + use<'_> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let at_once = self.capabilities().concurrency_preferred.max(1);
        let this = self.clone();
        self.runtime.spawn(async move {
            let gets = keys.into_iter().map(|key| {
                let this = this.clone();
                async move { this.fetch(&key).await }
            });
            let mut gets = futures_util::stream::iter(gets).buffered(at_once);
            while let Some(bytes) = gets.next().await {
                if sender.send(bytes).await.is_err() {
                    return;
                }
            }
        });
        std::iter::from_fn(move || receiver.blocking_recv()).map(|bytes| bytes.map_err(|e| self.at(e)))
    }

    async fn fetch(&self, key: &Key) -> Result<Bytes, lifeboat_providers::Error> {
        match self.ahead.object(key).await {
            Some(bytes) => Ok(bytes),
            None => self.provider.get(key, None).await,
        }
    }

    /// The same store, refusing every change.
    #[must_use]
    pub fn read_only(&self) -> Self {
        let provider: SharedProvider =
            Arc::new(layer::readonly::ReadOnlyProvider::new(self.provider.clone()));
        Self { provider, runtime: self.runtime, ahead: Arc::default() }
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
    /// Where the store cannot create conditionally, a look before the write would cost a request and prove nothing: the same bytes are then
    /// put over whatever lies under their name.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::put`].
    pub fn create_or_same(&self, key: &Key, object: &SealedObject) -> Result<()> {
        let mode = match self.capabilities().conditional_create {
            true => PutMode::CreateNew,
            false => PutMode::Replace,
        };
        match self.put(key, object, mode) {
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
        self.ahead.forget(key);
        let put = self.provider.put(key, object.body().clone(), object.sha256(), mode);
        self.runtime.block_on(put)
    }

    /// Whether the store holds an object of exactly these bytes: by the digest that it states, by reading them where it states none.
    ///
    /// # Errors
    /// As [`lifeboat_providers::ProviderExt::prove`], but an object that is not there is an answer.
    pub fn holds(&self, key: &Key, size: u64, sha256: Sha256) -> Result<bool> {
        match self.runtime.block_on(self.provider.prove(key, size, sha256)) {
            Ok(proof) => Ok(proof.is_some()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.at(e)),
        }
    }

    /// An object that a listing did not show: `None` if it is not there. Where listings are complete that is known already; elsewhere the
    /// store is asked for it by its name.
    ///
    /// # Errors
    /// As [`Store::head`].
    pub fn unlisted(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        if self.capabilities().listing_is_consistent { Ok(None) } else { self.head(key) }
    }

    /// The name is taken: by the same bytes (an earlier run that was cut off), or by a damaged copy, which is replaced.
    fn confirm_same(&self, key: &Key, object: &SealedObject) -> Result<()> {
        if !self.holds(key, object.body().len(), object.sha256())? {
            self.replace(key, object)?;
        }
        Ok(())
    }

    /// Reads an object whole.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::get`].
    pub fn get(&self, key: &Key) -> Result<Bytes> {
        self.runtime.block_on(self.fetch(key)).map_err(|e| self.at(e))
    }

    /// Reads a range of an object.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::get`].
    pub fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let read = async {
            match self.ahead.part(key, &range).await {
                Some(bytes) => Ok(bytes),
                None => self.provider.get(key, Some(range)).await,
            }
        };
        self.runtime.block_on(read).map_err(|e| self.at(e))
    }

    /// Reads an object that is named by its digest and compares the two.
    ///
    /// # Errors
    /// `Damaged` if they differ; else as [`Store::get`].
    pub fn get_named(&self, key: &Key) -> Result<Bytes> {
        super::layout::prove(key, self.get(key)?)
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
        let list = async {
            match self.ahead.listing(prefix).await {
                Some(all) => Ok(all),
                None => self.provider.list_all(prefix).await,
            }
        };
        self.runtime.block_on(list).map_err(|e| self.at(e))
    }

    /// Whether a folder is empty, as far as a listing that was asked for ahead shows, or a new one of a store that is near.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::list`].
    pub fn seems_empty(&self, prefix: &Prefix) -> Result<bool> {
        match self.runtime.block_on(self.ahead.peek(prefix)) {
            Some(listed) => Ok(listed.is_empty()),
            None if self.is_far() => Ok(false),
            None => Ok(self.list(prefix)?.is_empty()),
        }
    }

    /// Removes an object; succeeds if it is not there.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::delete`].
    pub fn delete(&self, key: &Key) -> Result<()> {
        self.ahead.forget(key);
        self.runtime.block_on(self.provider.delete(key)).map_err(|e| self.at(e))
    }

    /// Removes several objects, by one request where the store has it; one result for each, in order.
    pub fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let results = self.runtime.block_on(self.provider.delete_many(keys));
        results.into_iter().map(|result| result.map_err(|e| self.at(e))).collect()
    }

    /// Extends the retention locks of objects, several at once; one result per key, in order.
    pub fn retain_all(&self, keys: &[Key], period: Duration) -> Vec<Result<()>> {
        let at_once = self.capabilities().concurrency_preferred.max(1);
        let calls = keys.iter().map(|key| self.provider.retain(key, period));
        let calls = futures_util::stream::iter(calls).buffered(at_once);
        let all: Vec<_> = self.runtime.block_on(calls.collect());
        all.into_iter().map(|result| result.map_err(|e| self.at(e))).collect()
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
    error.kind() == Kind::Damaged && provider_kind(error) == Some(ErrorKind::NotFound)
}

/// Whether an error means that the name was taken.
pub fn is_taken(error: &Error) -> bool {
    provider_kind(error) == Some(ErrorKind::Exists)
}

fn provider_kind(error: &Error) -> Option<ErrorKind> {
    use std::error::Error as _;
    error.source()?.downcast_ref::<lifeboat_providers::Error>().map(lifeboat_providers::Error::kind)
}
