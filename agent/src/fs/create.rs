//! Making entries of a restored directory, never through a symbolic link and never over an existing entry.
//!
//! New entries belong to the restoring user alone (0600, 0700) until [`super::apply`] gives them their metadata, so
//! that nobody reads or swaps what is half restored.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::FileType;
use super::capture::{open_dir, open_handle, stat_fd};

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIR_MODE: Mode = Mode::RWXU;

/// What every new file of a new directory has from the start: nothing but these owners, no ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited {
    /// The user: who made the directory.
    pub uid: u32,
    /// The group: the maker's, or, where groups are inherited, the directory's, which then inherited it too.
    pub gid: u32,
}

impl Inherited {
    /// What files of this directory, which was just made, will have; `None` if it has a default ACL, which they would inherit.
    fn of(dir: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut plain = true;
        super::xattr::Place::Fd(dir).each_name(|name| plain &= !super::xattr::is_acl(name))?;
        let meta = stat_fd(dir)?.meta;
        Ok(plain.then_some(Self { uid: meta.uid, gid: meta.gid }))
    }
}

/// What [`ensure_dir`] found or made.
#[derive(Debug)]
pub enum EnsuredDir {
    /// There was nothing; the directory is new, mode 0700.
    Created(OwnedFd, Option<Inherited>),
    /// It was there; its mode, if that had to be changed to open it.
    Existing(OwnedFd, Option<u32>),
    /// Something else has the name: a symbolic link (which was not followed), a file …
    InTheWay(FileType),
}

/// Opens the directory `name` of `parent`, making it if there is nothing of that name. Its owner may read and search it from then on.
///
/// # Errors
/// The kernel's.
pub fn ensure_dir(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<EnsuredDir> {
    let created = match rustix::fs::mkdirat(parent, name, DIR_MODE) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    match open_dir_to_read(parent, name) {
        Ok((fd, _)) if created => {
            let inherited = Inherited::of(fd.as_fd())?;
            Ok(EnsuredDir::Created(fd, inherited))
        }
        Ok((fd, mode)) => Ok(EnsuredDir::Existing(fd, mode)),
        Err(error) => match super::capture::stat(parent, name)?.kind {
            FileType::Directory => Err(error),
            kind => Ok(EnsuredDir::InTheWay(kind)),
        },
    }
}

/// Lets the owner change the directory, for as long as it is being restored into. Returns its mode if that was another.
///
/// # Errors
/// The kernel's: `EPERM` if it belongs to somebody else.
pub fn make_writable(dir: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mode = stat_fd(dir)?.meta.mode;
    if mode & 0o700 == 0o700 {
        return Ok(None);
    }
    rustix::fs::fchmod(dir, Mode::from_raw_mode(mode | 0o700))?;
    Ok(Some(mode))
}

/// Gives the entry `from` of `dir` the name `to`, unless that is taken.
///
/// # Errors
/// The kernel's: `EEXIST` if it is taken.
pub fn rename_new(dir: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> io::Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, rustix::fs::RenameFlags::NOREPLACE) {
        // Many network file systems know no such thing, but hard links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
            Ok(rustix::fs::unlinkat(dir, from, AtFlags::empty())?)
        }
        result => Ok(result?),
    }
}

/// Makes the file `name` of `dir`, open for reading and writing.
///
/// # Errors
/// The kernel's: `EEXIST` if the name is taken, be it by a symbolic link to nowhere.
pub fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(dir, name, flags, FILE_MODE))?)
}

/// Opens the file `name` of `dir` to change it where it is.
///
/// # Errors
/// The kernel's; [`io::ErrorKind::InvalidInput`] if it is no regular file.
pub fn open_file_to_change(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    // Opening a device for writing may already do something.
    must_be(FileType::File, open_handle(dir, name)?.as_fd())?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::empty()))?;
    must_be(FileType::File, file.as_fd())?;
    Ok(file)
}

/// Opens the file `name` of `dir` for reading, also where its owner has taken the right to read it from himself.
///
/// # Errors
/// The kernel's; [`io::ErrorKind::InvalidInput`] if it is no regular file.
pub fn open_to_read(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let file = match super::capture::open_file(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let handle = open_handle(dir, name)?;
            let mode = stat_fd(handle.as_fd())?.meta.mode;
            let path = super::xattr::proc_path(handle.as_fd());
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode | 0o400))?;
            let opened = super::capture::open_file(dir, name);
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
            opened?
        }
        result => result?,
    };
    must_be(FileType::File, file.as_fd())?;
    Ok(file)
}

/// Opens the directory `name` of `dir`, also where its owner has taken the right to read it from himself: then he has it from now on, and
/// the mode it had is returned.
///
/// # Errors
/// The kernel's.
pub fn open_dir_to_read(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<(OwnedFd, Option<u32>)> {
    match open_dir(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let handle = open_handle(dir, name)?;
            must_be(FileType::Directory, handle.as_fd())?;
            let mode = stat_fd(handle.as_fd())?.meta.mode;
            rustix::fs::chmod(super::xattr::proc_path(handle.as_fd()), Mode::from_raw_mode(mode | 0o700))?;
            Ok((open_dir(dir, name)?, Some(mode)))
        }
        result => {
            let fd = result?;
            // What is in it can be reached only with the right to search it.
            let mode = stat_fd(fd.as_fd())?.meta.mode;
            let before = if mode & 0o500 == 0o500 { None } else { make_writable(fd.as_fd())? };
            Ok((fd, before))
        }
    }
}

/// Refuses an entry that is not what it was taken for.
pub(super) fn must_be(kind: FileType, fd: BorrowedFd<'_>) -> io::Result<()> {
    let found = stat_fd(fd)?.kind;
    if found == kind {
        return Ok(());
    }
    let message = format!("is {}, not {}", found.describe(), kind.describe());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Makes the symbolic link `name` of `dir` to `target`, whatever that is.
///
/// # Errors
/// The kernel's: `EEXIST` if the name is taken.
pub fn create_symlink(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

/// Makes the named pipe `name` of `dir`.
///
/// # Errors
/// The kernel's: `EEXIST` if the name is taken.
pub fn create_fifo(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name, rustix::fs::FileType::Fifo, FILE_MODE, 0)?)
}

/// Makes the device node `name` of `dir`. `false` if this user may not make any: see [`super::Shortfall::Device`].
///
/// # Errors
/// The kernel's: `EEXIST` if the name is taken. [`io::ErrorKind::InvalidInput`] if `kind` is no device.
pub fn create_device(
    dir: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
    major: u32,
    minor: u32,
) -> io::Result<bool> {
    let raw = match kind {
        FileType::CharDevice => rustix::fs::FileType::CharacterDevice,
        FileType::BlockDevice => rustix::fs::FileType::BlockDevice,
        _ => return Err(Errno::INVAL.into()),
    };
    match rustix::fs::mknodat(dir, name, raw, FILE_MODE, rustix::fs::makedev(major, minor)) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes `name` of `dir` one more name of the entry `old_name` of `old_dir`; a symbolic link is linked, not followed.
///
/// # Errors
/// The kernel's: `EXDEV`, `EMLINK` or `EPERM` where a copy has to do.
pub fn create_link(
    old_dir: BorrowedFd<'_>,
    old_name: &[u8],
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> io::Result<()> {
    Ok(rustix::fs::linkat(old_dir, old_name, dir, name, AtFlags::empty())?)
}

/// Makes `length` bytes of `file` from `offset` on a hole. `false` if the file system has none: write zeros then.
///
/// Never changes the file's size. A file that was just made needs no holes punched: leave the range unwritten.
///
/// # Errors
/// The kernel's.
pub fn punch_hole(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(true);
    }
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| rustix::fs::fallocate(file, mode, offset, length)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
