//! What each worker thread writes chunks to: hash, claim, collect into segments.

use super::packer::{Ingest, METADATA_SEGMENT_BYTES};
use crate::chunk::ChunkId;
use crate::chunk::cutter::CHUNK_BYTES_MAX;
use crate::events::Counters;
use crate::pack::directory::{DirectoryChunk, PackKind};
use crate::pack::segment::{OpenSegment, SegmentCoder};
use crate::{Error, Result};

/// One thread's way into an [`Ingest`].
pub struct ChunkSink<'a> {
    ingest: &'a Ingest,
    coder: SegmentCoder,
    data: OpenSegment,
    metadata: OpenSegment,
    /// Chunks that were new.
    pub chunks_added: u64,
    /// Their bytes.
    pub bytes_added: u64,
}

impl<'a> ChunkSink<'a> {
    /// A sink with empty segments.
    ///
    /// # Errors
    /// If zstd has no memory.
    pub fn new(ingest: &'a Ingest) -> Result<Self> {
        let options = ingest.options();
        Ok(Self {
            ingest,
            coder: SegmentCoder::new(options.level, options.verify)?,
            data: OpenSegment::default(),
            metadata: OpenSegment::default(),
            chunks_added: 0,
            bytes_added: 0,
        })
    }

    /// Stores a chunk of file content, unless it is known, and returns its id.
    ///
    /// # Errors
    /// As [`Ingest::store_segment`].
    pub fn data(&mut self, chunk: &[u8]) -> Result<ChunkId> {
        let id = self.ingest.repository().keys().data_id.id(chunk);
        self.put(PackKind::Data, id, chunk)?;
        Ok(id)
    }

    /// Stores the chunks of a block of a large file, and gives each one's id to `each`. The block comes back empty.
    ///
    /// A block that is all new becomes a segment as it is, without being copied.
    ///
    /// # Errors
    /// As [`Ingest::store_segment`].
    pub fn block(
        &mut self,
        block: &mut Vec<u8>,
        lengths: &[u32],
        mut each: impl FnMut(ChunkId, u32),
    ) -> Result<()> {
        let mut chunks = Vec::with_capacity(lengths.len());
        let mut rest = block.as_slice();
        for length in lengths {
            let (chunk, tail) = rest.split_at((*length as usize).min(rest.len()));
            rest = tail;
            let id = self.ingest.repository().keys().data_id.id(chunk);
            each(id, *length);
            chunks.push((DirectoryChunk { id, length: *length }, self.claims(&id, chunk.len())?));
        }
        let target = self.ingest.repository().config().segment_bytes;
        let is_new = |(_, new): &(DirectoryChunk, bool)| *new;
        if block.len() >= target / 2 && chunks.iter().all(is_new) && !self.ingest.options().dry_run {
            let mut segment = OpenSegment {
                plain: std::mem::take(block),
                chunks: chunks.into_iter().map(|(chunk, _)| chunk).collect(),
            };
            let stored = self.ingest.store_segment(PackKind::Data, &mut segment, &mut self.coder);
            *block = segment.plain;
            return stored;
        }
        let mut rest = block.as_slice();
        for (chunk, new) in chunks {
            let (bytes, tail) = rest.split_at((chunk.length as usize).min(rest.len()));
            rest = tail;
            if new {
                self.append(PackKind::Data, chunk.id, bytes)?;
            }
        }
        block.clear();
        Ok(())
    }

    /// Stores a tree node or list, unless it is known, and returns its id.
    ///
    /// # Errors
    /// As [`Ingest::store_segment`].
    pub fn metadata(&mut self, chunk: &[u8]) -> Result<ChunkId> {
        let id = self.ingest.repository().keys().metadata_id.id(chunk);
        self.put(PackKind::Metadata, id, chunk)?;
        Ok(id)
    }

    /// Stores the chunks that still wait for their segments to fill.
    ///
    /// # Errors
    /// As [`Ingest::store_segment`].
    pub fn flush(&mut self) -> Result<()> {
        self.ingest.store_segment(PackKind::Data, &mut self.data, &mut self.coder)?;
        self.ingest.store_segment(PackKind::Metadata, &mut self.metadata, &mut self.coder)
    }

    /// Where this sink leads.
    pub const fn ingest(&self) -> &'a Ingest {
        self.ingest
    }

    fn put(&mut self, kind: PackKind, id: ChunkId, chunk: &[u8]) -> Result<()> {
        if self.claims(&id, chunk.len())? { self.append(kind, id, chunk) } else { Ok(()) }
    }

    /// Whether a chunk is new, and for us to store.
    fn claims(&mut self, id: &ChunkId, bytes: usize) -> Result<bool> {
        if !self.ingest.claims.claim(id, &self.ingest.index) {
            return Ok(false);
        }
        if self.ingest.index.is_damaged() {
            // This chunk is stored once more at worst; without this all that the damaged part knew would be.
            self.ingest.repository().mend_index(&self.ingest.index)?;
        }
        if bytes > CHUNK_BYTES_MAX {
            // Whoever cuts keeps far below this; stored it could not be read again.
            return Err(Error::failed(format_args!("a chunk of {bytes} bytes is over the format's limit")));
        }
        self.chunks_added += 1;
        self.bytes_added += bytes as u64;
        Counters::add(&self.ingest.context.counters.bytes_added, bytes as u64);
        Ok(true)
    }

    fn append(&mut self, kind: PackKind, id: ChunkId, chunk: &[u8]) -> Result<()> {
        if self.ingest.options().dry_run {
            return Ok(());
        }
        let (segment, target) = match kind {
            PackKind::Data => (&mut self.data, self.ingest.repository().config().segment_bytes),
            PackKind::Metadata => (&mut self.metadata, METADATA_SEGMENT_BYTES),
        };
        if segment.is_full_for(chunk.len(), target) {
            self.ingest.store_segment(kind, segment, &mut self.coder)?;
        }
        segment.push(id, chunk);
        Ok(())
    }
}
