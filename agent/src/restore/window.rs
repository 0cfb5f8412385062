//! Chunks to be written, in the order of the packs they lie in: each segment is read and decoded once a window.

use std::ops::Range;
use std::sync::Arc;

use super::Run;
use super::file::FileWork;
use super::place::Place;
use crate::chunk::ChunkId;
use crate::compress::Decompressor;
use crate::events::Counters;
use crate::index::{Index, Location};
use crate::repository::{Repository, layout};
use crate::{Error, Kind, Result};

/// A window is worked off when it has this many bytes …
///
/// The larger, the fewer segments are decoded once more for files of a later window that share chunks with those of an earlier one: of eight
/// Python installations (2.2 GB, 1.7 GB of them distinct) 4.4 GB were decoded with 64 MiB, 1,024 files and 256 directories; 3.0 GB with these
/// numbers; 2.9 GB with twice of all, which took 18 MB more.
const WINDOW_BYTES: u64 = 256 << 20;
/// … or chunks …
const WINDOW_ITEMS: usize = 32 << 10;
/// … or files …
const WINDOW_FILES: usize = 16 << 10;
/// … of which one of several chunks counts as so many: it may be open until the last of them is written …
const WINDOW_FILES_OPEN: usize = 16;
/// … or directories: each is open.
const WINDOW_PLACES: usize = 1024;
/// The share of all descriptors that directories of one window may take; two windows are under way.
const WINDOW_PLACES_SHARE: u64 = 8;
/// Segments of one pack that lie this close are read together, in bytes.
const GAP_BYTES_MAX: u64 = 512 << 10;
/// … up to this many bytes at once.
const READ_BYTES_MAX: u64 = 4 << 20;

/// The next step when a file has the size and the time that it should have, and other bytes: whatever only looks at those would leave it.
pub(super) const COMPARES_BYTES: &str = "Files of the right size and time that have other bytes are mended by --overwrite always, not by if-changed.";

/// A chunk and where it belongs.
pub(super) struct Item {
    work: Arc<FileWork>,
    offset: u64,
    id: ChunkId,
    length: u64,
    location: Option<Location>,
}

impl Item {
    pub(super) fn new(work: &Arc<FileWork>, offset: u64, id: ChunkId, length: u64, index: &Index) -> Self {
        Self { work: work.clone(), offset, id, length, location: index.lookup(&id) }
    }

    /// Whether `next` continues it, in the same file and in the same segment.
    fn is_followed_by(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.work, &next.work)
            && self.offset + self.length == next.offset
            && self.range_in_segment().end == next.range_in_segment().start
    }

    /// Where its bytes are in its segment.
    fn range_in_segment(&self) -> Range<usize> {
        self.location.as_ref().map_or(0..0, |location| {
            location.offset as usize..(location.offset as usize + location.length as usize)
        })
    }

    pub(super) fn order(&self) -> u128 {
        self.location.as_ref().map_or(0, Location::order_key)
    }
}

/// Chunks that wait, and directories that are done when they are written.
pub(super) struct Window {
    items: Vec<Item>,
    bytes: u64,
    files: usize,
    left: Vec<Left>,
    places_max: usize,
}

/// A directory whose entries are all in the window or done.
pub(super) struct Left {
    pub(super) place: Arc<Place>,
    /// Names that may stay in it, if all others are to be deleted.
    pub(super) kept: Option<Vec<Box<[u8]>>>,
}

impl Window {
    pub(super) fn new() -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let share = descriptors.map_or(u64::MAX, |most| most / WINDOW_PLACES_SHARE);
        let places_max = usize::try_from(share).unwrap_or(usize::MAX).clamp(1, WINDOW_PLACES);
        Self { items: Vec::new(), bytes: 0, files: 0, left: Vec::new(), places_max }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.length;
        self.items.push(item);
    }

    pub(super) const fn add_file(&mut self, chunks: usize) {
        self.files += if chunks > 1 { WINDOW_FILES_OPEN } else { 1 };
    }

    /// Takes note of a directory whose entries are all in the window or done.
    pub(super) fn leave(&mut self, left: Left) {
        self.left.push(left);
    }

    /// All that is in it: the directories in the order in which they were left, the deepest first.
    pub(super) fn take(&mut self) -> (Vec<Item>, Vec<Left>) {
        let taken = std::mem::replace(self, Self::new());
        (taken.items, taken.left)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= WINDOW_BYTES
            || self.items.len() >= WINDOW_ITEMS
            || self.files >= WINDOW_FILES
            || self.left.len() >= self.places_max
    }
}

/// Buffers of one worker.
pub(super) struct Buffers {
    decompressor: Decompressor,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    existing: Vec<u8>,
}

impl Buffers {
    /// Empty ones.
    ///
    /// # Errors
    /// If zstd has no memory.
    pub(super) fn new() -> Result<Self> {
        let decompressor = Decompressor::new()?;
        Ok(Self { decompressor, sealed: Vec::new(), plain: Vec::new(), existing: Vec::new() })
    }
}

impl Run<'_> {
    /// Reads the segments of a batch at once and writes their chunks.
    pub(super) fn write_batch(&self, items: &[Item], buffers: &mut Buffers) -> Result<()> {
        let mut needed = Vec::with_capacity(items.len());
        for item in items {
            if self.is_there_already(item, buffers) {
                self.done(item);
            } else {
                needed.push(item);
            }
        }
        let (Some(first), Some(last)) = (
            needed.first().and_then(|item| item.location.as_ref()),
            needed.last().and_then(|item| item.location.as_ref()),
        ) else {
            needed.iter().for_each(|item| self.write_alone(item));
            return Ok(());
        };
        let start = first.segment.offset;
        let end = last.segment.offset + u64::from(last.segment.box_bytes);
        let key = layout::pack(first.kind, &first.pack)?;
        let bytes = match self.reader.repository().store().get_range(&key, start..end) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == Kind::Damaged || self.reader.may_ask_others(&e) => {
                // Perhaps only a part of it is damaged, or there is another copy.
                needed.iter().for_each(|item| self.write_alone(item));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for segment in needed.chunk_by(|a, b| a.order() == b.order() || same_segment(a, b)) {
            self.write_segment(segment, start, &bytes, buffers);
        }
        Ok(())
    }

    /// Decodes one segment out of what was read and writes its chunks.
    fn write_segment(&self, items: &[&Item], start: u64, bytes: &[u8], buffers: &mut Buffers) {
        let Some(location) = items.first().and_then(|item| item.location.as_ref()) else { return };
        let from = usize::try_from(location.segment.offset - start).unwrap_or(usize::MAX);
        let sealed = bytes.get(from..from.saturating_add(location.segment.box_bytes as usize));
        let cipher = self.reader.repository().pack_cipher(location.kind, location.pack_salt);
        buffers.sealed.clear();
        buffers.sealed.extend_from_slice(sealed.unwrap_or_default());
        let opened = Repository::open_segment(
            &cipher,
            &location.segment,
            &mut buffers.sealed,
            &mut buffers.decompressor,
            &mut buffers.plain,
        );
        if opened.is_err() {
            items.iter().for_each(|item| self.write_alone(item));
            return;
        }
        let data_id = &self.reader.repository().keys().data_id;
        // Neighbours in a segment are mostly neighbours in a file: those are written by one call.
        for run in items.chunk_by(|a, b| a.is_followed_by(b)) {
            let (mut first, mut bytes) = (0, 0..0);
            for (number, item) in run.iter().enumerate() {
                let range = item.range_in_segment();
                match buffers.plain.get(range.clone()) {
                    Some(chunk) if chunk.len() as u64 == item.length && data_id.id(chunk) == item.id => {
                        bytes = if bytes.is_empty() { range } else { bytes.start..range.end };
                    }
                    _ => {
                        self.put(&run[first..number], &buffers.plain[bytes]);
                        self.write_alone(item);
                        (first, bytes) = (number + 1, 0..0);
                    }
                }
            }
            self.put(&run[first..], &buffers.plain[bytes]);
        }
    }

    /// Writes one chunk by itself, from whichever place has it undamaged.
    fn write_alone(&self, item: &Item) {
        match self.reader.data(&item.id, item.length) {
            Ok(chunk) => self.put(&[item], &chunk),
            Err(e) => {
                self.lose(&item.work, item.offset, item.length, &e);
                self.done(item);
            }
        }
    }

    /// Writes the bytes of chunks that follow each other in one file.
    fn put(&self, items: &[&Item], bytes: &[u8]) {
        let Some(first) = items.first() else { return };
        if self.verifying {
            let error = Error::failed("what is there has other bytes than the snapshot");
            self.fail_file(&first.work, &error.with_hint(COMPARES_BYTES));
        } else if !first.work.is_given_up()
            && let Err(e) = self.write_bytes(&first.work, first.offset, bytes)
        {
            self.fail_file(&first.work, &e);
        }
        items.iter().for_each(|item| self.done(item));
    }

    /// Whether the file that is there has these bytes where they belong.
    fn is_there_already(&self, item: &Item, buffers: &mut Buffers) -> bool {
        if !item.work.compares() || item.work.is_given_up() {
            return false;
        }
        let length = usize::try_from(item.length).unwrap_or(usize::MAX);
        let read = self.read_existing(&item.work, item.offset, length, &mut buffers.existing);
        match read {
            Ok(()) => self.reader.repository().keys().data_id.id(&buffers.existing) == item.id,
            Err(e) => {
                self.fail_file(&item.work, &e);
                false
            }
        }
    }

    fn done(&self, item: &Item) {
        Counters::add(&self.context.counters.bytes, item.length);
        self.release(&item.work);
    }
}

fn same_segment(a: &Item, b: &Item) -> bool {
    match (&a.location, &b.location) {
        (Some(a), Some(b)) => a.pack == b.pack && a.segment.number == b.segment.number,
        _ => false,
    }
}

/// Cuts ordered items into runs that are read with one call.
pub(super) fn batches(items: &[Item]) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let mut start = 0;
    for at in 1..=items.len() {
        let ends = match (items.get(start), items.get(at - 1), items.get(at)) {
            (Some(first), Some(last), Some(next)) => !joins(first, last, next),
            _ => true,
        };
        if ends {
            batches.push(start..at);
            start = at;
        }
    }
    batches
}

fn joins(first: &Item, last: &Item, next: &Item) -> bool {
    let (Some(first), Some(last), Some(next)) = (&first.location, &last.location, &next.location) else {
        return false;
    };
    if first.pack != next.pack {
        return false;
    }
    let last_end = last.segment.offset + u64::from(last.segment.box_bytes);
    let next_end = next.segment.offset + u64::from(next.segment.box_bytes);
    let same = last.segment.number == next.segment.number;
    same || (next.segment.offset <= last_end + GAP_BYTES_MAX
        && next_end <= first.segment.offset + READ_BYTES_MAX)
}
