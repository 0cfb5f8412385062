//! What snapshots need: segments that a destination lacks, packs, and whether a destination has all of a snapshot.

use std::collections::HashSet;

use lifeboat_providers::Sha256;

use super::reach::Reach;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::index::{self, Index};
use crate::pack::directory::PackKind;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Segments by pack and number.
pub(super) type Segments = HashSet<(Sha256, u32)>;

/// The segments at the origin that hold what `snapshots` need and `there` lacks. What is damaged is left out: it is met again when it is asked
/// whether a snapshot is complete.
///
/// # Errors
/// `Interrupted`; errors of the store.
pub(super) fn segments(
    reader: &ChunkReader,
    snapshots: &[&Snapshot],
    there: &Index,
    context: &Context,
) -> Result<Segments> {
    let mut found = Segments::new();
    let mut reach = Reach::new(reader);
    for snapshot in snapshots {
        reach.snapshot(snapshot, None, &mut |id| {
            context.check_stop()?;
            if let Some(place) =
                Some(id).filter(|id| !there.contains(id)).and_then(|id| reader.index().lookup(id))
            {
                found.insert((place.pack, place.segment.number));
            }
            Ok(())
        })?;
        reach.settle();
    }
    Ok(found)
}

/// The packs that, by `index`, hold what `snapshots` need.
///
/// # Errors
/// `Damaged` if a directory cannot be read, or the index does not know a chunk; `Interrupted`.
pub fn packs(
    reader: &ChunkReader,
    index: &Index,
    snapshots: &[&Snapshot],
    context: &Context,
) -> Result<HashSet<(PackKind, Sha256)>> {
    let mut found = HashSet::new();
    let mut reach = Reach::new(reader);
    for snapshot in snapshots {
        reach.snapshot(snapshot, None, &mut |id| {
            context.check_stop()?;
            let place = index.lookup(id).ok_or_else(|| index::unknown(id))?;
            found.insert((place.kind, place.pack));
            Ok(())
        })?;
        reach.settle();
    }
    reach.take_damage().into_iter().next().map_or(Ok(found), Err)
}

/// Whether a destination's index names every pack that the origin's names.
///
/// # Errors
/// If an index turns out to be damaged.
pub(super) fn has_all_packs(reader: &ChunkReader, there: &Index) -> Result<bool> {
    let packs: HashSet<Sha256> = there.packs()?.into_iter().map(|pack| pack.id).collect();
    let here = reader.repository().with_sound_index(reader.index(), Index::packs)?;
    Ok(here.iter().all(|pack| packs.contains(&pack.id)))
}

/// Asks of one snapshot after the other whether a destination has all of it.
pub(super) struct Completeness<'a> {
    reach: Reach<'a>,
    there: &'a Index,
    context: &'a Context,
}

impl<'a> Completeness<'a> {
    /// Directories are read by `reader`; `there` is the destination's index, of packs that were seen to be there.
    pub(super) fn new(reader: &'a ChunkReader, there: &'a Index, context: &'a Context) -> Self {
        Self { reach: Reach::new(reader), there, context }
    }

    /// Why the destination does not have all of `snapshot`; `None` if it does. Nothing is looked at that is the same as in `older`, of which it is
    /// known to have everything.
    ///
    /// # Errors
    /// `Interrupted`; errors of the store.
    pub(super) fn lacks(&mut self, snapshot: &Snapshot, older: Option<&Snapshot>) -> Result<Option<Error>> {
        let (there, context) = (self.there, self.context);
        let mut lacking = None;
        self.reach.snapshot(snapshot, older, &mut |id| {
            context.check_stop()?;
            if lacking.is_none() && !there.contains(id) {
                lacking = Some(*id);
            }
            Ok(())
        })?;
        let damage = self.reach.take_damage().into_iter().next();
        let absent = |id| Error::damaged(format_args!("chunk {id} is not there"));
        let why = damage.or_else(|| lacking.map(absent));
        match why {
            None => self.reach.settle(),
            Some(_) => self.reach.unsettle(),
        }
        Ok(why)
    }
}
