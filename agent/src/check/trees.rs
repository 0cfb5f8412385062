//! Every directory and list of every snapshot, and that every chunk they name has a good place. Each is looked at once.

use std::collections::HashSet;

use super::Check;
use crate::chunk::ChunkId;
use crate::fetch::ChunkReader;
use crate::pack::directory::PackKind;
use crate::snapshot::History;
use crate::tree::{Content, EntryKind, Node};
use crate::{Kind, Result};

/// Directories and lists that were looked at.
struct Walk<'a> {
    reader: &'a ChunkReader,
    seen: HashSet<ChunkId>,
    /// Directories that are still to be looked at.
    waiting: Vec<Content>,
    sound: bool,
}

impl Check<'_> {
    /// Whether every snapshot can be restored, as far as is known without reading data.
    pub(super) fn trees(&mut self, history: &History, reader: &ChunkReader) -> Result<bool> {
        let mut walk = Walk { reader, seen: HashSet::new(), waiting: Vec::new(), sound: true };
        for snapshot in &history.snapshots {
            match snapshot.manifest.root() {
                Ok(root) => walk.waiting.extend(root.content().cloned()),
                Err(_) => walk.sound = false,
            }
            while let Some(directory) = walk.waiting.pop() {
                self.context.check_stop()?;
                self.directory(&directory, &mut walk)?;
            }
        }
        self.report.trees = walk.seen.len() as u64;
        Ok(walk.sound)
    }

    fn directory(&self, content: &Content, walk: &mut Walk<'_>) -> Result<()> {
        for extent in &content.extents {
            let Some(id) = extent.id else { continue };
            if !walk.seen.insert(id) {
                continue;
            }
            if self.place_of(&id, PackKind::Metadata).is_err() {
                walk.sound = false;
                continue;
            }
            if content.level > 0 {
                match walk.reader.list(&id, content.level - 1, extent.length) {
                    Ok(list) => self.directory(&list, walk)?,
                    Err(e) => walk.note(e)?,
                }
                continue;
            }
            match walk.reader.node(&id, extent.length) {
                Ok(node) => self.node(node, walk)?,
                Err(e) => walk.note(e)?,
            }
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
                walk.sound &= self.place_of(&id, PackKind::Data).is_ok();
            } else if walk.seen.insert(id) {
                if self.place_of(&id, PackKind::Metadata).is_err() {
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
    /// Damage is looked into later; anything else ends the check.
    fn note(&mut self, error: crate::Error) -> Result<()> {
        if error.kind() != Kind::Damaged {
            return Err(error);
        }
        self.sound = false;
        Ok(())
    }
}
