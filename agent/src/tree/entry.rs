//! One entry of a directory: a name, what it is, and all metadata that a restore needs.

use super::Content;

/// What a file is called whose data could not be had in full: nothing incomplete bears the name of what it should be.
pub const DAMAGED_SUFFIX: &[u8] = b".lifeboat-damaged";

/// A point in time as the file system has it: seconds since 1970 (may be negative) and nanoseconds below 10⁹.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// One extended attribute, name and value as the kernel has them. POSIX ACLs are `system.posix_acl_*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Xattr {
    /// Name with its namespace, such as `user.mime_type`.
    pub name: Box<[u8]>,
    /// Value.
    pub value: Box<[u8]>,
}

/// Metadata every kind of entry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission, setuid, setgid and sticky bits: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of content or metadata; cannot be restored, tells whether a file changed.
    pub ctime: Time,
    /// Inode number.
    pub inode: u64,
    /// Device (`st_dev`) the entry lies on.
    pub device: u64,
    /// Number of names, 1 unless hard-linked. Always 1 for directories.
    pub links: u64,
    /// Extended attributes in the order of their names.
    pub xattrs: Vec<Xattr>,
}

/// What an entry is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of `size` bytes.
    File {
        /// Logical size in bytes, holes included.
        size: u64,
        /// Its bytes.
        content: Content,
    },
    /// A directory.
    Directory {
        /// Its nodes.
        content: Content,
        /// Entries below it, at all levels.
        entries: u64,
        /// Bytes of the files below it.
        bytes: u64,
    },
    /// A symbolic link to `target`.
    Symlink {
        /// The link's text, as it is.
        target: Box<[u8]>,
    },
    /// A named pipe.
    Fifo,
    /// A socket: recorded, never restored.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name: bytes without `/` and NUL; empty only for the root of a snapshot.
    pub name: Box<[u8]>,
    /// Metadata.
    pub meta: Meta,
    /// What it is.
    pub kind: EntryKind,
    /// The content could not be read to its end; the error is recorded in the snapshot.
    pub incomplete: bool,
}

impl Entry {
    /// Whether it is a directory.
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory { .. })
    }

    /// Whether it is a regular file.
    pub const fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File { .. })
    }

    /// Logical bytes: a file's size, for a directory the files below it, else 0.
    pub const fn bytes(&self) -> u64 {
        match self.kind {
            EntryKind::File { size, .. } => size,
            EntryKind::Directory { bytes, .. } => bytes,
            _ => 0,
        }
    }

    /// The content of a file or directory.
    pub const fn content(&self) -> Option<&Content> {
        match &self.kind {
            EntryKind::File { content, .. } | EntryKind::Directory { content, .. } => Some(content),
            _ => None,
        }
    }
}
