//! Nodes: the stored form of a run of a directory's entries. See `docs/format.md`, "Tree nodes".

use std::collections::BTreeMap;

use super::codec::{Decoder, Malformed, put_bytes, put_svarint, put_varint};
use super::{Content, Entry, EntryKind, Meta, Time, Xattr};

const NODE_VERSION: u8 = 1;
/// A node may end from this size on, in bytes.
const NODE_BYTES_MIN: usize = 16 << 10;
/// A node ends at this size at the latest, in bytes.
const NODE_BYTES_MAX: usize = 128 << 10;
/// A node ends after a name whose hash begins with a byte below this: one in 64.
const NODE_END_BELOW: u8 = 4;
/// Fewest bytes an entry takes: bounds what a count may make a decoder reserve.
const ENTRY_BYTES_MIN: usize = 12;

const FLAG_XATTRS: u64 = 1;
const FLAG_LINKS: u64 = 2;
const FLAG_EXTENSIONS: u64 = 4;
const FLAG_INCOMPLETE: u64 = 8;
const FLAGS_KNOWN: u64 = FLAG_XATTRS | FLAG_LINKS | FLAG_EXTENSIONS | FLAG_INCOMPLETE;

/// Names of owners and groups, as far as they are known: number to name.
pub type Names = BTreeMap<u32, Box<[u8]>>;

/// A run of a directory's entries with the names of their owners.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Device of the directory.
    pub device: u64,
    /// Names of the users that own entries here.
    pub users: Names,
    /// Names of the groups of entries here.
    pub groups: Names,
    /// In the order of their names.
    pub entries: Vec<Entry>,
}

impl Node {
    /// Reads a stored node of a directory.
    ///
    /// # Errors
    /// [`Malformed`] if a rule of the format is broken: names out of order or with a `/`, unknown types, trailing bytes …
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::decode_with(bytes, false)
    }

    /// Reads the node that holds a snapshot's root: one directory with an empty name.
    ///
    /// # Errors
    /// [`Malformed`] as [`Node::decode`], or if it is anything but one directory.
    pub fn decode_root(bytes: &[u8]) -> Result<Entry, Malformed> {
        let mut node = Self::decode_with(bytes, true)?;
        match node.entries.pop() {
            Some(root) if node.entries.is_empty() && root.is_directory() => Ok(root),
            _ => Err(Malformed { offset: 0, reason: "root is not one directory" }),
        }
    }

    fn decode_with(bytes: &[u8], root: bool) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        if decoder.u8()? != NODE_VERSION {
            return Err(decoder.malformed("unknown node version"));
        }
        let device = decoder.varint()?;
        let users = decode_names(&mut decoder)?;
        let groups = decode_names(&mut decoder)?;
        let count = decoder.count(ENTRY_BYTES_MIN)?;
        let mut node = Self { device, users, groups, entries: Vec::with_capacity(count) };
        for _ in 0..count {
            let entry = decode_entry(&mut decoder, device)?;
            let named = if root { entry.name.is_empty() } else { is_name(&entry.name) };
            if !named {
                return Err(decoder.malformed("impossible name"));
            }
            if node.entries.last().is_some_and(|last| last.name >= entry.name) {
                return Err(decoder.malformed("names out of order"));
            }
            node.entries.push(entry);
        }
        decoder.finish()?;
        Ok(node)
    }

    /// The stored form of a snapshot's root.
    pub fn encode_root(root: &Entry, users: &Names, groups: &Names) -> Vec<u8> {
        let mut builder = NodeBuilder::new(root.meta.device);
        builder.push(root, users, groups);
        builder.take()
    }
}

/// Builds the nodes of one directory, entry by entry in the order of names.
#[derive(Debug)]
pub struct NodeBuilder {
    device: u64,
    users: Names,
    groups: Names,
    count: u64,
    entries: Vec<u8>,
    end: bool,
}

impl NodeBuilder {
    /// A builder for a directory on `device`.
    pub fn new(device: u64) -> Self {
        Self { device, users: Names::new(), groups: Names::new(), count: 0, entries: Vec::new(), end: false }
    }

    /// Appends an entry; the names of its owner and group are taken from `users` and `groups`.
    pub fn push(&mut self, entry: &Entry, users: &Names, groups: &Names) {
        remember(&mut self.users, entry.meta.uid, users);
        remember(&mut self.groups, entry.meta.gid, groups);
        encode_entry(&mut self.entries, entry);
        self.count += 1;
        let len = self.entries.len();
        self.end = len >= NODE_BYTES_MAX
            || (len >= NODE_BYTES_MIN && blake3::hash(&entry.name).as_bytes()[0] < NODE_END_BELOW);
    }

    /// Whether the node should be ended here.
    pub const fn should_end(&self) -> bool {
        self.end
    }

    /// Whether no entry was pushed since the last node.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The stored form of the node so far; the builder goes on with the next node.
    pub fn take(&mut self) -> Vec<u8> {
        let entries = std::mem::take(&mut self.entries);
        let mut out = Vec::with_capacity(entries.len() + 64);
        out.push(NODE_VERSION);
        put_varint(&mut out, self.device);
        encode_names(&mut out, &std::mem::take(&mut self.users));
        encode_names(&mut out, &std::mem::take(&mut self.groups));
        put_varint(&mut out, self.count);
        out.extend_from_slice(&entries);
        self.count = 0;
        self.end = false;
        out
    }
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

fn remember(own: &mut Names, id: u32, all: &Names) {
    if !own.contains_key(&id)
        && let Some(name) = all.get(&id)
    {
        own.insert(id, name.clone());
    }
}

fn encode_names(out: &mut Vec<u8>, names: &Names) {
    put_varint(out, names.len() as u64);
    for (id, name) in names {
        put_varint(out, u64::from(*id));
        put_bytes(out, name);
    }
}

fn decode_names(decoder: &mut Decoder<'_>) -> Result<Names, Malformed> {
    let count = decoder.count(2)?;
    let mut names = Names::new();
    for _ in 0..count {
        let id = decoder.varint_u32()?;
        if names.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(decoder.malformed("owners out of order"));
        }
        names.insert(id, decoder.bytes()?.into());
    }
    Ok(names)
}

fn encode_entry(out: &mut Vec<u8>, entry: &Entry) {
    let meta = &entry.meta;
    put_bytes(out, &entry.name);
    out.push(kind_code(&entry.kind));
    let flags = if meta.xattrs.is_empty() { 0 } else { FLAG_XATTRS }
        | if meta.links > 1 { FLAG_LINKS } else { 0 }
        | if entry.incomplete { FLAG_INCOMPLETE } else { 0 };
    put_varint(out, flags);
    for number in [meta.mode & 0o7777, meta.uid, meta.gid] {
        put_varint(out, u64::from(number));
    }
    put_svarint(out, meta.mtime.seconds);
    put_varint(out, u64::from(meta.mtime.nanoseconds));
    put_svarint(out, meta.ctime.seconds.wrapping_sub(meta.mtime.seconds));
    put_varint(out, u64::from(meta.ctime.nanoseconds));
    put_varint(out, meta.inode);
    if meta.links > 1 {
        put_varint(out, meta.links);
        put_varint(out, meta.device);
    }
    if !meta.xattrs.is_empty() {
        put_varint(out, meta.xattrs.len() as u64);
        for xattr in &meta.xattrs {
            put_bytes(out, &xattr.name);
            put_bytes(out, &xattr.value);
        }
    }
    encode_kind(out, &entry.kind);
}

fn encode_kind(out: &mut Vec<u8>, kind: &EntryKind) {
    match kind {
        EntryKind::File { size, content } => {
            put_varint(out, *size);
            content.encode(out);
        }
        EntryKind::Directory { content, entries, bytes } => {
            content.encode(out);
            put_varint(out, *entries);
            put_varint(out, *bytes);
        }
        EntryKind::Symlink { target } => put_bytes(out, target),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            put_varint(out, u64::from(*major));
            put_varint(out, u64::from(*minor));
        }
        EntryKind::Fifo | EntryKind::Socket => {}
    }
}

const fn kind_code(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File { .. } => 0,
        EntryKind::Directory { .. } => 1,
        EntryKind::Symlink { .. } => 2,
        EntryKind::Fifo => 3,
        EntryKind::Socket => 4,
        EntryKind::CharDevice { .. } => 5,
        EntryKind::BlockDevice { .. } => 6,
    }
}

fn decode_entry(decoder: &mut Decoder<'_>, node_device: u64) -> Result<Entry, Malformed> {
    let name = decoder.bytes()?.into();
    let code = decoder.u8()?;
    let flags = decoder.varint()?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(decoder.malformed("unknown entry flags"));
    }
    let mut meta = decode_meta(decoder, node_device)?;
    if flags & FLAG_LINKS != 0 {
        meta.links = decoder.varint()?;
        meta.device = decoder.varint()?;
        if meta.links < 2 {
            return Err(decoder.malformed("hard link count below 2"));
        }
    }
    if flags & FLAG_XATTRS != 0 {
        meta.xattrs = decode_xattrs(decoder)?;
    }
    if flags & FLAG_EXTENSIONS != 0 {
        for _ in 0..decoder.count(2)? {
            decoder.varint()?;
            decoder.bytes()?;
        }
    }
    let incomplete = flags & FLAG_INCOMPLETE != 0;
    let kind = decode_kind(decoder, code)?;
    Ok(Entry { name, meta, kind, incomplete })
}

fn decode_meta(decoder: &mut Decoder<'_>, device: u64) -> Result<Meta, Malformed> {
    let mode = decoder.varint_u32()?;
    if mode > 0o7777 {
        return Err(decoder.malformed("mode over 12 bits"));
    }
    let (uid, gid) = (decoder.varint_u32()?, decoder.varint_u32()?);
    let mtime = Time { seconds: decoder.svarint()?, nanoseconds: decode_nanoseconds(decoder)? };
    let ctime = Time {
        seconds: decoder.svarint()?.wrapping_add(mtime.seconds),
        nanoseconds: decode_nanoseconds(decoder)?,
    };
    let inode = decoder.varint()?;
    Ok(Meta { mode, uid, gid, mtime, ctime, inode, device, links: 1, xattrs: Vec::new() })
}

fn decode_nanoseconds(decoder: &mut Decoder<'_>) -> Result<u32, Malformed> {
    match decoder.varint_u32()? {
        nanoseconds @ 0..=999_999_999 => Ok(nanoseconds),
        _ => Err(decoder.malformed("nanoseconds over a second")),
    }
}

fn decode_xattrs(decoder: &mut Decoder<'_>) -> Result<Vec<Xattr>, Malformed> {
    let count = decoder.count(2)?;
    let mut xattrs = Vec::with_capacity(count);
    for _ in 0..count {
        xattrs.push(Xattr { name: decoder.bytes()?.into(), value: decoder.bytes()?.into() });
    }
    Ok(xattrs)
}

fn decode_kind(decoder: &mut Decoder<'_>, code: u8) -> Result<EntryKind, Malformed> {
    Ok(match code {
        0 => {
            let size = decoder.varint()?;
            let content = Content::decode(decoder)?;
            if content.bytes() != size {
                return Err(decoder.malformed("content is not as long as its file"));
            }
            EntryKind::File { size, content }
        }
        1 => EntryKind::Directory {
            content: Content::decode(decoder)?,
            entries: decoder.varint()?,
            bytes: decoder.varint()?,
        },
        2 => EntryKind::Symlink { target: decoder.bytes()?.into() },
        3 => EntryKind::Fifo,
        4 => EntryKind::Socket,
        5 => EntryKind::CharDevice { major: decoder.varint_u32()?, minor: decoder.varint_u32()? },
        6 => EntryKind::BlockDevice { major: decoder.varint_u32()?, minor: decoder.varint_u32()? },
        _ => return Err(decoder.malformed("unknown entry type")),
    })
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
