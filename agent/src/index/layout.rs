//! The bytes of a table file, and nothing but the bytes.
//!
//! ```text
//! header block ‖ lines ‖ entries ‖ segments ‖ packs ‖ shards ‖ sums
//! ```
//! All integers are little-endian; ids are kept as they are, so that they sort as numbers in big-endian. Every
//! part begins at a multiple of [`BLOCK_BYTES`] and is padded with zeros. `sums` holds, for each block between
//! the header and itself, the first 8 bytes of the block's BLAKE3; its own BLAKE3 stands in the header, and the
//! header's at the header's end. So every byte is behind a checksum, see [`super::blocks`].
//!
//! The file is a cache: any change to it is a new [`VERSION`], and older files are thrown away.

use lifeboat_providers::Sha256;

use crate::chunk::ChunkId;
use crate::pack::directory::{Codec, PackKind};

/// The unit of verification, and the usual page.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Bytes of a block's checksum.
pub(super) const SUM_BYTES: usize = 8;

pub(super) const ENTRY_BYTES: usize = 32;
pub(super) const SEGMENT_BYTES: usize = 32;
pub(super) const PACK_BYTES: usize = 128;

/// No entry: the end of a segment's chain, and therefore not a possible number of an entry.
pub(super) const NONE: u32 = u32::MAX;

/// The most entries of one table.
pub(super) const ENTRIES_MAX: u64 = NONE as u64 - 1;

const MAGIC: [u8; 8] = *b"LBINDEXT";
const VERSION: u32 = 1;
const HASH_BYTES: usize = 32;
const HEADER_HASH_AT: usize = BLOCK_BYTES - HASH_BYTES;

/// The checksum of a block.
pub(super) fn block_sum(block: &[u8]) -> [u8; SUM_BYTES] {
    first(blake3::hash(block).as_bytes())
}

/// How many things a table holds: determines the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) entries: u32,
    pub(super) lines: u32,
    pub(super) segments: u32,
    pub(super) packs: u32,
    /// Bytes of the encoded list of shards.
    pub(super) shards_bytes: u64,
}

/// A run of bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// Where each part lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) lines: Part,
    pub(super) entries: Part,
    pub(super) segments: Part,
    pub(super) packs: Part,
    pub(super) shards: Part,
    pub(super) sums: Part,
}

impl Layout {
    pub(super) fn of(counts: &Counts) -> Self {
        let mut next = BLOCK_BYTES as u64;
        let mut part = |bytes: u64| {
            let part = Part { at: next, bytes };
            next = part.padded_end();
            part
        };
        let lines = part(u64::from(counts.lines) * super::lines::LINE_BYTES as u64);
        let entries = part(u64::from(counts.entries) * ENTRY_BYTES as u64);
        let segments = part(u64::from(counts.segments) * SEGMENT_BYTES as u64);
        let packs = part(u64::from(counts.packs) * PACK_BYTES as u64);
        let shards = part(counts.shards_bytes);
        let blocks = next / BLOCK_BYTES as u64 - 1;
        let sums = Part { at: next, bytes: blocks * SUM_BYTES as u64 };
        Self { lines, entries, segments, packs, shards, sums }
    }

    pub(super) const fn file_bytes(&self) -> u64 {
        self.sums.at + self.sums.bytes
    }
}

impl Part {
    /// Where the part's padding ends.
    pub(super) const fn padded_end(&self) -> u64 {
        (self.at + self.bytes).next_multiple_of(BLOCK_BYTES as u64)
    }
}

/// The first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) counts: Counts,
    /// BLAKE3 of the sums.
    pub(super) sums_hash: [u8; HASH_BYTES],
}

impl Header {
    pub(super) fn to_block(self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let Counts { entries, lines, segments, packs, shards_bytes } = self.counts;
        block[..8].copy_from_slice(&MAGIC);
        for (i, word) in [VERSION, entries, lines, segments, packs].into_iter().enumerate() {
            block[8 + 4 * i..12 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        block[28..36].copy_from_slice(&shards_bytes.to_le_bytes());
        block[36..68].copy_from_slice(&self.sums_hash);
        let hash = blake3::hash(&block[..HEADER_HASH_AT]);
        block[HEADER_HASH_AT..].copy_from_slice(hash.as_bytes());
        block
    }

    /// The header, unless it is foreign, damaged or of another version.
    pub(super) fn from_block(block: &[u8]) -> Option<Self> {
        let (head, hash) = block.get(..BLOCK_BYTES)?.split_at(HEADER_HASH_AT);
        if head[..8] != MAGIC || u32_at(head, 8) != VERSION || blake3::hash(head).as_bytes()[..] != *hash {
            return None;
        }
        let counts = Counts {
            entries: u32_at(head, 12),
            lines: u32_at(head, 16),
            segments: u32_at(head, 20),
            packs: u32_at(head, 24),
            shards_bytes: u64::from_le_bytes(first(&head[28..])),
        };
        let sane =
            u64::from(counts.entries) <= ENTRIES_MAX && counts.lines > 0 && counts.shards_bytes < 1 << 40;
        sane.then(|| Self { counts, sums_hash: first(&head[36..]) })
    }
}

/// One place of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The chunk's id, big-endian.
    pub(super) id: u128,
    /// The segment's ordinal in the table.
    pub(super) segment: u32,
    /// The entry before this one that lies in the same segment, or [`NONE`]: leads from a pack to its chunks.
    pub(super) previous: u32,
    /// Where the chunk begins in the segment's plain bytes.
    pub(super) offset: u32,
    /// Plain bytes.
    pub(super) length: u32,
}

impl Entry {
    pub(super) fn chunk_id(&self) -> ChunkId {
        ChunkId::from_bytes(self.id.to_be_bytes())
    }

    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.segment.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.previous.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.offset.to_le_bytes());
        bytes[28..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    #[inline]
    pub(super) fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        Self {
            id: Self::id_of(bytes),
            segment: u32_at(bytes, 16),
            previous: u32_at(bytes, 20),
            offset: u32_at(bytes, 24),
            length: u32_at(bytes, 28),
        }
    }

    #[inline]
    pub(super) fn id_of(bytes: &[u8; ENTRY_BYTES]) -> u128 {
        u128::from_be_bytes(first(bytes))
    }
}

/// One segment of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRecord {
    /// Where its box begins in the pack.
    pub(super) offset: u64,
    pub(super) box_bytes: u32,
    pub(super) plain_bytes: u32,
    pub(super) number: u32,
    /// The pack's ordinal in the table.
    pub(super) pack: u32,
    /// The last entry that lies in it: where the chain of [`Entry::previous`] begins.
    pub(super) last_entry: u32,
    pub(super) codec: Codec,
}

impl SegmentRecord {
    pub(super) fn to_bytes(self) -> [u8; SEGMENT_BYTES] {
        let mut bytes = [0; SEGMENT_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        let words = [self.box_bytes, self.plain_bytes, self.number, self.pack, self.last_entry];
        for (i, word) in words.into_iter().enumerate() {
            bytes[8 + 4 * i..12 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        bytes[28] = self.codec.code();
        bytes
    }

    #[inline]
    pub(super) fn from_bytes(bytes: &[u8; SEGMENT_BYTES]) -> Option<Self> {
        Some(Self {
            offset: u64::from_le_bytes(first(bytes)),
            box_bytes: u32_at(bytes, 8),
            plain_bytes: u32_at(bytes, 12),
            number: u32_at(bytes, 16),
            pack: u32_at(bytes, 20),
            last_entry: u32_at(bytes, 24),
            codec: Codec::try_from(bytes[28]).ok()?,
        })
    }
}

/// One pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackRecord {
    pub(super) id: Sha256,
    pub(super) salt: [u8; 32],
    pub(super) stored_bytes: u64,
    pub(super) plain_bytes: u64,
    /// Its segments' ordinals are consecutive.
    pub(super) first_segment: u32,
    pub(super) segments: u32,
    pub(super) chunks: u32,
    pub(super) kind: PackKind,
}

impl PackRecord {
    pub(super) fn to_bytes(self) -> [u8; PACK_BYTES] {
        let mut bytes = [0; PACK_BYTES];
        bytes[..32].copy_from_slice(self.id.as_bytes());
        bytes[32..64].copy_from_slice(&self.salt);
        bytes[64..72].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.plain_bytes.to_le_bytes());
        for (i, word) in [self.first_segment, self.segments, self.chunks].into_iter().enumerate() {
            bytes[80 + 4 * i..84 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        bytes[92] = self.kind.code();
        bytes
    }

    #[inline]
    pub(super) fn from_bytes(bytes: &[u8; PACK_BYTES]) -> Option<Self> {
        Some(Self {
            id: Sha256::from_bytes(first(bytes)),
            salt: first(&bytes[32..]),
            stored_bytes: u64::from_le_bytes(first(&bytes[64..])),
            plain_bytes: u64::from_le_bytes(first(&bytes[72..])),
            first_segment: u32_at(bytes, 80),
            segments: u32_at(bytes, 84),
            chunks: u32_at(bytes, 88),
            kind: PackKind::try_from(bytes[92]).ok()?,
        })
    }
}

/// The first `N` bytes; all callers have at least as many.
#[inline]
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(first(&bytes[at..]))
}
