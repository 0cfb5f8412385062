//! One file on its way: opened when its first chunk is written, finished when its last is.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Run;
use super::place::{Owners, Place, in_the_way};
use super::walk::wanted;
use super::window::{Item, Window};
use crate::events::{Counters, Event};
use crate::fs::{FileType, Stat, capture, create, remove};
use crate::tree::{Content, Entry, Meta, path_text};
use crate::{Error, Result};

/// What a file is called whose data could not be had in full: nothing incomplete bears the name of what it should be.
pub(super) const DAMAGED_SUFFIX: &[u8] = b".lifeboat-damaged";

/// A file on its way.
pub(super) struct FileWork {
    place: Arc<Place>,
    owners: Arc<Owners>,
    pub(super) path: Vec<u8>,
    name: Box<[u8]>,
    meta: Meta,
    size: u64,
    /// A file with content is there that may be kept where it is equal.
    pub(super) compare: bool,
    existing: Option<FileType>,
    shared: bool,
    /// Chunks to be written, and one for as long as more may be found.
    pending: AtomicUsize,
    failed: AtomicBool,
    /// It failed because stored data is damaged: what could be had of it is worth keeping.
    damaged: AtomicBool,
    wrote: AtomicBool,
    file: Mutex<Option<OwnedFd>>,
}

impl FileWork {
    pub(super) fn new(
        place: &Arc<Place>,
        owners: &Arc<Owners>,
        path: &[u8],
        entry: &Entry,
        size: u64,
        existing: Option<&Stat>,
    ) -> Self {
        let regular = existing.is_some_and(|stat| stat.kind == FileType::File);
        // A file with other names elsewhere is replaced, not changed: those names are not ours to change.
        let shared = regular && existing.is_some_and(|stat| stat.meta.links > 1);
        Self {
            place: place.clone(),
            owners: owners.clone(),
            path: path.to_vec(),
            name: entry.name.clone(),
            meta: entry.meta.clone(),
            size,
            compare: regular && !shared,
            existing: existing.map(|stat| stat.kind),
            shared,
            pending: AtomicUsize::new(1),
            failed: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            file: Mutex::new(None),
        }
    }

    /// Whether nothing more will be done to it.
    pub(super) fn is_finished(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl Run<'_> {
    /// Puts a file's chunks into the window.
    pub(super) fn file(&self, work: Arc<FileWork>, content: &Content, window: &mut Window) -> Result<()> {
        self.context.set_current(|current| current.extend_from_slice(&work.path));
        if self.verifying && work.existing != Some(FileType::File) {
            self.failed(&work.path, &Error::failed("is missing"));
            return Ok(());
        }
        // Further names are linked to this one, so it must be there at once.
        let early = work.meta.links > 1 || work.size == 0;
        if early && let Err(e) = self.with_file(&work, |_| Ok(())) {
            self.fail_file(&work, &e);
        }
        let mut offset = 0;
        let mut full = Ok(());
        let found = self.reader.for_each_extent(content, &mut |extent| {
            match extent.id {
                Some(id) => {
                    let item = Item::new(&work, offset, id, extent.length, self.reader.index());
                    work.pending.fetch_add(1, Ordering::AcqRel);
                    window.push(item);
                }
                None => self.hole(&work, offset, extent.length),
            }
            offset += extent.length;
            if window.is_full() {
                full = self.flush(window);
                if full.is_err() {
                    return Err(Error::interrupted());
                }
            }
            Ok(())
        });
        full?;
        match found {
            Err(e) if e.kind() == crate::Kind::Damaged => self.fail_file(&work, &e),
            other => other?,
        }
        window.add_file();
        self.release(&work);
        Ok(())
    }

    fn hole(&self, work: &Arc<FileWork>, offset: u64, length: u64) {
        if self.verifying {
            match self.with_file(work, |file| is_zero(file, offset, length)) {
                Ok(true) => {}
                Ok(false) => {
                    self.fail_file(work, &Error::failed("there is data where there should be a hole"))
                }
                Err(e) => self.fail_file(work, &e),
            }
            return;
        }
        if !work.compare {
            return;
        }
        let punched = self.with_file(work, |file| match create::punch_hole(file, offset, length) {
            Ok(true) => Ok(()),
            Ok(false) => write_zeros(file, offset, length),
            Err(e) => Err(e),
        });
        if let Err(e) = punched {
            self.fail_file(work, &e);
        }
    }

    /// Calls `act` with the open file, made or opened first if need be.
    pub(super) fn with_file<T>(
        &self,
        work: &FileWork,
        act: impl FnOnce(BorrowedFd<'_>) -> std::io::Result<T>,
    ) -> Result<T> {
        let mut slot = work.file.lock();
        let file = match &*slot {
            Some(file) => file,
            None => slot.insert(self.open_file(work)?),
        };
        act(file.as_fd()).map_err(|e| Error::io("cannot write it", e))
    }

    fn open_file(&self, work: &FileWork) -> Result<OwnedFd> {
        let parent = work
            .place
            .opened()
            .ok_or_else(|| Error::failed("the directory it belongs in could not be made"))?;
        let io = |e: std::io::Error| Error::io("cannot make it", e);
        if self.verifying {
            return capture::open_file(parent, &work.name).map_err(|e| Error::io("cannot open it", e));
        }
        if work.compare {
            let file = create::open_file_to_change(parent, &work.name)
                .map_err(|e| Error::io("cannot change the file that is there", e))?;
            return Ok(file);
        }
        if let Some(kind) = work.existing {
            if !work.shared && !self.may_replace(kind) {
                return Err(in_the_way(kind));
            }
            remove::remove_entry(parent, &work.name).map_err(io)?;
        }
        let file = create::create_file(parent, &work.name).map_err(io)?;
        rustix::fs::ftruncate(&file, work.size).map_err(|e| io(e.into()))?;
        Ok(file)
    }

    /// Writes a chunk whose id was checked.
    pub(super) fn write_chunk(&self, work: &FileWork, offset: u64, chunk: &[u8]) -> Result<()> {
        self.with_file(work, |file| write_all_at(file, offset, chunk))?;
        work.wrote.store(true, Ordering::Release);
        Counters::add(&self.tally.bytes_written, chunk.len() as u64);
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
        self.with_file(work, |file| {
            buffer.clear();
            buffer.resize(length, 0);
            let mut done = 0;
            while done < length {
                match rustix::io::pread(file, &mut buffer[done..], offset + done as u64) {
                    Ok(0) => break,
                    Ok(got) => done += got,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            buffer.truncate(done);
            Ok(())
        })
    }

    /// Marks a file as failed and says why, once.
    pub(super) fn fail_file(&self, work: &FileWork, error: &Error) {
        if error.kind() == crate::Kind::Damaged {
            work.damaged.store(true, Ordering::Release);
        }
        if !work.failed.swap(true, Ordering::AcqRel) {
            self.failed(&work.path, error);
        }
    }

    /// One chunk less to wait for; the last finishes the file.
    pub(super) fn release(&self, work: &Arc<FileWork>) {
        if work.pending.fetch_sub(1, Ordering::AcqRel) == 1
            && let Err(e) = self.finish_file(work)
        {
            self.fail_file(work, &e);
        }
    }

    fn finish_file(&self, work: &FileWork) -> Result<()> {
        if self.verifying {
            let size = self.with_file(work, |file| capture::stat_fd(file).map(|stat| stat.size))?;
            work.file.lock().take();
            if size != work.size {
                self.fail_file(
                    work,
                    &Error::failed(format_args!("has {size} bytes instead of {}", work.size)),
                );
            }
            Counters::add(&self.tally.verified, u64::from(!work.has_failed()));
            return Ok(());
        }
        if work.has_failed() {
            return self.set_aside(work);
        }
        // A file of which nothing had to be written was perhaps never opened.
        let applied = self
            .with_file(work, |file| self.applier.file(file, &wanted(&work.meta, &work.owners, &work.path)));
        work.file.lock().take();
        applied.map_err(|e| e.context("its data is restored, its metadata is not"))?;
        let wrote = work.wrote.load(Ordering::Acquire) || work.existing.is_none();
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

    /// Gives a file whose data could not be had in full another name.
    fn set_aside(&self, work: &FileWork) -> Result<()> {
        if work.file.lock().take().is_none() {
            return Ok(());
        }
        let Some(parent) = work.place.opened() else { return Ok(()) };
        if !work.compare && !work.damaged.load(Ordering::Acquire) {
            // The disk is full, or the like: the next run restores it.
            return remove::remove_entry(parent, &work.name).map_err(|e| Error::io("cannot remove it", e));
        }
        let aside = [&work.name, DAMAGED_SUFFIX].concat();
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(parent, &*work.name, parent, aside.as_slice(), flags) {
            Ok(()) => {
                let path = path_text::display(&work.path);
                self.context.report(Event::Warning(format!(
                    "what could be had of {path} is in {path}.lifeboat-damaged beside it"
                )));
                Ok(())
            }
            // What was there before is not ours to remove.
            Err(e) if work.compare => Err(Error::io(
                "it holds a mixture of what was there and what could be restored, and cannot be renamed",
                e,
            )),
            // A name of 255 bytes cannot take a suffix, or there is such a file already.
            Err(_) => remove::remove_entry(parent, &work.name).map_err(|e| Error::io("cannot remove it", e)),
        }
    }
}

/// Whether a range holds nothing but zeros, be it a hole or not.
fn is_zero(file: BorrowedFd<'_>, start: u64, length: u64) -> std::io::Result<bool> {
    let end = start + length;
    let mut offset = start;
    let mut buffer = vec![0; 64 << 10];
    while let Some((from, to)) = capture::next_data(file, offset, end)? {
        offset = from;
        while offset < to {
            let wanted = usize::try_from(to - offset).unwrap_or(buffer.len()).min(buffer.len());
            match rustix::io::pread(file, &mut buffer[..wanted], offset) {
                Ok(0) => return Ok(true),
                Ok(got) if buffer[..got].iter().any(|byte| *byte != 0) => return Ok(false),
                Ok(got) => offset += got as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(true)
}

fn write_zeros(file: BorrowedFd<'_>, mut offset: u64, length: u64) -> std::io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let end = offset + length;
    while offset < end {
        let count = usize::try_from(end - offset).unwrap_or(ZEROS.len()).min(ZEROS.len());
        write_all_at(file, offset, &ZEROS[..count])?;
        offset += count as u64;
    }
    Ok(())
}

fn write_all_at(file: BorrowedFd<'_>, mut offset: u64, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(wrote) => {
                bytes = &bytes[wrote..];
                offset += wrote as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
