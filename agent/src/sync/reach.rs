//! Everything that can be reached from snapshots: each directory, list and chunk, directories and lists once. Damage on the way is noted, and what
//! lies beside it is reached all the same.

use std::collections::{HashMap, HashSet};

use crate::chunk::ChunkId;
use crate::fetch::ChunkReader;
use crate::snapshot::Snapshot;
use crate::tree::{Content, EntryKind, Extent, Node};
use crate::{Error, Kind, Result};

/// A walk over snapshots. What is kept is a hash for each directory and list, not for each chunk.
pub(super) struct Reach<'a> {
    reader: &'a ChunkReader,
    /// Directories and lists that earlier snapshots reached, with all that is below.
    settled: HashSet<ChunkId>,
    /// Those that this snapshot has reached so far.
    seen: HashSet<ChunkId>,
    damage: Vec<Error>,
}

/// Is called with each chunk. One of file content is named as often as it is met.
pub(super) type Each<'e> = dyn FnMut(&ChunkId) -> Result<()> + 'e;

/// A directory, and what was there in an older snapshot.
type Compared = (Content, Option<Content>);

impl<'a> Reach<'a> {
    /// Over what `reader` reads.
    pub(super) fn new(reader: &'a ChunkReader) -> Self {
        Self { reader, settled: HashSet::new(), seen: HashSet::new(), damage: Vec::new() }
    }

    /// Names every chunk of `snapshot` that no settled snapshot has, and, with `older`, none below what is the same as in that.
    ///
    /// # Errors
    /// Errors of the store; what `each` returns. Damage is noted, see [`Reach::take_damage`].
    pub(super) fn snapshot(
        &mut self,
        snapshot: &Snapshot,
        older: Option<&Snapshot>,
        each: &mut Each<'_>,
    ) -> Result<()> {
        let root = |snapshot: &Snapshot| Ok(snapshot.manifest.root()?.content().cloned());
        let Some(new) = self.or_note(root(snapshot))?.flatten() else { return Ok(()) };
        let old = older.and_then(|older| root(older).ok().flatten());
        let mut waiting = vec![(new, old)];
        while let Some((new, old)) = waiting.pop() {
            self.directory(&new, old.as_ref(), &mut waiting, each)?;
        }
        Ok(())
    }

    /// All that the last snapshot has is done with: it is not named again.
    pub(super) fn settle(&mut self) {
        self.settled.extend(self.seen.drain());
    }

    /// The last snapshot is to be forgotten: what it has is named again.
    pub(super) fn unsettle(&mut self) {
        self.seen.clear();
    }

    /// What could not be read since this was called last.
    pub(super) fn take_damage(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.damage)
    }

    fn directory(
        &mut self,
        new: &Content,
        old: Option<&Content>,
        waiting: &mut Vec<Compared>,
        each: &mut Each<'_>,
    ) -> Result<()> {
        if old == Some(new) {
            return Ok(());
        }
        let same: HashSet<ChunkId> = old.map(|old| ids(old).collect()).unwrap_or_default();
        let was_there = old.map(|old| self.directories_in(old, new)).unwrap_or_default();
        for extent in new.extents.iter().filter(|extent| extent.id.is_none_or(|id| !same.contains(&id))) {
            let Some(id) = self.reach(extent, each)? else { continue };
            if new.level > 0 {
                let list = self.reader.list(&id, new.level - 1, extent.length);
                if let Some(list) = self.or_note(list)? {
                    self.directory(&list, None, waiting, each)?;
                }
            } else if let Some(node) = self.or_note(self.reader.node_of(extent))? {
                self.node(node, &was_there, waiting, each)?;
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        node: Node,
        was_there: &HashMap<Box<[u8]>, Content>,
        waiting: &mut Vec<Compared>,
        each: &mut Each<'_>,
    ) -> Result<()> {
        for entry in node.entries {
            match entry.kind {
                EntryKind::Directory { content, .. } => {
                    let old = was_there.get(&entry.name).cloned();
                    waiting.push((content, old));
                }
                EntryKind::File { content, .. } => self.file(&content, each)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, content: &Content, each: &mut Each<'_>) -> Result<()> {
        if content.level == 0 {
            return ids(content).try_for_each(|id| each(&id));
        }
        for extent in &content.extents {
            let Some(id) = self.reach(extent, each)? else { continue };
            let list = self.reader.list(&id, content.level - 1, extent.length);
            if let Some(list) = self.or_note(list)? {
                self.file(&list, each)?;
            }
        }
        Ok(())
    }

    /// Names a directory's node or a list; `None` if it was named before.
    fn reach(&mut self, extent: &Extent, each: &mut Each<'_>) -> Result<Option<ChunkId>> {
        let Some(id) = extent.id.filter(|id| !self.settled.contains(id) && self.seen.insert(*id)) else {
            return Ok(None);
        };
        each(&id)?;
        Ok(Some(id))
    }

    /// Directories in those nodes of `old` that `new` does not have as they are. What of it cannot be read is of no use, and no harm.
    fn directories_in(&self, old: &Content, new: &Content) -> HashMap<Box<[u8]>, Content> {
        if old.level > 0 {
            return HashMap::new();
        }
        let kept: HashSet<ChunkId> = ids(new).collect();
        let differing = old.extents.iter().filter(|extent| extent.id.is_some_and(|id| !kept.contains(&id)));
        let entries = differing.filter_map(|extent| self.reader.node_of(extent).ok()).flat_map(|n| n.entries);
        let directories = entries.filter_map(|entry| match entry.kind {
            EntryKind::Directory { content, .. } => Some((entry.name, content)),
            _ => None,
        });
        directories.collect()
    }

    fn or_note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.kind() == Kind::Damaged => {
                self.damage.push(e);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

fn ids(content: &Content) -> impl Iterator<Item = ChunkId> {
    content.extents.iter().filter_map(|extent| extent.id)
}
