//! The directory at a pack's end: which chunks each segment holds. See `docs/format.md`, "Packs".
//!
//! Every limit of the format is checked when a directory is read *and* when it is written, so that nothing is
//! stored that could not be read again. Reading never panics and never reserves more than its input justifies.

use crate::chunk::ChunkId;
use crate::chunk::cutter::CHUNK_BYTES_MAX;
use crate::tree::codec::{Decoder, Malformed, put_varint};

/// Where the first segment's box begins: after the sealed header.
pub const SEGMENTS_OFFSET: u64 = 56;

/// The most plain bytes one segment may hold.
pub const SEGMENT_PLAIN_BYTES_MAX: u32 = 16 << 20;

/// The number of the directory's own box: segments' numbers are below it.
pub const DIRECTORY_NUMBER: u32 = u32::MAX;

/// Bytes by which a box is longer than what it seals.
const BOX_OVERHEAD_BYTES: u32 = 16;

/// An id and a one-byte length.
const CHUNK_BYTES_MIN: usize = 17;

/// Five one-byte fields and one chunk.
const SEGMENT_BYTES_MIN: usize = 5 + CHUNK_BYTES_MIN;

/// A stored code that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown code {0}")]
pub struct UnknownCode(pub u8);

/// How a payload's bytes were coded before they were sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// The plain bytes themselves.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// The stored code.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for Codec {
    type Error = UnknownCode;

    fn try_from(code: u8) -> Result<Self, UnknownCode> {
        match code {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            _ => Err(UnknownCode(code)),
        }
    }
}

/// What a pack's chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PackKind {
    /// Content of files.
    Data = 1,
    /// Tree nodes and lists.
    Metadata = 2,
}

impl PackKind {
    /// The stored code.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for PackKind {
    type Error = UnknownCode;

    fn try_from(code: u8) -> Result<Self, UnknownCode> {
        match code {
            1 => Ok(Self::Data),
            2 => Ok(Self::Metadata),
            _ => Err(UnknownCode(code)),
        }
    }
}

/// What a pack holds, segments in the order of their boxes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The segments, whose boxes lie back to back from [`SEGMENTS_OFFSET`].
    pub segments: Vec<Segment>,
}

/// One box of chunks that are compressed and sealed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The box's number: distinct within the pack, below [`DIRECTORY_NUMBER`], in any order.
    pub number: u32,
    /// Stored bytes of the box, tag included.
    pub box_bytes: u32,
    /// Bytes after decoding, at most [`SEGMENT_PLAIN_BYTES_MAX`].
    pub plain_bytes: u32,
    /// How the plain bytes were coded.
    pub codec: Codec,
    /// The chunks, one after the other in the plain bytes.
    pub chunks: Vec<DirectoryChunk>,
}

/// One chunk of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryChunk {
    /// What the chunk is known by.
    pub id: ChunkId,
    /// Plain bytes, never 0.
    pub length: u32,
}

impl Directory {
    /// Whether every segment was taken out: nothing reads the pack any more.
    pub fn is_blank(&self) -> bool {
        self.segments.iter().all(Segment::is_blank)
    }

    /// The stored form.
    ///
    /// # Errors
    /// [`Malformed`] if the directory breaks a limit of the format: no reader would accept it.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(self.encoded_bytes_max());
        self.encode_into(&mut out)?;
        Ok(out)
    }

    /// Appends the stored form to `out`.
    ///
    /// # Errors
    /// As [`Self::encode`]; `out` then ends in the middle of the directory.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        put_varint(out, self.segments.len() as u64);
        for segment in &self.segments {
            segment.check().map_err(|reason| Malformed { offset: out.len(), reason })?;
            put_varint(out, segment.number.into());
            put_varint(out, segment.box_bytes.into());
            put_varint(out, segment.plain_bytes.into());
            out.push(segment.codec.code());
            put_varint(out, segment.chunks.len() as u64);
            for chunk in &segment.chunks {
                out.extend_from_slice(chunk.id.as_bytes());
                put_varint(out, chunk.length.into());
            }
        }
        self.check_numbers().map_err(|reason| Malformed { offset: out.len(), reason })
    }

    /// Reads the stored form, which must end with `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are no directory or break a limit of the format.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let directory = Self::read(&mut decoder)?;
        decoder.finish()?;
        Ok(directory)
    }

    /// Reads the stored form from a structure that goes on after it.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn read(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let count = decoder.count(SEGMENT_BYTES_MIN)?;
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            segments.push(Segment::read(decoder)?);
        }
        let directory = Self { segments };
        directory.check_numbers().map_err(|reason| decoder.malformed(reason))?;
        Ok(directory)
    }

    /// Where each segment's box begins in the pack.
    pub fn segment_offsets(&self) -> impl Iterator<Item = u64> + '_ {
        self.segments.iter().scan(SEGMENTS_OFFSET, |next, segment| {
            let offset = *next;
            *next += u64::from(segment.box_bytes);
            Some(offset)
        })
    }

    /// Stored bytes of all segments' boxes.
    pub fn box_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.box_bytes)).sum()
    }

    /// Plain bytes of all chunks.
    pub fn plain_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.plain_bytes)).sum()
    }

    /// How many chunks the pack holds.
    pub fn chunk_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.chunks.len()).sum()
    }

    /// The encoded form is never longer than this: for reserving, and for deciding when a shard is full.
    pub fn encoded_bytes_max(&self) -> usize {
        const VARINT_U32_MAX: usize = 5;
        let segment = 4 * VARINT_U32_MAX + 1;
        let chunk = 16 + VARINT_U32_MAX;
        VARINT_U32_MAX + self.segments.len() * segment + self.chunk_count() * chunk
    }

    fn check_numbers(&self) -> Result<(), &'static str> {
        // A single writer counts up, so the usual case needs no sorting.
        if self.segments.is_sorted_by(|a, b| a.number < b.number) {
            return Ok(());
        }
        let mut numbers: Vec<u32> = self.segments.iter().map(|segment| segment.number).collect();
        numbers.sort_unstable();
        if numbers.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err("a segment number occurs twice") }
    }
}

impl Segment {
    /// Names no chunk any more, as the segment is damaged: ids of zeros take their place, which no chunk has.
    pub fn blank(&mut self) {
        let mut left = self.plain_bytes;
        self.chunks.clear();
        while left > 0 {
            let length = left.min(CHUNK_BYTES_MAX as u32);
            self.chunks.push(DirectoryChunk { id: ChunkId::BLANK, length });
            left -= length;
        }
    }

    /// Its chunks with their bytes, of the segment's plain bytes. Of plain bytes that are too short, the last chunks get too few.
    pub fn chunks_of<'a>(&'a self, plain: &'a [u8]) -> impl Iterator<Item = (&'a DirectoryChunk, &'a [u8])> {
        self.chunks.iter().scan(plain, |rest, chunk| {
            let (bytes, tail) = rest.split_at(rest.len().min(chunk.length as usize));
            *rest = tail;
            Some((chunk, bytes))
        })
    }

    /// Whether it names no chunk.
    pub fn is_blank(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.id == ChunkId::BLANK)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let number = decoder.varint_u32()?;
        let box_bytes = decoder.varint_u32()?;
        let plain_bytes = decoder.varint_u32()?;
        let codec = decoder.u8()?;
        let codec = Codec::try_from(codec).map_err(|_| decoder.malformed("unknown codec"))?;
        let count = decoder.count(CHUNK_BYTES_MIN)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            let id = ChunkId::from_bytes(decoder.array()?);
            chunks.push(DirectoryChunk { id, length: decoder.varint_u32()? });
        }
        let segment = Self { number, box_bytes, plain_bytes, codec, chunks };
        segment.check().map_err(|reason| decoder.malformed(reason))?;
        Ok(segment)
    }

    /// All that the format demands of one segment by itself.
    fn check(&self) -> Result<(), &'static str> {
        if self.number == DIRECTORY_NUMBER {
            return Err("segment number over the limit");
        }
        if self.plain_bytes > SEGMENT_PLAIN_BYTES_MAX {
            return Err("segment over 16 MiB");
        }
        if self.chunks.is_empty() {
            return Err("segment without chunks");
        }
        if self.chunks.iter().any(|chunk| chunk.length == 0) {
            return Err("empty chunk");
        }
        if self.chunks.iter().any(|chunk| chunk.length as usize > CHUNK_BYTES_MAX) {
            return Err("chunk over 8 MiB");
        }
        let sum: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        if sum != u64::from(self.plain_bytes) {
            return Err("chunks do not sum to their segment");
        }
        let box_fits = match self.codec {
            Codec::Raw => self.box_bytes == self.plain_bytes + BOX_OVERHEAD_BYTES,
            Codec::Zstd => {
                self.box_bytes > BOX_OVERHEAD_BYTES && self.box_bytes < self.plain_bytes + BOX_OVERHEAD_BYTES
            }
        };
        if box_fits { Ok(()) } else { Err("box length does not fit its segment") }
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
