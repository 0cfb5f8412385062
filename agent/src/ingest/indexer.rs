//! Turns acknowledged packs into index shards: the checkpoints from which an interrupted run continues.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::claims::Claims;
use crate::events::{Context, Event};
use crate::index::Index;
use crate::index::shard::{PackEntry, Shard};
use crate::repository::catalog::cache_trouble;
use crate::repository::{Area, Repository};
use crate::seal::header::ObjectKind;
use crate::session::beat::Beats;
use crate::{Error, Result};

/// A checkpoint is written after this many chunks: bounds the memory of those that are not in the index yet (≈ 60 bytes each).
const CHECKPOINT_CHUNKS: usize = 256 << 10;
/// … or after this time, so that little has to be looked up again after an interruption.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5 * 60);

/// Collects acknowledged packs and writes checkpoints.
pub struct Indexer {
    repository: Repository,
    index: Arc<Index>,
    claims: Arc<Claims>,
    context: Context,
    pending: Mutex<Pending>,
    writing: Mutex<()>,
    /// The session that says which shards it wrote.
    beats: OnceLock<Arc<Beats>>,
}

struct Pending {
    packs: Vec<PackEntry>,
    chunks: usize,
    since: Instant,
}

impl Pending {
    fn empty() -> Self {
        Self { packs: Vec::new(), chunks: 0, since: Instant::now() }
    }
}

impl Indexer {
    /// An indexer that has seen no pack.
    pub fn new(repository: Repository, index: Arc<Index>, claims: Arc<Claims>, context: Context) -> Self {
        let pending = Mutex::new(Pending::empty());
        Self { repository, index, claims, context, pending, writing: Mutex::new(()), beats: OnceLock::new() }
    }

    /// Says in a session which shards it writes from now on.
    pub fn tell(&self, beats: Arc<Beats>) {
        // Once only: an indexer is of one session.
        let _ = self.beats.set(beats);
    }

    /// Takes note of a pack that is stored and proved; writes a checkpoint if one is due.
    ///
    /// # Errors
    /// As [`Indexer::flush`].
    pub fn acknowledge(&self, entry: PackEntry) -> Result<()> {
        let due = {
            let mut pending = self.pending.lock();
            pending.chunks += entry.directory.chunk_count();
            pending.packs.push(entry);
            pending.chunks >= CHECKPOINT_CHUNKS || pending.since.elapsed() >= CHECKPOINT_EVERY
        };
        if due { self.write(true) } else { Ok(()) }
    }

    /// Writes what is pending as an index shard, to the store first, then to the local index.
    ///
    /// # Errors
    /// `Fenced`; errors of the store. What was pending is then pending still.
    pub fn flush(&self) -> Result<()> {
        self.write(false)
    }

    /// `more`: the run goes on after it.
    fn write(&self, more: bool) -> Result<()> {
        let _writing = self.writing.lock();
        if let Some(beats) = self.beats.get() {
            // Whoever takes this writer for dead may delete what no index names.
            beats.assure()?;
        }
        let pending = std::mem::replace(&mut *self.pending.lock(), Pending::empty());
        if pending.packs.is_empty() {
            return Ok(());
        }
        let shard = Shard { replaces: Vec::new(), packs: pending.packs };
        let plain =
            shard.encode().map_err(|e| Error::failed(format_args!("cannot encode the index: {e}")))?;
        match self.repository.put_whole(Area::Index, ObjectKind::IndexShard, &plain) {
            Ok(id) => {
                if let Some(beats) = self.beats.get() {
                    beats.wrote([id.to_string()], more);
                }
                let shards = [(id, shard)];
                self.index.add(&shards)?;
                if let Some(error) = self.index.take_trouble() {
                    self.context.report(Event::Warning(cache_trouble(&error)));
                }
                self.index.trim_resident();
                let packs = shards.iter().flat_map(|(_, shard)| &shard.packs);
                let segments = packs.flat_map(|pack| &pack.directory.segments);
                self.claims.release(segments.flat_map(|s| &s.chunks).map(|chunk| &chunk.id));
                self.context.report(Event::Checkpoint);
                Ok(())
            }
            Err(e) => {
                let mut now = self.pending.lock();
                now.chunks += pending.chunks;
                now.packs.extend(shard.packs);
                Err(e.context("cannot store a part of the index"))
            }
        }
    }
}
