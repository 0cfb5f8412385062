//! Which processes have a database open, as far as this user may know.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{COMPANIONS, companion};

/// Messages name so many.
const NAMED_MAX: usize = 3;

/// Processes by their number, with their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holders(BTreeMap<u32, String>);

impl Holders {
    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Them in words: `python3 (1234)`; empty if none is known.
    pub fn words(&self) -> String {
        let names = self.0.iter().take(NAMED_MAX).map(|(id, name)| format!("{name} ({id})"));
        let mut words = names.collect::<Vec<_>>().join(", ");
        if self.0.len() > NAMED_MAX {
            words.push_str(&format!(" and {} more", self.0.len() - NAMED_MAX));
        }
        words
    }
}

/// The other processes that have a database, or what SQLite keeps beside it, open. Those of other users are known to root only, but for locks that
/// they hold.
pub fn of(database: &Path) -> Holders {
    let paths = COMPANIONS.iter().map(|end| companion(database, end)).chain([database.to_path_buf()]);
    let files: Vec<(u64, u64)> =
        paths.filter_map(|path| fs::metadata(path).ok()).map(|file| (file.dev(), file.ino())).collect();
    let own = std::process::id();
    let mut holders = Holders::default();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut open = open.filter_map(|handle| fs::metadata(handle.path()).ok());
        if id != own && open.any(|file| files.contains(&(file.dev(), file.ino()))) {
            holders.0.insert(id, name_of(id));
        }
    }
    for (id, inode) in fs::read_to_string("/proc/locks").iter().flat_map(|text| text.lines()).filter_map(lock)
    {
        if id != own && files.iter().any(|file| file.1 == inode) {
            holders.0.insert(id, name_of(id));
        }
    }
    holders
}

/// The process and the inode in a line such as `1: POSIX  ADVISORY  WRITE 708 08:01:1234 0 EOF`.
fn lock(line: &str) -> Option<(u32, u64)> {
    let mut words = line.split_whitespace().skip(1).filter(|word| *word != "->");
    let id = words.nth(3)?.parse().ok()?;
    let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
    Some((id, inode))
}

fn name_of(id: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { "a process".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_locks_are_read() {
        assert_eq!(lock("1: POSIX  ADVISORY  WRITE 708 08:01:1234 0 EOF"), Some((708, 1234)));
        assert_eq!(lock("1: -> FLOCK  ADVISORY  WRITE 9 00:2a:77 0 EOF"), Some((9, 77)));
        assert_eq!(lock("nonsense"), None);
    }

    #[test]
    fn whoever_has_it_open_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        fs::write(&database, "x").unwrap();
        assert!(of(&database).is_empty());
        let mut child = std::process::Command::new("cat")
            .stdin(fs::File::open(&database).unwrap())
            .stdout(std::process::Stdio::piped())
            .arg("-")
            .arg("/dev/zero")
            .spawn()
            .unwrap();
        let held = of(&database);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(held.words().ends_with(&format!("({})", child.id())), "{held:?}");
    }
}
