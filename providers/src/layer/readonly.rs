//! Refuses everything that would change the store: for restore, check and drills, which must not.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result,
    Sha256, SharedProvider, Usage,
};

/// A provider that reads only; changes are `Denied` without a request.
#[derive(Debug)]
pub struct ReadOnlyProvider {
    inner: SharedProvider,
}

impl ReadOnlyProvider {
    /// Over `inner`.
    pub fn new(inner: SharedProvider) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl Provider for ReadOnlyProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, _: Body, _: Sha256, _: PutMode) -> Result<Receipt> {
        Err(refusal("put", key))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.inner.head(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        Err(refusal("delete", key))
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        keys.iter().map(|key| Err(refusal("delete", key))).collect()
    }

    async fn retain(&self, key: &Key, _: Duration) -> Result<()> {
        Err(refusal("retain", key))
    }

    async fn usage(&self) -> Result<Usage> {
        self.inner.usage().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

fn refusal(operation: &'static str, key: &Key) -> Error {
    Error::new(ErrorKind::Denied, operation, key, "the store was opened read-only")
}
