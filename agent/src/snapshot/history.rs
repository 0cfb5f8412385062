//! All snapshots of a repository, and the records of those that were forgotten.

use std::collections::{BTreeMap, HashMap};

use lifeboat_providers::{Key, Sha256};
use serde::{Deserialize, Serialize};

use super::chain;
use super::labels::Labels;
use super::manifest::{Manifest, Witness};
use crate::repository::state::Memory;
use crate::repository::{Area, Repository, layout, state, store, versioned};
use crate::seal::header::ObjectKind;
use crate::{Error, Kind, Result};

/// A snapshot and its id.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The SHA-256 of its stored bytes.
    pub id: Sha256,
    /// What it says.
    pub manifest: Manifest,
    /// Its tags: those of the manifest, unless it was given others since.
    pub tags: Vec<String>,
    /// No policy may forget it.
    pub pinned: bool,
}

impl Snapshot {
    /// One that was given no labels since it was made.
    pub fn new(id: Sha256, manifest: Manifest) -> Self {
        Self { id, tags: manifest.tags.clone(), manifest, pinned: false }
    }

    /// The first eight hex digits of the id.
    pub fn short_id(&self) -> String {
        self.id.to_string().chars().take(8).collect()
    }
}

/// A record that snapshots were forgotten on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetRecord {
    /// 1.
    pub version: u16,
    /// When, RFC 3339.
    pub time: String,
    /// On which machine.
    pub host: String,
    /// Which.
    pub forgotten: Vec<Witness>,
    /// Earlier records that this one repeats.
    #[serde(default)]
    pub replaces: Vec<String>,
}

impl ForgetRecord {
    /// Reads the opened bytes of a record.
    ///
    /// # Errors
    /// `Damaged` if they are none; a failure that names it for another version.
    pub fn decode(json: &[u8]) -> Result<Self> {
        versioned::decode("record of forgotten snapshots", 1..=1, json)
    }
}

/// A snapshot or record that could not be read.
#[derive(Debug)]
pub struct Unsound {
    /// What it is called in the store.
    pub key: Key,
    /// What is wrong with it.
    pub error: Error,
}

/// All that a repository says of its snapshots.
#[derive(Debug, Default)]
pub struct History {
    /// Readable snapshots that were not forgotten, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Forgotten snapshots by id; some may still be there when a run was cut off.
    pub forgotten: HashMap<String, Witness>,
    /// Snapshots that are there still though a record says they were forgotten.
    pub lingering: Vec<Sha256>,
    /// Snapshots and records that could not be read.
    pub damaged: Vec<Unsound>,
    /// Those of them that are snapshots.
    pub unreadable: Vec<Sha256>,
    /// What this machine remembered before it was listed: whoever judges what is gone judges by that, as others go on.
    pub memory: Option<Memory>,
    /// Pins and later tags; they are on the snapshots already.
    pub labels: Labels,
}

impl History {
    fn know_forgotten(&mut self, records: BTreeMap<Sha256, ForgetRecord>) {
        let forgotten = records.into_values().flat_map(|record| record.forgotten);
        self.forgotten.extend(forgotten.map(|witness| (key_of(&witness), witness)));
    }

    /// The snapshot with this id.
    pub fn get(&self, id: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id.to_string() == id)
    }

    /// The newest snapshot of the same host and source before this one of which nothing is known to be lost.
    pub fn whole_before(&self, snapshot: &Snapshot) -> Option<&Snapshot> {
        let was_repaired =
            |id: &str| self.snapshots.iter().any(|other| other.manifest.repaired_from.as_deref() == Some(id));
        self.older(snapshot)
            .find(|other| other.manifest.lost_total == 0 && !was_repaired(&other.id.to_string()))
    }

    /// Snapshots of the same host and source before this one, the newest first.
    pub fn older<'h>(&'h self, snapshot: &Snapshot) -> impl Iterator<Item = &'h Snapshot> + use<'h> {
        let wanted = snapshot.manifest.clone();
        self.snapshots.iter().rev().filter(move |other| {
            let manifest = &other.manifest;
            manifest.time < wanted.time
                && manifest.host == wanted.host
                && manifest.source == wanted.source
                && (manifest.source.is_some() || manifest.paths == wanted.paths)
        })
    }
}

impl Repository {
    /// Reads all snapshots and records of forgotten ones. Damaged ones are listed in the result.
    ///
    /// # Errors
    /// If the store cannot be listed or read.
    pub fn load_history(&self) -> Result<History> {
        // Before anything is listed anew: what it names was stored by then.
        let memory = state::peek(self.directories());
        let is_gone = |history: &History| {
            let report = chain::examine(history, memory.as_ref(), &self.directories().place);
            report.gone(history).next().is_some()
        };
        let mut history = self.read_history()?;
        if is_gone(&history) {
            // A listing that was asked for ahead may be older than what another process of this machine has stored and remembers.
            self.store().forget_ahead();
            history = self.read_history()?;
        }
        if is_gone(&history) {
            // Snapshots and records were listed at the same time: what was forgotten just then is known now.
            history.know_forgotten(self.load_forget_records(&mut Vec::new())?);
        }
        history.memory = memory;
        Ok(history)
    }

    fn read_history(&self) -> Result<History> {
        let mut history = History::default();
        self.store().list_ahead(&[Area::Snapshots, Area::Forgotten, Area::Labels]);
        let snapshots = self.store().list(&Area::Snapshots.prefix())?;
        let records = self.load_forget_records(&mut history.damaged)?;
        history.know_forgotten(records);
        let mut wanted = Vec::new();
        for info in snapshots {
            match layout::sha256_of(&info.key) {
                Ok(id) if history.forgotten.contains_key(&id.to_string()) => history.lingering.push(id),
                Ok(id) => wanted.push((id, info.key)),
                Err(error) => history.damaged.push(Unsound { key: info.key, error }),
            }
        }
        let keys: Vec<_> = wanted.iter().map(|(_, key)| key.clone()).collect();
        for ((id, key), json) in wanted.into_iter().zip(self.get_whole_each(&keys, ObjectKind::Snapshot)) {
            match json.and_then(|json| decode_snapshot(id, &key, &json)) {
                Ok(snapshot) => history.snapshots.push(snapshot),
                Err(e) => {
                    let before = history.damaged.len();
                    keep_damage(key, e, &mut history.damaged)?;
                    history.unreadable.extend((history.damaged.len() > before).then_some(id));
                }
            }
        }
        history.snapshots.sort_by(|a, b| {
            (a.manifest.time, &a.manifest.writer, a.manifest.sequence, a.id).cmp(&(
                b.manifest.time,
                &b.manifest.writer,
                b.manifest.sequence,
                b.id,
            ))
        });
        history.labels = self.load_labels(&mut history.damaged)?;
        history.apply_labels();
        Ok(history)
    }

    /// Reads one snapshot.
    ///
    /// # Errors
    /// `Damaged` if it is missing or not what it should be.
    pub fn read_snapshot(&self, id: &Sha256) -> Result<Snapshot> {
        let key = layout::named_by_hash(Area::Snapshots, id)?;
        decode_snapshot(*id, &key, &self.get_whole(&key, ObjectKind::Snapshot)?)
    }
}

fn decode_snapshot(id: Sha256, key: &Key, json: &[u8]) -> Result<Snapshot> {
    let manifest = Manifest::decode(json).map_err(|e| e.context(key))?;
    Ok(Snapshot::new(id, manifest))
}

/// What a forgotten snapshot is found by: its id, or its place if nothing that was left named its id.
fn key_of(witness: &Witness) -> String {
    match witness.id.as_str() {
        "" => format!("{}:{}", witness.writer, witness.sequence),
        id => id.to_owned(),
    }
}

/// A snapshot as others refer to it.
pub fn witness(snapshot: &Snapshot) -> Witness {
    Witness {
        writer: snapshot.manifest.writer.clone(),
        sequence: snapshot.manifest.sequence,
        id: snapshot.id.to_string(),
    }
}

/// Damage is kept in a list; anything else ends the operation. An object that vanished since it was listed was forgotten meanwhile.
pub(super) fn keep_damage(key: Key, error: Error, damaged: &mut Vec<Unsound>) -> Result<()> {
    match error.kind() {
        Kind::Damaged if store::is_missing(&error) => Ok(()),
        Kind::Damaged => {
            damaged.push(Unsound { key, error });
            Ok(())
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_refused_by_name() {
        let record = |version: &str| {
            format!(r#"{{"version":{version},"time":"t","host":"h","forgotten":[],"later":1}}"#).into_bytes()
        };
        assert_eq!(ForgetRecord::decode(&record("1")).unwrap().version, 1);
        let newer = ForgetRecord::decode(&record("2")).unwrap_err();
        assert!(newer.kind() == Kind::Failed && newer.to_string().contains("version 2"), "{newer:?}");
        for malformed in [record("-1"), record("\"1\""), record("65536"), b"{}".to_vec(), b"".to_vec()] {
            assert_eq!(ForgetRecord::decode(&malformed).unwrap_err().kind(), Kind::Damaged);
        }
    }
}
