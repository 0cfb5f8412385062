//! Reading one entry of a directory: open, list, stat, links and holes, for a backup.
//!
//! Everything is relative to an open directory, so that renames and swapped links on the way cannot lead elsewhere, and
//! so that paths may be deeper than `PATH_MAX`. Access times are left alone where the kernel allows it. An entry that
//! was unchanged since the last backup costs its share of `getdents64` and one `statx`, nothing else: extended
//! attributes, links and contents need not be read, since each change to them moves the ctime.
//!
//! Needs Linux 4.11 (`statx`).

use std::cell::RefCell;
use std::io;
use std::os::unix::ffi::OsStringExt as _;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, SeekFrom, Statx, StatxFlags, StatxTimestamp};
use rustix::io::{Errno, retry_on_intr};

pub use super::FileType;
pub use super::owners::Owners;
pub use super::xattr::{read_xattrs, read_xattrs_at};
use crate::tree::{Meta, Time};

/// Bytes of directory entries fetched at once. A directory of 200,000 names takes about 40 calls.
const NAMES_BUFFER_BYTES: usize = 256 << 10;
/// Unit of `st_blocks`, whatever the file system's own block size.
const BLOCK_BYTES: u64 = 512;
/// Flags of every `statx`. No `AT_STATX_DONT_SYNC`: on a network file system it could show us a change too late.
const STAT_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);
/// What is asked of `statx`. The mount's id is free.
const STAT_MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name's bytes: no `/`, not `.` or `..`.
    pub name: Box<[u8]>,
    /// Inode number as the directory has it. At a mount point it is that of the directory below the mount.
    pub inode: u64,
    /// What it is, where the file system says so without a stat.
    pub kind: Option<FileType>,
}

/// What `statx` says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileType,
    /// Metadata of every kind of entry; [`Meta::xattrs`] is empty.
    pub meta: Meta,
    /// Logical bytes: of a file, or of a symbolic link's target.
    pub size: u64,
    /// 512-byte blocks it occupies.
    pub blocks: u64,
    /// Major number, if it is a device.
    pub major: u32,
    /// Minor number, if it is a device.
    pub minor: u32,
    /// Id of the mount it lies on: tells bind mounts apart, which share their device. 0 before Linux 5.8.
    pub mount: u64,
}

impl Stat {
    /// Whether it occupies less than its size: it may have holes, or be compressed by the file system.
    pub const fn may_have_holes(&self) -> bool {
        self.blocks.saturating_mul(BLOCK_BYTES) < self.size
    }

    fn new(raw: &Statx) -> io::Result<Self> {
        let Some(kind) = FileType::from_mode(raw.stx_mode.into()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "unknown type of file"));
        };
        let links = if kind == FileType::Directory { 1 } else { u64::from(raw.stx_nlink).max(1) };
        let meta = Meta {
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            inode: raw.stx_ino,
            device: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            links,
            xattrs: Vec::new(),
        };
        let has_mount = StatxFlags::from_bits_retain(raw.stx_mask).contains(StatxFlags::MNT_ID);
        Ok(Self {
            kind,
            meta,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            major: raw.stx_rdev_major,
            minor: raw.stx_rdev_minor,
            mount: if has_mount { raw.stx_mnt_id } else { 0 },
        })
    }
}

/// The stored form of a time. A file system that claims a second or more of nanoseconds is cut to what a node can hold.
const fn time(raw: StatxTimestamp) -> Time {
    let nanoseconds = if raw.tv_nsec > 999_999_999 { 999_999_999 } else { raw.tv_nsec };
    Time { seconds: raw.tv_sec, nanoseconds }
}

/// Opens the directory `name` of `parent` for reading, never through a symbolic link.
///
/// # Errors
/// The kernel's: `ENOTDIR` or `ELOOP` if it is no directory (any more).
pub fn open_dir(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_quietly(parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

/// Opens a directory by a path that the user named; links in it are followed, as he means them.
///
/// # Errors
/// The kernel's.
pub fn open_dir_path(path: &[u8]) -> io::Result<OwnedFd> {
    open_quietly(CWD, path, OFlags::DIRECTORY)
}

/// Opens the file `name` of `dir` for reading, never through a symbolic link.
///
/// The caller must check with [`stat_fd`] that it is a regular file: the name may have been given to another entry
/// since it was listed. A fifo swapped in does not hang the call, and a terminal does not become ours.
///
/// # Errors
/// The kernel's: `ELOOP` if it is a symbolic link, `ENXIO` if it is a socket.
pub fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match open_quietly(dir, name, flags) {
        // Somebody holds a write lease on the file (Samba does): without O_NONBLOCK the kernel takes it back first.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => open_leased(dir, name),
        result => result,
    }
}

/// Opens a regular file without `O_NONBLOCK`, but only once it is certain that it is one and cannot be swapped.
fn open_leased(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let handle = open_handle(dir, name)?;
    if stat_fd(handle.as_fd())?.kind != FileType::File {
        return Err(Errno::AGAIN.into());
    }
    open_quietly(CWD, super::xattr::proc_path(handle.as_fd()).as_bytes(), OFlags::empty())
}

/// Where an open directory is, as the kernel has it; `None` without `/proc`, or if it was removed.
pub fn path_of(directory: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let path = std::fs::read_link(super::xattr::proc_path(directory)).ok()?.into_os_string().into_vec();
    (path.starts_with(b"/") && !path.ends_with(b" (deleted)")).then_some(path)
}

/// Opens a handle (`O_PATH`) on the entry itself, whatever it is, without opening what it stands for.
///
/// # Errors
/// The kernel's.
pub fn open_handle(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::empty()))?)
}

/// Opens for reading without moving the access time. That takes owning the file or `CAP_FOWNER`; else it is opened
/// all the same.
fn open_quietly(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    let open = |flags| retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::empty()));
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => Ok(open(flags)?),
        result => Ok(result?),
    }
}

thread_local! {
    /// The kernel writes names here; kept so that a walk allocates it once a thread.
    static NAMES_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// All names of an open directory but `.` and `..`, in the order of their bytes, each once.
///
/// # Errors
/// The kernel's.
pub fn read_names(dir: BorrowedFd<'_>) -> io::Result<Vec<DirEntry>> {
    // The descriptor may have been listed before.
    rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut names = NAMES_BUFFER.with_borrow_mut(|buffer| {
        buffer.reserve(NAMES_BUFFER_BYTES);
        let mut names = Vec::new();
        let mut raw = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let kind = FileType::from_rustix(entry.file_type());
                names.push(DirEntry { name: name.into(), inode: entry.ino(), kind });
            }
        }
        Ok::<_, io::Error>(names)
    })?;
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    // Some file systems list a name twice when the directory changes while it is read; a node must not.
    names.dedup_by(|a, b| a.name == b.name);
    Ok(names)
}

/// What the entry `name` of `dir` is, not following a symbolic link.
///
/// # Errors
/// The kernel's: `ENOENT` if it vanished.
pub fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Stat> {
    Stat::new(&rustix::fs::statx(dir, name, STAT_FLAGS, STAT_MASK)?)
}

/// What an open file, directory or handle is.
///
/// # Errors
/// The kernel's.
pub fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Stat::new(&rustix::fs::statx(fd, c"", STAT_FLAGS | AtFlags::EMPTY_PATH, STAT_MASK)?)
}

/// The target of the symbolic link `name` of `dir`, as it is.
///
/// # Errors
/// The kernel's: `EINVAL` if it is no symbolic link (any more).
pub fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Box<[u8]>> {
    let target = rustix::fs::readlinkat(dir, name, Vec::with_capacity(256))?;
    Ok(target.into_bytes().into_boxed_slice())
}

/// The next run of data `(start, end)` at or after `offset` in a file of `size` bytes; `None` if only a hole is left.
///
/// Where the file system cannot tell, all is data. Moves the descriptor's offset: read with `pread`. Worth calling
/// only if [`Stat::may_have_holes`].
///
/// # Errors
/// The kernel's.
pub fn next_data(file: BorrowedFd<'_>, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if offset >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) if start >= size => return Ok(None),
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Some((offset, size))),
        Err(error) => return Err(error.into()),
    };
    let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) if end > start => end.min(size),
        // The file shrank or changed in between: what is left is for the reader to find out.
        Ok(_) | Err(Errno::NXIO) => size,
        Err(error) => return Err(error.into()),
    };
    Ok(Some((start, end)))
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
