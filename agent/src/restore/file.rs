//! One file on its way: opened when its first chunk is compared or written, finished when its last is.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::landing::Landing;
use super::place::{Owners, Place};
use super::walk::wanted;
use super::window::{COMPARES_BYTES, Item, Window};
use super::{Overwrite, Run};
use crate::events::{Counters, Event};
use crate::fs::{FileType, Stat, capture, create, ranges};
use crate::tree::{Content, DAMAGED_SUFFIX, Entry, Extent, Meta, path_text};
use crate::{Error, Kind, Result};

/// A file on its way.
pub(super) struct FileWork {
    place: Arc<Place>,
    owners: Arc<Owners>,
    pub(super) path: Vec<u8>,
    name: Box<[u8]>,
    meta: Meta,
    size: u64,
    landing: Landing,
    pub(super) progress: Arc<Progress>,
    /// It failed because stored data is damaged: what could be had of it is worth keeping.
    damaged: AtomicBool,
    /// It failed for another reason: nothing more of it is worth writing.
    hopeless: AtomicBool,
}

/// How far a file is.
pub(super) struct Progress {
    /// Chunks to be written, and one for as long as more may be found.
    pending: AtomicUsize,
    failed: AtomicBool,
    /// It has its name, or will not get it: only then may others be linked to it.
    finished: AtomicBool,
}

impl Progress {
    /// Whether nothing more will be done to it.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl FileWork {
    pub(super) fn is_given_up(&self) -> bool {
        self.hopeless.load(Ordering::Acquire)
    }

    /// Whether there are bytes that may be right already.
    pub(super) fn compares(&self) -> bool {
        self.landing.compares()
    }

    fn parent(&self) -> Result<BorrowedFd<'_>> {
        self.place.opened().ok_or_else(|| Error::failed("the directory it belongs in could not be made"))
    }
}

impl Run<'_> {
    /// Whether a new file of one chunk may be written under its own name: not where a second run would take what a killed one left of it
    /// for the user's.
    fn at_once(&self) -> bool {
        matches!(self.overwrite, Overwrite::Always | Overwrite::IfChanged)
    }

    /// A file of the snapshot that is to be in `place`, where `existing` has its name.
    ///
    /// # Errors
    /// `Failed` if a directory has its name and may not go.
    pub(super) fn file_work(
        &self,
        (place, owners, path): (&Arc<Place>, &Arc<Owners>, &[u8]),
        entry: &Entry,
        content: &Content,
        existing: Option<Stat>,
    ) -> Result<Arc<FileWork>> {
        let parent =
            place.opened().ok_or_else(|| Error::failed("the directory it belongs in could not be made"))?;
        match existing.as_ref().map(|stat| stat.kind) {
            Some(FileType::File) => {}
            Some(kind) if self.verifying => {
                return Err(Error::failed(format_args!("{} is in its place", kind.describe())));
            }
            None if self.verifying => return Err(Error::failed("is missing")),
            Some(kind) if !self.may_replace(parent, &entry.name, kind) => return Err(self.in_the_way(kind)),
            _ => {}
        }
        Ok(Arc::new(FileWork {
            place: place.clone(),
            owners: owners.clone(),
            path: path.to_vec(),
            name: entry.name.clone(),
            meta: entry.meta.clone(),
            size: entry.bytes(),
            landing: Landing::new(
                parent,
                &self.snapshot.id,
                entry,
                content,
                existing,
                (place.inherited(), !self.verifying, self.at_once()),
            ),
            progress: Arc::new(Progress {
                pending: AtomicUsize::new(1),
                failed: AtomicBool::new(false),
                finished: AtomicBool::new(false),
            }),
            damaged: AtomicBool::new(false),
            hopeless: AtomicBool::new(false),
        }))
    }

    /// Puts a file's chunks into the window.
    pub(super) fn file(&self, work: &Arc<FileWork>, content: &Content, window: &mut Window) -> Result<()> {
        self.context.set_current(|current| current.extend_from_slice(&work.path));
        let (mut offset, mut chunks) = (0, 0);
        self.reader.for_each_piece(content, &mut |piece| {
            let length = match piece {
                Ok(Extent { length, id: Some(id) }) => {
                    let item = Item::new(work, offset, id, length, self.reader.index());
                    work.progress.pending.fetch_add(1, Ordering::AcqRel);
                    window.push(item);
                    chunks += 1;
                    length
                }
                Ok(Extent { length, id: None }) => {
                    if let Err(e) = self.hole(work, offset, length) {
                        self.fail_file(work, &e);
                    }
                    self.context.counters.pass(length);
                    length
                }
                Err(lost) => {
                    self.lose(work, offset, lost.length, &lost.error);
                    self.context.counters.pass(lost.length);
                    lost.length
                }
            };
            offset += length;
            if window.is_full() {
                self.advance(window)?;
            }
            Ok(())
        })?;
        window.add_file(chunks);
        self.release(work);
        Ok(())
    }

    /// Makes sure that there are only zeros in a range. A new file is made of nothing else.
    fn hole(&self, work: &FileWork, offset: u64, length: u64) -> Result<()> {
        if !work.compares() {
            return Ok(());
        }
        let parent = work.parent()?;
        if work.landing.read(parent, |file| ranges::is_zero(file, offset, length))? {
            return Ok(());
        }
        if self.verifying {
            return Err(Error::failed("there is data where there should be a hole").with_hint(COMPARES_BYTES));
        }
        work.landing.write(parent, |file| match create::punch_hole(file, offset, length) {
            Ok(true) => Ok(()),
            Ok(false) => ranges::write_zeros(file, offset, length),
            Err(e) => Err(e),
        })
    }

    /// A chunk that nobody has any more: where it belongs there are zeros, never what was there before.
    pub(super) fn lose(&self, work: &FileWork, offset: u64, length: u64, error: &Error) {
        self.fail_file(work, error);
        if !self.verifying
            && !work.is_given_up()
            && let Err(e) = self.hole(work, offset, length)
        {
            self.fail_file(work, &e);
        }
    }

    /// Writes bytes of chunks whose ids were checked.
    pub(super) fn write_bytes(&self, work: &FileWork, offset: u64, bytes: &[u8]) -> Result<()> {
        work.landing.write(work.parent()?, |file| ranges::write_all_at(file, offset, bytes))?;
        Counters::add(&self.tally.bytes_written, bytes.len() as u64);
        Ok(())
    }

    /// Reads what is there where a chunk belongs.
    pub(super) fn read_existing(
        &self,
        work: &FileWork,
        offset: u64,
        length: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        work.landing.read(work.parent()?, |file| ranges::read_at(file, offset, length, buffer))
    }

    /// Marks a file as failed and says why, once.
    pub(super) fn fail_file(&self, work: &FileWork, error: &Error) {
        let why = if error.kind() == Kind::Damaged { &work.damaged } else { &work.hopeless };
        why.store(true, Ordering::Release);
        if !work.progress.failed.swap(true, Ordering::AcqRel) {
            self.failed(&work.path, error);
        }
    }

    /// One chunk less to wait for; the last finishes the file.
    pub(super) fn release(&self, work: &Arc<FileWork>) {
        if work.progress.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if let Err(e) = self.finish_file(work) {
            self.fail_file(work, &e);
        }
        work.progress.finished.store(true, Ordering::Release);
    }

    fn finish_file(&self, work: &FileWork) -> Result<()> {
        if self.verifying {
            return self.finish_verifying(work);
        }
        if work.progress.has_failed() {
            return self.set_aside(work);
        }
        let apply = |file: BorrowedFd<'_>, inherited| {
            self.applier.new_file(file, &wanted(&work.meta, &work.owners, &work.path), inherited)
        };
        let wrote = match work.landing.finish(work.parent()?, apply) {
            Ok(wrote) => wrote,
            Err(e) => {
                // What was there is there still.
                work.landing.give_up(work.parent()?, None)?;
                return Err(e);
            }
        };
        let counter = if wrote { &self.tally.files_restored } else { &self.tally.files_unchanged };
        Counters::add(counter, 1);
        Counters::add(&self.tally.bytes_total, work.size);
        Counters::add(&self.context.counters.files, 1);
        self.context.report(Event::Path {
            action: if wrote { "restored" } else { "unchanged" },
            path: work.path.clone(),
            bytes: work.size,
        });
        Ok(())
    }

    fn finish_verifying(&self, work: &FileWork) -> Result<()> {
        let size = work.landing.read(work.parent()?, |file| capture::stat_fd(file).map(|stat| stat.size))?;
        work.landing.close();
        if size != work.size {
            self.fail_file(work, &Error::failed(format_args!("has {size} bytes instead of {}", work.size)));
        }
        Counters::add(&self.tally.verified, u64::from(!work.progress.has_failed()));
        Ok(())
    }

    /// Puts what could be had of a file beside where it belongs, under a name that says so.
    fn set_aside(&self, work: &FileWork) -> Result<()> {
        let Some(parent) = work.place.opened() else { return Ok(()) };
        // If the disk is full, or the like, the next run restores it.
        let damaged = work.damaged.load(Ordering::Acquire);
        let aside = [&work.name, DAMAGED_SUFFIX].concat();
        if work.landing.give_up(parent, damaged.then_some(&*aside))? {
            self.context.report(Event::Warning(format!(
                "what could be had of {} is in {} beside it",
                path_text::display(&work.path),
                path_text::display(&aside)
            )));
        }
        Ok(())
    }
}
