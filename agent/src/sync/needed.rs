//! Which segments some snapshots need that a destination lacks, and whether it has all of a snapshot. Every directory, list and file is looked
//! at once; what is kept is a number for each segment and a hash for each directory, not for each chunk.

use std::collections::HashSet;

use lifeboat_providers::Sha256;

use crate::chunk::ChunkId;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::index::Index;
use crate::pack::directory::PackKind;
use crate::snapshot::Snapshot;
use crate::tree::{Content, EntryKind};
use crate::{Error, Result};

/// Segments by pack and number.
pub(super) type Segments = HashSet<(Sha256, u32)>;

/// The segments at the origin that hold what `snapshots` need and `there` lacks.
///
/// # Errors
/// `Damaged` if a directory cannot be read; `Interrupted`.
pub(super) fn segments(
    reader: &ChunkReader,
    snapshots: &[&Snapshot],
    there: &Index,
    context: &Context,
) -> Result<Segments> {
    let mut found = Segments::new();
    let mut reach = Reach { reader, seen: HashSet::new() };
    for snapshot in snapshots {
        reach.snapshot(snapshot, &mut |id| {
            context.check_stop()?;
            if !there.contains(id) {
                let place = reader.index().lookup(id).ok_or_else(|| unknown(id))?;
                found.insert((place.pack, place.segment.number));
            }
            Ok(true)
        })?;
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
    let mut reach = Reach { reader, seen: HashSet::new() };
    for snapshot in snapshots {
        reach.snapshot(snapshot, &mut |id| {
            context.check_stop()?;
            let place = index.lookup(id).ok_or_else(|| unknown(id))?;
            found.insert((place.kind, place.pack));
            Ok(true)
        })?;
    }
    Ok(found)
}

fn unknown(id: &ChunkId) -> Error {
    Error::damaged(format_args!("the index does not know chunk {id}"))
}

/// Whether a destination's index names every pack of the origin's.
///
/// # Errors
/// If an index turns out to be damaged.
pub(super) fn has_all(reader: &ChunkReader, there: &Index) -> Result<bool> {
    let packs: HashSet<Sha256> = there.packs()?.into_iter().map(|pack| pack.id).collect();
    let here = reader.repository().with_sound_index(reader.index(), Index::packs)?;
    Ok(here.iter().all(|pack| packs.contains(&pack.id)))
}

/// Whether a destination's index knows every chunk of a snapshot.
///
/// # Errors
/// `Damaged` if a directory cannot be read at the origin.
pub(super) fn is_complete(reader: &ChunkReader, snapshot: &Snapshot, there: &Index) -> Result<bool> {
    let mut reach = Reach { reader, seen: HashSet::new() };
    let mut complete = true;
    reach.snapshot(snapshot, &mut |id| {
        complete &= there.contains(id);
        Ok(complete)
    })?;
    Ok(complete)
}

/// Everything that can be reached from snapshots.
struct Reach<'a> {
    reader: &'a ChunkReader,
    /// Nodes and lists that were looked at.
    seen: HashSet<ChunkId>,
}

/// Is called with each chunk; says whether to go on.
type Each<'e> = dyn FnMut(&ChunkId) -> Result<bool> + 'e;

impl Reach<'_> {
    fn snapshot(&mut self, snapshot: &Snapshot, each: &mut Each<'_>) -> Result<()> {
        let root = snapshot.manifest.root()?;
        let mut waiting: Vec<Content> = root.content().cloned().into_iter().collect();
        while let Some(directory) = waiting.pop() {
            if !self.content(&directory, true, &mut waiting, each)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A directory's or file's content. Directories in it are left in `waiting`.
    fn content(
        &mut self,
        content: &Content,
        is_directory: bool,
        waiting: &mut Vec<Content>,
        each: &mut Each<'_>,
    ) -> Result<bool> {
        for extent in &content.extents {
            let Some(id) = extent.id else { continue };
            let is_metadata = is_directory || content.level > 0;
            if is_metadata && !self.seen.insert(id) {
                continue;
            }
            if !each(&id)? {
                return Ok(false);
            }
            let goes_on = match (content.level, is_directory) {
                (0, false) => true,
                (0, true) => self.node(extent, waiting, each)?,
                (level, _) => {
                    let list = self.reader.list(&id, level - 1, extent.length)?;
                    self.content(&list, is_directory, waiting, each)?
                }
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn node(
        &mut self,
        extent: &crate::tree::Extent,
        waiting: &mut Vec<Content>,
        each: &mut Each<'_>,
    ) -> Result<bool> {
        for entry in self.reader.node_of(extent)?.entries {
            match entry.kind {
                EntryKind::Directory { content, .. } => waiting.push(content),
                EntryKind::File { content, .. } if !self.content(&content, false, waiting, each)? => {
                    return Ok(false);
                }
                _ => {}
            }
        }
        Ok(true)
    }
}
