//! What a tree looks like: a digest of names, sizes and times, without the content of any file.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Ignore;
use super::tree::{Counts, counts};

/// Two that are equal are of trees that nobody changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look(blake3::Hash);

/// Looks at all below some paths. What cannot be read looks like what is not there.
pub fn look(roots: &[PathBuf], ignore: &Ignore) -> Look {
    // Each by itself, and the sum: directories give their names in any order.
    let mut sum = [0_u8; 32];
    let mut waiting: Vec<PathBuf> = roots.to_vec();
    while let Some(path) = waiting.pop() {
        let is_root = roots.contains(&path);
        let metadata = if is_root { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        let Ok(metadata) = metadata else { continue };
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path());
            waiting.extend(entries.filter(|path| !ignore(path)));
        } else if counts(name(&path)) != Counts::Always {
            // Of a database, its own times tell what was written.
            continue;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(path.as_os_str().as_bytes());
        let numbers = [
            metadata.ino(),
            metadata.size(),
            metadata.mtime() as u64,
            metadata.mtime_nsec() as u64,
            metadata.ctime() as u64,
            metadata.ctime_nsec() as u64,
        ];
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        for (sum, byte) in sum.iter_mut().zip(hasher.finalize().as_bytes()) {
            *sum ^= byte;
        }
    }
    Look(blake3::Hash::from_bytes(sum))
}

fn name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}
