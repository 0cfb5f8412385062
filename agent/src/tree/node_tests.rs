//! Round trips and hostile input for nodes and contents.

use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkId;
use crate::tree::Extent;
use crate::tree::content::ContentBuilder;

fn arbitrary_content(level: std::ops::Range<u8>) -> impl Strategy<Value = Content> {
    let extent = (1_u64..1 << 30, any::<[u8; 16]>(), any::<bool>());
    (level, prop::collection::vec(extent, 0..5)).prop_map(|(level, extents)| Content {
        level,
        extents: extents
            .into_iter()
            .map(|(length, id, hole)| Extent {
                // A chunk has 8 MiB at most.
                length: if level == 0 && !hole { length % (8 << 20) + 1 } else { length },
                id: (level > 0 || !hole).then_some(ChunkId::from_bytes(id)),
            })
            .collect(),
    })
}

fn arbitrary_kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        arbitrary_content(0..3).prop_map(|content| EntryKind::File { size: content.bytes(), content }),
        (arbitrary_content(0..3), any::<u64>(), any::<u64>())
            .prop_map(|(content, entries, bytes)| EntryKind::Directory { content, entries, bytes }),
        any::<Vec<u8>>().prop_map(|target| EntryKind::Symlink { target: target.into() }),
        Just(EntryKind::Fifo),
        Just(EntryKind::Socket),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
    ]
}

fn arbitrary_time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds })
}

fn arbitrary_meta() -> impl Strategy<Value = Meta> {
    let xattr = any::<(Vec<u8>, Vec<u8>)>()
        .prop_map(|(name, value)| Xattr { name: name.into(), value: value.into() });
    (
        0..0o10000_u32,
        any::<(u32, u32, u64)>(),
        arbitrary_time(),
        arbitrary_time(),
        1..4_u64,
        prop::collection::vec(xattr, 0..3),
    )
        .prop_map(|(mode, (uid, gid, inode), mtime, ctime, links, xattrs)| Meta {
            mode,
            uid,
            gid,
            mtime,
            ctime,
            inode,
            device: 7,
            links,
            xattrs,
        })
}

proptest! {
    #[test]
    fn nodes_round_trip(
        named in prop::collection::btree_map(
            prop::collection::vec(1_u8..=255, 1..40).prop_filter("names", |name| is_name(name)),
            (arbitrary_meta(), arbitrary_kind(), any::<bool>()),
            0..20,
        ),
    ) {
        let entries: Vec<Entry> = named
            .into_iter()
            .map(|(name, (meta, kind, incomplete))| Entry { name: name.into(), meta, kind, incomplete })
            .collect();
        let users: Names = entries.iter().map(|e| (e.meta.uid, Box::from(&b"owner"[..]))).collect();
        let mut builder = NodeBuilder::new(7);
        for entry in &entries {
            builder.push(entry, &users, &Names::new());
        }
        let node = Node::decode(&builder.take()).unwrap();
        prop_assert_eq!(node, Node { device: 7, users, groups: Names::new(), entries });
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Node::decode(&bytes);
        let _ = Node::decode_root(&bytes);
        let _ = Content::decode_list(&bytes);
    }

    #[test]
    fn lists_hold_all_extents_in_order(count in 0_usize..3000, seed: u64) {
        let extents: Vec<Extent> = (0..count as u64)
            .map(|i| {
                let hash = blake3::hash(&[seed.to_le_bytes(), i.to_le_bytes()].concat());
                let mut id = [0; 16];
                id.copy_from_slice(&hash.as_bytes()[..16]);
                Extent { length: i + 1, id: Some(ChunkId::from_bytes(id)) }
            })
            .collect();
        let mut lists = std::collections::HashMap::new();
        let mut store = |bytes: Vec<u8>| {
            let mut id = [0; 16];
            id.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
            lists.insert(id, bytes);
            Ok::<_, std::convert::Infallible>(ChunkId::from_bytes(id))
        };
        let mut builder = ContentBuilder::new();
        for extent in &extents {
            builder.push(*extent, &mut store).unwrap();
        }
        let mut content = builder.finish(&mut store).unwrap();
        prop_assert!(content.extents.len() <= crate::tree::content::LIST_MAX);
        prop_assert_eq!(content.level == 0, count <= crate::tree::content::INLINE_MAX);
        while content.level > 0 {
            let mut below = Vec::new();
            for extent in &content.extents {
                let list = Content::decode_list(&lists[extent.id.unwrap().as_bytes()]).unwrap();
                prop_assert_eq!(list.bytes(), extent.length);
                prop_assert_eq!(list.level, content.level - 1);
                below.extend(list.extents);
            }
            content = Content { level: content.level - 1, extents: below };
        }
        prop_assert_eq!(content.extents, extents);
    }
}

#[test]
fn refuses_names_that_escape() {
    for name in ["..", ".", "a/b", "a\0b"] {
        let entry = Entry {
            name: name.as_bytes().into(),
            meta: Meta { links: 1, ..Meta::default() },
            kind: EntryKind::Fifo,
            incomplete: false,
        };
        let mut builder = NodeBuilder::new(0);
        builder.push(&entry, &Names::new(), &Names::new());
        assert!(Node::decode(&builder.take()).is_err(), "{name:?}");
    }
}
