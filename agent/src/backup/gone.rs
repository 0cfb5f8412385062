//! What was in the last snapshot and is gone without anybody having said so: a file that a pattern no longer matches, a directory that is empty now
//! because its file system is not mounted. A snapshot without it would look as good as any.
//!
//! It stays one of the snapshot's paths, with an error, so that the next run looks for it again, until a run is told not to.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Plan;
use super::plan::Missing;
use crate::fetch::ChunkReader;
use crate::snapshot::Snapshot;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::{EntryKind, path_text};

/// What of `parent` is gone. What cannot be read of it is not known to be gone.
pub(super) fn look(plan: &Plan, parent: &Snapshot, reader: &ChunkReader) -> Vec<Missing> {
    let manifest = &parent.manifest;
    let named = |path: &[u8]| plan.paths().iter().any(|known| known == path);
    let vanished = manifest.path_bytes().into_iter().filter(|path| !named(path) && plan.expects(path));
    let vanished = vanished.map(|path| Missing {
        path,
        kind: FileErrorKind::Vanished,
        message: "it was in the last snapshot and is gone".to_owned(),
    });
    let was_full = |path: &[u8]| {
        let root = manifest.root().ok();
        let entry = root.and_then(|root| reader.entry_at(&root, path).ok());
        entry.is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { entries: 1.., .. }))
    };
    let was_told = |path: &[u8]| {
        let told = manifest.error_of(path);
        told.is_some_and(|told| told.kind == FileErrorKind::Vanished)
    };
    let emptied = plan.roots().filter(|path| is_empty(path) && (was_told(path) || was_full(path)));
    let emptied = emptied.map(|path| Missing {
        path: path.to_vec(),
        kind: FileErrorKind::Vanished,
        message: "the directory is empty, and was not in the last snapshot; is its file system mounted?"
            .to_owned(),
    });
    vanished.chain(emptied).collect()
}

/// The warning of what is gone, for runs of which that is no error.
pub(super) fn warning(gone: &Missing) -> String {
    format!("{}: {}", path_text::display(&gone.path), gone.message)
}

/// Whether it is a directory without entries. What cannot be listed is told by whoever backs it up.
fn is_empty(path: &[u8]) -> bool {
    std::fs::read_dir(Path::new(OsStr::from_bytes(path))).is_ok_and(|mut entries| entries.next().is_none())
}
