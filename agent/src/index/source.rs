//! What tables are merged from: other tables, and shards that were just fetched or written.

use lifeboat_providers::Sha256;

use super::blocks::Damaged;
use super::covered::{Fate, Fates, ShardRecord};
use super::layout::{BLOCK_BYTES, ENTRY_BYTES, Entry, NONE, PackRecord, SegmentRecord};
use super::shard::{PackEntry, Shard};
use super::table::Table;

/// Entries in order of ids, and what they refer to by the source's own ordinals.
pub(super) trait Source {
    /// How many packs there are.
    fn packs(&self) -> u32;
    /// The pack of an ordinal.
    fn pack(&self, ordinal: u32) -> Result<PackRecord, Damaged>;
    /// How many segments there are.
    fn segments(&self) -> u32;
    /// The segment of an ordinal.
    fn segment(&self, ordinal: u32) -> Result<SegmentRecord, Damaged>;
    /// The shards and their packs.
    fn shards(&self) -> &[ShardRecord];
    /// The next entry.
    fn next(&mut self) -> Result<Option<Entry>, Damaged>;
}

/// A table, read from front to back.
pub(super) struct TableSource<'a> {
    table: &'a Table,
    block: &'a [[u8; ENTRY_BYTES]],
    next_in_block: usize,
    next_block: u32,
    blocks: u32,
}

impl<'a> TableSource<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        let blocks = table.counts().entries.div_ceil((BLOCK_BYTES / ENTRY_BYTES) as u32);
        Self { table, block: &[], next_in_block: 0, next_block: 0, blocks }
    }

    fn next_block(&mut self) -> Result<(), Damaged> {
        // What was passed is given back in steps of 4 MiB, so that a merge of any size stays small in memory.
        const RELEASE_BLOCKS: u32 = 1024;
        if self.next_block.is_multiple_of(RELEASE_BLOCKS) && self.next_block > 0 {
            self.table.release_entry_blocks(self.next_block - RELEASE_BLOCKS..self.next_block);
        }
        self.block = self.table.entry_block(self.next_block)?;
        self.next_block += 1;
        self.next_in_block = 0;
        Ok(())
    }
}

impl Source for TableSource<'_> {
    fn packs(&self) -> u32 {
        self.table.counts().packs
    }

    fn pack(&self, ordinal: u32) -> Result<PackRecord, Damaged> {
        self.table.pack(ordinal)
    }

    fn segments(&self) -> u32 {
        self.table.counts().segments
    }

    fn segment(&self, ordinal: u32) -> Result<SegmentRecord, Damaged> {
        self.table.segment(ordinal)
    }

    fn shards(&self) -> &[ShardRecord] {
        self.table.shards()
    }

    fn next(&mut self) -> Result<Option<Entry>, Damaged> {
        if self.next_in_block == self.block.len() {
            if self.next_block == self.blocks {
                return Ok(None);
            }
            self.next_block()?;
        }
        let entry = self.block.get(self.next_in_block).map(Entry::from_bytes);
        self.next_in_block += 1;
        Ok(entry)
    }
}

/// Shards in memory, whose chunks are sorted a range of ids at a time.
pub(super) struct ShardSource<'a> {
    packs: Vec<(&'a PackEntry, u32)>,
    segments: Vec<SegmentRecord>,
    shards: Vec<ShardRecord>,
    chunks: u64,
    range: Vec<Entry>,
    next_in_range: usize,
    next_range: u64,
    ranges: u64,
}

/// About how many entries are sorted at once: 8 MiB. More shards mean more passes over them, not more memory.
const RANGE_ENTRIES: u64 = if cfg!(test) { 32 } else { 1 << 18 };

impl<'a> ShardSource<'a> {
    /// The shards that count or are ignored; each once.
    pub(super) fn new(shards: &[&'a (Sha256, Shard)], fates: &Fates) -> Self {
        let mut source = Self {
            packs: Vec::new(),
            segments: Vec::new(),
            shards: Vec::new(),
            chunks: 0,
            range: Vec::new(),
            next_in_range: 0,
            next_range: 0,
            ranges: 0,
        };
        for (id, shard) in shards {
            let ignored = match fates.of(id) {
                Fate::Counts => false,
                Fate::Ignored => true,
                Fate::Dropped => continue,
            };
            let packs: &'a [PackEntry] = if ignored { &[] } else { &shard.packs };
            let first = source.packs.len() as u32;
            packs.iter().for_each(|pack| source.add_pack(pack));
            source.shards.push(ShardRecord {
                id: *id,
                ignored,
                replaces: shard.replaces.clone(),
                packs: (first..source.packs.len() as u32).collect(),
            });
        }
        source.ranges = source.chunks.div_ceil(RANGE_ENTRIES);
        source
    }

    fn add_pack(&mut self, pack: &'a PackEntry) {
        let ordinal = self.packs.len() as u32;
        self.packs.push((pack, self.segments.len() as u32));
        self.chunks += pack.directory.chunk_count() as u64;
        let offsets = pack.directory.segment_offsets();
        self.segments.extend(pack.directory.segments.iter().zip(offsets).map(|(segment, offset)| {
            SegmentRecord {
                offset,
                box_bytes: segment.box_bytes,
                plain_bytes: segment.plain_bytes,
                number: segment.number,
                pack: ordinal,
                last_entry: NONE,
                codec: segment.codec,
            }
        }));
    }

    /// Collects and sorts the entries of the next range of ids.
    fn next_range(&mut self) {
        self.range.clear();
        self.next_in_range = 0;
        let (ranges, wanted) = (u128::from(self.ranges), u128::from(self.next_range));
        self.next_range += 1;
        for (pack, first_segment) in &self.packs {
            for (segment, ordinal) in pack.directory.segments.iter().zip(*first_segment..) {
                let mut offset = 0;
                for chunk in &segment.chunks {
                    if (u128::from(chunk.id.prefix_u64()) * ranges) >> 64 == wanted {
                        let id = u128::from_be_bytes(*chunk.id.as_bytes());
                        let entry =
                            Entry { id, segment: ordinal, previous: NONE, offset, length: chunk.length };
                        self.range.push(entry);
                    }
                    offset = offset.saturating_add(chunk.length);
                }
            }
        }
        self.range.sort_unstable_by_key(|entry| (entry.id, entry.segment, entry.offset));
    }
}

impl Source for ShardSource<'_> {
    fn packs(&self) -> u32 {
        self.packs.len() as u32
    }

    fn pack(&self, ordinal: u32) -> Result<PackRecord, Damaged> {
        let (pack, first_segment) = self.packs.get(ordinal as usize).ok_or(Damaged)?;
        Ok(PackRecord {
            id: pack.id,
            salt: pack.salt,
            stored_bytes: pack.stored_bytes,
            plain_bytes: pack.directory.plain_bytes(),
            first_segment: *first_segment,
            segments: pack.directory.segments.len() as u32,
            chunks: pack.directory.chunk_count() as u32,
            kind: pack.kind,
        })
    }

    fn segments(&self) -> u32 {
        self.segments.len() as u32
    }

    fn segment(&self, ordinal: u32) -> Result<SegmentRecord, Damaged> {
        self.segments.get(ordinal as usize).copied().ok_or(Damaged)
    }

    fn shards(&self) -> &[ShardRecord] {
        &self.shards
    }

    fn next(&mut self) -> Result<Option<Entry>, Damaged> {
        while self.next_in_range == self.range.len() {
            if self.next_range == self.ranges {
                return Ok(None);
            }
            self.next_range();
        }
        let entry = self.range.get(self.next_in_range).copied();
        self.next_in_range += 1;
        Ok(entry)
    }
}
