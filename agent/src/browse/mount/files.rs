//! Entries, directories and bytes by number.

use std::sync::Arc;

use super::cache::Cache;
use super::inodes::{Inodes, Number, Origin, number_of, number_of_top, top_of_number};
use super::top::{Top, TopIndex, TopKind};
use crate::browse::directory;
use crate::chunk::ChunkId;
use crate::fetch::ChunkReader;
use crate::tree::content::LEVEL_MAX;
use crate::tree::{Content, Entry, EntryKind, Node};
use crate::{Error, Result};

/// Entries that are kept: about 1 KB each at most, 200 bytes commonly.
const ENTRIES_CACHED: usize = 8_192;
/// Decoded nodes that are kept: up to some 500 KB each.
const NODES_CACHED: usize = 8;
/// Chunks that are kept after they were compared with their ids.
const CHUNKS_CACHED: usize = 4;

/// The files of all snapshots.
pub(super) struct Files {
    reader: Arc<ChunkReader>,
    pub(super) top: Top,
    pub(super) inodes: Inodes,
    entries: Cache<Number, Arc<Entry>>,
    nodes: Cache<ChunkId, Arc<Node>>,
    chunks: Cache<ChunkId, Arc<[u8]>>,
}

/// What a number stands for.
pub(super) enum File {
    /// A directory or link above the snapshots.
    Top(TopIndex),
    /// An entry of a snapshot, its root too.
    Entry(Arc<Entry>),
}

impl Files {
    pub(super) fn new(reader: Arc<ChunkReader>, top: Top) -> Self {
        Self {
            reader,
            top,
            inodes: Inodes::default(),
            entries: Cache::new(ENTRIES_CACHED),
            nodes: Cache::new(NODES_CACHED),
            chunks: Cache::new(CHUNKS_CACHED),
        }
    }

    /// What a number stands for; `None` if the kernel was never told of it.
    pub(super) fn file(&self, number: Number) -> Result<Option<File>> {
        match top_of_number(number) {
            Some(index) => Ok(self.top.nodes.get(index).map(|node| match &node.kind {
                TopKind::Snapshot(root) => File::Entry(Arc::new(root.clone())),
                _ => File::Top(index),
            })),
            None => Ok(self.entry(number)?.map(File::Entry)),
        }
    }

    /// The entry of a number below a snapshot. Parents that are not cached are looked up first, from the top down.
    fn entry(&self, number: Number) -> Result<Option<Arc<Entry>>> {
        let mut names = Vec::new();
        let mut at = number;
        let mut found = loop {
            if let Some(entry) = self.entries.get(&at) {
                break entry;
            }
            if let Some(index) = top_of_number(at) {
                match self.top.nodes.get(index).map(|node| &node.kind) {
                    Some(TopKind::Snapshot(root)) => break Arc::new(root.clone()),
                    _ => return Ok(None),
                }
            }
            let Some(origin) = self.inodes.origin(at) else { return Ok(None) };
            names.push((at, origin.name));
            at = origin.parent;
        };
        while let Some((number, name)) = names.pop() {
            let Some(child) = self.child_entry(&found, &name)? else { return Ok(None) };
            found = Arc::new(child);
            self.entries.insert(number, found.clone());
        }
        Ok(Some(found))
    }

    fn child_entry(&self, directory: &Entry, name: &[u8]) -> Result<Option<Entry>> {
        let EntryKind::Directory { content, .. } = &directory.kind else { return Ok(None) };
        let found = directory::child(&self.reader, &|id| self.node(id), content, name)?;
        Ok(found.map(|listed| listed.entry))
    }

    /// The entry of a name in a directory, with its number; the kernel is about to be told of it.
    pub(super) fn lookup(&self, parent: Number, name: &[u8]) -> Result<Option<(Number, File)>> {
        match self.file(parent)? {
            Some(File::Top(index)) => match self.top.child(index, name) {
                Some(child) => {
                    let number = number_of_top(child);
                    Ok(self.file(number)?.map(|file| (number, file)))
                }
                None => Ok(None),
            },
            Some(File::Entry(directory)) => {
                let Some(entry) = self.child_entry(&directory, name)? else { return Ok(None) };
                Ok(Some(self.tell(parent, Arc::new(entry))))
            }
            None => Ok(None),
        }
    }

    /// Notes that the kernel is told of an entry of a directory.
    pub(super) fn tell(&self, parent: Number, entry: Arc<Entry>) -> (Number, File) {
        let snapshot = self.snapshot_of(parent);
        let number = number_of(snapshot, parent, &entry);
        self.inodes.remember(number, Origin { snapshot, parent, name: entry.name.clone() });
        self.entries.insert(number, entry.clone());
        (number, File::Entry(entry))
    }

    /// The number an entry of a directory has.
    pub(super) fn number(&self, parent: Number, entry: &Entry) -> Number {
        number_of(self.snapshot_of(parent), parent, entry)
    }

    fn snapshot_of(&self, number: Number) -> TopIndex {
        top_of_number(number)
            .or_else(|| self.inodes.origin(number).map(|origin| origin.snapshot))
            .unwrap_or_default()
    }

    /// The number of the directory a directory lies in.
    pub(super) fn parent(&self, number: Number) -> Number {
        match top_of_number(number) {
            Some(index) => self.top.nodes.get(index).map_or(number, |node| number_of_top(node.parent)),
            None => self.inodes.origin(number).map_or(number, |origin| origin.parent),
        }
    }

    /// The nodes of a directory.
    pub(super) fn node_ids(&self, content: &Content) -> Result<Vec<ChunkId>> {
        directory::node_ids(&self.reader, content)
    }

    /// A node.
    pub(super) fn node(&self, id: &ChunkId) -> Result<Arc<Node>> {
        if let Some(node) = self.nodes.get(id) {
            return Ok(node);
        }
        let node = directory::load_node(&self.reader, id)?;
        self.nodes.insert(*id, node.clone());
        Ok(node)
    }

    /// Up to `bytes` of a content from `offset` on; fewer only at its end.
    ///
    /// Goes down to the place by the lengths in each list: one list a level is read.
    pub(super) fn read(&self, content: &Content, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes);
        self.read_into(content, offset, bytes, &mut out)?;
        Ok(out)
    }

    fn read_into(&self, content: &Content, offset: u64, bytes: usize, out: &mut Vec<u8>) -> Result<()> {
        if content.level > LEVEL_MAX {
            return Err(Error::damaged("content of too many levels"));
        }
        let mut start = 0_u64;
        for extent in &content.extents {
            let end = start + extent.length;
            if out.len() >= bytes {
                break;
            }
            // What is wanted next, if it lies in this extent: before the first byte it is `offset`.
            let wanted = offset.max(start);
            if wanted < end {
                let within = wanted - start;
                match extent.id {
                    Some(id) if content.level > 0 => {
                        let list = self.reader.list(&id, content.level - 1, extent.length)?;
                        self.read_into(&list, within, bytes, out)?;
                    }
                    Some(id) => {
                        let chunk = self.chunk(&id, extent.length)?;
                        let rest = chunk.get(within as usize..).unwrap_or_default();
                        out.extend_from_slice(&rest[..rest.len().min(bytes - out.len())]);
                    }
                    None => {
                        let zeros = (extent.length - within).min((bytes - out.len()) as u64);
                        out.resize(out.len() + zeros as usize, 0);
                    }
                }
            }
            start = end;
        }
        Ok(())
    }

    fn chunk(&self, id: &ChunkId, length: u64) -> Result<Arc<[u8]>> {
        if let Some(chunk) = self.chunks.get(id) {
            return Ok(chunk);
        }
        // Copied, so that a small chunk does not keep its whole segment.
        let chunk: Arc<[u8]> = Arc::from(&*self.reader.data(id, length)?);
        self.chunks.insert(*id, chunk.clone());
        Ok(chunk)
    }
}
