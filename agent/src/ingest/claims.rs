//! Chunks that were claimed in this run and are not in the index yet.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::Mutex;

use crate::chunk::ChunkId;
use crate::index::Index;

/// Spreads contention; a power of two.
const SHARDS: usize = 64;

/// Ids are uniform already: their first bytes serve as hash.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The length prefix of the array comes first and is overwritten by the id itself.
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

type Set = HashSet<ChunkId, BuildHasherDefault<IdHasher>>;

/// The set of claimed chunks.
pub struct Claims {
    shards: Vec<Mutex<Set>>,
}

impl Claims {
    /// No claims.
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Whether the caller must store the chunk: it is neither in the index nor claimed, and is claimed now.
    ///
    /// The index is asked under the shard's lock, and [`Claims::release`] is called only after the index has the chunk: so a chunk is
    /// always in one of the two.
    pub fn claim(&self, id: &ChunkId, index: &Index) -> bool {
        let mut shard = self.shards[usize::from(id.as_bytes()[15]) % SHARDS].lock();
        !shard.contains(id) && !index.contains(id) && shard.insert(*id)
    }

    /// Gives claims back whose chunks are in the index now.
    pub fn release<'a>(&self, ids: impl Iterator<Item = &'a ChunkId>) {
        for id in ids {
            self.shards[usize::from(id.as_bytes()[15]) % SHARDS].lock().remove(id);
        }
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self::new()
    }
}
