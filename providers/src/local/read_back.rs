//! The digest of what the disk holds, not of what the page cache remembers.
//!
//! The file is read past the page cache (`O_DIRECT`), straight from the disk: that proves most, and costs neither memory nor a copy. Where a
//! file system cannot do that, what the cache holds of the file is dropped first.

use rustix::fd::BorrowedFd;
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Errno, pread};

use crate::Sha256;
use crate::digest::Sha256Hasher;

/// Bytes read at once: enough that the disk is busy, few enough that they stay in the cache of the processor for the hash.
const READ_BYTES: usize = 1 << 20;
/// What disks and memory must be aligned to for reading past the cache, in bytes; no disk asks for more.
const ALIGNMENT: usize = 4096;

/// The digest of a file that was synced, read back from its disk; `None` if it does not have `len` bytes. The file's offset and flags are as
/// before.
///
/// # Errors
/// The kernel's.
pub(super) fn digest(file: BorrowedFd<'_>, len: u64) -> rustix::io::Result<Option<Sha256>> {
    if u64::try_from(fstat(file)?.st_size) != Ok(len) {
        return Ok(None);
    }
    let flags = fcntl_getfl(file)?;
    if fcntl_setfl(file, flags | OFlags::DIRECT).is_ok() {
        let direct = hash(file, len);
        fcntl_setfl(file, flags)?;
        match direct {
            // Some file systems take the flag and then refuse to read.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            result => return result,
        }
    }
    // Advice may be refused too: reading from the cache still proves the write.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
    let _ = fadvise(file, 0, None, Advice::Sequential);
    hash(file, len)
}

fn hash(file: BorrowedFd<'_>, len: u64) -> rustix::io::Result<Option<Sha256>> {
    let room = usize::try_from(len).unwrap_or(READ_BYTES).min(READ_BYTES).next_multiple_of(ALIGNMENT);
    let mut memory = vec![0; room + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let buffer = memory.get_mut(start..start + room).unwrap_or_default();
    let mut hasher = Sha256Hasher::new();
    let mut offset = 0;
    while offset < len {
        match pread(file, &mut *buffer, offset) {
            // It became shorter meanwhile.
            Ok(0) => return Ok(None),
            Ok(got) => {
                hasher.update(buffer.get(..got).unwrap_or_default());
                offset += got as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(Some(hasher.finish()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use super::*;

    /// Below the target directory, which is on a disk where `/tmp` may not be.
    #[test]
    fn files_of_all_lengths_are_read_as_they_are() {
        for folder in [std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()] {
            for len in [0, 1, 4095, 4096, 4097, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES + 5] {
                let mut file = tempfile::tempfile_in(&folder).unwrap();
                let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
                file.write_all(&bytes).unwrap();
                file.sync_all().unwrap();
                let before = fcntl_getfl(&file).unwrap();
                assert_eq!(
                    digest(file.as_fd(), len as u64).unwrap(),
                    Some(Sha256::of(&bytes)),
                    "{len} bytes"
                );
                assert_eq!(fcntl_getfl(&file).unwrap(), before);
                assert_eq!(digest(file.as_fd(), len as u64 + 1).unwrap(), None);
            }
        }
    }
}
