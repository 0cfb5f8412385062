//! One snapshot's tree with all that can be saved of it, holes and gaps in place of what is lost.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use crate::check;
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::ingest::ChunkSink;
use crate::pack::directory::PackKind;
use crate::snapshot::Manifest;
use crate::snapshot::history::Snapshot;
use crate::snapshot::manifest::{ERRORS_LISTED_MAX, FileError, FileErrorKind, Summary};
use crate::tree::content::ContentBuilder;
use crate::tree::node::{Names, NodeBuilder};
use crate::tree::{Content, DAMAGED_SUFFIX, Entry, EntryKind, Extent, Node, path_text};
use crate::{Kind, Result};

const NAME_BYTES_MAX: usize = 255;
/// The tag of a repaired snapshot.
const TAG: &str = "repaired";

/// Writes one snapshot's tree anew where it is damaged.
pub(super) struct Rewrite<'r, 'c> {
    check: &'r check::Check<'c>,
    reader: &'r ChunkReader,
    context: &'r Context,
    sink: &'r mut ChunkSink<'c>,
    /// Paths of which something is lost.
    pub(super) lost: Vec<Vec<u8>>,
    /// How many entries are in the new tree.
    kept: Summary,
    owners: (Names, Names),
}

impl<'r, 'c> Rewrite<'r, 'c> {
    /// Nothing is written yet; new nodes go to `sink`.
    pub(super) fn new(
        check: &'r check::Check<'c>,
        reader: &'r ChunkReader,
        context: &'r Context,
        sink: &'r mut ChunkSink<'c>,
    ) -> Self {
        Self {
            check,
            reader,
            context,
            sink,
            lost: Vec::new(),
            kept: Summary::default(),
            owners: (Names::new(), Names::new()),
        }
    }

    /// The new manifest, or `None` if nothing is wrong. The same tree with the same losses always gives the same root.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) -> Result<Option<Manifest>> {
        let root = match snapshot.manifest.root() {
            Ok(root) => root,
            Err(e) => {
                // Authentic, and yet not to be understood: perhaps a later version can.
                self.context.report(Event::Damage(format!(
                    "snapshot {}: {e}; it stays as it is",
                    snapshot.short_id()
                )));
                return Ok(None);
            }
        };
        let Some(root) = self.entry(&mut Vec::new(), &root)? else { return Ok(None) };
        let old = snapshot.id.to_string();
        let mut manifest = snapshot.manifest.clone();
        manifest.root = Manifest::encode_root(&root, &self.owners.0, &self.owners.1);
        manifest.parent = Some(old.clone());
        manifest.repaired_from = Some(old);
        if !manifest.tags.iter().any(|tag| tag == TAG) {
            manifest.tags.push(TAG.to_owned());
        }
        let message = format!(
            "stored data was lost; what is left was saved from snapshot {} on {}",
            snapshot.short_id(),
            chrono::Local::now().format("%Y-%m-%d")
        );
        let lost = self.lost.iter().map(|path| FileError {
            path: path_text::to_text(path),
            kind: FileErrorKind::Lost,
            message: message.clone(),
        });
        // What is lost stands first: of the rest the damaged snapshot tells, too.
        manifest.errors = lost.chain(manifest.errors).take(ERRORS_LISTED_MAX).collect();
        manifest.errors_total += self.lost.len() as u64;
        manifest.lost_total = self.lost.len() as u64 + snapshot.manifest.lost_total;
        manifest.summary = Summary { bytes_total: root.bytes(), ..self.kept };
        Ok(Some(manifest))
    }

    /// The entry with what can be saved, or `None` if nothing is wrong with it.
    fn entry(&mut self, path: &mut Vec<u8>, entry: &Entry) -> Result<Option<Entry>> {
        match &entry.kind {
            EntryKind::File { size, content } => {
                self.kept.files_unmodified += 1;
                let Some(content) = self.file(content)? else { return Ok(None) };
                self.lost.push(path.clone());
                let mut saved = entry.clone();
                saved.kind = EntryKind::File { size: *size, content };
                saved.incomplete = true;
                // One that was repaired before has the suffix already.
                if !entry.name.ends_with(DAMAGED_SUFFIX)
                    && entry.name.len() + DAMAGED_SUFFIX.len() <= NAME_BYTES_MAX
                {
                    saved.name = [&entry.name, DAMAGED_SUFFIX].concat().into();
                }
                Ok(Some(saved))
            }
            EntryKind::Directory { content, .. } => {
                self.kept.directories += 1;
                self.directory(path, entry, content)
            }
            _ => {
                self.kept.others += 1;
                Ok(None)
            }
        }
    }

    fn directory(&mut self, path: &mut Vec<u8>, entry: &Entry, content: &Content) -> Result<Option<Entry>> {
        self.context.check_stop()?;
        let mut ids = Vec::new();
        let mut whole = self.chunks(content, &mut ids)?;
        let mut changed = false;
        let mut last: Option<Box<[u8]>> = None;
        let mut entries = BTreeMap::new();
        let mut renamed = Vec::new();
        for extent in ids {
            let node = match extent.id {
                Some(id) => self.node(&id, extent.length)?,
                None => None,
            };
            let Some(node) = node else {
                whole = false;
                continue;
            };
            // Names that do not go on in order: a restore would refuse the directory.
            changed |= last.is_some() && last.as_ref() >= node.entries.first().map(|entry| &entry.name);
            last = node.entries.last().map(|entry| entry.name.clone()).or(last);
            self.owners.0.extend(node.users);
            self.owners.1.extend(node.groups);
            for child in node.entries {
                let base = path.len();
                path.push(b'/');
                path.extend_from_slice(&child.name);
                let saved = self.entry(path, &child)?;
                path.truncate(base);
                changed |= saved.is_some();
                match saved {
                    Some(saved) if saved.name != child.name => renamed.push(saved),
                    saved => renamed.extend(put(&mut entries, saved.unwrap_or(child))),
                }
            }
        }
        if whole && !changed {
            return Ok(None);
        }
        if !whole {
            self.lost.push(path.clone());
        }
        for entry in renamed {
            let entry = with_free_name(entry, &entries);
            entries.insert(entry.name.clone(), entry);
        }
        self.write_directory(entry, entries, !whole).map(Some)
    }

    fn write_directory(&mut self, old: &Entry, entries: Entries, incomplete: bool) -> Result<Entry> {
        let mut nodes = NodeBuilder::new(old.meta.device);
        let mut builder = ContentBuilder::new();
        let (mut count, mut bytes) = (0, 0);
        let last = entries.len().saturating_sub(1);
        for (at, entry) in entries.values().enumerate() {
            count += match &entry.kind {
                EntryKind::Directory { entries, .. } => entries + 1,
                _ => 1,
            };
            bytes += entry.bytes();
            nodes.push(entry, &self.owners.0, &self.owners.1);
            if nodes.should_end() || at == last {
                let node = nodes.take();
                let extent = Extent { length: node.len() as u64, id: Some(self.sink.metadata(&node)?) };
                builder.push(extent, &mut |list| self.sink.metadata(&list))?;
            }
        }
        let content = builder.finish(&mut |list| self.sink.metadata(&list))?;
        let mut new = old.clone();
        new.kind = EntryKind::Directory { content, entries: count, bytes };
        new.incomplete |= incomplete;
        Ok(new)
    }

    /// A file's content with holes where chunks are lost, or `None` if none is.
    fn file(&mut self, content: &Content) -> Result<Option<Content>> {
        let mut extents = Vec::new();
        let mut whole = self.chunks(content, &mut extents)?;
        for extent in &mut extents {
            let place = |id| self.check.place_of(&id, PackKind::Data, Some(extent.length));
            if extent.id.is_some_and(|id| place(id).is_err()) {
                extent.id = None;
                whole = false;
            }
        }
        if whole {
            return Ok(None);
        }
        let mut builder = ContentBuilder::new();
        for extent in extents {
            builder.push(extent, &mut |list| self.sink.metadata(&list))?;
        }
        builder.finish(&mut |list| self.sink.metadata(&list)).map(Some)
    }

    /// The chunks of a content, a hole in place of each list that is lost. Returns whether no list is.
    fn chunks(&self, content: &Content, out: &mut Vec<Extent>) -> Result<bool> {
        let mut whole = true;
        for extent in &content.extents {
            let (Some(id), true) = (extent.id, content.level > 0) else {
                out.push(*extent);
                continue;
            };
            let list = match self.check.place_of(&id, PackKind::Metadata, None) {
                Ok(()) => self.reader.list(&id, content.level - 1, extent.length),
                Err(problem) => Err(crate::Error::damaged(problem)),
            };
            match list {
                Ok(list) => whole &= self.chunks(&list, out)?,
                Err(e) if e.kind() == Kind::Damaged => {
                    whole = false;
                    out.push(Extent { id: None, ..*extent });
                }
                Err(e) => return Err(e),
            }
        }
        Ok(whole)
    }

    fn node(&self, id: &crate::chunk::ChunkId, length: u64) -> Result<Option<Node>> {
        if self.check.place_of(id, PackKind::Metadata, Some(length)).is_err() {
            return Ok(None);
        }
        match self.reader.node(id, length) {
            Ok(node) => Ok(Some(node)),
            Err(e) if e.kind() == Kind::Damaged => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A directory's entries in the order of their names.
type Entries = BTreeMap<Box<[u8]>, Entry>;

/// Puts an entry under its name, or gives it back if that is taken.
fn put(entries: &mut Entries, entry: Entry) -> Option<Entry> {
    match entries.entry(entry.name.clone()) {
        Slot::Vacant(slot) => {
            slot.insert(entry);
            None
        }
        Slot::Occupied(_) => Some(entry),
    }
}

/// Gives an entry another name if its own is taken: a number before the suffix, so that it is still known by that.
fn with_free_name(mut entry: Entry, others: &Entries) -> Entry {
    let (stem, suffix) = match entry.name.strip_suffix(DAMAGED_SUFFIX) {
        Some(stem) => (stem.to_vec(), DAMAGED_SUFFIX),
        None => (entry.name.to_vec(), &b""[..]),
    };
    let mut number = 2_u64;
    while others.contains_key(&entry.name) {
        let mark = format!("-{number}");
        let room = NAME_BYTES_MAX - suffix.len() - mark.len();
        let kept = stem.get(..stem.len().min(room)).unwrap_or_default();
        entry.name = [kept, mark.as_bytes(), suffix].concat().into();
        number += 1;
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &[u8]) -> Entry {
        let kind = EntryKind::File { size: 0, content: Content::default() };
        Entry { name: name.into(), meta: Default::default(), kind, incomplete: false }
    }

    fn names_taken(names: &[&[u8]]) -> Entries {
        names.iter().map(|name| (Box::from(*name), file(name))).collect()
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number_and_keeps_its_suffix() {
        let free =
            |name: &[u8], taken: &[&[u8]]| with_free_name(file(name), &names_taken(taken)).name.to_vec();
        assert_eq!(free(b"a.lifeboat-damaged", &[b"a"]), b"a.lifeboat-damaged");
        assert_eq!(free(b"a.lifeboat-damaged", &[b"a.lifeboat-damaged"]), b"a-2.lifeboat-damaged");
        let taken: [&[u8]; 2] = [b"a.lifeboat-damaged", b"a-2.lifeboat-damaged"];
        assert_eq!(free(b"a.lifeboat-damaged", &taken), b"a-3.lifeboat-damaged");
        assert_eq!(free(b"plain", &[b"plain"]), b"plain-2");
        let long = [&[b'x'; 238][..], DAMAGED_SUFFIX].concat();
        let found = free(&long, &[&long]);
        assert_eq!((found.len(), found.ends_with(b"x-2.lifeboat-damaged")), (255, true));
    }
}
