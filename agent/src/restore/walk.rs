//! Walks the snapshot's tree and puts each entry in its place.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::file::{DAMAGED_SUFFIX, FileWork};
use super::landing::{is_one_chunk, partial_name};
use super::place::{Owners, Place, in_the_way};
use super::target::Target;
use super::window::Window;
use super::{Overwrite, Run};
use crate::events::{Counters, Event};
use crate::fetch::walk::components;
use crate::fs::apply::Wanted;
use crate::fs::{FileType, Shortfall, Stat, capture, create, remove};
use crate::tree::{Entry, EntryKind, Meta, path_text};
use crate::{Error, Kind, Result};

/// Longest name of a Linux file system, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Where the first name of a file with several was restored.
#[derive(Clone)]
pub(super) struct FirstName {
    path: Vec<u8>,
    /// The file on its way; nothing for links and devices, which are there at once.
    work: Option<Arc<FileWork>>,
}

/// What became of a further name of a file.
enum Link {
    Made,
    /// It must be restored by itself; what was there before is perhaps removed.
    NotMade {
        removed: bool,
    },
}

/// What is known of the directory an entry lies in.
#[derive(Clone, Copy)]
struct Where<'a> {
    place: &'a Arc<Place>,
    owners: &'a Arc<Owners>,
    path: &'a [u8],
}

impl Run<'_> {
    /// Restores (or verifies) `entry` below the target.
    pub(super) fn tree(&self, entry: &Entry, path: Option<&[u8]>, target: &Target) -> Result<()> {
        let directory = target.directory.try_clone().map_err(|e| Error::io("cannot use the target", e))?;
        let owners = Arc::new(Owners::default());
        // Where only a part is restored, the target is the user's own directory.
        let whole = entry.is_directory() && !self.selection.is_partial();
        let meta = target.made.then(|| (entry.meta.clone(), owners.clone())).filter(|_| whole);
        let mut base: Vec<u8> = Vec::new();
        for name in components(path.unwrap_or_default()) {
            base.push(b'/');
            base.extend_from_slice(name);
        }
        let root = Arc::new(Place::root(directory, &base, meta));
        let mut window = Window::new();
        if entry.is_directory() {
            self.directory(&root, entry, &mut base, &mut window)?;
        } else {
            let path = base.clone();
            let here = Where { place: &root, owners: &owners, path: &path };
            self.entry(here, entry, &mut window)?;
        }
        self.flush(&mut window)?;
        self.settle(&mut window);
        Ok(())
    }

    fn directory(
        &self,
        place: &Arc<Place>,
        entry: &Entry,
        path: &mut Vec<u8>,
        window: &mut Window,
    ) -> Result<()> {
        let EntryKind::Directory { content, .. } = &entry.kind else { return Ok(()) };
        let base = path.len();
        // What could not be listed when it was backed up may be here still, and nowhere else.
        let mut kept = (self.options.delete && !entry.incomplete).then(Vec::new);
        let mut outcome = Ok(());
        let read = self.reader.for_each_node(content, &mut |node| {
            let owners = Arc::new(Owners { users: node.users, groups: node.groups });
            for entry in node.entries {
                if let Err(e) = self.context.check_stop() {
                    outcome = Err(e);
                    return Err(Error::interrupted());
                }
                path.truncate(base);
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                if let Some(kept) = &mut kept {
                    kept.push(entry.name.clone());
                    if entry.content().is_some_and(|content| !is_one_chunk(content)) {
                        kept.push(partial_name(&self.snapshot.id, &entry.name));
                    }
                    if entry.incomplete {
                        kept.push([&entry.name, DAMAGED_SUFFIX].concat().into());
                    }
                }
                outcome = self.child(place, &owners, &entry, path, window);
                if outcome.is_err() {
                    return Err(Error::interrupted());
                }
            }
            Ok(())
        });
        path.truncate(base);
        outcome?;
        match read {
            Ok(()) => {
                if let Some(mut kept) = kept {
                    kept.sort_unstable();
                    self.delete_others(place, &kept, path);
                }
            }
            Err(e) if e.kind() == Kind::Damaged => self.failed(path, &e.context("the directory's entries")),
            Err(e) => return Err(e),
        }
        window.leave(place.clone());
        if window.is_full() {
            self.flush(window)?;
            self.settle(window);
        }
        Ok(())
    }

    fn child(
        &self,
        place: &Arc<Place>,
        owners: &Arc<Owners>,
        entry: &Entry,
        path: &mut Vec<u8>,
        window: &mut Window,
    ) -> Result<()> {
        if self.selection.excludes(path, entry.is_directory()) {
            return Ok(());
        }
        let included = self.selection.includes(path, entry.is_directory());
        if entry.is_directory() {
            let below = Arc::new(Place::below(place, &entry.name, path, entry.meta.clone(), owners));
            if included {
                match self.ensure(&below) {
                    Ok(_) => Counters::add(&self.tally.others, u64::from(!self.verifying)),
                    Err(e) => {
                        self.failed(path, &e);
                        return Ok(());
                    }
                }
            }
            if entry.incomplete && included {
                self.warn_of_incomplete(path, "what the snapshot has of its entries is restored");
            }
            return self.directory(&below, entry, path, window);
        }
        if included { self.entry(Where { place, owners, path }, entry, window) } else { Ok(()) }
    }

    /// Puts one entry that is no directory in its place.
    fn entry(&self, here: Where<'_>, entry: &Entry, window: &mut Window) -> Result<()> {
        if entry.incomplete && !entry.name.ends_with(DAMAGED_SUFFIX) {
            return self.incomplete_entry(here, entry, window);
        }
        // What was given its new name is told of before; this one had it in the snapshot.
        if entry.incomplete && here.path.ends_with(DAMAGED_SUFFIX) {
            self.warn_of_incomplete(here.path, "what the snapshot has of it is restored");
        }
        let parent = match self.ensure(here.place) {
            Ok(Some(parent)) => parent,
            Ok(None) if self.verifying => {
                self.failed(here.path, &Error::failed("is missing, with its directory"));
                return Ok(());
            }
            Ok(None) => {
                // A dry run: the directory is not there, so neither is the entry.
                self.count_planned(here.path, entry);
                return Ok(());
            }
            Err(e) => {
                self.failed(here.path, &e);
                return Ok(());
            }
        };
        let existing = match stat_if_there(here.place, parent, &entry.name) {
            Ok(existing) => existing,
            Err(e) => {
                self.failed_io(here.path, "cannot look at it", e);
                return Ok(());
            }
        };
        if let Some(stat) = &existing
            && self.leaves_alone(entry, stat)
        {
            Counters::add(&self.tally.files_skipped, 1);
            self.context.counters.pass(entry.bytes());
            return Ok(());
        }
        if self.options.dry_run {
            if existing.as_ref().is_none_or(|stat| !looks_equal(entry, stat)) {
                self.count_planned(here.path, entry);
            } else {
                Counters::add(&self.tally.files_unchanged, 1);
            }
            return Ok(());
        }
        let mut existing = existing;
        if entry.meta.links > 1 {
            match self.link_to_first(here, parent, entry, existing.as_ref(), window)? {
                Link::Made => return Ok(()),
                Link::NotMade { removed: true } => existing = None,
                Link::NotMade { removed: false } => {}
            }
        }
        match &entry.kind {
            EntryKind::File { content, .. } => {
                let place = (here.place, here.owners, here.path);
                let work = match self.file_work(place, entry, content, existing) {
                    Ok(work) => work,
                    Err(e) => {
                        self.failed(here.path, &e);
                        return Ok(());
                    }
                };
                if entry.meta.links > 1 {
                    let key = (entry.meta.device, entry.meta.inode, fingerprint(entry));
                    if let Some(first) = self.links.lock().get_mut(&key)
                        && first.path == here.path
                    {
                        first.work = Some(work.clone());
                    }
                }
                self.file(&work, content, window)
            }
            _ => {
                if let Err(e) = self.special(here, parent, entry, existing.as_ref()) {
                    self.failed(here.path, &e);
                }
                Ok(())
            }
        }
    }

    /// A file that could not be read to its end when it was backed up gets a name that says so.
    fn incomplete_entry(&self, here: Where<'_>, entry: &Entry, window: &mut Window) -> Result<()> {
        let name = [&entry.name, DAMAGED_SUFFIX].concat();
        self.warn_of_incomplete(
            here.path,
            &format!("what the snapshot has of it is restored as {}", path_text::display(&name)),
        );
        if name.len() > NAME_BYTES_MAX {
            self.failed(here.path, &Error::failed("it is incomplete, and its name is too long to say so"));
            return Ok(());
        }
        self.entry(here, &Entry { name: name.into(), ..entry.clone() }, window)
    }

    /// Says that an entry is not whole in the snapshot, and why.
    fn warn_of_incomplete(&self, path: &[u8], what: &str) {
        if self.verifying {
            return;
        }
        let manifest = &self.snapshot.manifest;
        let reason = match manifest.error_of(path) {
            Some(error) => error.message.as_str(),
            None if manifest.repaired_from.is_some() => "something of it was lost in the store",
            None => "it could not be read in full when it was backed up",
        };
        self.context
            .report(Event::Warning(format!("{} is incomplete ({reason}): {what}", path_text::display(path))));
    }

    fn count_planned(&self, path: &[u8], entry: &Entry) {
        Counters::add(&self.tally.files_restored, u64::from(entry.is_file()));
        Counters::add(&self.tally.others, u64::from(!entry.is_file()));
        Counters::add(&self.tally.bytes_written, entry.bytes());
        self.context.report(Event::Path {
            action: "would restore",
            path: path.to_vec(),
            bytes: entry.bytes(),
        });
    }

    fn leaves_alone(&self, entry: &Entry, stat: &Stat) -> bool {
        if self.verifying {
            return false;
        }
        match self.overwrite {
            Overwrite::Always => false,
            Overwrite::Never => true,
            Overwrite::IfNewer => stat.meta.mtime >= entry.meta.mtime,
            Overwrite::IfChanged => looks_equal(entry, stat),
        }
    }

    /// Makes a further name of a file that was restored before.
    fn link_to_first(
        &self,
        here: Where<'_>,
        parent: BorrowedFd<'_>,
        entry: &Entry,
        existing: Option<&Stat>,
        window: &mut Window,
    ) -> Result<Link> {
        let key = (entry.meta.device, entry.meta.inode, fingerprint(entry));
        let first = self.links.lock().get(&key).cloned();
        let Some(first) = first else {
            self.links.lock().insert(key, FirstName { path: here.path.to_vec(), work: None });
            return Ok(Link::NotMade { removed: false });
        };
        // Only what is restored in full, and has its name, may get further ones.
        if let Some(work) = &first.work {
            if !work.is_finished() {
                self.flush(window)?;
            }
            if work.has_failed() {
                return Ok(Link::NotMade { removed: false });
            }
        }
        let root = root_of(here.place);
        let opened = open_parent(root, relative(&root.path, &first.path));
        let Some((directory, name)) = opened else { return Ok(Link::NotMade { removed: false }) };
        let Ok(original) = capture::stat(directory.as_fd(), &name) else {
            return Ok(Link::NotMade { removed: false });
        };
        let mut removed = false;
        if let Some(stat) = existing {
            if (stat.meta.device, stat.meta.inode) == (original.meta.device, original.meta.inode) {
                Counters::add(&self.tally.files_unchanged, u64::from(!self.verifying));
                Counters::add(&self.tally.verified, u64::from(self.verifying));
                return Ok(Link::Made);
            }
            if self.verifying || !self.may_replace(stat.kind) {
                return Ok(Link::NotMade { removed: false });
            }
            removed = remove::remove_entry(parent, &entry.name).is_ok();
        }
        match create::create_link(directory.as_fd(), &name, parent, &entry.name) {
            Ok(()) => {
                Counters::add(&self.tally.files_restored, 1);
                self.context.counters.pass(entry.bytes());
                Ok(Link::Made)
            }
            Err(e) => {
                self.applier.shortfalls.note(Shortfall::HardLink, here.path, || e.to_string());
                Ok(Link::NotMade { removed })
            }
        }
    }

    /// A link, fifo, socket or device.
    fn special(
        &self,
        here: Where<'_>,
        parent: BorrowedFd<'_>,
        entry: &Entry,
        existing: Option<&Stat>,
    ) -> Result<()> {
        if entry.kind == EntryKind::Socket {
            if self.verifying {
                return Ok(());
            }
            self.applier
                .shortfalls
                .note(Shortfall::Socket, here.path, || "sockets are made by programs".into());
            return Ok(());
        }
        let io = |e: std::io::Error| Error::io("cannot make it", e);
        let mut there = false;
        if let Some(stat) = existing {
            there = is_same_special(entry, stat, parent);
            if self.verifying {
                Counters::add(&self.tally.verified, 1);
                return if there { Ok(()) } else { Err(Error::failed("is not as in the snapshot")) };
            }
            if !there {
                if !self.may_replace(stat.kind) {
                    return Err(in_the_way(stat.kind));
                }
                remove::remove_entry(parent, &entry.name).map_err(io)?;
            }
        } else if self.verifying {
            // Devices may be beyond this user; that was noted when they could not be made.
            let is_device =
                matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. });
            return if is_device { Ok(()) } else { Err(Error::failed("is missing")) };
        }
        if !there && !self.make_special(here, parent, entry).map_err(io)? {
            return Ok(());
        }
        let wanted = wanted(&entry.meta, here.owners, here.path);
        self.applier.special(parent, &entry.name, FileType::of(&entry.kind), &wanted).map_err(io)?;
        Counters::add(&self.tally.others, 1);
        Ok(())
    }

    /// Makes a link, fifo or device; `false` if this user may not.
    fn make_special(&self, here: Where<'_>, parent: BorrowedFd<'_>, entry: &Entry) -> std::io::Result<bool> {
        let name = &entry.name;
        let (kind, major, minor) = match &entry.kind {
            EntryKind::Symlink { target } => {
                return create::create_symlink(parent, name, target).map(|()| true);
            }
            EntryKind::Fifo => return create::create_fifo(parent, name).map(|()| true),
            EntryKind::CharDevice { major, minor } => (FileType::CharDevice, *major, *minor),
            EntryKind::BlockDevice { major, minor } => (FileType::BlockDevice, *major, *minor),
            _ => return Ok(false),
        };
        let made = create::create_device(parent, name, kind, major, minor)?;
        if !made {
            self.applier
                .shortfalls
                .note(Shortfall::Device, here.path, || "only root may make device nodes".into());
        }
        Ok(made)
    }

    /// Removes what is in a directory and not in the snapshot.
    fn delete_others(&self, place: &Place, kept: &[Box<[u8]>], path: &[u8]) {
        let Some(fd) = place.opened() else { return };
        let Ok(names) = capture::read_names(fd) else { return };
        for name in names {
            let child = [path, b"/", &name.name].concat();
            let is_dir = name.kind == Some(FileType::Directory);
            let foreign = kept.binary_search(&name.name).is_err();
            let selected =
                self.selection.includes(&child, is_dir) && !self.selection.excludes(&child, is_dir);
            if !foreign || !selected || self.verifying {
                continue;
            }
            self.context.report(Event::Path { action: "deleted", path: child.clone(), bytes: 0 });
            if !self.options.dry_run
                && let Err(e) = remove::remove_entry(fd, &name.name)
            {
                self.failed_io(&child, "cannot delete it", e);
                continue;
            }
            Counters::add(&self.tally.deleted, 1);
        }
    }

    /// Sets the metadata of directories that are done, the deepest first.
    pub(super) fn settle(&self, window: &mut Window) {
        for place in window.take_left() {
            let (Some((meta, owners)), Some(fd)) = (&place.meta, place.opened()) else { continue };
            if self.options.dry_run || (self.verifying && !place.is_loosened()) {
                continue;
            }
            let path: &[u8] = if place.path.is_empty() { b"/" } else { &place.path };
            let wanted = wanted(meta, owners, path);
            if let Err(e) = self.applier.directory(fd, &wanted) {
                self.failed_io(path, "cannot set the directory's metadata", e);
            }
        }
    }
}

pub(super) fn wanted<'a>(meta: &'a Meta, owners: &'a Owners, path: &'a [u8]) -> Wanted<'a> {
    Wanted { meta, users: &owners.users, groups: &owners.groups, path }
}

/// What has the name, if anything. In a directory that was just made nothing has; where two names of the snapshot are one to the target's
/// file system, making the second will fail.
fn stat_if_there(place: &Place, parent: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<Option<Stat>> {
    if place.inherited().is_some() {
        return Ok(None);
    }
    match capture::stat(parent, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Same type, size and time: what people take for unchanged.
fn looks_equal(entry: &Entry, stat: &Stat) -> bool {
    FileType::of(&entry.kind) == stat.kind
        && match entry.kind {
            EntryKind::File { size, .. } => size == stat.size && entry.meta.mtime == stat.meta.mtime,
            _ => true,
        }
}

fn is_same_special(entry: &Entry, stat: &Stat, parent: BorrowedFd<'_>) -> bool {
    FileType::of(&entry.kind) == stat.kind
        && match &entry.kind {
            EntryKind::Symlink { target } => {
                capture::read_link(parent, &entry.name).is_ok_and(|found| found == *target)
            }
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                (*major, *minor) == (stat.major, stat.minor)
            }
            _ => true,
        }
}

/// Tells what an entry is made of.
fn fingerprint(entry: &Entry) -> blake3::Hash {
    let mut bytes = vec![FileType::of(&entry.kind) as u8];
    match &entry.kind {
        EntryKind::File { content, .. } => content.encode(&mut bytes),
        EntryKind::Symlink { target } => bytes.extend_from_slice(target),
        _ => {}
    }
    blake3::hash(&bytes)
}

fn root_of(place: &Place) -> &Place {
    let mut place = place;
    while let Some(up) = &place.up {
        place = up;
    }
    place
}

fn relative<'p>(base: &[u8], path: &'p [u8]) -> &'p [u8] {
    path.get(base.len()..).unwrap_or(path)
}

/// Opens the directory of a path below the target, component by component, following no link.
fn open_parent(root: &Place, path: &[u8]) -> Option<(std::os::fd::OwnedFd, Vec<u8>)> {
    let mut names: Vec<&[u8]> = components(path).collect();
    // A single file restored by its own path lands in the target under its name.
    let name = names.pop().unwrap_or_else(|| root.path.rsplit(|b| *b == b'/').next().unwrap_or_default());
    let mut directory = root.opened()?.try_clone_to_owned().ok()?;
    for component in names {
        directory = capture::open_dir(directory.as_fd(), component).ok()?;
    }
    Some((directory, name.to_vec()))
}
