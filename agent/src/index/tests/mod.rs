//! Tests of the index: against a model, on damaged files, from several threads and processes.

mod concurrency;
mod damage;
mod live;
mod model;
mod scratch;
mod shards;

use std::collections::BTreeSet;

use lifeboat_providers::Sha256;

use super::*;
use crate::pack::directory::{Directory, DirectoryChunk, Segment};

/// Numbers that look random and are the same each time.
fn mixed(n: u64) -> u64 {
    let hash = blake3::hash(&n.to_le_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())
}

fn sha256(n: u64) -> Sha256 {
    Sha256::of(&n.to_le_bytes())
}

fn chunk_id(n: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&n.to_be_bytes()).as_bytes().first_chunk().unwrap())
}

/// A pack that is the same for the same number, with chunks of these numbers, a few in each segment.
fn pack(number: u64, chunks: impl IntoIterator<Item = u64>) -> PackEntry {
    let chunks: Vec<DirectoryChunk> = chunks
        .into_iter()
        .map(|n| DirectoryChunk { id: chunk_id(n), length: 500 + (mixed(n) % 60_000) as u32 })
        .collect();
    let segments = chunks.chunks(1 + (mixed(number) % 7) as usize).zip(0..).map(|(chunks, n)| Segment {
        number: 1000 - n,
        box_bytes: 100 + n,
        plain_bytes: chunks.iter().map(|chunk| chunk.length).sum(),
        codec: Codec::Zstd,
        chunks: chunks.to_vec(),
    });
    let directory = Directory { segments: segments.collect() };
    PackEntry {
        id: sha256(number),
        salt: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        kind: if number.is_multiple_of(3) { PackKind::Metadata } else { PackKind::Data },
        stored_bytes: directory.box_bytes() + 1000,
        directory,
    }
}

/// A shard of one pack with a hundred chunks from `100 × number` on.
fn simple_shard(number: u64) -> (Sha256, Shard) {
    let chunks = 100 * number..100 * (number + 1);
    (sha256(1 << 40 | number), Shard { replaces: Vec::new(), packs: vec![pack(number, chunks)] })
}

/// Every place that a pack gives, in order.
fn places(pack: &PackEntry) -> Vec<(ChunkId, Location)> {
    let mut places = Vec::new();
    for (segment, at) in pack.directory.segments.iter().zip(pack.directory.segment_offsets()) {
        let mut offset = 0;
        for chunk in &segment.chunks {
            let segment = SegmentLocation {
                number: segment.number,
                offset: at,
                box_bytes: segment.box_bytes,
                plain_bytes: segment.plain_bytes,
                codec: segment.codec,
            };
            let (pack_salt, kind, length) = (pack.salt, pack.kind, chunk.length);
            places.push((chunk.id, Location { pack: pack.id, pack_salt, kind, segment, offset, length }));
            offset += chunk.length;
        }
    }
    places
}

/// Checks every answer of the index against the packs that should be in it, and that `absent` is not.
fn assert_holds(index: &Index, packs: &[&PackEntry], absent: impl IntoIterator<Item = ChunkId>) {
    let mut distinct: Vec<&PackEntry> = packs.to_vec();
    distinct.sort_by_key(|pack| pack.id);
    distinct.dedup_by_key(|pack| pack.id);
    let mut expected: std::collections::HashMap<ChunkId, Vec<Location>> = Default::default();
    for (id, location) in distinct.iter().flat_map(|pack| places(pack)) {
        expected.entry(id).or_default().push(location);
    }
    for (id, locations) in &mut expected {
        locations.sort_by_key(|location| (location.pack, location.segment.offset, location.offset));
        assert_eq!(index.lookup_all(id), *locations);
        assert!(index.lookup(id).is_some_and(|location| locations.contains(&location)));
        assert!(index.contains(id));
    }
    for id in absent.into_iter().filter(|id| !expected.contains_key(id)) {
        assert_eq!((index.lookup(&id), index.contains(&id)), (None, false));
        assert!(index.lookup_all(&id).is_empty());
    }
    let found: BTreeSet<_> = index.packs().unwrap().iter().map(|pack| pack.id).collect();
    assert_eq!(found, distinct.iter().map(|pack| pack.id).collect());
    let mut totals = Totals::default();
    for pack in &distinct {
        totals.packs += 1;
        totals.chunks += pack.directory.chunk_count() as u64;
        totals.plain_bytes += pack.directory.plain_bytes();
        totals.stored_bytes += pack.stored_bytes;
        let mut chunks = Vec::new();
        assert!(index.for_each_chunk(&pack.id, |id, location| chunks.push((id, *location))).unwrap());
        assert_eq!(chunks, places(pack));
    }
    assert_eq!(index.totals().unwrap(), totals);
    let mut visited = 0;
    index
        .for_each_place(|id, location| {
            visited += 1;
            assert!(expected[&id].contains(location));
        })
        .unwrap();
    assert_eq!(visited, totals.chunks);
}

#[test]
fn an_empty_index_knows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for index in [Index::in_memory(), Index::open(&dir.path().join("a/b")).unwrap()] {
        assert_holds(&index, &[], [chunk_id(1)]);
        assert!(index.covered().is_empty());
        assert!(!index.for_each_chunk(&sha256(1), |_, _| {}).unwrap());
        index.retain(&HashSet::new());
        index.add(&[]).unwrap();
        index.verify().unwrap();
    }
}

#[test]
fn what_was_added_is_found_again_after_opening() {
    let dir = tempfile::tempdir().unwrap();
    let shards: Vec<_> = (0..20).map(simple_shard).collect();
    let packs: Vec<_> = shards.iter().flat_map(|(_, shard)| &shard.packs).collect();
    let index = Index::open(dir.path()).unwrap();
    for shard in shards.chunks(3) {
        index.add(shard).unwrap();
    }
    assert_holds(&index, &packs, (5000..5100).map(chunk_id));
    assert!(index.tables().len() > 1, "the test wants several tables");
    let index = Index::open(dir.path()).unwrap();
    assert_eq!(index.covered(), shards.iter().map(|(id, _)| *id).collect());
    for bytes_max in [0, u64::MAX] {
        index.trim_resident();
        index.set_resident_bytes_max(bytes_max);
        assert_holds(&index, &packs, (5000..5100).map(chunk_id));
    }
    index.verify().unwrap();
}

/// Mapped entries are counted and limited; what is released or unmapped is counted no more.
#[test]
fn resident_memory_is_accounted_for() {
    let index = Index::in_memory();
    index.set_resident_bytes_max(0);
    (0..20).for_each(|number| index.add(&[simple_shard(number)]).unwrap());
    let windows = || index.storage.resident().windows();
    let lookups = || assert!((0..2000).map(chunk_id).all(|id| index.contains(&id)));
    index.trim_resident();
    let besides_entries = windows();
    assert!(besides_entries > 0);
    lookups();
    assert_eq!(windows(), besides_entries);
    index.set_resident_bytes_max(u64::MAX);
    lookups();
    assert!(windows() > besides_entries);
    let all = windows();
    lookups();
    assert_eq!(windows(), all);
    index.verify().unwrap();
    index.trim_resident();
    assert_eq!(windows(), besides_entries);
    lookups();
    index.retain(&HashSet::new());
    assert_eq!(windows(), 0);
}

#[test]
fn tables_stay_few_while_shards_are_added_one_by_one() {
    let index = Index::in_memory();
    for number in 0..200 {
        index.add(&[simple_shard(number)]).unwrap();
        assert!(index.tables().len() <= 9, "{} tables after {number} shards", index.tables().len());
    }
    assert_eq!(index.totals().unwrap().chunks, 20_000);
}

#[test]
fn order_keys_group_packs_and_ascend_within() {
    let packs = [pack(1, 0..50), pack(2, 50..100)];
    let mut all: Vec<_> = packs.iter().flat_map(places).map(|(_, location)| location).collect();
    all.sort_by_key(|location| mixed(u64::from(location.length)));
    all.sort_by_key(Location::order_key);
    let mut expected = all.clone();
    expected.sort_by_key(|location| (location.pack, location.segment.offset, location.offset));
    assert_eq!(all, expected);
}

#[test]
fn a_chunk_twice_in_one_pack_has_two_places() {
    let index = Index::in_memory();
    let pack = pack(1, [7, 8, 7, 9, 7]);
    index
        .add(&[(sha256(2), Shard { replaces: Vec::new(), packs: vec![pack.clone(), pack.clone()] })])
        .unwrap();
    assert_eq!(index.lookup_all(&chunk_id(7)).len(), 3);
    assert_holds(&index, &[&pack], []);
}

#[test]
fn a_pack_that_several_shards_list_is_kept_once() {
    let index = Index::in_memory();
    let [shared, other] = [pack(1, 0..40), pack(2, 40..80)];
    for number in 0..3 {
        let packs = vec![shared.clone(), other.clone()];
        index.add(&[(sha256(number), Shard { replaces: Vec::new(), packs })]).unwrap();
    }
    assert_holds(&index, &[&shared, &other], []);
    let packs: u32 = index.tables().iter().map(|table| table.counts().packs).sum();
    assert!(packs <= 2 * index.tables().len() as u32, "kept {packs} times");
}

#[test]
fn shards_without_packs_are_covered() {
    let dir = tempfile::tempdir().unwrap();
    let shard = (sha256(1), Shard { replaces: vec![sha256(9)], packs: Vec::new() });
    Index::open(dir.path()).unwrap().add(&[shard]).unwrap();
    assert_eq!(Index::open(dir.path()).unwrap().covered(), HashSet::from([sha256(1)]));
}

#[test]
fn opening_leaves_other_files_alone_and_deletes_what_is_no_table() {
    let dir = tempfile::tempdir().unwrap();
    Index::open(dir.path()).unwrap().add(&[simple_shard(1)]).unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["notes.txt", "empty.table", "foreign.table", ".new-1-1"] {
        std::fs::write(path(name), if name == "foreign.table" { vec![7; 20_000] } else { Vec::new() })
            .unwrap();
    }
    let index = Index::open(dir.path()).unwrap();
    assert!(path("notes.txt").exists());
    for name in ["empty.table", "foreign.table", ".new-1-1"] {
        assert!(!path(name).exists(), "{name}");
    }
    assert_holds(&index, &[&simple_shard(1).1.packs[0]], [chunk_id(5)]);
}

/// A process killed after it wrote a merged table, before it deleted what went into it.
#[test]
fn tables_that_another_one_includes_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.add(&[simple_shard(1)]).unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let old: Vec<_> = files().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    index.add(&[simple_shard(2)]).unwrap();
    assert_eq!(files().count(), 1);
    old.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let index = Index::open(dir.path()).unwrap();
    assert_eq!(files().count(), 1);
    assert_holds(&index, &[&simple_shard(1).1.packs[0], &simple_shard(2).1.packs[0]], []);
}

#[test]
fn a_file_that_is_being_written_is_not_taken_for_left_over() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::directory(dir.path()).unwrap();
    let new = storage.create().unwrap();
    assert!(storage.tables().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    drop(new);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
