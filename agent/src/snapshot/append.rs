//! Appends a snapshot to this writer's chain, the last step of whatever makes one; and what a machine remembers of all chains.

use std::collections::BTreeMap;

use super::chain;
use super::history::{History, Snapshot, witness};
use super::manifest::{Manifest, Witness};
use crate::events::{Context, Event};
use crate::repository::state::{self, Head, LockedMemory, Memory};
use crate::repository::{Area, Repository, layout};
use crate::seal::header::ObjectKind;
use crate::session::OpenSession;
use crate::words::count;
use crate::{Error, Result};

impl Repository {
    /// Stores `manifest` as the next of this machine's chain; `writer`, `sequence`, `previous` and `heads` of it are set here.
    ///
    /// # Errors
    /// As [`Repository::append_snapshots`].
    pub fn append_snapshot(
        &self,
        manifest: Manifest,
        session: &OpenSession,
        context: &Context,
    ) -> Result<Snapshot> {
        let appended = self.append_snapshots(vec![manifest], session, context)?;
        appended
            .into_iter()
            .next()
            .ok_or_else(|| Error::failed("no snapshot was made: this is a bug in lifeboat"))
    }

    /// Stores `manifests`, one after the other, as the next of this machine's chain, all or none, as the last step of `session`.
    ///
    /// The memory is locked meanwhile, so that two processes of one machine take different places.
    ///
    /// # Errors
    /// As [`OpenSession::commit`]; if this machine's memory cannot be opened. That it cannot be written once the snapshots are stored is a
    /// warning: the next run finds them in the store.
    pub fn append_snapshots(
        &self,
        manifests: Vec<Manifest>,
        session: &OpenSession,
        context: &Context,
    ) -> Result<Vec<Snapshot>> {
        if manifests.is_empty() {
            return Ok(Vec::new());
        }
        let mut memory = LockedMemory::open(self.directories())?;
        // Listed under the lock: another process may have taken the next place since this run began.
        let history = self.history_at_once()?;
        let place = &self.directories().place;
        see(place, &history, &mut memory.memory);
        let (mut appended, mut objects) = (Vec::new(), Vec::new());
        for mut manifest in manifests {
            manifest.writer.clone_from(&memory.memory.writer);
            let last = memory.memory.heads.get(&manifest.writer).cloned();
            manifest.sequence = next_place(last.as_ref(), &manifest.writer)?;
            manifest.previous = last.map(|last| last.id);
            manifest.heads = other_heads(&history.snapshots, &manifest.writer);
            let object = self.seal(ObjectKind::Snapshot, &manifest.encode()?)?;
            let id = object.sha256();
            memory.memory.saw(place, &manifest.writer, manifest.sequence, &id);
            appended.push(Snapshot::new(id, manifest));
            objects.push(object);
        }
        session.commit(&objects)?;
        for object in &objects {
            self.cache_object(
                &layout::named_by_hash(Area::Snapshots, &object.sha256())?,
                object.body().pieces(),
            );
        }
        if let Err(e) = memory.save() {
            context.report(Event::Warning(format!(
                "{e}. The snapshot was made, but if it is removed behind your back, this machine does not notice."
            )));
        }
        Ok(appended)
    }

    /// As [`Repository::load_history`], by one round trip fewer: all areas are listed at once. What is forgotten or tagged at this very moment may be
    /// missed, which is nothing to a chain; a gap is looked into all the same.
    fn history_at_once(&self) -> Result<History> {
        let areas = [Area::Snapshots, Area::Forgotten, Area::Labels];
        let listed = self.store().list_now(&areas)?;
        for (area, listing) in areas.into_iter().zip(listed) {
            self.store().put_ahead(area, listing);
        }
        self.load_history()
    }

    /// How many snapshots were removed behind everybody's back, as far as this machine can know.
    pub fn count_removed(&self, history: &History) -> u64 {
        chain::examine(history, history.memory.as_ref(), &self.directories().place).gone(history).count()
            as u64
    }

    /// Whether others may have snapshots that are not here: some were made while this place was away, as this machine remembers, or there are none
    /// at all, because it was made anew.
    pub fn seems_behind(&self) -> bool {
        let place = &self.directories().place;
        let is_owed = state::peek(self.directories()).is_some_and(|memory| !memory.owed_at(place).is_empty());
        is_owed || self.store().seems_empty(&Area::Snapshots.prefix()).unwrap_or(false)
    }

    /// Words on [`Repository::count_removed`]; `None` for none.
    pub fn removed_snapshots(&self, history: &History) -> Option<String> {
        let gone = self.count_removed(history);
        (gone > 0).then(|| {
            format!(
                "{} removed from this repository without a record, or this is another copy of it: `lifeboat check` lists them",
                count(gone, "snapshot was", "snapshots were")
            )
        })
    }

    /// Remembers on this machine how far each writer's chain reaches, so that it is noticed when the store is rolled back later.
    ///
    /// # Errors
    /// If the memory cannot be written. Nothing else depends on it.
    pub fn remember(&self, history: &History) -> Result<()> {
        let place = &self.directories().place;
        let known = state::peek(self.directories());
        let mut seen = known.clone().unwrap_or_default();
        see(place, history, &mut seen);
        if known.map_or(seen.heads.is_empty(), |known| known == seen) {
            return Ok(());
        }
        let mut memory = LockedMemory::open(self.directories())?;
        see(place, history, &mut memory.memory);
        memory.save()
    }
}

/// The place after the last one of a writer's chain.
fn next_place(last: Option<&Head>, writer: &str) -> Result<u64> {
    last.map_or(Some(1), |last| last.sequence.checked_add(1)).ok_or_else(|| {
        Error::failed(format_args!("the chain of writer {writer} is at its end")).with_hint(
            "Remove this machine's state directory for the repository: it then begins a new chain.",
        )
    })
}

fn see(place: &str, history: &History, memory: &mut Memory) {
    let mut labels: BTreeMap<String, String> = history.lost_labels(memory, place).into_iter().collect();
    let current = history.labels.current();
    labels.extend(current.map(|(id, record)| (id.to_string(), record.snapshot.clone())));
    if labels.is_empty() {
        memory.labels.remove(place);
    } else {
        memory.labels.insert(place.to_owned(), labels);
    }
    for snapshot in &history.snapshots {
        memory.saw(place, &snapshot.manifest.writer, snapshot.manifest.sequence, &snapshot.id);
    }
    for Witness { writer, sequence, id } in history.forgotten.values() {
        if let Ok(id) = id.parse() {
            memory.saw(place, writer, *sequence, &id);
        }
    }
}

/// The newest snapshot of every other writer: witnesses that they were there.
fn other_heads(snapshots: &[Snapshot], own: &str) -> Vec<Witness> {
    let mut heads: BTreeMap<&str, Witness> = BTreeMap::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.manifest.writer != own) {
        let seen = witness(snapshot);
        let head = heads.entry(&snapshot.manifest.writer).or_insert_with(|| seen.clone());
        if head.sequence < seen.sequence {
            *head = seen;
        }
    }
    heads.into_values().collect()
}
