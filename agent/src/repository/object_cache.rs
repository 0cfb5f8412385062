//! Sealed metadata of a remote store on this machine's disk: snapshots, records, metadata packs and parts of them. It may be deleted at any time.
//!
//! What is read back is proved like what comes from the store: whole objects by the hash they are named by, parts of packs by their seal. A
//! store on a disk of this machine needs no copy of it.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use lifeboat_providers::{Key, Sha256};

use super::{Repository, layout, state};

/// Above this many bytes what was used longest ago is removed.
const BYTES_MAX: u64 = 1 << 30;

/// Tells the temporary files of one process apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Repository {
    /// Where copies lie; `None` if the store is as near as they would be.
    fn object_cache(&self) -> Option<PathBuf> {
        (self.store().is_far() && self.reads_copies).then(|| self.directories().object_copies())
    }

    /// The copy of an object that is named by its hash, if it is here and intact.
    pub(super) fn cached_object(&self, key: &Key) -> Option<Bytes> {
        let path = self.object_cache()?.join(key.file_name());
        let bytes = fs::read(&path).ok()?;
        if layout::sha256_of(key).is_ok_and(|name| Sha256::of(&bytes) == name) {
            return Some(bytes.into());
        }
        let _ = fs::remove_file(path);
        None
    }

    /// Keeps a copy of an object that is named by its hash. A cache that cannot be written is no reason to fail.
    pub(crate) fn cache_object(&self, key: &Key, pieces: &[Bytes]) {
        self.keep(key.file_name(), pieces);
    }

    /// Whether there is a copy; it may turn out to be damaged.
    pub(super) fn has_copy(&self, key: &Key) -> bool {
        self.object_cache().is_some_and(|directory| directory.join(key.file_name()).exists())
    }

    /// The copy of a part of a metadata pack: from the whole pack, or from what was read of it. Whoever opens it proves it.
    pub(crate) fn cached_part(&self, key: &Key, range: &Range<u64>) -> Option<Bytes> {
        let directory = self.object_cache()?;
        if let Ok(pack) = File::open(directory.join(key.file_name())) {
            let mut bytes = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
            if pack.read_exact_at(&mut bytes, range.start).is_ok() {
                return Some(bytes.into());
            }
        }
        fs::read(directory.join(part_name(key, range))).ok().map(Bytes::from)
    }

    /// Keeps a part of a metadata pack.
    pub(crate) fn cache_part(&self, key: &Key, range: &Range<u64>, bytes: &Bytes) {
        self.keep(&part_name(key, range), std::slice::from_ref(bytes));
    }

    /// Forgets the copies of a pack that turned out to be damaged.
    pub(crate) fn forget_part(&self, key: &Key, range: &Range<u64>) {
        if let Some(directory) = self.object_cache() {
            let _ = fs::remove_file(directory.join(key.file_name()));
            let _ = fs::remove_file(directory.join(part_name(key, range)));
        }
    }

    fn keep(&self, name: &str, pieces: &[Bytes]) {
        let Some(directory) = self.object_cache() else { return };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = directory.join(format!(".{}-{number}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = File::options().create_new(true).write(true).mode(0o600).open(&temporary)?;
            pieces.iter().try_for_each(|piece| file.write_all(piece))?;
            fs::rename(&temporary, directory.join(name))
        };
        if state::make_private_dir(&directory).is_err() || write().is_err() {
            let _ = fs::remove_file(temporary);
        }
    }

    /// Removes what was used longest ago while there is too much, and what a killed process left.
    pub(crate) fn trim_object_cache(&self) {
        let Some(entries) = self.object_cache().and_then(|directory| fs::read_dir(directory).ok()) else {
            return;
        };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let used = metadata.accessed().or_else(|_| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((used, metadata.len(), entry.path()));
        }
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        if bytes <= BYTES_MAX {
            return;
        }
        files.sort_unstable();
        for (_, size, path) in files {
            if bytes <= BYTES_MAX {
                return;
            }
            if fs::remove_file(path).is_ok() {
                bytes -= size;
            }
        }
    }
}

fn part_name(key: &Key, range: &Range<u64>) -> String {
    format!("{}.{}-{}", key.file_name(), range.start, range.end)
}
