//! Paths of a snapshot.

use super::ChunkReader;
use crate::tree::{Entry, EntryKind, path_text};
use crate::{Error, Kind, Result};

/// The components of a path: empty ones and `.` are left out.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

impl ChunkReader {
    /// The entry at an absolute path below `root`.
    ///
    /// # Errors
    /// `Usage` that names the nearest directory if there is none; `Damaged` if a directory on the way cannot be read.
    pub fn entry_at(&self, root: &Entry, path: &[u8]) -> Result<Entry> {
        let mut entry = root.clone();
        let mut done = Vec::new();
        for name in components(path) {
            let found = self.child(&entry, name)?;
            let Some(found) = found else {
                return Err(not_there(path, &done, &entry));
            };
            done.push(b'/');
            done.extend_from_slice(name);
            entry = found;
        }
        Ok(entry)
    }

    /// The entry of a directory with this name; `None` also if it is no directory.
    ///
    /// # Errors
    /// `Damaged` if the directory cannot be read.
    pub fn child(&self, directory: &Entry, name: &[u8]) -> Result<Option<Entry>> {
        let EntryKind::Directory { content, .. } = &directory.kind else { return Ok(None) };
        let mut found = None;
        // The name may be in any node that can be read: damage elsewhere in the directory is no reason to give up.
        let mut damage = None;
        self.for_each_piece(content, &mut |piece| {
            if found.is_some() {
                return Ok(());
            }
            match piece.map_err(|lost| lost.error).and_then(|extent| self.node_of(&extent)) {
                Ok(mut node) => {
                    if let Ok(at) = node.entries.binary_search_by(|entry| (*entry.name).cmp(name)) {
                        found = Some(node.entries.swap_remove(at));
                    }
                }
                Err(e) if e.kind() == Kind::Damaged => damage = Some(e),
                Err(e) => return Err(e),
            }
            Ok(())
        })?;
        match (found, damage) {
            (None, Some(e)) => Err(e),
            (found, _) => Ok(found),
        }
    }
}

fn not_there(path: &[u8], done: &[u8], parent: &Entry) -> Error {
    let error = Error::usage(format_args!("{} is not in the snapshot", path_text::display(path)));
    let parent_text = if done.is_empty() { "/".to_owned() } else { path_text::display(done) };
    if parent.is_directory() {
        error.with_hint(format_args!("`lifeboat ls SNAPSHOT:{parent_text}` shows what is there."))
    } else {
        error.with_hint(format_args!("{parent_text} is not a directory."))
    }
}
