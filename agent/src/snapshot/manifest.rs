//! What a snapshot says. Fields are only ever added; unknown ones are ignored. See `docs/format.md`, "Snapshots".

use chrono::{DateTime, FixedOffset};
use lifeboat_providers::Sha256;
use serde::{Deserialize, Serialize};

use crate::repository::versioned;
use crate::tree::node::Names;
use crate::tree::{Entry, Node, path_text};
use crate::{Error, Result};

/// Most errors a manifest lists; all are counted.
pub const ERRORS_LISTED_MAX: usize = 1_000;

/// A snapshot's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub version: u16,
    /// When the run began.
    pub time: DateTime<FixedOffset>,
    /// When the manifest was written.
    pub end: DateTime<FixedOffset>,
    /// The machine.
    pub host: String,
    /// The user who ran it.
    pub user: String,
    /// The program and its version.
    pub program: String,
    /// Name of the source, if it was named.
    pub source: Option<String>,
    /// What was backed up: absolute paths as path text.
    pub paths: Vec<String>,
    /// Tags given by people.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Which history it belongs to.
    #[serde(default = "manual")]
    pub class: String,
    /// The snapshot it was compared with.
    pub parent: Option<String>,
    /// Hex of a node with the root directory.
    pub root: String,
    /// The writer: 32 hex digits.
    pub writer: String,
    /// Its place in the writer's chain, from 1.
    pub sequence: u64,
    /// The writer's snapshot before.
    pub previous: Option<String>,
    /// The newest snapshots of all other writers that were seen.
    #[serde(default)]
    pub heads: Vec<Witness>,
    /// Whether everything was read, changed or not.
    #[serde(default)]
    pub rescan: bool,
    /// Whether rules left out files that were there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filtered: bool,
    /// The program's own directories (repository, cache, memory) that were met and left out: paths as path text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// The damaged snapshot that this one was saved from by a repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_from: Option<String>,
    /// Of a repaired snapshot: how many paths it lacks, or has not whole, that were backed up once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_total: u64,
    /// Counts and bytes, for people.
    #[serde(default)]
    pub summary: Summary,
    /// What could not be read: the first 1,000.
    #[serde(default)]
    pub errors: Vec<FileError>,
    /// How many could not be read in all.
    #[serde(default)]
    pub errors_total: u64,
}

/// Names one snapshot of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Witness {
    /// The writer.
    pub writer: String,
    /// Place in its chain.
    pub sequence: u64,
    /// The snapshot's id, 64 hex digits.
    pub id: String,
}

/// Counts and bytes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Files that were not in the parent.
    pub files_new: u64,
    /// Files that differ from the parent.
    pub files_changed: u64,
    /// Files that are as in the parent.
    pub files_unmodified: u64,
    /// Directories.
    pub directories: u64,
    /// Links, devices, fifos, sockets.
    pub others: u64,
    /// Bytes of all files of the snapshot.
    pub bytes_total: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes of chunks that were new to the repository, before compression.
    pub bytes_added: u64,
    /// Bytes written to the store.
    pub bytes_stored: u64,
    /// Chunks that were new to the repository.
    pub chunks_added: u64,
    /// Seconds the run took.
    pub seconds: f64,
}

/// Something that could not be read, or changed while it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// The path, as path text.
    pub path: String,
    /// What happened: `unreadable`, `vanished`, `changed`, `incomplete`, `lost`.
    pub kind: FileErrorKind,
    /// The system's words.
    pub message: String,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileErrorKind {
    /// It could not be opened, listed or read: it is not in the snapshot.
    Unreadable,
    /// It was there when its directory was listed and gone when it was opened.
    Vanished,
    /// It changed while it was read: the snapshot holds what was read, possibly of two moments.
    Changed,
    /// Reading failed in the middle: the snapshot holds what came before.
    Incomplete,
    /// Stored data of it was lost since: the snapshot was repaired and holds what is left.
    Lost,
    /// A kind of error that a later version knows.
    #[serde(other)]
    Other,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn manual() -> String {
    "manual".to_owned()
}

impl Manifest {
    /// Reads the opened bytes of a snapshot.
    ///
    /// # Errors
    /// `Damaged` if they are not a manifest of this version.
    pub fn decode(json: &[u8]) -> Result<Self> {
        versioned::decode("snapshot", 1..=1, json)
    }

    /// The bytes to seal.
    ///
    /// # Errors
    /// Never in practice: all fields have a JSON form.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::failed(e.to_string()))
    }

    /// The root directory.
    ///
    /// # Errors
    /// `Damaged` if it is malformed.
    pub fn root(&self) -> Result<Entry> {
        let damaged = |reason: &str| Error::damaged(format_args!("malformed root of a snapshot: {reason}"));
        let bytes = from_hex(&self.root).ok_or_else(|| damaged("not hexadecimal"))?;
        Node::decode_root(&bytes).map_err(|e| damaged(&e.to_string()))
    }

    /// The stored form of a root directory.
    pub fn encode_root(root: &Entry, users: &Names, groups: &Names) -> String {
        use std::fmt::Write as _;
        Node::encode_root(root, users, groups).iter().fold(String::new(), |mut text, byte| {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// What is recorded of a path: why it is incomplete, for one. Of the first 1,000 only.
    pub fn error_of(&self, path: &[u8]) -> Option<&FileError> {
        let path = path_text::to_text(path);
        self.errors.iter().find(|error| error.path == path)
    }

    /// Names in `directory` (an absolute path; empty for the root) of what was left out because it is the program's own.
    pub fn left_out_in(&self, directory: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        self.left_out.iter().filter_map(move |text| {
            let path = path_text::from_text(text)?;
            let slash = path.iter().rposition(|byte| *byte == b'/')?;
            let (parent, name) = path.split_at(slash);
            (parent == directory).then(|| name.get(1..).unwrap_or_default().to_vec())
        })
    }

    /// The paths as bytes; those that are malformed are left out.
    pub fn path_bytes(&self) -> Vec<Vec<u8>> {
        self.paths.iter().filter_map(|text| path_text::from_text(text)).collect()
    }
}

impl Witness {
    /// The id as a digest; `None` if it is malformed.
    pub fn sha256(&self) -> Option<Sha256> {
        self.id.parse().ok()
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| {
            let digit = |c: u8| char::from(c).to_digit(16);
            Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)
        })
        .collect()
}
