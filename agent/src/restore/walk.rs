//! Walks the snapshot's tree and puts each entry in its place.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::links::{Link, is_linked};
use super::place::{Owners, Place};
use super::target::Target;
use super::window::{Left, Window};
use super::{Overwrite, Run};
use crate::events::{Counters, Event};
use crate::fetch::walk::components;
use crate::fs::apply::Wanted;
use crate::fs::{FileType, Shortfall, Stat, capture, create, remove};
use crate::tree::{DAMAGED_SUFFIX, Entry, EntryKind, Meta, Node, path_text};
use crate::{Error, Kind, Result};

/// Longest name of a Linux file system, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What is known of the directory an entry lies in.
#[derive(Clone, Copy)]
pub(super) struct Where<'a> {
    pub(super) place: &'a Arc<Place>,
    pub(super) owners: &'a Arc<Owners>,
    pub(super) path: &'a [u8],
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
        self.with_crew(|| {
            if entry.is_directory() {
                self.directory(&root, entry, &mut base, &mut window)?;
            } else {
                let path = base.clone();
                let here = Where { place: &root, owners: &owners, path: &path };
                self.entry(here, entry, &mut window)?;
            }
            self.flush(&mut window)
        })
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
            // The program's own directories were there, and are nobody's to delete.
            let own = self.snapshot.manifest.left_out_in(path);
            kept.extend(own.map(Box::from));
            kept.sort_unstable();
        }
        window.leave(Left { place: place.clone(), kept });
        if window.is_full() {
            self.advance(window)?;
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
            self.context.counters.pass(entry.bytes());
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
        if included {
            return self.entry(Where { place, owners, path }, entry, window);
        }
        self.context.counters.pass(entry.bytes());
        Ok(())
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
                self.plan(here, entry, None);
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
            && self.leaves_alone(here.path, entry, stat)
        {
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
            self.plan(here, entry, existing.as_ref().map(|stat| (parent, stat)));
            return Ok(());
        }
        if is_linked(entry) {
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
                        self.context.counters.pass(entry.bytes());
                        self.failed(here.path, &e);
                        return Ok(());
                    }
                };
                if is_linked(entry) {
                    self.note_first_name(here.path, entry, &work);
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

    /// Whether what is there stays, because `--overwrite` says so or because it looks as it should.
    fn leaves_alone(&self, path: &[u8], entry: &Entry, stat: &Stat) -> bool {
        if self.verifying {
            // Compared is what should be as in the snapshot, not what was to stay whatever it is.
            return self.kept.lock().binary_search(&hash_of(path)).is_ok();
        }
        let kept = match self.overwrite {
            Overwrite::Always | Overwrite::IfChanged => false,
            Overwrite::Never => true,
            Overwrite::IfNewer => stat.meta.mtime > entry.meta.mtime,
        };
        let looks_right = match self.overwrite {
            Overwrite::Always | Overwrite::Never => false,
            // A killed restore may have left it of the right time and not of the right size.
            Overwrite::IfNewer => stat.meta.mtime == entry.meta.mtime && looks_equal(entry, stat),
            // A link or device is compared when it is restored.
            // One with names outside the snapshot is not to be changed, but replaced, if anything of it is wrong.
            Overwrite::IfChanged => {
                entry.is_file() && looks_equal(entry, stat) && stat.meta.links <= entry.meta.links
            }
        };
        if kept && self.options.verify {
            self.kept.lock().push(hash_of(path));
        }
        Counters::add(&self.tally.files_skipped, u64::from(kept || looks_right));
        kept || looks_right
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
            self.note_socket(here.path);
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
                    return Err(self.in_the_way(stat.kind));
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

    pub(super) fn note_socket(&self, path: &[u8]) {
        self.applier.shortfalls.note(Shortfall::Socket, path, || "sockets are made by programs".into());
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
    pub(super) fn settle(&self, left: Vec<Left>) {
        for Left { place, kept } in left {
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

/// Stands for a path among those that were kept: eight bytes for each, whatever the paths.
fn hash_of(path: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(path).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Same type, size and time: what people take for unchanged.
pub(super) fn looks_equal(entry: &Entry, stat: &Stat) -> bool {
    FileType::of(&entry.kind) == stat.kind
        && match entry.kind {
            EntryKind::File { size, .. } => size == stat.size && entry.meta.mtime == stat.meta.mtime,
            _ => true,
        }
}

/// Whether a node's entries come after those of the node before.
fn follows(node: &Node, last: Option<&[u8]>) -> bool {
    match (last, node.entries.first()) {
        (Some(last), Some(first)) => last < &*first.name,
        _ => true,
    }
}

pub(super) fn is_same_special(entry: &Entry, stat: &Stat, parent: BorrowedFd<'_>) -> bool {
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
