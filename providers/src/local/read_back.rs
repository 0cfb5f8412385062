//! The digest of what the disk holds, not of what the page cache remembers.
//!
//! The file is read past the page cache (`O_DIRECT`), straight from the disk: that proves most, and costs neither memory nor a copy. Where a
//! file system cannot do that, what the cache holds of the file is dropped first.

use rustix::fd::BorrowedFd;
use rustix::fs::{Advice, fadvise, fstat};

use super::direct::{self, Block};
use crate::Sha256;
use crate::digest::Sha256Hasher;

/// The digest of a file that was synced, read back from its disk; `None` if it does not have `len` bytes. The file's offset and flags are as
/// before.
///
/// # Errors
/// The kernel's.
pub(super) fn digest(
    file: BorrowedFd<'_>,
    len: u64,
    block: &mut Block,
) -> rustix::io::Result<Option<Sha256>> {
    if u64::try_from(fstat(file)?.st_size) != Ok(len) {
        return Ok(None);
    }
    if let Some(found) = direct::past_the_cache(file, || hash(file, len, block))? {
        return Ok(found);
    }
    // Advice may be refused too: reading from the cache still proves the write.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
    let _ = fadvise(file, 0, None, Advice::Sequential);
    hash(file, len, block)
}

fn hash(file: BorrowedFd<'_>, len: u64, block: &mut Block) -> rustix::io::Result<Option<Sha256>> {
    let mut hasher = Sha256Hasher::new();
    let is_whole = direct::read(file, len, block, |bytes| hasher.update(bytes))?;
    Ok(is_whole.then(|| hasher.finish()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use rustix::fs::fcntl_getfl;

    use super::direct::BLOCK_BYTES;
    use super::*;

    /// Below the target directory, which is on a disk where `/tmp` may not be.
    #[test]
    fn files_of_all_lengths_are_read_as_they_are() {
        let mut block = Block::new();
        for folder in [std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()] {
            for len in [0, 1, 4095, 4096, 4097, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5] {
                let mut file = tempfile::tempfile_in(&folder).unwrap();
                let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
                file.write_all(&bytes).unwrap();
                file.sync_all().unwrap();
                let before = fcntl_getfl(&file).unwrap();
                assert_eq!(
                    digest(file.as_fd(), len as u64, &mut block).unwrap(),
                    Some(Sha256::of(&bytes)),
                    "{len} bytes"
                );
                assert_eq!(fcntl_getfl(&file).unwrap(), before);
                assert_eq!(digest(file.as_fd(), len as u64 + 1, &mut block).unwrap(), None);
            }
        }
    }
}
