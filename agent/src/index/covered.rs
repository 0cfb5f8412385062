//! Which shards the tables stand for, and which of them count.
//!
//! A table remembers each shard it was made of: its id, the shards it replaces and the packs it listed. Thus
//! when shards go, or are replaced, a table can be rewritten without them, instead of fetching all others
//! again. A replaced shard keeps a record without packs for as long as it is present: it needs not be fetched
//! again, and what *it* replaces stays ignored, too.

use std::collections::{HashMap, HashSet};

use lifeboat_providers::Sha256;

use super::shard::Shard;
use crate::tree::codec::{Decoder, Malformed, put_varint};

/// What a table knows of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardRecord {
    pub(super) id: Sha256,
    /// Whether the packs were left out, because another shard replaces this one.
    pub(super) ignored: bool,
    pub(super) replaces: Vec<Sha256>,
    /// Ordinals of its packs in the table.
    pub(super) packs: Vec<u32>,
}

/// What becomes of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its packs count.
    Counts,
    /// It is present but replaced: remembered without its packs.
    Ignored,
    /// It is gone, or was ignored and counts again: it must be fetched if it is present.
    Dropped,
}

/// The fates of all known shards.
#[derive(Debug, Default)]
pub(super) struct Fates(HashMap<Sha256, Fate>);

/// One copy of what is known of a shard: several tables can know it.
struct Known<'a> {
    replaces: &'a [Sha256],
    has_packs: bool,
}

impl Fates {
    /// Applies the format's rule: a shard that is named as replaced by another that is present is ignored.
    ///
    /// `present` names the shards in the repository; without it all that are known count as present.
    pub(super) fn decide<'a>(
        records: impl Iterator<Item = &'a ShardRecord>,
        new: &[&'a (Sha256, Shard)],
        present: Option<&HashSet<Sha256>>,
    ) -> Self {
        let mut known: HashMap<Sha256, Known<'a>> = HashMap::new();
        for record in records {
            let entry =
                known.entry(record.id).or_insert(Known { replaces: &record.replaces, has_packs: false });
            entry.has_packs |= !record.ignored;
        }
        for (id, shard) in new.iter().copied() {
            known.entry(*id).or_insert(Known { replaces: &shard.replaces, has_packs: true }).has_packs = true;
        }
        let is_present = |id: &Sha256| present.is_none_or(|present| present.contains(id));
        let naming = known.iter().filter(|(id, _)| is_present(id));
        let replaced: HashSet<Sha256> = naming.flat_map(|(_, shard)| shard.replaces).copied().collect();
        let fate = |id: &Sha256, shard: &Known<'_>| match (is_present(id), replaced.contains(id)) {
            (true, true) => Fate::Ignored,
            (true, false) if shard.has_packs => Fate::Counts,
            _ => Fate::Dropped,
        };
        Self(known.iter().map(|(id, shard)| (*id, fate(id, shard))).collect())
    }

    pub(super) fn of(&self, id: &Sha256) -> Fate {
        self.0.get(id).copied().unwrap_or(Fate::Dropped)
    }

    /// The shards that need not be fetched.
    pub(super) fn covered(&self) -> HashSet<Sha256> {
        self.0.iter().filter(|(_, fate)| **fate != Fate::Dropped).map(|(id, _)| *id).collect()
    }

    /// Whether a table that holds this record has to be rewritten.
    pub(super) fn outdates(&self, record: &ShardRecord) -> bool {
        match self.of(&record.id) {
            Fate::Counts => false,
            Fate::Ignored => !record.ignored,
            Fate::Dropped => true,
        }
    }
}

/// The stored form of a table's records.
pub(super) fn encode_records(records: &[ShardRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, records.len() as u64);
    for record in records {
        out.extend_from_slice(record.id.as_bytes());
        out.push(record.ignored.into());
        put_varint(&mut out, record.replaces.len() as u64);
        record.replaces.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
        put_varint(&mut out, record.packs.len() as u64);
        record.packs.iter().for_each(|pack| put_varint(&mut out, (*pack).into()));
    }
    out
}

/// Reads a table's records; packs have ordinals below `packs`.
pub(super) fn decode_records(bytes: &[u8], packs: u32) -> Result<Vec<ShardRecord>, Malformed> {
    const RECORD_BYTES_MIN: usize = 32 + 1 + 1 + 1;
    let mut decoder = Decoder::new(bytes);
    let count = decoder.count(RECORD_BYTES_MIN)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let id = Sha256::from_bytes(decoder.array()?);
        let ignored = decoder.u8()? != 0;
        let mut record = ShardRecord { id, ignored, replaces: Vec::new(), packs: Vec::new() };
        for _ in 0..decoder.count(32)? {
            record.replaces.push(Sha256::from_bytes(decoder.array()?));
        }
        for _ in 0..decoder.count(1)? {
            let pack = decoder.varint_u32()?;
            if pack >= packs {
                return Err(decoder.malformed("pack beyond the table's"));
            }
            record.packs.push(pack);
        }
        records.push(record);
    }
    decoder.finish()?;
    Ok(records)
}
