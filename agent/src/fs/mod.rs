//! The file system, one entry at a time: reading metadata and putting it back, always relative to an open directory.
//!
//! | module | job |
//! |---|---|
//! | [`capture`] | open, list, stat and read entries for a backup |
//! | [`xattr`] | extended attributes: which are kept, reading, setting |
//! | [`owners`] | numbers of users and groups to names, and back |
//! | [`apply`] | put metadata back on restored entries |
//! | [`create`] | make files, directories, links and nodes without following links |
//! | [`remove`] | remove an entry with all below it without following links |
//! | [`ranges`] | ranges of open files: read, written, compared, copied |
//! | [`shortfalls`] | what could not be put back, summed up |
//! | [`size`] | sizes as people write them |
//!
//! Nothing here follows a symbolic link, opens by a path of several components (but where the user named the path), or
//! decides what is backed up or restored.

pub mod apply;
pub mod capture;
pub mod create;
pub mod owners;
pub mod ranges;
pub mod remove;
pub mod shortfalls;
pub mod size;
pub mod xattr;

#[cfg(test)]
mod testing;

pub use capture::{DirEntry, Stat};
pub use owners::Owners;
pub use shortfalls::{Shortfall, Shortfalls};

/// What an entry of a directory is, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileType {
    /// The type of an entry as stored.
    pub const fn of(kind: &crate::tree::EntryKind) -> Self {
        use crate::tree::EntryKind;
        match kind {
            EntryKind::File { .. } => Self::File,
            EntryKind::Directory { .. } => Self::Directory,
            EntryKind::Symlink { .. } => Self::Symlink,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Socket => Self::Socket,
            EntryKind::CharDevice { .. } => Self::CharDevice,
            EntryKind::BlockDevice { .. } => Self::BlockDevice,
        }
    }

    /// The type in the upper bits of `st_mode`; `None` if they are no type that Linux knows.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Self::from_rustix(rustix::fs::FileType::from_raw_mode(mode))
    }

    /// The type as rustix has it; `None` if it is unknown.
    pub const fn from_rustix(file_type: rustix::fs::FileType) -> Option<Self> {
        use rustix::fs::FileType as Raw;
        match file_type {
            Raw::RegularFile => Some(Self::File),
            Raw::Directory => Some(Self::Directory),
            Raw::Symlink => Some(Self::Symlink),
            Raw::Fifo => Some(Self::Fifo),
            Raw::Socket => Some(Self::Socket),
            Raw::CharacterDevice => Some(Self::CharDevice),
            Raw::BlockDevice => Some(Self::BlockDevice),
            Raw::Unknown => None,
        }
    }

    /// What people call it, with its article: `a symbolic link`.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
        }
    }
}
