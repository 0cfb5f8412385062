//! Contents: what the bytes of a file, or the nodes of a directory, are made of.
//!
//! A small content names its chunks; a large one names lists of chunks, lists of lists, and so on, so that changing
//! one chunk of a file with a million of them changes one small list a level. See `docs/format.md`, "Content".

use super::codec::{Decoder, Malformed, put_varint};
use crate::chunk::ChunkId;
use crate::chunk::cutter::CHUNK_BYTES_MAX;

/// Levels a content may have. With 32 entries a list, 8 levels hold 2⁴⁰ chunks.
pub const LEVEL_MAX: u8 = 8;
/// Entries that stay inline in an entry or at the top of a content.
pub const INLINE_MAX: usize = 32;
/// Entries after which a list ends at the latest.
pub const LIST_MAX: usize = 256;
/// A list ends after an id whose last byte has none of these bits: one in 32.
const LIST_END_MASK: u8 = 0x1f;

/// One run of a content's bytes: a chunk, a list, or a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Plain bytes covered; never 0.
    pub length: u64,
    /// The chunk (level 0) or list (above); `None` is a hole of zero bytes.
    pub id: Option<ChunkId>,
}

/// What a file's bytes are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Content {
    /// 0: the extents are chunks and holes; above: lists of the level below.
    pub level: u8,
    /// In order, without gaps.
    pub extents: Vec<Extent>,
}

impl Content {
    /// A content of chunks and holes.
    pub const fn flat(extents: Vec<Extent>) -> Self {
        Self { level: 0, extents }
    }

    /// Bytes covered in all.
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.level);
        put_varint(out, self.extents.len() as u64);
        for extent in &self.extents {
            put_varint(out, extent.length << 1 | u64::from(extent.id.is_none()));
            if let Some(id) = extent.id {
                out.extend_from_slice(id.as_bytes());
            }
        }
    }

    /// Reads the stored form from the front of `decoder`.
    ///
    /// # Errors
    /// [`Malformed`] if a rule of the format is broken.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let level = decoder.u8()?;
        if level > LEVEL_MAX {
            return Err(decoder.malformed("content level over 8"));
        }
        let count = decoder.count(1)?;
        let mut extents = Vec::with_capacity(count);
        let mut total = 0_u64;
        for _ in 0..count {
            let extent = Self::decode_extent(decoder, level)?;
            total = total
                .checked_add(extent.length)
                .filter(|total| *total <= i64::MAX as u64)
                .ok_or_else(|| decoder.malformed("content over 2⁶³ bytes"))?;
            extents.push(extent);
        }
        Ok(Self { level, extents })
    }

    fn decode_extent(decoder: &mut Decoder<'_>, level: u8) -> Result<Extent, Malformed> {
        let code = decoder.varint()?;
        let (length, hole) = (code >> 1, code & 1 == 1);
        if length == 0 {
            return Err(decoder.malformed("extent of no bytes"));
        }
        if !hole && level == 0 && length > CHUNK_BYTES_MAX as u64 {
            return Err(decoder.malformed("chunk over 8 MiB"));
        }
        if hole && level > 0 {
            return Err(decoder.malformed("hole above level 0"));
        }
        let id = if hole { None } else { Some(ChunkId::from_bytes(decoder.array()?)) };
        Ok(Extent { length, id })
    }

    /// Reads a list: a content that fills the whole chunk.
    ///
    /// # Errors
    /// [`Malformed`] if a rule of the format is broken or bytes trail.
    pub fn decode_list(chunk: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(chunk);
        let content = Self::decode(&mut decoder)?;
        decoder.finish()?;
        Ok(content)
    }
}

/// Builds a content from extents as they come, closing lists on the way, so that memory does not grow with the file.
///
/// `store` is given each finished list's bytes and returns its id.
#[derive(Debug, Default)]
pub struct ContentBuilder {
    levels: Vec<Vec<Extent>>,
}

impl ContentBuilder {
    /// A builder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the next extent. Adjacent holes become one.
    pub fn push<E>(
        &mut self,
        extent: Extent,
        store: &mut impl FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        if extent.id.is_none()
            && let Some(Extent { length, id: None }) = self.levels[0].last_mut()
        {
            *length += extent.length;
            return Ok(());
        }
        self.push_at(0, extent, store)
    }

    /// The content of all extents pushed.
    pub fn finish<E>(mut self, store: &mut impl FnMut(Vec<u8>) -> Result<ChunkId, E>) -> Result<Content, E> {
        let mut level = 0;
        while level + 1 < self.levels.len() || self.levels.get(level).is_some_and(|l| l.len() > INLINE_MAX) {
            self.close(level, store)?;
            level += 1;
        }
        let extents = self.levels.pop().unwrap_or_default();
        Ok(Content { level: level as u8, extents })
    }

    fn push_at<E>(
        &mut self,
        level: usize,
        extent: Extent,
        store: &mut impl FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        let list = &mut self.levels[level];
        list.push(extent);
        // Below the inline limit nothing is closed, so that a small content never has a list.
        let grown = self.levels.len() > level + 1 || self.levels[level].len() > INLINE_MAX;
        let ends = extent.id.is_some_and(|id| id.as_bytes()[15] & LIST_END_MASK == 0);
        if grown && (ends || self.levels[level].len() >= LIST_MAX) {
            self.close(level, store)?;
        }
        Ok(())
    }

    /// Stores the open list of `level` and names it one level up.
    fn close<E>(
        &mut self,
        level: usize,
        store: &mut impl FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        let extents = std::mem::take(&mut self.levels[level]);
        if self.levels.len() == level + 1 {
            self.levels.push(Vec::new());
        }
        if extents.is_empty() {
            return Ok(());
        }
        let list = Content { level: level as u8, extents };
        let mut bytes = Vec::with_capacity(list.extents.len() * 19 + 4);
        list.encode(&mut bytes);
        let id = store(bytes)?;
        self.push_at(level + 1, Extent { length: list.bytes(), id: Some(id) }, store)
    }
}
