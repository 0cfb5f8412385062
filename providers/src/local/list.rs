//! Listing: a walk over folders that holds one open handle per level and a batch of entries, however many
//! objects there are.
//!
//! Folders are read one after the other, each in the order the file system gives. Symbolic links, temporary
//! files and names that no key can spell are left out and never descended into.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use rustix::fd::AsFd as _;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, statat};
use rustix::io::Errno;

use super::errno::translate;
use super::read::describe;
use super::root::{Root, open_one};
use crate::{Error, Key, ObjectInfo, Prefix, Result};

/// Entries fetched by one visit to a blocking thread: enough to make the visit's cost vanish.
const BATCH_ENTRIES: usize = 512;

/// All objects in a folder and below.
pub(super) fn list(root: Arc<Root>, prefix: &Prefix) -> BoxStream<'static, Result<ObjectInfo>> {
    let walk = Walk { root, start: Some(prefix.as_str().to_owned()), levels: Vec::new() };
    let listing = Listing { walk: Some(walk), ready: VecDeque::new() };
    stream::unfold(listing, |mut listing| async move { Some((listing.next().await?, listing)) })
        .fuse()
        .boxed()
}

/// Entries ready to be handed out, and the walk that finds more until it is finished or failed.
struct Listing {
    walk: Option<Walk>,
    ready: VecDeque<Result<ObjectInfo>>,
}

impl Listing {
    async fn next(&mut self) -> Option<Result<ObjectInfo>> {
        while self.ready.is_empty() {
            let walk = self.walk.take()?;
            match super::blocking("list", &walk.subject(), move || Ok(walk.batch())).await {
                Ok((walk, batch)) => (self.walk, self.ready) = (walk, batch),
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.pop_front()
    }
}

struct Walk {
    root: Arc<Root>,
    /// The folder to begin with, until it has been opened.
    start: Option<String>,
    /// The folders from there down to the one being read.
    levels: Vec<Level>,
}

struct Level {
    dir: Dir,
    /// The folder's path below the root, empty for the root.
    path: String,
}

/// What an entry of a folder is to a listing.
enum Entry {
    Object(ObjectInfo),
    Folder(Level),
    Foreign,
}

impl Walk {
    /// The next entries, and the walk itself if there may be more.
    fn batch(mut self) -> (Option<Self>, VecDeque<Result<ObjectInfo>>) {
        let mut batch = VecDeque::with_capacity(BATCH_ENTRIES);
        while batch.len() < BATCH_ENTRIES {
            match self.step() {
                Ok(Some(Entry::Object(info))) => batch.push_back(Ok(info)),
                Ok(Some(Entry::Folder(level))) => self.levels.push(level),
                Ok(Some(Entry::Foreign)) => {}
                Ok(None) => return (None, batch),
                Err(error) => {
                    batch.push_back(Err(error));
                    return (None, batch);
                }
            }
        }
        (Some(self), batch)
    }

    /// One entry further; `None` at the end.
    fn step(&mut self) -> Result<Option<Entry>> {
        if let Some(start) = self.start.take() {
            return match self.root.open_folder(&start).and_then(Dir::new) {
                Ok(dir) => Ok(Some(Entry::Folder(Level { dir, path: start }))),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(errno) => Err(self.failed(&start, errno)),
            };
        }
        while let Some(level) = self.levels.last_mut() {
            match level.dir.read() {
                Some(Ok(entry)) => {
                    let found = level.entry(entry.file_name().to_bytes());
                    return found.map(Some).map_err(|(path, errno)| self.failed(&path, errno));
                }
                Some(Err(errno)) => {
                    let path = level.path.clone();
                    return Err(self.failed(&path, errno));
                }
                None => self.levels.pop(),
            };
        }
        Ok(None)
    }

    fn failed(&self, path: &str, errno: Errno) -> Error {
        translate("list", &self.root.path().join(path).display(), errno)
    }

    fn subject(&self) -> String {
        let path = self.start.as_deref().or_else(|| self.levels.last().map(|level| level.path.as_str()));
        self.root.path().join(path.unwrap_or_default()).display().to_string()
    }
}

impl Level {
    fn entry(&self, name: &[u8]) -> Result<Entry, (String, Errno)> {
        let Some((name, key)) = std::str::from_utf8(name).ok().and_then(|name| Some((name, self.key(name)?)))
        else {
            return Ok(Entry::Foreign);
        };
        let failed = |errno| (key.as_str().to_owned(), errno);
        let folder = self.dir.fd().map_err(failed)?;
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Entry::Foreign),
            Err(errno) => return Err(failed(errno)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Entry::Object(describe(key, &stat))),
            FileType::Directory => self.descend(name, key.as_str()),
            FileType::Symlink => {
                tracing::warn!(%key, "a symbolic link inside the store was left out of a listing");
                Ok(Entry::Foreign)
            }
            _ => Ok(Entry::Foreign),
        }
    }

    fn descend(&self, name: &str, path: &str) -> Result<Entry, (String, Errno)> {
        let failed = |errno| (path.to_owned(), errno);
        let folder = self.dir.fd().map_err(failed)?;
        match open_one(folder.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY).and_then(Dir::new) {
            Ok(dir) => Ok(Entry::Folder(Level { dir, path: path.to_owned() })),
            // Removed, or exchanged for something else, since it was looked at.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Entry::Foreign),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// The key an entry of this name has, if a key can have such a name.
    fn key(&self, name: &str) -> Option<Key> {
        if self.path.is_empty() { Key::new(name) } else { Key::new(format!("{}/{name}", self.path)) }.ok()
    }
}
