//! The nodes of one directory: which they are, and the one that holds a name.
//!
//! Nodes are in the order of names, so a name is found by halving: a directory of 200,000 entries costs some eight
//! nodes, not two hundred.

use std::sync::Arc;

use crate::chunk::ChunkId;
use crate::fetch::ChunkReader;
use crate::tree::content::LEVEL_MAX;
use crate::tree::node::Names;
use crate::tree::{Content, Entry, Extent, Node};
use crate::{Error, Result};

/// An entry with the names of its owners as they were on the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The entry.
    pub entry: Entry,
    /// Its owner's name, if it was known.
    pub user: Option<Box<[u8]>>,
    /// Its group's name, if it was known.
    pub group: Option<Box<[u8]>>,
}

impl Listed {
    /// An entry of a node.
    pub fn new(entry: &Entry, node: &Node) -> Self {
        let name = |names: &Names, id: u32| names.get(&id).cloned();
        Self {
            entry: entry.clone(),
            user: name(&node.users, entry.meta.uid),
            group: name(&node.groups, entry.meta.gid),
        }
    }
}

/// Gives the node of an id: from the reader, or from a cache before it.
pub type LoadNode<'a> = dyn Fn(&ChunkId) -> Result<Arc<Node>> + 'a;

/// Reads a tree node.
///
/// # Errors
/// `Damaged` if it is missing or malformed.
pub fn load_node(reader: &ChunkReader, id: &ChunkId) -> Result<Arc<Node>> {
    let bytes = reader.metadata(id)?;
    let node = Node::decode(&bytes).map_err(|e| Error::damaged(format_args!("tree node {id}: {e}")))?;
    Ok(Arc::new(node))
}

/// The ids of a directory's nodes in order: 16 bytes for about 64 KiB of nodes.
///
/// # Errors
/// `Damaged` if a list is missing or malformed.
pub fn node_ids(reader: &ChunkReader, content: &Content) -> Result<Vec<ChunkId>> {
    let mut ids = Vec::new();
    reader.for_each_extent(content, &mut |extent| {
        ids.push(node_id(&extent)?);
        Ok(())
    })?;
    Ok(ids)
}

/// The id of a directory's extent.
///
/// # Errors
/// `Damaged` if it is a hole, which a directory cannot have.
pub fn node_id(extent: &Extent) -> Result<ChunkId> {
    extent.id.ok_or_else(|| Error::damaged("a directory with a hole"))
}

/// The entry of this name in a directory; `None` if there is none.
///
/// # Errors
/// `Damaged` if a node that must be looked at is missing or malformed.
pub fn child(
    reader: &ChunkReader,
    load: &LoadNode<'_>,
    content: &Content,
    name: &[u8],
) -> Result<Option<Listed>> {
    let mut list = content.clone();
    if list.level > LEVEL_MAX {
        return Err(Error::damaged("content of too many levels"));
    }
    loop {
        let Some(extent) = last_from(reader, load, &list, name)? else { return Ok(None) };
        let id = node_id(&extent)?;
        if list.level == 0 {
            let node = load(&id)?;
            let at = node.entries.binary_search_by(|entry| (*entry.name).cmp(name));
            return Ok(at.ok().and_then(|at| node.entries.get(at)).map(|entry| Listed::new(entry, &node)));
        }
        list = reader.list(&id, list.level - 1, extent.length)?;
    }
}

/// The last extent of a list whose first name is not after `name`.
fn last_from(
    reader: &ChunkReader,
    load: &LoadNode<'_>,
    list: &Content,
    name: &[u8],
) -> Result<Option<Extent>> {
    // The first one is taken without a look: if the name is before it, it is nowhere.
    let (mut low, mut high) = (0, list.extents.len());
    if high == 0 {
        return Ok(None);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if starts_after(reader, load, list.level, &list.extents[middle], name)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(list.extents.get(low).copied())
}

fn starts_after(
    reader: &ChunkReader,
    load: &LoadNode<'_>,
    level: u8,
    extent: &Extent,
    name: &[u8],
) -> Result<bool> {
    let mut extent = *extent;
    for level in (0..level).rev() {
        let list = reader.list(&node_id(&extent)?, level, extent.length)?;
        let first = list.extents.first();
        extent = *first.ok_or_else(|| Error::damaged("an empty list in a directory"))?;
    }
    let node = load(&node_id(&extent)?)?;
    let first = node.entries.first().ok_or_else(|| Error::damaged("an empty node in a directory"))?;
    Ok(*first.name > *name)
}
