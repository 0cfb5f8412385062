//! Files written and read past the page cache (`O_DIRECT`).
//!
//! What is written once and synced gains nothing from the cache: its pages have to be found, filled and given up again, which took a sixth
//! of a first backup's time and pushed out what other programs had there. And what is read back must come from the disk to prove anything.

use rustix::fd::BorrowedFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, ftruncate};
use rustix::io::{Errno, pread, pwrite};

use crate::Body;

/// Bytes handed over at once: enough that the disk is busy, few enough that they stay in the cache of the processor.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// What disks and memory must be aligned to, in bytes; no disk asks for more.
const ALIGNMENT: usize = 4096;

/// Memory for [`BLOCK_BYTES`] that is aligned as disks want it.
pub(super) struct Block {
    memory: Vec<u8>,
    start: usize,
}

impl Block {
    pub(super) fn new() -> Self {
        let memory = vec![0; BLOCK_BYTES + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + BLOCK_BYTES).unwrap_or_default()
    }
}

/// Runs `work` with the file past the page cache; its flags are as before afterwards. `None` where the file system cannot do that.
pub(super) fn past_the_cache<T>(
    file: BorrowedFd<'_>,
    work: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<Option<T>> {
    let flags = fcntl_getfl(file)?;
    if fcntl_setfl(file, flags | OFlags::DIRECT).is_err() {
        return Ok(None);
    }
    let result = work();
    fcntl_setfl(file, flags)?;
    match result {
        // Some file systems take the flag and then refuse to work.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        result => result.map(Some),
    }
}

/// Writes a body to an empty file that is past the cache.
pub(super) fn write(file: BorrowedFd<'_>, body: &Body, block: &mut Block) -> rustix::io::Result<()> {
    let mut offset = 0;
    let mut filled = 0;
    for piece in body.pieces() {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let room = block.bytes().get_mut(filled..).unwrap_or_default();
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room.get_mut(..now.len()).unwrap_or_default().copy_from_slice(now);
            filled += now.len();
            rest = later;
            if filled == BLOCK_BYTES {
                write_block(file, block.bytes(), offset)?;
                offset += filled as u64;
                filled = 0;
            }
        }
    }
    if filled > 0 {
        // The disk takes whole sectors; what is too much is cut off.
        let sectors = filled.next_multiple_of(ALIGNMENT);
        let last = block.bytes().get_mut(..sectors).unwrap_or_default();
        last.get_mut(filled..).unwrap_or_default().fill(0);
        write_block(file, last, offset)?;
        ftruncate(file, body.len())?;
    }
    Ok(())
}

fn write_block(file: BorrowedFd<'_>, mut rest: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !rest.is_empty() {
        match pwrite(file, rest, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                offset += written as u64;
                rest = rest.get(written..).unwrap_or_default();
                if !written.is_multiple_of(ALIGNMENT) && !rest.is_empty() {
                    // What follows is not aligned any more. The way through the cache says what is wrong, if anything is.
                    return Err(Errno::INVAL);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads a file of `len` bytes block by block; `false` if it turns out to be shorter.
pub(super) fn read(
    file: BorrowedFd<'_>,
    len: u64,
    block: &mut Block,
    mut each: impl FnMut(&[u8]),
) -> rustix::io::Result<bool> {
    let mut offset = 0;
    while offset < len {
        match pread(file, &mut *block.bytes(), offset) {
            Ok(0) => return Ok(false),
            Ok(got) => {
                each(block.bytes().get(..got).unwrap_or_default());
                offset += got as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use super::*;

    /// Below the target directory, which is on a disk where `/tmp` may not be.
    #[test]
    fn bodies_of_all_lengths_and_pieces_are_written_as_they_are() {
        let mut block = Block::new();
        for folder in [std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()] {
            for len in [0, 1, 4095, 4096, 4097, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5] {
                let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
                for piece in [7_777, BLOCK_BYTES, usize::MAX] {
                    let pieces = bytes.chunks(piece.min(len.max(1))).map(|piece| piece.to_vec().into());
                    let body = Body::new(pieces.collect());
                    let mut file = tempfile::tempfile_in(&folder).unwrap();
                    let before = fcntl_getfl(&file).unwrap();
                    let fd = file.try_clone().unwrap();
                    let done = past_the_cache(fd.as_fd(), || write(fd.as_fd(), &body, &mut block)).unwrap();
                    assert_eq!(fcntl_getfl(&file).unwrap(), before);
                    if done.is_none() {
                        println!("skipped: {} knows only the page cache", folder.display());
                        break;
                    }
                    let mut found = Vec::new();
                    file.read_to_end(&mut found).unwrap();
                    assert!(found == bytes, "{len} bytes in pieces of {piece}");
                }
            }
        }
    }
}
