//! Forgetting on purpose: an authenticated record first, then the snapshots it names are removed. Chunks stay until the next prune.
//!
//! Every run leaves a record, and each is read by whoever reads the history: when there are many, one takes the place of all. It is stored before
//! the first of them is removed, so that at no instant anything forgotten is without a record.

use std::collections::{BTreeMap, HashSet};

use lifeboat_providers::Sha256;

use super::history::{ForgetRecord, Snapshot, Unsound, keep_damage, witness};
use super::manifest::Witness;
use crate::repository::{Area, Repository, layout};
use crate::seal::header::ObjectKind;
use crate::{Error, Result};

/// More records than this become one.
pub const RECORDS_MAX: usize = 32;

impl Repository {
    /// Forgets snapshots: writes an authenticated record, then removes them. Their chunks stay until the next prune.
    ///
    /// # Errors
    /// Errors of the store. What was recorded before an error stays forgotten.
    pub fn forget(&self, snapshots: &[&Snapshot], host: &str) -> Result<()> {
        self.record_forgotten(snapshots.iter().map(|snapshot| witness(snapshot)).collect(), host)
    }

    /// As [`Repository::forget`], for snapshots that perhaps cannot be read, or are gone already.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn record_forgotten(&self, mut forgotten: Vec<Witness>, host: &str) -> Result<()> {
        if forgotten.is_empty() {
            return Ok(());
        }
        let mut earlier = self.load_forget_records(&mut Vec::new())?;
        let gone: HashSet<Sha256> = earlier
            .values()
            .flat_map(|record| &record.forgotten)
            .chain(&forgotten)
            .filter_map(Witness::sha256)
            .collect();
        if earlier.len() < RECORDS_MAX {
            earlier.clear();
        }
        let mut known: HashSet<Witness> = forgotten.iter().cloned().collect();
        let repeated = earlier.values().flat_map(|record| &record.forgotten);
        forgotten.extend(repeated.filter(|witness| known.insert((*witness).clone())).cloned());
        let record = ForgetRecord {
            version: 1,
            time: chrono::Utc::now().to_rfc3339(),
            host: host.to_owned(),
            forgotten,
            replaces: earlier.keys().map(ToString::to_string).collect(),
        };
        let json = serde_json::to_vec(&record).map_err(|e| Error::failed(e.to_string()))?;
        self.put_whole(Area::Forgotten, ObjectKind::Forgotten, &json)?;
        self.remove_forgotten(&gone)?;
        for id in earlier.keys() {
            self.store().delete(&layout::named_by_hash(Area::Forgotten, id)?)?;
        }
        Ok(())
    }

    /// Removes forgotten snapshots, also those that an earlier run recorded and could not remove, and what they were labelled with.
    fn remove_forgotten(&self, forgotten: &HashSet<Sha256>) -> Result<()> {
        for info in self.store().list(&Area::Snapshots.prefix())? {
            if layout::sha256_of(&info.key).is_ok_and(|id| forgotten.contains(&id)) {
                self.store().delete(&info.key)?;
            }
        }
        let labels = self.load_labels(&mut Vec::new())?;
        let is_gone = |snapshot: &str| snapshot.parse().is_ok_and(|id| forgotten.contains(&id));
        let of_gone = labels.records().iter().filter(|(_, record)| is_gone(&record.snapshot));
        self.remove_labels(of_gone.map(|(id, _)| id))
    }

    /// Removes the snapshots that records name as forgotten and that are there still: an earlier run could not remove them.
    ///
    /// # Errors
    /// Errors of the store.
    pub(crate) fn remove_lingering(&self) -> Result<()> {
        let records = self.load_forget_records(&mut Vec::new())?;
        let gone = records.values().flat_map(|record| &record.forgotten).filter_map(Witness::sha256);
        self.remove_forgotten(&gone.collect())
    }

    /// All records by the ids they are stored under; errors of those that are damaged go to `damaged`.
    ///
    /// # Errors
    /// Errors of the store that are no damage.
    pub(super) fn load_forget_records(
        &self,
        damaged: &mut Vec<Unsound>,
    ) -> Result<BTreeMap<Sha256, ForgetRecord>> {
        let mut records = BTreeMap::new();
        self.for_each_record(Area::Forgotten, ObjectKind::Forgotten, |key, json| {
            let read = layout::sha256_of(key)
                .and_then(|id| Ok((id, ForgetRecord::decode(&json?).map_err(|e| e.context(key))?)));
            match read {
                Ok((id, record)) => drop(records.insert(id, record)),
                Err(e) => keep_damage(key.clone(), e, damaged)?,
            }
            Ok(())
        })?;
        Ok(records)
    }
}
