//! An index for one process: in files that nobody else sees, and never silent about what it lost.

use std::fs;

use super::*;
use crate::Kind;

const SHARDS: u64 = 12;

fn shards() -> Vec<(Sha256, Shard)> {
    (0..SHARDS).map(simple_shard).collect()
}

#[test]
fn leaves_nothing_behind_and_takes_no_memory_for_its_tables() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let index = Index::scratch(&cache);
    for shard in shards() {
        index.add(&[shard]).unwrap();
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
    }
    assert!(index.storage.create().unwrap().is_on_disk());
    let shards = shards();
    let packs: Vec<_> = shards.iter().flat_map(|(_, shard)| &shard.packs).collect();
    assert_holds(&index, &packs, (10_000..10_100).map(chunk_id));
    index.require_sound().unwrap();
}

#[test]
fn works_where_the_directory_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "in the way").unwrap();
    let index = Index::scratch(&dir.path().join("file/cache"));
    index.add(&shards()).unwrap();
    assert!(index.contains(&chunk_id(5)));
    index.require_sound().unwrap();
}

#[test]
fn damage_that_a_lookup_met_is_told_and_says_nothing_of_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::scratch(dir.path());
    index.add(&shards()).unwrap();
    index.tables()[0].blocks().damage();
    assert_eq!(index.require_sound().unwrap_err().kind(), Kind::Failed);
}

#[test]
fn damage_that_a_merge_left_out_is_told_although_the_tables_are_sound() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::scratch(dir.path());
    index.add(&shards()).unwrap();
    index.tables()[0].blocks().damage();
    index.add(&[simple_shard(SHARDS)]).unwrap();
    assert!(!index.is_damaged() && !index.contains(&chunk_id(5)));
    assert_eq!(index.require_sound().unwrap_err().kind(), Kind::Failed);
}
