//! A path of a snapshot.

use super::directory::{self, Listed};
use crate::fetch::ChunkReader;
use crate::fetch::walk::components;
use crate::snapshot::Snapshot;
use crate::tree::{EntryKind, path_text};
use crate::{Error, Result};

/// What lies at a path of a snapshot.
#[derive(Debug, Clone)]
pub struct Place {
    /// The absolute path without trailing or double slashes; empty for the root.
    pub path: Vec<u8>,
    /// What is there.
    pub listed: Listed,
}

impl Place {
    /// Looks up an absolute path; a missing first slash, double slashes and `.` do not matter. Links are not followed.
    ///
    /// # Errors
    /// `Usage` that says how far the path goes if there is nothing; `Damaged` if a directory on the way cannot be read.
    pub fn find(reader: &ChunkReader, snapshot: &Snapshot, path: &[u8]) -> Result<Self> {
        let root = snapshot.manifest.root()?;
        let mut place = Self { path: Vec::new(), listed: Listed { entry: root, user: None, group: None } };
        for name in components(path) {
            let found = match &place.listed.entry.kind {
                EntryKind::Directory { content, .. } => {
                    directory::child(reader, &|id| directory::load_node(reader, id), content, name)
                        .map_err(|e| e.context(format_args!("cannot read {}", place.display())))?
                }
                _ => None,
            };
            let Some(listed) = found else { return Err(place.lacks(path, snapshot)) };
            place.path.push(b'/');
            place.path.extend_from_slice(name);
            place.listed = listed;
        }
        Ok(place)
    }

    /// The path for people; `/` for the root.
    pub fn display(&self) -> String {
        if self.path.is_empty() { "/".to_owned() } else { path_text::display(&self.path) }
    }

    fn lacks(&self, path: &[u8], snapshot: &Snapshot) -> Error {
        let short = snapshot.short_id();
        let error = Error::usage(format_args!("{} is not in snapshot {short}", path_text::display(path)));
        let here = self.display();
        match &self.listed.entry.kind {
            EntryKind::Directory { .. } => {
                error.with_hint(format_args!("`lifeboat ls {short}:{here}` shows what is there."))
            }
            EntryKind::Symlink { target } => error.with_hint(format_args!(
                "{here} is a symbolic link to {}: name the path that it leads to.",
                path_text::display(target)
            )),
            _ => error.with_hint(format_args!("{here} is not a directory.")),
        }
    }
}
