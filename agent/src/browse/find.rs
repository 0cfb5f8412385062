//! A pattern through many snapshots at once.
//!
//! The snapshots are walked side by side, path by path: at each path every distinct node is read once, with the set of
//! snapshots it belongs to. So the work is that of one snapshot and of what changed in the others, however many there
//! are, and a file that stayed the same is one find. Memory: for each level of depth, the subdirectories and finds of one
//! directory.

use std::collections::{BTreeMap, HashMap};

use super::OnDamage;
use super::directory::{self, Listed};
use super::pattern::{Pattern, States};
use crate::chunk::ChunkId;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::fs::FileType;
use crate::snapshot::Snapshot;
use crate::tree::content::LEVEL_MAX;
use crate::tree::{Content, DAMAGED_SUFFIX, Entry, EntryKind, Extent, Node};
use crate::{Error, Kind, Result};

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Query {
    /// Names or paths.
    pub pattern: Pattern,
    /// Only these types; all if empty.
    pub types: Vec<FileType>,
}

/// One version of an entry, and the snapshots that have it.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// Its path.
    pub path: &'a [u8],
    /// What it is, as in the newest of these snapshots.
    pub listed: &'a Listed,
    /// Which of the snapshots have it: places in the slice given, in order.
    pub snapshots: Vec<usize>,
}

/// A set of snapshots, one bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set(Box<[u64]>);

/// Looks for entries in all of `snapshots` (oldest first). Finds come in the order of paths, the newest version first.
///
/// # Errors
/// What `found` and `damaged` return; errors of the store; `Interrupted`.
pub fn find(
    reader: &ChunkReader,
    context: &Context,
    snapshots: &[&Snapshot],
    query: &Query,
    found: &mut dyn FnMut(&Found<'_>) -> Result<()>,
    damaged: &mut OnDamage<'_>,
) -> Result<()> {
    let mut roots: Vec<(Content, Set)> = Vec::new();
    for (number, snapshot) in snapshots.iter().enumerate() {
        let set = Set::of(number, snapshots.len());
        match snapshot.manifest.root() {
            Ok(root) => {
                if let EntryKind::Directory { content, .. } = root.kind {
                    merge(&mut roots, &content, &set);
                }
            }
            Err(e) => damaged(b"/", e.context(format_args!("snapshot {}", snapshot.short_id())))?,
        }
    }
    let mut search = Search { reader, context, query, found, damaged, path: Vec::new() };
    search.directory(&roots, query.pattern.start())
}

struct Search<'a, 'b> {
    reader: &'a ChunkReader,
    context: &'a Context,
    query: &'a Query,
    found: &'a mut dyn FnMut(&Found<'_>) -> Result<()>,
    damaged: &'a mut OnDamage<'b>,
    path: Vec<u8>,
}

/// What one name is in several versions of a directory.
#[derive(Default)]
struct Name {
    states: Option<States>,
    versions: Vec<(Listed, Set)>,
    directories: Vec<(Content, Set)>,
}

impl Name {
    /// Adds a version, or snapshots to one that is known: the newest says what its owners and mode are.
    fn add(&mut self, entry: &Entry, node: &Node, set: &Set) {
        match self.versions.iter_mut().find(|(known, _)| is_same_version(&known.entry, entry)) {
            Some((known, members)) => {
                if set.newest() > members.newest() {
                    *known = Listed::new(entry, node);
                }
                members.add(set);
            }
            None => self.versions.push((Listed::new(entry, node), set.clone())),
        }
    }
}

impl Search<'_, '_> {
    /// Looks through one path, given the distinct contents that the directory there has.
    fn directory(&mut self, contents: &[(Content, Set)], states: States) -> Result<()> {
        let mut names: BTreeMap<Box<[u8]>, Name> = BTreeMap::new();
        for (id, set) in self.nodes(contents)? {
            self.context.check_stop()?;
            let node = match directory::load_node(self.reader, &id) {
                Ok(node) => node,
                Err(e) => {
                    self.report(e)?;
                    continue;
                }
            };
            for entry in &node.entries {
                let pattern = &self.query.pattern;
                let next = pattern.advance(states, &entry.name);
                let is_named = pattern.accepts(next)
                    || name_before_repair(entry)
                        .is_some_and(|name| pattern.accepts(pattern.advance(states, name)));
                let hit = is_named && self.query.admits(entry);
                let below = if pattern.goes_on(next) { directory_of(entry) } else { None };
                if !hit && below.is_none() {
                    continue;
                }
                let name = names.entry(entry.name.clone()).or_default();
                name.states = Some(next);
                if hit {
                    name.add(entry, &node, &set);
                }
                if let Some(content) = below {
                    merge(&mut name.directories, content, &set);
                }
            }
        }
        self.names(names)
    }

    /// Gives out the finds of one directory and goes into its subdirectories.
    fn names(&mut self, names: BTreeMap<Box<[u8]>, Name>) -> Result<()> {
        let base = self.path.len();
        for (name, mut versions) in names {
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            versions.versions.sort_by_key(|(_, set)| std::cmp::Reverse(set.newest()));
            for (listed, set) in &versions.versions {
                (self.found)(&Found { path: &self.path, listed, snapshots: set.members() })?;
            }
            if let (false, Some(states)) = (versions.directories.is_empty(), versions.states) {
                self.directory(&versions.directories, states)?;
            }
            self.path.truncate(base);
        }
        Ok(())
    }

    /// The distinct nodes of several contents, each with the snapshots that have it. Lists that contents share are read once.
    fn nodes(&mut self, contents: &[(Content, Set)]) -> Result<Vec<(ChunkId, Set)>> {
        let top = contents.iter().map(|(content, _)| content.level).max().unwrap_or(0).min(LEVEL_MAX);
        let mut level = Distinct::default();
        for depth in (0..=top).rev() {
            let mut here = Distinct::default();
            for (extent, set) in level.extents {
                let Some(id) = extent.id else { continue };
                match self.reader.list(&id, depth, extent.length) {
                    Ok(list) => list.extents.iter().for_each(|extent| here.add(*extent, &set)),
                    Err(e) => self.report(e)?,
                }
            }
            for (content, set) in contents.iter().filter(|(content, _)| content.level == depth) {
                content.extents.iter().for_each(|extent| here.add(*extent, set));
            }
            level = here;
        }
        Ok(level.extents.into_iter().filter_map(|(extent, set)| Some((extent.id?, set))).collect())
    }

    fn report(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            Kind::Damaged => (self.damaged)(&self.path, error),
            _ => Err(error),
        }
    }
}

/// Extents of one level, each once.
#[derive(Default)]
struct Distinct {
    places: HashMap<ChunkId, usize>,
    extents: Vec<(Extent, Set)>,
}

impl Distinct {
    fn add(&mut self, extent: Extent, set: &Set) {
        let Some(id) = extent.id else { return };
        let place = *self.places.entry(id).or_insert(self.extents.len());
        match self.extents.get_mut(place) {
            Some((_, known)) => known.add(set),
            None => self.extents.push((extent, set.clone())),
        }
    }
}

impl Query {
    fn admits(&self, entry: &Entry) -> bool {
        self.types.is_empty() || self.types.contains(&type_of(entry))
    }
}

/// The name that a file had before a repair put what was left of it under another: who looks for the file looks for that too.
fn name_before_repair(entry: &Entry) -> Option<&[u8]> {
    entry.name.strip_suffix(DAMAGED_SUFFIX).filter(|_| entry.incomplete)
}

/// What an entry is.
pub const fn type_of(entry: &Entry) -> FileType {
    FileType::of(&entry.kind)
}

const fn directory_of(entry: &Entry) -> Option<&Content> {
    match &entry.kind {
        EntryKind::Directory { content, .. } => Some(content),
        _ => None,
    }
}

/// Whether two entries of one path are one version: the same bytes from the same time. A directory is judged by its time
/// alone, or else it would be a new version whenever anything below it changed.
fn is_same_version(a: &Entry, b: &Entry) -> bool {
    let same_kind = match (&a.kind, &b.kind) {
        (EntryKind::Directory { .. }, EntryKind::Directory { .. }) => true,
        (a, b) => a == b,
    };
    same_kind && a.meta.mtime == b.meta.mtime
}

/// Adds snapshots to a content that is known, or a new one.
fn merge(contents: &mut Vec<(Content, Set)>, new: &Content, set: &Set) {
    match contents.iter_mut().find(|(known, _)| known == new) {
        Some((_, members)) => members.add(set),
        None => contents.push((new.clone(), set.clone())),
    }
}

impl Set {
    fn of(member: usize, size: usize) -> Self {
        let mut words = vec![0; size.div_ceil(64)].into_boxed_slice();
        if let Some(word) = words.get_mut(member / 64) {
            *word = 1 << (member % 64);
        }
        Self(words)
    }

    fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    fn members(&self) -> Vec<usize> {
        (0..self.0.len() * 64).filter(|member| self.0[member / 64] >> (member % 64) & 1 == 1).collect()
    }

    fn newest(&self) -> Option<usize> {
        self.members().pop()
    }
}
