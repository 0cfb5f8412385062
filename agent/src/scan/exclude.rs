//! What a backup leaves out: patterns in gitignore syntax, marked directories, large files.
//!
//! # Patterns
//! - `/home/*/.cache` (leading `/`): matches from the root of the file system.
//! - `*.o`, `node_modules/`: match a name at any depth; a `/` at the end matches directories only.
//! - `target/debug` (a `/` inside but not in front): matches at any depth too. Git would anchor it where its
//!   `.gitignore` lies; a command line lies nowhere, and this is what restic's users expect.
//! - `*` and `?` match no `/`, `**` matches any number of directories, `[a-z]` and `[[:digit:]]` as usual; `\` escapes. Braces are
//!   themselves, as in git.
//! - `!` in front takes back in what an earlier pattern left out. The last pattern that matches decides. A directory
//!   that is left out is not entered, so nothing below it can be taken back in.
//! - Files of patterns are read line by line, `#` begins a comment, blanks at the end do not count. They come before the
//!   patterns of the command line, which therefore win.
//!
//! Case matters. Names need not be UTF-8 (a `?` stands for one byte). A pattern that cannot match anything, or cannot be
//! read, is an error with its file and line: a typing error must not decide what is in a backup.
//!
//! The rules only answer questions: walking, and recording what was left out, is the walker's. A path that the user
//! named for backup is not to be asked about.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::retry_on_intr;

use super::pattern::{self, Bad, Pattern};
use crate::fs::capture::{DirEntry, FileType, open_file, stat_fd};
use crate::tree::path_text;
use crate::{Error, Result};

/// The name of the tag of a directory that holds nothing but a cache, see <https://bford.info/cachedir/>.
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// What the tag must begin with.
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What the user asked to leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExcludeSettings {
    /// Patterns (`--exclude`), in order.
    pub patterns: Vec<String>,
    /// Files of patterns (`--exclude-file`), in order, before `patterns`.
    pub files: Vec<PathBuf>,
    /// Leave out the contents of directories with a valid `CACHEDIR.TAG` (`--exclude-caches`).
    pub caches: bool,
    /// Leave out the contents of directories that have an entry of one of these names (`--exclude-if-present`).
    pub if_present: Vec<String>,
    /// Leave out files of more bytes (`--exclude-larger-than`).
    pub larger_than: Option<u64>,
}

/// The entry that says that the contents of its directory are to be left out. The directory and this entry stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker<'a> {
    /// A valid `CACHEDIR.TAG`.
    Cache(&'a DirEntry),
    /// An entry of a name that the user gave.
    Present(&'a DirEntry),
}

impl<'a> Marker<'a> {
    /// The entry itself, the only one of its directory to be kept.
    pub const fn entry(self) -> &'a DirEntry {
        match self {
            Self::Cache(entry) | Self::Present(entry) => entry,
        }
    }
}

/// Answers what is left out.
#[derive(Debug, Clone, Default)]
pub struct ExcludeRules {
    patterns: Patterns,
    caches: bool,
    if_present: Vec<Box<[u8]>>,
    larger_than: Option<u64>,
}

impl ExcludeRules {
    /// Reads files of patterns and checks everything.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for a pattern, name or file that cannot be used, with its file and line.
    pub fn new(settings: &ExcludeSettings) -> Result<Self> {
        let mut patterns = Patterns::default();
        for file in &settings.files {
            patterns.add_file(file)?;
        }
        for pattern in &settings.patterns {
            patterns.add(pattern, "--exclude")?;
        }
        let if_present = settings.if_present.iter().map(|name| marker_name(name)).collect::<Result<_>>()?;
        Ok(Self { patterns, caches: settings.caches, if_present, larger_than: settings.larger_than })
    }

    /// Whether there are patterns at all. If not, paths need not be made to ask [`ExcludeRules::skips`].
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether any rule may leave something out.
    pub fn leaves_out(&self) -> bool {
        self.has_patterns() || self.caches || !self.if_present.is_empty() || self.larger_than.is_some()
    }

    /// Whether patterns leave out the entry with this absolute path.
    pub fn skips(&self, path: &[u8], is_dir: bool) -> bool {
        self.patterns.decide(path, is_dir) == Some(true)
    }

    /// Whether a file of this many bytes is left out.
    pub fn skips_size(&self, bytes: u64) -> bool {
        self.larger_than.is_some_and(|larger_than| bytes > larger_than)
    }

    /// The entry that says that all others of this directory are to be left out, if there is one.
    ///
    /// `names` are the directory's, sorted as [`crate::fs::capture::read_names`] gives them.
    pub fn directory_marker<'a>(&self, dir: BorrowedFd<'_>, names: &'a [DirEntry]) -> Option<Marker<'a>> {
        if !self.caches && self.if_present.is_empty() {
            return None;
        }
        let find = |name: &[u8]| {
            names.binary_search_by(|entry| (*entry.name).cmp(name)).ok().map(|index| &names[index])
        };
        if self.caches
            && let Some(entry) = find(CACHE_TAG)
            && is_cache_tag(dir)
        {
            return Some(Marker::Cache(entry));
        }
        self.if_present.iter().find_map(|name| find(name)).map(Marker::Present)
    }
}

/// Whether the directory's `CACHEDIR.TAG` is a regular file with the right beginning. One that cannot be read is none,
/// so that in doubt more is backed up.
fn is_cache_tag(dir: BorrowedFd<'_>) -> bool {
    let Ok(file) = open_file(dir, CACHE_TAG) else { return false };
    if !stat_fd(file.as_fd()).is_ok_and(|stat| stat.kind == FileType::File) {
        return false;
    }
    let mut start = [0; CACHE_SIGNATURE.len()];
    let mut filled = 0;
    while filled < start.len() {
        match retry_on_intr(|| rustix::io::pread(&file, &mut start[filled..], filled as u64)) {
            Ok(0) | Err(_) => return false,
            Ok(length) => filled += length,
        }
    }
    start == *CACHE_SIGNATURE
}

fn marker_name(name: &str) -> Result<Box<[u8]>> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(Error::usage(format_args!("`{name}` cannot be the name of a marker file"))
            .with_hint("--exclude-if-present takes a plain name, such as .nobackup"));
    }
    Ok(name.as_bytes().into())
}

/// Where a pattern was written, for errors.
enum Origin<'a> {
    Option(&'a str),
    File { path: &'a Path, line: usize },
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(option) => write!(f, "in {option}"),
            Self::File { path, line } => write!(f, "in {}, line {line}", path_display(path)),
        }
    }
}

fn path_display(path: &Path) -> String {
    path_text::display(path.as_os_str().as_bytes())
}

/// Patterns in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the last pattern that matches an absolute path says: `Some(true)` for one as it is, `Some(false)` for one with `!`.
    pub fn decide(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        pattern::decide(&self.0, path, is_dir)
    }

    /// Adds a pattern from the command line: there are no comments, and blanks at its end were quoted on purpose.
    ///
    /// # Errors
    /// `Usage` for one that cannot be read or can match nothing.
    pub fn add(&mut self, pattern: &str, option: &str) -> Result<()> {
        self.add_from(pattern, &Origin::Option(option))
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(|error| {
            let why = crate::error::describe_io(&error);
            Error::usage(format_args!("cannot read the exclude file {}: {why}", path_display(path)))
        })?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let origin = Origin::File { path, line: index + 1 };
            let line = std::str::from_utf8(line)
                .map_err(|_| refused(line, &origin, "is not UTF-8", Some("Write `?` for each such byte.")))?;
            let line = without_blanks(line.strip_suffix('\r').unwrap_or(line));
            if !line.trim().is_empty() && !line.starts_with('#') {
                self.add_from(line, &origin)?;
            }
        }
        Ok(())
    }

    fn add_from(&mut self, pattern: &str, origin: &Origin<'_>) -> Result<()> {
        let bytes = pattern.as_bytes();
        let read = check_can_match(pattern).and_then(|()| Pattern::parse(bytes));
        self.0.push(read.map_err(|Bad { why, hint }| refused(bytes, origin, &why, hint))?);
        Ok(())
    }
}

/// A line without the blanks at its end, unless a backslash keeps them.
fn without_blanks(line: &str) -> &str {
    let trimmed = line.trim_end_matches(' ');
    let escapes = trimmed.len() - trimmed.trim_end_matches('\\').len();
    let kept = usize::from(escapes % 2 == 1 && trimmed.len() < line.len());
    line.get(..trimmed.len() + kept).unwrap_or(line)
}

/// Refuses what is syntactically right and yet never matches an absolute path.
fn check_can_match(pattern: &str) -> Result<(), Bad> {
    let refuse = |why: &str, hint: &'static str| Err(Bad { why: why.to_owned(), hint: Some(hint) });
    let body = pattern.strip_prefix('!').unwrap_or(pattern);
    if body.trim_matches(['/', ' ']).is_empty() {
        return refuse("matches nothing", "Write a name such as *.tmp, or a path such as /home/*/.cache.");
    }
    if body.contains('\0') {
        return refuse("has a NUL byte, which no name has", "Take it out.");
    }
    if body == "~" || ["~/", "$HOME/", "${HOME}/"].iter().any(|home| body.starts_with(home)) {
        return refuse("names the home directory in a way that only a shell knows", "Write its whole path.");
    }
    let inner = body.strip_prefix('/').unwrap_or(body);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    match inner.split('/').find(|part| matches!(*part, "" | "." | "..")) {
        Some("") => refuse("has two slashes in a row", "Leave one out."),
        Some(_) => refuse(
            "has `.` or `..` as a part, which no path has here",
            "Write the whole path from /, or only its end, which matches at any depth.",
        ),
        None => Ok(()),
    }
}

fn refused(pattern: &[u8], origin: &Origin<'_>, why: &str, hint: Option<&str>) -> Error {
    let pattern = path_text::display(pattern);
    let error = Error::usage(format_args!("bad pattern `{pattern}` {origin}: {why}"));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

#[cfg(test)]
#[path = "exclude_tests.rs"]
mod tests;
