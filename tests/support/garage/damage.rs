//! Damage at rest in Garage: a bit flips on its disk, behind its back.
//!
//! # What Garage 2.5.0 does about it
//! **Objects of 3,072 bytes and more** are files named by the BLAKE2 of their content, and a read compares the two. A
//! damaged block is renamed to `….corrupted`, queued to be fetched from another node, and not served. The answer's head
//! (`200`, with the length and the SHA-256 of the upload) is sent before the block is read, so with no other copy the
//! connection breaks off in the body: a client sees a *cut* answer, as from a bad line, not an error status, and every
//! repetition is cut as well. `HEAD` and listings know nothing of it. With other copies (a cluster) the object is served
//! from one of them at once and the damaged copy is replaced.
//!
//! **Writing the same content again does not mend it** as long as nobody has read it: Garage finds the block's file and
//! keeps it, whatever is in it, and says `200` with the right SHA-256. After a read has moved the file away, writing
//! mends it. So a healer has to read first, and a proof by `HEAD` after a `PUT` says nothing of the disk.
//!
//! **Smaller objects** are in the metadata (SQLite), which has no checksums: the changed bytes are served as good, with
//! status `200` and beside them the SHA-256 of the upload. Only who hashes what was read can tell.

use std::fs;
use std::path::{Path, PathBuf};

use super::node::Node;
use super::{BUCKET, Garage};

/// Enough bytes around the flipped one to be found nowhere else in the metadata.
const CONTEXT_BYTES: usize = 16;

impl Garage {
    /// As [`Node::flip_byte_at_rest`].
    pub fn flip_byte_at_rest(&mut self, key: &str, content: &[u8], at: usize) {
        self.node.flip_byte_at_rest(key, content, at);
    }

    /// Where the blocks of an object lie, in its order; empty if it is in the metadata.
    pub fn block_files(&self, key: &str) -> Vec<PathBuf> {
        self.node.blocks(key).into_iter().map(|block| block.file).collect()
    }
}

/// One block of an object.
struct Block {
    file: PathBuf,
    begin: usize,
    len: usize,
}

impl Node {
    /// Flips a bit of byte `at` of the object `key` in [`BUCKET`], whose bytes are `content`, on this node's disk.
    ///
    /// A node that keeps the object in its metadata is stopped for it and started again.
    ///
    /// # Panics
    /// If this node does not hold these bytes.
    #[track_caller]
    pub fn flip_byte_at_rest(&mut self, key: &str, content: &[u8], at: usize) {
        assert!(at < content.len(), "{key} has {} bytes", content.len());
        let blocks = self.blocks(key);
        if let Some(block) = blocks.iter().find(|block| (block.begin..block.begin + block.len).contains(&at))
        {
            let mut bytes = fs::read(&block.file).unwrap();
            let own = &content[block.begin..block.begin + block.len];
            assert!(bytes == own, "{} holds other bytes than {key}", block.file.display());
            bytes[at - block.begin] ^= 1;
            return fs::write(&block.file, bytes).unwrap();
        }
        assert!(blocks.is_empty(), "no block of {key} holds byte {at}");
        // Stopped in peace, so that everything is in the database file: what is in its journal is guarded by checksums.
        self.stop();
        flip_in_database(&self.metadata_directory().join("db.sqlite"), content, at);
        self.restart();
    }

    /// The blocks of an object that this node holds, in order.
    #[track_caller]
    fn blocks(&self, key: &str) -> Vec<Block> {
        let bucket = self.bucket_id(BUCKET).expect("the bucket is there");
        let key_in_query: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let object = self.admin(&format!("InspectObject?bucketId={bucket}&key={key_in_query}"), None);
        let versions = object["versions"].as_array().unwrap();
        let current =
            versions.iter().rfind(|version| version["uploading"] == false && version["aborted"] == false);
        let blocks = current.unwrap_or_else(|| panic!("{key} is not there: {object}"))["blocks"].as_array();
        let mut begin = 0;
        let mut place = |block: &serde_json::Value| {
            let len = block["size"].as_u64().unwrap() as usize;
            let name = block["hash"].as_str().unwrap();
            let file =
                find(&self.data_directory(), name).unwrap_or_else(|| panic!("this node has no block {name}"));
            begin += len;
            Block { file, begin: begin - len, len }
        };
        blocks.into_iter().flatten().map(&mut place).collect()
    }
}

/// The file of that name below a directory.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { (entry.file_name() == name).then_some(path) }
    })
}

/// Flips a bit of byte `at` of `content` wherever the database has it.
#[track_caller]
fn flip_in_database(database: &Path, content: &[u8], at: usize) {
    let begin = at.saturating_sub(CONTEXT_BYTES);
    let end = (at + CONTEXT_BYTES).min(content.len());
    let wanted = &content[begin..end];
    let mut bytes = fs::read(database).unwrap();
    let places: Vec<_> =
        bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).collect();
    let places: Vec<_> = places.into_iter().map(|(place, _)| place + at - begin).collect();
    // An entry may be split over two pages just there.
    assert!(!places.is_empty(), "byte {at} is not found in the metadata: choose another");
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(database, bytes).unwrap();
}
