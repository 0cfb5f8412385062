//! Makes one table of several sources, streaming: no list of all entries is ever in memory.
//!
//! [`Plan`] decides what goes in (a pack that several shards or sources list goes in once; packs that only
//! dropped or ignored shards list stay out) and how ordinals change; [`Plan::write`] then merges.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use lifeboat_providers::Sha256;

use super::blocks::Damaged;
use super::covered::{Fate, Fates, ShardRecord, encode_records};
use super::layout::{Counts, ENTRIES_MAX, Entry, Header, PackRecord, SegmentRecord};
use super::source::Source;
use super::writer::TableWriter;

/// Why a merge failed.
#[derive(Debug)]
pub(super) enum MergeError {
    /// A source does not hold what was written to it, or contradicts itself: merge again without it.
    Damaged,
    /// The new table could not be written.
    Io(io::Error),
}

impl From<io::Error> for MergeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Damaged> for MergeError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// Stands for an ordinal that has no place in the new table.
const LEFT_OUT: u32 = u32::MAX;

/// What a merge is going to write.
pub(super) struct Plan {
    /// For each pack, in order of ids: the source, and the ordinal there.
    packs: Vec<(usize, u32)>,
    /// For each source, the new ordinals of its packs and of its segments.
    pack_maps: Vec<Vec<u32>>,
    segment_maps: Vec<Vec<u32>>,
    shards: Vec<u8>,
    has_shards: bool,
    counts: Counts,
}

impl Plan {
    /// Decides what a table of these sources holds.
    pub(super) fn new(sources: &[Box<dyn Source + '_>], fates: &Fates) -> Result<Self, MergeError> {
        let mut plan = Self {
            packs: Vec::new(),
            pack_maps: sources.iter().map(|source| vec![LEFT_OUT; source.packs() as usize]).collect(),
            segment_maps: sources.iter().map(|source| vec![LEFT_OUT; source.segments() as usize]).collect(),
            shards: Vec::new(),
            has_shards: false,
            counts: Counts { entries: 0, lines: 0, segments: 0, packs: 0, shards_bytes: 0 },
        };
        plan.place_packs(sources, fates)?;
        let records = plan.merge_records(sources, fates);
        plan.has_shards = !records.is_empty();
        plan.shards = encode_records(&records);
        plan.counts.shards_bytes = plan.shards.len() as u64;
        plan.counts.packs = plan.packs.len() as u32;
        Ok(plan)
    }

    /// Whether there is nothing to remember: no table is needed.
    pub(super) const fn is_empty(&self) -> bool {
        !self.has_shards
    }

    fn place_packs(&mut self, sources: &[Box<dyn Source + '_>], fates: &Fates) -> Result<(), MergeError> {
        let mut wanted: Vec<(Sha256, usize, u32)> = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            let mut ordinals: Vec<u32> = Vec::new();
            for record in source.shards().iter().filter(|record| fates.of(&record.id) == Fate::Counts) {
                ordinals.extend(&record.packs);
            }
            ordinals.sort_unstable();
            ordinals.dedup();
            for ordinal in ordinals {
                wanted.push((source.pack(ordinal)?.id, number, ordinal));
            }
        }
        wanted.sort_unstable();
        let (mut last, mut entries, mut segments) = (None, 0_u64, 0_u64);
        for (id, number, ordinal) in wanted {
            if last != Some(id) {
                let pack = sources.get(number).ok_or(Damaged)?.pack(ordinal)?;
                for (segment, new) in (pack.first_segment..).take(pack.segments as usize).zip(segments..) {
                    *self.segment_maps[number].get_mut(segment as usize).ok_or(Damaged)? = new as u32;
                }
                entries += u64::from(pack.chunks);
                segments += u64::from(pack.segments);
                self.packs.push((number, ordinal));
                last = Some(id);
            }
            self.pack_maps[number][ordinal as usize] = self.packs.len() as u32 - 1;
        }
        if entries > ENTRIES_MAX || segments > ENTRIES_MAX {
            return Err(io::Error::other("index table: over 4 billion chunks").into());
        }
        self.counts.entries = entries as u32;
        self.counts.segments = segments as u32;
        Ok(())
    }

    /// The shards of all sources, each once, with new ordinals.
    fn merge_records(&self, sources: &[Box<dyn Source + '_>], fates: &Fates) -> Vec<ShardRecord> {
        let mut merged: BTreeMap<Sha256, ShardRecord> = BTreeMap::new();
        for (source, pack_map) in sources.iter().zip(&self.pack_maps) {
            for record in source.shards() {
                let counts = match fates.of(&record.id) {
                    Fate::Counts if record.ignored => continue, // another table has its packs
                    Fate::Counts => true,
                    Fate::Ignored => false,
                    Fate::Dropped => continue,
                };
                let packs = record.packs.iter().filter(|_| counts);
                merged.entry(record.id).or_insert_with(|| ShardRecord {
                    id: record.id,
                    ignored: !counts,
                    replaces: record.replaces.clone(),
                    packs: packs.filter_map(|pack| pack_map.get(*pack as usize).copied()).collect(),
                });
            }
        }
        merged.into_values().collect()
    }

    /// Merges the sources into an empty file.
    pub(super) fn write(
        &self,
        sources: &mut [Box<dyn Source + '_>],
        file: &File,
    ) -> Result<Header, MergeError> {
        let mut writer = TableWriter::new(file, self.counts);
        self.merge_entries(sources, &mut writer)?;
        writer.finish_entries()?;
        writer.segments(self.new_segments(sources))?;
        writer.packs(self.new_packs(sources))?;
        writer.finish(&self.shards)
    }

    fn merge_entries(
        &self,
        sources: &mut [Box<dyn Source + '_>],
        writer: &mut TableWriter<'_>,
    ) -> Result<(), MergeError> {
        let mut heads: Vec<(Entry, usize)> = Vec::with_capacity(sources.len());
        for number in 0..sources.len() {
            heads.extend(self.next_of(sources, number)?.map(|entry| (entry, number)));
        }
        // Sources are few, as tables grow in powers of two: looking at each is as fast as a heap.
        while let Some(least) = (0..heads.len()).min_by_key(|at| heads[*at].0.id) {
            let (entry, number) = heads[least];
            writer.push(entry)?;
            match self.next_of(sources, number)? {
                Some(next) => heads[least].0 = next,
                None => drop(heads.swap_remove(least)),
            }
        }
        Ok(())
    }

    /// The next entry of a source that goes in, with the segment's new ordinal.
    fn next_of(&self, sources: &mut [Box<dyn Source + '_>], number: usize) -> Result<Option<Entry>, Damaged> {
        while let Some(entry) = sources[number].next()? {
            let segment = *self.segment_maps[number].get(entry.segment as usize).ok_or(Damaged)?;
            if segment != LEFT_OUT {
                return Ok(Some(Entry { segment, ..entry }));
            }
        }
        Ok(None)
    }

    fn new_packs(
        &self,
        sources: &[Box<dyn Source + '_>],
    ) -> impl Iterator<Item = Result<PackRecord, MergeError>> {
        let mut first_segment = 0;
        self.packs.iter().map(move |&(number, ordinal)| {
            let pack = sources[number].pack(ordinal)?;
            let new = PackRecord { first_segment, ..pack };
            first_segment += pack.segments;
            Ok(new)
        })
    }

    fn new_segments(
        &self,
        sources: &[Box<dyn Source + '_>],
    ) -> impl Iterator<Item = Result<SegmentRecord, MergeError>> {
        self.packs.iter().zip(0..).flat_map(move |(&(number, ordinal), new_pack)| {
            let source = &sources[number];
            let ordinals =
                source.pack(ordinal).map(|pack| (pack.first_segment..).take(pack.segments as usize));
            let (ordinals, failed) = match ordinals {
                Ok(ordinals) => (Some(ordinals), None),
                Err(damaged) => (None, Some(Err(damaged.into()))),
            };
            let segments = ordinals.into_iter().flatten();
            segments.map(move |at| Ok(SegmentRecord { pack: new_pack, ..source.segment(at)? })).chain(failed)
        })
    }
}
