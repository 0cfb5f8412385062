//! Brings the local index up to the index shards of the store.

use std::collections::HashSet;
use std::path::PathBuf;

use lifeboat_providers::{Key, ObjectInfo, Sha256};

use super::{Area, Repository, layout};
use crate::index::Index;
use crate::index::shard::{PackEntry, Shard};
use crate::pack::directory::PackKind;
use crate::seal::header::ObjectKind;
use crate::{Error, Result};

/// Shards are fetched until they name as many chunks, then turned into a local table: bounds memory, whatever the size of the shards. Fewer
/// would merge the tables more often.
const CHUNKS_AT_ONCE: usize = 1 << 20;

/// The local index, and what could not be read of the stored one.
#[derive(Debug)]
pub struct Catalog {
    /// Where each chunk lies.
    pub index: Index,
    /// Shards that are damaged: what they named is not known, unless another shard names it too.
    pub damaged: Vec<Error>,
    /// Why the index is in memory and not in the cache, if it is.
    pub trouble: Option<Error>,
}

impl Catalog {
    /// Hands everything that is not as it should be to `warn`, with what to do.
    pub fn warn(&self, mut warn: impl FnMut(String)) {
        for error in &self.damaged {
            warn(format!("{error}. If anything is missing, run `lifeboat repair index`."));
        }
        if let Some(error) = &self.trouble {
            warn(cache_trouble(error));
        }
    }
}

/// The warning of a cache that cannot be used.
pub fn cache_trouble(error: &Error) -> String {
    format!(
        "{error}. It works, but every command fetches the index anew: free some space or name another cache by LIFEBOAT_CACHE_DIR."
    )
}

impl Repository {
    /// Opens the local index and fetches the shards that it lacks.
    ///
    /// Call it after snapshots were listed, never before: then every chunk of those snapshots is in the index.
    ///
    /// # Errors
    /// If the store cannot be listed. Damaged shards are no error here, and neither is a cache that cannot be used.
    pub fn load_catalog(&self) -> Result<Catalog> {
        let index = Index::open_or_in_memory(&self.index_cache());
        let mut damaged = Vec::new();
        let present = self.present_shards(&mut damaged)?;
        index.retain(&present);
        self.fetch_uncovered(&index, &present, &mut damaged)?;
        let trouble = index.take_trouble();
        Ok(Catalog { index, damaged, trouble })
    }

    /// Fetches what a local index lost that turned out to be damaged while it was in use; does nothing if it did not.
    ///
    /// # Errors
    /// As [`Repository::load_catalog`].
    pub fn mend_index(&self, index: &Index) -> Result<()> {
        index.mend(|| {
            // What is damaged in the store was reported when the index was loaded.
            let mut damaged = Vec::new();
            let present = self.present_shards(&mut damaged)?;
            self.fetch_uncovered(index, &present, &mut damaged)
        })
    }

    /// Brings an index that is in use up to the shards that are stored now.
    ///
    /// # Errors
    /// As [`Repository::load_catalog`].
    pub fn renew_index(&self, index: &Index) -> Result<()> {
        // What is damaged in the store was reported when the index was loaded.
        let mut damaged = Vec::new();
        let present = self.present_shards(&mut damaged)?;
        index.retain(&present);
        self.fetch_uncovered(index, &present, &mut damaged)
    }

    /// Calls `read` with the index; once more when the local copy turned out to be damaged and was mended.
    ///
    /// # Errors
    /// What `read` returns; as [`Repository::load_catalog`].
    pub fn with_sound_index<T>(&self, index: &Index, mut read: impl FnMut(&Index) -> Result<T>) -> Result<T> {
        match read(index) {
            Err(_) if index.is_damaged() => {
                self.mend_index(index)?;
                read(index)
            }
            other => other,
        }
    }

    /// The shards that are stored.
    fn present_shards(&self, damaged: &mut Vec<Error>) -> Result<HashSet<Sha256>> {
        let mut present = HashSet::new();
        for info in self.store.list(&Area::Index.prefix())? {
            match layout::sha256_of(&info.key) {
                Ok(id) => {
                    present.insert(id);
                }
                Err(e) => damaged.push(e),
            }
        }
        Ok(present)
    }

    fn fetch_uncovered(
        &self,
        index: &Index,
        present: &HashSet<Sha256>,
        damaged: &mut Vec<Error>,
    ) -> Result<()> {
        // Taking shards in may merge cached tables, and find one damaged: what it covered is then fetched in the next round.
        let mut fetched = HashSet::new();
        loop {
            let covered = index.covered();
            let uncovered = |id: &&Sha256| !covered.contains(id) && !fetched.contains(*id);
            let mut missing: Vec<Sha256> = present.iter().filter(uncovered).copied().collect();
            if missing.is_empty() {
                return Ok(());
            }
            missing.sort_unstable();
            fetched.extend(missing.iter().copied());
            self.add_shards(index, &missing, |_, error| damaged.push(error))?;
        }
    }

    /// Adds stored shards to an index; those that cannot be read go to `damaged`, those that are not there any more to nobody: another
    /// machine may have replaced one since it was listed, and its replacement was listed too.
    ///
    /// # Errors
    /// Errors of the store that are no damage; as [`Index::add`].
    pub fn add_shards(
        &self,
        index: &Index,
        ids: &[Sha256],
        mut damaged: impl FnMut(&Sha256, Error),
    ) -> Result<()> {
        let (mut shards, mut chunks) = (Vec::new(), 0);
        let keys = ids.iter().map(|id| layout::named_by_hash(Area::Index, id)).collect::<Result<Vec<_>>>()?;
        let read = keys.iter().zip(self.get_whole_each(&keys, ObjectKind::IndexShard));
        for (id, (key, plain)) in ids.iter().zip(read) {
            match plain.and_then(|plain| decode_shard(key, &plain)) {
                Ok(shard) => {
                    chunks += shard.chunk_count();
                    shards.push((*id, shard));
                }
                Err(e) if super::store::is_missing(&e) => {}
                Err(e) if e.kind() == crate::Kind::Damaged => damaged(id, e),
                Err(e) => return Err(e),
            }
            if chunks >= CHUNKS_AT_ONCE {
                index.add(&shards)?;
                shards.clear();
                chunks = 0;
            }
        }
        index.add(&shards)
    }

    /// Calls `each` with what every pack says of itself that is there and that `index` neither names nor leaves out, or with why that cannot be had of it.
    ///
    /// # Errors
    /// Errors of the store that are no damage; what `each` returns.
    pub fn for_each_unnamed_pack(
        &self,
        index: &Index,
        each: impl FnMut(Result<PackEntry>) -> Result<()>,
    ) -> Result<()> {
        self.visit_unnamed_packs(index, |_| Ok(()), each)
    }

    /// As [`Repository::for_each_unnamed_pack`], of packs of which the store proves that it holds all their bytes as they were sent: an upload
    /// that was cut off may have its final name and other bytes.
    ///
    /// # Errors
    /// As [`Repository::for_each_unnamed_pack`].
    pub fn for_each_proved_unnamed_pack(
        &self,
        index: &Index,
        each: impl FnMut(Result<PackEntry>) -> Result<()>,
    ) -> Result<()> {
        self.visit_unnamed_packs(index, |info| self.prove_pack(info), each)
    }

    /// `Damaged` unless the store proves that a listed pack has the bytes that it is named by.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn prove_pack(&self, info: &ObjectInfo) -> Result<()> {
        let id = layout::sha256_of(&info.key)?;
        let is_proved = match info.sha256 {
            // A file has its name only after it was read back.
            _ if !self.store.is_far() => true,
            Some(stated) => stated == id,
            None => self.store.holds(&info.key, info.size, id)?,
        };
        if is_proved {
            return Ok(());
        }
        Err(Error::damaged(format_args!("{} holds other bytes than those it is named by", info.key)))
    }

    fn visit_unnamed_packs(
        &self,
        index: &Index,
        prove: impl Fn(&ObjectInfo) -> Result<()>,
        mut each: impl FnMut(Result<PackEntry>) -> Result<()>,
    ) -> Result<()> {
        let packs = self.with_sound_index(index, Index::packs)?;
        let named: HashSet<_> = packs.into_iter().map(|pack| pack.id).collect();
        for kind in [PackKind::Data, PackKind::Metadata] {
            for info in self.store.list(&Area::of_packs(kind).prefix())? {
                let Ok(id) = layout::sha256_of(&info.key) else { continue };
                if named.contains(&id) || index.leaves_out(&id) {
                    continue;
                }
                match prove(&info).and_then(|()| self.read_pack_entry(kind, &id, info.size)) {
                    // A damaged header may claim any version.
                    Err(e) if !matches!(e.kind(), crate::Kind::Damaged | crate::Kind::Failed) => {
                        return Err(e);
                    }
                    entry => each(entry)?,
                }
            }
        }
        Ok(())
    }

    /// Where the local tables are.
    pub fn index_cache(&self) -> PathBuf {
        self.directories.index_tables()
    }

    /// Reads one index shard.
    ///
    /// # Errors
    /// `Damaged` if it is missing or not what it should be.
    pub fn read_shard(&self, id: &Sha256) -> Result<Shard> {
        let key = layout::named_by_hash(Area::Index, id)?;
        decode_shard(&key, &self.get_whole(&key, ObjectKind::IndexShard)?)
    }
}

fn decode_shard(key: &Key, plain: &[u8]) -> Result<Shard> {
    Shard::decode(plain).map_err(|e| Error::damaged(format_args!("{key}: {e}")))
}
