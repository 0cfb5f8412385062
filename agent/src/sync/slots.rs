//! Key slots of several destinations: what was added at one is added at all, what was removed at one is removed at all.
//!
//! A slot's id is random and never used again, and its removal leaves a sealed record. So the destinations agree on all slots that any of them
//! has and no record names. Records go first and removals last, and no destination is left without a slot.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lifeboat_providers::Key;

use crate::repository::{Area, Repository, layout, slots};
use crate::seal::slot::SlotId;
use crate::{Error, Kind, Result, threads};

/// The slots of a destination, and which it knows to be removed: names, from listings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotNames {
    /// Slots that are there.
    pub there: BTreeSet<SlotId>,
    /// Slots of which a record says that they were removed.
    pub removed: BTreeSet<SlotId>,
}

/// What was changed at a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotChanges {
    /// Slots that were added.
    pub added: u64,
    /// Slots that were removed.
    pub removed: u64,
}

/// What a destination lacks, and what it has that was removed elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotDifference {
    /// Slots that another one has.
    pub lacking: u64,
    /// Slots that were removed at another one.
    pub stale: u64,
}

impl SlotNames {
    /// Those of a repository.
    ///
    /// # Errors
    /// If its store cannot be listed.
    pub fn of(repository: &Repository) -> Result<Self> {
        let names = |area: Area| -> Result<BTreeSet<SlotId>> {
            let listed = repository.store().list(&area.prefix())?;
            Ok(listed.iter().filter_map(|info| layout::slot_id(&info.key)).collect())
        };
        // Records last: a slot that is removed meanwhile is then known as such.
        Ok(Self { there: names(Area::Keys)?, removed: names(Area::Removed)? })
    }
}

/// In what each of them differs from what all would agree on.
pub fn differences(all: &[&SlotNames]) -> Vec<SlotDifference> {
    let removed: BTreeSet<SlotId> = all.iter().flat_map(|names| names.removed.iter().copied()).collect();
    let there: BTreeSet<SlotId> = all.iter().flat_map(|names| names.there.iter().copied()).collect();
    let difference = |names: &&SlotNames| SlotDifference {
        lacking: there.iter().filter(|id| !names.there.contains(*id) && !removed.contains(*id)).count()
            as u64,
        stale: names.there.intersection(&removed).count() as u64,
    };
    all.iter().map(difference).collect()
}

/// Makes destinations of one repository have the same slots; what came of it at each, in their order.
pub fn agree(places: &[&Repository]) -> Vec<Result<SlotChanges>> {
    let seen = threads::at_once(places, |place| SlotNames::of(place));
    let mut troubles: Vec<Option<Error>> = places.iter().map(|_| None).collect();
    let mut removed: BTreeMap<SlotId, Bytes> = BTreeMap::new();
    let known = || places.iter().zip(&seen).filter_map(|(place, names)| Some((place, names.as_ref().ok()?)));
    for ((place, names), trouble) in places.iter().zip(&seen).zip(&mut troubles) {
        for id in names.iter().flat_map(|names| &names.removed) {
            if removed.contains_key(id) {
                continue;
            }
            match place.slot_removal(*id) {
                Ok(record) => {
                    removed.insert(*id, record);
                }
                Err(e) => *trouble = trouble.take().or(Some(e)),
            }
        }
    }
    let mut wanted: BTreeMap<SlotId, Bytes> = BTreeMap::new();
    for ((place, names), trouble) in places.iter().zip(&seen).zip(&mut troubles) {
        for id in names.iter().flat_map(|names| &names.there) {
            let is_everywhere = || known().all(|(_, names)| names.there.contains(id));
            if removed.contains_key(id) || wanted.contains_key(id) || is_everywhere() {
                continue;
            }
            match slots::read(place, *id) {
                Ok(slot) => {
                    wanted.insert(*id, slot);
                }
                Err(e) => *trouble = trouble.take().or(Some(e)),
            }
        }
    }
    let work = places.iter().zip(seen).zip(troubles);
    threads::at_once(work, |((place, names), trouble)| {
        let changes = bring(place, &names?, &removed, &wanted)?;
        trouble.map_or(Ok(changes), Err)
    })
}

/// Brings a destination to what all agree on.
fn bring(
    place: &Repository,
    names: &SlotNames,
    removed: &BTreeMap<SlotId, Bytes>,
    wanted: &BTreeMap<SlotId, Bytes>,
) -> Result<SlotChanges> {
    let store = place.store();
    let create = |key: Key, bytes: &Bytes| slots::put_copy(store, &key, bytes);
    let mut changes = SlotChanges::default();
    for (id, record) in removed.iter().filter(|(id, _)| !names.removed.contains(*id)) {
        create(layout::slot_removal(*id)?, record)?;
    }
    for (id, slot) in wanted.iter().filter(|(id, _)| !names.there.contains(*id)) {
        create(layout::slot(*id)?, slot)?;
        changes.added += 1;
    }
    let stale: Vec<SlotId> = names.there.iter().filter(|id| removed.contains_key(*id)).copied().collect();
    if stale.is_empty() {
        return Ok(changes);
    }
    // Not by their names: one that cannot be read opens nothing.
    let (readable, _) = slots::list(store, place.id())?;
    if !readable.iter().any(|slot| !removed.contains_key(&slot.id)) {
        return Err(Error::new(
            Kind::Failed,
            format_args!(
                "all key slots at {} were removed elsewhere, and no other could be brought: they stay",
                store.location()
            ),
        )
        .with_hint("Add one by `lifeboat key add`, then run `lifeboat sync`."));
    }
    for id in stale {
        store.delete(&layout::slot(id)?)?;
        changes.removed += 1;
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_removal_outweighs_every_copy() {
        let names = |there: &[u8], removed: &[u8]| SlotNames {
            there: there.iter().map(|id| [*id; 8]).collect(),
            removed: removed.iter().map(|id| [*id; 8]).collect(),
        };
        let (one, two, three) = (names(&[1, 2], &[]), names(&[1, 3], &[2]), names(&[1, 2, 3], &[]));
        let found = differences(&[&one, &two, &three]);
        let counts: Vec<_> = found.iter().map(|found| (found.lacking, found.stale)).collect();
        assert_eq!(counts, [(1, 1), (0, 0), (0, 1)]);
    }
}
