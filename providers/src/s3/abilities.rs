//! What a store really does: probed with small objects before the first write, remembered on this machine.
//!
//! A store that takes a wrong checksum verifies none, whatever it returns; one that takes `If-None-Match: *` twice ignores it.

use std::path::{Path, PathBuf};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::error::translate;
use super::put::{SignedAs, byte_stream};
use super::{S3Address, S3Provider};
use crate::{Body, Error, ErrorKind, Result, Sha256};

/// Probes have names that are no keys, so that no listing shows one that could not be removed.
const PROBE_NAME: &str = ".lifeboat-probe-";
const CONTENT: &[u8] = b"Lifeboat looks at what this store does; this object may be removed.";
const OTHER_CONTENT: &[u8] = b"Lifeboat looks at what this store does: other content.";

/// What a store was seen to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// It compares `x-amz-checksum-sha256` with the bytes and refuses others.
    pub checksum: bool,
    /// It states the checksum of an object when asked.
    pub states_checksum: bool,
    /// It compares the bytes with the digest that the request was signed with.
    pub signed_payload: bool,
    /// `If-None-Match: *` creates and never replaces.
    pub conditional_create: bool,
}

impl Abilities {
    /// Those of Amazon's S3, as documented.
    pub const AMAZON: Self =
        Self { checksum: true, states_checksum: true, signed_payload: true, conditional_create: true };
    /// None of them.
    pub const LEAST: Self =
        Self { checksum: false, states_checksum: false, signed_payload: false, conditional_create: false };
}

/// The answer to a condition that does not hold.
const PRECONDITION_FAILED: u16 = 412;

impl S3Provider {
    /// Finds out what the store does. Writes and removes one small object, in at most six requests.
    pub(super) async fn probe(&self) -> Result<Abilities> {
        let random = getrandom::u64().map_err(|e| {
            Error::new(ErrorKind::Other, "open", &*self.address, "no randomness").with_source(e)
        })?;
        let name = match self.address.prefix.as_str() {
            "" => format!("{PROBE_NAME}{random:016x}"),
            prefix => format!("{prefix}/{PROBE_NAME}{random:016x}"),
        };
        let found = self.probe_with(&name).await;
        // A policy may forbid it; the object is small.
        let _ = self.client.delete_object().bucket(&self.address.bucket).key(&name).send().await;
        found
    }

    async fn probe_with(&self, name: &str) -> Result<Abilities> {
        let right = Sha256::of(CONTENT);
        // Whether anything can be written at all is found out by the plainest request.
        self.probe_put(name).send().await.map_err(|e| translate("put", &*self.address, e))?;
        let signed_payload = !self.is_taken(self.probe_put(name), Some(Sha256::of(OTHER_CONTENT))).await?;
        let with_wrong = self.probe_put(name).checksum_sha256(encoded(&Sha256::of(OTHER_CONTENT)));
        let refuses_wrong = !self.is_taken(with_wrong, None).await?;
        let with_right = self.probe_put(name).checksum_sha256(encoded(&right));
        let takes_right = self.is_taken(with_right, None).await?;
        // Before the next write, which may replace the object by one without a checksum.
        let states_checksum = takes_right && self.states(name, &right).await?;
        // A store that knows no conditions may refuse any request that has one: only this answer says that it was understood.
        let conditional = self.probe_put(name).if_none_match("*");
        let conditional_create = self.refusal(conditional, None).await? == Some(PRECONDITION_FAILED);
        let checksum = refuses_wrong && takes_right;
        Ok(Abilities { checksum, states_checksum, signed_payload, conditional_create })
    }

    fn probe_put(&self, name: &str) -> PutObjectFluentBuilder {
        let body = byte_stream(&Body::from(bytes::Bytes::from_static(CONTENT)));
        self.client.put_object().bucket(&self.address.bucket).key(name).body(body)
    }

    /// Whether the store takes an object sent like this.
    async fn is_taken(&self, put: PutObjectFluentBuilder, signed_as: Option<Sha256>) -> Result<bool> {
        Ok(self.refusal(put, signed_as).await?.is_none())
    }

    /// The status with which the store refuses an object sent like this, if it does: that is an answer, all else an error.
    async fn refusal(&self, put: PutObjectFluentBuilder, signed_as: Option<Sha256>) -> Result<Option<u16>> {
        let sent = match signed_as {
            Some(digest) => put.customize().interceptor(SignedAs(digest)).send().await,
            None => put.send().await,
        };
        match sent {
            Ok(_) => Ok(None),
            Err(SdkError::ServiceError(refused))
                if (400..500).contains(&refused.raw().status().as_u16())
                    || refused.raw().status().as_u16() == 501 =>
            {
                let status = refused.raw().status().as_u16();
                let error = translate("put", &*self.address, SdkError::ServiceError(refused));
                if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Transient | ErrorKind::Quota) {
                    return Err(error);
                }
                Ok(Some(status))
            }
            Err(e) => Err(translate("put", &*self.address, e)),
        }
    }

    async fn states(&self, name: &str, right: &Sha256) -> Result<bool> {
        let head = self.client.head_object().bucket(&self.address.bucket).key(name);
        let head = head.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled).send().await;
        let head = head.map_err(|e| translate("head", &*self.address, e))?;
        Ok(head.checksum_sha256() == Some(encoded(right).as_str()))
    }
}

/// A digest as S3 spells it.
pub(super) fn encoded(digest: &Sha256) -> String {
    STANDARD.encode(digest.as_bytes())
}

/// A digest as S3 spells it; `None` for that of an object in parts (`…-3`) and for what is none.
pub(super) fn decoded(text: &str) -> Option<Sha256> {
    STANDARD.decode(text).ok()?.try_into().ok().map(Sha256::from_bytes)
}

/// The override that makes the signature cover this digest of the body.
pub(super) fn signing(digest: &Sha256) -> PayloadSigningOverride {
    PayloadSigningOverride::Precomputed(digest.to_string())
}

/// What an earlier process found out about this store.
pub(super) fn recorded(address: &S3Address, state_dir: Option<&Path>) -> Option<Abilities> {
    let bytes = std::fs::read(record_path(address, state_dir?)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Remembers what was found. Whoever cannot only probes again next time.
pub(super) fn record(address: &S3Address, state_dir: Option<&Path>, found: &Abilities) {
    let (Some(directory), Ok(json)) = (state_dir, serde_json::to_vec(found)) else { return };
    let path = record_path(address, directory);
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&temporary, json))
        .and_then(|()| std::fs::rename(&temporary, &path));
    if let Err(error) = written {
        tracing::debug!(%error, path = %path.display(), "what the store does is not remembered");
    }
}

/// One file for each endpoint and bucket: abilities are those of the server.
fn record_path(address: &S3Address, state_dir: &Path) -> PathBuf {
    let place = format!("{} {}", address.endpoint.as_deref().unwrap_or_default(), address.bucket);
    let name: String = Sha256::of(place.as_bytes()).to_string().chars().take(16).collect();
    state_dir.join(format!("s3-{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_spelt_as_s3_does() {
        let digest = Sha256::of(b"abc");
        assert_eq!(decoded(&encoded(&digest)), Some(digest));
        for none in ["", "abc", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-3"] {
            assert_eq!(decoded(none), None, "{none}");
        }
    }

    #[test]
    fn abilities_are_remembered_for_each_server_and_bucket() {
        let directory = tempfile::tempdir().unwrap();
        let here = S3Address::parse("s3://abc/x?endpoint=http://localhost:1").unwrap();
        let there = S3Address::parse("s3://abc/x?endpoint=http://localhost:2").unwrap();
        let state = Some(directory.path());
        assert_eq!(recorded(&here, state), None);
        record(&here, state, &Abilities::AMAZON);
        assert_eq!(recorded(&here, state), Some(Abilities::AMAZON));
        assert_eq!(recorded(&there, state), None);
        let path = record_path(&here, directory.path());
        std::fs::write(path, b"{").unwrap();
        assert_eq!(recorded(&here, state), None);
    }
}
