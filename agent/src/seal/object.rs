//! [`SealedObject`]: the only thing the store accepts, and whole objects, sealed in one box.
//!
//! Plaintext cannot leave, because nothing outside this module (and the pack builder, which seals) can make a
//! [`SealedObject`].

use bytes::Bytes;
use lifeboat_providers::{Body, Sha256};

use super::cipher::{BoxInfo, Role};
use super::header::{HEADER_BYTES, Header, ObjectKind};
use super::keys::SealKey;
use crate::compress::{Compressor, Decompressor, Level};
use crate::pack::directory::Codec;
use crate::tree::codec::Decoder;
use crate::{Error, Result};

/// Most plain bytes of a whole object.
pub const WHOLE_BYTES_MAX: usize = 64 << 20;
const FRAME_BYTES: usize = 8;

/// Bytes that hold nothing in clear but what the format says is clear, with their SHA-256.
#[derive(Debug, Clone)]
pub struct SealedObject {
    body: Body,
    sha256: Sha256,
}

impl SealedObject {
    /// Wraps bytes whose digest is known. Only for code that has just sealed them.
    pub(crate) const fn from_sealed(body: Body, sha256: Sha256) -> Self {
        Self { body, sha256 }
    }

    /// Wraps bytes that were read from a store or made by a slot, config or pack encoder.
    pub(crate) fn from_stored(bytes: Vec<u8>) -> Self {
        let bytes = Bytes::from(bytes);
        let sha256 = Sha256::of(&bytes);
        Self { body: bytes.into(), sha256 }
    }

    /// Wraps bytes that were read from a store and found to have this digest: to be stored elsewhere as they are.
    pub(crate) fn copied(bytes: Bytes, sha256: Sha256) -> Self {
        Self { body: bytes.into(), sha256 }
    }

    /// The stored bytes.
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// The digest of the stored bytes: the object's name, for most kinds.
    pub const fn sha256(&self) -> Sha256 {
        self.sha256
    }
}

/// Seals `plain` as one whole object: header, frame, box. Decodes it again before it is handed over.
///
/// # Errors
/// If it is over 64 MiB, or what was sealed does not decode to what it was made of.
pub fn seal_whole(header: &Header, seal: &SealKey, plain: &[u8]) -> Result<Vec<u8>> {
    if plain.len() > WHOLE_BYTES_MAX {
        return Err(Error::failed(format_args!("a {} of {} bytes is too large", header.kind, plain.len())));
    }
    let mut out = header.encode().to_vec();
    let mut coded = Vec::new();
    let codec = Compressor::new(Level::DEFAULT)?.compress(plain, &mut coded)?;
    out.extend_from_slice(&[codec.code(), 0, 0, 0]);
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    let info = BoxInfo { role: Role::Whole, codec, plain_bytes: plain.len() as u32 };
    header.object_cipher(seal).seal(0, info, &mut coded, 0)?;
    out.extend_from_slice(&coded);
    if open_whole(header.kind, seal, &out)?.1 != plain {
        return Err(Error::failed(format_args!("a {} did not survive sealing: faulty memory?", header.kind)));
    }
    Ok(out)
}

/// Opens a whole object and returns its header and plain bytes.
///
/// # Errors
/// `Damaged` if it is not what it should be in any respect.
pub fn open_whole(kind: ObjectKind, seal: &SealKey, stored: &[u8]) -> Result<(Header, Vec<u8>)> {
    let header = Header::parse(stored)?;
    if header.kind != kind {
        return Err(Error::damaged(format_args!("expected a {kind}, found a {}", header.kind)));
    }
    let mut decoder = Decoder::new(stored.get(HEADER_BYTES..).unwrap_or_default());
    let damaged = |reason: &str| Error::damaged(format_args!("malformed {kind}: {reason}"));
    let frame: [u8; FRAME_BYTES] = decoder.array().map_err(|_| damaged("too short"))?;
    let [codec, z0, z1, z2, p0, p1, p2, p3] = frame;
    let codec = Codec::try_from(codec).map_err(|_| damaged("unknown codec"))?;
    let plain_bytes = u32::from_le_bytes([p0, p1, p2, p3]);
    if [z0, z1, z2] != [0; 3] || plain_bytes as usize > WHOLE_BYTES_MAX {
        return Err(damaged("impossible frame"));
    }
    let mut sealed = decoder.take(decoder.remaining()).unwrap_or_default().to_vec();
    let info = BoxInfo { role: Role::Whole, codec, plain_bytes };
    header.object_cipher(seal).open(0, info, &mut sealed)?;
    let mut plain = Vec::new();
    Decompressor::new()?.decompress(codec, &mut sealed, plain_bytes as usize, &mut plain)?;
    Ok((header, plain))
}
