//! Reads and cuts small files.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::Run;
use super::directory::{Directory, Target};
use super::large::{LARGE_BYTES_MIN, Large};
use super::record::Change;
use crate::Result;
use crate::chunk::Cutter;
use crate::error::describe_io;
use crate::events::Event;
use crate::fs::ranges::read_at;
use crate::fs::{FileType, Stat, capture};
use crate::ingest::ChunkSink;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::content::ContentBuilder;
use crate::tree::{Content, Entry, EntryKind, Extent, Meta, Xattr};

/// How often a file is read again when it changed meanwhile, before what was read is taken.
const ATTEMPTS: usize = 2;
/// How much is read of a file that says that it is empty and is not, as those of /proc and some made up by programs.
const SIZELESS_BYTES_MAX: usize = LARGE_BYTES_MIN as usize;

/// A file to read.
pub(super) struct FileJob {
    pub(super) slot: usize,
    pub(super) name: Box<[u8]>,
    pub(super) stat: Stat,
    /// The parent snapshot's entry of this name.
    pub(super) old: Option<Box<Entry>>,
}

/// Small files of one directory, to be read by one worker.
pub(super) struct Files {
    directory: Arc<Directory>,
    jobs: Vec<FileJob>,
    bytes: u64,
}

impl Files {
    pub(super) fn new(directory: Arc<Directory>, job: FileJob) -> Self {
        let bytes = job.stat.size;
        Self { directory, jobs: vec![job], bytes }
    }

    pub(super) fn push(&mut self, job: FileJob) {
        self.bytes += job.stat.size;
        self.jobs.push(job);
    }

    pub(super) const fn has_room(&self, files_max: usize, bytes_max: u64) -> bool {
        self.jobs.len() < files_max && self.bytes < bytes_max
    }
}

/// What became of a small file.
enum Reading {
    /// Its entry, if there will be one.
    Done(Option<Entry>),
    /// It is no longer small.
    Grown,
}

/// What reading a file came to.
pub(super) struct ReadFile {
    pub(super) content: Content,
    pub(super) size: u64,
    /// Reading failed in the middle.
    pub(super) incomplete: bool,
}

impl Run<'_> {
    /// Reads a batch of files.
    pub(super) fn read_files(
        &self,
        files: Files,
        sink: &mut ChunkSink<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        for job in files.jobs {
            if self.context.stopped() {
                self.scheduler.stop();
                return Ok(());
            }
            let target = Target::Slot(files.directory.clone(), job.slot);
            let entry = match self.read_file(&files.directory, &job, sink, buffer)? {
                Reading::Done(entry) => entry,
                Reading::Grown => {
                    self.scheduler.push_large(Large::file(files.directory.clone(), target, job));
                    continue;
                }
            };
            self.complete(&target, entry, false, sink)?;
        }
        Ok(())
    }

    fn read_file(
        &self,
        directory: &Directory,
        job: &FileJob,
        sink: &mut ChunkSink<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<Reading> {
        let path = || directory.child_path(&job.name);
        let Some(parent) = directory.handle.get() else { return Ok(Reading::Done(None)) };
        let file = match capture::open_file(parent.as_fd(), &job.name) {
            Ok(file) => file,
            Err(e) => {
                self.file_error(path(), &e, "cannot open it");
                return Ok(Reading::Done(None));
            }
        };
        let mut before = job.stat.clone();
        let mut attempt = 1;
        loop {
            let read = match self.read_content(file.as_fd(), &before, sink, buffer) {
                Ok(read) => read?,
                Err(e) => {
                    self.file_error(path(), &e, "cannot read it");
                    return Ok(Reading::Done(None));
                }
            };
            let after = match capture::stat_fd(file.as_fd()) {
                Ok(after) => after,
                Err(e) => {
                    self.file_error(path(), &e, "cannot look at it");
                    return Ok(Reading::Done(None));
                }
            };
            if after.kind != FileType::File {
                self.record.error(path(), FileErrorKind::Vanished, "it is no longer a file".to_owned());
                return Ok(Reading::Done(None));
            }
            let sizeless = before.size == 0 && after.size == 0;
            if !is_same_moment(&before, &after) || (read.size != after.size && !sizeless) {
                if after.size >= LARGE_BYTES_MIN {
                    // Not to be read into memory whole.
                    return Ok(Reading::Grown);
                }
                if attempt < ATTEMPTS {
                    attempt += 1;
                    before = after;
                    continue;
                }
                self.record.error(path(), FileErrorKind::Changed, "it changed while it was read".to_owned());
            } else if read.incomplete {
                let message = format!(
                    "it says that it is empty and is not: only its first {} bytes were read",
                    read.size
                );
                self.record.error(path(), FileErrorKind::Incomplete, message);
            }
            let mut after = after;
            let xattrs = self.xattrs(file.as_fd(), &mut after.meta, path);
            let entry = self.file_entry(&job.name, path, &after, read, xattrs, job.old.as_deref());
            return Ok(Reading::Done(Some(entry)));
        }
    }

    /// The entry of a file that was read.
    pub(super) fn file_entry(
        &self,
        name: &[u8],
        path: impl Fn() -> Vec<u8>,
        stat: &Stat,
        read: ReadFile,
        xattrs: Vec<Xattr>,
        old: Option<&Entry>,
    ) -> Entry {
        let size = read.size;
        let entry = Entry {
            name: name.into(),
            meta: Meta { xattrs, ..stat.meta.clone() },
            kind: EntryKind::File { size, content: read.content },
            incomplete: read.incomplete,
        };
        // One that was read only because everything is finds itself as it was, unless something of it is not known.
        let (change, action) = match old {
            None => (Change::New, "new"),
            Some(old) if *old == entry && stat.meta.ctime != super::scan::UNKNOWN_CTIME => {
                (Change::Unmodified, "unmodified")
            }
            Some(_) => (Change::Changed, "changed"),
        };
        self.record.file(change, size);
        if change != Change::Unmodified {
            self.context.report(Event::Path { action, path: path(), bytes: size });
        }
        entry
    }

    /// Extended attributes of an open file; those that cannot be read are recorded.
    pub(super) fn xattrs(
        &self,
        file: BorrowedFd<'_>,
        meta: &mut Meta,
        path: impl Fn() -> Vec<u8>,
    ) -> Vec<Xattr> {
        let mut xattrs = Vec::new();
        if let Err(e) = capture::read_xattrs(file, &mut xattrs) {
            meta.ctime = super::scan::UNKNOWN_CTIME;
            self.record.error(
                path(),
                FileErrorKind::Unreadable,
                format!("cannot read extended attributes: {}", describe_io(&e)),
            );
        }
        xattrs
    }

    /// Reads a small file whole. The outer result is the file's, the inner the store's.
    fn read_content(
        &self,
        file: BorrowedFd<'_>,
        stat: &Stat,
        sink: &mut ChunkSink<'_>,
        buffer: &mut Vec<u8>,
    ) -> std::io::Result<Result<ReadFile>> {
        if stat.may_have_holes() {
            return self.read_sparse(file, stat, sink, buffer);
        }
        // One byte more than expected shows whether the file has grown. Files of /proc and the like say that they are empty and are not.
        let wanted = match stat.size {
            0 => SIZELESS_BYTES_MAX + 1,
            size => usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1),
        };
        read_at(file, 0, wanted, buffer)?;
        self.record.read(buffer.len() as u64);
        let incomplete = stat.size == 0 && buffer.len() > SIZELESS_BYTES_MAX;
        if incomplete {
            buffer.truncate(SIZELESS_BYTES_MAX);
        }
        let size = buffer.len() as u64;
        Ok(self.cut(buffer, size, buffer, sink).map(|content| ReadFile { content, size, incomplete }))
    }

    fn read_sparse(
        &self,
        file: BorrowedFd<'_>,
        stat: &Stat,
        sink: &mut ChunkSink<'_>,
        buffer: &mut Vec<u8>,
    ) -> std::io::Result<Result<ReadFile>> {
        let mut builder = ContentBuilder::new();
        let mut offset = 0;
        let mut head: Vec<u8> = Vec::new();
        while let Some((start, end)) = capture::next_data(file, offset, stat.size)? {
            let wanted = usize::try_from(end - start).unwrap_or(usize::MAX);
            read_at(file, start, wanted, buffer)?;
            self.record.read(buffer.len() as u64);
            if start == 0 {
                head.extend_from_slice(&buffer[..buffer.len().min(crate::chunk::detect::PROBE_BYTES)]);
            }
            let mut push = || -> Result<()> {
                if start > offset {
                    push_hole(&mut builder, start - offset, sink)?;
                }
                self.cut_into(&mut builder, buffer, stat.size, &head, sink)
            };
            if let Err(e) = push() {
                return Ok(Err(e));
            }
            offset = start + buffer.len() as u64;
            if buffer.len() < wanted {
                break;
            }
        }
        let at_end = offset < stat.size && capture::stat_fd(file)?.size >= stat.size;
        let finish = || -> Result<ReadFile> {
            let mut size = offset;
            if at_end {
                push_hole(&mut builder, stat.size - offset, sink)?;
                size = stat.size;
            }
            let content = builder.finish(&mut |list| sink.metadata(&list))?;
            Ok(ReadFile { content, size, incomplete: false })
        };
        Ok(finish())
    }

    fn cut(&self, data: &[u8], size: u64, head: &[u8], sink: &mut ChunkSink<'_>) -> Result<Content> {
        let mut builder = ContentBuilder::new();
        self.cut_into(&mut builder, data, size, head, sink)?;
        builder.finish(&mut |list| sink.metadata(&list))
    }

    /// Cuts a run of data and stores its chunks.
    fn cut_into(
        &self,
        builder: &mut ContentBuilder,
        data: &[u8],
        size: u64,
        head: &[u8],
        sink: &mut ChunkSink<'_>,
    ) -> Result<()> {
        let repository = self.ingest.repository();
        let cutter = Cutter::for_file(size, head, &repository.keys().gear, &repository.config().chunker);
        let mut rest = data;
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(cutter.cut(rest));
            let extent = Extent { length: chunk.len() as u64, id: Some(sink.data(chunk)?) };
            builder.push(extent, &mut |list| sink.metadata(&list))?;
            rest = tail;
        }
        Ok(())
    }
}

pub(super) fn push_hole(builder: &mut ContentBuilder, length: u64, sink: &mut ChunkSink<'_>) -> Result<()> {
    builder.push(Extent { length, id: None }, &mut |list| sink.metadata(&list))
}

/// Whether a file is what it was: neither its bytes nor its metadata were touched in between.
pub(super) fn is_same_moment(before: &Stat, after: &Stat) -> bool {
    before.size == after.size
        && before.meta.mtime == after.meta.mtime
        && before.meta.ctime == after.meta.ctime
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
