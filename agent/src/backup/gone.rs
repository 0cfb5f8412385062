//! What was in the last snapshot and is gone without anybody having said so: a file that a pattern no longer matches, a directory that is empty now
//! because its file system is not mounted. A snapshot without it would look as good as any.
//!
//! It stays one of the snapshot's paths, with an error, so that the next run looks for it again, until a run is told not to.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Plan;
use super::plan::Missing;
use crate::fetch::ChunkReader;
use crate::snapshot::Snapshot;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::{Entry, EntryKind, path_text};
use crate::{Kind, Result};

const VANISHED: &str = "it was in the last snapshot and is gone";
const EMPTIED: &str = "the directory is empty, and was not in the last snapshot; is its file system mounted?";

/// What of `parent` is gone. What cannot be read of it is not known to be gone.
///
/// # Errors
/// Errors of the store that are no damage: nobody could tell afterwards what was not looked for.
pub(super) fn look(plan: &Plan, parent: &Snapshot, reader: &ChunkReader) -> Result<Vec<Missing>> {
    let last = Last { parent, reader };
    let mut gone = Vec::new();
    let named = |path: &[u8]| plan.paths().iter().any(|known| known == path);
    for path in parent.manifest.path_bytes() {
        let is_expected = !named(&path) && plan.expects(&path) && !is_there(&path);
        if is_expected && (last.told(&path, VANISHED) || last.entry(&path)?.is_some()) {
            gone.push(Missing { path, kind: FileErrorKind::Vanished, message: VANISHED.to_owned() });
        }
    }
    for path in plan.roots().filter(|path| is_empty(path)) {
        let is_full = |entry: Entry| matches!(entry.kind, EntryKind::Directory { entries: 1.., .. });
        if last.told(path, EMPTIED) || last.entry(path)?.is_some_and(is_full) {
            let (path, message) = (path.to_vec(), EMPTIED.to_owned());
            gone.push(Missing { path, kind: FileErrorKind::Vanished, message });
        }
    }
    Ok(gone)
}

/// The snapshot that is compared with.
struct Last<'l> {
    parent: &'l Snapshot,
    reader: &'l ChunkReader,
}

impl Last<'_> {
    /// Whether it had this error of the path.
    fn told(&self, path: &[u8], message: &str) -> bool {
        self.parent.manifest.error_of(path).is_some_and(|told| told.message.starts_with(message))
    }

    /// What it has at the path. What is damaged is not known to have been there.
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        let found = self.parent.manifest.root().and_then(|root| self.reader.entry_at(&root, path));
        match found {
            Ok(entry) => Ok(Some(entry)),
            Err(e) if matches!(e.kind(), Kind::Usage | Kind::Damaged) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Whether anything is there, of whatever kind; also if that cannot be said.
fn is_there(path: &[u8]) -> bool {
    let looked = std::fs::symlink_metadata(Path::new(OsStr::from_bytes(path)));
    !looked.is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// The warning of what is gone, for runs of which that is no error.
pub(super) fn warning(gone: &Missing) -> String {
    format!("{}: {}", path_text::display(&gone.path), gone.message)
}

/// Whether it is a directory without entries. What cannot be listed is told by whoever backs it up.
fn is_empty(path: &[u8]) -> bool {
    std::fs::read_dir(Path::new(OsStr::from_bytes(path))).is_ok_and(|mut entries| entries.next().is_none())
}
