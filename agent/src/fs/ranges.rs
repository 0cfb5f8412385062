//! Ranges of an open file by their position: read, written, compared with zeros, copied. The descriptor's own offset plays no part but where
//! holes are looked for.

use std::io;

use rustix::fd::BorrowedFd;
use rustix::io::{Errno, retry_on_intr};

use super::capture::{next_data, stat_fd};

/// Bytes moved at once where the kernel cannot do it by itself.
const BUFFER_BYTES: usize = 64 << 10;

/// Fills `buffer` with up to `wanted` bytes from `offset`; fewer only at the file's end.
///
/// # Errors
/// The kernel's.
pub fn read_at(file: BorrowedFd<'_>, offset: u64, wanted: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    append_at(file, offset, wanted, buffer)
}

/// As [`read_at`], after what `buffer` holds. The buffer's memory is not filled with zeros first.
///
/// # Errors
/// The kernel's.
pub fn append_at(
    file: BorrowedFd<'_>,
    mut offset: u64,
    wanted: usize,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let end = buffer.len() + wanted;
    buffer.reserve(wanted);
    while buffer.len() < end {
        let room = (end - buffer.len()).min(buffer.capacity() - buffer.len());
        let spare = &mut buffer.spare_capacity_mut()[..room];
        let got = match rustix::io::pread(file, spare, offset) {
            Ok((got, _)) => got.len(),
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        if got == 0 {
            break;
        }
        // SAFETY: pread has written `got` bytes into the spare capacity right behind the buffer's length.
        unsafe { buffer.set_len(buffer.len() + got) };
        offset += got as u64;
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// The kernel's.
pub fn write_all_at(file: BorrowedFd<'_>, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            wrote => {
                bytes = &bytes[wrote..];
                offset += wrote as u64;
            }
        }
    }
    Ok(())
}

/// Writes `length` zeros at `offset`.
///
/// # Errors
/// The kernel's.
pub fn write_zeros(file: BorrowedFd<'_>, mut offset: u64, length: u64) -> io::Result<()> {
    static ZEROS: [u8; BUFFER_BYTES] = [0; BUFFER_BYTES];
    let end = offset + length;
    while offset < end {
        let count = usize::try_from(end - offset).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        write_all_at(file, offset, &ZEROS[..count])?;
        offset += count as u64;
    }
    Ok(())
}

/// Whether a range holds nothing but zeros, be it a hole or not. What lies behind the file's end counts as zeros.
///
/// # Errors
/// The kernel's.
pub fn is_zero(file: BorrowedFd<'_>, start: u64, length: u64) -> io::Result<bool> {
    let end = start + length;
    let mut buffer = Vec::new();
    let mut offset = start;
    while let Some((from, to)) = next_data(file, offset, end)? {
        offset = from;
        while offset < to {
            let wanted = usize::try_from(to - offset).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            read_at(file, offset, wanted, &mut buffer)?;
            if buffer.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if buffer.len() < wanted {
                return Ok(true);
            }
            offset += wanted as u64;
        }
    }
    Ok(true)
}

/// Copies the data of the first `length` bytes of `from` to the same places of `to`, an empty file; holes are left out. Shares the blocks
/// where the file system can.
///
/// # Errors
/// The kernel's.
pub fn copy_data(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: u64) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let length = length.min(stat_fd(from)?.size);
    let mut offset = 0;
    while let Some((start, end)) = next_data(from, offset, length)? {
        copy_range(from, to, start, end)?;
        offset = end;
    }
    Ok(())
}

fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let count = usize::try_from(end - read).unwrap_or(usize::MAX);
        let copied = rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), count);
        match copied {
            // It became shorter meanwhile, or the file system only says so: reading finds out.
            Ok(0) => return copy_by_hand(from, to, read, end),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_by_hand(from, to, read, end);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mut offset: u64, end: u64) -> io::Result<()> {
    let mut buffer = Vec::new();
    while offset < end {
        let wanted = usize::try_from(end - offset).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        read_at(from, offset, wanted, &mut buffer)?;
        if buffer.is_empty() {
            return Ok(());
        }
        write_all_at(to, offset, &buffer)?;
        offset += buffer.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn data_is_copied_and_holes_stay() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let options = &mut std::fs::File::options();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(directory.path().join(name))
                .unwrap()
        };
        let (from, to) = (open("from"), open("to"));
        from.set_len(8 << 20).unwrap();
        write_all_at(from.as_fd(), 5 << 20, b"in the middle").unwrap();
        for by_hand in [false, true] {
            to.set_len(0).unwrap();
            match by_hand {
                false => copy_data(from.as_fd(), to.as_fd(), 8 << 20).unwrap(),
                true => copy_by_hand(from.as_fd(), to.as_fd(), 0, 8 << 20).unwrap(),
            }
            to.set_len(8 << 20).unwrap();
            assert_eq!(
                std::fs::read(directory.path().join("to")).unwrap(),
                std::fs::read(directory.path().join("from")).unwrap()
            );
        }
        assert!(is_zero(from.as_fd(), 0, 5 << 20).unwrap());
        assert!(!is_zero(from.as_fd(), 0, (5 << 20) + 1).unwrap());
        assert!(is_zero(from.as_fd(), 6 << 20, 80 << 20).unwrap());
        write_zeros(from.as_fd(), (5 << 20) - 1, 100 << 10).unwrap();
        assert!(is_zero(from.as_fd(), 0, 8 << 20).unwrap());
    }
}
