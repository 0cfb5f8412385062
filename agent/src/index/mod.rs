//! Where each chunk lies: the set of all index shards, as a few memory-mapped tables.
//!
//! | module | job |
//! |---|---|
//! | [`shard`] | shards as they are stored remotely |
//! | `table` | one immutable table: lookups |
//! | `lines`, `blocks`, `layout` | its filter, its checksums, its bytes |
//! | `covered` | which shards the tables stand for, which are replaced |
//! | `update` | shards added, gone or replaced: which tables are merged into which |
//! | `merge`, `source`, `writer` | making one table of several, streaming |
//! | `storage` | the files |
//! | [`marks`], [`live`] | which places are in use: what may be deleted is decided by them |
//!
//! The index is a cache: deleted, it is rebuilt from shards. Memory is file-backed whatever the number of
//! chunks. Lookups take no lock beyond that of replacing the set, and allocate nothing.
//!
//! **Using it**: list the shards, [`Index::retain`] those that are present, fetch what is not in
//! [`Index::covered`], [`Index::add`] it (in batches of any size), and repeat until all are covered. Before that
//! the index may name packs that are gone.

mod blocks;
mod covered;
mod layout;
mod lines;
pub mod live;
pub mod marks;
mod merge;
pub mod shard;
mod source;
mod storage;
mod table;
mod update;
mod visit;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_providers::Sha256;
use parking_lot::{Mutex, RwLock};

use crate::chunk::ChunkId;
use crate::pack::directory::{Codec, PackKind};
use crate::{Error, Result};
pub use live::{Live, LiveSegment, PackBytes, Worth};
pub use marks::{Mark, Marks};
pub use shard::{PackEntry, Shard};
use storage::Storage;
use table::Table;
pub use visit::{PackSummary, ShardSummary, Totals};

/// The error of a chunk that the index does not know.
pub fn unknown(id: &ChunkId) -> Error {
    Error::damaged(format_args!("the index does not know chunk {id}"))
}

/// The index of one repository.
pub struct Index {
    storage: Storage,
    /// The tables in use, largest first: most chunks are found there.
    tables: RwLock<Arc<[Arc<Table>]>>,
    /// Held while the set of tables changes; lookups go on.
    updating: Mutex<()>,
    /// Held while damaged tables are fetched anew.
    mending: Mutex<()>,
    /// A table was passed over because it was damaged.
    left_out: AtomicBool,
    /// Packs that are about to be deleted: as if no shard named them.
    absent: HashSet<Sha256>,
}

/// One place of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack's name.
    pub pack: Sha256,
    /// The salt in the pack's header.
    pub pack_salt: [u8; 32],
    /// Which kind of pack it is.
    pub kind: PackKind,
    /// The segment in the pack.
    pub segment: SegmentLocation,
    /// Where the chunk begins in the segment's plain bytes.
    pub offset: u32,
    /// The chunk's plain bytes.
    pub length: u32,
}

/// Where a segment lies in its pack, and what is needed to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentLocation {
    /// The box's number.
    pub number: u32,
    /// Where the box begins in the pack.
    pub offset: u64,
    /// Stored bytes of the box.
    pub box_bytes: u32,
    /// Bytes after decoding.
    pub plain_bytes: u32,
    /// How the plain bytes were coded.
    pub codec: Codec,
}

impl SegmentLocation {
    /// Where a segment that a directory names lies, if its box begins at `offset`.
    pub const fn new(segment: &crate::pack::directory::Segment, offset: u64) -> Self {
        Self {
            number: segment.number,
            offset,
            box_bytes: segment.box_bytes,
            plain_bytes: segment.plain_bytes,
            codec: segment.codec,
        }
    }
}

impl From<layout::SegmentRecord> for SegmentLocation {
    fn from(segment: layout::SegmentRecord) -> Self {
        Self {
            number: segment.number,
            offset: segment.offset,
            box_bytes: segment.box_bytes,
            plain_bytes: segment.plain_bytes,
            codec: segment.codec,
        }
    }
}

impl Location {
    /// A key that sorts by pack, then by place in the pack: the order in which a restore reads.
    ///
    /// It holds the first 8 bytes of the pack's name; should two packs ever share them, their places mix in the
    /// order, which costs reads and nothing else.
    pub fn order_key(&self) -> u128 {
        let [a, b, c, d, e, f, g, h, ..] = *self.pack.as_bytes();
        let pack = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        // 38 bits for the segment (256 GiB) and 26 for the chunk: packs and segments are far smaller.
        let segment = self.segment.offset.min((1 << 38) - 1);
        u128::from(pack) << 64 | u128::from(segment) << 26 | u128::from(self.offset.min((1 << 26) - 1))
    }
}

impl Index {
    /// The index cached in a directory of its own, which is made if it is not there.
    ///
    /// Files there that are damaged, foreign or of another version are deleted and treated as not there.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn open(dir: &Path) -> Result<Self> {
        let storage = Storage::directory(dir)?;
        let tables = storage.tables()?;
        let index = Self::with(storage);
        index.adopt(tables);
        Ok(index)
    }

    /// As [`Index::open`]; in memory, where the directory cannot be used. [`Index::take_trouble`] then says why.
    pub fn open_or_in_memory(dir: &Path) -> Self {
        Self::open(dir).unwrap_or_else(|error| {
            let storage = Storage::memory();
            storage.give_up(error);
            Self::with(storage)
        })
    }

    /// Why new tables are kept in memory and not in the directory, if that began since this was last asked.
    pub fn take_trouble(&self) -> Option<Error> {
        let error = self.storage.take_trouble()?;
        Some(error.context("the index is kept in memory, as the cache cannot be used"))
    }

    /// An empty index that is kept in memory only.
    pub fn in_memory() -> Self {
        Self::with(Storage::memory())
    }

    /// An empty index in files without names in a directory of this machine, so that they go with the process: for as many chunks as a
    /// repository has. In memory where the directory cannot be used.
    ///
    /// Nobody mends it when the disk garbles it, so whoever takes "not there" from it for loss asks [`Index::require_sound`] before he says so.
    pub fn scratch(dir: &Path) -> Self {
        Self::with(Storage::scratch(dir))
    }

    fn with(storage: Storage) -> Self {
        Self {
            storage,
            tables: RwLock::new(Arc::default()),
            updating: Mutex::new(()),
            mending: Mutex::new(()),
            left_out: AtomicBool::new(false),
            absent: HashSet::new(),
        }
    }

    /// The same index as if no shard named these packs: nothing is found in them, and no visit meets them.
    #[must_use]
    pub fn without(mut self, packs: HashSet<Sha256>) -> Self {
        self.absent.extend(packs);
        self
    }

    /// Whether a pack is left out by [`Self::without`].
    pub fn leaves_out(&self, pack: &Sha256) -> bool {
        !self.absent.is_empty() && self.absent.contains(pack)
    }

    /// Sets up to how much memory the tables may be mapped; 64 MiB unless set. Beyond it a hit takes a few
    /// microseconds, as entries are read from the file; filters, segments and packs (2.4 bytes a chunk) are
    /// mapped in any case.
    pub fn set_resident_bytes_max(&self, bytes: u64) {
        self.storage.resident().set_bytes_max(bytes);
    }

    /// A place of the chunk, or `None` if it is not known.
    ///
    /// A location is only ever given from bytes whose checksum was compared. When the cache turns out to be
    /// damaged the answer is `None`: right for a backup (the chunk is stored once more), but before a chunk is
    /// called missing, or anything is deleted for not being referenced, [`Self::mend`] and ask again.
    #[inline]
    pub fn lookup(&self, id: &ChunkId) -> Option<Location> {
        let found = self.tables.read().iter().find_map(|table| table.find(id).ok().flatten());
        if found.is_some_and(|location| self.leaves_out(&location.pack)) {
            // Perhaps there is another copy.
            return self.lookup_all(id).into_iter().next();
        }
        found
    }

    /// Whether a place of the chunk is known; with the caveat of [`Self::lookup`].
    #[inline]
    pub fn contains(&self, id: &ChunkId) -> bool {
        if !self.absent.is_empty() {
            return self.lookup(id).is_some();
        }
        self.tables.read().iter().any(|table| table.contains(id) == Ok(true))
    }

    /// All places of the chunk, each once; with the caveat of [`Self::lookup`].
    pub fn lookup_all(&self, id: &ChunkId) -> Vec<Location> {
        let mut found: Vec<Location> = Vec::new();
        for table in self.tables.read().iter() {
            // A damaged block is remembered in the table, and what was found before it stays found.
            let _noted = table.find_all(id, &mut found);
        }
        found.sort_unstable_by_key(|location| (location.pack, location.segment.offset, location.offset));
        found.dedup();
        if !self.absent.is_empty() {
            found.retain(|location| !self.absent.contains(&location.pack));
        }
        found
    }

    /// The shards that need not be fetched: their packs are in a table, or another shard replaces them.
    pub fn covered(&self) -> HashSet<Sha256> {
        self.fates_of(&self.sound_tables()).covered()
    }

    /// Forgets all shards but those that are present in the repository, and what only they listed.
    ///
    /// Tables that cover others are rewritten without them; a table that cannot be rewritten is dropped, and
    /// all that it covered must be fetched again. So must shards that a vanished one had replaced.
    pub fn retain(&self, present: &HashSet<Sha256>) {
        let _updating = self.updating.lock();
        self.settle(Some(present));
    }

    /// Adds shards that were fetched or written; those known already are passed over.
    ///
    /// A shard that another one replaces is remembered as covered, but its packs are left out, in whichever
    /// order they come. Memory is bounded whatever the size of the index.
    ///
    /// # Errors
    /// If a table can be written neither to the cache nor in memory; the index then is as it was.
    pub fn add(&self, shards: &[(Sha256, Shard)]) -> Result<()> {
        self.include(shards)
    }

    /// Whether a table turned out to be damaged since it was opened: some chunks may not be found.
    ///
    /// Its shards are no longer in [`Self::covered`]: fetch and [`Self::add`] them, and all is well.
    pub fn is_damaged(&self) -> bool {
        self.tables.read().iter().any(|table| table.blocks().is_damaged())
    }

    /// Runs `fetch`, which must add all that [`Self::covered`] lacks, if a table turned out to be damaged. Whoever calls it meanwhile
    /// waits: afterwards what is not found is not there.
    ///
    /// An index in memory is left alone: what was added to it may be more or less than the stored shards say.
    ///
    /// # Errors
    /// What `fetch` returns.
    pub fn mend(&self, fetch: impl FnOnce() -> Result<()>) -> Result<()> {
        let _mending = self.mending.lock();
        if !self.storage.is_cache() || !self.is_damaged() {
            return Ok(());
        }
        fetch()?;
        self.forget_damaged();
        Ok(())
    }

    /// Drops the tables that turned out to be damaged, and their files: what they covered must be fetched again.
    fn forget_damaged(&self) {
        let _updating = self.updating.lock();
        self.settle(None);
    }

    /// Compares every byte of all tables with its checksum: for operations that must not act on a false "not
    /// there". Reads at the speed of the disk.
    ///
    /// # Errors
    /// If a table is damaged; see [`Self::is_damaged`].
    pub fn verify(&self) -> Result<()> {
        let tables = self.tables();
        // All are looked at, so that one round of fetching mends them all.
        let damaged = tables.iter().filter(|table| table.blocks().verify_all().is_err()).count();
        if damaged == 0 && !self.is_damaged() { Ok(()) } else { Err(damaged_cache()) }
    }

    /// That no damage of the local files was met: else what was not found may be there all the same.
    ///
    /// # Errors
    /// `Failed`, as it says nothing of the repository.
    pub fn require_sound(&self) -> Result<()> {
        if !self.is_damaged() && !self.left_out.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::failed(
            "the disk of the cache does not give back what was written to it: nothing can be told by it",
        )
        .with_hint("Run the command again, with another cache (LIFEBOAT_CACHE_DIR) if it says the same."))
    }

    /// Gives the memory of the mapped tables back to the system; later lookups map it again as needed.
    pub fn trim_resident(&self) {
        self.tables.read().iter().for_each(|table| table.blocks().trim());
    }

    fn tables(&self) -> Arc<[Arc<Table>]> {
        Arc::clone(&self.tables.read())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // Damage is found when a block is touched. Were the file left, the next run would find the same, and no run ever mend it.
        if self.is_damaged() {
            self.forget_damaged();
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables();
        let entries: Vec<u32> = tables.iter().map(|table| table.counts().entries).collect();
        f.debug_struct("Index").field("storage", &self.storage).field("entries", &entries).finish()
    }
}

fn damaged_cache() -> Error {
    Error::damaged("the local index cache is damaged")
        .with_hint("Run the command again: what is damaged is fetched anew from the repository.")
}
