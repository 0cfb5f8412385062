//! Takes packs into the index that were stored by a run which was cut off before its next checkpoint.
//!
//! So a second run uploads nothing again that was acknowledged. Every adopted pack's directory is authenticated; its segments were
//! verified before the pack was handed over, and the store proves the pack's hash: the run that was cut off may not have lived to see that.

use super::indexer::Indexer;
use crate::Result;
use crate::events::{Context, Event};
use crate::index::Index;
use crate::repository::Repository;
use crate::session::OpenSession;

/// Adopts every readable pack that neither an index shard nor a tombstone names and that the store proves to be whole; returns how many.
///
/// # Errors
/// Errors of the store; `Fenced`: then they may be gone. Damaged packs are reported and left where they are.
pub fn adopt_orphans(
    session: &OpenSession,
    repository: &Repository,
    index: &Index,
    indexer: &Indexer,
    context: &Context,
) -> Result<usize> {
    let mut adopted = 0;
    repository.for_each_proved_unnamed_pack(index, |entry| {
        context.check_stop()?;
        match entry {
            // It is about to be deleted.
            Ok(entry) if session.tombstones().packs.contains(&entry.id) => {}
            Ok(entry) => {
                indexer.acknowledge(entry)?;
                adopted += 1;
            }
            Err(e) => context
                .report(Event::Warning(format!("a pack of an interrupted run is damaged and not used: {e}"))),
        }
        Ok(())
    })?;
    indexer.flush()?;
    Ok(adopted)
}
