//! What can be had by composing the calls of a [`Provider`]: written once here, the same for every store.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::{
    Body, Error, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, PutMode, Receipt, Result, Sha256,
};

/// Beyond this a digest takes long enough (about 0.2 ms) to be computed off the threads that serve requests.
const INLINE_HASH_BYTES_MAX: usize = 256 << 10;

/// Conveniences over any [`Provider`].
#[async_trait]
pub trait ProviderExt: Provider {
    /// The whole object, after its digest was found to be `sha256`.
    ///
    /// # Errors
    /// `Corrupt` when the bytes have another digest, else as [`Provider::get`].
    async fn get_verified(&self, key: &Key, sha256: Sha256) -> Result<Bytes> {
        let bytes = self.get(key, None).await?;
        let found = digest_of("get", key, &bytes).await?;
        if found == sha256 {
            return Ok(bytes);
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            "get",
            key,
            format_args!("the stored bytes have SHA-256 {found}, not {sha256}"),
        ))
    }

    /// Whether the object is there.
    ///
    /// # Errors
    /// As [`Provider::head`], but `NotFound` is an answer.
    async fn exists(&self, key: &Key) -> Result<bool> {
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A whole listing in memory, sorted by key. For folders known to be small.
    ///
    /// # Errors
    /// As [`Provider::list`].
    async fn list_all(&self, prefix: &Prefix) -> Result<Vec<ObjectInfo>> {
        let mut objects: Vec<ObjectInfo> = self.list(prefix).try_collect().await?;
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// How the store proves that it holds exactly `size` bytes with this digest under `key`; `None` if it holds
    /// something else. Costs one `head` where the store knows digests, otherwise also a `get`.
    ///
    /// # Errors
    /// As [`Provider::head`] and [`Provider::get`].
    async fn prove(&self, key: &Key, size: u64, sha256: Sha256) -> Result<Option<Proof>> {
        let info = self.head(key).await?;
        if info.size != size {
            return Ok(None);
        }
        if let Some(stated) = info.sha256 {
            return Ok((stated == sha256).then_some(Proof::Server));
        }
        let bytes = self.get(key, None).await?;
        let found = digest_of("get", key, &bytes).await?;
        Ok((found == sha256).then_some(Proof::ReadBack))
    }

    /// Creates the object, or finds that the same bytes are there already: both succeed.
    ///
    /// Not for keys by which writers compete with equal bodies: both would win.
    ///
    /// # Errors
    /// `Exists` when other bytes are there, else as [`Provider::put`].
    async fn put_new_or_same(&self, key: &Key, body: Body, sha256: Sha256) -> Result<Receipt> {
        let size = body.len();
        match self.put(key, body, sha256, PutMode::CreateNew).await {
            Err(error) if error.kind() == ErrorKind::Exists => match self.prove(key, size, sha256).await? {
                Some(proof) => Ok(Receipt { size, sha256, proof, version: None }),
                None => Err(error),
            },
            result => result,
        }
    }
}

impl<P: Provider + ?Sized> ProviderExt for P {}

async fn digest_of(operation: &'static str, key: &Key, bytes: &Bytes) -> Result<Sha256> {
    if bytes.len() <= INLINE_HASH_BYTES_MAX {
        return Ok(Sha256::of(bytes));
    }
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || Sha256::of(&bytes)).await.map_err(|error| {
        Error::new(ErrorKind::Transient, operation, key, "hashing was stopped").with_source(error)
    })
}
