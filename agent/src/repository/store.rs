//! The bridge between the engine's threads and an asynchronous provider.
//!
//! Only [`SealedObject`]s can be written: the compiler refuses plaintext.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lifeboat_providers::layer;
use lifeboat_providers::{
    Capabilities, ErrorKind, Key, ObjectInfo, Prefix, ProviderExt as _, PutMode, Receipt, Sha256,
    SharedProvider, Usage,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::{Area, runtime};
use crate::seal::SealedObject;
use crate::{Error, Kind, Result};

/// An object store for blocking callers on any thread but a tokio worker.
#[derive(Clone, Debug)]
pub struct Store {
    provider: SharedProvider,
    runtime: &'static Runtime,
    /// Listings that were asked for before they are needed.
    ahead: Arc<Mutex<HashMap<String, Waiting>>>,
}

/// A listing that is under way.
type Waiting = tokio::sync::oneshot::Receiver<Result<Vec<ObjectInfo>, lifeboat_providers::Error>>;

impl Store {
    /// A store over `provider`, with retries of what may pass.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(provider: SharedProvider) -> Result<Self> {
        Ok(Self { provider, runtime: runtime::shared()?, ahead: Arc::default() })
    }

    /// Asks a store that is some milliseconds away for the listings that nearly every command needs, so that they are here when they are
    /// needed. The index is listed after the snapshots, never before: then every chunk of those snapshots is in the index.
    pub fn list_ahead(&self, areas: &[Area]) {
        if self.capabilities().local_root.is_some() {
            return;
        }
        let mut senders = Vec::new();
        let mut ahead = self.ahead.lock();
        for area in areas {
            if ahead.contains_key(area.name()) {
                continue;
            }
            let area = *area;
            let (sender, waiting) = tokio::sync::oneshot::channel();
            ahead.insert(area.name().to_owned(), waiting);
            senders.push((area, sender));
        }
        drop(ahead);
        let provider = self.provider.clone();
        self.runtime.spawn(async move {
            let (after, now): (Vec<_>, Vec<_>) =
                senders.into_iter().partition(|(area, _)| *area == Area::Index);
            for part in [now, after] {
                let listings = part.into_iter().map(|(area, sender)| {
                    let provider = &provider;
                    async move {
                        // Nobody may be waiting any more.
                        let _ = sender.send(provider.list_all(&area.prefix()).await);
                    }
                });
                futures_util::future::join_all(listings).await;
            }
        });
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
        let waiting = self.ahead.lock().remove(area.name())?;
        self.runtime.block_on(waiting).ok()?.ok()
    }

    /// What was asked for ahead is not to be used any more.
    pub fn forget_ahead(&self) {
        self.ahead.lock().clear();
    }

    /// What the next [`Store::list`] of an area returns.
    pub fn put_ahead(&self, area: Area, listing: Vec<ObjectInfo>) {
        let (sender, waiting) = tokio::sync::oneshot::channel();
        // The receiver is here: it cannot fail.
        let _ = sender.send(Ok(listing));
        self.ahead.lock().insert(area.name().to_owned(), waiting);
    }

    /// Reads objects, several at once, in the order of their keys.
    pub fn get_all(&self, keys: &[Key]) -> Vec<Result<Bytes>> {
        let at_once = self.capabilities().concurrency_preferred.max(1);
        let gets = keys.iter().map(|key| self.provider.get(key, None));
        let gets = futures_util::stream::iter(gets).buffered(at_once);
        let all: Vec<_> = self.runtime.block_on(gets.collect());
        all.into_iter().map(|bytes| bytes.map_err(|e| self.at(e))).collect()
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
        let put = self.provider.put(key, object.body().clone(), object.sha256(), mode);
        self.runtime.block_on(put)
    }

    /// The name is taken: by the same bytes (an earlier run that was cut off), or by a damaged copy, which is replaced.
    fn confirm_same(&self, key: &Key, object: &SealedObject) -> Result<()> {
        let proof = self.provider.prove(key, object.body().len(), object.sha256());
        if self.runtime.block_on(proof).map_err(|e| self.at(e))?.is_none() {
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
        let waiting = self.ahead.lock().remove(prefix.as_str());
        // What failed ahead is asked for again, and fails with its own words.
        match waiting.and_then(|waiting| self.runtime.block_on(waiting).ok()?.ok()) {
            Some(all) => Ok(all),
            None => self.runtime.block_on(self.provider.list_all(prefix)).map_err(|e| self.at(e)),
        }
    }

    /// Removes an object; succeeds if it is not there.
    ///
    /// # Errors
    /// As [`lifeboat_providers::Provider::delete`].
    pub fn delete(&self, key: &Key) -> Result<()> {
        self.runtime.block_on(self.provider.delete(key)).map_err(|e| self.at(e))
    }

    /// Removes several objects, by one request where the store has it; one result for each, in order.
    pub fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let results = self.runtime.block_on(self.provider.delete_many(keys));
        results.into_iter().map(|result| result.map_err(|e| self.at(e))).collect()
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
