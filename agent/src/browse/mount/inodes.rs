//! Numbers of files, and what the kernel knows of them.
//!
//! A number is a hash of where the file lies, so it is the same whenever it is looked up: of the directory's number and the
//! name, or for a file with several names, of the snapshot, the device and the inode it had. Remembered is, for numbers that
//! the kernel holds, by which names they were reached: entries are read again when they are needed and no longer cached.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::top::TopIndex;
use crate::tree::Entry;

/// Numbers from here on are hashes; those below are directories above the snapshots, counted from 1.
const HASHED: u64 = 1 << 63;

/// A file's number.
pub(super) type Number = u64;

/// How a file was reached.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The snapshot's directory it lies below.
    pub(super) snapshot: TopIndex,
    pub(super) parent: Number,
    pub(super) name: Box<[u8]>,
}

/// The numbers that the kernel holds.
#[derive(Default)]
pub(super) struct Inodes {
    known: Mutex<HashMap<Number, Known>>,
}

struct Known {
    origin: Origin,
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
    /// Files known whose parent this is.
    children: u64,
}

/// The number of a directory above the snapshots.
pub(super) const fn number_of_top(index: TopIndex) -> Number {
    index as u64 + 1
}

/// The directory above the snapshots that has this number.
pub(super) const fn top_of_number(number: Number) -> Option<TopIndex> {
    if number < HASHED && number > 0 { Some(number as usize - 1) } else { None }
}

/// The number of an entry.
pub(super) fn number_of(snapshot: TopIndex, parent: Number, entry: &Entry) -> Number {
    let mut hasher = blake3::Hasher::new();
    if entry.meta.links > 1 && !entry.is_directory() {
        hasher.update(b"several names");
        for part in [snapshot as u64, entry.meta.device, entry.meta.inode] {
            hasher.update(&part.to_le_bytes());
        }
    } else {
        hasher.update(b"one name");
        hasher.update(&parent.to_le_bytes());
        hasher.update(&entry.name);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first) | HASHED
}

impl Inodes {
    /// The kernel is told of a file once more.
    pub(super) fn remember(&self, number: Number, origin: Origin) {
        let mut known = self.known.lock();
        if let Some(found) = known.get_mut(&number) {
            found.lookups += 1;
            return;
        }
        if let Some(parent) = known.get_mut(&origin.parent) {
            parent.children += 1;
        }
        known.insert(number, Known { origin, lookups: 1, children: 0 });
    }

    /// The kernel forgets a file; a directory stays while files below it are known, since they are reached by it.
    pub(super) fn forget(&self, number: Number, lookups: u64) {
        let mut known = self.known.lock();
        if let Some(found) = known.get_mut(&number) {
            found.lookups = found.lookups.saturating_sub(lookups);
        }
        let mut next = Some(number);
        while let Some(number) = next.take() {
            let unused = known.get(&number).is_some_and(|found| found.lookups == 0 && found.children == 0);
            if unused && let Some(gone) = known.remove(&number) {
                let parent = gone.origin.parent;
                if let Some(found) = known.get_mut(&parent) {
                    found.children -= 1;
                    next = Some(parent);
                }
            }
        }
    }

    /// How a file was reached.
    pub(super) fn origin(&self, number: Number) -> Option<Origin> {
        self.known.lock().get(&number).map(|known| known.origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_stay_while_files_below_are_known() {
        let inodes = Inodes::default();
        let origin = |parent| Origin { snapshot: 4, parent, name: b"x".as_slice().into() };
        let (a, b) = (HASHED | 1, HASHED | 2);
        inodes.remember(a, origin(5));
        inodes.remember(b, origin(a));
        inodes.remember(b, origin(a));
        inodes.forget(a, 1);
        assert!(inodes.origin(a).is_some());
        inodes.forget(b, 1);
        assert!(inodes.origin(b).is_some());
        inodes.forget(b, 1);
        assert!(inodes.origin(b).is_none() && inodes.origin(a).is_none());
    }
}
