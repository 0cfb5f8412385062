//! What differs between two trees.
//!
//! Directories are compared node by node: nodes that both have are left out before anything is read, since all their
//! entries are the same, contents and metadata. So the work is that of what changed. Memory: for each level of depth a
//! node of each side and 16 bytes for each node of the two directories.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::iter::Peekable;
use std::vec;

use super::OnDamage;
use super::directory;
use super::find::type_of;
use super::walk::{Next, walk};
use crate::chunk::ChunkId;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::fs::FileType;
use crate::tree::{Content, Entry, EntryKind, Extent};
use crate::{Error, Kind, Result};

/// One difference, at a path relative to the two places that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Difference<'a> {
    /// The path below the places; empty for the places themselves.
    pub path: &'a [u8],
    /// What there was.
    pub old: Option<&'a Entry>,
    /// What there is.
    pub new: Option<&'a Entry>,
    /// How they differ.
    pub change: Change,
}

/// How two entries of one path differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Only the new tree has it.
    Added,
    /// Only the old tree has it.
    Removed,
    /// It is of another type.
    Type,
    /// Its bytes differ, or where a link leads to.
    Content,
    /// Its bytes are the same, its metadata are not.
    Metadata,
}

/// A part of the metadata that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Permission bits.
    Mode,
    /// Owner.
    Owner,
    /// Group.
    Group,
    /// Time of last change.
    Mtime,
    /// An extended attribute, by its name.
    Xattr(Box<[u8]>),
}

/// Compares two entries and all that lies below them. Differences come in the order of paths.
///
/// # Errors
/// What `differs` and `damaged` return; errors of the store; `Interrupted`.
pub fn diff(
    reader: &ChunkReader,
    context: &Context,
    old: &Entry,
    new: &Entry,
    differs: &mut dyn FnMut(&Difference<'_>) -> Result<()>,
    damaged: &mut OnDamage<'_>,
) -> Result<()> {
    Comparison { reader, context, differs, damaged, path: Vec::new() }.both(old, new)
}

/// The metadata that differ between two entries.
pub fn changed_fields(old: &Entry, new: &Entry) -> Vec<Field> {
    let (a, b) = (&old.meta, &new.meta);
    let mut fields = Vec::new();
    // A link's mode means nothing and cannot be set.
    if a.mode != b.mode && !matches!(new.kind, EntryKind::Symlink { .. }) {
        fields.push(Field::Mode);
    }
    if a.uid != b.uid {
        fields.push(Field::Owner);
    }
    if a.gid != b.gid {
        fields.push(Field::Group);
    }
    if a.mtime != b.mtime {
        fields.push(Field::Mtime);
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for (some, others) in [(&a.xattrs, &b.xattrs), (&b.xattrs, &a.xattrs)] {
        names.extend(some.iter().filter(|xattr| !others.contains(xattr)).map(|xattr| &*xattr.name));
    }
    names.sort_unstable();
    names.dedup();
    fields.extend(names.into_iter().map(|name| Field::Xattr(name.into())));
    fields
}

/// Bytes of chunks that only the new and only the old content has. Lists that both have are not read.
///
/// # Errors
/// `Damaged` if a list is missing or malformed.
pub fn changed_bytes(reader: &ChunkReader, old: &Content, new: &Content) -> Result<(u64, u64)> {
    let (mut old, mut new) = (old.clone(), new.clone());
    loop {
        drop_shared(&mut old, &mut new);
        match (old.level, new.level) {
            (0, 0) => break,
            (a, b) => {
                if a >= b {
                    old = one_level_down(reader, &old)?;
                }
                if b >= a {
                    new = one_level_down(reader, &new)?;
                }
            }
        }
    }
    let bytes = |content: &Content| -> u64 {
        content.extents.iter().filter(|extent| extent.id.is_some()).map(|extent| extent.length).sum()
    };
    Ok((bytes(&new), bytes(&old)))
}

struct Comparison<'a, 'b> {
    reader: &'a ChunkReader,
    context: &'a Context,
    differs: &'a mut dyn FnMut(&Difference<'_>) -> Result<()>,
    damaged: &'a mut OnDamage<'b>,
    path: Vec<u8>,
}

impl Comparison<'_, '_> {
    fn both(&mut self, old: &Entry, new: &Entry) -> Result<()> {
        self.context.check_stop()?;
        if type_of(old) != type_of(new) {
            self.report(Some(old), Some(new), Change::Type)?;
            self.below(old, false)?;
            return self.below(new, true);
        }
        let same_bytes = old.kind == new.kind || type_of(old) == FileType::Directory;
        if !same_bytes {
            self.report(Some(old), Some(new), Change::Content)?;
        } else if !changed_fields(old, new).is_empty() {
            self.report(Some(old), Some(new), Change::Metadata)?;
        }
        match (&old.kind, &new.kind) {
            (EntryKind::Directory { content: a, .. }, EntryKind::Directory { content: b, .. }) if a != b => {
                self.directories(a, b)
            }
            _ => Ok(()),
        }
    }

    /// Goes through two directories side by side, without the nodes that both have.
    fn directories(&mut self, old: &Content, new: &Content) -> Result<()> {
        let sides = directory::node_ids(self.reader, old)
            .and_then(|old| Ok((old, directory::node_ids(self.reader, new)?)));
        let (mut old, mut new) = match sides {
            Ok(sides) => sides,
            Err(e) => return self.damage(e),
        };
        let of_old: HashSet<ChunkId> = old.iter().copied().collect();
        let of_new: HashSet<ChunkId> = new.iter().copied().collect();
        old.retain(|id| !of_new.contains(id));
        new.retain(|id| !of_old.contains(id));
        let mut old = Entries::new(self.reader, old).peekable();
        let mut new = Entries::new(self.reader, new).peekable();
        let base = self.path.len();
        loop {
            let (a, b) = match next_pair(&mut old, &mut new) {
                Ok((None, None)) => return Ok(()),
                Ok(pair) => pair,
                Err(e) => return self.damage(e),
            };
            if let Some(entry) = a.as_ref().or(b.as_ref()) {
                self.path.push(b'/');
                self.path.extend_from_slice(&entry.name);
            }
            match (&a, &b) {
                (Some(a), Some(b)) => self.both(a, b)?,
                (Some(a), None) => self.alone(a, false)?,
                (None, Some(b)) => self.alone(b, true)?,
                (None, None) => {}
            }
            self.path.truncate(base);
        }
    }

    /// An entry that one side has, with all below it.
    fn alone(&mut self, entry: &Entry, added: bool) -> Result<()> {
        if added {
            self.report(None, Some(entry), Change::Added)?;
        } else {
            self.report(Some(entry), None, Change::Removed)?;
        }
        self.below(entry, added)
    }

    fn below(&mut self, entry: &Entry, added: bool) -> Result<()> {
        let EntryKind::Directory { content, .. } = &entry.kind else { return Ok(()) };
        let differs = &mut *self.differs;
        let mut visit = |seen: &super::Seen<'_>| {
            let (old, new) = if added { (None, Some(seen.entry)) } else { (Some(seen.entry), None) };
            let change = if added { Change::Added } else { Change::Removed };
            differs(&Difference { path: seen.path, old, new, change })?;
            Ok(Next::Descend)
        };
        walk(self.reader, self.context, &mut self.path, content, &mut visit, self.damaged)
    }

    fn report(&mut self, old: Option<&Entry>, new: Option<&Entry>, change: Change) -> Result<()> {
        (self.differs)(&Difference { path: &self.path, old, new, change })
    }

    fn damage(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            Kind::Damaged => (self.damaged)(&self.path, error),
            _ => Err(error),
        }
    }
}

/// The entries of some nodes, read one node at a time.
struct Entries<'a> {
    reader: &'a ChunkReader,
    nodes: vec::IntoIter<ChunkId>,
    entries: vec::IntoIter<Entry>,
}

impl<'a> Entries<'a> {
    fn new(reader: &'a ChunkReader, nodes: Vec<ChunkId>) -> Self {
        Self { reader, nodes: nodes.into_iter(), entries: Vec::new().into_iter() }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(Ok(entry));
            }
            let id = self.nodes.next()?;
            match directory::load_node(self.reader, &id) {
                Ok(node) => {
                    self.entries = std::sync::Arc::unwrap_or_clone(node).entries.into_iter();
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

type Pair = (Option<Entry>, Option<Entry>);

/// What comes next in the order of names: from both sides if they have the same name.
fn next_pair(old: &mut Peekable<Entries<'_>>, new: &mut Peekable<Entries<'_>>) -> Result<Pair> {
    let order = match (old.peek(), new.peek()) {
        (Some(Ok(a)), Some(Ok(b))) => a.name.cmp(&b.name),
        (None, Some(Ok(_))) => Ordering::Greater,
        (Some(Ok(_)), None) => Ordering::Less,
        // An error is taken from whichever side has it.
        _ => Ordering::Equal,
    };
    let a = if order == Ordering::Greater { None } else { old.next().transpose()? };
    let b = if order == Ordering::Less { None } else { new.next().transpose()? };
    Ok((a, b))
}

fn drop_shared(old: &mut Content, new: &mut Content) {
    let ids = |content: &Content| -> HashSet<(u64, ChunkId)> {
        content.extents.iter().filter_map(|extent| Some((extent.length, extent.id?))).collect()
    };
    let (of_old, of_new) = (ids(old), ids(new));
    let only = |extent: &Extent, others: &HashSet<(u64, ChunkId)>| {
        extent.id.is_some_and(|id| !others.contains(&(extent.length, id)))
    };
    old.extents.retain(|extent| only(extent, &of_new));
    new.extents.retain(|extent| only(extent, &of_old));
}

fn one_level_down(reader: &ChunkReader, content: &Content) -> Result<Content> {
    let level = content.level.saturating_sub(1);
    let mut extents = Vec::new();
    for extent in &content.extents {
        let Some(id) = extent.id else { continue };
        extents.extend(reader.list(&id, level, extent.length)?.extents);
    }
    Ok(Content { level, extents })
}
