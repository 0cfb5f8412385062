//! Reads and cuts large files so that one file keeps all cores busy.
//!
//! One worker reads and cuts; blocks of chunks go to whoever is free, who hashes, deduplicates, compresses and seals. When enough
//! blocks wait, the reader works on the next one himself. The file's content is put together in order as blocks come back.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Run;
use super::directory::{Directory, Target, now};
use super::file::{FileJob, ReadFile, is_same_moment};
use super::plan::GivenFile;
use super::scan::UNKNOWN_CTIME;
use crate::chunk::Cutter;
use crate::chunk::detect::PROBE_BYTES;
use crate::error::describe_io;
use crate::fs::ranges::append_at;
use crate::fs::{FileType, Stat, capture};
use crate::ingest::ChunkSink;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::content::ContentBuilder;
use crate::tree::{Content, Entry, EntryKind, Extent, Meta, path_text};
use crate::{Error, Result};

/// Files from this size on are read in blocks, in bytes.
pub(super) const LARGE_BYTES_MIN: u64 = 4 << 20;
/// Bytes of a block, about: a segment's worth.
const BLOCK_BYTES: usize = 2 << 20;

/// A large file, or one that is given, to read.
pub(super) struct Large {
    target: Target,
    source: Source,
}

enum Source {
    File { directory: Arc<Directory>, job: FileJob },
    Given(GivenJob),
}

/// A given file to read.
struct GivenJob {
    given: Arc<GivenFile>,
    name: Box<[u8]>,
    path: Vec<u8>,
    old: Option<Box<Entry>>,
}

/// Chunks of a large file that lie one after the other.
pub(super) struct Block {
    file: Arc<Assembly>,
    number: u64,
    data: Vec<u8>,
    lengths: Vec<u32>,
}

/// A large file's content, put together in order.
struct Assembly {
    target: Target,
    state: Mutex<AssemblyState>,
}

#[derive(Default)]
struct AssemblyState {
    next: u64,
    waiting: BTreeMap<u64, Vec<Extent>>,
    builder: ContentBuilder,
    /// Blocks in all and the rest of the entry, once the file is read to its end.
    end: Option<(u64, Ending)>,
}

/// What of the entry is known when the file was read to its end.
struct Ending {
    name: Box<[u8]>,
    path: Vec<u8>,
    meta: Meta,
    size: u64,
    incomplete: bool,
    old: Option<Box<Entry>>,
}

impl Large {
    pub(super) const fn file(directory: Arc<Directory>, target: Target, job: FileJob) -> Self {
        Self { target, source: Source::File { directory, job } }
    }

    pub(super) const fn given(
        given: Arc<GivenFile>,
        target: Target,
        name: Box<[u8]>,
        path: Vec<u8>,
        old: Option<Box<Entry>>,
    ) -> Self {
        Self { target, source: Source::Given(GivenJob { given, name, path, old }) }
    }
}

/// Hands out a file's blocks.
struct Blocks<'r, 'a> {
    run: &'r Run<'a>,
    file: Arc<Assembly>,
    next: u64,
}

impl Run<'_> {
    /// Reads a large file, or one that is given, to its end.
    pub(super) fn read_large(&self, large: Large, sink: &mut ChunkSink<'_>) -> Result<()> {
        match large.source {
            Source::File { directory, job } => self.read_large_file(&directory, job, large.target, sink),
            Source::Given(job) => self.read_given(job, large.target, sink),
        }
    }

    fn read_large_file(
        &self,
        directory: &Arc<Directory>,
        job: FileJob,
        target: Target,
        sink: &mut ChunkSink<'_>,
    ) -> Result<()> {
        let path = directory.child_path(&job.name);
        self.context.set_current(|current| current.extend_from_slice(&path));
        let opened = match directory.handle.get() {
            Some(parent) => open_regular(parent.as_fd(), &job.name),
            None => return self.complete(&target, None, false, sink),
        };
        let (file, before) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                self.file_error(path, &e, "cannot open it");
                return self.complete(&target, None, false, sink);
            }
        };
        // Advice only: that it is refused changes nothing.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        let assembly = Arc::new(Assembly { target, state: Mutex::default() });
        let mut blocks = Blocks { run: self, file: assembly.clone(), next: 0 };
        let read = self.read_runs(file.as_fd(), &before, &mut blocks, sink)?;
        let mut meta = before.meta.clone();
        let xattrs = self.xattrs(file.as_fd(), &mut meta, || path.clone());
        let after = capture::stat_fd(file.as_fd());
        if let Some(e) = &read.error {
            let message = format!("read only {} bytes of it: {}", read.size, describe_io(e));
            self.record.error(path.clone(), FileErrorKind::Incomplete, message);
        } else if !after.is_ok_and(|after| is_same_moment(&before, &after)) || read.size != before.size {
            let message = "it changed while it was read".to_owned();
            self.record.error(path.clone(), FileErrorKind::Changed, message);
        }
        let ending = Ending {
            name: job.name,
            path,
            // Of before: if it changed meanwhile, the next run sees that and reads it again.
            meta: Meta { xattrs, ..meta },
            size: read.size,
            incomplete: read.error.is_some(),
            old: job.old,
        };
        let total = blocks.next;
        assembly.state.lock().end = Some((total, ending));
        self.try_finish(&assembly, sink)
    }

    /// Reads all runs of data between holes.
    fn read_runs(
        &self,
        file: BorrowedFd<'_>,
        stat: &Stat,
        blocks: &mut Blocks<'_, '_>,
        sink: &mut ChunkSink<'_>,
    ) -> Result<ReadRuns> {
        let mut head = Vec::new();
        let mut read = ReadRuns { size: 0, error: None };
        if let Err(e) = append_at(file, 0, PROBE_BYTES, &mut head) {
            read.error = Some(e);
            return Ok(read);
        }
        let cutter = self.cutter(stat.size, &head);
        drop(head);
        while read.size < stat.size {
            let run = if stat.may_have_holes() {
                capture::next_data(file, read.size, stat.size)
            } else {
                Ok(Some((read.size, stat.size)))
            };
            let (start, end) = match run {
                Ok(Some(run)) => run,
                // A hole to the end, unless the file was cut meanwhile.
                Ok(None) if capture::stat_fd(file).is_ok_and(|now| now.size >= stat.size) => {
                    (stat.size, stat.size)
                }
                Ok(None) => return Ok(read),
                Err(e) => {
                    read.error = Some(e);
                    return Ok(read);
                }
            };
            if start > read.size {
                blocks.hole(start - read.size, sink)?;
                read.size = start;
            }
            let mut source = FileRun { file, offset: start, end };
            read.error = self.read_run(&mut source, cutter, blocks, sink)?;
            let shrank = source.offset < end;
            read.size = source.offset;
            if shrank {
                return Ok(read);
            }
        }
        Ok(read)
    }

    /// Reads one run of data block by block; returns the error that ended it, if one did.
    fn read_run(
        &self,
        source: &mut dyn BlockSource,
        cutter: Cutter<'_>,
        blocks: &mut Blocks<'_, '_>,
        sink: &mut ChunkSink<'_>,
    ) -> Result<Option<std::io::Error>> {
        let mut data = self.scheduler.buffer();
        loop {
            self.context.check_stop()?;
            let held = data.len();
            let (ended, error) = match source.append(BLOCK_BYTES, &mut data) {
                Ok(ended) => (ended, None),
                Err(e) => (true, Some(e)),
            };
            self.record.read((data.len() - held) as u64);
            let lengths = cut_block(&data, cutter, ended);
            let cut: usize = lengths.iter().map(|length| *length as usize).sum();
            if cut > 0 {
                let mut next = self.scheduler.buffer();
                next.extend_from_slice(&data[cut..]);
                data.truncate(cut);
                blocks.data(data, lengths, sink)?;
                data = next;
            }
            if ended {
                self.scheduler.recycle(data);
                return Ok(error);
            }
        }
    }

    fn read_given(&self, job: GivenJob, target: Target, sink: &mut ChunkSink<'_>) -> Result<()> {
        let GivenJob { given, name, path, old } = job;
        self.context.set_current(|current| current.extend_from_slice(&path));
        let cannot = |e: std::io::Error| match e.downcast::<Error>() {
            Ok(error) => error,
            Err(e) => {
                Error::io(format_args!("cannot read what is to become {}", path_text::display(&path)), e)
            }
        };
        let reader = given.bytes.lock().take();
        let reader = reader.ok_or_else(|| {
            Error::failed(format_args!(
                "{} was read by another run: this is a bug in lifeboat",
                path_text::display(&path)
            ))
        })?;
        let assembly = Arc::new(Assembly { target, state: Mutex::default() });
        let mut blocks = Blocks { run: self, file: assembly.clone(), next: 0 };
        let mut source = StreamRun { reader, head: Vec::new(), bytes: 0 };
        // How it is cut is decided by its beginning; a stream shorter than that is cut as a file of its size.
        let probe = std::io::Read::take(&mut source.reader, PROBE_BYTES.max(256 << 10) as u64)
            .read_to_end(&mut source.head);
        probe.map_err(cannot)?;
        let whole = source.head.len() < PROBE_BYTES.max(256 << 10);
        let size = if whole { source.head.len() as u64 } else { u64::MAX };
        let head = source.head.clone();
        let cutter = self.cutter(size, &head);
        if let Some(e) = self.read_run(&mut source, cutter, &mut blocks, sink)? {
            // A stream that broke off is no backup of what it should have been.
            return Err(cannot(e));
        }
        let meta = given.meta.clone().unwrap_or_else(|| {
            let now = now();
            Meta { mode: 0o600, mtime: now, ctime: now, ..Meta::default() }
        });
        // The bytes are not those that the original had at its times: whoever compares with it is to look. Nor are other names of it this file.
        let ctime = if given.meta.is_some() { UNKNOWN_CTIME } else { meta.ctime };
        let meta = Meta { ctime, links: 1, ..meta };
        let ending = Ending { name, path, meta, size: source.bytes, incomplete: false, old };
        let total = blocks.next;
        assembly.state.lock().end = Some((total, ending));
        self.try_finish(&assembly, sink)
    }

    fn cutter<'c>(&'c self, size: u64, head: &[u8]) -> Cutter<'c> {
        let repository = self.ingest.repository();
        Cutter::for_file(size, head, &repository.keys().gear, &repository.config().chunker)
    }

    /// Hashes and stores a block's chunks.
    pub(super) fn store_block(&self, mut block: Block, sink: &mut ChunkSink<'_>) -> Result<()> {
        let mut extents = Vec::with_capacity(block.lengths.len());
        sink.block(&mut block.data, &block.lengths, |id, length| {
            extents.push(Extent { length: length.into(), id: Some(id) });
        })?;
        self.scheduler.recycle(block.data);
        block.file.state.lock().waiting.insert(block.number, extents);
        self.try_finish(&block.file, sink)
    }

    /// Takes over the blocks that are next in order; when all are there, finishes the file.
    fn try_finish(&self, file: &Arc<Assembly>, sink: &mut ChunkSink<'_>) -> Result<()> {
        let finished = {
            let mut state = file.state.lock();
            let state = &mut *state;
            while let Some(extents) = state.waiting.remove(&state.next) {
                state.next += 1;
                for extent in extents {
                    state.builder.push(extent, &mut |list| sink.metadata(&list))?;
                }
            }
            match &state.end {
                Some((total, _)) if *total == state.next => {
                    let content =
                        std::mem::take(&mut state.builder).finish(&mut |list| sink.metadata(&list))?;
                    state.end.take().map(|(_, ending)| (ending, content))
                }
                _ => None,
            }
        };
        let Some((ending, content)) = finished else { return Ok(()) };
        let entry = self.large_entry(ending, content);
        self.complete(&file.target, Some(entry), false, sink)
    }

    fn large_entry(&self, ending: Ending, content: Content) -> Entry {
        let stat = Stat {
            kind: FileType::File,
            meta: Meta { xattrs: Vec::new(), ..ending.meta.clone() },
            size: ending.size,
            blocks: 0,
            major: 0,
            minor: 0,
            mount: 0,
        };
        let read = ReadFile { content, size: ending.size, incomplete: ending.incomplete };
        let xattrs = ending.meta.xattrs;
        let entry =
            self.file_entry(&ending.name, || ending.path.clone(), &stat, read, xattrs, ending.old.as_deref());
        debug_assert!(matches!(entry.kind, EntryKind::File { .. }), "a large file is a file");
        entry
    }
}

/// How far reading a file came.
struct ReadRuns {
    size: u64,
    error: Option<std::io::Error>,
}

impl Blocks<'_, '_> {
    fn data(&mut self, data: Vec<u8>, lengths: Vec<u32>, sink: &mut ChunkSink<'_>) -> Result<()> {
        let block = Block { file: self.file.clone(), number: self.next, data, lengths };
        self.next += 1;
        match self.run.scheduler.offer_block(block) {
            Some(block) => self.run.store_block(block, sink),
            None => Ok(()),
        }
    }

    fn hole(&mut self, length: u64, sink: &mut ChunkSink<'_>) -> Result<()> {
        self.file.state.lock().waiting.insert(self.next, vec![Extent { length, id: None }]);
        self.next += 1;
        self.run.try_finish(&self.file, sink)
    }
}

/// Lengths of the chunks at the front of `data`; without `ended`, bytes that the next read may add to are left.
fn cut_block(data: &[u8], cutter: Cutter<'_>, ended: bool) -> Vec<u32> {
    let mut lengths = Vec::new();
    let mut rest = data;
    while !rest.is_empty() && (ended || rest.len() >= cutter.window()) {
        let length = cutter.cut(rest);
        lengths.push(length as u32);
        rest = &rest[length..];
    }
    lengths
}

/// Where a run of data comes from.
trait BlockSource {
    /// Appends up to `wanted` bytes and says whether the run has ended.
    fn append(&mut self, wanted: usize, data: &mut Vec<u8>) -> std::io::Result<bool>;
}

struct FileRun<'f> {
    file: BorrowedFd<'f>,
    offset: u64,
    end: u64,
}

impl BlockSource for FileRun<'_> {
    fn append(&mut self, wanted: usize, data: &mut Vec<u8>) -> std::io::Result<bool> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let held = data.len();
        let result = append_at(self.file, self.offset, wanted, data);
        let got = data.len() - held;
        self.offset += got as u64;
        result?;
        Ok(got < wanted || self.offset == self.end)
    }
}

struct StreamRun {
    reader: Box<dyn Read + Send>,
    /// Bytes that were read to decide how to cut.
    head: Vec<u8>,
    bytes: u64,
}

impl BlockSource for StreamRun {
    fn append(&mut self, wanted: usize, data: &mut Vec<u8>) -> std::io::Result<bool> {
        let held = data.len();
        data.append(&mut self.head);
        let taken = data.len() - held;
        let rest = wanted.saturating_sub(taken) as u64;
        let got = std::io::Read::take(&mut self.reader, rest).read_to_end(data)? as u64;
        self.bytes += taken as u64 + got;
        Ok(got < rest)
    }
}

/// Opens a file and makes sure that it is a regular one.
fn open_regular(parent: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<(OwnedFd, Stat)> {
    let file = capture::open_file(parent, name)?;
    let stat = capture::stat_fd(file.as_fd())?;
    if stat.kind == FileType::File {
        Ok((file, stat))
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::NotFound, "it is no longer a file"))
    }
}
