//! Writes damaged snapshots once more with all that can be saved of them.
//!
//! A file of which chunks are lost is kept under its name with `.lifeboat-damaged` behind it, holes in place of what is lost; a directory of
//! which nodes are lost keeps the others. The old snapshots stay, unless they are to be forgotten.

use crate::check::{self, CheckOptions, ReadData, Report};
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::ingest::{ChunkSink, Ingest, IngestOptions};
use crate::pack::directory::PackKind;
use crate::repository::{Area, Repository, layout, state};
use crate::snapshot::history::Snapshot;
use crate::snapshot::manifest::{FileError, FileErrorKind, Manifest, Witness};
use crate::snapshot::{History, chain};
use crate::tree::content::ContentBuilder;
use crate::tree::node::{Names, NodeBuilder};
use crate::tree::{Content, Entry, EntryKind, Extent, Node, path_text};
use crate::{Kind, Result};

/// Behind the name of a file of which something is lost.
const DAMAGED_SUFFIX: &[u8] = b".lifeboat-damaged";
const NAME_BYTES_MAX: usize = 255;
/// The tag of a repaired snapshot.
const TAG: &str = "repaired";

/// How snapshots are repaired.
#[derive(Debug, Clone, Default)]
pub struct SnapshotRepairOptions {
    /// Read every pack first, so that damage is known that only reading shows.
    pub read_data: bool,
    /// Forget the snapshots that were written anew, and record those that are lost as forgotten.
    pub forget: bool,
    /// Change nothing: only report.
    pub dry_run: bool,
    /// The machine's name, for records.
    pub host: String,
}

/// What a repair of snapshots came to.
#[derive(Debug, Default)]
pub struct SnapshotRepair {
    /// Damaged snapshots and the new ones that stand for them (`None` for a dry run).
    pub repaired: Vec<(Snapshot, Option<Snapshot>)>,
    /// Paths of which something is lost, by snapshot id.
    pub lost: Vec<(String, Vec<u8>)>,
    /// Snapshots that cannot be read at all, or are gone: nothing of them can be saved here.
    pub gone: Vec<String>,
}

/// Repairs all snapshots.
///
/// # Errors
/// `Interrupted`; errors of the store.
pub fn snapshots(
    repository: &Repository,
    options: &SnapshotRepairOptions,
    context: &Context,
) -> Result<SnapshotRepair> {
    let history = repository.load_history()?;
    let read_data = if options.read_data { ReadData::All } else { ReadData::Nothing };
    let check_options = CheckOptions { read_data, threads: 0 };
    let check = check::survey(repository, &check_options, context, Report::default())?;
    let reader = ChunkReader::new(repository, check.index.clone());
    let ingest_options = IngestOptions { dry_run: options.dry_run, ..IngestOptions::default() };
    let ingest = Ingest::start(repository, check.index.clone(), ingest_options, context)?;
    let mut repair = SnapshotRepair::default();
    context.report(Event::Phase("saving what can be saved"));
    let mut manifests = Vec::new();
    {
        let mut sink = ChunkSink::new(&ingest)?;
        for snapshot in &history.snapshots {
            let mut rewrite = Rewrite {
                check: &check,
                reader: &reader,
                context,
                sink: &mut sink,
                lost: Vec::new(),
                owners: (Names::new(), Names::new()),
            };
            if let Some(manifest) = rewrite.snapshot(snapshot)? {
                let id = snapshot.id.to_string();
                repair.lost.extend(rewrite.lost.into_iter().map(|path| (id.clone(), path)));
                manifests.push((snapshot.clone(), manifest));
            }
        }
        if !options.dry_run {
            sink.flush()?;
        }
    }
    if !options.dry_run {
        ingest.finish()?;
    }
    // Before anything is appended: what this run writes is not lost.
    let gone = lost_snapshots(repository, &history)?;
    for (old, manifest) in manifests {
        let new = if options.dry_run { None } else { Some(repository.append_snapshot(manifest)?) };
        repair.repaired.push((old, new));
    }
    repair.gone = gone.iter().map(|witness| witness.id.clone()).collect();
    if options.forget && !options.dry_run {
        let old: Vec<&Snapshot> = repair.repaired.iter().map(|(old, _)| old).collect();
        repository.forget(&old, &options.host)?;
        repository.record_forgotten(gone, &options.host)?;
    }
    Ok(repair)
}

/// Snapshots that something names and nobody can read.
fn lost_snapshots(repository: &Repository, history: &History) -> Result<Vec<Witness>> {
    let memory = state::peek(repository.directories());
    let mut lost: Vec<Witness> = chain::examine(history, memory.as_ref())
        .missing
        .into_iter()
        // Another process may have made it since the history was read.
        .filter(|missing| !missing.id.as_ref().is_some_and(|id| is_readable(repository, id)))
        .map(|missing| Witness {
            writer: missing.writer,
            sequence: missing.sequence,
            id: missing.id.unwrap_or_default(),
        })
        .collect();
    // Unreadable ones that nothing names yet: nobody will miss their place, but their object is in the way.
    for info in repository.store().list(&Area::Snapshots.prefix())? {
        let Ok(id) = layout::sha256_of(&info.key) else { continue };
        let id = id.to_string();
        if history.get(&id).is_none()
            && !history.forgotten.contains_key(&id)
            && !lost.iter().any(|witness| witness.id == id)
            && !is_readable(repository, &id)
        {
            lost.push(Witness { writer: String::new(), sequence: 0, id });
        }
    }
    Ok(lost)
}

/// Gives an entry that was renamed another name if that is taken by a file that is well.
fn with_free_name(mut entry: Entry, others: &[Entry]) -> Entry {
    let wanted = entry.name.clone();
    let mut number = 2;
    while others.iter().any(|other| other.name == entry.name) {
        entry.name = [&wanted, format!("-{number}").as_bytes()].concat().into();
        number += 1;
    }
    entry
}

fn is_readable(repository: &Repository, id: &str) -> bool {
    id.parse().is_ok_and(|id| repository.read_snapshot(&id).is_ok())
}

/// Writes one snapshot's tree anew where it is damaged.
struct Rewrite<'r, 'c> {
    check: &'r check::Check<'c>,
    reader: &'r ChunkReader,
    context: &'r Context,
    sink: &'r mut ChunkSink<'c>,
    lost: Vec<Vec<u8>>,
    owners: (Names, Names),
}

impl Rewrite<'_, '_> {
    /// The new manifest, or `None` if nothing is wrong.
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<Option<Manifest>> {
        let Ok(root) = snapshot.manifest.root() else { return Ok(None) };
        let Some(root) = self.entry(&mut Vec::new(), &root)? else { return Ok(None) };
        let mut manifest = snapshot.manifest.clone();
        manifest.root = Manifest::encode_root(&root, &self.owners.0, &self.owners.1);
        manifest.parent = Some(snapshot.id.to_string());
        if !manifest.tags.iter().any(|tag| tag == TAG) {
            manifest.tags.push(TAG.to_owned());
        }
        manifest.errors_total += self.lost.len() as u64;
        let room = crate::snapshot::manifest::ERRORS_LISTED_MAX.saturating_sub(manifest.errors.len());
        manifest.errors.extend(self.lost.iter().take(room).map(|path| FileError {
            path: path_text::to_text(path),
            kind: FileErrorKind::Incomplete,
            message: format!("stored data was lost; saved from snapshot {}", snapshot.short_id()),
        }));
        Ok(Some(manifest))
    }

    /// The entry with what can be saved, or `None` if nothing is wrong with it.
    fn entry(&mut self, path: &mut Vec<u8>, entry: &Entry) -> Result<Option<Entry>> {
        match &entry.kind {
            EntryKind::File { size, content } => {
                let Some(content) = self.file(content)? else { return Ok(None) };
                self.lost.push(path.clone());
                let mut saved = entry.clone();
                saved.kind = EntryKind::File { size: *size, content };
                saved.incomplete = true;
                let name = [&entry.name, DAMAGED_SUFFIX].concat();
                if name.len() <= NAME_BYTES_MAX {
                    saved.name = name.into();
                }
                Ok(Some(saved))
            }
            EntryKind::Directory { content, .. } => self.directory(path, entry, content),
            _ => Ok(None),
        }
    }

    fn directory(&mut self, path: &mut Vec<u8>, entry: &Entry, content: &Content) -> Result<Option<Entry>> {
        self.context.check_stop()?;
        let mut ids = Vec::new();
        let whole = self.chunks(content, &mut ids)?;
        let mut damaged = !whole;
        let mut entries: Vec<Entry> = Vec::new();
        let mut renamed = Vec::new();
        for extent in ids {
            let node = match extent.id {
                Some(id) => self.node(&id)?,
                None => None,
            };
            let Some(node) = node else {
                damaged = true;
                continue;
            };
            self.owners.0.extend(node.users);
            self.owners.1.extend(node.groups);
            for child in node.entries {
                let base = path.len();
                path.push(b'/');
                path.extend_from_slice(&child.name);
                let saved = self.entry(path, &child)?;
                path.truncate(base);
                damaged |= saved.is_some();
                match saved {
                    Some(saved) if saved.name != child.name => renamed.push(saved),
                    saved => entries.push(saved.unwrap_or(child)),
                }
            }
        }
        if !damaged {
            return Ok(None);
        }
        if !whole {
            self.lost.push(path.clone());
        }
        for entry in renamed {
            entries.push(with_free_name(entry, &entries));
        }
        self.write_directory(entry, entries, !whole).map(Some)
    }

    fn write_directory(&mut self, old: &Entry, mut entries: Vec<Entry>, incomplete: bool) -> Result<Entry> {
        // A changed name may have another place in the order.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        let mut nodes = NodeBuilder::new(old.meta.device);
        let mut builder = ContentBuilder::new();
        let (mut count, mut bytes) = (0, 0);
        let last = entries.len().saturating_sub(1);
        for (at, entry) in entries.iter().enumerate() {
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
            if extent.id.is_some_and(|id| self.check.place_of(&id, PackKind::Data).is_err()) {
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
            let list = match self.check.place_of(&id, PackKind::Metadata) {
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

    fn node(&self, id: &crate::chunk::ChunkId) -> Result<Option<Node>> {
        if self.check.place_of(id, PackKind::Metadata).is_err() {
            return Ok(None);
        }
        match self.reader.metadata(id) {
            Ok(bytes) => Ok(Node::decode(&bytes).ok()),
            Err(e) if e.kind() == Kind::Damaged => Ok(None),
            Err(e) => Err(e),
        }
    }
}
