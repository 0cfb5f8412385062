//! Paths and patterns as they are configured, and what they mean now.
//!
//! `*`, `?` and `[…]` stand for a part of one name, also of a hidden one, `**` for any number of directories; links to directories are
//! followed where a name was matched, not by `**`. A path that is there as it is written is no pattern. Names need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::describe_io;
use crate::snapshot::manifest::FileErrorKind;

/// What paths and patterns mean.
#[derive(Debug, Default)]
pub struct Expanded {
    /// Paths without patterns, whether they are there or not, and what patterns match; in order, each once.
    pub paths: Vec<PathBuf>,
    /// Patterns that match nothing, and directories that could not be looked through for them.
    pub lacking: Vec<Lacking>,
}

/// What belongs to a source and cannot be had.
#[derive(Debug)]
pub struct Lacking {
    /// The path or pattern.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: FileErrorKind,
    /// The reason.
    pub message: String,
}

/// Looks at what is there now.
pub fn expand(paths: &[PathBuf]) -> Expanded {
    let mut all = Expanded::default();
    for path in paths {
        if path.symlink_metadata().is_ok() || !has_pattern(path.as_os_str()) {
            all.paths.push(path.clone());
            continue;
        }
        let before = (all.paths.len(), all.lacking.len());
        let parts: Vec<&OsStr> = path.components().skip(1).map(|part| part.as_os_str()).collect();
        all.walk(Path::new("/"), &parts);
        if before == (all.paths.len(), all.lacking.len()) {
            let message = "nothing matches this pattern".to_owned();
            let path = path.as_os_str().as_bytes().to_vec();
            all.lacking.push(Lacking { path, kind: FileErrorKind::Vanished, message });
        }
    }
    all.paths.sort_unstable();
    all.paths.dedup();
    all
}

/// The patterns of `paths`, each with its own text, as they match the real paths of what they mean: links on the way to their first part are resolved.
pub fn patterns(paths: &[PathBuf]) -> Vec<(Vec<u8>, glob::Pattern)> {
    let of_path = |path: &PathBuf| {
        let is_plain = |part: &&OsStr| !has_pattern(part);
        let parts = || path.components().map(|part| part.as_os_str());
        let way: PathBuf = parts().take_while(is_plain).collect();
        let rest: PathBuf = parts().skip_while(is_plain).collect();
        if rest.as_os_str().is_empty() {
            return None;
        }
        let real = way.canonicalize().unwrap_or(way);
        let text = Path::new(&glob::Pattern::escape(&real.to_string_lossy())).join(&rest);
        let pattern = glob::Pattern::new(&text.to_string_lossy()).ok()?;
        Some((path.as_os_str().as_bytes().to_vec(), pattern))
    };
    paths.iter().filter_map(of_path).collect()
}

/// Whether it has a sign that stands for something else.
fn has_pattern(text: &OsStr) -> bool {
    text.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

impl Expanded {
    fn walk(&mut self, base: &Path, parts: &[&OsStr]) {
        let Some((part, rest)) = parts.split_first() else {
            if base.symlink_metadata().is_ok() {
                self.paths.push(base.to_path_buf());
            }
            return;
        };
        if *part == "**" {
            self.walk(base, rest);
            for (name, is_real_directory) in self.names(base) {
                if is_real_directory {
                    self.walk(&base.join(name), parts);
                }
            }
            return;
        }
        let text = part.to_string_lossy();
        let pattern = glob::Pattern::new(&text).ok().filter(|_| has_pattern(part));
        let Some(pattern) = pattern else { return self.walk(&base.join(part), rest) };
        for (name, _) in self.names(base) {
            if pattern.matches(&name.to_string_lossy()) {
                self.walk(&base.join(name), rest);
            }
        }
    }

    /// The names in a directory, and whether they are directories and no links. What is no directory has none.
    fn names(&mut self, directory: &Path) -> Vec<(OsString, bool)> {
        let read = std::fs::read_dir(directory).and_then(|entries| {
            let name = |entry: std::io::Result<std::fs::DirEntry>| {
                let entry = entry?;
                Ok((entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_dir())))
            };
            entries.map(name).collect::<std::io::Result<Vec<_>>>()
        });
        read.unwrap_or_else(|e| {
            let nothing = [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory];
            if !nothing.contains(&e.kind()) {
                let path = directory.as_os_str().as_bytes().to_vec();
                let message = format!("cannot list the directory: {}", describe_io(&e));
                self.lacking.push(Lacking { path, kind: FileErrorKind::Unreadable, message });
            }
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        for directory in ["a/deep/er", "b"] {
            std::fs::create_dir_all(real.join(directory)).unwrap();
        }
        for file in ["a/one.db", "a/two.db", "a/.three.db", "a/note", "a/deep/er/four.db", "b/[x].db"] {
            std::fs::write(real.join(file), "").unwrap();
        }
        std::fs::write(real.join(OsStr::from_bytes(b"b/\xff.db")), "").unwrap();
        std::os::unix::fs::symlink(real.join("a"), real.join("link")).unwrap();
        let found = |patterns: &[&str]| {
            let patterns: Vec<PathBuf> = patterns.iter().map(|pattern| real.join(pattern)).collect();
            let expanded = expand(&patterns);
            let short = |path: &PathBuf| path.strip_prefix(&real).unwrap().to_string_lossy().into_owned();
            (expanded.paths.iter().map(short).collect::<Vec<_>>(), expanded.lacking.len())
        };
        let all = |paths: &[&str], lacking| (paths.iter().map(|path| (*path).to_owned()).collect(), lacking);
        assert_eq!(found(&["a/*.db"]), all(&["a/.three.db", "a/one.db", "a/two.db"], 0));
        assert_eq!(found(&["a/one.*", "a/*ne.db"]), all(&["a/one.db"], 0));
        assert_eq!(found(&["b/[x].db"]), all(&["b/[x].db"], 0));
        assert_eq!(found(&["b/?.db"]), all(&["b/\u{fffd}.db"], 0));
        assert_eq!(found(&["**/four.db"]), all(&["a/deep/er/four.db"], 0));
        assert_eq!(found(&["li*/note"]), all(&["link/note"], 0));
        assert_eq!(found(&["nothing/*.db", "a/note"]), all(&["a/note"], 1));
        // What has no pattern is kept: it is said later what is wrong with it.
        assert_eq!(found(&["gone"]), all(&["gone"], 0));
    }
}
