//! `get` and `head`.

use std::ops::Range;
use std::time::SystemTime;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ChecksumMode;
use bytes::{Bytes, BytesMut};

use super::abilities::decoded;
use super::error::translate;
use super::{OBJECT_BYTES_MAX, S3Provider};
use crate::{Error, ErrorKind, Key, ObjectInfo, Result};

/// What is set aside for an answer before its bytes come: a store may claim any length.
const RESERVED_BYTES_MAX: u64 = 128 << 20;

impl S3Provider {
    pub(super) async fn get_object(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        let mut request = self.client.get_object().bucket(&self.address.bucket).key(self.object(key));
        if let Some(range) = &range {
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            if range.end > OBJECT_BYTES_MAX {
                let why = format_args!("bytes up to {} asked for, and no object is as large", range.end);
                return Err(Error::new(ErrorKind::Corrupt, "get", key, why));
            }
            request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
        }
        let answer = request.send().await.map_err(|e| translate("get", key, e))?;
        let (stated, content_range) = (answer.content_length(), answer.content_range().map(str::to_owned));
        let bytes = collect(key, answer.body, stated).await?;
        match range {
            None => Ok(bytes),
            Some(range) => exactly(key, bytes, &range, content_range.as_deref()),
        }
    }

    /// The whole object if it is still of this version (ETag); `Exists` if it was replaced.
    pub(super) async fn get_version(&self, key: &Key, version: Option<&str>) -> Result<Bytes> {
        let request = self.client.get_object().bucket(&self.address.bucket).key(self.object(key));
        let answer = request.set_if_match(version.map(str::to_owned)).send().await;
        let answer = answer.map_err(|e| translate("get", key, e))?;
        let stated = answer.content_length();
        collect(key, answer.body, stated).await
    }

    pub(super) async fn head_object(&self, key: &Key) -> Result<ObjectInfo> {
        let head = self.raw_head("head", key).await?;
        let size = head.content_length().and_then(|size| u64::try_from(size).ok());
        let size =
            size.ok_or_else(|| Error::new(ErrorKind::Other, "head", key, "the store states no size"))?;
        let modified = head.last_modified().and_then(|time| SystemTime::try_from(*time).ok());
        let sha256 = head.checksum_sha256().and_then(decoded);
        Ok(ObjectInfo { key: key.clone(), size, sha256, modified })
    }

    pub(super) async fn raw_head(&self, operation: &'static str, key: &Key) -> Result<HeadObjectOutput> {
        let request = self.client.head_object().bucket(&self.address.bucket).key(self.object(key));
        let answer = request.checksum_mode(ChecksumMode::Enabled).send().await;
        answer.map_err(|e| translate(operation, key, e))
    }
}

/// All bytes of an answer. One that ends early is `Transient`.
async fn collect(
    key: &Key,
    mut body: aws_sdk_s3::primitives::ByteStream,
    stated: Option<i64>,
) -> Result<Bytes> {
    let stated = stated.and_then(|length| u64::try_from(length).ok());
    let cut = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Transient, "get", key, format_args!("the connection broke off: {error}"))
    };
    let first = body.next().await.transpose().map_err(|e| cut(&e))?.unwrap_or_default();
    if stated == Some(first.len() as u64) {
        // Nothing follows, and nothing needs to be copied; but the end must be seen for the connection to be used again.
        while let Some(more) = body.next().await.transpose().map_err(|e| cut(&e))? {
            if !more.is_empty() {
                return Err(cut(&"more bytes than were announced"));
            }
        }
        return Ok(first);
    }
    let capacity = stated.unwrap_or_default().min(RESERVED_BYTES_MAX);
    let mut bytes = BytesMut::with_capacity(usize::try_from(capacity).unwrap_or(0).max(first.len()));
    bytes.extend_from_slice(&first);
    while let Some(more) = body.next().await.transpose().map_err(|e| cut(&e))? {
        bytes.extend_from_slice(&more);
    }
    if stated.is_some_and(|stated| stated != bytes.len() as u64) {
        return Err(cut(&"fewer bytes than were announced"));
    }
    Ok(bytes.freeze())
}

/// The bytes that were asked for, from an answer that may be the whole object.
fn exactly(key: &Key, bytes: Bytes, range: &Range<u64>, content_range: Option<&str>) -> Result<Bytes> {
    let wanted = range.end - range.start;
    let size =
        content_range.and_then(|text| text.rsplit('/').next()).and_then(|size| size.parse::<u64>().ok());
    let beyond = |size: u64| {
        let why = format_args!("bytes {}..{} asked for, the object has {size}", range.start, range.end);
        Error::new(ErrorKind::Corrupt, "get", key, why)
    };
    if let Some(size) = size.filter(|size| *size < range.end) {
        return Err(beyond(size));
    }
    if content_range.is_none() {
        // The store ignored the range: a proxy may.
        let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
        return match (start, end) {
            (Ok(start), Ok(end)) if end <= bytes.len() => Ok(bytes.slice(start..end)),
            _ => Err(beyond(bytes.len() as u64)),
        };
    }
    let starts_there = content_range.is_some_and(|text| {
        text.trim_start_matches("bytes ").split('-').next() == Some(range.start.to_string().as_str())
    });
    if bytes.len() as u64 == wanted && starts_there {
        return Ok(bytes);
    }
    let why = format_args!(
        "{wanted} bytes from {} asked for, {} came ({content_range:?})",
        range.start,
        bytes.len()
    );
    Err(Error::new(ErrorKind::Transient, "get", key, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_asked_for_are_given() {
        let key = Key::new("k").unwrap();
        let bytes = Bytes::from_static(b"0123456789");
        let get = |answer: &'static [u8], range, content_range| {
            exactly(&key, Bytes::from_static(answer), &range, content_range).map_err(|e| e.kind())
        };
        assert_eq!(get(b"234", 2..5, Some("bytes 2-4/10")), Ok(bytes.slice(2..5)));
        assert_eq!(get(b"0123456789", 2..5, None), Ok(bytes.slice(2..5)));
        assert_eq!(get(b"89", 8..12, Some("bytes 8-9/10")), Err(ErrorKind::Corrupt));
        assert_eq!(get(b"0123456789", 8..12, None), Err(ErrorKind::Corrupt));
        assert_eq!(get(b"23", 2..5, Some("bytes 2-4/10")), Err(ErrorKind::Transient));
        assert_eq!(get(b"012", 2..5, Some("bytes 0-2/10")), Err(ErrorKind::Transient));
    }
}
