//! All that a restore should bring back of a tree, as a value that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `file`, `directory` …
    pub kind: &'static str,
    /// The low 12 bits; 0 for links, which have none of their own.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Bytes of a file.
    pub size: u64,
    /// Hash of a file's bytes, or a link's target.
    pub content: Vec<u8>,
    /// Number of a device.
    pub device: u64,
    /// Attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same file.
    pub same_as: Option<Vec<u8>>,
}

/// A tree: entries by path relative to its top, which is the empty path. Sockets are left out: they are never restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<Vec<u8>, Seen>);

/// Looks at all of a tree.
pub fn see(top: &Path) -> Tree {
    let mut tree = Tree::default();
    let mut links = HashMap::new();
    walk(top, &mut Vec::new(), &mut tree, &mut links);
    tree
}

fn walk(path: &Path, relative: &mut Vec<u8>, tree: &mut Tree, links: &mut HashMap<(u64, u64), Vec<u8>>) {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file_type = metadata.file_type();
    if file_type.is_socket() {
        return;
    }
    let kind = if file_type.is_dir() {
        "directory"
    } else if file_type.is_file() {
        "file"
    } else if file_type.is_symlink() {
        "symlink"
    } else if file_type.is_fifo() {
        "fifo"
    } else if file_type.is_char_device() {
        "character device"
    } else {
        "block device"
    };
    let content = match kind {
        "file" => hash(path),
        "symlink" => fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let mut same_as = None;
    if kind != "directory" && metadata.nlink() > 1 {
        let first = links.entry((metadata.dev(), metadata.ino())).or_insert_with(|| relative.clone());
        same_as = (first != relative).then(|| first.clone());
    }
    let device = if kind.ends_with("device") { metadata.rdev() } else { 0 };
    tree.0.insert(
        relative.clone(),
        Seen {
            kind,
            mode: if kind == "symlink" { 0 } else { metadata.mode() & 0o7777 },
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: if kind == "file" { metadata.len() } else { 0 },
            content,
            device,
            xattrs: xattrs(path),
            same_as,
        },
    );
    if kind == "directory" {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let before = relative.len();
            if before > 0 {
                relative.push(b'/');
            }
            relative.extend_from_slice(name.as_bytes());
            walk(&path.join(&name), relative, tree, links);
            relative.truncate(before);
        }
    }
}

fn hash(path: &Path) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    hasher.update_reader(file).unwrap();
    hasher.finalize().as_bytes().to_vec()
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0_u8; 64 << 10];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names) else { return BTreeMap::new() };
    names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 64 << 10];
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
            (name.to_vec(), value[..len].to_vec())
        })
        .collect()
}

impl Tree {
    /// What is below `path`, as a tree of its own.
    #[must_use]
    pub fn below(&self, path: &[u8]) -> Self {
        let prefix = [path, b"/"].concat();
        let cut = |at: &[u8]| {
            if at == path { Some(Vec::new()) } else { at.strip_prefix(&*prefix).map(<[u8]>::to_vec) }
        };
        let entries = self.0.iter().filter_map(|(at, seen)| {
            let seen = Seen { same_as: seen.same_as.as_deref().and_then(cut), ..seen.clone() };
            Some((cut(at)?, seen))
        });
        Self(entries.collect())
    }

    /// The differences to what was expected, one a line; empty if there are none.
    pub fn differences(&self, expected: &Self) -> String {
        let mut text = String::new();
        for (path, wanted) in &expected.0 {
            let shown = path.escape_ascii();
            match self.0.get(path) {
                None => writeln!(text, "missing: {shown} ({})", wanted.kind).unwrap(),
                Some(found) => wanted.compare(found, &shown.to_string(), &mut text),
            }
        }
        for path in self.0.keys().filter(|path| !expected.0.contains_key(*path)) {
            writeln!(text, "too much: {}", path.escape_ascii()).unwrap();
        }
        text
    }

    /// Panics with the differences, if there are any.
    pub fn assert_equals(&self, expected: &Self, what: &str) {
        let differences = self.differences(expected);
        assert!(differences.is_empty(), "{what}:\n{differences}");
    }

    /// The names, kinds and bytes alone: for where metadata cannot be as it was.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<Vec<u8>, (&'static str, Vec<u8>)> {
        self.0.iter().map(|(path, seen)| (path.clone(), (seen.kind, seen.content.clone()))).collect()
    }
}

impl Seen {
    fn compare(&self, found: &Self, path: &str, text: &mut String) {
        let mut differ = |what: &str, wanted: String, found: String| {
            if wanted != found {
                writeln!(text, "{path}: {what} is {found} instead of {wanted}").unwrap();
            }
        };
        differ("kind", self.kind.to_owned(), found.kind.to_owned());
        differ("mode", format!("{:o}", self.mode), format!("{:o}", found.mode));
        differ("owner", format!("{:?}", self.owner), format!("{:?}", found.owner));
        differ("mtime", format!("{:?}", self.mtime), format!("{:?}", found.mtime));
        differ("size", self.size.to_string(), found.size.to_string());
        differ("content", self.content.escape_ascii().to_string(), found.content.escape_ascii().to_string());
        differ("device", self.device.to_string(), found.device.to_string());
        differ("attributes", format!("{:?}", self.xattrs), format!("{:?}", found.xattrs));
        differ("other name", format!("{:?}", self.same_as), format!("{:?}", found.same_as));
    }
}
