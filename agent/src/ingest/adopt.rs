//! Takes packs into the index that were stored by a run which was cut off before its next checkpoint.
//!
//! So a second run uploads nothing again that was acknowledged. Every adopted pack's directory is authenticated; its segments were
//! verified before the pack was handed over, and the store proved the pack's hash.

use std::collections::HashSet;

use super::indexer::Indexer;
use crate::events::{Context, Event};
use crate::index::Index;
use crate::pack::directory::PackKind;
use crate::repository::{Area, Repository, layout};
use crate::{Kind, Result};

/// Adopts every readable pack that no index shard names; returns how many.
///
/// # Errors
/// Errors of the store. Damaged packs are reported and left where they are.
pub fn adopt_orphans(
    repository: &Repository,
    index: &Index,
    indexer: &Indexer,
    context: &Context,
) -> Result<usize> {
    let packs = repository.with_sound_index(index, Index::packs)?;
    let known: HashSet<_> = packs.into_iter().map(|pack| pack.id).collect();
    let mut adopted = 0;
    for kind in [PackKind::Data, PackKind::Metadata] {
        for info in repository.store().list(&Area::of_packs(kind).prefix())? {
            context.check_stop()?;
            let Ok(id) = layout::sha256_of(&info.key) else { continue };
            if known.contains(&id) {
                continue;
            }
            match repository.read_pack_entry(kind, &id, info.size) {
                Ok(entry) => {
                    indexer.acknowledge(entry)?;
                    adopted += 1;
                }
                // A damaged header may claim any version.
                Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Failed) => {
                    context.report(Event::Warning(format!(
                        "a pack of an interrupted run is damaged and not used: {e}"
                    )));
                }
                Err(e) => return Err(e),
            }
        }
    }
    indexer.flush()?;
    Ok(adopted)
}
