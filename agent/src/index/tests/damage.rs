//! Whatever happens to a table's file: no panic, no wrong answer, and fetching the shards again mends it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::*;

const SHARDS: u64 = 12;

/// A cache of one table.
struct Cache {
    dir: tempfile::TempDir,
    shards: Vec<(Sha256, Shard)>,
    bytes: Vec<u8>,
    path: PathBuf,
}

impl Cache {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shards: Vec<_> = (0..SHARDS).map(simple_shard).collect();
        Index::open(dir.path()).unwrap().add(&shards).unwrap();
        let path = tables_in(dir.path()).remove(0);
        Self { bytes: fs::read(&path).unwrap(), dir, shards, path }
    }

    fn packs(&self) -> Vec<&PackEntry> {
        self.shards.iter().flat_map(|(_, shard)| &shard.packs).collect()
    }

    /// Puts a changed table in place, asks everything, and mends it.
    fn check(&self, bytes: &[u8], what: &str) {
        tables_in(self.dir.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(&self.path, bytes).unwrap();
        for resident_bytes_max in [0, u64::MAX] {
            let index = Index::open(self.dir.path()).unwrap();
            index.set_resident_bytes_max(resident_bytes_max);
            self.assert_never_wrong(&index, what);
        }
        let index = Index::open(self.dir.path()).unwrap();
        let is_sound = index.verify().is_ok() && !index.covered().is_empty();
        assert_eq!(is_sound, bytes == self.bytes, "{what}");
        self.mend(&index, what);
    }

    fn assert_never_wrong(&self, index: &Index, what: &str) {
        let mut missing = false;
        for (id, location) in self.packs().iter().flat_map(|pack| places(pack)) {
            match index.lookup(&id) {
                Some(found) => assert_eq!(found, location, "{what}"),
                None => missing = true,
            }
            assert!(index.contains(&id) || !index.covered().contains(&self.shards[0].0), "{what}");
            assert!(index.lookup_all(&id).iter().all(|found| *found == location), "{what}");
        }
        for id in (10_000..10_100).map(chunk_id) {
            assert!(!index.contains(&id), "{what}");
        }
        for pack in self.packs() {
            let mut visited = Vec::new();
            match index.for_each_chunk(&pack.id, |id, location| visited.push((id, *location))) {
                Ok(true) => assert_eq!(visited, places(pack), "{what}"),
                Ok(false) | Err(_) => assert!(places(pack).starts_with(&visited), "{what}"),
            }
        }
        if let Ok(totals) = index.totals() {
            assert!(totals.packs == SHARDS || index.covered().is_empty(), "{what}");
        }
        drop(index.for_each_place(|_, _| {}));
        assert!(!missing || index.is_damaged() || index.covered().is_empty(), "{what}: lost without a word");
    }

    fn mend(&self, index: &Index, what: &str) {
        index.retain(&self.shards.iter().map(|(id, _)| *id).collect());
        let covered = index.covered();
        let missing: Vec<_> = self.shards.iter().filter(|(id, _)| !covered.contains(id)).cloned().collect();
        index.add(&missing).unwrap();
        assert!(!index.is_damaged(), "{what}");
        assert_holds(index, &self.packs(), (10_000..10_100).map(chunk_id));
        assert_eq!(tables_in(self.dir.path()).len(), 1, "{what}");
    }
}

fn tables_in(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn flipped_bits_everywhere() {
    let cache = Cache::new();
    cache.check(&cache.bytes, "unchanged");
    for at in
        (0..cache.bytes.len()).step_by(509).chain(0..72).chain(cache.bytes.len() - 20..cache.bytes.len())
    {
        let mut bytes = cache.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        cache.check(&bytes, &format!("bit flipped in byte {at}"));
    }
}

#[test]
fn torn_files() {
    let cache = Cache::new();
    let len = cache.bytes.len();
    for at in [0, 1, 100, 4095, 4096, 4097, len - 1].into_iter().chain((4096..len).step_by(4096)) {
        cache.check(&cache.bytes[..at], &format!("cut to {at}"));
        let mut bytes = cache.bytes.clone();
        bytes[at.min(len - 1)..].fill(0);
        cache.check(&bytes, &format!("zeros from {at}"));
    }
    cache.check(&[&cache.bytes[..], &[0; 4096]].concat(), "longer");
}

#[test]
fn zeroed_and_exchanged_blocks() {
    let cache = Cache::new();
    let blocks = cache.bytes.len() / 4096;
    for block in 0..blocks {
        let mut bytes = cache.bytes.clone();
        bytes[block * 4096..][..4096].fill(0);
        cache.check(&bytes, &format!("block {block} zeroed"));
        let other = (block + 1) % blocks;
        let mut bytes = cache.bytes.clone();
        bytes[block * 4096..][..4096].copy_from_slice(&cache.bytes[other * 4096..][..4096]);
        cache.check(&bytes, &format!("block {block} is a copy of {other}"));
    }
}

/// A disk that loses what it held while the table is in use.
#[test]
fn damage_after_opening() {
    let cache = Cache::new();
    for at in (4096..cache.bytes.len()).step_by(4096 * 3 + 700) {
        fs::write(&cache.path, &cache.bytes).unwrap();
        let index = Index::open(cache.dir.path()).unwrap();
        assert_holds(&index, &cache.packs(), []);
        let file = fs::OpenOptions::new().write(true).open(&cache.path).unwrap();
        file.write_all_at(&[!cache.bytes[at]], at as u64).unwrap();
        index.trim_resident();
        cache.assert_never_wrong(&index, &format!("byte {at} changed while open"));
        assert_eq!(index.verify().unwrap_err().kind(), crate::Kind::Damaged);
        assert!(index.is_damaged() && index.covered().is_empty());
        assert!(index.packs().is_err() && index.totals().is_err());
        cache.mend(&index, "mended while open");
        index.verify().unwrap();
        tables_in(cache.dir.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}

/// A block and its checksum that fit each other, but not the table.
#[test]
fn a_checksum_changed_with_its_block() {
    let cache = Cache::new();
    // The sums of so small a table are less than a block, at the end.
    let sums_at = cache.bytes.len() / 4096 * 4096;
    for block in 1..sums_at / 4096 {
        let mut bytes = cache.bytes.clone();
        bytes[block * 4096 + 5] ^= 1;
        let sum = crate::index::layout::block_sum(&bytes[block * 4096..][..4096]);
        bytes[sums_at + (block - 1) * 8..][..8].copy_from_slice(&sum);
        cache.check(&bytes, &format!("block {block} changed with its checksum"));
    }
}

/// The table with a shard's replacement is lost, the one that remembers the shard without its packs is not.
#[test]
fn a_shard_counts_again_when_its_replacement_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let [first, mut second, third] = [1, 2, 3].map(simple_shard);
    second.1.replaces.push(first.0);
    index.add(std::slice::from_ref(&second)).unwrap();
    index.add(std::slice::from_ref(&first)).unwrap();
    let path = index.tables()[0].path().unwrap().to_path_buf();
    let len = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; len as usize], 0).unwrap();
    index.verify().unwrap_err();
    assert!(index.covered().is_empty());

    index.add(std::slice::from_ref(&first)).unwrap();
    index.add(std::slice::from_ref(&third)).unwrap();
    assert_holds(&index, &[&first.1.packs[0], &third.1.packs[0]], []);
    index.retain(&HashSet::from([first.0]));
    assert_holds(&index, &[&first.1.packs[0]], (300..310).map(chunk_id));
}

/// A merge that meets damage goes on without the damaged table.
#[test]
fn damage_met_by_a_merge() {
    let cache = Cache::new();
    let entry_block = 4096 * 3;
    let mut bytes = cache.bytes.clone();
    bytes[entry_block] ^= 1;
    fs::write(&cache.path, bytes).unwrap();
    let index = Index::open(cache.dir.path()).unwrap();
    let more: Vec<_> = (SHARDS..2 * SHARDS).map(simple_shard).collect();
    index.add(&more).unwrap();
    assert_eq!(index.covered(), more.iter().map(|(id, _)| *id).collect());
    let packs: Vec<_> = more.iter().flat_map(|(_, shard)| &shard.packs).collect();
    assert_holds(&index, &packs, []);
    assert_eq!(tables_in(cache.dir.path()).len(), 1);
}

/// The same when the table had to be rewritten because a shard is gone.
#[test]
fn damage_met_by_retain() {
    let cache = Cache::new();
    let mut bytes = cache.bytes.clone();
    bytes[4096 * 3] ^= 1;
    fs::write(&cache.path, bytes).unwrap();
    let index = Index::open(cache.dir.path()).unwrap();
    index.retain(&cache.shards[1..].iter().map(|(id, _)| *id).collect());
    assert!(!index.is_damaged() && index.covered().is_empty());
    assert!(tables_in(cache.dir.path()).is_empty());
}

/// Where nothing can be written, tables go into memory, which is told once.
#[test]
fn a_directory_that_is_gone() {
    let cache = Cache::new();
    let index = Index::open(cache.dir.path()).unwrap();
    fs::remove_dir_all(cache.dir.path()).unwrap();
    let (new, later) = (simple_shard(50), simple_shard(51));
    index.add(std::slice::from_ref(&new)).unwrap();
    let told = index.take_trouble().unwrap().to_string();
    assert!(told.contains("kept in memory") && told.contains("no such file"), "{told}");
    index.add(std::slice::from_ref(&later)).unwrap();
    assert!(index.take_trouble().is_none());
    let mut packs = cache.packs();
    packs.extend([&new.1.packs[0], &later.1.packs[0]]);
    assert_holds(&index, &packs, (5200..5300).map(chunk_id));
    index.retain(&HashSet::from([cache.shards[0].0, new.0]));
    assert_holds(&index, &[&cache.shards[0].1.packs[0], &new.1.packs[0]], (5100..5200).map(chunk_id));
    fs::create_dir(cache.dir.path()).unwrap();
}
