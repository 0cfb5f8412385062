//! Which snapshots and paths damage touches. Runs only when there is some.

use std::collections::HashMap;

use super::{Check, Touched};
use crate::chunk::ChunkId;
use crate::fetch::ChunkReader;
use crate::pack::directory::PackKind;
use crate::snapshot::History;
use crate::tree::{Content, Entry, EntryKind, Node};
use crate::{Kind, Result};

/// Paths that are listed at most; more are counted in the last line.
const TOUCHED_MAX: usize = 10_000;

/// Directories (by their content) below which all is well: not walked again for another snapshot.
type Sound = HashMap<Content, bool>;

impl Check<'_> {
    /// Walks all snapshots again and lists what cannot be restored.
    pub(super) fn find_touched(&mut self, history: &History, reader: &ChunkReader) -> Result<()> {
        let mut sound = Sound::new();
        for snapshot in &history.snapshots {
            let id = snapshot.id.to_string();
            let mut found = Vec::new();
            match snapshot.manifest.root() {
                Ok(root) => {
                    self.entry(reader, &mut Vec::new(), &root, &mut sound, &mut found)?;
                }
                Err(e) => found.push((Vec::new(), e.to_string())),
            }
            let left = TOUCHED_MAX.saturating_sub(self.report.touched.len());
            if found.len() > left {
                self.report
                    .warnings
                    .push(format!("{} more paths are touched in snapshot {id}", found.len() - left));
            }
            let touched = found.into_iter().take(left);
            self.report.touched.extend(touched.map(|(path, reason)| Touched {
                snapshot: id.clone(),
                path,
                reason,
            }));
        }
        if self.report.damages.is_empty() {
            let reason =
                self.report.touched.first().map_or("unknown", |touched| touched.reason.as_str()).to_owned();
            self.report.damage("index or packs", reason);
        }
        Ok(())
    }

    /// Looks at an entry and all below it; returns whether all is well.
    fn entry(
        &self,
        reader: &ChunkReader,
        path: &mut Vec<u8>,
        entry: &Entry,
        sound: &mut Sound,
        found: &mut Vec<(Vec<u8>, String)>,
    ) -> Result<bool> {
        match &entry.kind {
            EntryKind::File { content, .. } => match self.content_problem(reader, content)? {
                Some(problem) => {
                    found.push((path.clone(), problem));
                    Ok(false)
                }
                None => Ok(true),
            },
            EntryKind::Directory { content, .. } => {
                self.context.check_stop()?;
                if sound.get(content) == Some(&true) {
                    return Ok(true);
                }
                let well = self.directory_entries(reader, path, content, sound, found)?;
                sound.insert(content.clone(), well);
                Ok(well)
            }
            _ => Ok(true),
        }
    }

    fn directory_entries(
        &self,
        reader: &ChunkReader,
        path: &mut Vec<u8>,
        content: &Content,
        sound: &mut Sound,
        found: &mut Vec<(Vec<u8>, String)>,
    ) -> Result<bool> {
        let mut well = true;
        let mut last: Option<Box<[u8]>> = None;
        let mut nodes = Vec::new();
        if let Err(problem) = self.node_ids(reader, content, &mut nodes)? {
            found.push((path.clone(), format!("entries of this directory are lost: {problem}")));
            well = false;
        }
        for (id, length) in nodes {
            let node = match self.node_at(reader, &id, length)? {
                Ok(node) => node,
                Err(problem) => {
                    found.push((path.clone(), format!("entries of this directory are lost: {problem}")));
                    well = false;
                    continue;
                }
            };
            if let (Some(last), Some(first)) = (&last, node.entries.first())
                && *last >= first.name
            {
                found.push((path.clone(), "its nodes are out of order".to_owned()));
                well = false;
            }
            last = node.entries.last().map(|entry| entry.name.clone()).or(last);
            for entry in node.entries {
                let base = path.len();
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                well &= self.entry(reader, path, &entry, sound, found)?;
                path.truncate(base);
            }
        }
        Ok(well)
    }

    fn node_at(
        &self,
        reader: &ChunkReader,
        id: &ChunkId,
        length: u64,
    ) -> Result<std::result::Result<Node, String>> {
        if let Err(problem) = self.place_of(id, PackKind::Metadata, Some(length)) {
            return Ok(Err(problem));
        }
        match reader.node(id, length) {
            Ok(node) => Ok(Ok(node)),
            Err(e) if e.kind() == Kind::Damaged => Ok(Err(e.to_string())),
            Err(e) => Err(e),
        }
    }

    /// The ids and lengths of a directory's nodes, as far as lists can be read.
    fn node_ids(
        &self,
        reader: &ChunkReader,
        content: &Content,
        ids: &mut Vec<(ChunkId, u64)>,
    ) -> Result<std::result::Result<(), String>> {
        let mut outcome = Ok(());
        for extent in &content.extents {
            let Some(id) = extent.id else {
                outcome = Err("it has a hole".to_owned());
                continue;
            };
            if content.level == 0 {
                ids.push((id, extent.length));
                continue;
            }
            match self.list_at(reader, content.level, &id, extent.length)? {
                Ok(list) => {
                    if let Err(problem) = self.node_ids(reader, &list, ids)? {
                        outcome = Err(problem);
                    }
                }
                Err(problem) => outcome = Err(problem),
            }
        }
        Ok(outcome)
    }

    fn list_at(
        &self,
        reader: &ChunkReader,
        level: u8,
        id: &ChunkId,
        length: u64,
    ) -> Result<std::result::Result<Content, String>> {
        if let Err(problem) = self.place_of(id, PackKind::Metadata, None) {
            return Ok(Err(problem));
        }
        match reader.list(id, level - 1, length) {
            Ok(list) => Ok(Ok(list)),
            Err(e) if e.kind() == Kind::Damaged => Ok(Err(e.to_string())),
            Err(e) => Err(e),
        }
    }

    /// What is wrong with a file's content; `None` if nothing is known to be.
    fn content_problem(&self, reader: &ChunkReader, content: &Content) -> Result<Option<String>> {
        for extent in &content.extents {
            let Some(id) = extent.id else { continue };
            if content.level == 0 {
                if let Err(problem) = self.place_of(&id, PackKind::Data, Some(extent.length)) {
                    return Ok(Some(problem));
                }
                continue;
            }
            match self.list_at(reader, content.level, &id, extent.length)? {
                Ok(list) => {
                    if let Some(problem) = self.content_problem(reader, &list)? {
                        return Ok(Some(problem));
                    }
                }
                Err(problem) => return Ok(Some(problem)),
            }
        }
        Ok(None)
    }
}
