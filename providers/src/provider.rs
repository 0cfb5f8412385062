//! The contract between Lifeboat and an object store.
//!
//! A provider stores immutable byte strings under keys. It is deliberately small: what can be had by
//! composing these calls is in [`crate::ProviderExt`], and what is the same for every store (retry, limits,
//! faults) is a layer in [`crate::layer`].
//!
//! # Promises every provider keeps
//! - **Atomicity.** A reader sees an object whole or not at all, also after a crash in mid-`put`.
//! - **Durability.** When `put` returns, the object survives a crash of this process, of this machine, and as
//!   much more as the store itself promises.
//! - **Proof.** `put` returns only after the stored bytes were proved to have the digest; the receipt says how.
//!   Bytes that could not be proved are an error, never a receipt.
//! - **Visibility.** After `put` returned, `get` and `head` of that key find the object. `list` may lag, see
//!   [`Capabilities::listing_is_consistent`].
//! - **Cancellation.** Dropping a future abandons the call: the object is then there whole or not at all, and
//!   an abandoned or timed-out call may still take effect, at any later time. Nothing else may be left but the
//!   store's own temporary data, which a later call cleans up.
//! - **Concurrency.** All calls may run at once, also on one key: of two writers one wins, whole.
//!
//! In return the caller never uses one key as the folder of another (`a` and `a/b`): a store either keeps both
//! or refuses the second.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::digest::Sha256Hasher;
use crate::{Key, Prefix, Result, Sha256};

/// An object's bytes as a rope of shared buffers: cheap to clone, so that a call can be repeated and several
/// stores can be fed from one copy in memory.
#[derive(Clone, Default)]
pub struct Body {
    pieces: Arc<[Bytes]>,
    len: u64,
}

impl Body {
    /// A body of the pieces, one after the other.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces: pieces.into(), len }
    }

    /// Bytes in all.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The digest of all bytes.
    pub fn sha256(&self) -> Sha256 {
        let mut hasher = Sha256Hasher::new();
        for piece in self.pieces() {
            hasher.update(piece);
        }
        hasher.finish()
    }

    /// The bytes `range` of it, as far as it has them, without a copy.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Self {
        let mut pieces = Vec::new();
        let mut at = 0_u64;
        for piece in self.pieces() {
            let end = at.saturating_add(piece.len() as u64);
            let (from, to) = (range.start.clamp(at, end), range.end.clamp(at, end));
            if from < to {
                // Both lie within the piece, whose length is a usize.
                pieces.push(piece.slice((from - at) as usize..(to - at) as usize));
            }
            at = end;
        }
        Self::new(pieces)
    }

    /// All bytes in one buffer; without a copy if there is only one piece.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces() {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new(vec![bytes])
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len)
    }
}

/// What `put` does when the key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PutMode {
    /// Fail with [`crate::ErrorKind::Exists`] and leave the object as it is. Atomic between writers where
    /// [`Capabilities::conditional_create`] says so; elsewhere a check followed by a write.
    CreateNew,
    /// Replace it, atomically: readers see the old object or the new one.
    Replace,
}

/// How a store proved that it holds the bytes whose digest was sent. Ordered from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// The transport was signed or carried a weaker checksum; the store did not state the SHA-256.
    Transport,
    /// The stored bytes were read back and hashed here.
    ReadBack,
    /// The store computed the SHA-256 of what it holds and stated it.
    Server,
}

/// Proof that an object is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Bytes stored.
    pub size: u64,
    /// The digest that was proved.
    pub sha256: Sha256,
    /// How it was proved.
    pub proof: Proof,
    /// The store's own name for this version of the object (ETag, file id), if it has one.
    pub version: Option<String>,
}

/// What a store says of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The object's key.
    pub key: Key,
    /// Stored bytes.
    pub size: u64,
    /// The SHA-256 where the store knows it.
    pub sha256: Option<Sha256>,
    /// The store's time of the last write, by the store's own clock. For people to read: never compare it
    /// with another machine's clock.
    pub modified: Option<SystemTime>,
}

/// Space, as far as the store tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes used by whatever shares the limit with this repository.
    pub used_bytes: Option<u64>,
    /// Bytes that can still be written.
    pub available_bytes: Option<u64>,
    /// The limit, if there is one.
    pub limit_bytes: Option<u64>,
}

/// What a store can do. Constant while the provider lives, but for what only the first write finds out of a store that is not known yet:
/// until then the least is said, so ask anew rather than keep an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The proof a receipt of this store carries.
    pub proof: Proof,
    /// [`PutMode::CreateNew`] is atomic between writers on different machines.
    pub conditional_create: bool,
    /// A listing shows every object whose `put` returned before it began. Where false, never conclude from a
    /// listing alone that an object is absent: ask `head`.
    pub listing_is_consistent: bool,
    /// Listings carry the SHA-256 of each object as the store computed it from the stored bytes.
    pub listing_has_digests: bool,
    /// How long every object that is put is locked against removal, if it is; see [`Provider::retain`].
    pub retention: Option<Duration>,
    /// The largest object in bytes.
    pub object_bytes_max: u64,
    /// The pack size in bytes that suits this store (request cost against granularity).
    pub pack_bytes_preferred: u64,
    /// How many calls at once suit this store.
    pub concurrency_preferred: usize,
    /// The objects are files below this directory, named by their keys, and may be read there directly.
    pub local_root: Option<PathBuf>,
}

/// An object store.
///
/// Implementations translate every error of theirs into [`crate::Error`]; no type of an SDK appears here.
/// They do not retry (that is [`crate::layer::retry`]) but say by [`crate::ErrorKind`] what may be retried.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    /// The place for messages, such as `s3://bucket/prefix` or `/srv/backup`: never with secrets.
    fn location(&self) -> String;

    /// Stores `body` under `key` and proves that its SHA-256 is `sha256`.
    ///
    /// Idempotent with [`PutMode::Replace`]. With [`PutMode::CreateNew`] a repeated call after an unknown
    /// outcome may say [`crate::ErrorKind::Exists`]: compare by `head` or `get`. `Exists` is said only of an
    /// object that is as durable as if its `put` had returned.
    ///
    /// # Errors
    /// `Exists`, `Denied`, `Quota`, `Throttled`, `Transient`, `Misconfigured`; `Corrupt` when the store holds
    /// other bytes than were sent (the provider has then removed them, as far as it could) and when `sha256`
    /// is not the body's digest: nothing is then stored, and an object that was there stays as it was.
    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt>;

    /// Reads an object, or the bytes `range` of it (half-open, from 0).
    ///
    /// Returns exactly the bytes asked for. A range that reaches beyond the object's end is `Corrupt`: whoever
    /// asks knows from the index how long the object is. An answer that the connection cut short is
    /// `Transient`. An empty range gives no bytes and makes no request.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Throttled`, `Transient`, `Corrupt`.
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes>;

    /// What the store says of one object: its size, and its digest where the store knows it.
    ///
    /// # Errors
    /// `NotFound` if it is not there; `Denied`, `Throttled`, `Transient`.
    async fn head(&self, key: &Key) -> Result<ObjectInfo>;

    /// All objects in a folder and below, in no particular order, none twice (but an object replaced meanwhile
    /// may be).
    ///
    /// Objects put or deleted while the listing runs may be in it or not. What is not an object of Lifeboat's
    /// (temporary data, foreign files) is left out. A listing that breaks off ends with an error, never early
    /// without one. A folder that does not exist is empty.
    ///
    /// A paged store should not lose a thousand pages to one failed request: it marks a retryable error by
    /// [`crate::Error::resumable`], and when it is polled again repeats that request and goes on. After any
    /// other error the stream ends.
    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>>;

    /// Removes an object. Idempotent: removing what is not there succeeds. When it returns, `get` and `head` find
    /// nothing, and the removal survives a crash.
    ///
    /// # Errors
    /// `Denied` (also where a retention lock protects the object), `Throttled`, `Transient`.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Removes several objects, as one request where the store has it; one result per key, in order.
    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.delete(key).await);
        }
        results
    }

    /// Extends an object's retention lock: it cannot be removed for `period` from now, by the store's clock.
    /// Never shortens a lock.
    ///
    /// # Errors
    /// `Unsupported` where the store has no locks; `NotFound`, `Denied`, `Throttled`, `Transient`.
    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        let _ = period;
        Err(crate::Error::new(
            crate::ErrorKind::Unsupported,
            "retain",
            key,
            "this store has no retention locks",
        ))
    }

    /// The space used and left.
    ///
    /// # Errors
    /// `Denied`, `Throttled`, `Transient`. A store that cannot tell returns an empty [`Usage`].
    async fn usage(&self) -> Result<Usage>;

    /// What the store can do.
    fn capabilities(&self) -> Capabilities;
}

/// A provider shared between tasks; layers wrap one and are one.
pub type SharedProvider = Arc<dyn Provider>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_an_object_is_cut_out_exactly() {
        let pieces: Vec<Bytes> = ["abc", "", "d", "efgh", "i"].map(Bytes::from).to_vec();
        let body = Body::new(pieces);
        let whole = "abcdefghi";
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                let part = body.part(start as u64..end as u64);
                assert_eq!(part.len(), (end - start) as u64);
                assert_eq!(&*part.to_bytes(), &whole.as_bytes()[start..end]);
            }
        }
        assert_eq!(&*body.part(5..u64::MAX).to_bytes(), b"fghi");
        assert_eq!(body.part(50..60).len(), 0);
    }
}
