//! The index that a backup deduplicates against: without what is not there, and without what is about to be deleted.

use std::collections::{HashMap, HashSet};

use lifeboat_providers::Sha256;

use crate::events::{Context, Event};
use crate::index::{Index, PackSummary};
use crate::pack::directory::PackKind;
use crate::repository::{Area, Repository, Tombstones, layout};
use crate::words::count;
use crate::{Error, Result};

/// Loads it. To deduplicate against what is gone would lose data in silence.
///
/// # Errors
/// Errors of the store; `Damaged` if none of the packs are there.
pub(super) fn load(repository: &Repository, tombstones: &Tombstones, context: &Context) -> Result<Index> {
    let catalog = repository.load_catalog()?;
    catalog.warn(|text| context.report(Event::Warning(text)));
    let index = catalog.index.without(tombstones.packs.clone());
    if repository.store().capabilities().local_root.is_none() {
        return Ok(index);
    }
    // A listing of a local store costs next to nothing.
    let packs = repository.with_sound_index(&index, Index::packs)?;
    let all = packs.len();
    let lost = lost_packs(repository, packs)?;
    if lost.is_empty() {
        return Ok(index);
    }
    if lost.len() == all && all > 1 {
        return Err(Error::damaged(format_args!(
            "all {all} packs that the index names are missing at {}",
            repository.store().location()
        ))
        .with_hint(
            "Is the whole repository mounted and copied? If they are gone for good: `lifeboat repair index`.",
        ));
    }
    context.report(Event::Warning(format!(
        "of the repository's {}, {} missing or cut off: what is still on this machine of that is stored again. \
         `lifeboat check` shows which snapshots have lost data, `lifeboat repair index` mends the index",
        count(all as u64, "pack", "packs"),
        count(lost.len() as u64, "is", "are"),
    )));
    Ok(index_without(repository, &lost)?.without(tombstones.packs.clone()))
}

type PackIds = HashSet<Sha256>;

/// Packs that the index names and that are not there in full.
fn lost_packs(repository: &Repository, packs: Vec<PackSummary>) -> Result<PackIds> {
    let mut stored = HashMap::new();
    for kind in [PackKind::Data, PackKind::Metadata] {
        repository.store().for_each(&Area::of_packs(kind).prefix(), |info| {
            if let Ok(id) = layout::sha256_of(&info.key)
                && layout::pack(kind, &id)? == info.key
            {
                stored.insert(id, info.size);
            }
            Ok(())
        })?;
    }
    let lost = |pack: &PackSummary| stored.get(&pack.id) != Some(&pack.stored_bytes);
    Ok(packs.into_iter().filter(lost).map(|pack| pack.id).collect())
}

/// The index as if some packs were not named: for this run only, the stored one stays as it is.
fn index_without(repository: &Repository, lost: &PackIds) -> Result<Index> {
    let index = Index::scratch(&repository.index_cache());
    for info in repository.store().list(&Area::Index.prefix())? {
        // What is foreign or damaged was reported before.
        let Ok(id) = layout::sha256_of(&info.key) else { continue };
        if let Ok(mut shard) = repository.read_shard(&id) {
            shard.packs.retain(|pack| !lost.contains(&pack.id));
            index.add(&[(id, shard)])?;
        }
    }
    Ok(index)
}
