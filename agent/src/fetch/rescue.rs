//! Packs that no shard of the index names, though they are there: a shard that is lost must not keep anybody from a restore, even where
//! the index cannot be made anew because the store can only be read.

use lifeboat_providers::Sha256;
use parking_lot::Mutex;

use crate::Result;
use crate::chunk::ChunkId;
use crate::index::shard::{PackEntry, Shard};
use crate::index::{Index, Location};
use crate::repository::Repository;
use crate::words::count;

/// Packs whose directories are turned into a table at once: bounds memory.
const PACKS_AT_ONCE: usize = 512;

/// Where to look for a chunk that the index does not know.
pub(super) struct Rescue {
    warn: Box<dyn Fn(String) + Send + Sync>,
    /// Made when the first chunk is looked for; until then nothing is read.
    found: Mutex<Option<Index>>,
}

impl Rescue {
    pub(super) fn new(warn: Box<dyn Fn(String) + Send + Sync>) -> Self {
        Self { warn, found: Mutex::default() }
    }

    /// Places of a chunk in packs that `index` does not name. The first call reads the directories of all of those.
    ///
    /// # Errors
    /// If the store cannot be listed or read.
    pub(super) fn lookup(
        &self,
        repository: &Repository,
        index: &Index,
        id: &ChunkId,
    ) -> Result<Vec<Location>> {
        let mut found = self.found.lock();
        if let Some(found) = found.as_ref() {
            return Ok(found.lookup_all(id));
        }
        let (rescued, packs) = unnamed_packs(repository, index)?;
        if packs > 0 {
            (self.warn)(format!(
                "{} named by no index: what they hold is read from themselves. `lifeboat repair index` makes the index anew.",
                count(packs, "pack is", "packs are")
            ));
        }
        Ok(found.insert(rescued).lookup_all(id))
    }
}

/// What the packs that `index` does not name say of themselves, and how many they are. Those that are damaged say nothing.
fn unnamed_packs(repository: &Repository, index: &Index) -> Result<(Index, u64)> {
    let rescued = Index::scratch(&repository.index_cache());
    let (mut entries, mut packs) = (Vec::new(), 0);
    repository.for_each_unnamed_pack(index, |entry| {
        let Ok(entry) = entry else { return Ok(()) };
        entries.push(entry);
        packs += 1;
        if entries.len() >= PACKS_AT_ONCE { add(&rescued, std::mem::take(&mut entries)) } else { Ok(()) }
    })?;
    add(&rescued, entries)?;
    Ok((rescued, packs))
}

/// Adds packs as a shard that is stored nowhere: the name of its first pack is as good as any.
fn add(index: &Index, packs: Vec<PackEntry>) -> Result<()> {
    let Some(name) = packs.first().map(|pack| Sha256::of(pack.id.as_bytes())) else { return Ok(()) };
    index.add(&[(name, Shard { replaces: Vec::new(), packs })])
}
