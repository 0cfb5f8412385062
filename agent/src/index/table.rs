//! One immutable table: where each chunk of some shards lies.
//!
//! Entries are sorted by id, found by way of [`super::lines`], verified by [`super::blocks`]. A table never
//! answers from damaged bytes and never panics on them; references inside the file are checked when they are
//! followed, although a file whose checksums fit should have none that lead astray.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_providers::Sha256;

use super::Location;
use super::blocks::{Blocks, Damaged, Resident};
use super::covered::{ShardRecord, decode_records};
use super::layout::{
    BLOCK_BYTES, Counts, ENTRY_BYTES, Entry, Layout, NONE, PACK_BYTES, PackRecord, SEGMENT_BYTES,
    SegmentRecord,
};
use super::lines::{LINE_BYTES, admits, line_of, start_of};
use crate::chunk::ChunkId;

/// A mapped table.
pub(super) struct Table {
    blocks: Blocks,
    counts: Counts,
    layout: Layout,
    shards: Vec<ShardRecord>,
    /// The file's name, unless it has none.
    path: Option<PathBuf>,
}

impl Table {
    /// Maps a table; `None` if the file is foreign, damaged, torn or of another version.
    pub(super) fn open(
        file: File,
        path: Option<PathBuf>,
        resident: &Arc<Resident>,
    ) -> std::io::Result<Option<Self>> {
        let Some((blocks, header)) = Blocks::map(file, resident)? else { return Ok(None) };
        let counts = header.counts;
        let layout = Layout::of(&counts);
        let encoded = blocks.bytes(layout.shards.at, layout.shards.bytes as usize);
        let Ok(shards) = encoded.and_then(|bytes| decode_records(bytes, counts.packs).map_err(|_| Damaged))
        else {
            return Ok(None);
        };
        Ok(Some(Self { blocks, counts, layout, shards, path }))
    }

    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn shards(&self) -> &[ShardRecord] {
        &self.shards
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// A place of the chunk.
    #[inline]
    pub(super) fn find(&self, id: &ChunkId) -> Result<Option<Location>, Damaged> {
        let first = self.run(id, |_, entries| entries.first().map(Entry::from_bytes))?;
        first.flatten().map(|entry| self.locate(&entry)).transpose()
    }

    /// Whether the chunk has a place.
    #[inline]
    pub(super) fn contains(&self, id: &ChunkId) -> Result<bool, Damaged> {
        Ok(self.run(id, |_, entries| !entries.is_empty())?.unwrap_or(false))
    }

    /// Appends all places of the chunk.
    pub(super) fn find_all(&self, id: &ChunkId, out: &mut Vec<Location>) -> Result<(), Damaged> {
        let entries = self.run(id, |_, entries| entries.iter().map(Entry::from_bytes).collect::<Vec<_>>())?;
        for entry in entries.iter().flatten() {
            out.push(self.locate(entry)?);
        }
        Ok(())
    }

    /// The numbers of the entries of a chunk: they follow each other. Empty if there are none.
    pub(super) fn numbers_of(&self, id: &ChunkId) -> Result<Range<u32>, Damaged> {
        let numbers = self.run(id, |first, entries| first..first + entries.len() as u32)?;
        Ok(numbers.unwrap_or(0..0))
    }

    /// Calls `use_entries` with the number of the first entry of one id and all its entries, unless the filter shows that there are none.
    #[inline]
    fn run<R>(
        &self,
        id: &ChunkId,
        use_entries: impl FnOnce(u32, &[[u8; ENTRY_BYTES]]) -> R,
    ) -> Result<Option<R>, Damaged> {
        let id = u128::from_be_bytes(*id.as_bytes());
        let (number, fraction) = line_of(id, self.counts.lines);
        let line = self.line(number)?;
        if !admits(line, id) {
            return Ok(None);
        }
        let start = start_of(line);
        let end = match number + 1 {
            next if next < self.counts.lines => start_of(self.line(next)?),
            _ => self.counts.entries,
        };
        if start > end || end > self.counts.entries {
            return Err(self.blocks.damage());
        }
        let count = (end - start) as usize;
        let at = self.layout.entries.at + u64::from(start) * ENTRY_BYTES as u64;
        let guess = ((u128::from(fraction) * count as u128) >> 64) as usize;
        let found = self.blocks.with_bytes(at, count * ENTRY_BYTES, |bytes| {
            let entries: &[[u8; ENTRY_BYTES]] = bytes.as_chunks().0;
            let run = equal_run(entries, id, guess);
            use_entries(start + run.start as u32, entries.get(run).unwrap_or_default())
        });
        found.map(Some)
    }

    #[inline]
    fn line(&self, number: u32) -> Result<&[u8; LINE_BYTES], Damaged> {
        self.blocks.array(self.layout.lines.at + u64::from(number) * LINE_BYTES as u64)
    }

    /// The entry of a number.
    pub(super) fn entry(&self, number: u32) -> Result<Entry, Damaged> {
        if number >= self.counts.entries {
            return Err(self.blocks.damage());
        }
        let at = self.layout.entries.at + u64::from(number) * ENTRY_BYTES as u64;
        let entry =
            self.blocks.with_bytes(at, ENTRY_BYTES, |bytes| bytes.first_chunk().map(Entry::from_bytes))?;
        entry.ok_or(Damaged)
    }

    /// The entries of one block, the `number`-th of the entries, in order of ids.
    pub(super) fn entry_block(&self, number: u32) -> Result<&[[u8; ENTRY_BYTES]], Damaged> {
        const ENTRIES: usize = BLOCK_BYTES / ENTRY_BYTES;
        let done = u64::from(number) * ENTRIES as u64;
        let count = u64::from(self.counts.entries).saturating_sub(done).min(ENTRIES as u64) as usize;
        let at = self.layout.entries.at + u64::from(number) * BLOCK_BYTES as u64;
        Ok(self.blocks.bytes(at, count * ENTRY_BYTES)?.as_chunks().0)
    }

    /// Gives back the memory of entry blocks that a scan has passed.
    pub(super) fn release_entry_blocks(&self, numbers: Range<u32>) {
        let first = self.layout.entries.at / BLOCK_BYTES as u64;
        self.blocks.release(first + u64::from(numbers.start)..first + u64::from(numbers.end));
    }

    pub(super) fn segment(&self, ordinal: u32) -> Result<SegmentRecord, Damaged> {
        if ordinal >= self.counts.segments {
            return Err(self.blocks.damage());
        }
        let at = self.layout.segments.at + u64::from(ordinal) * SEGMENT_BYTES as u64;
        SegmentRecord::from_bytes(self.blocks.array(at)?).ok_or_else(|| self.blocks.damage())
    }

    pub(super) fn pack(&self, ordinal: u32) -> Result<PackRecord, Damaged> {
        if ordinal >= self.counts.packs {
            return Err(self.blocks.damage());
        }
        let at = self.layout.packs.at + u64::from(ordinal) * PACK_BYTES as u64;
        PackRecord::from_bytes(self.blocks.array(at)?).ok_or_else(|| self.blocks.damage())
    }

    /// The ordinal of a pack; packs are sorted by id.
    pub(super) fn pack_ordinal(&self, id: &Sha256) -> Result<Option<u32>, Damaged> {
        let (mut low, mut high) = (0, self.counts.packs);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.pack(middle)?.id.cmp(id) {
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// The chunks of one segment in the order in which they lie in it, each with its entry's number.
    pub(super) fn chunks_of(&self, segment: u32, out: &mut Vec<(u32, Entry)>) -> Result<(), Damaged> {
        out.clear();
        let mut next = self.segment(segment)?.last_entry;
        while next != NONE {
            let entry = self.entry(next)?;
            // The chain leads to smaller numbers only, so it ends.
            if entry.segment != segment || (entry.previous >= next && entry.previous != NONE) {
                return Err(self.blocks.damage());
            }
            out.push((next, entry));
            next = entry.previous;
        }
        out.sort_unstable_by_key(|(_, entry)| entry.offset);
        Ok(())
    }

    /// What an entry refers to.
    #[inline]
    pub(super) fn locate(&self, entry: &Entry) -> Result<Location, Damaged> {
        let segment = self.segment(entry.segment)?;
        let pack = self.pack(segment.pack)?;
        let end = u64::from(entry.offset) + u64::from(entry.length);
        if end > u64::from(segment.plain_bytes) {
            return Err(self.blocks.damage());
        }
        Ok(Location {
            pack: pack.id,
            pack_salt: pack.salt,
            kind: pack.kind,
            segment: segment.into(),
            offset: entry.offset,
            length: entry.length,
        })
    }
}

/// The entries equal to `id`: looked for around `guess`, in steps that double, then by halves.
///
/// Ids being uniform, the guess is off by a few entries; whatever the ids, the steps are logarithmic.
#[inline]
fn equal_run(entries: &[[u8; ENTRY_BYTES]], id: u128, guess: usize) -> Range<usize> {
    let is_below = |at: usize| entries.get(at).is_some_and(|entry| Entry::id_of(entry) < id);
    // Invariant: all before `low` are below the id, none from `high` on is.
    let (mut low, mut high, mut step) = (0, entries.len(), 1);
    if is_below(guess) {
        low = guess + 1;
        while low < high {
            let probe = (low + step - 1).min(high - 1);
            if is_below(probe) {
                low = probe + 1;
                step *= 2;
            } else {
                high = probe;
                break;
            }
        }
    } else {
        high = guess.min(high);
        while low < high {
            let probe = high.saturating_sub(step).max(low);
            if is_below(probe) {
                low = probe + 1;
                break;
            }
            high = probe;
            step *= 2;
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_below(middle) { low = middle + 1 } else { high = middle }
    }
    let rest = &entries[low.min(entries.len())..];
    let equal = rest.iter().take_while(|entry| Entry::id_of(entry) == id).count();
    low..low + equal
}
