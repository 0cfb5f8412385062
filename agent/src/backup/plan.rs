//! Which paths are backed up, as a tree from the root: what lies between is recorded as the way there.
//!
//! A leaf of the tree is a path of the file system, or a file that is [given](Given): its bytes come from elsewhere.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use parking_lot::Mutex;

use crate::error::describe_io;
use crate::fetch::walk::components;
use crate::repository::OwnDirectories;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::{Meta, path_text};
use crate::{Error, Result};

/// A file whose bytes do not come from its path: a stream, or a copy that was made elsewhere.
///
/// It is all or nothing: a reader that fails ends the run with its error, and there is no snapshot. A reader may hand out an [`Error`] of this
/// crate inside its I/O error: then the run ends with that.
pub struct Given {
    /// The file's absolute path in the snapshot. Directories on the way that are there are recorded as they are, others are made up.
    pub path: Vec<u8>,
    /// Owner, mode, times of the original, if there is one; else it is a file of mode 0600 that was made now.
    pub meta: Option<Meta>,
    /// Its bytes, read once to their end.
    pub bytes: Box<dyn Read + Send>,
}

/// A given file on its way to the one worker that reads it.
pub(super) struct GivenFile {
    pub(super) meta: Option<Meta>,
    pub(super) bytes: Mutex<Option<Box<dyn Read + Send>>>,
}

/// Paths to back up, and files that are given. Clones share what is given, which can be read once: a second run needs a plan of its own.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    paths: Vec<Vec<u8>>,
    /// Of them, those that are given.
    given: Vec<Vec<u8>>,
    pub(super) root: Node,
    /// Links that were named and whose targets are backed up too.
    pub followed: Vec<(Vec<u8>, Vec<u8>)>,
    /// Paths that were named and cannot be found: the others are backed up, and the snapshot says so.
    pub(super) missing: Vec<Missing>,
    /// Patterns by which it was made up, each with its text: what they matched last time is expected again.
    expected: Vec<(Vec<u8>, Pattern)>,
}

/// A path that was named and cannot be found.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    pub(super) path: Vec<u8>,
    pub(super) kind: FileErrorKind,
    pub(super) message: String,
}

/// One directory on the way to what is backed up, or that itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// All of it is backed up.
    pub(super) whole: bool,
    /// It is a file that is given.
    pub(super) given: Option<Arc<GivenFile>>,
    /// Names below it that lead to what is backed up.
    pub(super) children: BTreeMap<Box<[u8]>, Self>,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.whole && self.given.is_none() && self.children.is_empty()
    }

    /// Reads what is given below it to the end: how many files and bytes.
    fn read_given(&self) -> std::io::Result<(u64, u64)> {
        let own = self.given.as_ref().and_then(|given| given.bytes.lock().take());
        let mut read = match own {
            Some(mut bytes) => (1, std::io::copy(&mut bytes, &mut std::io::sink())?),
            None => (0, 0),
        };
        for child in self.children.values() {
            let (files, bytes) = child.read_given()?;
            read = (read.0 + files, read.1 + bytes);
        }
        Ok(read)
    }

    /// Whether it is a given file, or there is one below it.
    pub(super) fn leads_to_given(&self) -> bool {
        self.given.is_some() || self.children.values().any(Self::leads_to_given)
    }
}

impl std::fmt::Debug for GivenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GivenFile")
    }
}

impl Plan {
    /// A plan for paths as people name them: made absolute, with links on the way resolved. A link that is named itself is kept as a
    /// link, and what it leads to is backed up too: who says "back up /data" means the data.
    ///
    /// One path of several that cannot be found is an error of the snapshot, like any other path that cannot be read: the others are
    /// worth a backup.
    ///
    /// # Errors
    /// `Usage` if none of the paths can be found.
    pub fn new(paths: &[Vec<u8>]) -> Result<Self> {
        let mut plan = Self::default();
        for path in paths {
            let real = match resolve(path) {
                Ok(real) => real,
                Err(e) => {
                    plan.miss(path, &e);
                    continue;
                }
            };
            if let Ok(target) = std::fs::canonicalize(as_path(&real))
                && as_bytes(&target) != real
            {
                plan.followed.push((real.clone(), as_bytes(&target).to_vec()));
                plan.insert(as_bytes(&target));
            }
            plan.insert(&real);
            plan.paths.push(real);
        }
        plan.paths.sort_unstable();
        plan.paths.dedup();
        plan.missing.sort_by(|a, b| a.path.cmp(&b.path));
        plan.missing.dedup_by(|a, b| a.path == b.path);
        match plan.missing.first() {
            Some(first) if plan.root.is_empty() => Err(nothing_found(first, plan.missing.len())),
            _ => Ok(plan),
        }
    }

    /// Adds a file that is given.
    ///
    /// # Errors
    /// `Usage` if its path is none of a file, or in the way of another path of the plan.
    pub fn give(&mut self, given: Given) -> Result<()> {
        let Given { path, meta, bytes } = given;
        let refuse = |why: &str| {
            Error::usage(format_args!(
                "{} cannot be a file of the snapshot: {why}",
                path_text::display(&path)
            ))
        };
        let is_plain = |name: &[u8]| !matches!(name, b"." | b"..");
        if !path.starts_with(b"/") || path.ends_with(b"/") || !components(&path).all(is_plain) {
            return Err(refuse("it must be an absolute path of a file, without `..`"));
        }
        let mut node = &mut self.root;
        for name in components(&path) {
            if node.given.is_some() {
                return Err(refuse("a directory on its path is a file itself"));
            }
            node = node.children.entry(name.into()).or_default();
        }
        if !node.is_empty() {
            return Err(refuse("this path is backed up already"));
        }
        node.given = Some(Arc::new(GivenFile { meta, bytes: Mutex::new(Some(bytes)) }));
        self.note(path.clone());
        self.given.push(path);
        Ok(())
    }

    /// Reads all given files to their end, for whoever tries a source: how many they are, and their bytes. Then they are gone.
    ///
    /// # Errors
    /// The first reader's.
    pub fn read_given(&self) -> Result<(u64, u64)> {
        self.root.read_given().map_err(|e| match e.downcast::<Error>() {
            Ok(own) => own,
            Err(e) => Error::io("cannot read it", e),
        })
    }

    /// Notes a path that belongs to what is backed up and cannot be: an error of the snapshot. As in [`Plan::new`], the others are worth one.
    pub fn lack(&mut self, path: &[u8], kind: FileErrorKind, message: impl Into<String>) {
        self.note(path.to_vec());
        self.missing.push(Missing { path: path.to_vec(), kind, message: message.into() });
        self.missing.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// What a pattern matched in the last snapshot is expected again: if it is gone, that is told. `written` is the pattern's own text.
    pub fn expect(&mut self, written: &[u8], pattern: Pattern) {
        self.expected.push((written.to_vec(), pattern));
    }

    /// Whether one of its patterns matches a path of a file. A pattern that matched nothing stands among a snapshot's paths, too, and is no file.
    pub(super) fn expects(&self, path: &[u8]) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
        let text = String::from_utf8_lossy(path);
        let is_pattern = self.expected.iter().any(|(written, _)| written == path);
        !is_pattern && self.expected.iter().any(|(_, pattern)| pattern.matches_with(&text, options))
    }

    /// What was named and found, but for what is given.
    pub(super) fn roots(&self) -> impl Iterator<Item = &[u8]> {
        let is_missing = |path: &[u8]| self.missing.iter().any(|missing| missing.path == path);
        self.paths_and_targets()
            .map(Vec::as_slice)
            .filter(move |path| !is_missing(path) && !self.given.iter().any(|given| given == path))
    }

    /// Whether any of its files is given: then it serves one run only.
    pub fn has_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// The paths that belong to it and cannot be backed up, with the reasons.
    pub fn lacking(&self) -> impl Iterator<Item = (&[u8], &str)> {
        self.missing.iter().map(|missing| (&*missing.path, &*missing.message))
    }

    fn note(&mut self, path: Vec<u8>) {
        if let Err(at) = self.paths.binary_search(&path) {
            self.paths.insert(at, path);
        }
    }

    /// Notes a path that cannot be found. It stays one of the snapshot's paths: what was asked for has not changed, and the next run
    /// compares with this one.
    fn miss(&mut self, path: &[u8], error: &std::io::Error) {
        let path = absolute(path);
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => FileErrorKind::Vanished,
            _ => FileErrorKind::Unreadable,
        };
        self.paths.push(path.clone());
        self.missing.push(Missing { path, kind, message: describe_io(error) });
    }

    /// The first path named and what it lies in, if all that were found are among these directories or lie in them.
    pub(super) fn all_inside(&self, own: &OwnDirectories) -> Option<(&[u8], &'static str)> {
        let is_missing = |path: &[u8]| self.missing.binary_search_by(|m| (*m.path).cmp(path)).is_ok();
        // What is given comes from elsewhere, wherever it appears.
        let found = self.paths.iter().filter(|path| !is_missing(path) && !self.given.contains(path));
        let mut all = found.map(|path| own.holding(as_path(path)).map(|what| (path.as_slice(), what)));
        let first = all.next()??;
        all.all(|inside| inside.is_some()).then_some(first)
    }

    /// The paths, absolute and in order.
    pub fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }

    /// The paths, and what those lead to that are links and are followed.
    pub fn paths_and_targets(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.paths.iter().chain(self.followed.iter().map(|(_, target)| target))
    }

    fn insert(&mut self, path: &[u8]) {
        let mut node = &mut self.root;
        for name in components(path) {
            node = node.children.entry(name.into()).or_default();
        }
        node.whole = true;
    }
}

fn nothing_found(first: &Missing, count: usize) -> Error {
    let path = path_text::display(&first.path);
    let error = match count {
        1 => Error::usage(format_args!("cannot back up {path}: {}", first.message)),
        _ => Error::usage(format_args!(
            "cannot back up any of the {count} paths; the first is {path}: {}",
            first.message
        )),
    };
    error.with_hint("Check the path; nothing was backed up.")
}

/// Makes a path absolute and resolves the links on the way, but not its last component.
fn resolve(path: &[u8]) -> std::io::Result<Vec<u8>> {
    let given = as_path(path);
    std::fs::symlink_metadata(given)?;
    let names_itself = given.file_name().is_some() && !path.ends_with(b"/") && !path.ends_with(b"/.");
    let (true, Some(name)) = (names_itself, given.file_name()) else {
        return Ok(as_bytes(&std::fs::canonicalize(given)?).to_vec());
    };
    let real = std::fs::canonicalize(parent(given))?.join(name);
    Ok(as_bytes(&real).to_vec())
}

/// The absolute path of what is not there: as [`resolve`] would make it, as far as the way exists.
fn absolute(path: &[u8]) -> Vec<u8> {
    let given = as_path(path);
    let real = match (given.file_name(), std::fs::canonicalize(parent(given))) {
        (Some(name), Ok(parent)) => parent.join(name),
        _ => std::path::absolute(given).unwrap_or_else(|_| given.to_path_buf()),
    };
    as_bytes(&real).to_vec()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn as_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
