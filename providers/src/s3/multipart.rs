//! Objects that are too large for one request: in parts, each with its own digest, several at once; and the removal of what uploads that
//! were cut off have left, which costs money and shows in no listing of objects.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, MultipartUpload,
};
use aws_smithy_types::DateTime;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::S3Provider;
use super::abilities::{Abilities, decoded, encoded};
use super::error::translate;
use super::put::{SignedAs, byte_stream};
use crate::digest::Sha256Hasher;
use crate::{Body, Error, ErrorKind, Key, Result, Sha256};

/// S3's limits.
const PARTS_MAX: u64 = 10_000;
const PART_BYTES_MIN: u64 = 5 << 20;
/// Parts of one object under way at once.
const PARTS_AT_ONCE: usize = 4;
/// An upload that began longer ago than this, by the store's clock, is nobody's any more.
pub const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A part that the store holds.
struct Part {
    number: i32,
    e_tag: Option<String>,
    sha256: Sha256,
}

impl S3Provider {
    /// Stores a body in parts and returns the object's ETag.
    pub(super) async fn put_in_parts(
        &self,
        key: &Key,
        body: &Body,
        only_new: bool,
        abilities: Abilities,
    ) -> Result<Option<String>> {
        self.mark_uploads();
        let mut create = self.client.create_multipart_upload();
        create = create.bucket(&self.address.bucket).key(self.object(key));
        create = create.content_type("application/octet-stream");
        if abilities.checksum {
            create =
                create.checksum_algorithm(ChecksumAlgorithm::Sha256).checksum_type(ChecksumType::Composite);
        }
        create = create.set_storage_class(self.storage_class_of(key));
        if let Some(lock) = self.lock_of(key) {
            let until = DateTime::from(self.clock.now() + lock.period);
            create = create.object_lock_mode(lock.mode.clone()).object_lock_retain_until_date(until);
        }
        let created = create.send().await.map_err(|e| translate("put", key, e))?;
        let no_id =
            || Error::new(ErrorKind::Other, "put", key, "the store gives no id for an upload in parts");
        let upload = created.upload_id().ok_or_else(no_id)?;
        let stored = self.put_parts(key, body, upload, only_new, abilities).await;
        if stored.is_err() {
            // Best effort: what stays is swept later.
            let abort = self.client.abort_multipart_upload().bucket(&self.address.bucket);
            let _ = abort.key(self.object(key)).upload_id(upload).send().await;
        }
        stored
    }

    async fn put_parts(
        &self,
        key: &Key,
        body: &Body,
        upload: &str,
        only_new: bool,
        abilities: Abilities,
    ) -> Result<Option<String>> {
        let ranges = part_ranges(body.len(), self.options.part_bytes as u64);
        let uploads = ranges.into_iter().map(|(number, range)| async move {
            let part = body.part(range);
            let sha256 = part.sha256();
            let mut put = self.client.upload_part().bucket(&self.address.bucket).key(self.object(key));
            put = put.upload_id(upload).part_number(number).body(byte_stream(&part));
            if abilities.checksum {
                put = put.checksum_sha256(encoded(&sha256));
            }
            let sent = put.customize().interceptor(SignedAs(sha256)).send().await;
            let stored = sent.map_err(|e| translate("put", key, e))?;
            match stored.checksum_sha256() {
                Some(stated) if decoded(stated) != Some(sha256) => {
                    let why = format_args!("the store states the checksum {stated} for part {number}");
                    Err(Error::new(ErrorKind::Corrupt, "put", key, why))
                }
                _ => Ok(Part { number, e_tag: stored.e_tag().map(str::to_owned), sha256 }),
            }
        });
        let mut uploads = stream::iter(uploads).buffered(PARTS_AT_ONCE);
        let mut parts = Vec::new();
        while let Some(part) = uploads.next().await {
            parts.push(part?);
        }
        self.complete(key, upload, &parts, only_new, abilities).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &str,
        parts: &[Part],
        only_new: bool,
        abilities: Abilities,
    ) -> Result<Option<String>> {
        let mut list = CompletedMultipartUpload::builder();
        for part in parts {
            let mut entry = CompletedPart::builder().part_number(part.number).set_e_tag(part.e_tag.clone());
            if abilities.checksum {
                entry = entry.checksum_sha256(encoded(&part.sha256));
            }
            list = list.parts(entry.build());
        }
        let mut complete = self.client.complete_multipart_upload().bucket(&self.address.bucket);
        complete = complete.key(self.object(key)).upload_id(upload).multipart_upload(list.build());
        if only_new {
            complete = complete.if_none_match("*");
        }
        let stored = complete.send().await.map_err(|e| translate("put", key, e))?;
        let composite = composite(parts);
        match stored.checksum_sha256() {
            // Stores spell the composite with or without the number of parts.
            Some(stated) if stated.split('-').next() != composite.split('-').next() => {
                let _ = self.delete_object(key).await;
                let why =
                    format_args!("the store states the checksum {stated} for the parts, not {composite}");
                Err(Error::new(ErrorKind::Corrupt, "put", key, why))
            }
            _ => Ok(stored.e_tag().map(str::to_owned)),
        }
    }

    /// Removes the parts of uploads in this folder that began longer than `older_than` ago, by the store's clock. Returns how many uploads
    /// those were, and how many there are besides.
    ///
    /// # Errors
    /// `Denied`, `Throttled`, `Transient`; `Unsupported` if the store lists no uploads.
    pub async fn sweep_uploads(&self, older_than: Duration) -> Result<(u64, u64)> {
        let (mut removed, mut kept) = (0, 0);
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.address.bucket);
            let request = request.set_key_marker(key_marker.clone()).set_upload_id_marker(id_marker.clone());
            let folder = if self.address.prefix.is_empty() {
                String::new()
            } else {
                format!("{}/", self.address.prefix)
            };
            let answer =
                request.prefix(folder).send().await.map_err(|e| translate("list", &*self.address, e))?;
            for upload in answer.uploads() {
                if self.sweep_one(upload, older_than).await? {
                    removed += 1;
                } else {
                    kept += 1;
                }
            }
            let next = (
                answer.next_key_marker().map(str::to_owned),
                answer.next_upload_id_marker().map(str::to_owned),
            );
            let goes_on =
                answer.is_truncated() == Some(true) && next.0.is_some() && next != (key_marker, id_marker);
            if !goes_on {
                return Ok((removed, kept));
            }
            (key_marker, id_marker) = next;
        }
    }

    /// Whether the upload was one of ours, stale, and removed.
    async fn sweep_one(&self, upload: &MultipartUpload, older_than: Duration) -> Result<bool> {
        let (Some(object), Some(id)) = (upload.key(), upload.upload_id()) else { return Ok(false) };
        if self.address.key(object).is_none() {
            return Ok(false);
        }
        let now = DateTime::from(self.clock.now()).secs();
        let age = upload.initiated().map_or(0, |began| now.saturating_sub(began.secs()));
        if u64::try_from(age).unwrap_or(0) < older_than.as_secs() {
            return Ok(false);
        }
        let abort = self.client.abort_multipart_upload().bucket(&self.address.bucket);
        match abort.key(object).upload_id(id).send().await.map_err(|e| translate("delete", object, e)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(true),
        }
    }

    /// Once a process: looks for left uploads, if this machine has ever begun one here.
    pub(super) async fn sweep_left_uploads(&self) {
        let sweep = async {
            let Some(mark) = self.uploads_mark().filter(|mark| mark.exists()) else { return };
            match self.sweep_uploads(STALE_AFTER).await {
                Ok((_, 0)) => drop(std::fs::remove_file(mark)),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "uploads that were cut off are looked for next time"),
            }
        };
        self.swept.get_or_init(|| sweep).await;
    }

    /// Remembers that there may be something to sweep.
    fn mark_uploads(&self) {
        if let Some(mark) = self.uploads_mark()
            && let Err(error) = std::fs::write(&mark, b"")
        {
            tracing::debug!(%error, "a cut-off upload will not be looked for by this machine");
        }
    }

    fn uploads_mark(&self) -> Option<PathBuf> {
        let name = Sha256::of(self.address.to_string().as_bytes()).to_string();
        let directory = self.options.state_dir.as_ref()?;
        Some(directory.join(format!("s3-parts-{}", name.get(..16)?)))
    }
}

/// The parts of a body: number from 1, and bytes. As large as asked, or larger where there would be too many.
fn part_ranges(size: u64, part_bytes: u64) -> Vec<(i32, Range<u64>)> {
    let part_bytes = part_bytes.max(PART_BYTES_MIN).max(size.div_ceil(PARTS_MAX));
    let starts = (0..size).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX));
    starts.zip(1..).map(|(start, number)| (number, start..(start + part_bytes).min(size))).collect()
}

/// The digest of the parts' digests, as S3 spells it.
fn composite(parts: &[Part]) -> String {
    let mut hasher = Sha256Hasher::new();
    for part in parts {
        hasher.update(part.sha256.as_bytes());
    }
    format!("{}-{}", encoded(&hasher.finish()), parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_body_within_the_limits() {
        let mib = 1 << 20;
        assert_eq!(
            part_ranges(11 * mib, 5 * mib),
            [(1, 0..5 * mib), (2, 5 * mib..10 * mib), (3, 10 * mib..11 * mib)]
        );
        assert_eq!(part_ranges(10 * mib, 1), [(1, 0..5 * mib), (2, 5 * mib..10 * mib)]);
        let many = part_ranges(5 << 40, 64 * mib);
        assert!(many.len() <= 10_000);
        assert_eq!(many.last().unwrap().1.end, 5 << 40);
    }
}
