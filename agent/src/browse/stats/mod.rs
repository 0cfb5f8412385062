//! How many bytes snapshots stand for, and how many are left after deduplication and compression.
//!
//! The trees of all groups are walked, every distinct node and list of a group once. The chunks that are met go to
//! [`unique`], which sorts them on disk, so that memory does not grow with them; the nodes that were visited are
//! remembered by eight bytes each (some 15 MB for a million directories a group).

pub mod unique;

use std::collections::HashSet;

use unique::{ChunkSet, GroupId};

use super::OnDamage;
use super::directory;
use crate::chunk::ChunkId;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::pack::directory::PackKind;
use crate::repository::Area;
use crate::snapshot::Snapshot;
use crate::tree::content::LEVEL_MAX;
use crate::tree::{Content, EntryKind, Extent};
use crate::{Error, Kind, Result};

/// Snapshots that are measured together.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// What they have in common: a source and host, or an id.
    pub name: String,
    /// Which they are.
    pub snapshots: Vec<&'a Snapshot>,
}

/// Bytes of some snapshots' files at three stages, and of their metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// Files, every file of every snapshot counted.
    pub logical: u64,
    /// Distinct chunks.
    pub unique: u64,
    /// Those chunks after compression and sealing; a chunk's part of its segment.
    pub stored: u64,
    /// Tree nodes and lists, as stored.
    pub metadata_stored: u64,
    /// What no other group and no other snapshot has, as stored, metadata included: about what forgetting this group sets free.
    pub exclusive_stored: u64,
    /// Distinct chunks of files.
    pub chunks: u64,
    /// Tree nodes and lists.
    pub metadata_chunks: u64,
    /// Chunks that the index does not know: damage.
    pub missing_chunks: u64,
}

/// The figures of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStats {
    /// The group's name.
    pub name: String,
    /// How many snapshots it has.
    pub snapshots: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What the whole store holds, used by a snapshot or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Packs of file content.
    pub data_packs: u64,
    /// Bytes of those.
    pub data_bytes: u64,
    /// Packs of metadata.
    pub metadata_packs: u64,
    /// Bytes of those.
    pub metadata_bytes: u64,
    /// Segments in all packs.
    pub segments: u64,
    /// Places of chunks in all packs.
    pub chunks: u64,
    /// Plain bytes of those.
    pub plain_bytes: u64,
    /// Index shards.
    pub index_shards: u64,
    /// Bytes of those.
    pub index_bytes: u64,
    /// Snapshot objects.
    pub snapshots: u64,
    /// Bytes of those.
    pub snapshot_bytes: u64,
}

/// Figures of all groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// All groups taken together.
    pub all: Bytes,
    /// Each group.
    pub groups: Vec<GroupStats>,
}

/// Measures groups of snapshots. What `others` have too is not exclusive to any group: they are all other snapshots of the repository.
///
/// # Errors
/// What `damaged` returns; errors of the store and of the temporary files; `Interrupted`.
pub fn measure(
    reader: &ChunkReader,
    context: &Context,
    groups: &[Group<'_>],
    others: &[&Snapshot],
    damaged: &mut OnDamage<'_>,
) -> Result<Stats> {
    let mut chunks = ChunkSet::new();
    let mut all = Bytes::default();
    let mut figures = Vec::with_capacity(groups.len());
    for (number, group) in groups.iter().enumerate() {
        let mut walk = Walk::new(reader, context, &mut chunks, group_id(number)?);
        let logical = walk.snapshots(&group.snapshots, damaged)?;
        let bytes = Bytes { logical, ..Bytes::default() };
        all.logical += logical;
        let snapshots = group.snapshots.len() as u64;
        figures.push(GroupStats { name: group.name.clone(), snapshots, bytes });
    }
    // One more group than is measured: a chunk that it has is nobody's alone.
    Walk::new(reader, context, &mut chunks, group_id(groups.len())?).snapshots(others, damaged)?;
    chunks.for_each(&mut |id, owners| {
        context.check_stop()?;
        count(reader, id, owners, &mut all, &mut figures);
        Ok(())
    })?;
    Ok(Stats { all, groups: figures })
}

fn group_id(number: usize) -> Result<GroupId> {
    GroupId::try_from(number).map_err(|_| Error::usage("too many groups of snapshots"))
}

fn count(reader: &ChunkReader, id: &ChunkId, owners: &[GroupId], all: &mut Bytes, groups: &mut [GroupStats]) {
    let location = reader.index().lookup(id);
    let add = |bytes: &mut Bytes, exclusive: bool| {
        let Some(at) = &location else {
            bytes.missing_chunks += 1;
            return;
        };
        let whole = u64::from(at.segment.plain_bytes.max(1));
        let stored = u64::from(at.segment.box_bytes) * u64::from(at.length) / whole;
        match at.kind {
            PackKind::Data => {
                bytes.chunks += 1;
                bytes.unique += u64::from(at.length);
                bytes.stored += stored;
            }
            PackKind::Metadata => {
                bytes.metadata_chunks += 1;
                bytes.metadata_stored += stored;
            }
        }
        bytes.exclusive_stored += if exclusive { stored } else { 0 };
    };
    let shared = owners.iter().any(|owner| usize::from(*owner) >= groups.len());
    if !shared || owners.len() > 1 {
        add(all, !shared);
    }
    for owner in owners {
        if let Some(group) = groups.get_mut(usize::from(*owner)) {
            add(&mut group.bytes, owners.len() == 1);
        }
    }
}

/// Measures what lies in the store.
///
/// # Errors
/// If the local index is damaged or the store cannot be listed.
pub fn measure_store(reader: &ChunkReader) -> Result<StoreStats> {
    let mut stats = StoreStats::default();
    reader.index().for_each_pack(|pack| {
        let (packs, bytes) = match pack.kind {
            PackKind::Data => (&mut stats.data_packs, &mut stats.data_bytes),
            PackKind::Metadata => (&mut stats.metadata_packs, &mut stats.metadata_bytes),
        };
        *packs += 1;
        *bytes += pack.stored_bytes;
        stats.chunks += u64::from(pack.chunks);
        stats.plain_bytes += pack.plain_bytes;
    })?;
    // No segment and no chunk is empty, so each segment has exactly one chunk at its beginning.
    reader.index().for_each_place(|_, location| stats.segments += u64::from(location.offset == 0))?;
    let store = reader.repository().store();
    store.for_each(&Area::Index.prefix(), |object| {
        stats.index_shards += 1;
        stats.index_bytes += object.size;
        Ok(())
    })?;
    store.for_each(&Area::Snapshots.prefix(), |object| {
        stats.snapshots += 1;
        stats.snapshot_bytes += object.size;
        Ok(())
    })?;
    Ok(stats)
}

struct Walk<'a> {
    reader: &'a ChunkReader,
    context: &'a Context,
    chunks: &'a mut ChunkSet,
    group: GroupId,
    /// The first eight bytes of nodes and lists that were visited.
    seen: HashSet<u64>,
}

impl<'a> Walk<'a> {
    fn new(reader: &'a ChunkReader, context: &'a Context, chunks: &'a mut ChunkSet, group: GroupId) -> Self {
        Self { reader, context, chunks, group, seen: HashSet::new() }
    }

    /// Walks snapshots and returns the bytes of all their files.
    fn snapshots(&mut self, snapshots: &[&Snapshot], damaged: &mut OnDamage<'_>) -> Result<u64> {
        let mut logical = 0;
        for snapshot in snapshots {
            let root = snapshot.manifest.root()?;
            logical += root.bytes();
            if let EntryKind::Directory { content, .. } = &root.kind {
                self.directory(&mut Vec::new(), content, damaged)?;
            }
        }
        Ok(logical)
    }

    fn directory(&mut self, path: &mut Vec<u8>, content: &Content, damaged: &mut OnDamage<'_>) -> Result<()> {
        let mut nodes = Vec::new();
        if let Err(e) = self.extents(content, true, &mut |_, extent| {
            nodes.extend(extent.id);
            Ok(())
        }) {
            report(e, path, damaged)?;
        }
        let base = path.len();
        for id in nodes {
            self.context.check_stop()?;
            if !self.is_new(&id)? {
                continue;
            }
            let node = match directory::load_node(self.reader, &id) {
                Ok(node) => node,
                Err(e) => {
                    report(e, path, damaged)?;
                    continue;
                }
            };
            for entry in &node.entries {
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                match &entry.kind {
                    EntryKind::Directory { content, .. } => self.directory(path, content, damaged)?,
                    EntryKind::File { content, .. } => {
                        let read = self.extents(content, false, &mut |walk, extent| match extent.id {
                            Some(id) => walk.chunks.add(&id, walk.group),
                            None => Ok(()),
                        });
                        read.or_else(|e| report(e, path, damaged))?;
                    }
                    _ => {}
                }
                path.truncate(base);
            }
        }
        Ok(())
    }

    /// Gives out the lowest extents of a content, of lists that were not visited before only; of a directory all.
    fn extents(
        &mut self,
        content: &Content,
        known_too: bool,
        each: &mut dyn FnMut(&mut Self, &Extent) -> Result<()>,
    ) -> Result<()> {
        if content.level > LEVEL_MAX {
            return Err(Error::damaged("content of too many levels"));
        }
        for extent in &content.extents {
            match extent.id {
                Some(id) if content.level > 0 => {
                    if self.is_new(&id)? || known_too {
                        let list = self.reader.list(&id, content.level - 1, extent.length)?;
                        self.extents(&list, known_too, each)?;
                    }
                }
                _ => each(self, extent)?,
            }
        }
        Ok(())
    }

    /// Whether a node or list was not visited before; counts it if so.
    fn is_new(&mut self, id: &ChunkId) -> Result<bool> {
        let new = self.seen.insert(id.prefix_u64());
        if new {
            self.chunks.add(id, self.group)?;
        }
        Ok(new)
    }
}

fn report(error: Error, path: &[u8], damaged: &mut OnDamage<'_>) -> Result<()> {
    match error.kind() {
        Kind::Damaged => damaged(path, error),
        _ => Err(error),
    }
}
