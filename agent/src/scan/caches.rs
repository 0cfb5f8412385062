//! Lifeboat's own caches: they change while they are backed up and are of no use to anybody.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::backup::Plan;

/// Patterns that leave them out. Patterns cost time, so there are some only where caches lie in what is backed up.
pub fn patterns_within(directory: &Path, plan: &Plan) -> Vec<String> {
    let is_inside = |cache: &PathBuf| {
        plan.paths_and_targets().any(|path| cache.starts_with(Path::new(OsStr::from_bytes(path))))
    };
    own(directory).iter().filter(|cache| is_inside(cache)).filter_map(|cache| pattern_of(cache)).collect()
}

/// The caches of single repositories in the directory for caches, and copies of databases that are backed up; a person may have other files
/// there, too, which are backed up.
pub fn own(directory: &Path) -> Vec<PathBuf> {
    let copies = directory.join(crate::source::copies::FOLDER);
    let is_id = |name: &OsString| name.len() == 32 && name.as_bytes().iter().all(u8::is_ascii_hexdigit);
    let Ok(real) = std::fs::canonicalize(directory) else { return Vec::new() };
    let entries = std::fs::read_dir(real).into_iter().flatten().flatten();
    let caches = entries.filter(|entry| is_id(&entry.file_name())).map(|entry| entry.path());
    let caches = caches.filter(|cache| cache.join("CACHEDIR.TAG").is_file());
    caches.chain(std::fs::canonicalize(copies).ok()).collect()
}

fn pattern_of(path: &Path) -> Option<String> {
    let mut pattern = String::new();
    for c in path.to_str()?.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | ' ') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Some(pattern)
}
