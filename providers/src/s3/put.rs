//! Storing an object in one request, and proving that it is what was sent.

use std::convert::Infallible;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, StorageClass};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;

use super::S3Provider;
use super::abilities::{Abilities, decoded, encoded, signing};
use super::error::translate;
use super::options::Lock;
use crate::http::RopeBody;
use crate::{Body, Error, ErrorKind, Key, ProviderExt as _, PutMode, Receipt, Result, Sha256};

/// Data packs, which the storage class is for.
const DATA_FOLDER: &str = "packs/";
/// What is written again and removed while writers are at work: nothing that a restore needs, and locked it would only pile up.
const TRANSIENT_FOLDERS: [&str; 3] = ["sessions/", "outcomes/", "tombstones/"];

/// Makes a request's signature cover a digest that is known already, so that the body is not hashed once more.
#[derive(Debug)]
pub(super) struct SignedAs(pub(super) Sha256);

#[dyn_dispatch_hint]
impl Intercept for SignedAs {
    fn name(&self) -> &'static str {
        "SignedAs"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        config.interceptor_state().store_put(signing(&self.0));
        Ok(())
    }
}

impl S3Provider {
    /// The class an object is stored in, if not the store's default.
    pub(super) fn storage_class_of(&self, key: &Key) -> Option<StorageClass> {
        self.address.storage_class.clone().filter(|_| key.as_str().starts_with(DATA_FOLDER))
    }

    /// The lock an object is put with.
    pub(super) fn lock_of(&self, key: &Key) -> Option<&Lock> {
        let is_transient = TRANSIENT_FOLDERS.iter().any(|folder| key.as_str().starts_with(folder));
        self.address.lock.as_ref().filter(|_| !is_transient)
    }

    pub(super) async fn put_object(
        &self,
        key: &Key,
        body: Body,
        sha256: Sha256,
        mode: PutMode,
    ) -> Result<Receipt> {
        let abilities = self.abilities().await?;
        self.sweep_left_uploads().await;
        if !abilities.checksum {
            // The store would not notice.
            refuse_other_digest(key, &body, &sha256)?;
        }
        if mode == PutMode::CreateNew && !abilities.conditional_create && self.exists(key).await? {
            return Err(Error::new(ErrorKind::Exists, "put", key, "the object is there already"));
        }
        let only_new = mode == PutMode::CreateNew && abilities.conditional_create;
        let size = body.len();
        let version = if size > self.options.single_put_bytes_max {
            refuse_other_digest(key, &body, &sha256)?;
            self.put_in_parts(key, &body, only_new, abilities).await?
        } else {
            self.put_in_one(key, &body, &sha256, only_new, abilities).await?
        };
        if !abilities.checksum && !abilities.signed_payload {
            self.read_back(key, size, &sha256, version.as_deref()).await?;
        }
        Ok(Receipt { size, sha256, proof: abilities.proof(), version })
    }

    async fn put_in_one(
        &self,
        key: &Key,
        body: &Body,
        sha256: &Sha256,
        only_new: bool,
        abilities: Abilities,
    ) -> Result<Option<String>> {
        let length = i64::try_from(body.len())
            .map_err(|_| Error::new(ErrorKind::Unsupported, "put", key, "the object is too large"))?;
        let mut put = self.client.put_object().bucket(&self.address.bucket).key(self.object(key));
        put = put.body(byte_stream(body)).content_length(length).content_type("application/octet-stream");
        let lock = self.lock_of(key);
        // A lock asks for a checksum, also where the store does not look at it.
        if abilities.checksum || lock.is_some() {
            put = put.checksum_sha256(encoded(sha256)).checksum_algorithm(ChecksumAlgorithm::Sha256);
        }
        if only_new {
            put = put.if_none_match("*");
        }
        put = put.set_storage_class(self.storage_class_of(key));
        if let Some(lock) = lock {
            let until = DateTime::from(self.clock.now() + lock.period);
            put = put.object_lock_mode(lock.mode.clone()).object_lock_retain_until_date(until);
        }
        let sent = put.customize().interceptor(SignedAs(*sha256)).send().await;
        let stored = sent.map_err(|e| translate("put", key, e))?;
        match stored.checksum_sha256() {
            Some(stated) if decoded(stated) != Some(*sha256) => {
                // What the store holds is not what was sent: nobody may find it.
                let _ = self.delete_object(key).await;
                let why = format_args!("the store states the checksum {stated} for what it stored");
                Err(Error::new(ErrorKind::Corrupt, "put", key, why))
            }
            _ => Ok(stored.e_tag().map(str::to_owned)),
        }
    }

    /// The last resort: the bytes are read again and hashed here. By the version that was put: of two writers one wins, and the other must
    /// neither take the winner's bytes for damaged ones of its own nor remove them. Where that version is not there any more, or never was
    /// called so (some gateways name it otherwise when it is read), what is there now proves the put if it is the same, and nothing if not.
    async fn read_back(&self, key: &Key, size: u64, sha256: &Sha256, version: Option<&str>) -> Result<()> {
        let is_whole = |bytes: &Bytes| bytes.len() as u64 == size && Sha256::of(bytes) == *sha256;
        let stored = match self.get_version(key, version).await {
            Err(e) if e.kind() == ErrorKind::Exists => {
                let now = self.get_version(key, None).await?;
                if is_whole(&now) {
                    return Ok(());
                }
                let why =
                    "another object than the one that was sent is read back: it was replaced, or is damaged";
                return Err(Error::new(ErrorKind::Transient, "put", key, why));
            }
            stored => stored?,
        };
        if is_whole(&stored) {
            return Ok(());
        }
        let _ = self.delete_object(key).await;
        Err(Error::new(ErrorKind::Corrupt, "put", key, "what was read back is not what was sent"))
    }
}

/// Refuses bytes that do not have the digest that was handed over with them, before anything is sent.
fn refuse_other_digest(key: &Key, body: &Body, sha256: &Sha256) -> Result<()> {
    if body.sha256() == *sha256 {
        return Ok(());
    }
    let why = "the bytes handed over do not have the digest handed over";
    Err(Error::new(ErrorKind::Corrupt, "put", key, why))
}

/// A body for the SDK: no byte is copied, and the SDK does not hash it, since [`SignedAs`] says what to sign.
pub(super) fn byte_stream(body: &Body) -> ByteStream {
    match body.pieces() {
        [] => ByteStream::new(SdkBody::from(Bytes::new())),
        [one] => ByteStream::new(SdkBody::from(one.clone())),
        _ => ByteStream::new(SdkBody::from_body_1_x(RopeBody::<Infallible>::from(body))),
    }
}
