//! Index shards written anew without packs that go, and many small ones as few. Never all of the index is in memory.
//!
//! Each new shard says which it replaces: the moment it is stored, those count no more, and whoever reads sees the one or the others. Shards
//! that are written meanwhile by others are not touched.

use std::collections::HashSet;

use lifeboat_providers::{Key, Sha256};

use crate::events::Context;
use crate::index::shard::Shard;
use crate::index::{Index, ShardSummary};
use crate::repository::{Area, Repository, layout, store};
use crate::seal::header::ObjectKind;
use crate::session::OpenSession;
use crate::{Error, Result};

/// Chunks of a shard that is written, unless an old one alone has more.
const SHARD_CHUNKS_MAX: u64 = if cfg!(test) { 8 } else { 512 << 10 };
/// A shard of fewer chunks is small …
const SMALL_CHUNKS: u64 = if cfg!(test) { 2 } else { SHARD_CHUNKS_MAX / 16 };
/// … and so many are written as one: every one is a request for whoever begins without a cache.
const SMALL_MERGED_MIN: usize = 64;

/// What became of the index.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// Shards that were written.
    pub(super) written: u64,
    /// Shards that nothing needs any more: they can be deleted.
    pub(super) replaced: Vec<Key>,
}

/// Writes the shards anew that name packs of `dropped`.
///
/// # Errors
/// `Fenced`; `Interrupted`; `Damaged` if a shard cannot be read; errors of the store. The index is whole after each.
pub(super) fn rewrite(
    repository: &Repository,
    session: &OpenSession,
    index: &Index,
    dropped: &HashSet<Sha256>,
    context: &Context,
) -> Result<Rewritten> {
    let (mut affected, mut small) = (Vec::new(), Vec::new());
    index.for_each_shard(|shard| {
        if shard.packs.iter().any(|pack| dropped.contains(pack)) {
            affected.push(shard);
        } else if shard.chunks < SMALL_CHUNKS {
            small.push(shard);
        }
        Ok(())
    })?;
    if small.len() >= SMALL_MERGED_MIN {
        affected.append(&mut small);
    }
    let present = present(repository)?;
    let mut rewritten = Rewritten::default();
    let mut group = Group::default();
    for summary in affected {
        context.check_stop()?;
        let chunks = summary.chunks;
        if !group.replaces.is_empty() && group.chunks + chunks > SHARD_CHUNKS_MAX {
            group.store(repository, session, index, &mut rewritten)?;
        }
        group.add(repository, &summary, &present, dropped)?;
    }
    group.store(repository, session, index, &mut rewritten)?;
    // What an earlier run has replaced and could not remove.
    let mut left = HashSet::new();
    index.for_each_shard(|shard| {
        left.extend(shard.replaces.into_iter().filter(|id| present.contains(id)));
        Ok(())
    })?;
    for id in left {
        let key = layout::named_by_hash(Area::Index, &id)?;
        if !rewritten.replaced.contains(&key) {
            rewritten.replaced.push(key);
        }
    }
    Ok(rewritten)
}

/// The shards that are stored.
fn present(repository: &Repository) -> Result<HashSet<Sha256>> {
    let listed = repository.store().list_now(&[Area::Index])?.concat();
    Ok(listed.iter().filter_map(|info| layout::sha256_of(&info.key).ok()).collect())
}

/// Shards that are written as one.
#[derive(Default)]
struct Group {
    shard: Shard,
    replaces: Vec<Sha256>,
    has_leftovers: bool,
    chunks: u64,
}

impl Group {
    fn add(
        &mut self,
        repository: &Repository,
        summary: &ShardSummary,
        present: &HashSet<Sha256>,
        dropped: &HashSet<Sha256>,
    ) -> Result<()> {
        let shard = match repository.read_shard(&summary.id) {
            Ok(shard) => shard,
            // Somebody else has replaced it.
            Err(e) if store::is_missing(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        // What it had replaced must not count again when it is gone.
        let before = self.replaces.len();
        self.replaces.extend(summary.replaces.iter().filter(|id| present.contains(id)));
        self.has_leftovers |= self.replaces.len() > before;
        self.replaces.push(summary.id);
        let kept = shard.packs.into_iter().filter(|pack| !dropped.contains(&pack.id));
        for pack in kept {
            self.chunks += pack.directory.chunk_count() as u64;
            self.shard.packs.push(pack);
        }
        Ok(())
    }

    /// Stores what was gathered, and begins anew.
    fn store(
        &mut self,
        repository: &Repository,
        session: &OpenSession,
        index: &Index,
        rewritten: &mut Rewritten,
    ) -> Result<()> {
        let mut group = std::mem::take(self);
        if group.replaces.is_empty() {
            return Ok(());
        }
        // Without packs it is needed only to keep what is left over of earlier ones from counting again.
        if !group.shard.packs.is_empty() || group.has_leftovers {
            // Somebody who took this run for dead may have deleted what the new shard would name.
            session.beats().assure()?;
            group.shard.replaces.clone_from(&group.replaces);
            let plain = group.shard.encode();
            let plain = plain.map_err(|e| Error::failed(format_args!("cannot encode the index: {e}")))?;
            let id = repository.put_whole(Area::Index, ObjectKind::IndexShard, &plain)?;
            index.add(&[(id, group.shard)])?;
            rewritten.written += 1;
        }
        for id in group.replaces {
            rewritten.replaced.push(layout::named_by_hash(Area::Index, &id)?);
        }
        Ok(())
    }
}
