//! Every directory and list of every snapshot, and that every chunk they name has a good place. Each is looked at once.

use std::collections::{HashMap, HashSet};

use super::Check;
use crate::chunk::ChunkId;
use crate::fetch::ChunkReader;
use crate::pack::directory::PackKind;
use crate::snapshot::History;
use crate::tree::{Content, EntryKind, Node};
use crate::{Kind, Result};

/// A node's first and last name.
type Ends = (Box<[u8]>, Box<[u8]>);

/// Directories and lists that were looked at.
struct Walk<'a> {
    reader: &'a ChunkReader,
    seen: HashSet<ChunkId>,
    /// First and last name of each node that lies in a directory of several.
    names: HashMap<ChunkId, Ends>,
    /// Directories that are still to be looked at.
    waiting: Vec<Content>,
    sound: bool,
}

impl Check<'_> {
    /// Whether every snapshot can be restored, as far as is known without reading data.
    pub(crate) fn trees(&mut self, history: &History, reader: &ChunkReader) -> Result<bool> {
        let mut walk =
            Walk { reader, seen: HashSet::new(), names: HashMap::new(), waiting: Vec::new(), sound: true };
        for snapshot in &history.snapshots {
            match snapshot.manifest.root() {
                Ok(root) => walk.waiting.extend(root.content().cloned()),
                Err(_) => walk.sound = false,
            }
            while let Some(directory) = walk.waiting.pop() {
                self.context.check_stop()?;
                let several = directory.level > 0 || directory.extents.len() > 1;
                let mut last = several.then(Box::default);
                self.directory(&directory, &mut last, &mut walk)?;
            }
        }
        // What the check's own copy of the index has lost is not lost in the repository.
        self.index.require_sound()?;
        self.report.trees = walk.seen.len() as u64;
        Ok(walk.sound)
    }

    /// Looks at a directory's nodes; `last` is the last name so far, of a directory of several nodes.
    fn directory(&self, content: &Content, last: &mut Option<Box<[u8]>>, walk: &mut Walk<'_>) -> Result<()> {
        for extent in &content.extents {
            let Some(id) = extent.id else {
                // A restore refuses it.
                walk.sound = false;
                continue;
            };
            if content.level > 0 {
                // Looked at for each directory: the order of names goes from list to list.
                if self.place_of(&id, PackKind::Metadata, None).is_err() {
                    walk.sound = false;
                    continue;
                }
                walk.seen.insert(id);
                match walk.reader.list(&id, content.level - 1, extent.length) {
                    Ok(list) => self.directory(&list, last, walk)?,
                    Err(e) => walk.note(e)?,
                }
                continue;
            }
            let place = self.place_of(&id, PackKind::Metadata, Some(extent.length));
            if place.is_err() {
                walk.sound = false;
            } else if !walk.seen.contains(&id) || last.is_some() && !walk.names.contains_key(&id) {
                match walk.reader.node(&id, extent.length) {
                    Ok(node) => {
                        walk.remember(id, &node, last.is_some());
                        if walk.seen.insert(id) {
                            self.node(node, walk)?;
                        }
                    }
                    Err(e) => walk.note(e)?,
                }
            }
            walk.follow(&id, last);
        }
        Ok(())
    }

    fn node(&self, node: Node, walk: &mut Walk<'_>) -> Result<()> {
        for entry in node.entries {
            match entry.kind {
                EntryKind::Directory { content, .. } => walk.waiting.push(content),
                EntryKind::File { content, .. } => self.file(&content, walk)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&self, content: &Content, walk: &mut Walk<'_>) -> Result<()> {
        for extent in &content.extents {
            let Some(id) = extent.id else { continue };
            if content.level == 0 {
                walk.sound &= self.place_of(&id, PackKind::Data, Some(extent.length)).is_ok();
            } else if walk.seen.insert(id) {
                if self.place_of(&id, PackKind::Metadata, None).is_err() {
                    walk.sound = false;
                    continue;
                }
                match walk.reader.list(&id, content.level - 1, extent.length) {
                    Ok(list) => self.file(&list, walk)?,
                    Err(e) => walk.note(e)?,
                }
            }
        }
        Ok(())
    }
}

impl Walk<'_> {
    fn remember(&mut self, id: ChunkId, node: &Node, is_one_of_several: bool) {
        if let (true, Some(first), Some(last)) =
            (is_one_of_several, node.entries.first(), node.entries.last())
        {
            self.names.insert(id, (first.name.clone(), last.name.clone()));
        }
    }

    /// Names must go on in order from node to node.
    fn follow(&mut self, id: &ChunkId, last: &mut Option<Box<[u8]>>) {
        if let (Some(last), Some((first, newest))) = (last, self.names.get(id)) {
            self.sound &= **last < **first;
            last.clone_from(newest);
        }
    }

    /// Damage is looked into later; anything else ends the check.
    fn note(&mut self, error: crate::Error) -> Result<()> {
        if error.kind() != Kind::Damaged {
            return Err(error);
        }
        self.sound = false;
        Ok(())
    }
}
