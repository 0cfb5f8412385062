//! How much there is to back up, counted while the backup is under way: for whoever shows how far it is when no earlier snapshot tells.
//!
//! A guess that need not be right: what cannot be looked at is not counted, and nothing is said of it; the backup does that. No file is
//! opened, and directories are opened by their whole path, so that one is open at any time. It took 1.4 µs of processor time a file, when
//! backing up 100,000 files of 4 KB took 35 µs for each.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fd::BorrowedFd;

use super::exclude::ExcludeRules;
use crate::fs::{DirEntry, FileType, Stat, capture};
use crate::repository::OwnDirectories;

const BLOCK_BYTES: u64 = 512;

/// What to count.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// The paths that are backed up, absolute.
    pub paths: Vec<Vec<u8>>,
    /// What is left out of them.
    pub rules: ExcludeRules,
    /// Other file systems are left out.
    pub one_file_system: bool,
    /// Directories that are left out: what the repository takes up.
    pub own: OwnDirectories,
}

/// What there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Files.
    pub files: u64,
    /// Bytes that a backup will read of them.
    pub bytes: u64,
}

/// A directory to be looked into.
struct Directory {
    /// Empty for the root of the file system.
    path: Vec<u8>,
    /// The device to stay on.
    device: Option<u64>,
}

/// A count under way.
struct Walk<'a> {
    ahead: &'a Ahead,
    waiting: Vec<Directory>,
    found: Found,
}

impl Ahead {
    /// Counts; `None` as soon as `stopped` says that nobody wants to know any more.
    pub fn count(&self, stopped: &dyn Fn() -> bool) -> Option<Found> {
        let mut walk = Walk { ahead: self, waiting: Vec::new(), found: Found::default() };
        let mut outer: Option<(&Path, u64)> = None;
        let mut paths: Vec<&Path> =
            self.paths.iter().map(|path| Path::new(OsStr::from_bytes(path))).collect();
        paths.sort_unstable();
        for path in paths {
            let Ok(stat) = rustix::fs::lstat(path) else { continue };
            // What lies in another path that was named is come to from there, but not across a border that is not crossed.
            match outer {
                Some((up, device))
                    if path.starts_with(up) && (!self.one_file_system || device == stat.st_dev) => {}
                _ => {
                    outer = Some((path, stat.st_dev));
                    walk.named(path, &stat);
                }
            }
        }
        while let Some(directory) = walk.waiting.pop() {
            walk.directory(&directory, stopped)?;
        }
        Some(walk.found)
    }
}

impl Walk<'_> {
    fn named(&mut self, path: &Path, stat: &rustix::fs::Stat) {
        match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => {
                let path = path.as_os_str().as_bytes();
                let path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
                let device = self.ahead.one_file_system.then_some(stat.st_dev);
                self.waiting.push(Directory { path, device });
            }
            rustix::fs::FileType::RegularFile => {
                self.file(
                    u64::try_from(stat.st_size).unwrap_or(0),
                    u64::try_from(stat.st_blocks).unwrap_or(0),
                );
            }
            _ => {}
        }
    }

    fn directory(&mut self, directory: &Directory, stopped: &dyn Fn() -> bool) -> Option<()> {
        let path: &[u8] = if directory.path.is_empty() { b"/" } else { &directory.path };
        let Ok(opened) = capture::open_dir_path(path) else { return Some(()) };
        let Ok(mut names) = capture::read_names(opened.as_fd()) else { return Some(()) };
        if let Some(marker) = self.ahead.rules.directory_marker(opened.as_fd(), &names) {
            let marker = marker.entry().name.clone();
            names.retain(|entry| entry.name == marker);
        }
        for name in &names {
            if stopped() {
                return None;
            }
            self.entry(directory, opened.as_fd(), name);
        }
        Some(())
    }

    fn entry(&mut self, directory: &Directory, opened: BorrowedFd<'_>, name: &DirEntry) {
        // The system is asked nothing that the name's type says already.
        let stat = match name.kind {
            Some(FileType::Directory) if !self.needs_a_look(directory, name) => None,
            None | Some(FileType::Directory | FileType::File) => match capture::stat(opened, &name.name) {
                Ok(stat) => Some(stat),
                Err(_) => return,
            },
            Some(_) => return,
        };
        let kind = stat.as_ref().map_or(FileType::Directory, |stat| stat.kind);
        let rules = &self.ahead.rules;
        let path = || [&directory.path, b"/".as_slice(), &name.name].concat();
        if rules.has_patterns() && rules.skips(&path(), kind == FileType::Directory) {
            return;
        }
        match (kind, stat) {
            (FileType::File, Some(stat)) if !rules.skips_size(stat.size) => self.file(stat.size, stat.blocks),
            (FileType::Directory, Some(stat)) if self.is_left_out(directory, &stat) => {}
            (FileType::Directory, _) => {
                self.waiting.push(Directory { path: path(), device: directory.device });
            }
            _ => {}
        }
    }

    /// Whether more must be known of a directory than its name.
    fn needs_a_look(&self, directory: &Directory, name: &DirEntry) -> bool {
        directory.device.is_some() || self.ahead.own.has_inode(name.inode)
    }

    fn is_left_out(&self, directory: &Directory, stat: &Stat) -> bool {
        directory.device.is_some_and(|device| device != stat.meta.device)
            || self.ahead.own.describe(stat.meta.device, stat.meta.inode).is_some()
    }

    fn file(&mut self, size: u64, blocks: u64) {
        let allocated = blocks.saturating_mul(BLOCK_BYTES);
        // Holes are not read. But a file system that compresses has fewer blocks too, for all that is read.
        let is_mostly_holes = allocated < size / 2;
        self.found.files += 1;
        self.found.bytes += if is_mostly_holes { allocated } else { size };
    }
}
