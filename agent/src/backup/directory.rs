//! A directory whose entries come in from several threads in any order.
//!
//! A huge directory is taken in windows: the next part of its names is looked at when all entries of the part before are
//! there and encoded. So memory is bounded whatever a directory's size.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::Run;
use super::parent::OldEntries;
use super::plan::{self, Plan};
use crate::fs::{DirEntry, FileType, Stat};
use crate::ingest::ChunkSink;
use crate::tree::content::ContentBuilder;
use crate::tree::node::NodeBuilder;
use crate::tree::{Content, Entry, EntryKind, Extent, Meta, Time, Xattr};
use crate::{Error, Result};

/// Names that are looked at together.
pub(super) const WINDOW: usize = 4096;

/// Where the finished root is left.
pub(super) type Finished = Arc<Mutex<Option<Entry>>>;

/// What was left in a [`Finished`].
pub(super) fn taken(finished: &Finished) -> Result<Entry> {
    finished.lock().take().ok_or_else(|| Error::failed("the backup ended before its root was finished"))
}

/// Where a finished entry goes.
#[derive(Clone)]
pub(super) enum Target {
    /// Into a slot of the directory it lies in.
    Slot(Arc<Directory>, usize),
    /// It is the root.
    Root(Finished),
}

/// A directory at work.
pub(super) struct Directory {
    pub(super) target: Target,
    pub(super) name: Box<[u8]>,
    /// Absolute path; empty for the root.
    pub(super) path: Box<[u8]>,
    pub(super) stat: Stat,
    /// Names in it that were named by the user, or lead to such.
    pub(super) plan: Option<plan::Node>,
    /// All of it is backed up; else it merely lies on the way.
    pub(super) whole: bool,
    /// It is in the snapshot only: the way to a given file.
    pub(super) made_up: bool,
    /// The parent snapshot's entry for it.
    pub(super) old: Option<Entry>,
    /// Device that `--one-file-system` stays on; `None` on the way to what is backed up.
    pub(super) stay_on: Option<u64>,
    pub(super) handle: OnceLock<OwnedFd>,
    pub(super) state: Mutex<State>,
}

/// What is known of its entries so far.
#[derive(Default)]
pub(super) struct State {
    pub(super) listed: bool,
    pub(super) names: std::vec::IntoIter<DirEntry>,
    pub(super) old: OldEntries,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) incomplete: bool,
    /// Its attributes could not be read: the next run must look again.
    pub(super) distrust: bool,
    /// Everything so far is as in the parent.
    pub(super) same: bool,
    window: Vec<Option<Entry>>,
    pending: usize,
    encoder: Option<Encoder>,
    entries: u64,
    bytes: u64,
}

struct Encoder {
    nodes: NodeBuilder,
    content: ContentBuilder,
}

impl Directory {
    /// A child of `up`, to be scanned.
    pub(super) fn child(
        up: &Arc<Self>,
        slot: usize,
        name: Box<[u8]>,
        stat: Stat,
        plan: Option<plan::Node>,
        whole: bool,
        old: Option<Entry>,
    ) -> Self {
        let path = up.child_path(&name).into();
        // Whatever was named is where its file system begins.
        let named = plan.as_ref().is_some_and(|plan| plan.whole);
        let stay_on = match up.stay_on {
            _ if !whole => None,
            Some(device) if !named => Some(device),
            _ => Some(stat.meta.device),
        };
        Self {
            target: Target::Slot(up.clone(), slot),
            name,
            path,
            stat,
            plan,
            whole,
            made_up: false,
            old,
            stay_on,
            handle: OnceLock::new(),
            state: Mutex::new(State { same: true, ..State::default() }),
        }
    }

    /// A child of `up` that is not on the disk.
    pub(super) fn made_up(up: &Arc<Self>, slot: usize, name: Box<[u8]>, plan: plan::Node) -> Self {
        let now = now();
        let meta = Meta { mode: 0o755, mtime: now, ctime: now, links: 1, ..Meta::default() };
        let stat = Stat { kind: FileType::Directory, meta, size: 0, blocks: 0, major: 0, minor: 0, mount: 0 };
        Self { made_up: true, ..Self::child(up, slot, name, stat, Some(plan), false, None) }
    }

    /// The names in it that lead to given files.
    pub(super) fn given_names(&self) -> impl Iterator<Item = &[u8]> {
        let children = self.plan.iter().flat_map(|plan| &plan.children);
        children.filter(|(_, node)| node.leads_to_given()).map(|(name, _)| &**name)
    }

    /// The absolute path of an entry.
    pub(super) fn child_path(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, b"/".as_slice(), name].concat()
    }

    /// Puts a window's entries in place: those known already, `None` for those under way.
    /// Returns whether nothing is under way.
    pub(super) fn set_window(&self, window: Vec<Option<Entry>>, pending: usize, same: bool) -> bool {
        let mut state = self.state.lock();
        state.window = window;
        state.pending = pending;
        state.same &= same;
        pending == 0
    }

    /// Fills a slot (`None`: there will be no entry) and returns whether the window is complete.
    fn fill(&self, slot: usize, entry: Option<Entry>, same: bool) -> bool {
        let mut state = self.state.lock();
        state.same &= same;
        if let Some(place) = state.window.get_mut(slot) {
            *place = entry;
        }
        state.pending -= 1;
        state.pending == 0
    }
}

/// The root directory `/` of a run.
pub(super) fn root(plan: &Plan, old: Option<Entry>, finished: Finished) -> Result<Arc<Directory>> {
    let handle = crate::fs::capture::open_dir_path(b"/").map_err(|e| Error::io("cannot open /", e))?;
    let stat = crate::fs::capture::stat_fd(std::os::fd::AsFd::as_fd(&handle))
        .map_err(|e| Error::io("cannot stat /", e))?;
    let device = stat.meta.device;
    let directory = Directory {
        target: Target::Root(finished),
        name: Box::default(),
        path: Box::default(),
        stat,
        plan: Some(plan.root.clone()),
        whole: plan.root.whole,
        made_up: false,
        old,
        stay_on: plan.root.whole.then_some(device),
        handle: OnceLock::new(),
        state: Mutex::new(State { same: true, ..State::default() }),
    };
    // A new cell is empty, so this cannot fail.
    let _ = directory.handle.set(handle);
    Ok(Arc::new(directory))
}

/// What an entry adds to the totals of the directory it lies in: entries and bytes.
fn totals(entry: &Entry) -> (u64, u64) {
    match &entry.kind {
        EntryKind::Directory { entries, bytes, .. } => (entries + 1, *bytes),
        _ => (1, entry.bytes()),
    }
}

impl Run<'_> {
    /// Takes a finished entry to where it belongs, and finishes every directory that is thereby complete.
    pub(super) fn complete(
        &self,
        target: &Target,
        entry: Option<Entry>,
        same: bool,
        sink: &mut ChunkSink<'_>,
    ) -> Result<()> {
        match target {
            Target::Root(finished) => {
                *finished.lock() = entry;
                Ok(())
            }
            Target::Slot(directory, slot) => {
                if directory.fill(*slot, entry, same) {
                    self.close_window(directory, sink)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// All entries of a directory's window are there: go on with the next, or finish it, and its parents.
    pub(super) fn close_window(&self, directory: &Arc<Directory>, sink: &mut ChunkSink<'_>) -> Result<()> {
        let mut directory = directory.clone();
        loop {
            let Some((entry, same)) = self.advance(&directory, sink)? else { return Ok(()) };
            let up = match &directory.target {
                Target::Root(finished) => {
                    *finished.lock() = Some(entry);
                    return Ok(());
                }
                Target::Slot(up, slot) => {
                    if !up.fill(*slot, Some(entry), same) {
                        return Ok(());
                    }
                    up.clone()
                }
            };
            directory = up;
        }
    }

    /// Encodes a complete window. Returns the finished entry and whether it is as in the parent, or `None` if there is more to scan.
    fn advance(&self, directory: &Arc<Directory>, sink: &mut ChunkSink<'_>) -> Result<Option<(Entry, bool)>> {
        let mut state = directory.state.lock();
        let more = !state.names.as_slice().is_empty();
        let window = std::mem::take(&mut state.window);
        for entry in window.iter().flatten() {
            let (entries, bytes) = totals(entry);
            state.entries += entries;
            state.bytes += bytes;
        }
        let reused = match &directory.old {
            Some(Entry { kind: EntryKind::Directory { content, .. }, .. })
                if !more && state.same && state.encoder.is_none() =>
            {
                Some(content.clone())
            }
            _ => None,
        };
        if reused.is_none() {
            self.encode(directory, &mut state, &window, sink)?;
        }
        if more {
            drop(state);
            self.scheduler.push_directory(directory.clone());
            return Ok(None);
        }
        let content = match reused {
            Some(content) => content,
            None => self.finish_nodes(&mut state, sink)?,
        };
        let mut meta = directory.stat.meta.clone();
        meta.xattrs = std::mem::take(&mut state.xattrs);
        if state.distrust {
            meta.ctime = super::scan::UNKNOWN_CTIME;
        }
        let kind = EntryKind::Directory { content, entries: state.entries, bytes: state.bytes };
        let entry = Entry { name: directory.name.clone(), meta, kind, incomplete: state.incomplete };
        self.record.directory();
        let same = directory.old.as_ref() == Some(&entry);
        Ok(Some((entry, same)))
    }

    fn encode(
        &self,
        directory: &Directory,
        state: &mut State,
        window: &[Option<Entry>],
        sink: &mut ChunkSink<'_>,
    ) -> Result<()> {
        let encoder = state.encoder.get_or_insert_with(|| Encoder {
            nodes: NodeBuilder::new(directory.stat.meta.device),
            content: ContentBuilder::new(),
        });
        for entry in window.iter().flatten() {
            {
                let mut owners = self.owners.lock();
                owners.note(entry.meta.uid, entry.meta.gid);
                encoder.nodes.push(entry, owners.users(), owners.groups());
            }
            if encoder.nodes.should_end() {
                encoder.end_node(sink)?;
            }
        }
        Ok(())
    }

    fn finish_nodes(&self, state: &mut State, sink: &mut ChunkSink<'_>) -> Result<Content> {
        match state.encoder.take() {
            Some(mut encoder) => {
                if !encoder.nodes.is_empty() {
                    encoder.end_node(sink)?;
                }
                encoder.content.finish(&mut |list| sink.metadata(&list))
            }
            None => Ok(Content::default()),
        }
    }

    /// The entry of something that has no content: a link, device, fifo or socket.
    pub(super) fn plain_entry(
        name: &[u8],
        stat: &Stat,
        target: Option<Box<[u8]>>,
        xattrs: Vec<Xattr>,
    ) -> Entry {
        let (major, minor) = (stat.major, stat.minor);
        let kind = match (stat.kind, target) {
            (FileType::Symlink, Some(target)) => EntryKind::Symlink { target },
            (FileType::Symlink, None) => EntryKind::Symlink { target: Box::default() },
            (FileType::Fifo, _) => EntryKind::Fifo,
            (FileType::Socket, _) => EntryKind::Socket,
            (FileType::CharDevice, _) => EntryKind::CharDevice { major, minor },
            (FileType::BlockDevice, _) => EntryKind::BlockDevice { major, minor },
            (FileType::Directory, _) => {
                EntryKind::Directory { content: Content::default(), entries: 0, bytes: 0 }
            }
            (FileType::File, _) => EntryKind::File { size: 0, content: Content::default() },
        };
        Entry { name: name.into(), meta: Meta { xattrs, ..stat.meta.clone() }, kind, incomplete: false }
    }
}

impl Encoder {
    fn end_node(&mut self, sink: &mut ChunkSink<'_>) -> Result<()> {
        let node = self.nodes.take();
        let id = sink.metadata(&node)?;
        let extent = Extent { length: node.len() as u64, id: Some(id) };
        self.content.push(extent, &mut |list| sink.metadata(&list))
    }
}

/// A file or directory that came into being with the snapshot.
pub(super) fn now() -> Time {
    let now = chrono::Utc::now();
    Time { seconds: now.timestamp(), nanoseconds: now.timestamp_subsec_nanos().min(999_999_999) }
}
