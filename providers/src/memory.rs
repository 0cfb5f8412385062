//! A store in memory: for tests, and the shortest example of a correct provider.
//!
//! Everything is gone when the last handle is dropped, so of the contract's promises it cannot keep durability.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;

use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, PutMode, Receipt, Result,
    Sha256, Usage,
};

const PACK_BYTES_PREFERRED: u64 = 16 << 20;
const CONCURRENCY_PREFERRED: usize = 8;

/// Objects in a map, one lock around it.
#[derive(Default)]
pub struct MemoryProvider {
    objects: Mutex<BTreeMap<Key, Object>>,
    is_unconditional: bool,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    sha256: Sha256,
}

impl MemoryProvider {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same store as one that says it cannot create conditionally: for tests of those who must do without.
    #[must_use]
    pub fn without_conditional_create(self) -> Self {
        Self { is_unconditional: true, ..self }
    }

    fn find(&self, operation: &'static str, key: &Key) -> Result<Object> {
        let object = self.objects.lock().get(key).cloned();
        object.ok_or_else(|| Error::new(ErrorKind::NotFound, operation, key, "no such object"))
    }
}

impl fmt::Debug for MemoryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryProvider({} objects)", self.objects.lock().len())
    }
}

#[async_trait]
impl Provider for MemoryProvider {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        let bytes = body.to_bytes();
        if Sha256::of(&bytes) != sha256 {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "put",
                key,
                "the bytes handed over do not have the digest handed over",
            ));
        }
        let size = bytes.len() as u64;
        let mut objects = self.objects.lock();
        if mode == PutMode::CreateNew && objects.contains_key(key) {
            return Err(Error::new(ErrorKind::Exists, "put", key, "the object is there already"));
        }
        objects.insert(key.clone(), Object { bytes, sha256 });
        Ok(Receipt { size, sha256, proof: Proof::Server, version: None })
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(Bytes::new());
        }
        let bytes = self.find("get", key)?.bytes;
        let Some(range) = range else { return Ok(bytes) };
        let size = bytes.len() as u64;
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if end <= bytes.len() => Ok(bytes.slice(start..end)),
            _ => Err(Error::new(
                ErrorKind::Corrupt,
                "get",
                key,
                format_args!("bytes {}..{} asked for, the object has {size}", range.start, range.end),
            )),
        }
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        Ok(describe(key, &self.find("head", key)?))
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let objects = self.objects.lock();
        let listed: Vec<_> = objects
            .iter()
            .filter(|(key, _)| prefix.matches(key))
            .map(|(key, object)| Ok(describe(key, object)))
            .collect();
        stream::iter(listed).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.objects.lock().remove(key);
        Ok(())
    }

    async fn usage(&self) -> Result<Usage> {
        let used = self.objects.lock().values().map(|object| object.bytes.len() as u64).sum();
        Ok(Usage { used_bytes: Some(used), ..Usage::default() })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            proof: Proof::Server,
            conditional_create: !self.is_unconditional,
            listing_is_consistent: true,
            listing_has_digests: true,
            retention: None,
            object_bytes_max: u64::MAX,
            pack_bytes_preferred: PACK_BYTES_PREFERRED,
            concurrency_preferred: CONCURRENCY_PREFERRED,
            local_root: None,
        }
    }
}

fn describe(key: &Key, object: &Object) -> ObjectInfo {
    ObjectInfo {
        key: key.clone(),
        size: object.bytes.len() as u64,
        sha256: Some(object.sha256),
        modified: None,
    }
}
