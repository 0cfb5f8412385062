//! Shards added, gone or replaced: which tables are rewritten, merged or deleted.
//!
//! Tables grow like a binary counter: new entries are merged with every table that is not larger than what is
//! being merged already. So there are O(log n) tables, and each entry is rewritten O(log n) times.
//!
//! The set of tables is replaced as a whole, under `updating`; lookups see the old one or the new one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lifeboat_providers::Sha256;

use super::covered::{Fate, Fates, ShardRecord};
use super::merge::{MergeError, Plan};
use super::shard::Shard;
use super::source::{ShardSource, Source, TableSource};
use super::table::Table;
use super::{Index, damaged_cache};
use crate::{Error, Result};

/// Tables up to this size are merged with whatever comes: 2 MiB. Tests want several tables of few entries.
const ENTRIES_SMALL: u64 = if cfg!(test) { 32 } else { 1 << 16 };

/// One change of the set of tables.
struct Update<'a> {
    /// Tables that stay as they are.
    kept: Vec<Arc<Table>>,
    /// Tables that are merged, then deleted.
    merged: Vec<Arc<Table>>,
    /// Shards that were not known.
    new: Vec<&'a (Sha256, Shard)>,
    fates: Fates,
}

impl Index {
    /// Takes over the tables found in the cache.
    pub(super) fn adopt(&self, mut tables: Vec<Table>) {
        let _updating = self.updating.lock();
        tables.sort_unstable_by_key(|table| std::cmp::Reverse(table.counts().entries));
        let mut known: HashSet<(Sha256, bool)> = HashSet::new();
        let mut adopted: Vec<Arc<Table>> = Vec::new();
        for table in tables {
            // Two processes that merged the same tables leave two tables with the same shards.
            let adds = |record: &ShardRecord| !known.contains(&(record.id, record.ignored));
            if table.shards().iter().any(adds) {
                known.extend(table.shards().iter().map(|record| (record.id, record.ignored)));
                adopted.push(Arc::new(table));
            } else {
                self.storage.remove(&table);
            }
        }
        *self.tables.write() = adopted.into();
        self.settle(None);
    }

    /// Adds shards.
    pub(super) fn include(&self, shards: &[(Sha256, Shard)]) -> Result<()> {
        let _updating = self.updating.lock();
        loop {
            let tables = self.sound_tables();
            let mut known = self.fates_of(&tables).covered();
            let new: Vec<_> = shards.iter().filter(|(id, _)| known.insert(*id)).collect();
            let fates = Fates::decide(records_of(&tables), &new, None);
            if self.apply(Update::plan(tables, new, fates))? {
                return Ok(());
            }
        }
    }

    /// Leaves out what has been replaced, and what is gone if it is known what is `present`. Needs `updating`.
    pub(super) fn settle(&self, present: Option<&HashSet<Sha256>>) {
        loop {
            let tables = self.sound_tables();
            let fates = Fates::decide(records_of(&tables), &[], present);
            let update = Update::plan(tables, Vec::new(), fates);
            let kept = update.kept.clone();
            match self.apply(update) {
                Ok(true) => return,
                Ok(false) => {}
                // Nothing is lost by dropping tables that cannot be rewritten, only time.
                Err(_) => return self.replace(kept),
            }
        }
    }

    /// The tables that are not known to be damaged.
    pub(super) fn sound_tables(&self) -> Vec<Arc<Table>> {
        let (damaged, sound): (Vec<_>, Vec<_>) =
            self.tables().iter().cloned().partition(|table| table.blocks().is_damaged());
        self.left_out.fetch_or(!damaged.is_empty(), Ordering::Relaxed);
        sound
    }

    pub(super) fn fates_of(&self, tables: &[Arc<Table>]) -> Fates {
        Fates::decide(records_of(tables), &[], None)
    }

    /// Carries out an update; `false` if a table turned out to be damaged, and another is to be planned.
    fn apply(&self, update: Update<'_>) -> Result<bool> {
        let mut tables = update.kept.clone();
        match self.merge(&update) {
            Ok(merged) => tables.extend(merged.map(Arc::new)),
            Err(Failure::Damaged) if update.merged.is_empty() => return Err(damaged_cache()),
            Err(Failure::Damaged) => {
                if !update.merged.iter().any(|table| table.blocks().is_damaged()) {
                    // They contradict each other or themselves: none can be trusted.
                    for table in &update.merged {
                        table.blocks().damage();
                    }
                }
                return Ok(false);
            }
            Err(Failure::Other(error)) => return Err(error),
        }
        self.replace(tables);
        Ok(true)
    }

    /// Makes the new table; in memory, if the cache cannot take it.
    fn merge(&self, update: &Update<'_>) -> Result<Option<Table>, Failure> {
        match self.merge_into_file(update) {
            Err((Failure::Other(error), true)) => {
                self.storage.give_up(error);
                self.merge_into_file(update).map_err(|(failure, _)| failure)
            }
            other => other.map_err(|(failure, _)| failure),
        }
    }

    /// The failure comes with whether it was one of a file in the cache.
    fn merge_into_file(&self, update: &Update<'_>) -> Result<Option<Table>, (Failure, bool)> {
        let mut sources: Vec<Box<dyn Source + '_>> = Vec::with_capacity(update.merged.len() + 1);
        sources.extend(
            update.merged.iter().map(|table| Box::new(TableSource::new(table)) as Box<dyn Source + '_>),
        );
        if !update.new.is_empty() {
            sources.push(Box::new(ShardSource::new(&update.new, &update.fates)));
        }
        let plan = Plan::new(&sources, &update.fates).map_err(|e| (e.into(), false))?;
        if plan.is_empty() {
            return Ok(None);
        }
        let file = self.storage.create().map_err(|e| (Failure::Other(e), false))?;
        let is_on_disk = file.is_on_disk();
        let header = plan.write(&mut sources, &file.file).map_err(|e| (e.into(), is_on_disk))?;
        let table = self.storage.publish(file, &header);
        table.map(Some).map_err(|e| (Failure::Other(e), is_on_disk))
    }

    /// Makes these the tables in use, and deletes the files of the others.
    fn replace(&self, mut tables: Vec<Arc<Table>>) {
        tables.sort_unstable_by_key(|table| std::cmp::Reverse(table.counts().entries));
        let tables: Arc<[Arc<Table>]> = tables.into();
        let old = std::mem::replace(&mut *self.tables.write(), Arc::clone(&tables));
        for table in old.iter() {
            // By path, as a table rewritten to the same contents has the same name.
            if !tables.iter().any(|kept| kept.path() == table.path()) {
                self.storage.remove(table);
            }
        }
    }
}

impl<'a> Update<'a> {
    /// Decides which tables are merged with what is new.
    fn plan(tables: Vec<Arc<Table>>, new: Vec<&'a (Sha256, Shard)>, fates: Fates) -> Self {
        let entries_of = |table: &Arc<Table>| u64::from(table.counts().entries);
        let is_outdated = |table: &Arc<Table>| table.shards().iter().any(|record| fates.outdates(record));
        let (mut merged, mut kept): (Vec<_>, Vec<_>) = tables.into_iter().partition(is_outdated);
        if !new.is_empty() {
            let counted = new.iter().filter(|(id, _)| fates.of(id) == Fate::Counts);
            let mut total: u64 = counted.map(|(_, shard)| shard.chunk_count() as u64).sum();
            total += merged.iter().map(entries_of).sum::<u64>();
            kept.sort_unstable_by_key(|table| std::cmp::Reverse(entries_of(table)));
            while let Some(smallest) = kept.pop_if(|table| entries_of(table) <= total.max(ENTRIES_SMALL)) {
                total += entries_of(&smallest);
                merged.push(smallest);
            }
        }
        Self { kept, merged, new, fates }
    }
}

fn records_of(tables: &[Arc<Table>]) -> impl Iterator<Item = &ShardRecord> {
    tables.iter().flat_map(|table| table.shards())
}

/// Why a merge did not lead to a table.
enum Failure {
    Damaged,
    Other(Error),
}

impl From<MergeError> for Failure {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::Damaged => Self::Damaged,
            MergeError::Io(error) => Self::Other(Error::io("cannot write index cache", error)),
        }
    }
}
