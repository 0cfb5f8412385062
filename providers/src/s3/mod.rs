//! S3 and what speaks its protocol.
//!
//! | file | job |
//! |---|---|
//! | [`options`] | the URL, credentials, sizes |
//! | [`client`] | the SDK's client over our HTTP client |
//! | [`error`](self) | what stores say, as the contract's errors |
//! | [`abilities`] | what a store really does, found out once and remembered |
//! | [`put`], [`multipart`] | storing with proof, in one request or in parts |
//! | [`read`] | `get` and `head` |
//! | [`list`] | pages of a listing |
//! | [`delete`] | one by one and by the thousand |
//!
//! Every object goes up with its SHA-256, which the store compares with what it received and states when asked; where a store does
//! not, the signature's digest of the body is next, and reading back the last resort. Which of them holds is probed, not believed.

mod abilities;
mod client;
mod delete;
mod error;
mod list;
mod multipart;
mod options;
mod put;
mod read;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::sync::OnceCell;

use crate::http::{HttpSettings, connector};
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, PutMode, Receipt, Result,
    Sha256, Usage,
};

pub use abilities::Abilities;
pub use multipart::STALE_AFTER;
pub use options::{AccessKey, Lock, S3Address, S3Options};

/// Requests cost money and latency, a restore reads parts of packs, and a few packs are in memory at once.
const PACK_BYTES_PREFERRED: u64 = 16 << 20;
const CONCURRENCY_PREFERRED: usize = 8;
/// What S3 takes in parts.
const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// A folder of a bucket.
pub struct S3Provider {
    client: aws_sdk_s3::Client,
    clock: client::StoreClock,
    address: Arc<S3Address>,
    options: S3Options,
    abilities: OnceCell<Abilities>,
    /// Whether uploads in parts that an earlier process left were looked for.
    swept: OnceCell<()>,
}

impl S3Provider {
    /// A provider over a bucket. Nothing is sent to the store yet; credentials are looked for.
    ///
    /// Call it within a tokio runtime that has its timer and I/O enabled.
    ///
    /// # Errors
    /// `Misconfigured` if the system has no root certificates.
    pub async fn connect(address: S3Address, options: S3Options, http: &HttpSettings) -> Result<Self> {
        let is_plain = address.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let transport = client::Transport::new(connector(http, !is_plain)?, http);
        let client = client::build(&address, options.access_key.as_ref(), &transport).await?;
        let known = if address.is_amazon() {
            Some(Abilities::AMAZON)
        } else {
            abilities::recorded(&address, options.state_dir.as_deref())
        };
        Ok(Self {
            client,
            clock: transport.clock(),
            address: Arc::new(address),
            options,
            abilities: OnceCell::new_with(known),
            swept: OnceCell::new(),
        })
    }

    /// What the store really does: known, remembered, or found out now.
    ///
    /// # Errors
    /// Errors of the store; `Denied` if nothing may be written there.
    pub async fn abilities(&self) -> Result<Abilities> {
        self.abilities
            .get_or_try_init(|| async {
                let found = self.probe().await?;
                abilities::record(&self.address, self.options.state_dir.as_deref(), &found);
                Ok(found)
            })
            .await
            .copied()
    }

    /// Finds out anew what the store really does, and remembers it for later processes.
    ///
    /// # Errors
    /// As [`S3Provider::abilities`].
    pub async fn probe_anew(&self) -> Result<Abilities> {
        let found = self.probe().await?;
        abilities::record(&self.address, self.options.state_dir.as_deref(), &found);
        Ok(found)
    }

    fn object(&self, key: &Key) -> String {
        self.address.object(key)
    }
}

impl fmt::Debug for S3Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Provider({})", self.address)
    }
}

#[async_trait]
impl Provider for S3Provider {
    fn location(&self) -> String {
        self.address.to_string()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        self.put_object(key, body, sha256, mode).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        self.get_object(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.head_object(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        self.list_objects(prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.delete_object(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        self.delete_objects(keys).await
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        let head = self.raw_head("retain", key).await?;
        let until = DateTime::from(self.clock.now() + period);
        if head.object_lock_retain_until_date().is_some_and(|locked| locked.secs() >= until.secs()) {
            return Ok(());
        }
        let mode = match &self.address.lock {
            Some(lock) if lock.mode == aws_sdk_s3::types::ObjectLockMode::Compliance => {
                ObjectLockRetentionMode::Compliance
            }
            _ => ObjectLockRetentionMode::Governance,
        };
        let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(until).build();
        let request = self.client.put_object_retention().bucket(&self.address.bucket).key(self.object(key));
        match request.retention(retention).send().await {
            Ok(_) => Ok(()),
            Err(e) => {
                let error = error::translate("retain", key, e);
                let has_no_locks = error.kind() == ErrorKind::Other && error.reason().contains("Lock");
                if has_no_locks {
                    let why = format!("{}; Object Lock must be switched on for the bucket", error.reason());
                    return Err(Error::new(ErrorKind::Unsupported, "retain", key, why));
                }
                Err(error)
            }
        }
    }

    async fn usage(&self) -> Result<Usage> {
        Ok(Usage::default())
    }

    fn capabilities(&self) -> Capabilities {
        // Before the first write of a process that knows nothing of the store: the least, of its proofs too.
        let known = self.abilities.get().copied();
        let abilities = known.unwrap_or(Abilities::LEAST);
        Capabilities {
            proof: known.map_or(Proof::Transport, |known| known.proof()),
            conditional_create: abilities.conditional_create,
            listing_is_consistent: true,
            listing_has_digests: false,
            retention: self.address.lock.as_ref().map(|lock| lock.period),
            object_bytes_max: OBJECT_BYTES_MAX,
            pack_bytes_preferred: PACK_BYTES_PREFERRED,
            concurrency_preferred: CONCURRENCY_PREFERRED,
            local_root: None,
        }
    }
}

/// A proof, as an ability is worth it.
impl Abilities {
    /// How a store of these abilities proves what it holds.
    pub const fn proof(&self) -> Proof {
        match (self.checksum, self.signed_payload) {
            (true, _) => Proof::Server,
            (false, true) => Proof::Transport,
            (false, false) => Proof::ReadBack,
        }
    }
}
