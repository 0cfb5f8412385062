//! Lists a directory, compares each entry with the parent, and hands out what must be read.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::Run;
use super::directory::{Directory, Target, WINDOW};
use super::file::{FileJob, Files};
use super::large::{LARGE_BYTES_MIN, Large};
use super::parent::OldEntries;
use super::record::Change;
use crate::Result;
use crate::error::describe_io;
use crate::events::Event;
use crate::fs::{DirEntry, FileType, Stat, capture};
use crate::ingest::ChunkSink;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::{Entry, EntryKind, Time, path_text};

/// Small files are handed out in batches of about this many bytes: a segment's worth, so that they are compressed together.
const BATCH_BYTES: u64 = 2 << 20;
/// … or this many files.
const BATCH_FILES: usize = 128;

/// Stands for the ctime of what could not be read in full: equal to none, so that the next run looks again.
pub(super) const UNKNOWN_CTIME: Time = Time { seconds: 0, nanoseconds: 0 };

/// What a window of a directory came to.
#[derive(Default)]
struct Window {
    slots: Vec<Option<Entry>>,
    pending: usize,
    changed: bool,
    directories: Vec<Arc<Directory>>,
    batches: Vec<Files>,
    large: Vec<Large>,
}

impl Run<'_> {
    /// Looks at the next window of a directory.
    pub(super) fn scan(&self, directory: Arc<Directory>, sink: &mut ChunkSink<'_>) -> Result<()> {
        if !directory.state.lock().listed && !self.list(&directory)? {
            return self.close_window(&directory, sink);
        }
        self.context.set_current(|current| current.extend_from_slice(&directory.path));
        let (names, mut old) = {
            let mut state = directory.state.lock();
            let names: Vec<DirEntry> = state.names.by_ref().take(WINDOW).collect();
            (names, std::mem::take(&mut state.old))
        };
        let mut window = Window { slots: Vec::with_capacity(names.len()), ..Window::default() };
        // Where there is no handle, all names lead to what is given.
        let handle = directory.handle.get().map(|handle| handle.as_fd());
        for name in names {
            self.look_at(&directory, handle, name, &mut old, &mut window)?;
        }
        let last = directory.state.lock().names.as_slice().is_empty();
        if last {
            window.changed |= old.has_more(self.reader)?;
        }
        window.changed |= old.damaged;
        directory.state.lock().old = old;
        let slots = std::mem::take(&mut window.slots);
        if directory.set_window(slots, window.pending, !window.changed) {
            return self.close_window(&directory, sink);
        }
        for large in window.large {
            self.scheduler.push_large(large);
        }
        for batch in window.batches {
            self.scheduler.push_files(batch);
        }
        // The last that is pushed is taken first: so directories are walked in order.
        for child in window.directories.into_iter().rev() {
            self.scheduler.push_directory(child);
        }
        Ok(())
    }

    /// Opens a directory and reads its names. Returns whether there is anything to look at.
    fn list(&self, directory: &Arc<Directory>) -> Result<bool> {
        let opened = match &directory.target {
            Target::Slot(up, _) if !directory.made_up => match up.handle.get() {
                Some(up) => capture::open_dir(up.as_fd(), &directory.name).map(|fd| {
                    // Opened once only, by the worker that lists it.
                    let _ = directory.handle.set(fd);
                }),
                None => Ok(()),
            },
            _ => Ok(()),
        };
        let mut state = directory.state.lock();
        state.listed = true;
        let Some(handle) = directory.handle.get() else {
            state.same = false;
            // What is given needs nothing of the directory that it appears in.
            let names: Vec<DirEntry> = directory.given_names().map(planned).collect();
            let only_given = !directory.whole
                && directory.plan.as_ref().is_some_and(|plan| plan.children.len() == names.len());
            if let Err(e) = opened
                && !only_given
            {
                state.incomplete = true;
                self.file_error(directory.path.to_vec(), &e, "cannot open the directory");
            }
            state.names = names.into_iter();
            return Ok(!state.names.as_slice().is_empty());
        };
        match &directory.old {
            Some(old) if self.directory_meta_is_unchanged(old, &directory.stat) => {
                state.xattrs.clone_from(&old.meta.xattrs);
            }
            _ => {
                if let Err(e) = capture::read_xattrs(handle.as_fd(), &mut state.xattrs) {
                    state.distrust = true;
                    self.file_error(directory.path.to_vec(), &e, "cannot read extended attributes");
                }
            }
        }
        let names = match &directory.plan {
            Some(plan) if !directory.whole => plan.children.keys().map(|name| planned(name)).collect(),
            _ => match capture::read_names(handle.as_fd()) {
                Ok(names) => with_given(self.without_marked(directory, handle.as_fd(), names), directory),
                Err(e) => {
                    state.incomplete = true;
                    state.same = false;
                    self.file_error(directory.path.to_vec(), &e, "cannot list the directory");
                    return Ok(false);
                }
            },
        };
        state.names = names.into_iter();
        if let Some(Entry { kind: EntryKind::Directory { content, .. }, .. }) = &directory.old {
            state.old = OldEntries::open(self.reader, content)?;
        }
        Ok(true)
    }

    fn directory_meta_is_unchanged(&self, old: &Entry, stat: &Stat) -> bool {
        old.meta.ctime == stat.meta.ctime
            && old.meta.inode == stat.meta.inode
            && old.meta.device == stat.meta.device
            && self.trust.is_settled(old.meta.ctime)
    }

    /// Leaves only the marker of a directory that is marked as not worth a backup.
    fn without_marked(
        &self,
        directory: &Directory,
        fd: BorrowedFd<'_>,
        names: Vec<DirEntry>,
    ) -> Vec<DirEntry> {
        match self.exclude.directory_marker(fd, &names) {
            Some(marker) => {
                self.context.report(Event::Path {
                    action: "excluded",
                    path: directory.path.to_vec(),
                    bytes: 0,
                });
                let marker = marker.entry().name.clone();
                names.into_iter().filter(|entry| entry.name == marker).collect()
            }
            None => names,
        }
    }

    /// Decides on one name.
    fn look_at(
        &self,
        directory: &Arc<Directory>,
        fd: Option<BorrowedFd<'_>>,
        name: DirEntry,
        old: &mut OldEntries,
        window: &mut Window,
    ) -> Result<()> {
        let plan = directory.plan.as_ref().and_then(|plan| plan.children.get(&name.name));
        if let Some(plan) = plan.filter(|plan| plan.leads_to_given())
            && !fd.is_some_and(|fd| plan.given.is_none() && is_directory(fd, &name.name))
        {
            return self.take_given(directory, name.name, plan, old, window);
        }
        let Some(fd) = fd else { return Ok(()) };
        let named = plan.is_some();
        let path = || directory.child_path(&name.name);
        if !named && self.exclude.has_patterns() {
            let is_dir = match name.kind {
                Some(kind) => kind == FileType::Directory,
                None => capture::stat(fd, &name.name).is_ok_and(|stat| stat.kind == FileType::Directory),
            };
            if self.exclude.skips(&path(), is_dir) {
                return Ok(());
            }
        }
        let stat = match capture::stat(fd, &name.name) {
            Ok(stat) => stat,
            Err(e) => {
                window.changed = true;
                self.file_error(path(), &e, "cannot look at it");
                return Ok(());
            }
        };
        if stat.kind == FileType::File && !named && self.exclude.skips_size(stat.size) {
            return Ok(());
        }
        let (old, passed) = old.seek(self.reader, &name.name)?;
        window.changed |= passed;
        if stat.kind == FileType::Directory {
            let plan = plan.cloned();
            return self.look_at_directory(directory, name.name, stat, plan, old, window);
        }
        self.look_at_other(directory, fd, name.name, stat, old, window);
        Ok(())
    }

    /// Takes a file that is given, or a directory on the way to one that is not there.
    fn take_given(
        &self,
        directory: &Arc<Directory>,
        name: Box<[u8]>,
        plan: &super::plan::Node,
        old: &mut OldEntries,
        window: &mut Window,
    ) -> Result<()> {
        let (old, _) = old.seek(self.reader, &name)?;
        window.changed = true;
        let slot = window.wait();
        match &plan.given {
            Some(given) => {
                let target = Target::Slot(directory.clone(), slot);
                let path = directory.child_path(&name);
                window.large.push(Large::given(given.clone(), target, name, path, old.map(Box::new)));
            }
            None => {
                let child = Directory::made_up(directory, slot, name, plan.clone());
                window.directories.push(Arc::new(child));
            }
        }
        Ok(())
    }

    fn look_at_directory(
        &self,
        directory: &Arc<Directory>,
        name: Box<[u8]>,
        stat: Stat,
        plan: Option<super::plan::Node>,
        old: Option<Entry>,
        window: &mut Window,
    ) -> Result<()> {
        let only_on_the_way = plan.as_ref().is_some_and(|plan| !plan.whole && plan.leads_to_given());
        if !only_on_the_way && let Some(what) = self.own.describe(stat.meta.device, stat.meta.inode) {
            let path = directory.child_path(&name);
            self.context.report(Event::Notice(format!("{} is {what}: left out", path_text::display(&path))));
            self.left_out.lock().push(path);
            window.changed |= old.is_some();
            return Ok(());
        }
        let foreign = self.options.one_file_system
            && directory.stay_on.is_some_and(|device| device != stat.meta.device);
        let whole = plan.as_ref().is_some_and(|plan| plan.whole) || (directory.whole && !foreign);
        if foreign && plan.is_none() {
            // The mount point is kept, empty, so that a restored system can mount there.
            let entry = Self::plain_entry(&name, &stat, None, Vec::new());
            window.changed |= old.as_ref() != Some(&entry);
            window.slots.push(Some(entry));
            self.record.directory();
            return Ok(());
        }
        let slot = window.wait();
        let old = old.filter(Entry::is_directory);
        let child = Directory::child(directory, slot, name, stat, plan, whole, old);
        window.directories.push(Arc::new(child));
        Ok(())
    }

    fn look_at_other(
        &self,
        directory: &Arc<Directory>,
        fd: BorrowedFd<'_>,
        name: Box<[u8]>,
        stat: Stat,
        old: Option<Entry>,
        window: &mut Window,
    ) {
        if let Some(old) = &old
            && self.trust.is_unchanged(old, &stat)
            && self.is_stored(old)
        {
            if stat.kind == FileType::File {
                self.record.file(Change::Unmodified, stat.size);
                self.context.counters.pass(stat.size);
            } else {
                self.record.other(stat.kind);
            }
            window.slots.push(Some(old.clone()));
            return;
        }
        window.changed = true;
        if stat.kind == FileType::File {
            let slot = window.wait();
            let target = Target::Slot(directory.clone(), slot);
            let job = FileJob { slot, name, stat, old: old.map(Box::new) };
            if job.stat.size >= LARGE_BYTES_MIN {
                window.large.push(Large::file(directory.clone(), target, job));
            } else {
                window.add_file(directory, job);
            }
            return;
        }
        let target = match stat.kind {
            FileType::Symlink => match capture::read_link(fd, &name) {
                Ok(target) => Some(target),
                Err(e) => {
                    return self.file_error(directory.child_path(&name), &e, "cannot read the link");
                }
            },
            _ => None,
        };
        let mut xattrs = Vec::new();
        let mut stat = stat;
        if let Err(e) = capture::read_xattrs_at(fd, &name, &mut xattrs) {
            stat.meta.ctime = UNKNOWN_CTIME;
            self.file_error(directory.child_path(&name), &e, "cannot read extended attributes");
        }
        self.record.other(stat.kind);
        window.slots.push(Some(Self::plain_entry(&name, &stat, target, xattrs)));
    }

    /// Whether the index still knows every chunk of an unchanged file: if a pack was lost, the file is read again.
    fn is_stored(&self, old: &Entry) -> bool {
        let Some(content) = old.content() else { return true };
        let walked = self.reader.for_each_extent(content, &mut |extent| match extent.id {
            Some(id) if !self.reader.knows(&id)? => {
                Err(crate::Error::damaged("a chunk is in no pack any more"))
            }
            _ => Ok(()),
        });
        walked.is_ok()
    }

    /// Records a failed system call on a path.
    pub(super) fn file_error(&self, path: Vec<u8>, error: &std::io::Error, what: &str) {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => FileErrorKind::Vanished,
            _ => FileErrorKind::Unreadable,
        };
        self.record.error(path, kind, format!("{what}: {}", describe_io(error)));
    }
}

impl Window {
    /// A slot for an entry that will come later.
    fn wait(&mut self) -> usize {
        self.slots.push(None);
        self.pending += 1;
        self.slots.len() - 1
    }

    fn add_file(&mut self, directory: &Arc<Directory>, job: FileJob) {
        match self.batches.last_mut() {
            Some(batch) if batch.has_room(BATCH_FILES, BATCH_BYTES) => batch.push(job),
            _ => self.batches.push(Files::new(directory.clone(), job)),
        }
    }
}

/// The names of a directory, and those that are given in it.
fn with_given(mut names: Vec<DirEntry>, directory: &Directory) -> Vec<DirEntry> {
    for name in directory.given_names() {
        if let Err(at) = names.binary_search_by(|entry| (*entry.name).cmp(name)) {
            names.insert(at, planned(name));
        }
    }
    names
}

fn is_directory(fd: BorrowedFd<'_>, name: &[u8]) -> bool {
    capture::stat(fd, name).is_ok_and(|stat| stat.kind == FileType::Directory)
}

fn planned(name: &[u8]) -> DirEntry {
    DirEntry { name: name.into(), inode: 0, kind: None }
}
