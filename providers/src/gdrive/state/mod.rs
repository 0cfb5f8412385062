//! What this machine remembers of a folder on Drive: which file is which object, which ids were chosen for files
//! that are still being made, which uploads are unfinished.
//!
//! One file of lines, one fact a line (JSON), only ever appended to, replaced by a short one when it is opened by
//! nobody else. Facts only save requests and tie up loose ends: a lost file, a lost line or a wrong one costs
//! requests, and at worst a second file of the same name, which is found and passed over. So nothing is flushed to
//! the disk, and a line that cannot be read is skipped.
//!
//! Several processes may have it open: each appends whole lines by single writes, and reads what the others wrote
//! before it answers. Facts are applied only as they are read back, so that all see the same order.

mod facts;
mod file;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::{Key, Prefix, Result, Sha256};
use facts::{Fact, Facts};
use file::StateFile;

/// Drive drops an unfinished upload after a week; a day less leaves time to finish it.
const SESSION_LIFE: Duration = Duration::from_secs(6 * 24 * 3600);

/// What is remembered of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The file was seen.
    Stored(String),
    /// A create under this id was begun; its outcome is not known.
    Planned(Plan),
}

/// A file that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) id: String,
    pub(super) size: u64,
    pub(super) sha256: Sha256,
}

/// The facts of one folder.
#[derive(Debug)]
pub(super) struct State {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    facts: Facts,
    file: StateFile,
}

impl State {
    /// Opens the facts about `folder` in `dir`, both made if they are not there. Blocks.
    ///
    /// # Errors
    /// `Misconfigured` or `Denied` if the directory cannot be used.
    pub(super) fn open(dir: &Path, folder: &str) -> Result<Self> {
        let mut facts = Facts::default();
        let file = StateFile::open(dir, folder, &mut facts, seconds_now())?;
        Ok(Self { inner: Mutex::new(Inner { facts, file }) })
    }

    fn read<T>(&self, look: impl FnOnce(&Facts) -> T) -> Result<T> {
        let mut inner = self.inner.lock();
        let Inner { facts, file } = &mut *inner;
        file.catch_up(facts)?;
        Ok(look(facts))
    }

    fn record(&self, new: &[Fact]) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let mut inner = self.inner.lock();
        let Inner { facts, file } = &mut *inner;
        file.append(new)?;
        file.catch_up(facts)
    }

    /// What is remembered of an object.
    pub(super) fn entry(&self, key: &Key) -> Result<Option<Entry>> {
        self.read(|facts| facts.entry(key.as_str()))
    }

    /// The objects below a prefix that are remembered, but for those of which `skip` says so, with their files' ids.
    pub(super) fn stored_under(
        &self,
        prefix: &Prefix,
        skip: impl Fn(&Key) -> bool,
    ) -> Result<VecDeque<(Key, String)>> {
        self.read(|facts| {
            let keys = facts.stored().filter_map(|(name, id)| Some((Key::new(name).ok()?, id)));
            let wanted = keys.filter(|(key, _)| prefix.matches(key) && !skip(key));
            wanted.map(|(key, id)| (key, id.to_owned())).collect()
        })
    }

    /// The file was seen under its name.
    pub(super) fn stored(&self, key: &Key, id: &str) -> Result<()> {
        if self.entry(key)? == Some(Entry::Stored(id.to_owned())) {
            return Ok(());
        }
        self.record(&[Fact::Stored { name: key.as_str().to_owned(), id: id.to_owned() }])
    }

    /// These files were seen under their names.
    pub(super) fn stored_many(&self, files: impl Iterator<Item = (String, String)>) -> Result<()> {
        let new: Vec<Fact> = files.map(|(name, id)| Fact::Stored { name, id }).collect();
        self.record(&new)
    }

    /// A file is about to be made.
    pub(super) fn planned(&self, key: &Key, plan: &Plan) -> Result<()> {
        self.record(&[Fact::Planned {
            name: key.as_str().to_owned(),
            id: plan.id.clone(),
            size: plan.size,
            sha256: plan.sha256.to_string(),
            at: seconds_now(),
        }])
    }

    /// The file of this id is not (or no longer) the object; nothing is forgotten if another one is.
    pub(super) fn forget(&self, key: &Key, id: &str) -> Result<()> {
        self.record(&[Fact::Forgotten { name: key.as_str().to_owned(), id: id.to_owned() }])
    }

    /// The file was removed.
    pub(super) fn removed(&self, key: &Key, id: &str) -> Result<()> {
        self.record(&[Fact::Removed { name: key.as_str().to_owned(), id: id.to_owned() }])
    }

    /// Whether the file was removed a short while ago: a listing may still have it.
    pub(super) fn was_removed(&self, id: &str) -> Result<bool> {
        self.read(|facts| facts.was_removed(id))
    }

    /// The address of an unfinished upload of exactly these bytes into this file, if there is one young enough.
    pub(super) fn session(&self, plan: &Plan) -> Result<Option<String>> {
        let now = seconds_now();
        self.read(|facts| facts.session(plan, now))
    }

    /// An upload was begun.
    pub(super) fn session_began(&self, plan: &Plan, url: &str) -> Result<()> {
        self.record(&[Fact::Session {
            id: plan.id.clone(),
            url: url.to_owned(),
            size: plan.size,
            sha256: plan.sha256.to_string(),
            at: seconds_now(),
        }])
    }

    /// The upload into this file is finished, or lost.
    pub(super) fn session_over(&self, id: &str) -> Result<()> {
        self.record(&[Fact::SessionOver { id: id.to_owned() }])
    }

    /// The folders for objects of an area, as far as they are known.
    pub(super) fn folders(&self, area: &str) -> Result<Vec<String>> {
        self.read(|facts| facts.folders(area))
    }

    /// A folder for objects of an area.
    pub(super) fn folder(&self, area: &str, id: &str) -> Result<()> {
        if self.folders(area)?.iter().any(|known| known == id) {
            return Ok(());
        }
        self.record(&[Fact::Folder { area: area.to_owned(), id: id.to_owned() }])
    }

    /// The folder is not there any more.
    pub(super) fn folder_gone(&self, area: &str, id: &str) -> Result<()> {
        self.record(&[Fact::FolderGone { area: area.to_owned(), id: id.to_owned() }])
    }
}

/// Seconds since 1970 by this machine's clock, only ever compared with itself.
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
