//! What snapshots need that no others do: how much would come free without them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mark::{self, Reached};
use super::survey;
use crate::Result;
use crate::chunk::ChunkId;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::index::{Index, Marks};
use crate::repository::Repository;
use crate::snapshot::{History, Snapshot};

/// For each of `order` about how many stored bytes come free without it, once those before it are gone.
///
/// # Errors
/// `Damaged` if a snapshot cannot be read in full; `Interrupted`; errors of the store.
pub fn alone_bytes(
    repository: &Repository,
    history: &History,
    order: &[&Snapshot],
    context: &Context,
) -> Result<Vec<u64>> {
    let index = Arc::new(survey::index(repository, context)?);
    let reader = ChunkReader::new(repository, index.clone());
    let counting = Counting { marks: index.marks()?, index, bytes: AtomicU64::new(0) };
    let is_asked_for = |snapshot: &Snapshot| order.iter().any(|asked| asked.id == snapshot.id);
    let stays: Vec<&Snapshot> = history.snapshots.iter().filter(|snapshot| !is_asked_for(snapshot)).collect();
    mark::mark(&reader, &stays, &counting, context)?;
    let mut alone = Vec::with_capacity(order.len());
    // Whatever is marked first counts for who stays longest.
    for snapshot in order.iter().rev() {
        counting.bytes.store(0, Ordering::Relaxed);
        mark::mark(&reader, &[*snapshot], &counting, context)?;
        alone.push(counting.bytes.load(Ordering::Relaxed));
    }
    alone.reverse();
    Ok(alone)
}

struct Counting {
    marks: Marks,
    index: Arc<Index>,
    bytes: AtomicU64,
}

impl Reached for Counting {
    fn reach(&self, id: &ChunkId) -> Result<bool> {
        let is_new = self.marks.reach(id)?;
        if is_new && let Some(place) = self.index.lookup(id) {
            let segment = place.segment;
            // A chunk's share of its segment as it is stored.
            let stored = u64::from(segment.box_bytes) * u64::from(place.length)
                / u64::from(segment.plain_bytes.max(1));
            self.bytes.fetch_add(stored, Ordering::Relaxed);
        }
        Ok(is_new)
    }
}
