//! Which paths are backed up, as a tree from the root: what lies between is recorded as the way there.

use std::collections::BTreeMap;

use crate::fetch::walk::components;
use crate::tree::path_text;
use crate::{Error, Result};

/// Paths to back up.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    paths: Vec<Vec<u8>>,
    pub(super) root: Node,
    /// Links that were named and whose targets are backed up too.
    pub followed: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One directory on the way to what is backed up, or that itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// All of it is backed up.
    pub(super) whole: bool,
    /// Names below it that lead to what is backed up.
    pub(super) children: BTreeMap<Box<[u8]>, Self>,
}

impl Plan {
    /// A plan for paths as people name them: made absolute, with links on the way resolved. A link that is named itself is kept as a
    /// link, and what it leads to is backed up too: who says "back up /data" means the data.
    ///
    /// # Errors
    /// `Usage` if a path is not there.
    pub fn new(paths: &[Vec<u8>]) -> Result<Self> {
        let mut plan = Self::default();
        for path in paths {
            let real = resolve(path)?;
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
        Ok(plan)
    }

    /// A plan for one stream that will appear at an absolute path.
    pub fn for_stream(path: &[u8]) -> Self {
        Self { paths: vec![path.to_vec()], ..Self::default() }
    }

    /// The paths, absolute and in order.
    pub fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }

    fn insert(&mut self, path: &[u8]) {
        let mut node = &mut self.root;
        for name in components(path) {
            node = node.children.entry(name.into()).or_default();
        }
        node.whole = true;
    }
}

/// Makes a path absolute and resolves the links on the way, but not its last component.
fn resolve(path: &[u8]) -> Result<Vec<u8>> {
    let fail = |e: std::io::Error| {
        let error = Error::io(format_args!("cannot back up {}", path_text::display(path)), e);
        Error::usage(error).with_hint("Check the path; nothing was backed up.")
    };
    let given = as_path(path);
    std::fs::symlink_metadata(given).map_err(fail)?;
    let names_itself = given.file_name().is_some() && !path.ends_with(b"/") && !path.ends_with(b"/.");
    let (true, Some(name)) = (names_itself, given.file_name()) else {
        return Ok(as_bytes(&std::fs::canonicalize(given).map_err(fail)?).to_vec());
    };
    let parent = match given.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => std::path::Path::new("."),
    };
    let real = std::fs::canonicalize(parent).map_err(fail)?.join(name);
    Ok(as_bytes(&real).to_vec())
}

fn as_path(bytes: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt as _;
    std::path::Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn as_bytes(path: &std::path::Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes()
}
