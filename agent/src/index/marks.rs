//! A bit for each place of a chunk: what a walk of all snapshots has reached, and which copy of it is to be kept.
//!
//! The tables are those of one moment: shards that are added, replaced or gone later change nothing here, as tables are never changed and
//! stay mapped. What it costs is a bit an entry, four bytes a segment and about a hundred a pack.
//!
//! Whoever uses it decides what may be deleted. So, unlike a lookup, it never takes damage of the local files for "not there": it fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_providers::Sha256;

use super::blocks::Damaged;
use super::table::Table;
use super::visit::{PackSummary, in_table, summary};
use super::{Index, damaged_cache};
use crate::Result;
use crate::chunk::ChunkId;

/// The index at one moment, with a bit for each place of a chunk.
pub struct Marks {
    pub(super) tables: Arc<[Arc<Table>]>,
    /// The number of the first entry of each table among all entries.
    pub(super) bases: Vec<u64>,
    bits: Box<[AtomicU64]>,
    /// All packs, each once.
    packs: Vec<PackSummary>,
    /// For each table, the number among `packs` of each of its packs.
    pub(super) numbers: Vec<Box<[u32]>>,
}

/// What a mark came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The chunk was not marked before.
    New,
    /// It was marked before.
    Known,
    /// The index does not know it.
    Absent,
}

impl Index {
    /// The index as it is now, nothing marked.
    ///
    /// # Errors
    /// If a table is damaged.
    pub fn marks(&self) -> Result<Marks> {
        let tables = self.tables();
        let (mut bases, mut entries) = (Vec::with_capacity(tables.len()), 0_u64);
        let mut packs: Vec<PackSummary> = Vec::new();
        let mut by_id: HashMap<Sha256, u32> = HashMap::new();
        let mut numbers = Vec::with_capacity(tables.len());
        for table in tables.iter() {
            if table.blocks().is_damaged() {
                return Err(damaged_cache());
            }
            bases.push(entries);
            entries += u64::from(table.counts().entries);
            let mut of_table = Vec::with_capacity(table.counts().packs as usize);
            for ordinal in 0..table.counts().packs {
                let pack = table.pack(ordinal).map_err(in_table)?;
                of_table.push(*by_id.entry(pack.id).or_insert_with(|| {
                    packs.push(summary(&pack));
                    packs.len() as u32 - 1
                }));
            }
            numbers.push(of_table.into_boxed_slice());
        }
        let words = usize::try_from(entries.div_ceil(64)).unwrap_or(usize::MAX);
        let bits = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Marks { tables, bases, bits, packs, numbers })
    }
}

impl Marks {
    /// Marks a chunk. Of several threads that mark one at a time, one is told that it is new.
    ///
    /// # Errors
    /// If the local index turned out to be damaged.
    pub fn mark(&self, id: &ChunkId) -> Result<Mark> {
        let mut first = None;
        for (table, base) in self.tables.iter().zip(&self.bases) {
            for number in table.numbers_of(id).map_err(in_table)? {
                let at = base + u64::from(number);
                if self.is_set(at) {
                    return Ok(Mark::Known);
                }
                first.get_or_insert(at);
            }
        }
        Ok(match first {
            None => Mark::Absent,
            Some(at) if self.set(at) => Mark::New,
            Some(_) => Mark::Known,
        })
    }

    /// All packs, by their numbers.
    pub fn packs(&self) -> &[PackSummary] {
        &self.packs
    }

    /// The numbers of the packs that hold a chunk.
    ///
    /// # Errors
    /// If the local index turned out to be damaged.
    pub fn packs_of(&self, id: &ChunkId) -> Result<Vec<u32>> {
        let mut packs = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            for entry in table.numbers_of(id).map_err(in_table)? {
                let entry = table.entry(entry).map_err(in_table)?;
                packs.push(self.pack_of(number, entry.segment).map_err(in_table)?);
            }
        }
        packs.sort_unstable();
        packs.dedup();
        Ok(packs)
    }

    /// The number of the pack that a segment lies in.
    pub(super) fn pack_of(&self, table: usize, segment: u32) -> Result<u32, Damaged> {
        let ordinal = self.tables.get(table).ok_or(Damaged)?.segment(segment)?.pack;
        let numbers = self.numbers.get(table).ok_or(Damaged)?;
        numbers.get(ordinal as usize).copied().ok_or(Damaged)
    }

    pub(super) fn is_set(&self, at: u64) -> bool {
        let word = usize::try_from(at / 64).ok().and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (at % 64) != 0)
    }

    /// Whether it was not set before.
    pub(super) fn set(&self, at: u64) -> bool {
        let word = usize::try_from(at / 64).ok().and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word.fetch_or(1 << (at % 64), Ordering::Relaxed) & 1 << (at % 64) == 0)
    }

    pub(super) fn clear(&self, at: u64) {
        if let Some(word) = usize::try_from(at / 64).ok().and_then(|word| self.bits.get(word)) {
            word.fetch_and(!(1 << (at % 64)), Ordering::Relaxed);
        }
    }
}
