//! Whether a snapshot was removed, or the whole store rolled back, behind the owner's back.
//!
//! Pure code over a [`History`] and what this machine remembers. See `docs/format.md`, "The chain".

use std::collections::{BTreeMap, HashMap, HashSet};

use super::history::History;
use super::manifest::Witness;
use crate::repository::state::{Head, Memory};

/// A snapshot that should be there and is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// The writer it belongs to.
    pub writer: String,
    /// Its place in the writer's chain.
    pub sequence: u64,
    /// Its id, if anything that is left names it.
    pub id: Option<String>,
    /// Who says that it was there.
    pub said_by: String,
}

/// Two snapshots at one place of one writer's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The writer: probably two machines with one state directory.
    pub writer: String,
    /// The place they share.
    pub sequence: u64,
}

/// What the chain shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Snapshots removed without a record.
    pub missing: Vec<Missing>,
    /// Places taken twice.
    pub forks: Vec<Fork>,
}

impl Report {
    /// Snapshots that are not there at all: one that is there and cannot be read is damaged, not removed.
    pub fn gone<'r>(&'r self, history: &'r History) -> impl Iterator<Item = &'r Missing> {
        let is_there = |id: &str| history.unreadable.iter().any(|known| known.to_string() == id);
        self.missing.iter().filter(move |missing| !missing.id.as_deref().is_some_and(is_there))
    }
}

/// Looks for gaps. `memory` is what this machine saw before, if it is known here, and `place` where the history was read.
pub fn examine(history: &History, memory: Option<&Memory>, place: &str) -> Report {
    let mut present: HashMap<(&str, u64), &str> = HashMap::new();
    let ids: Vec<String> = history.snapshots.iter().map(|s| s.id.to_string()).collect();
    let mut report = Report::default();
    for (snapshot, id) in history.snapshots.iter().zip(&ids) {
        let place = (snapshot.manifest.writer.as_str(), snapshot.manifest.sequence);
        if present.insert(place, id).is_some() {
            report.forks.push(Fork { writer: place.0.to_owned(), sequence: place.1 });
        }
    }
    // What is known to be at another destination and not to have come here yet was not removed.
    let owed = memory.map_or(&[][..], |memory| memory.owed_at(place));
    for witness in history.forgotten.values().chain(owed) {
        present.entry((&witness.writer, witness.sequence)).or_insert(&witness.id);
    }
    let owed_ids = owed.iter().map(|witness| &witness.id);
    let known: HashSet<&str> =
        ids.iter().chain(history.forgotten.keys()).chain(owed_ids).map(String::as_str).collect();
    let expected = expectations(history, memory.and_then(|memory| memory.heads_at(place)));
    for ((writer, sequence), (id, said_by)) in &expected {
        let gone = match id {
            Some(id) => !known.contains(id.as_str()),
            None => !present.contains_key(&(writer.as_str(), *sequence)),
        };
        if gone {
            report.missing.push(Missing {
                writer: writer.clone(),
                sequence: *sequence,
                id: id.clone(),
                said_by: said_by.clone(),
            });
        }
    }
    report
}

type Expectations = BTreeMap<(String, u64), (Option<String>, String)>;

/// Every place of every chain that must be taken, with the id where something names it, and who says so.
fn expectations(history: &History, heads: Option<&BTreeMap<String, Head>>) -> Expectations {
    let mut expected = Expectations::new();
    let mut name = |writer: &str, sequence: u64, id: Option<&str>, said_by: String| {
        let place = expected.entry((writer.to_owned(), sequence)).or_insert_with(|| (None, said_by.clone()));
        if let (None, Some(id)) = (&place.0, id) {
            *place = (Some(id.to_owned()), said_by);
        }
    };
    for snapshot in &history.snapshots {
        let manifest = &snapshot.manifest;
        let by = || format!("snapshot {}", snapshot.short_id());
        if let Some(previous) = &manifest.previous {
            name(&manifest.writer, manifest.sequence.saturating_sub(1), Some(previous), by());
        }
        for head in &manifest.heads {
            name(&head.writer, head.sequence, Some(&head.id), by());
        }
    }
    for Witness { writer, sequence, id } in history.forgotten.values() {
        name(
            writer,
            *sequence,
            Some(id.as_str()).filter(|id| !id.is_empty()),
            "a record of forgotten snapshots".to_owned(),
        );
    }
    for (writer, head) in heads.into_iter().flatten() {
        name(writer, head.sequence, Some(&head.id), "this machine's memory".to_owned());
    }
    fill_gaps(history, &mut expected);
    expected
}

/// Below the greatest known place of a writer all places were taken once.
fn fill_gaps(history: &History, expected: &mut Expectations) {
    let mut greatest: HashMap<String, u64> = HashMap::new();
    let own = history.snapshots.iter().map(|s| (s.manifest.writer.clone(), s.manifest.sequence));
    for (writer, sequence) in own.chain(expected.keys().cloned()) {
        let known = greatest.entry(writer).or_default();
        *known = (*known).max(sequence);
    }
    let taken: HashSet<(String, u64)> = history
        .snapshots
        .iter()
        .map(|s| (s.manifest.writer.clone(), s.manifest.sequence))
        .chain(expected.keys().cloned())
        .collect();
    // A hostile sequence number must not make this loop long: places are counted, not walked, beyond a bound.
    const PLACES_MAX: u64 = 1 << 20;
    for (writer, greatest) in greatest {
        for sequence in 1..=greatest.min(PLACES_MAX) {
            let place = (writer.clone(), sequence);
            if !taken.contains(&place) {
                expected.insert(place, (None, "a gap in the writer's chain".to_owned()));
            }
        }
    }
}
