//! Chunk ids: 128 bits of keyed BLAKE3.
//!
//! Keyed, so that a store cannot test whether the repository holds a known file. See `docs/format.md` for why
//! 128 bits suffice. Data and metadata use different keys, so their ids never meet.

use std::fmt;

/// Bytes of an id.
pub const CHUNK_ID_BYTES: usize = 16;

/// What a chunk is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; CHUNK_ID_BYTES]);

impl ChunkId {
    /// No chunk's id: stands where a damaged segment's chunks were.
    pub const BLANK: Self = Self([0; CHUNK_ID_BYTES]);

    /// Wraps the stored bytes of an id.
    pub const fn from_bytes(bytes: [u8; CHUNK_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The stored bytes.
    pub const fn as_bytes(&self) -> &[u8; CHUNK_ID_BYTES] {
        &self.0
    }

    /// The first eight bytes as a big-endian number: orders as the id does, spread evenly.
    pub const fn prefix_u64(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

/// Computes ids of one kind of chunk.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct IdKey([u8; 32]);

impl IdKey {
    /// The key for one kind of chunk, as derived from the master key.
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The id of a chunk with these bytes.
    pub fn id(&self, chunk: &[u8]) -> ChunkId {
        let hash = blake3::keyed_hash(&self.0, chunk);
        let mut id = [0; CHUNK_ID_BYTES];
        id.copy_from_slice(&hash.as_bytes()[..CHUNK_ID_BYTES]);
        ChunkId(id)
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(…)")
    }
}
