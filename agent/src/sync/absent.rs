//! Snapshots that were forgotten at the origin before they ever came to a destination. They are recorded as forgotten there as well: else they would be
//! a gap in their writer's chain, as if somebody had removed them.
//!
//! A record says "forgotten on purpose", and hides a loss for ever if that is not so. It is made only of what cannot have been there: nothing that came
//! after it in its writer's chain is there, was there, or is known to this machine to have been there. In doubt there is no record, and a check names the gap.

use std::collections::{HashMap, HashSet};

use crate::Result;
use crate::repository::{Area, Repository, layout, state};
use crate::snapshot::History;
use crate::snapshot::manifest::Witness;

/// What of the snapshots forgotten `here` never came to `to`, whose history `there` is.
///
/// # Errors
/// Errors of the store.
pub(super) fn forgotten_before_they_came(
    here: &History,
    there: &History,
    to: &Repository,
) -> Result<Vec<Witness>> {
    let present: HashSet<String> = there
        .snapshots
        .iter()
        .map(|s| s.id)
        .chain(there.unreadable.iter().copied())
        .map(|id| id.to_string())
        .collect();
    let mut candidates: Vec<&Witness> = here
        .forgotten
        .iter()
        .filter(|(id, _)| !present.contains(*id) && !there.forgotten.contains_key(*id))
        .map(|(_, witness)| witness)
        .collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let memory = state::peek(to.directories());
    let place = &to.directories().place;
    let owed = memory.as_ref().map_or(&[][..], |memory| memory.owed_at(place));
    let mut reached: HashMap<&str, u64> = HashMap::new();
    let seen = there.snapshots.iter().map(|s| (s.manifest.writer.as_str(), s.manifest.sequence));
    let recorded = there.forgotten.values().map(|witness| (witness.writer.as_str(), witness.sequence));
    let remembered = memory.as_ref().and_then(|memory| memory.heads_at(place)).into_iter().flatten();
    let remembered = remembered.map(|(writer, head)| (writer.as_str(), head.sequence));
    for (writer, sequence) in seen.chain(recorded).chain(remembered) {
        let greatest = reached.entry(writer).or_default();
        *greatest = (*greatest).max(sequence);
    }
    candidates.retain(|witness| {
        owed.contains(witness)
            || reached.get(witness.writer.as_str()).is_none_or(|greatest| witness.sequence > *greatest)
    });
    let is_sure = to.store().capabilities().listing_is_consistent && there.unreadable.is_empty();
    let mut absent = Vec::new();
    for witness in candidates {
        let is_there = match witness.sha256() {
            Some(id) if !is_sure => to.store().head(&layout::named_by_hash(Area::Snapshots, &id)?)?.is_some(),
            _ => false,
        };
        if !is_there {
            absent.push(witness.clone());
        }
    }
    Ok(absent)
}
