//! Extended attributes: which are kept, how they are read and set without races.
//!
//! Kept are `user.*`, `trusted.*` (the kernel shows them to root only), `security.*` with `security.capability` and
//! `security.selinux` (as restic, borg and `rsync -X` do: a restore in place must not lose a label that was set by
//! hand), `btrfs.*` properties, and of `system.*` the ACLs. Left out are the rest of `system.*`, which network file
//! systems make up, and `security.evm`, a signature over the inode number that is void after any restore.
//!
//! Files and directories are asked through their open descriptor. What cannot be opened safely (links, fifos, devices)
//! is asked as `/proc/self/fd/<directory>/<name>`, one call that resolves nothing but that name; that needs `/proc`.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::tree::Xattr;

/// The access ACL.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The ACL that new entries of a directory inherit.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// File capabilities.
pub const CAPABILITY: &[u8] = b"security.capability";

/// The kernel's limit of a list of names and of a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Names and values of one entry that are kept at most, in bytes: a tree node must hold them. Few file systems take more than 64 KiB.
const ENTRY_BYTES_MAX: usize = 4 << 20;
/// Tried first, on the stack: nearly all lists and values are shorter.
const STACK_BYTES: usize = 512;

/// Whether an attribute of this name belongs in a backup.
pub fn is_kept(name: &[u8]) -> bool {
    match name.iter().position(|byte| *byte == b'.').map(|dot| &name[..dot]) {
        Some(b"user" | b"trusted" | b"btrfs") => true,
        Some(b"security") => name != b"security.evm",
        Some(b"system") => is_acl(name),
        _ => false,
    }
}

/// Whether an attribute is an access control list.
pub fn is_acl(name: &[u8]) -> bool {
    matches!(name, ACL_ACCESS | ACL_DEFAULT | b"system.nfs4_acl" | b"system.richacl")
}

/// Reads the attributes of an open file or directory into `out`, in the order of their names.
///
/// # Errors
/// The first attribute (or the list) that could not be read; `out` has all others even then.
pub fn read_xattrs(fd: BorrowedFd<'_>, out: &mut Vec<Xattr>) -> io::Result<()> {
    read(&Place::Fd(fd), out, ENTRY_BYTES_MAX)
}

/// Reads the attributes of the entry `name` of `dir`, whatever it is, not following a symbolic link.
///
/// # Errors
/// As [`read_xattrs`].
pub fn read_xattrs_at(dir: BorrowedFd<'_>, name: &[u8], out: &mut Vec<Xattr>) -> io::Result<()> {
    read(&Place::at(dir, name)?, out, ENTRY_BYTES_MAX)
}

/// The path that stands for an open descriptor, for calls that have no form for `O_PATH` handles.
pub fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Where attributes are read and set.
#[derive(Debug)]
pub enum Place<'fd> {
    /// An open file or directory.
    Fd(BorrowedFd<'fd>),
    /// An `O_PATH` handle.
    Handle(BorrowedFd<'fd>),
    /// A path in `/proc` whose last component is not followed; holds good only as long as its directory is open.
    Path(CString, std::marker::PhantomData<BorrowedFd<'fd>>),
}

impl<'fd> Place<'fd> {
    /// The entry `name` of `dir`.
    ///
    /// # Errors
    /// If `name` has a NUL byte.
    pub fn at(dir: BorrowedFd<'fd>, name: &[u8]) -> io::Result<Self> {
        let mut path = proc_path(dir).into_bytes();
        path.reserve_exact(name.len() + 2);
        path.push(b'/');
        path.extend_from_slice(name);
        Ok(Self::Path(CString::new(path)?, std::marker::PhantomData))
    }

    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Fd(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Handle(fd) => rustix::fs::listxattr(proc_path(*fd), buffer),
            Self::Path(path, _) => rustix::fs::llistxattr(path, buffer),
        }
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Fd(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Handle(fd) => rustix::fs::getxattr(proc_path(*fd), name, buffer),
            Self::Path(path, _) => rustix::fs::lgetxattr(path, name, buffer),
        }
    }

    /// Sets an attribute, whether or not it is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&self, xattr: &Xattr) -> Result<(), Errno> {
        let (name, value, flags) = (&*xattr.name, &*xattr.value, XattrFlags::empty());
        match self {
            Self::Fd(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Self::Handle(fd) => rustix::fs::setxattr(proc_path(*fd), name, value, flags),
            Self::Path(path, _) => rustix::fs::lsetxattr(path, name, value, flags),
        }
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Fd(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Handle(fd) => rustix::fs::removexattr(proc_path(*fd), name),
            Self::Path(path, _) => rustix::fs::lremovexattr(path, name),
        }
    }

    /// Calls `each` with the name of every attribute.
    ///
    /// # Errors
    /// The kernel's. No attributes at all on this file system is no error.
    pub fn each_name(&self, mut each: impl FnMut(&[u8])) -> Result<(), Errno> {
        let mut names_of = |names: &[u8]| {
            names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).for_each(&mut each);
        };
        let mut stack = [0; STACK_BYTES];
        match self.list(&mut stack) {
            Ok(length) => names_of(&stack[..length]),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(Errno::RANGE) => {
                let mut heap = vec![0; XATTR_BYTES_MAX];
                let length = self.list(&mut heap)?;
                names_of(&heap[..length]);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The value of an attribute; `None` if it is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn value(&self, name: &[u8]) -> Result<Option<Box<[u8]>>, Errno> {
        let mut stack = [0; STACK_BYTES];
        let result = match self.get(name, &mut stack) {
            Ok(length) => Ok(stack[..length].into()),
            Err(Errno::RANGE) => {
                let mut heap = vec![0; XATTR_BYTES_MAX];
                self.get(name, &mut heap).map(|length| heap[..length].into())
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA) => Ok(None),
            // Listed by a file system that is mounted without ACLs.
            Err(Errno::OPNOTSUPP) if is_acl(name) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read(place: &Place<'_>, out: &mut Vec<Xattr>, bytes_max: usize) -> io::Result<()> {
    out.clear();
    let mut failed: Option<io::Error> = None;
    let mut bytes = 0;
    let listed = place.each_name(|name| {
        if !is_kept(name) {
            return;
        }
        match place.value(name) {
            Ok(Some(value)) => {
                let needed = name.len() + value.len();
                if bytes + needed > bytes_max {
                    let message = format!("they are over {bytes_max} bytes: the rest is left out");
                    failed.get_or_insert(io::Error::other(message));
                    return;
                }
                bytes += needed;
                out.push(Xattr { name: name.into(), value });
            }
            Ok(None) => {}
            Err(error) => {
                failed.get_or_insert(error.into());
            }
        }
    });
    out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    out.dedup_by(|a, b| a.name == b.name);
    listed?;
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "xattr_tests.rs"]
mod tests;
