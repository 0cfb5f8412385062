//! Which paths are backed up, as a tree from the root: what lies between is recorded as the way there.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::error::describe_io;
use crate::fetch::walk::components;
use crate::repository::OwnDirectories;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::path_text;
use crate::{Error, Result};

/// Paths to back up.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    paths: Vec<Vec<u8>>,
    pub(super) root: Node,
    /// Links that were named and whose targets are backed up too.
    pub followed: Vec<(Vec<u8>, Vec<u8>)>,
    /// Paths that were named and cannot be found: the others are backed up, and the snapshot says so.
    pub(super) missing: Vec<Missing>,
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
    /// Names below it that lead to what is backed up.
    pub(super) children: BTreeMap<Box<[u8]>, Self>,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.whole && self.children.is_empty()
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
        let found = self.paths.iter().filter(|path| !is_missing(path));
        let mut all = found.map(|path| own.holding(as_path(path)).map(|what| (path.as_slice(), what)));
        let first = all.next()??;
        all.all(|inside| inside.is_some()).then_some(first)
    }

    /// A plan for one stream that will appear at an absolute path.
    pub fn for_stream(path: &[u8]) -> Self {
        Self { paths: vec![path.to_vec()], ..Self::default() }
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
