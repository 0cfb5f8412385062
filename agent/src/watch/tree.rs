//! The directories that are watched, and what their events mean.
//!
//! Every directory below a path has a watch of the kernel's. So has the directory above a path (or the nearest that is there), for the name of the
//! path alone: that tells when it comes, goes, or is replaced. When a directory is moved, or events were lost, all watches are made anew: their paths
//! would be wrong.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::Ignore;
use super::look::{Look, look};

const BUFFER_BYTES: usize = 64 << 10;
/// Names that come, go, or are changed.
const OF_NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    // One directory may be watched for two reasons: the second takes nothing from the first.
    .union(WatchFlags::MASK_ADD);
/// That, and content and attributes. Not the closing of a file that was opened for writing: opening is no change.
const OF_ALL: WatchFlags =
    OF_NAMES.union(WatchFlags::MODIFY).union(WatchFlags::ATTRIB).union(WatchFlags::EXCL_UNLINK);
/// After these, what is known of the paths is not true any more.
const MOVES: ReadFlags = ReadFlags::QUEUE_OVERFLOW
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::UNMOUNT);
const COMES_OR_GOES: ReadFlags =
    ReadFlags::CREATE.union(ReadFlags::DELETE).union(ReadFlags::MOVED_FROM).union(ReadFlags::MOVED_TO);

/// What of a file counts as a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    Always,
    /// Only what is written to it.
    Written,
    Never,
}

/// By its name: readers of a SQLite database make and remove files beside it, too.
pub fn counts(name: &OsStr) -> Counts {
    match name.as_bytes() {
        name if name.ends_with(b"-shm") => Counts::Never,
        name if name.ends_with(b"-wal") => Counts::Written,
        _ => Counts::Always,
    }
}

/// A directory with a watch.
#[derive(Debug, Default)]
struct Watched {
    path: PathBuf,
    /// All in it counts.
    all: bool,
    /// These names lead to a path that is watched, or (`true`) are one.
    names: Vec<(OsString, bool)>,
}

/// All that is watched.
pub struct Tree {
    roots: Vec<PathBuf>,
    ignore: Ignore,
    inotify: Option<OwnedFd>,
    watched: HashMap<i32, Watched>,
    /// What the roots were when they were watched: device and inode.
    identities: Vec<Option<(u64, u64)>>,
    /// The limit that the kernel has reached, by its name.
    limit: Option<&'static str>,
    /// A directory that cannot be watched, why, and how many there are.
    unwatched: Option<(PathBuf, Errno, u64)>,
}

impl Tree {
    /// Watches paths with all below them.
    pub fn of(paths: Vec<PathBuf>, ignore: Ignore) -> Self {
        let mut tree = Self {
            // As they are named, but for "..", ".", and what they are relative to.
            roots: paths
                .iter()
                .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
                .collect(),
            ignore,
            inotify: None,
            watched: HashMap::new(),
            identities: Vec::new(),
            limit: None,
            unwatched: None,
        };
        tree.watch_again();
        tree
    }

    /// What is readable when there are events.
    pub const fn events(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }

    /// Whether the kernel does not tell of all changes.
    pub const fn is_blind(&self) -> bool {
        self.limit.is_some()
    }

    /// What the tree looks like.
    pub fn look(&self) -> Look {
        look(&self.roots, &self.ignore)
    }

    /// Whether a path names something else than what is watched.
    pub fn is_elsewhere(&self) -> bool {
        self.identities() != self.identities
    }

    /// What is seen late or not at all.
    pub fn trouble(&self) -> Option<String> {
        let first = self.roots.first()?.display();
        if let Some(limit) = self.limit {
            return Some(format!(
                "{first} cannot be watched: the system has reached its limit {limit}. Changes are looked for every minute instead, or more \
                 rarely in a large tree. Raise it: sysctl {limit}=1048576, and the same in /etc/sysctl.d"
            ));
        }
        let (path, why, count) = self.unwatched.as_ref()?;
        let more = count.saturating_sub(1);
        let others = if more == 0 { String::new() } else { format!(" and {more} more") };
        Some(format!(
            "{}{others} cannot be watched: {}. Changes there are found by schedule only",
            path.display(),
            crate::error::describe_io(&(*why).into())
        ))
    }

    /// Begins anew, with what is there now.
    pub fn watch_again(&mut self) {
        self.watched.clear();
        (self.limit, self.unwatched) = (None, None);
        self.inotify = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(inotify) => Some(inotify),
            Err(_) => {
                self.limit = Some("fs.inotify.max_user_instances");
                None
            }
        };
        self.identities = self.identities();
        for root in self.roots.clone() {
            self.watch_name(&root);
            if root.is_dir() {
                self.watch_below(&root);
            }
        }
    }

    /// Reads what events there are. Whether anything changed.
    pub fn read_events(&mut self) -> bool {
        let Some(inotify) = self.inotify.take() else { return false };
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&inotify, &mut buffer);
        let (mut outcome, mut new_directories) = (Outcome::default(), Vec::new());
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    new_directories.extend(self.take(event.wd(), event.events(), name, &mut outcome));
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                // What cannot be read is begun anew.
                Err(_) => outcome = Outcome { changed: true, anew: true },
            }
            if reader.is_buffer_empty() || outcome.anew {
                break;
            }
        }
        self.inotify = Some(inotify);
        if outcome.anew {
            let before = self.identities.clone();
            self.watch_again();
            outcome.changed |= before != self.identities;
        } else {
            new_directories.iter().for_each(|path| self.watch_below(path));
        }
        outcome.changed
    }

    /// What an event means. A directory that is new is given back.
    fn take(
        &mut self,
        watch: i32,
        events: ReadFlags,
        name: Option<&OsStr>,
        outcome: &mut Outcome,
    ) -> Option<PathBuf> {
        if events.intersects(MOVES) {
            let is_of_all = events.contains(ReadFlags::QUEUE_OVERFLOW);
            let known = self.watched.get(&watch);
            // A directory that goes is told by the one above it, too, unless that is not watched.
            let is_below = known.is_some_and(|known| known.all && !self.roots.contains(&known.path));
            let is_moved = events.intersects(ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT);
            outcome.changed |= is_of_all;
            outcome.anew |= is_of_all || known.is_some() && (!is_below || is_moved);
        }
        if events.contains(ReadFlags::IGNORED) {
            self.watched.remove(&watch);
            return None;
        }
        let known = self.watched.get(&watch)?;
        let Some(name) = name else {
            // The directory itself.
            outcome.changed |= known.all && events.contains(ReadFlags::ATTRIB);
            return None;
        };
        outcome.changed |= counted(name, events)
            && known.names.iter().any(|(known, is_root)| *is_root && is_of(known, name));
        // A path, or what leads to it, came, went or was replaced.
        outcome.anew |=
            events.intersects(COMES_OR_GOES) && known.names.iter().any(|(known, _)| known == name);
        let path = known.path.join(name);
        if !known.all || !counted(name, events) || (self.ignore)(&path) {
            return None;
        }
        outcome.changed = true;
        let is_directory = events.contains(ReadFlags::ISDIR);
        // What is below it has another path now.
        outcome.anew |= is_directory && events.contains(ReadFlags::MOVED_FROM);
        (is_directory && events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)).then_some(path)
    }

    /// Watches for the name of a path, in the nearest directory above it that is there.
    fn watch_name(&mut self, path: &Path) {
        let mut below = path;
        while let (Some(parent), Some(name)) = (below.parent(), below.file_name()) {
            if parent.is_dir() {
                let is_file = below == path && path.is_file();
                let flags = if is_file { OF_ALL } else { OF_NAMES };
                if let Some(watched) = self.add(parent, flags) {
                    watched.names.push((name.to_owned(), below == path));
                }
                return;
            }
            below = parent;
        }
    }

    /// Watches a directory and all below it.
    fn watch_below(&mut self, path: &Path) {
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            let is_root = self.roots.contains(&path);
            let flags = if is_root { OF_ALL } else { OF_ALL | WatchFlags::DONT_FOLLOW };
            let Some(watched) = self.add(&path, flags) else { continue };
            // After the watch is there: what comes later is told, what came before is found here.
            watched.all = true;
            let Ok(entries) = fs::read_dir(&path) else { continue };
            let directories =
                entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(directories.map(|entry| entry.path()).filter(|path| !(self.ignore)(path)));
        }
    }

    fn add(&mut self, path: &Path, flags: WatchFlags) -> Option<&mut Watched> {
        let inotify = self.inotify.as_ref()?;
        if self.limit.is_some() {
            return None;
        }
        match inotify::add_watch(inotify, path, flags) {
            Ok(watch) => {
                let watched = self.watched.entry(watch).or_default();
                path.clone_into(&mut watched.path);
                Some(watched)
            }
            Err(Errno::NOSPC) => {
                self.limit = Some("fs.inotify.max_user_watches");
                None
            }
            // It went in the meantime, or became a file.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(why) => {
                let entry = self.unwatched.get_or_insert_with(|| (path.to_owned(), why, 0));
                entry.2 += 1;
                None
            }
        }
    }

    fn identities(&self) -> Vec<Option<(u64, u64)>> {
        let identity = |path: &PathBuf| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        self.roots.iter().map(identity).collect()
    }
}

#[derive(Debug, Default)]
struct Outcome {
    changed: bool,
    /// The paths of watches are not true any more.
    anew: bool,
}

fn counted(name: &OsStr, events: ReadFlags) -> bool {
    match counts(name) {
        Counts::Always => true,
        Counts::Written => events.contains(ReadFlags::MODIFY),
        Counts::Never => false,
    }
}

/// Whether a name is that of a path, or of what SQLite keeps beside it.
fn is_of(path: &OsStr, name: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(path.as_bytes());
    rest.is_some_and(|rest| [&b""[..], b"-wal", b"-journal"].contains(&rest))
}
