//! Going through the index: packs, their chunks, and totals.
//!
//! A pack that several tables hold is visited once. Unlike lookups, visits fail when a table is damaged: those
//! who decide what may be deleted use them.

use std::collections::HashSet;
use std::sync::Arc;

use lifeboat_providers::Sha256;

use super::blocks::Damaged;
use super::covered::ShardRecord;
use super::layout::{Entry, PackRecord};
use super::source::{Source as _, TableSource};
use super::table::Table;
use super::{Index, Location, damaged_cache};
use crate::chunk::ChunkId;
use crate::pack::directory::PackKind;
use crate::{Error, Result};

/// What the index knows of a pack as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSummary {
    /// The pack's name.
    pub id: Sha256,
    /// What its chunks are.
    pub kind: PackKind,
    /// The pack object's size.
    pub stored_bytes: u64,
    /// How many chunks it holds.
    pub chunks: u32,
    /// Plain bytes of all its chunks.
    pub plain_bytes: u64,
}

/// Sums over all packs, each counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Places of chunks: a chunk that is stored twice counts twice.
    pub chunks: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of the packs' objects.
    pub stored_bytes: u64,
    /// Plain bytes of all places.
    pub plain_bytes: u64,
}

/// A stored part of the index that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSummary {
    /// The shard's name.
    pub id: Sha256,
    /// The shards that it replaces.
    pub replaces: Vec<Sha256>,
    /// The packs it names.
    pub packs: Vec<Sha256>,
    /// The chunks they hold.
    pub chunks: u64,
}

impl Index {
    /// Calls `visit` with every shard that counts, in order of names.
    ///
    /// # Errors
    /// If a table is damaged; what `visit` returns.
    pub fn for_each_shard(&self, mut visit: impl FnMut(ShardSummary) -> Result<()>) -> Result<()> {
        let tables = self.tables();
        let fates = self.fates_of(&tables);
        let mut records: Vec<(usize, &ShardRecord)> = Vec::new();
        for (number, table) in tables.iter().enumerate() {
            if table.blocks().is_damaged() {
                return Err(damaged_cache());
            }
            let counts = |record: &&ShardRecord| {
                fates.of(&record.id) == super::covered::Fate::Counts && !record.ignored
            };
            records.extend(table.shards().iter().filter(counts).map(|record| (number, record)));
        }
        records.sort_by_key(|(_, record)| record.id);
        records.dedup_by_key(|(_, record)| record.id);
        for (number, record) in records {
            let Some(table) = tables.get(number) else { continue };
            let mut packs = Vec::with_capacity(record.packs.len());
            let mut chunks = 0;
            for ordinal in &record.packs {
                let pack = table.pack(*ordinal).map_err(in_table)?;
                packs.push(pack.id);
                chunks += u64::from(pack.chunks);
            }
            visit(ShardSummary { id: record.id, replaces: record.replaces.clone(), packs, chunks })?;
        }
        Ok(())
    }

    /// Calls `visit` with every pack.
    ///
    /// # Errors
    /// If a table is damaged; `visit` then has seen some packs only.
    pub fn for_each_pack(&self, mut visit: impl FnMut(PackSummary)) -> Result<()> {
        self.visit_packs(|_, _, pack| visit(summary(pack)))
    }

    /// All packs, in no particular order.
    ///
    /// # Errors
    /// If a table is damaged.
    pub fn packs(&self) -> Result<Vec<PackSummary>> {
        let mut packs = Vec::new();
        self.for_each_pack(|pack| packs.push(pack))?;
        Ok(packs)
    }

    /// Sums over all packs.
    ///
    /// # Errors
    /// If a table is damaged.
    pub fn totals(&self) -> Result<Totals> {
        let mut totals = Totals::default();
        self.for_each_pack(|pack| {
            totals.chunks += u64::from(pack.chunks);
            totals.packs += 1;
            totals.stored_bytes += pack.stored_bytes;
            totals.plain_bytes += pack.plain_bytes;
        })?;
        Ok(totals)
    }

    /// Calls `visit` with every chunk of one pack in the order in which they lie in it, and says whether the
    /// pack is known.
    ///
    /// Each chunk costs a lookup; to go through all packs use [`Self::for_each_place`].
    ///
    /// # Errors
    /// If a table is damaged; `visit` then has seen some chunks only.
    pub fn for_each_chunk(&self, pack: &Sha256, mut visit: impl FnMut(ChunkId, &Location)) -> Result<bool> {
        if self.absent.contains(pack) {
            return Ok(false);
        }
        for table in self.tables().iter() {
            if let Some(ordinal) = table.pack_ordinal(pack).map_err(in_table)? {
                visit_chunks(table, ordinal, &mut visit).map_err(in_table)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Calls `visit` with every place of every chunk; in order of ids within each table.
    ///
    /// # Errors
    /// If a table is damaged; `visit` then has seen some places only.
    pub fn for_each_place(&self, mut visit: impl FnMut(ChunkId, &Location)) -> Result<()> {
        let mut shown: Vec<Vec<bool>> = Vec::new();
        let tables = self.tables();
        shown.extend(tables.iter().map(|table| vec![false; table.counts().packs as usize]));
        self.visit_packs_of(&tables, |table, ordinal, _| shown[table][ordinal as usize] = true)?;
        for (table, shown) in tables.iter().zip(&shown) {
            visit_places(table, shown, &mut visit).map_err(in_table)?;
        }
        Ok(())
    }

    fn visit_packs(&self, visit: impl FnMut(usize, u32, &PackRecord)) -> Result<()> {
        self.visit_packs_of(&self.tables(), visit)
    }

    /// Calls `visit` with every pack of these tables, once: the table, the ordinal there, the pack.
    fn visit_packs_of(
        &self,
        tables: &[Arc<Table>],
        mut visit: impl FnMut(usize, u32, &PackRecord),
    ) -> Result<()> {
        let mut seen: HashSet<Sha256> = HashSet::new();
        for (number, table) in tables.iter().enumerate() {
            if table.blocks().is_damaged() {
                return Err(damaged_cache());
            }
            for ordinal in 0..table.counts().packs {
                let pack = table.pack(ordinal).map_err(in_table)?;
                if !self.absent.contains(&pack.id) && seen.insert(pack.id) {
                    visit(number, ordinal, &pack);
                }
            }
        }
        Ok(())
    }
}

fn visit_chunks(table: &Table, pack: u32, visit: &mut impl FnMut(ChunkId, &Location)) -> Result<(), Damaged> {
    let pack = table.pack(pack)?;
    let mut chunks: Vec<(u32, Entry)> = Vec::new();
    for segment in (pack.first_segment..).take(pack.segments as usize) {
        table.chunks_of(segment, &mut chunks)?;
        for (_, entry) in &chunks {
            visit(entry.chunk_id(), &table.locate(entry)?);
        }
    }
    Ok(())
}

fn visit_places(
    table: &Table,
    shown: &[bool],
    visit: &mut impl FnMut(ChunkId, &Location),
) -> Result<(), Damaged> {
    let mut entries = TableSource::new(table);
    while let Some(entry) = entries.next()? {
        let pack = table.segment(entry.segment)?.pack;
        if shown.get(pack as usize).copied().unwrap_or(false) {
            visit(entry.chunk_id(), &table.locate(&entry)?);
        }
    }
    Ok(())
}

pub(super) fn summary(pack: &PackRecord) -> PackSummary {
    PackSummary {
        id: pack.id,
        kind: pack.kind,
        stored_bytes: pack.stored_bytes,
        chunks: pack.chunks,
        plain_bytes: pack.plain_bytes,
    }
}

pub(super) fn in_table(_: Damaged) -> Error {
    damaged_cache()
}
