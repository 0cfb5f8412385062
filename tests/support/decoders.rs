//! Every entry point that takes stored or foreign bytes: the one list that the fuzz targets (`fuzz/`) and the replay of their corpus
//! on stable (`it/decoding.rs`) share.
//!
//! Beyond "no panic" each states what must hold of bytes that are taken: mostly that encoding gives the same bytes again.

use std::sync::LazyLock;

use bytes::Bytes;
use lifeboat_agent::browse::pattern::Pattern;
use lifeboat_agent::chunk::ChunkId;
use lifeboat_agent::compress::Decompressor;
use lifeboat_agent::config::file::ConfigFile;
use lifeboat_agent::fs::size::parse_size;
use lifeboat_agent::index::shard::{PackEntry, Shard};
use lifeboat_agent::pack::directory::{Codec, Directory, DirectoryChunk, PackKind, Segment};
use lifeboat_agent::repository::config::{ClearHeader, Config};
use lifeboat_agent::repository::connect::Location;
use lifeboat_agent::repository::slots::SlotRemoval;
use lifeboat_agent::repository::{Directories, Repository};
use lifeboat_agent::restore::Selection;
use lifeboat_agent::scan::exclude::{ExcludeRules, ExcludeSettings};
use lifeboat_agent::seal::cipher::Cipher;
use lifeboat_agent::seal::keys::{Keys, MasterKey};
use lifeboat_agent::seal::object::{open_whole, seal_whole};
use lifeboat_agent::seal::slot::{Cost, Purpose, Secret, Slot};
use lifeboat_agent::seal::{Header, ObjectKind, RepositoryId, SecretKey};
use lifeboat_agent::snapshot::Manifest;
use lifeboat_agent::snapshot::history::ForgetRecord;
use lifeboat_agent::snapshot::labels::LabelRecord;
use lifeboat_agent::snapshot::select::{Selector, parse_time};
use lifeboat_agent::tree::codec::Decoder;
use lifeboat_agent::tree::content::ContentBuilder;
use lifeboat_agent::tree::node::NodeBuilder;
use lifeboat_agent::tree::{Content, Entry, EntryKind, Extent, Meta, Node, Time, Xattr, path_text};
use lifeboat_providers::Sha256;
use lifeboat_providers::memory::MemoryProvider;

/// What takes the bytes. Panics if something does not hold.
pub type EntryPoint = fn(&[u8]);

/// All entry points by name.
pub const ENTRY_POINTS: &[(&str, EntryPoint)] = &[
    ("header", header),
    ("whole_object", whole_object),
    ("config_object", config_object),
    ("slot", slot),
    ("clear_header", clear_header),
    ("directory", directory),
    ("shard", shard),
    ("node", node),
    ("content", content),
    ("pack_tail", pack_tail),
    ("manifest", manifest),
    ("zstd", zstd),
    ("secret_key", secret_key),
    ("path", path),
    ("patterns", patterns),
    ("config_file", config_file),
    ("words", words),
];

/// Runs the entry point of that name.
pub fn run(name: &str, data: &[u8]) {
    let (_, entry_point) = ENTRY_POINTS.iter().find(|(known, _)| *known == name).unwrap();
    entry_point(data);
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::derive(&MasterKey::from_bytes([1; 32])));

static REPOSITORY: LazyLock<Repository> = LazyLock::new(|| {
    let nowhere = Directories::new("/nonexistent/cache", "/nonexistent/state");
    crate::world::create(std::sync::Arc::new(MemoryProvider::new()), &nowhere, Cipher::default())
});

fn header(data: &[u8]) {
    if let Ok(header) = Header::parse(data) {
        assert_eq!(header.encode(), data[..56]);
    }
}

fn whole_object(data: &[u8]) {
    for kind in [ObjectKind::IndexShard, ObjectKind::Snapshot, ObjectKind::Session] {
        if let Ok((header, plain)) = open_whole(kind, &KEYS.seal, data) {
            assert_eq!(header.kind, kind);
            assert!(plain.len() <= 64 << 20);
        }
    }
    let _ = REPOSITORY.open_object(ObjectKind::Snapshot, &Bytes::copy_from_slice(data));
}

fn config_object(data: &[u8]) {
    if let Ok(config) = Config::open(data, &KEYS.seal) {
        config.chunker.validate().unwrap();
    }
}

fn slot(data: &[u8]) {
    slot_of(data);
    // No fuzzer finds a checksum: what lies behind it is reached with a right one.
    let body = data.get(..data.len().saturating_sub(16)).unwrap_or_default();
    slot_of(&[body, &blake3::hash(body).as_bytes()[..16]].concat());
}

fn slot_of(data: &[u8]) {
    let Ok(slot) = Slot::parse(data) else { return };
    assert_eq!(slot.encode(), data);
    // A key costs one hash; a passphrase could cost a GiB, which a fuzzer need not pay.
    let _ = slot.unlock(&Secret::Key(SecretKey::from_bytes([2; 32])));
}

fn clear_header(data: &[u8]) {
    if let Ok((_, rest)) = ClearHeader::parse(data) {
        assert!(data.ends_with(rest));
    }
}

fn directory(data: &[u8]) {
    if let Ok(directory) = Directory::decode(data) {
        assert_eq!(directory.encode().unwrap(), data);
        assert!(directory.segments.iter().all(|segment| !segment.chunks.is_empty()));
    }
}

fn shard(data: &[u8]) {
    if let Ok(shard) = Shard::decode(data) {
        assert_eq!(shard.encode().unwrap(), data);
    }
}

fn node(data: &[u8]) {
    let _ = Node::decode_root(data);
    let Ok(node) = Node::decode(data) else { return };
    assert!(node.entries.is_sorted_by(|a, b| a.name < b.name));
    for entry in &node.entries {
        assert!(!entry.name.is_empty() && !entry.name.contains(&b'/') && !entry.name.contains(&0));
        assert!(*entry.name != *b"." && *entry.name != *b"..");
    }
    // What was understood can be written and is understood alike.
    let mut builder = NodeBuilder::new(node.device);
    for entry in &node.entries {
        builder.push(entry, &node.users, &node.groups);
    }
    if !node.entries.is_empty() {
        assert_eq!(Node::decode(&builder.take()).unwrap().entries, node.entries);
    }
}

fn content(data: &[u8]) {
    if let Ok(content) = Content::decode_list(data) {
        let mut encoded = Vec::new();
        content.encode(&mut encoded);
        assert_eq!(encoded, data);
        assert!(content.extents.iter().all(|extent| extent.length > 0));
    }
    let _ = Content::decode(&mut Decoder::new(data));
}

fn pack_tail(data: &[u8]) {
    let (head, tail) = data.split_at(data.len().min(56));
    let id = Sha256::of(data);
    for kind in [PackKind::Data, PackKind::Metadata] {
        let _ = REPOSITORY.open_pack_entry(kind, &id, data.len() as u64, head, tail);
        // The header right and the rest wrong goes further.
        let right = REPOSITORY.new_header(kind.into()).unwrap().encode();
        let _ = REPOSITORY.open_pack_entry(kind, &id, data.len() as u64, &right, data);
    }
}

fn manifest(data: &[u8]) {
    if let Ok(record) = ForgetRecord::decode(data) {
        assert_eq!(record.version, 1);
    }
    if let Ok(record) = LabelRecord::decode(data) {
        assert_eq!(record.version, 1);
    }
    if let Ok(record) = SlotRemoval::decode(data) {
        assert_eq!(record.version, 1);
    }
    let Ok(manifest) = Manifest::decode(data) else { return };
    let _ = manifest.root();
    let _ = manifest.path_bytes();
    let encoded = manifest.encode().unwrap();
    assert_eq!(Manifest::decode(&encoded).unwrap().encode().unwrap(), encoded);
}

fn zstd(data: &[u8]) {
    let Some((length, coded)) = data.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let mut plain = Vec::new();
    if Decompressor::new().unwrap().decompress(Codec::Zstd, &mut coded.to_vec(), length, &mut plain).is_ok() {
        assert_eq!(plain.len(), length);
        // Exactly one frame: a byte more or less is refused.
        let decoded = |coded: &[u8]| {
            let mut coded = coded.to_vec();
            Decompressor::new().unwrap().decompress(Codec::Zstd, &mut coded, length, &mut Vec::new()).is_ok()
        };
        assert!(!decoded(&coded[..coded.len() - 1]) && !decoded(&[coded, &[0]].concat()));
    }
}

fn secret_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = SecretKey::parse(text) {
        let own = key.to_text();
        assert_eq!(*SecretKey::parse(&own).unwrap().to_text(), *own);
    }
}

fn path(data: &[u8]) {
    assert_eq!(path_text::from_text(&path_text::to_text(data)).as_deref(), Some(data));
    let _ = path_text::display(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = path_text::from_text(text);
    }
}

fn patterns(data: &[u8]) {
    let _ = Pattern::parse(data, true).map(|pattern| {
        let states =
            pattern.advance(pattern.start(), data.split(|byte| *byte == b'/').next().unwrap_or_default());
        (pattern.accepts(states), pattern.goes_on(states))
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(rules) = ExcludeRules::new(&ExcludeSettings { patterns: lines.clone(), ..Default::default() }) {
        let _ = (rules.skips(b"/srv/data/file", false), rules.skips(b"/srv", true));
    }
    if let Ok(selection) = Selection::new(&lines, &lines) {
        let _ = (selection.includes(b"/srv/data/file", false), selection.excludes(b"/srv", true));
    }
}

fn config_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(e) = ConfigFile::parse(text, "file") {
        assert!(e.to_string().contains("file"), "{e}");
    }
}

/// Short texts that people type.
fn words(data: &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;
    let _ = Selector::parse(data);
    let _ = Location::parse(std::ffi::OsStr::from_bytes(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (parse_time(text), parse_size(text));
    let _ = text.parse::<lifeboat_agent::compress::Level>();
    let _ = text.parse::<lifeboat_agent::check::ReadData>();
    let _ = lifeboat_agent::config::secrets::split_command(text);
}

/// Bytes that an entry point takes: where a corpus begins.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let repository = RepositoryId([3; 16]);
    let whole_header =
        Header { kind: ObjectKind::Snapshot, cipher: Cipher::default(), repository, salt: [4; 32] };
    let chunk = |number: u8, length| DirectoryChunk { id: ChunkId::from_bytes([number; 16]), length };
    let pack = Directory {
        segments: vec![Segment {
            number: 0,
            box_bytes: 46,
            plain_bytes: 30,
            codec: Codec::Raw,
            chunks: vec![chunk(1, 10), chunk(2, 20)],
        }],
    };
    match name {
        "header" => vec![whole_header.encode().to_vec()],
        "whole_object" => vec![seal_whole(&whole_header, &KEYS.seal, b"{\"version\":1}").unwrap()],
        "config_object" | "clear_header" => {
            let config = Config::new(repository, Cipher::default(), 1 << 20, "2026-01-01T00:00:00Z".to_owned());
            vec![config.seal(repository, &KEYS.seal).unwrap().body().to_bytes().to_vec()]
        }
        "slot" => {
            let secret = Secret::Key(SecretKey::from_bytes([2; 32]));
            let master = MasterKey::from_bytes([1; 32]);
            vec![Slot::create(repository, &master, &secret, Purpose::KeyFile, "label", 1, Cost::LOWEST).unwrap().encode()]
        }
        "directory" => vec![pack.encode().unwrap(), Directory { segments: Vec::new() }.encode().unwrap()],
        "shard" => {
            let entry = PackEntry {
                id: Sha256::of(b"pack"),
                salt: [5; 32],
                kind: PackKind::Data,
                stored_bytes: 56 + 46 + 100 + 16,
                directory: pack,
            };
            let shard = Shard { replaces: vec![Sha256::of(b"old")], packs: vec![entry] };
            vec![shard.encode().unwrap(), Shard::default().encode().unwrap()]
        }
        "node" => vec![node_seed()],
        "content" => {
            let extents = vec![
                Extent { length: 100, id: Some(ChunkId::from_bytes([1; 16])) },
                Extent { length: 4096, id: None },
            ];
            let mut encoded = Vec::new();
            Content::flat(extents).encode(&mut encoded);
            vec![encoded, vec![0, 0], vec![1, 1, 200, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]]
        }
        "pack_tail" => vec![REPOSITORY.new_header(ObjectKind::DataPack).unwrap().encode().to_vec(), {
            let mut tail = vec![7; 60];
            tail.extend_from_slice(&44_u32.to_le_bytes());
            tail.extend_from_slice(&28_u32.to_le_bytes());
            tail.extend_from_slice(&[0, 0, 0, 0]);
            tail.extend_from_slice(b"LBPD");
            tail
        }],
        "manifest" => vec![br#"{"version":1,"time":"2026-01-01T00:00:00.5+01:00","end":"2026-01-01T00:00:01Z","host":"h","user":"u","program":"p","source":null,"paths":["/a\\xff"],"parent":null,"root":"00","writer":"00000000000000000000000000000001","sequence":2,"previous":null,"heads":[{"writer":"w","sequence":1,"id":"00"}],"errors":[{"path":"/x","kind":"new kind","message":"m"}],"later":{"field":1}}"#.to_vec(), br#"{"version":1,"time":"2026-01-01T00:00:00Z","host":"h","forgotten":[{"writer":"w","sequence":1,"id":"00"}],"replaces":[]}"#.to_vec(), br#"{"version":1,"time":"2026-01-01T00:00:00Z","host":"h","snapshot":"00","pinned":true,"tags":["t"],"replaces":["00"]}"#.to_vec()],
        "zstd" => {
            let mut compressor = lifeboat_agent::compress::Compressor::new(Default::default()).unwrap();
            let mut seed = 3000_u16.to_le_bytes().to_vec();
            let mut coded = Vec::new();
            compressor.compress(&[b'a'; 3000], &mut coded).unwrap();
            seed.extend_from_slice(&coded);
            vec![seed]
        }
        "secret_key" => vec![SecretKey::from_bytes([6; 32]).to_text().as_bytes().to_vec(), b"LB1-OIL0".to_vec()],
        "path" => vec![b"/srv/\xff\\x41/caf\xc3\xa9".to_vec(), b"\\xff".to_vec(), b"\\\\x".to_vec()],
        "patterns" => vec![b"*.tmp\n!keep.tmp\n/home/*/.cache\nnode_modules/\n**/x[a-c]{b,d}?\n\\#no\n".to_vec(), b"[z-a]\n[".to_vec()],
        "config_file" => vec![b"repository = \"/srv/backup\"\nexclude = [\"*.tmp\"]\npassphrase_command = [\"pass\", \"show\"]\ncompression = 9\n".to_vec(), b"exclude = \"one\"\nreposotory = 1\n".to_vec()],
        "words" => ["latest~2:/a", "2026-11-20 14:00", "2026-11-20T14:00:00+01:00", "1.5GiB", "10%", "1/7", "500M", "19", "file:///srv/my%20backup", "pass show 'a b'"]
            .map(|word| word.as_bytes().to_vec())
            .to_vec(),
        _ => Vec::new(),
    }
}

fn node_seed() -> Vec<u8> {
    let time = Time { seconds: -5, nanoseconds: 7 };
    let meta =
        Meta { mode: 0o644, uid: 1, gid: 2, mtime: time, ctime: time, inode: 9, links: 1, ..Meta::default() };
    let linked = Meta {
        links: 3,
        xattrs: vec![Xattr { name: (*b"user.x").into(), value: (*b"value").into() }],
        ..meta.clone()
    };
    let extents = vec![Extent { length: 10, id: Some(ChunkId::from_bytes([1; 16])) }];
    let mut contents = ContentBuilder::new();
    for extent in &extents {
        contents
            .push(*extent, &mut |_| Ok::<_, std::convert::Infallible>(ChunkId::from_bytes([0; 16])))
            .unwrap();
    }
    let kinds = [
        EntryKind::File { size: 10, content: Content::flat(extents.clone()) },
        EntryKind::Directory { content: Content::flat(extents), entries: 3, bytes: 30 },
        EntryKind::Symlink { target: (*b"target").into() },
        EntryKind::Fifo,
        EntryKind::Socket,
        EntryKind::CharDevice { major: 1, minor: 3 },
        EntryKind::BlockDevice { major: 8, minor: 1 },
    ];
    let mut builder = NodeBuilder::new(5);
    let names = [(1, "user".as_bytes().into())].into_iter().collect();
    for (number, kind) in kinds.into_iter().enumerate() {
        let meta = if number == 0 { linked.clone() } else { meta.clone() };
        let name = format!("entry{number}").into_bytes().into();
        builder.push(&Entry { name, meta, kind, incomplete: false }, &names, &Default::default());
    }
    builder.take()
}
