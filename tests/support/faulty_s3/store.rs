//! What the faulty server holds: objects and unfinished uploads in memory, and how well it keeps its checksums.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use s3s::crypto::{Checksum as _, Md5, Sha256};

/// What the store does with a SHA-256 that comes with a `PUT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksums {
    /// Compared with the body, kept, and stated when asked: AWS, Garage, MinIO, Ceph.
    #[default]
    Verified,
    /// Kept and stated as it came, compared with nothing: moto.
    Repeated,
    /// Neither compared nor kept: old stores.
    Ignored,
}

/// How the store behaves when nothing goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// What it does with a SHA-256.
    pub checksums: Checksums,
    /// Entries of a page of a listing at most.
    pub page: usize,
    /// Whether `If-None-Match: *` is honoured; else it is ignored, as Garage does.
    pub conditional: bool,
    /// The least bytes of a part that is not the last.
    pub part_bytes_min: usize,
    /// Whether requests without a signature are served: for plain checks.
    pub unsigned: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            checksums: Checksums::Verified,
            page: 1000,
            conditional: true,
            part_bytes_min: 5 << 20,
            unsigned: false,
        }
    }
}

/// A stored object.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its bytes as they are now.
    pub bytes: Bytes,
    /// The MD5 of what was received, or the form that multipart uploads have.
    pub etag: String,
    /// The SHA-256 that is stated, in Base64: of what was received.
    pub sha256: Option<String>,
    /// Whether that is a hash of the parts' hashes.
    pub is_composite: bool,
    /// When it was written.
    pub modified: SystemTime,
}

/// A part of an unfinished upload.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its MD5.
    pub etag: String,
    /// Its SHA-256 in Base64, if it is kept.
    pub sha256: Option<String>,
}

/// An unfinished upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The key it is for.
    pub key: String,
    /// Its parts by number.
    pub parts: BTreeMap<i32, Part>,
    /// When it was begun.
    pub begun: SystemTime,
}

/// Everything there is.
#[derive(Debug, Default)]
pub struct Store {
    /// By key.
    pub objects: BTreeMap<String, Object>,
    /// By id, which are numbers in the order of time.
    pub uploads: BTreeMap<String, Upload>,
    /// How it behaves.
    pub behaviour: Behaviour,
    uploads_begun: usize,
}

impl Store {
    /// Begins an upload and names it.
    pub fn begin_upload(&mut self, key: &str) -> String {
        self.uploads_begun += 1;
        let id = format!("upload-{:06}", self.uploads_begun);
        let upload = Upload { key: key.to_owned(), parts: BTreeMap::new(), begun: SystemTime::now() };
        self.uploads.insert(id.clone(), upload);
        id
    }
}

/// The MD5 in hexadecimal digits.
pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::checksum(bytes))
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The MD5 in Base64, as `Content-MD5` has it.
pub fn md5_base64(bytes: &[u8]) -> String {
    base64(&Md5::checksum(bytes))
}

/// The SHA-256 in Base64, as `x-amz-checksum-sha256` has it.
pub fn sha256_base64(bytes: &[u8]) -> String {
    base64(&Sha256::checksum(bytes))
}

/// The checksum of a multipart upload: of the parts' checksums, with their number.
pub fn composite_sha256<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let hashes: Vec<[u8; 32]> = parts.map(Sha256::checksum).collect();
    format!("{}-{}", sha256_base64(&hashes.concat()), hashes.len())
}

/// The entity tag of a multipart upload: likewise, of MD5s.
pub fn composite_md5<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let hashes: Vec<[u8; 16]> = parts.map(Md5::checksum).collect();
    format!("{}-{}", md5_hex(&hashes.concat()), hashes.len())
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0, |number, byte| number << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = char::from(DIGITS[number >> (18 - 6 * place) & 63]);
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}
