//! Which entries of a snapshot are restored: `--include` and `--exclude` with gitignore patterns.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::{Error, Result};

/// Which entries are restored, by their absolute path in the snapshot.
#[derive(Debug)]
pub struct Selection {
    include: Option<Gitignore>,
    exclude: Gitignore,
}

impl Default for Selection {
    /// All.
    fn default() -> Self {
        Self { include: None, exclude: Gitignore::empty() }
    }
}

impl Selection {
    /// Only what matches one of `include` (all, if there is none) and nothing that matches one of `exclude`.
    ///
    /// # Errors
    /// `Usage` for a pattern that cannot be understood.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let include = if include.is_empty() { None } else { Some(patterns("--include", include)?) };
        Ok(Self { include, exclude: patterns("--exclude", exclude)? })
    }

    /// Whether only a part is restored, so that directories are made only when something in them is.
    pub const fn is_partial(&self) -> bool {
        self.include.is_some()
    }

    /// Whether anything was left out or picked.
    pub fn is_filter(&self) -> bool {
        self.include.is_some() || !self.exclude.is_empty()
    }

    /// Whether the entry, with all below it, is left out.
    pub fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        !self.exclude.is_empty() && self.exclude.matched(as_path(path), is_dir).is_ignore()
    }

    /// Whether the entry itself is picked, by its own name or a directory's above it.
    pub fn includes(&self, path: &[u8], is_dir: bool) -> bool {
        match &self.include {
            Some(include) => include.matched_path_or_any_parents(as_path(path), is_dir).is_ignore(),
            None => true,
        }
    }
}

fn patterns(option: &str, list: &[String]) -> Result<Gitignore> {
    let mut builder = GitignoreBuilder::new("/");
    let bad = |pattern: &str, e: ignore::Error| {
        Error::usage(format_args!("{option} {pattern:?}: {e}"))
            .with_hint("Patterns are written as in .gitignore.")
    };
    for pattern in list {
        builder.add_line(None, pattern).map_err(|e| bad(pattern, e))?;
    }
    builder.build().map_err(|e| bad("", e))
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn includes_reach_below_directories() {
        let selection = selection(&["/srv/data", "*.conf"], &[]);
        assert!(selection.includes(b"/srv/data", true));
        assert!(selection.includes(b"/srv/data/a/b", false));
        assert!(selection.includes(b"/etc/x.conf", false));
        assert!(!selection.includes(b"/srv", true));
        assert!(!selection.includes(b"/etc/x.conf.d.txt", false));
    }

    #[test]
    fn excludes_win() {
        let selection = selection(&["/srv"], &["*.log"]);
        assert!(selection.excludes(b"/srv/a.log", false));
        assert!(!selection.excludes(b"/srv/a.txt", false));
    }
}
