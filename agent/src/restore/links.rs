//! Files with several names: restored once, then linked.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::Run;
use super::file::{FileWork, Progress};
use super::landing::partial_name;
use super::place::Place;
use super::walk::Where;
use super::window::Window;
use crate::Result;
use crate::error::describe_io;
use crate::events::Counters;
use crate::fetch::walk::components;
use crate::fs::{FileType, Shortfall, Stat, capture, create, remove};
use crate::tree::{Entry, EntryKind};

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
pub(super) enum Link {
    Made,
    /// It must be restored by itself.
    NotMade,
}

/// Device, inode and content.
pub(super) type LinkKey = (u64, u64, blake3::Hash);

/// Whether an entry may have further names. What is incomplete is restored under another one, and has nothing to link to.
pub(super) const fn is_linked(entry: &Entry) -> bool {
    entry.meta.links > 1 && !entry.incomplete
}

impl Run<'_> {
    /// Makes a further name of a file that was restored before.
    pub(super) fn link_to_first(
        &self,
        here: Where<'_>,
        parent: BorrowedFd<'_>,
        entry: &Entry,
        existing: Option<&Stat>,
        window: &mut Window,
    ) -> Result<Link> {
        let Some(first) = self.first_name(here.path, entry) else {
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
        let Some((directory, name, original)) = find_first(here.place, &first, entry) else {
            return Ok(Link::NotMade);
        };
        if existing.is_none() && self.verifying {
            return Ok(Link::NotMade);
        }
        if let Some(stat) = existing {
            if is_one_file(stat, &original) {
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
                self.applier.shortfalls.note(Shortfall::HardLink, here.path, || describe_io(&e));
                Ok(Link::NotMade)
            }
        }
    }

    /// Whether a dry run would find a name that is there linked to the first one already; `None` if this is the first.
    pub(super) fn is_linked_to_first(
        &self,
        here: Where<'_>,
        entry: &Entry,
        existing: Option<&Stat>,
    ) -> Option<bool> {
        let first = self.first_name(here.path, entry)?;
        let original = find_first(here.place, &first, entry);
        Some(original.zip(existing).is_some_and(|((.., original), stat)| is_one_file(stat, &original)))
    }

    /// Takes note of how far a file is, if this is its first name.
    pub(super) fn note_first_name(&self, path: &[u8], entry: &Entry, work: &FileWork) {
        if let Some(first) = self.links.lock().get_mut(&key_of(entry))
            && first.path == path
        {
            first.progress = Some(work.progress.clone());
        }
    }

    /// The name under which a file with several was restored first; `None` if this is it.
    fn first_name(&self, path: &[u8], entry: &Entry) -> Option<FirstName> {
        let mut links = self.links.lock();
        let key = key_of(entry);
        let Some(first) = links.get_mut(&key) else {
            let left = entry.meta.links.saturating_sub(1);
            links.insert(key, FirstName { path: path.to_vec(), progress: None, left });
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
}

fn key_of(entry: &Entry) -> LinkKey {
    (entry.meta.device, entry.meta.inode, fingerprint(entry))
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

fn is_one_file(a: &Stat, b: &Stat) -> bool {
    (a.meta.device, a.meta.inode) == (b.meta.device, b.meta.inode)
}

/// The first name's directory and last component, if something of the entry's type has it.
fn find_first(place: &Place, first: &FirstName, entry: &Entry) -> Option<(OwnedFd, Vec<u8>, Stat)> {
    let root = root_of(place);
    let (directory, name) = open_parent(root, relative(&root.path, &first.path))?;
    let original = capture::stat(directory.as_fd(), &name).ok()?;
    (original.kind == FileType::of(&entry.kind)).then_some((directory, name, original))
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
fn open_parent(root: &Place, path: &[u8]) -> Option<(OwnedFd, Vec<u8>)> {
    let mut names: Vec<&[u8]> = components(path).collect();
    // A single file restored by its own path lands in the target under its name.
    let name = names.pop().unwrap_or_else(|| root.path.rsplit(|b| *b == b'/').next().unwrap_or_default());
    let mut directory = root.opened()?.try_clone_to_owned().ok()?;
    for component in names {
        directory = capture::open_dir(directory.as_fd(), component).ok()?;
    }
    Some((directory, name.to_vec()))
}
