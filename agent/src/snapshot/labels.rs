//! Pins and tags that snapshots were given after they were made: small records of their own, because snapshots never change.
//!
//! A record says all that holds of one snapshot from then on, and names the records it replaces. What holds is what the unreplaced records
//! say: one, unless two machines wrote at once; then a pin wins, and tags are united. See `docs/format.md`, "Labels".

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lifeboat_providers::Sha256;
use serde::{Deserialize, Serialize};

use super::history::{History, Snapshot, Unsound};
use crate::repository::state::Memory;
use crate::repository::{Area, Repository, layout, versioned};
use crate::seal::SealedObject;
use crate::seal::header::ObjectKind;
use crate::{Error, Kind, Result};

/// What holds of a snapshot from the record's time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRecord {
    /// 1.
    pub version: u16,
    /// When, RFC 3339: for people.
    pub time: String,
    /// On which machine.
    pub host: String,
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// Whether no policy may forget it.
    pub pinned: bool,
    /// All its tags.
    pub tags: Vec<String>,
    /// Earlier records of the same snapshot that count no more, and those that they replaced.
    #[serde(default)]
    pub replaces: Vec<String>,
}

impl LabelRecord {
    /// Reads the opened bytes of a record.
    ///
    /// # Errors
    /// `Damaged` if they are none; a failure that names it for another version.
    pub fn decode(json: &[u8]) -> Result<Self> {
        versioned::decode("record of labels", 1..=1, json)
    }

    fn id(&self) -> Option<Sha256> {
        self.snapshot.parse().ok()
    }

    fn replaced(&self) -> impl Iterator<Item = Sha256> {
        self.replaces.iter().filter_map(|id| id.parse().ok())
    }
}

/// What holds of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelState {
    /// No policy may forget it.
    pub pinned: bool,
    /// Its tags, each once.
    pub tags: Vec<String>,
}

/// A record that is to be stored at every destination that has its snapshot.
#[derive(Debug)]
pub struct NewLabel {
    object: SealedObject,
    /// Records that it replaces, and that may be there.
    stale: Vec<Sha256>,
}

/// All records of a repository.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    records: BTreeMap<Sha256, LabelRecord>,
    /// Records that could not be read: what they say is not known.
    pub unreadable: Vec<Sha256>,
}

impl Labels {
    /// The records by the ids they are stored under.
    pub const fn records(&self) -> &BTreeMap<Sha256, LabelRecord> {
        &self.records
    }

    /// Takes a record in.
    pub fn add(&mut self, id: Sha256, record: LabelRecord) {
        self.records.insert(id, record);
    }

    /// Takes all records of another destination in: a pin that did not come here yet counts all the same.
    pub fn unite(&mut self, other: &Self) {
        self.records.extend(other.records.iter().map(|(id, record)| (*id, record.clone())));
    }

    /// Records that another one replaces.
    pub fn replaced(&self) -> HashSet<Sha256> {
        self.records.values().flat_map(LabelRecord::replaced).collect()
    }

    /// Records that no other replaces.
    pub fn current(&self) -> impl Iterator<Item = (&Sha256, &LabelRecord)> {
        let replaced = self.replaced();
        self.records.iter().filter(move |(id, _)| !replaced.contains(*id))
    }

    /// What holds of every snapshot that a record names.
    pub fn states(&self) -> BTreeMap<Sha256, LabelState> {
        let mut states: BTreeMap<Sha256, (bool, BTreeSet<&str>)> = BTreeMap::new();
        for (_, record) in self.current() {
            let Some(snapshot) = record.id() else { continue };
            let (pinned, tags) = states.entry(snapshot).or_default();
            *pinned |= record.pinned;
            tags.extend(record.tags.iter().map(String::as_str));
        }
        let state = |(pinned, tags): (bool, BTreeSet<&str>)| LabelState {
            pinned,
            tags: tags.into_iter().map(str::to_owned).collect(),
        };
        states.into_iter().map(|(id, found)| (id, state(found))).collect()
    }

    /// All records of a snapshot that are known, and all that those replaced: what a new one replaces.
    fn of(&self, snapshot: &Sha256) -> BTreeSet<Sha256> {
        let own = self.records.iter().filter(|(_, record)| record.id() == Some(*snapshot));
        own.flat_map(|(id, record)| record.replaced().chain([*id])).collect()
    }
}

impl History {
    /// Puts what the records say onto the snapshots.
    pub fn apply_labels(&mut self) {
        let mut states = self.labels.states();
        for snapshot in &mut self.snapshots {
            match states.remove(&snapshot.id) {
                Some(state) => (snapshot.pinned, snapshot.tags) = (state.pinned, state.tags),
                None => (snapshot.pinned, snapshot.tags) = (false, snapshot.manifest.tags.clone()),
            }
        }
    }
}

impl History {
    /// Records that this machine saw at a place, and that cannot be read there any more though their snapshots can: the record's id and the
    /// snapshot's. A snapshot of which another record says something now is left out.
    pub fn lost_labels(&self, memory: &Memory, place: &str) -> Vec<(String, String)> {
        let Some(seen) = memory.labels.get(place) else { return Vec::new() };
        let here: HashSet<String> = self.snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect();
        let labelled: HashSet<&str> =
            self.labels.records.values().map(|record| record.snapshot.as_str()).collect();
        let lost = seen
            .iter()
            .filter(|(_, snapshot)| here.contains(*snapshot) && !labelled.contains(snapshot.as_str()));
        lost.map(|(id, snapshot)| (id.clone(), snapshot.clone())).collect()
    }
}

impl Snapshot {
    /// What holds of it.
    pub fn labels(&self) -> LabelState {
        LabelState { pinned: self.pinned, tags: self.tags.clone() }
    }
}

impl Repository {
    /// Reads all records of labels. Damaged ones are listed in the result, and their errors in `damaged`.
    pub(super) fn load_labels(&self, damaged: &mut Vec<Unsound>) -> Result<Labels> {
        let mut labels = Labels::default();
        self.for_each_record(Area::Labels, ObjectKind::Label, |key, json| {
            let id = match layout::sha256_of(key) {
                Ok(id) => id,
                Err(error) => {
                    damaged.push(Unsound { key: key.clone(), error });
                    return Ok(());
                }
            };
            match json.and_then(|json| LabelRecord::decode(&json).map_err(|e| e.context(key))) {
                Ok(record) => labels.add(id, record),
                Err(error) if error.kind() == Kind::Damaged => {
                    labels.unreadable.push(id);
                    damaged.push(Unsound { key: key.clone(), error });
                }
                Err(e) => return Err(e),
            }
            Ok(())
        })?;
        Ok(labels)
    }

    /// Seals what is to hold of a snapshot from now on, in place of all that `labels` says of it: the same record for every destination.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn seal_label(
        &self,
        labels: &Labels,
        snapshot: &Sha256,
        state: &LabelState,
        host: &str,
    ) -> Result<NewLabel> {
        let replaces = labels.of(snapshot);
        let record = LabelRecord {
            version: 1,
            time: chrono::Utc::now().to_rfc3339(),
            host: host.to_owned(),
            snapshot: snapshot.to_string(),
            pinned: state.pinned,
            tags: state.tags.clone(),
            replaces: replaces.iter().map(ToString::to_string).collect(),
        };
        let json = serde_json::to_vec(&record).map_err(|e| Error::failed(e.to_string()))?;
        let stale = labels.records.keys().filter(|id| replaces.contains(*id)).copied().collect();
        Ok(NewLabel { object: self.seal(ObjectKind::Label, &json)?, stale })
    }

    /// Stores a new record, then removes those that it replaces.
    ///
    /// # Errors
    /// Errors of the store. Once it is stored, it holds.
    pub fn store_label(&self, label: &NewLabel) -> Result<()> {
        let key = layout::named_by_hash(Area::Labels, &label.object.sha256())?;
        self.store().create_or_same(&key, &label.object)?;
        self.remove_labels(label.stale.iter())
    }

    /// Brings records of another destination here: of the snapshots `here`, where `own` is known already. What is damaged there is said in
    /// `damaged`. Returns how many were brought.
    ///
    /// # Errors
    /// Errors of either store that are no damage.
    pub fn bring_labels(
        &self,
        here: &HashSet<Sha256>,
        own: &Labels,
        from: &Self,
        theirs: &Labels,
        damaged: &mut Vec<String>,
    ) -> Result<u64> {
        let mut united = own.clone();
        united.unite(theirs);
        let replaced = united.replaced();
        let mut brought = 0;
        for (id, record) in theirs.records() {
            let is_wanted = record.id().is_some_and(|snapshot| here.contains(&snapshot));
            if !is_wanted || replaced.contains(id) || own.records.contains_key(id) {
                continue;
            }
            let key = layout::named_by_hash(Area::Labels, id)?;
            match from.store().get_named(&key) {
                Ok(stored) => {
                    self.store().create_or_same(&key, &SealedObject::copied(stored, *id))?;
                    brought += 1;
                }
                Err(e) if crate::repository::store::is_missing(&e) => {}
                Err(e) if e.kind() == Kind::Damaged => damaged.push(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        self.remove_labels(own.records.keys().filter(|id| replaced.contains(*id)))?;
        Ok(brought)
    }

    /// Removes records of labels.
    pub(crate) fn remove_labels<'i>(&self, ids: impl Iterator<Item = &'i Sha256>) -> Result<()> {
        for id in ids {
            self.store().delete(&layout::named_by_hash(Area::Labels, id)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Sha256 {
        Sha256::of(text.as_bytes())
    }

    fn record(snapshot: &str, pinned: bool, tags: &[&str], replaces: &[&str]) -> LabelRecord {
        LabelRecord {
            version: 1,
            time: "t".to_owned(),
            host: "h".to_owned(),
            snapshot: id(snapshot).to_string(),
            pinned,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            replaces: replaces.iter().map(|name| id(name).to_string()).collect(),
        }
    }

    fn labels(records: &[(&str, LabelRecord)]) -> Labels {
        let mut labels = Labels::default();
        records.iter().for_each(|(name, record)| labels.add(id(name), record.clone()));
        labels
    }

    fn state(labels: &Labels) -> (bool, String) {
        let state = labels.states().remove(&id("s")).unwrap();
        (state.pinned, state.tags.join(" "))
    }

    #[test]
    fn the_last_record_counts_and_what_was_written_at_once_is_united() {
        let first = ("1", record("s", true, &["a", "b"], &[]));
        let unpinned = ("2", record("s", false, &["b"], &["1"]));
        let tagged = ("3", record("s", true, &["a", "b", "c"], &["1"]));
        let other = ("4", record("other", true, &["x"], &[]));
        assert_eq!(state(&labels(&[first.clone(), other.clone()])), (true, "a b".into()));
        assert_eq!(state(&labels(&[first.clone(), unpinned.clone(), other])), (false, "b".into()));
        // Two machines at once: a pin wins, tags are united; whether the first is there still makes no difference.
        let both = [unpinned.clone(), tagged.clone()];
        assert_eq!(state(&labels(&both)), (true, "a b c".into()));
        let last = ("5", record("s", false, &[], &["1", "2", "3"]));
        assert_eq!(state(&labels(&[first, unpinned, tagged, last])), (false, String::new()));
    }

    #[test]
    fn a_record_that_lags_behind_does_not_come_back() {
        // 1 was replaced by 2 and removed here; another place has 1 only, and then gets 3, which replaced 2.
        let known = labels(&[("2", record("s", false, &["b"], &["1"]))]);
        let replaced: Vec<String> = known.of(&id("s")).iter().map(ToString::to_string).collect();
        let mut last = record("s", false, &["c"], &[]);
        last.replaces = replaced;
        let elsewhere = labels(&[("1", record("s", true, &["a"], &[])), ("3", last)]);
        assert_eq!(state(&elsewhere), (false, "c".into()));
    }

    #[test]
    fn a_record_of_another_version_is_refused_by_name() {
        let json = |version: u16| {
            serde_json::to_vec(&LabelRecord { version, ..record("s", true, &[], &[]) }).unwrap()
        };
        assert!(LabelRecord::decode(&json(1)).unwrap().pinned);
        assert!(LabelRecord::decode(&json(2)).unwrap_err().to_string().contains("version 2"));
        assert_eq!(LabelRecord::decode(b"{}").unwrap_err().kind(), Kind::Damaged);
    }
}
