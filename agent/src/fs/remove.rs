//! Removing an entry with all below it: never through a symbolic link, never into another mount.
//!
//! Works its way down by open directories, so a directory that is swapped for a link meanwhile cannot lead elsewhere.
//! The number of open descriptors is bounded however deep the tree is: directories far above are closed and found again
//! as `..`, which must be the very directory that was left.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::DirEntry;
use super::capture::{Stat, open_dir, read_names, stat_fd};
use super::create::make_writable;

/// Directories kept open at once.
const OPEN_MAX: usize = 64;

/// Removes the entry `name` of `dir` with all below it. Nothing there is success.
///
/// # Errors
/// The first that the kernel gives; for an entry below, the message begins with its path from `name` on. What was
/// removed until then stays removed. A mount point below is refused with [`io::ErrorKind::ResourceBusy`].
pub fn remove_entry(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    if unlink(dir, name)? {
        return Ok(());
    }
    let top = Level::open(dir, &stat_fd(dir)?, name)?;
    let mut levels = vec![top];
    while let Some(entry) = levels.last_mut().map(|level| level.names.pop()) {
        let step = match entry {
            Some(entry) => remove_below(&mut levels, &entry.name).map_err(|error| (entry.name, error)),
            None => remove_top(dir, &mut levels).map_err(|error| (Box::default(), error)),
        };
        step.map_err(|(name, error)| with_path(&levels, &name, &error))?;
    }
    Ok(())
}

/// A directory that is being removed.
struct Level {
    name: Box<[u8]>,
    /// `None` while it is far above.
    fd: Option<OwnedFd>,
    stat: Stat,
    /// What is left in it.
    names: Vec<DirEntry>,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, parent_stat: &Stat, name: &[u8]) -> io::Result<Self> {
        let fd = open_dir(parent, name)?;
        let stat = stat_fd(fd.as_fd())?;
        if stat.mount != parent_stat.mount || stat.meta.device != parent_stat.meta.device {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another file system is mounted there"));
        }
        let names = read_names(fd.as_fd())?;
        Ok(Self { name: name.into(), fd: Some(fd), stat, names })
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd).ok_or_else(|| Errno::BADF.into())
    }
}

/// Unlinks anything but a directory; `false` if it is one.
fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes one name of the deepest directory, or goes down into it.
fn remove_below(levels: &mut Vec<Level>, name: &[u8]) -> io::Result<()> {
    let Some(level) = levels.last() else { return Ok(()) };
    let fd = level.fd()?;
    let done = match unlink(fd, name) {
        // Its owner may have taken his own right to write; the directory goes anyway.
        Err(Errno::ACCESS) => {
            make_writable(fd)?;
            unlink(fd, name)?
        }
        result => result?,
    };
    if !done {
        let below = Level::open(fd, &level.stat, name)?;
        levels.push(below);
        if let Some(above) = levels.len().checked_sub(OPEN_MAX + 1) {
            levels[above].fd = None;
        }
    }
    Ok(())
}

/// Removes the deepest directory, which is empty now, and goes up.
fn remove_top(dir: BorrowedFd<'_>, levels: &mut Vec<Level>) -> io::Result<()> {
    let Some(level) = levels.pop() else { return Ok(()) };
    let is_below = !levels.is_empty();
    let parent = match levels.last_mut() {
        None => dir,
        Some(above) => {
            if above.fd.is_none() {
                above.fd = Some(reopen(level.fd()?, &above.stat)?);
            }
            above.fd()?
        }
    };
    match rustix::fs::unlinkat(parent, &*level.name, AtFlags::REMOVEDIR) {
        Err(Errno::ACCESS) if is_below => {
            make_writable(parent)?;
            Ok(rustix::fs::unlinkat(parent, &*level.name, AtFlags::REMOVEDIR)?)
        }
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => {
            levels.push(level);
            Err(error.into())
        }
    }
}

/// Opens the directory above, which must be the one that was left.
fn reopen(below: BorrowedFd<'_>, left: &Stat) -> io::Result<OwnedFd> {
    let fd = open_dir(below, b"..")?;
    let found = stat_fd(fd.as_fd())?;
    if (found.meta.device, found.meta.inode) != (left.meta.device, left.meta.inode) {
        return Err(io::Error::other("the directory was moved while it was being removed"));
    }
    Ok(fd)
}

fn with_path(levels: &[Level], name: &[u8], error: &io::Error) -> io::Error {
    let mut path: Vec<&[u8]> = levels.iter().map(|level| &*level.name).collect();
    if !name.is_empty() {
        path.push(name);
    }
    let path = crate::tree::path_text::display(&path.join(&b'/'));
    io::Error::new(error.kind(), format!("{path}: {}", crate::error::describe_io(error)))
}

#[cfg(test)]
#[path = "remove_tests.rs"]
mod tests;
