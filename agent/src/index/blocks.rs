//! A mapped file of which no byte is used before its block's checksum was compared.
//!
//! Why so careful with a mere cache: a table that says "this chunk is stored" when it is not makes a backup
//! skip the chunk, and the loss shows only in a restore. A cache file is not synced when it is written and lies
//! on a disk nobody scrubs; after a power cut it can hold zeros or another file's old blocks. Hashing all of it
//! when it is opened would cost a second per gigabyte and more from a cold disk, also for the many commands that
//! look up little. So each 4 KiB block is verified when it is first touched (about 1 µs), and again after
//! [`Blocks::trim`] gave its memory back, as it then may come from the disk anew. Opening reads the header and
//! the checksums only, 0.2 % of the file.
//!
//! Mapped pages count as this process's memory. [`Resident`] keeps an upper bound of them for all tables of an
//! index: all of a table but its entries, and each window of entries that was touched. Beyond its limit entries
//! are no longer mapped but read into a buffer and verified each time. That takes 2 to 4 µs; mapping and
//! unmapping windows in turn was measured at ten times it.
//!
//! Damage makes every answer from that block "not there" and is remembered in [`Blocks::is_damaged`].
//!
//! Memory maps and other processes: a mapped file that is *truncated* kills its readers by SIGBUS. Table files
//! are written under another name, never opened for writing after their rename, and only ever unlinked, which
//! leaves mappings intact. A disk that cannot read a block of the file (EIO) also ends in SIGBUS; the cure is
//! to delete the cache.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use memmap2::{Mmap, UncheckedAdvice};

use super::layout::{BLOCK_BYTES, Header, Layout, Part, SUM_BYTES, block_sum};

/// The table's file does not hold what was written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// What the kernel may map when one page is touched: 64 KiB around it ("fault around"), since Linux 6.18 the whole
/// folio, which is up to 256 KiB for a file that was written in buffers of that size.
///
/// At most 64, the bits of a word. Tests want several windows in small tables.
const WINDOW_BLOCKS: u64 = if cfg!(test) { 2 } else { 64 };
const WINDOW_BYTES: u64 = WINDOW_BLOCKS * BLOCK_BYTES as u64;

/// Up to this many bytes are read into a buffer: two blocks, as a line's entries seldom span more.
const READ_BYTES_MAX: usize = 2 * BLOCK_BYTES;

/// Memory that the mappings of all tables of one index can occupy.
#[derive(Debug)]
pub(super) struct Resident {
    windows: AtomicI64,
    windows_max: AtomicI64,
}

impl Resident {
    /// A limit from which on entries are not mapped.
    pub(super) fn new(bytes_max: u64) -> Self {
        let resident = Self { windows: AtomicI64::new(0), windows_max: AtomicI64::new(0) };
        resident.set_bytes_max(bytes_max);
        resident
    }

    pub(super) fn set_bytes_max(&self, bytes: u64) {
        let windows = i64::try_from(bytes / WINDOW_BYTES).unwrap_or(i64::MAX);
        self.windows_max.store(windows, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn windows(&self) -> i64 {
        self.windows.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.windows.load(Ordering::Relaxed) < self.windows_max.load(Ordering::Relaxed)
    }

    fn add(&self, windows: i64) {
        self.windows.fetch_add(windows, Ordering::Relaxed);
    }
}

/// Which blocks of a window lie in a range, as bits.
fn mask(blocks: &Range<u64>, window: u64) -> u64 {
    let from = blocks.start.saturating_sub(window * WINDOW_BLOCKS).min(WINDOW_BLOCKS);
    let to = blocks.end.saturating_sub(window * WINDOW_BLOCKS).min(WINDOW_BLOCKS);
    if from < to { (u64::MAX >> (64 - (to - from))) << from } else { 0 }
}

/// The blocks of one table file.
pub(super) struct Blocks {
    file: File,
    map: Mmap,
    sums: Part,
    /// The windows that hold mostly entries.
    entries: Range<u64>,
    /// For each window, a bit for each block that was verified.
    verified: Box<[AtomicU64]>,
    damaged: AtomicBool,
    resident: Arc<Resident>,
    /// What of it this table takes besides its entries.
    windows_besides_entries: i64,
}

impl Blocks {
    /// Maps a table file; `None` if it is foreign, damaged, torn or of another version.
    pub(super) fn map(file: File, resident: &Arc<Resident>) -> std::io::Result<Option<(Self, Header)>> {
        let file_bytes = file.metadata()?.len();
        if file_bytes < BLOCK_BYTES as u64 {
            return Ok(None);
        }
        // SAFETY: nobody changes or truncates a table file after it got its name (module documentation), and
        // this process treats the contents as untrusted bytes that are verified before use.
        let map = unsafe { Mmap::map(&file)? };
        let Some(header) = Header::from_block(&map) else { return Ok(None) };
        let layout = Layout::of(&header.counts);
        if layout.file_bytes() != file_bytes || map.len() as u64 != file_bytes {
            return Ok(None);
        }
        let sums = layout.sums;
        let sums_hash = map.get(sums.at as usize..).map(blake3::hash);
        if sums_hash.is_none_or(|hash| *hash.as_bytes() != header.sums_hash) {
            return Ok(None);
        }
        let verified = (0..(sums.at).div_ceil(WINDOW_BYTES)).map(|_| AtomicU64::new(0)).collect();
        let entries = layout.entries.at / WINDOW_BYTES..layout.entries.padded_end() / WINDOW_BYTES;
        let windows = file_bytes.div_ceil(WINDOW_BYTES) as i64;
        let windows_besides_entries = windows - (entries.end - entries.start) as i64;
        resident.add(windows_besides_entries);
        let (damaged, resident) = (AtomicBool::new(false), Arc::clone(resident));
        let blocks = Self { file, map, sums, entries, verified, damaged, resident, windows_besides_entries };
        blocks.trim();
        Ok(Some((blocks, header)))
    }

    /// `len` bytes at `at`, all of them verified.
    #[inline]
    pub(super) fn bytes(&self, at: u64, len: usize) -> Result<&[u8], Damaged> {
        let first = at / BLOCK_BYTES as u64;
        let last = (at + len.max(1) as u64 - 1) / BLOCK_BYTES as u64;
        for block in first..=last {
            if !self.is_verified(block) {
                self.verify(block)?;
            }
        }
        self.map.get(at as usize..at as usize + len).ok_or_else(|| self.damage())
    }

    /// Calls `use_bytes` with `len` bytes at `at`, all of them verified: mapped ones while there is room.
    #[inline]
    pub(super) fn with_bytes<R>(
        &self,
        at: u64,
        len: usize,
        use_bytes: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Damaged> {
        let first = at / BLOCK_BYTES as u64;
        let last = (at + len.max(1) as u64 - 1) / BLOCK_BYTES as u64;
        let is_mapped = self.is_mapped(first) && self.is_mapped(last);
        if is_mapped || self.resident.has_room() || (last - first + 1) as usize * BLOCK_BYTES > READ_BYTES_MAX
        {
            return self.bytes(at, len).map(use_bytes);
        }
        let mut buffer = [0; READ_BYTES_MAX];
        let buffer = &mut buffer[..(last - first + 1) as usize * BLOCK_BYTES];
        self.read(first, buffer)?;
        let start = (at % BLOCK_BYTES as u64) as usize;
        buffer.get(start..start + len).map(use_bytes).ok_or_else(|| self.damage())
    }

    /// Reads blocks into a buffer.
    fn read(&self, first: u64, buffer: &mut [u8]) -> Result<(), Damaged> {
        let read = self.file.read_exact_at(buffer, first * BLOCK_BYTES as u64);
        let mut blocks = buffer.chunks(BLOCK_BYTES).zip(first..);
        if read.is_ok() && blocks.all(|(bytes, block)| self.sum(block) == Some(&block_sum(bytes)[..])) {
            Ok(())
        } else {
            Err(self.damage())
        }
    }

    /// `N` bytes at `at`, all of them verified.
    #[inline]
    pub(super) fn array<const N: usize>(&self, at: u64) -> Result<&[u8; N], Damaged> {
        self.bytes(at, N)?.first_chunk().ok_or(Damaged)
    }

    /// Notes that the file does not hold what was written to it.
    #[cold]
    pub(super) fn damage(&self) -> Damaged {
        self.damaged.store(true, Ordering::Relaxed);
        Damaged
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// How many blocks there are, the header's among them, the sums' not.
    pub(super) const fn block_count(&self) -> u64 {
        self.sums.at / BLOCK_BYTES as u64
    }

    /// Compares every block, read from memory or disk, with its checksum.
    pub(super) fn verify_all(&self) -> Result<(), Damaged> {
        const STEP_BLOCKS: u64 = 1024;
        for start in (1..self.block_count()).step_by(STEP_BLOCKS as usize) {
            let blocks = start..(start + STEP_BLOCKS).min(self.block_count());
            blocks.clone().try_for_each(|block| self.verify(block))?;
            self.release(blocks);
        }
        Ok(())
    }

    /// Gives the memory of all pages back to the system, which keeps them as file cache as long as it likes.
    pub(super) fn trim(&self) {
        self.release(0..self.map.len().div_ceil(BLOCK_BYTES) as u64);
    }

    /// Gives back the pages of these blocks; they are verified anew when they are next touched.
    pub(super) fn release(&self, blocks: Range<u64>) {
        self.forget(blocks.clone());
        let at = blocks.start as usize * BLOCK_BYTES;
        let len = ((blocks.end - blocks.start) as usize * BLOCK_BYTES).min(self.map.len().saturating_sub(at));
        // SAFETY: the mapping is of a file, shared and read-only: pages that are dropped are read from the same
        // file again when they are next touched, so no borrowed byte changes.
        let advised = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, at, len) };
        // Advice that is refused (locked memory) costs memory, nothing else.
        drop(advised);
    }

    /// Notes that these blocks are neither verified nor in memory.
    fn forget(&self, blocks: Range<u64>) {
        let words = self.verified.iter().zip(0..).skip((blocks.start / WINDOW_BLOCKS) as usize);
        for (word, window) in words.take_while(|(_, window)| window * WINDOW_BLOCKS < blocks.end) {
            let kept = !mask(&blocks, window);
            let before = word.fetch_and(kept, Ordering::Relaxed);
            if before != 0 && before & kept == 0 && self.entries.contains(&window) {
                self.resident.add(-1);
            }
        }
    }

    /// The checksum of a block; the first is that of block 1, as the header has its own.
    fn sum(&self, block: u64) -> Option<&[u8]> {
        let at = self.sums.at + block.checked_sub(1)? * SUM_BYTES as u64;
        self.map.get(at as usize..at as usize + SUM_BYTES)
    }

    #[inline]
    fn is_verified(&self, block: u64) -> bool {
        let word = self.verified.get((block / WINDOW_BLOCKS) as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (block % WINDOW_BLOCKS) != 0)
    }

    /// Whether touching a block maps nothing more.
    fn is_mapped(&self, block: u64) -> bool {
        let word = self.verified.get((block / WINDOW_BLOCKS) as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) != 0)
    }

    #[cold]
    fn verify(&self, block: u64) -> Result<(), Damaged> {
        let window = block / WINDOW_BLOCKS;
        let at = block as usize * BLOCK_BYTES;
        let bytes = self.map.get(at..at + BLOCK_BYTES);
        match (bytes, self.sum(block), self.verified.get(window as usize)) {
            (Some(bytes), Some(sum), Some(word)) if block_sum(bytes)[..] == *sum => {
                let before = word.fetch_or(1 << (block % WINDOW_BLOCKS), Ordering::Relaxed);
                if before == 0 && self.entries.contains(&window) {
                    self.resident.add(1);
                }
                Ok(())
            }
            _ => Err(self.damage()),
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.forget(0..self.block_count());
        self.resident.add(-self.windows_besides_entries);
    }
}
