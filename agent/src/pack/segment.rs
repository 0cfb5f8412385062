//! Chunks on their way into a segment, and the coder that compresses, seals and verifies it.

use bytes::Bytes;

use super::building::{Building, Reservation};
use super::directory::DirectoryChunk;
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

/// Compresses, seals and verifies segments; one for each thread.
pub struct SegmentCoder {
    compressor: Compressor,
    decompressor: Decompressor,
    verify: bool,
    opened: Vec<u8>,
    decoded: Vec<u8>,
}

impl SegmentCoder {
    /// A coder at `level`; with `verify`, every sealed segment is opened, decoded and compared before it is handed over.
    ///
    /// # Errors
    /// If zstd has no memory.
    pub fn new(level: Level, verify: bool) -> Result<Self> {
        Ok(Self {
            compressor: Compressor::new(level)?,
            decompressor: Decompressor::new()?,
            verify,
            opened: Vec::new(),
            decoded: Vec::new(),
        })
    }

    /// Compresses a segment.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn compress(&mut self, plain: &[u8]) -> Result<(BoxInfo, Vec<u8>)> {
        let mut coded = Vec::new();
        let codec = self.compressor.compress(plain, &mut coded)?;
        Ok((BoxInfo { role: Role::Segment, codec, plain_bytes: plain.len() as u32 }, coded))
    }

    /// Seals a compressed segment for its place in a pack, and verifies it.
    ///
    /// # Errors
    /// If what was sealed does not decode to `plain`: a fault of memory or compressor, caught before anything is stored.
    pub fn seal(
        &mut self,
        pack: &Building,
        reservation: Reservation,
        info: BoxInfo,
        mut coded: Vec<u8>,
        plain: &[u8],
    ) -> Result<Bytes> {
        // The compressor wants room for the worst case; what is kept for the upload should take only what it needs.
        coded.reserve_exact(TAG_BYTES);
        coded.shrink_to(coded.len() + TAG_BYTES);
        pack.seal(reservation, info, &mut coded)?;
        if self.verify {
            self.opened.clear();
            self.opened.extend_from_slice(&coded);
            let same = pack
                .open(reservation, info, &mut self.opened)
                .and_then(|()| {
                    self.decompressor.decompress(info.codec, &self.opened, plain.len(), &mut self.decoded)
                })
                .is_ok_and(|()| self.decoded == plain);
            if !same {
                return Err(Error::failed(
                    "a segment did not survive compression and sealing: nothing of it was stored",
                )
                .with_hint("This points to faulty memory: test it before you rely on this machine."));
            }
        }
        Ok(coded.into())
    }
}
