//! Of each marked chunk, which copy is kept: then what of every pack is in use.
//!
//! A chunk can lie in several packs (two machines that stored it at once, a repack that was cut off) and more than once in one pack. One place
//! is chosen, the same by everybody who sees the same index: in the pack of which most is in use anyway, then the one with the least name.

use super::blocks::Damaged;
use super::layout::Entry;
use super::marks::Marks;
use super::source::{Source as _, TableSource};
use super::visit::in_table;
use super::{Location, PackSummary, SegmentLocation};
use crate::Result;
use crate::chunk::ChunkId;

/// What a copy in a pack is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// The pack is not there.
    Missing,
    /// It is about to be deleted: a copy in it counts only while there is no other.
    Doomed,
    /// It is there to stay.
    Good,
}

/// What of each pack is in use.
pub struct Live {
    marks: Marks,
    /// For each table and segment, plain bytes of chunks that are in use by it.
    plain: Vec<Box<[u32]>>,
    /// For each pack, stored bytes of segments that are in use, and of those that are not.
    bytes: Vec<PackBytes>,
    /// For each pack, its place in tables: table and ordinal there.
    places: Vec<Vec<(u32, u32)>>,
    /// Chunks that only packs which are about to be deleted hold.
    pub stranded: u64,
    /// A chunk that only missing packs hold.
    pub lost: Option<ChunkId>,
}

/// Stored bytes of a pack's segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackBytes {
    /// In use; 0 only if nothing is.
    pub live: u64,
    /// Not in use; 0 only if all is. Of a segment that is in use in part, the share of its plain bytes.
    pub dead: u64,
}

/// One segment of a pack, and which of its chunks are in use.
#[derive(Debug)]
pub struct LiveSegment {
    /// What a lookup of its first chunk would say.
    pub location: Location,
    /// Its chunks in their order: id, length, whether it is in use here.
    pub chunks: Vec<(ChunkId, u32, bool)>,
}

impl LiveSegment {
    /// Whether all of its chunks are in use.
    pub fn is_whole(&self) -> bool {
        self.chunks.iter().all(|(_, _, live)| *live)
    }
}

/// One place of a chunk.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    table: usize,
    entry: Entry,
    pack: u32,
    /// Where the segment begins in the pack: two tables that name a pack name the same place.
    segment_offset: u64,
}

impl Marks {
    /// Chooses a place of every marked chunk. `worth` is asked by the packs' numbers.
    ///
    /// # Errors
    /// If the local index turned out to be damaged.
    pub fn choose(self, worth: impl Fn(u32) -> Worth) -> Result<Live> {
        let plain = self.tables.iter().map(|table| vec![0; table.counts().segments as usize].into());
        let mut places = vec![Vec::new(); self.packs().len()];
        for (table, numbers) in self.numbers.iter().enumerate() {
            for (ordinal, number) in numbers.iter().enumerate() {
                if let Some(places) = places.get_mut(*number as usize) {
                    places.push((table as u32, ordinal as u32));
                }
            }
        }
        let bytes = vec![PackBytes::default(); self.packs().len()];
        let plain = plain.collect();
        let mut live = Live { marks: self, plain, bytes, places, stranded: 0, lost: None };
        let undecided = live.scan(&worth, false)?;
        if undecided {
            live.count()?;
            live.scan(&worth, true)?;
        }
        live.count()?;
        Ok(live)
    }
}

impl Live {
    /// The marks; those of chosen places are left.
    pub const fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What of a pack is in use, by its number.
    pub fn bytes(&self, pack: u32) -> PackBytes {
        self.bytes.get(pack as usize).copied().unwrap_or_default()
    }

    /// All packs, by their numbers.
    pub fn packs(&self) -> &[PackSummary] {
        self.marks.packs()
    }

    /// Calls `each` with every segment of a pack of which something is in use, in the order in which they lie in it.
    ///
    /// # Errors
    /// If the local index turned out to be damaged; what `each` returns.
    pub fn for_each_segment(&self, pack: u32, mut each: impl FnMut(LiveSegment) -> Result<()>) -> Result<()> {
        let mut entries: Vec<(u32, Entry)> = Vec::new();
        for (number, ordinal) in self.places.get(pack as usize).into_iter().flatten().copied() {
            let (Some(table), Some(plain), Some(base)) = (
                self.marks.tables.get(number as usize),
                self.plain.get(number as usize),
                self.marks.bases.get(number as usize),
            ) else {
                continue;
            };
            let record = table.pack(ordinal).map_err(in_table)?;
            for segment in (record.first_segment..).take(record.segments as usize) {
                if plain.get(segment as usize).copied().unwrap_or(0) == 0 {
                    continue;
                }
                table.chunks_of(segment, &mut entries).map_err(in_table)?;
                let Some((_, first)) = entries.first() else { continue };
                let location = table.locate(first).map_err(in_table)?;
                // Whoever cuts the segment by them must not cut wrong.
                let sum: u64 = entries.iter().map(|(_, entry)| u64::from(entry.length)).sum();
                if sum != u64::from(location.segment.plain_bytes) {
                    return Err(in_table(table.blocks().damage()));
                }
                let is_live = |number: u32| self.marks.is_set(base + u64::from(number));
                let chunks = entries.iter().map(|(n, entry)| (entry.chunk_id(), entry.length, is_live(*n)));
                each(LiveSegment { location, chunks: chunks.collect() })?;
            }
        }
        Ok(())
    }

    /// Goes through all entries in order of ids and chooses places: of chunks that have one choice at first, then of the `undecided`.
    /// Returns whether there are any left.
    fn scan(&mut self, worth: &impl Fn(u32) -> Worth, undecided: bool) -> Result<bool> {
        let tables = self.marks.tables.clone();
        let mut sources: Vec<TableSource<'_>> = tables.iter().map(|table| TableSource::new(table)).collect();
        let mut next: Vec<u64> = self.marks.bases.clone();
        let mut heads: Vec<Option<Entry>> = Vec::with_capacity(sources.len());
        for source in &mut sources {
            heads.push(source.next().map_err(in_table)?);
        }
        let (mut run, mut left) = (Vec::new(), false);
        while let Some(id) = heads.iter().flatten().map(|entry| entry.id).min() {
            run.clear();
            for table in 0..sources.len() {
                while let Some(entry) = heads[table].filter(|entry| entry.id == id) {
                    run.push((next[table], table, entry));
                    next[table] += 1;
                    heads[table] = sources[table].next().map_err(in_table)?;
                }
            }
            if run.iter().any(|(at, ..)| self.marks.is_set(*at)) {
                left |= self.decide(&run, worth, undecided).map_err(in_table)?;
            }
        }
        Ok(left)
    }

    /// Chooses among the places of one chunk; says whether that is left for later.
    fn decide(
        &mut self,
        run: &[(u64, usize, Entry)],
        worth: &impl Fn(u32) -> Worth,
        undecided: bool,
    ) -> Result<bool, Damaged> {
        if let [(at, table, entry)] = run {
            let place = self.place(*at, *table, *entry)?;
            if !undecided {
                self.take(&[place], &[place], worth(place.pack))?;
            }
            return Ok(false);
        }
        let mut places = Vec::with_capacity(run.len());
        for (at, table, entry) in run {
            places.push(self.place(*at, *table, *entry)?);
        }
        let best = places.iter().map(|place| worth(place.pack)).max().unwrap_or(Worth::Missing);
        let mut choice: Vec<Place> =
            places.iter().filter(|place| worth(place.pack) == best).copied().collect();
        // The same place as several tables name it is one.
        choice.sort_by_key(|place| (place.pack, place.segment_offset, place.entry.offset, place.at));
        choice.dedup_by_key(|place| (place.pack, place.segment_offset, place.entry.offset));
        if best == Worth::Good && choice.len() > 1 {
            if !undecided {
                return Ok(true);
            }
            choice.sort_by_key(|place| {
                let id = self.packs().get(place.pack as usize).map(|pack| pack.id);
                let live = self.bytes(place.pack).live;
                (std::cmp::Reverse(live), id, place.segment_offset, place.entry.offset)
            });
            choice.truncate(1);
            self.take(&places, &choice, best)?;
        } else if !undecided {
            // Of doomed packs all stay: who else decides at this moment decides the same.
            self.take(&places, &choice, best)?;
        }
        Ok(false)
    }

    /// Moves the marks of a chunk to the places that are chosen.
    fn take(&mut self, all: &[Place], chosen: &[Place], worth: Worth) -> Result<(), Damaged> {
        all.iter().for_each(|place| self.marks.clear(place.at));
        for place in chosen {
            self.marks.set(place.at);
            let plain = self.plain.get_mut(place.table).ok_or(Damaged)?;
            let plain = plain.get_mut(place.entry.segment as usize).ok_or(Damaged)?;
            *plain = plain.saturating_add(place.entry.length);
        }
        self.stranded += u64::from(worth == Worth::Doomed);
        if worth == Worth::Missing {
            self.lost = self.lost.or_else(|| all.first().map(|place| place.entry.chunk_id()));
        }
        Ok(())
    }

    fn place(&self, at: u64, table: usize, entry: Entry) -> Result<Place, Damaged> {
        let segment = self.marks.tables.get(table).ok_or(Damaged)?.segment(entry.segment)?;
        let pack = self.marks.pack_of(table, entry.segment)?;
        Ok(Place { at, table, entry, pack, segment_offset: segment.offset })
    }

    /// Sums up what of each pack is in use.
    fn count(&mut self) -> Result<()> {
        for (number, places) in self.places.iter().enumerate() {
            let mut bytes = PackBytes::default();
            for (at, (table_number, ordinal)) in places.iter().enumerate() {
                let (Some(table), Some(plain)) =
                    (self.marks.tables.get(*table_number as usize), self.plain.get(*table_number as usize))
                else {
                    continue;
                };
                let record = table.pack(*ordinal).map_err(in_table)?;
                for segment in (record.first_segment..).take(record.segments as usize) {
                    let live = plain.get(segment as usize).copied().unwrap_or(0);
                    let stored = stored_share(&table.segment(segment).map_err(in_table)?.into(), live);
                    bytes.live += stored.live;
                    // What several tables name is stored once.
                    bytes.dead += if at == 0 { stored.live + stored.dead } else { 0 };
                }
            }
            bytes.dead = bytes.dead.saturating_sub(bytes.live);
            if let Some(slot) = self.bytes.get_mut(number) {
                *slot = bytes;
            }
        }
        Ok(())
    }
}

/// Of a segment's stored bytes, those that stand for `live` of its plain bytes.
fn stored_share(segment: &SegmentLocation, live: u32) -> PackBytes {
    let stored = u64::from(segment.box_bytes);
    let share = (stored * u64::from(live)).div_ceil(u64::from(segment.plain_bytes.max(1))).min(stored);
    PackBytes { live: share, dead: stored - share }
}
