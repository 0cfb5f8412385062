//! Makes the index anew from what the packs say of themselves.
//!
//! New shards are stored before old ones are removed; an interruption in between leaves both, which is as good.

use std::collections::HashMap;

use lifeboat_providers::{Key, Sha256};

use crate::events::{Context, Event};
use crate::index::shard::{PackEntry, Shard};
use crate::pack::directory::PackKind;
use crate::repository::{Area, Repository, layout, store};
use crate::seal::header::ObjectKind;
use crate::{Error, Kind, Result};

/// Chunks of a shard at most: its plain form stays far below the format's limit.
const SHARD_CHUNKS_MAX: usize = 1 << 20;

/// What a repair of the index came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IndexRepair {
    /// Nothing was wrong, nothing was changed.
    pub was_sound: bool,
    /// Packs in the index now.
    pub packs: u64,
    /// Packs that no readable shard had named.
    pub found: u64,
    /// Packs that were named and are not there, or have another size: what they held is lost, unless other packs hold it too.
    pub lost: Vec<String>,
    /// Packs whose directory cannot be read and which no shard names: left where they are.
    pub unreadable: Vec<String>,
    /// Shards that could not be read.
    pub damaged_shards: u64,
}

/// Makes the index anew.
///
/// # Errors
/// `Interrupted`; errors of the store. Nothing is removed before all that replaces it is stored.
pub fn index(repository: &Repository, context: &Context) -> Result<IndexRepair> {
    let mut repair = IndexRepair::default();
    context.report(Event::Phase("reading the index"));
    let (mut known, old_shards) = read_shards(repository, &mut repair)?;
    context.report(Event::Phase("reading packs"));
    let mut entries = Vec::new();
    let mut chunks = 0;
    let mut shards = Vec::new();
    for kind in [PackKind::Metadata, PackKind::Data] {
        for info in repository.store().list(&Area::of_packs(kind).prefix())? {
            context.check_stop()?;
            let Ok(id) = layout::sha256_of(&info.key) else { continue };
            let named = known.remove(&(kind, id));
            let entry = match named {
                Some(entry) if entry.stored_bytes == info.size => Some(entry),
                Some(_) => {
                    repair.lost.push(info.key.to_string());
                    None
                }
                None => find(repository, kind, &id, info.size, &mut repair, context)?,
            };
            let Some(entry) = entry else { continue };
            repair.packs += 1;
            chunks += entry.directory.chunk_count();
            entries.push(entry);
            if chunks >= SHARD_CHUNKS_MAX {
                chunks = 0;
                shards.push(std::mem::take(&mut entries));
            }
        }
    }
    if !entries.is_empty() {
        shards.push(entries);
    }
    for (kind, id) in known.keys() {
        repair.lost.push(layout::pack(*kind, id)?.to_string());
    }
    repair.lost.sort();
    repair.was_sound = repair.lost.is_empty() && repair.found == 0 && repair.damaged_shards == 0;
    if !repair.was_sound {
        context.report(Event::Phase("writing the index"));
        write(repository, shards, &old_shards)?;
    }
    Ok(repair)
}

type Known = HashMap<(PackKind, Sha256), PackEntry>;

/// All packs that readable shards name, and all shards.
fn read_shards(repository: &Repository, repair: &mut IndexRepair) -> Result<(Known, Vec<Key>)> {
    let mut known = Known::new();
    let mut keys = Vec::new();
    for info in repository.store().list(&Area::Index.prefix())? {
        let shard = layout::sha256_of(&info.key).and_then(|id| repository.read_shard(&id));
        match shard {
            Ok(shard) => known.extend(shard.packs.into_iter().map(|pack| ((pack.kind, pack.id), pack))),
            Err(e) if store::is_missing(&e) => continue,
            Err(e) if e.kind() == Kind::Damaged => repair.damaged_shards += 1,
            Err(e) => return Err(e),
        }
        keys.push(info.key);
    }
    Ok((known, keys))
}

/// Reads the directory of a pack that no shard names.
fn find(
    repository: &Repository,
    kind: PackKind,
    id: &Sha256,
    size: u64,
    repair: &mut IndexRepair,
    context: &Context,
) -> Result<Option<PackEntry>> {
    match repository.read_pack_entry(kind, id, size) {
        Ok(entry) => {
            repair.found += 1;
            Ok(Some(entry))
        }
        Err(e) if store::is_missing(&e) => Ok(None),
        Err(e) if e.kind() == Kind::Damaged => {
            context.report(Event::Damage(e.to_string()));
            repair.unreadable.push(layout::pack(kind, id)?.to_string());
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Stores the new shards, then removes the old ones.
fn write(repository: &Repository, shards: Vec<Vec<PackEntry>>, old: &[Key]) -> Result<()> {
    let replaces: Vec<Sha256> = old.iter().filter_map(|key| layout::sha256_of(key).ok()).collect();
    let mut stored = Vec::new();
    for packs in shards {
        let shard = Shard { replaces: replaces.clone(), packs };
        let plain =
            shard.encode().map_err(|e| Error::failed(format_args!("cannot encode the index: {e}")))?;
        stored.push(repository.put_whole(Area::Index, ObjectKind::IndexShard, &plain)?);
    }
    for key in old {
        if layout::sha256_of(key).is_ok_and(|id| stored.contains(&id)) {
            continue;
        }
        repository.store().delete(key)?;
    }
    Ok(())
}
