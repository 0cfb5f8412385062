//! Where the cases work: a folder of their own, bodies that repeat from run to run, and tidying up afterwards.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use parking_lot::Mutex;

use super::{CaseResult, Options, Stop, require};
use crate::{Body, Key, ObjectInfo, Prefix, ProviderExt as _, PutMode, Receipt, Sha256, SharedProvider};

/// How long a listing that may lag is given to show what was put.
const LISTING_LAG_SECONDS_MAX: u32 = 120;

pub(super) struct Scratch {
    pub(super) provider: SharedProvider,
    pub(super) options: Options,
    used: Mutex<BTreeSet<Key>>,
}

impl Scratch {
    pub(super) fn new(provider: SharedProvider, options: Options) -> Self {
        Self { provider, options, used: Mutex::default() }
    }

    /// A key in the suite's folder; what is put there is removed in the end.
    pub(super) fn key(&self, name: &str) -> CaseResult<Key> {
        let text = format!("{}/{name}", self.options.folder.as_str());
        let key = Key::new(text).map_err(|error| Stop::Failed(error.to_string()))?;
        self.used.lock().insert(key.clone());
        Ok(key)
    }

    /// A folder in the suite's folder.
    pub(super) fn folder(&self, name: &str) -> CaseResult<Prefix> {
        let text = format!("{}/{name}", self.options.folder.as_str());
        Prefix::folder(text).map_err(|error| Stop::Failed(error.to_string()))
    }

    /// Puts bytes with their digest.
    pub(super) async fn put(&self, key: &Key, bytes: &Bytes, mode: PutMode) -> crate::Result<Receipt> {
        self.provider.put(key, Body::from(bytes.clone()), Sha256::of(bytes), mode).await
    }

    /// The object must be there with exactly these bytes.
    pub(super) async fn require_bytes(&self, key: &Key, expected: &Bytes) -> CaseResult {
        let found = self.provider.get(key, None).await?;
        let lengths = format_args!("get gave {} bytes, {} were put", found.len(), expected.len());
        require(found.len() == expected.len(), lengths)?;
        require(found == *expected, "get gave other bytes than were put")
    }

    /// The listing of a folder once it shows `expected` objects, or as it is after a lagging store had its time.
    pub(super) async fn list(&self, folder: &Prefix, expected: usize) -> CaseResult<Vec<ObjectInfo>> {
        let consistent = self.provider.capabilities().listing_is_consistent;
        let mut objects = self.provider.list_all(folder).await?;
        for _ in 0..LISTING_LAG_SECONDS_MAX {
            if consistent || objects.len() == expected {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            objects = self.provider.list_all(folder).await?;
        }
        Ok(objects)
    }

    /// Puts a small object under each key, as many at once as suit the store.
    pub(super) async fn put_all(&self, keys: &[Key]) -> CaseResult {
        let at_once = self.provider.capabilities().concurrency_preferred.max(1);
        let puts = keys.iter().map(|key| async move {
            let bytes = Bytes::from(key.as_str().to_owned());
            self.put(key, &bytes, PutMode::Replace).await
        });
        let mut puts = stream::iter(puts).buffer_unordered(at_once);
        while let Some(result) = puts.next().await {
            result?;
        }
        Ok(())
    }

    /// Removes all that was put, then what a listing still shows of the folder; gives back what could not be removed.
    pub(super) async fn clean_up(&self) -> Vec<String> {
        let keys: BTreeSet<Key> = self.used.lock().clone();
        let mut left = self.remove(&keys).await;
        match self.provider.list_all(&self.options.folder).await {
            Ok(objects) => {
                // A listing may lag, and show what is gone; what could not be removed is in the list already.
                let found = objects.into_iter().map(|info| info.key);
                let more: BTreeSet<Key> = found.filter(|key| !keys.contains(key)).collect();
                left.extend(self.remove(&more).await);
            }
            // Whoever may not list is told of what could not be removed, and that is all that can be known.
            Err(error) => tracing::debug!(%error, "what is left of the suite was not looked for"),
        }
        if let Some(root) = self.provider.capabilities().local_root {
            remove_empty_folders(&root, &self.options.folder);
        }
        left
    }

    async fn remove(&self, keys: &BTreeSet<Key>) -> Vec<String> {
        let keys: Vec<Key> = keys.iter().cloned().collect();
        let results = self.provider.delete_many(&keys).await;
        results.into_iter().filter_map(|result| Some(result.err()?.to_string())).collect()
    }
}

/// A folder of keys is a folder on a local disk, which stays when its last object goes: the suite takes its own away, and what is above them
/// as far as nothing else is in it.
fn remove_empty_folders(root: &Path, folder: &Prefix) {
    let own = root.join(folder.as_str());
    if own == root {
        return;
    }
    remove_empty_below(&own);
    for path in own.ancestors().take_while(|path| *path != root) {
        if std::fs::remove_dir(path).is_err() {
            return;
        }
    }
}

/// Removes folders that are empty, and nothing else; follows no symbolic link.
fn remove_empty_below(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_below(&entry.path());
            // One that is not empty stays, as it should.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// Bytes that tell when nobody can store them any more: neither a call nor a thread that goes on after its call was dropped.
pub(super) struct Watched {
    bytes: Bytes,
    _gone: Arc<()>,
}

impl Watched {
    /// The bytes, and what is dead once the last of them is dropped.
    pub(super) fn bytes(bytes: Bytes) -> (Bytes, Weak<()>) {
        let gone = Arc::new(());
        let watch = Arc::downgrade(&gone);
        (Bytes::from_owner(Self { bytes, _gone: gone }), watch)
    }
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes without pattern that are the same for the same seed.
pub(super) fn bytes(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
