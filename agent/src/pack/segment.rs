//! Chunks on their way into a segment, and the coder that compresses, seals and verifies it.

use bytes::Bytes;

use super::building::{Building, Reservation};
use super::directory::{Codec, DirectoryChunk};
use crate::chunk::ChunkId;
use crate::compress::{Compressor, Decompressor, Level};
use crate::seal::cipher::BoxInfo;
use crate::seal::{Role, cipher::TAG_BYTES};
use crate::{Error, Result};

/// Chunks that will become one segment.
#[derive(Debug, Default)]
pub struct OpenSegment {
    /// The chunks' bytes, one after the other.
    pub plain: Vec<u8>,
    /// Which they are.
    pub chunks: Vec<DirectoryChunk>,
}

impl OpenSegment {
    /// Whether a chunk of `len` bytes should go into the next segment, so that this one stays near `target` bytes.
    pub fn is_full_for(&self, len: usize, target: usize) -> bool {
        !self.plain.is_empty() && self.plain.len() + len > target
    }

    /// Appends a chunk.
    pub fn push(&mut self, id: ChunkId, chunk: &[u8]) {
        self.plain.extend_from_slice(chunk);
        self.chunks.push(DirectoryChunk { id, length: chunk.len() as u32 });
    }

    /// Whether there is no chunk.
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// Compresses, verifies and seals segments; one for each thread.
pub struct SegmentCoder {
    compressor: Compressor,
    decompressor: Decompressor,
    verify: bool,
    coded: Vec<u8>,
    decoded: Vec<u8>,
}

impl SegmentCoder {
    /// A coder at `level`; with `verify`, every segment is decoded and compared before it is sealed, and the seal of each pack's first
    /// segment is opened again.
    ///
    /// # Errors
    /// If zstd has no memory.
    pub fn new(level: Level, verify: bool) -> Result<Self> {
        Ok(Self {
            compressor: Compressor::new(level)?,
            decompressor: Decompressor::new()?,
            verify,
            coded: Vec::new(),
            decoded: Vec::new(),
        })
    }

    /// Compresses a segment, for [`SegmentCoder::seal`], and verifies it. Returns how it is coded, and its coded bytes.
    ///
    /// # Errors
    /// If zstd fails, or what it made does not decode to `plain`: a fault of memory or compressor, caught before anything is stored.
    pub fn compress(&mut self, plain: &[u8]) -> Result<(BoxInfo, usize)> {
        let shrunk = self.compressor.shrink(plain, &mut self.coded)?;
        let codec = if shrunk { Codec::Zstd } else { Codec::Raw };
        if shrunk && self.verify && !self.decodes_to(plain) {
            return Err(did_not_survive());
        }
        let coded_bytes = if shrunk { self.coded.len() } else { plain.len() };
        Ok((BoxInfo { role: Role::Segment, codec, plain_bytes: plain.len() as u32 }, coded_bytes))
    }

    /// Seals the segment `plain` that was compressed last for its place in a pack.
    ///
    /// # Errors
    /// If it cannot be sealed, or does not open again.
    pub fn seal(
        &self,
        pack: &Building,
        reservation: Reservation,
        info: BoxInfo,
        plain: &[u8],
    ) -> Result<Bytes> {
        let coded = if info.codec == Codec::Raw { plain } else { &self.coded };
        seal_coded(pack, reservation, info, coded, self.verify)
    }

    fn decodes_to(&mut self, plain: &[u8]) -> bool {
        let decoded =
            self.decompressor.decompress(Codec::Zstd, &mut self.coded, plain.len(), &mut self.decoded);
        decoded.is_ok() && self.decoded == plain
    }
}

/// Seals coded bytes for their place in a pack.
///
/// # Errors
/// If they cannot be sealed, or do not open again, of which `verify` lets one a pack be asked.
pub fn seal_coded(
    pack: &Building,
    reservation: Reservation,
    info: BoxInfo,
    coded: &[u8],
    verify: bool,
) -> Result<Bytes> {
    // A buffer of its own, of the size it needs: it is kept until the pack is uploaded.
    let mut sealed = Vec::with_capacity(coded.len() + TAG_BYTES);
    sealed.extend_from_slice(coded);
    pack.seal(reservation, info, &mut sealed)?;
    if verify && !pack.confirms(reservation, info, &sealed, coded) {
        return Err(did_not_survive());
    }
    Ok(sealed.into())
}

fn did_not_survive() -> Error {
    Error::failed("a segment did not survive compression and sealing: nothing of it was stored")
        .with_hint("This points to faulty memory: test it before you rely on this machine.")
}
