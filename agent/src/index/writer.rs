//! Writes a table file front to back, with a fixed number of buffers whatever its size.
//!
//! What it keeps in memory beside them is 8 bytes for each 4 KiB block (checksums) and 4 for each segment (the
//! chains of entries). The header is written last: a file without it is no table.
//!
//! Counts are announced; a source that then delivers other entries than its own packs promise is
//! [`MergeError::Damaged`].

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::layout::{
    BLOCK_BYTES, Counts, Entry, Header, Layout, NONE, PackRecord, Part, SUM_BYTES, SegmentRecord, block_sum,
};
use super::lines::{Line, line_of, lines_for};
use super::merge::MergeError;

/// A multiple of the block.
const BUFFER_BYTES: usize = 64 * BLOCK_BYTES;

/// Writes the parts of a table in the order of the methods below.
pub(super) struct TableWriter<'f> {
    file: &'f File,
    counts: Counts,
    layout: Layout,
    lines: PartWriter<'f>,
    entries: PartWriter<'f>,
    line: Line,
    line_number: u32,
    next_entry: u32,
    /// The last entry so far of each segment.
    last_entries: Vec<u32>,
    sums: Vec<u8>,
}

impl<'f> TableWriter<'f> {
    /// A writer of a table of these counts (`lines` is decided here) to an empty file.
    pub(super) fn new(file: &'f File, counts: Counts) -> Self {
        let counts = Counts { lines: lines_for(counts.entries), ..counts };
        let layout = Layout::of(&counts);
        Self {
            file,
            counts,
            layout,
            lines: PartWriter::new(file, layout.lines),
            entries: PartWriter::new(file, layout.entries),
            line: Line::starting_at(0),
            line_number: 0,
            next_entry: 0,
            last_entries: vec![NONE; counts.segments as usize],
            sums: Vec::with_capacity(layout.sums.bytes as usize),
        }
    }

    /// Writes the next entry, in order of ids; [`Entry::previous`] is decided here.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), MergeError> {
        let number = line_of(entry.id, self.counts.lines).0;
        self.go_to_line(number)?;
        self.line.insert(entry.id);
        let last = self.last_entries.get_mut(entry.segment as usize).ok_or(MergeError::Damaged)?;
        self.entries.put(&Entry { previous: *last, ..entry }.to_bytes())?;
        *last = self.next_entry;
        self.next_entry += 1;
        Ok(())
    }

    /// Ends the entries.
    pub(super) fn finish_entries(&mut self) -> Result<(), MergeError> {
        self.go_to_line(self.counts.lines)?;
        self.sums.append(&mut self.lines.finish()?);
        self.sums.append(&mut self.entries.finish()?);
        Ok(())
    }

    /// Writes all segments; [`SegmentRecord::last_entry`] is decided here.
    pub(super) fn segments(
        &mut self,
        segments: impl Iterator<Item = Result<SegmentRecord, MergeError>>,
    ) -> Result<(), MergeError> {
        let mut part = PartWriter::new(self.file, self.layout.segments);
        for (segment, last_entry) in segments.zip(&self.last_entries) {
            part.put(&SegmentRecord { last_entry: *last_entry, ..segment? }.to_bytes())?;
        }
        self.sums.append(&mut part.finish()?);
        Ok(())
    }

    /// Writes all packs, sorted by id.
    pub(super) fn packs(
        &mut self,
        packs: impl Iterator<Item = Result<PackRecord, MergeError>>,
    ) -> Result<(), MergeError> {
        let mut part = PartWriter::new(self.file, self.layout.packs);
        for pack in packs {
            part.put(&pack?.to_bytes())?;
        }
        self.sums.append(&mut part.finish()?);
        Ok(())
    }

    /// Writes the list of shards, the checksums and the header.
    pub(super) fn finish(mut self, shards: &[u8]) -> Result<Header, MergeError> {
        let mut part = PartWriter::new(self.file, self.layout.shards);
        part.put(shards)?;
        self.sums.append(&mut part.finish()?);
        if self.sums.len() as u64 != self.layout.sums.bytes {
            return Err(MergeError::Damaged);
        }
        self.file.write_all_at(&self.sums, self.layout.sums.at)?;
        let header = Header { counts: self.counts, sums_hash: *blake3::hash(&self.sums).as_bytes() };
        self.file.write_all_at(&header.to_block(), 0)?;
        Ok(header)
    }

    /// Ends lines until the one of this number is current.
    fn go_to_line(&mut self, number: u32) -> Result<(), MergeError> {
        if number < self.line_number {
            return Err(MergeError::Damaged);
        }
        while self.line_number < number {
            self.lines.put(self.line.as_bytes())?;
            self.line = Line::starting_at(self.next_entry);
            self.line_number += 1;
        }
        Ok(())
    }
}

/// Writes one part and sums its blocks.
struct PartWriter<'f> {
    file: &'f File,
    next: u64,
    part: Part,
    buffer: Vec<u8>,
    sums: Vec<u8>,
}

impl<'f> PartWriter<'f> {
    fn new(file: &'f File, part: Part) -> Self {
        let blocks = (part.padded_end() - part.at) / BLOCK_BYTES as u64;
        Self {
            file,
            next: part.at,
            part,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            sums: Vec::with_capacity(blocks as usize * SUM_BYTES),
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), MergeError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MergeError> {
        if self.next + self.buffer.len() as u64 > self.part.padded_end() {
            return Err(MergeError::Damaged);
        }
        self.file.write_all_at(&self.buffer, self.next)?;
        self.next += self.buffer.len() as u64;
        self.buffer.chunks(BLOCK_BYTES).for_each(|block| self.sums.extend_from_slice(&block_sum(block)));
        self.buffer.clear();
        Ok(())
    }

    /// Pads the last block, and returns the blocks' checksums.
    fn finish(&mut self) -> Result<Vec<u8>, MergeError> {
        if self.next + self.buffer.len() as u64 != self.part.at + self.part.bytes {
            return Err(MergeError::Damaged);
        }
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK_BYTES), 0);
        self.flush()?;
        Ok(std::mem::take(&mut self.sums))
    }
}
