//! Walks the snapshot's tree and puts each entry in its place.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::file::{DAMAGED_SUFFIX, Progress};
use super::landing::partial_name;
use super::place::{Owners, Place, in_the_way};
use super::target::Target;
use super::window::{Left, Window};
use super::{Overwrite, Run};
use crate::events::{Counters, Event};
use crate::fetch::walk::components;
use crate::fs::apply::Wanted;
use crate::fs::{FileType, Shortfall, Stat, capture, create, remove};
use crate::tree::{Entry, EntryKind, Meta, Node, path_text};
use crate::{Error, Kind, Result};

/// Longest name of a Linux file system, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Where the first name of a file with several was restored.
#[derive(Clone)]
pub(super) struct FirstName {
    path: Vec<u8>,
    /// How far the file is; nothing for links and devices, which are there at once.
    progress: Option<Arc<Progress>>,
    /// How many further names there may be.
    left: u64,
}

/// What became of a further name of a file.
enum Link {
    Made,
    /// It must be restored by itself.
    NotMade,
}

/// Device, inode and content.
pub(super) type LinkKey = (u64, u64, blake3::Hash);

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
        let directory = target.directory.as_ref().map(|directory| directory.try_clone()).transpose();
        let directory = directory.map_err(|e| Error::io("cannot use the target", e))?;
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
        // What the snapshot does not know may be here still, and nowhere else.
        let deletes = self.options.delete && !self.verifying && !entry.incomplete && self.knows_all_of(path);
        let mut kept = deletes.then(Vec::new);
        let mut last: Option<Box<[u8]>> = None;
        self.reader.for_each_piece(content, &mut |piece| {
            let node = match piece.map_err(|lost| lost.error).and_then(|extent| self.reader.node_of(&extent))
            {
                Ok(node) if follows(&node, last.as_deref()) => node,
                Ok(_) => {
                    kept = None;
                    self.failed(&path[..base], &Error::damaged("a directory's nodes are out of order"));
                    return Ok(());
                }
                Err(e) if e.kind() == Kind::Damaged => {
                    kept = None;
                    self.failed(&path[..base], &e.context("some of the directory's entries are lost"));
                    return Ok(());
                }
                Err(e) => return Err(e),
            };
            last = node.entries.last().map(|entry| entry.name.clone()).or(last.take());
            let owners = Arc::new(Owners { users: node.users, groups: node.groups });
            for entry in node.entries {
                self.context.check_stop()?;
                path.truncate(base);
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                if let Some(kept) = &mut kept {
                    kept.push(entry.name.clone());
                    if entry.incomplete {
                        kept.push([&entry.name, DAMAGED_SUFFIX].concat().into());
                    }
                }
                self.child(place, &owners, &entry, path, window)?;
            }
            path.truncate(base);
            Ok(())
        })?;
        if let Some(kept) = &mut kept {
            kept.sort_unstable();
        }
        window.leave(Left { place: place.clone(), kept });
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
            let below =
                Arc::new(Place::below(place, &entry.name, path, (entry.meta.clone(), owners), included));
            if included {
                match self.ensure(&below) {
                    Ok(None) if self.verifying => {
                        self.failed(path, &Error::failed("is missing, with all in it"));
                        return Ok(());
                    }
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
            if self.overwrite == Overwrite::IfChanged
                && !self.options.dry_run
                && let Err(e) = self.mend_metadata(here, parent, entry, stat)
            {
                self.failed_io(here.path, "cannot set its metadata", e);
            }
            return Ok(());
        }
        if self.options.dry_run {
            if existing.as_ref().is_none_or(|stat| !is_as_wanted(entry, stat, parent)) {
                self.count_planned(here.path, entry);
            } else {
                Counters::add(&self.tally.files_unchanged, 1);
            }
            return Ok(());
        }
        // What is incomplete has another name here, and so nothing to link to.
        let linked = entry.meta.links > 1 && !entry.incomplete;
        if linked {
            match self.link_to_first(here, parent, entry, existing.as_ref(), window)? {
                Link::Made => return Ok(()),
                Link::NotMade => {}
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
                if linked {
                    let key = (entry.meta.device, entry.meta.inode, fingerprint(entry));
                    if let Some(first) = self.links.lock().get_mut(&key)
                        && first.path == here.path
                    {
                        first.progress = Some(work.progress.clone());
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

    /// Puts mode and owner of a file back whose content is left alone. Where they are right nothing is touched: another change time would
    /// make the next backup read the file again.
    fn mend_metadata(
        &self,
        here: Where<'_>,
        parent: BorrowedFd<'_>,
        entry: &Entry,
        stat: &Stat,
    ) -> std::io::Result<()> {
        let wanted = wanted(&entry.meta, here.owners, here.path);
        let is = (stat.meta.mode, stat.meta.uid, stat.meta.gid);
        let (uid, gid) = self.applier.owner_of(&wanted);
        if is == (entry.meta.mode, uid, gid) {
            return Ok(());
        }
        self.applier.special(parent, &entry.name, FileType::File, &wanted)
    }

    fn leaves_alone(&self, entry: &Entry, stat: &Stat) -> bool {
        if self.verifying {
            return false;
        }
        match self.overwrite {
            Overwrite::Always => false,
            Overwrite::Never => true,
            // A killed restore may have left it of the right time and not of the right size.
            Overwrite::IfNewer => {
                stat.meta.mtime > entry.meta.mtime
                    || (stat.meta.mtime == entry.meta.mtime && looks_equal(entry, stat))
            }
            // A link or device is compared when it is restored.
            Overwrite::IfChanged => entry.is_file() && looks_equal(entry, stat),
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
        let Some(first) = self.first_name(key, here.path, entry.meta.links) else {
            return Ok(Link::NotMade);
        };
        // Only what is restored in full, and has its name, may get further ones.
        if let Some(progress) = &first.progress {
            if !progress.is_finished() {
                self.flush(window)?;
            }
            if progress.has_failed() {
                return Ok(Link::NotMade);
            }
        }
        let root = root_of(here.place);
        let opened = open_parent(root, relative(&root.path, &first.path));
        let Some((directory, name)) = opened else { return Ok(Link::NotMade) };
        let Ok(original) = capture::stat(directory.as_fd(), &name) else { return Ok(Link::NotMade) };
        if existing.is_none() && self.verifying {
            return Ok(Link::NotMade);
        }
        if let Some(stat) = existing {
            if (stat.meta.device, stat.meta.inode) == (original.meta.device, original.meta.inode) {
                Counters::add(&self.tally.files_unchanged, u64::from(!self.verifying));
                Counters::add(&self.tally.verified, u64::from(self.verifying));
                return Ok(Link::Made);
            }
            if self.verifying || !self.may_replace(parent, &entry.name, stat.kind) {
                return Ok(Link::NotMade);
            }
        }
        match self.make_link((directory.as_fd(), &name), (parent, &entry.name), existing) {
            Ok(()) => {
                Counters::add(&self.tally.files_restored, 1);
                self.context.counters.pass(entry.bytes());
                Ok(Link::Made)
            }
            Err(e) => {
                self.applier.shortfalls.note(Shortfall::HardLink, here.path, || e.to_string());
                Ok(Link::NotMade)
            }
        }
    }

    /// The name under which a file with several was restored first; `None` if this is it.
    fn first_name(&self, key: LinkKey, path: &[u8], names: u64) -> Option<FirstName> {
        let mut links = self.links.lock();
        let Some(first) = links.get_mut(&key) else {
            links.insert(key, FirstName { path: path.to_vec(), progress: None, left: names - 1 });
            return None;
        };
        first.left = first.left.saturating_sub(1);
        let found = first.clone();
        if found.left == 0 {
            links.remove(&key);
        }
        Some(found)
    }

    /// Makes a further name, in place of what has it.
    fn make_link(
        &self,
        (directory, name): (BorrowedFd<'_>, &[u8]),
        (parent, new): (BorrowedFd<'_>, &[u8]),
        existing: Option<&Stat>,
    ) -> std::io::Result<()> {
        let Some(existing) = existing else { return create::create_link(directory, name, parent, new) };
        let partial = partial_name(&self.snapshot.id, new);
        remove::remove_entry(parent, &partial)?;
        create::create_link(directory, name, parent, &partial)?;
        if existing.kind == FileType::Directory {
            remove::remove_entry(parent, new)?;
        }
        Ok(rustix::fs::renameat(parent, &*partial, parent, new)?)
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
                if !self.may_replace(parent, &entry.name, stat.kind) {
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

    /// Ends the work on directories that are done, the deepest first: what is to be deleted goes, and their metadata is set.
    pub(super) fn settle(&self, window: &mut Window) {
        for Left { place, kept } in window.take_left() {
            if let Some(kept) = kept {
                self.delete_others(&place, &kept);
            }
            if !self.options.dry_run
                && let Some(fd) = place.opened()
            {
                self.settle_metadata(&place, fd);
            }
        }
    }

    fn settle_metadata(&self, place: &Place, fd: BorrowedFd<'_>) {
        let Some((meta, owners)) = &place.meta else { return };
        let path: &[u8] = if place.path.is_empty() { b"/" } else { &place.path };
        let set = match (place.keeps_metadata(), place.mode_before()) {
            (true, Some(mode)) => {
                rustix::fs::fchmod(fd, rustix::fs::Mode::from_raw_mode(mode)).map_err(Into::into)
            }
            (true, None) => Ok(()),
            (false, None) if self.verifying => Ok(()),
            (false, _) => self.applier.directory(fd, &wanted(meta, owners, path)),
        };
        if let Err(e) = set {
            self.failed_io(path, "cannot set the directory's metadata", e);
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

/// Whether a dry run would leave the entry as it is.
fn is_as_wanted(entry: &Entry, stat: &Stat, parent: BorrowedFd<'_>) -> bool {
    if entry.is_file() { looks_equal(entry, stat) } else { is_same_special(entry, stat, parent) }
}

/// Whether a node's entries come after those of the node before.
fn follows(node: &Node, last: Option<&[u8]>) -> bool {
    match (last, node.entries.first()) {
        (Some(last), Some(first)) => last < &*first.name,
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
