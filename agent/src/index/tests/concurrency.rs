//! Lookups while the tables change, and two processes in one directory.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn lookups_never_miss_while_tables_change() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let fixed: Vec<_> = (0..4).map(simple_shard).collect();
    index.add(&fixed).unwrap();
    let expected: Vec<_> = fixed.iter().flat_map(|(_, shard)| &shard.packs).flat_map(places).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for resident_bytes_max in [0, u64::MAX] {
            let (index, expected, done) = (&index, &expected, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    index.set_resident_bytes_max(resident_bytes_max);
                    for (id, location) in expected {
                        assert_eq!(index.lookup(id), Some(*location));
                    }
                }
            });
        }
        let present: HashSet<_> = fixed.iter().map(|(id, _)| *id).collect();
        for number in 4..80 {
            index.add(&[simple_shard(number)]).unwrap();
            match number % 10 {
                5 => index.trim_resident(),
                9 => index.retain(&present),
                _ => {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(!index.is_damaged());
}

#[test]
fn two_writers_in_one_process_lose_nothing() {
    let index = Index::in_memory();
    std::thread::scope(|scope| {
        for start in [0, 100] {
            let index = &index;
            scope.spawn(move || {
                (start..start + 30).for_each(|number| index.add(&[simple_shard(number)]).unwrap());
            });
        }
    });
    let shards: Vec<_> = (0..30).chain(100..130).map(simple_shard).collect();
    let packs: Vec<_> = shards.iter().flat_map(|(_, shard)| &shard.packs).collect();
    assert_holds(&index, &packs, []);
}

/// Each process deletes tables that the other still has mapped; both keep answering, and so does a third.
#[test]
fn two_processes_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = [(); 2].map(|()| Index::open(dir.path()).unwrap());
    let shards: Vec<_> = (0..40).map(simple_shard).collect();
    a.add(&shards[..10]).unwrap();
    let c = Index::open(dir.path()).unwrap();
    for shard in &shards[10..20] {
        c.add(std::slice::from_ref(shard)).unwrap();
    }
    for shard in &shards[20..30] {
        a.add(std::slice::from_ref(shard)).unwrap();
    }
    b.add(&shards[30..]).unwrap();
    let packs = |shards: &[(Sha256, Shard)]| -> Vec<PackEntry> {
        shards.iter().flat_map(|(_, shard)| shard.packs.clone()).collect()
    };
    let all = packs(&shards);
    let refs = |range: std::ops::Range<usize>| all[range].iter().collect::<Vec<_>>();
    assert_holds(&c, &refs(0..20), []);
    assert_holds(&a, &[refs(0..10), refs(20..30)].concat(), []);
    assert_holds(&b, &refs(30..40), []);
    let d = Index::open(dir.path()).unwrap();
    assert_eq!(d.covered().len(), 40);
    assert_holds(&d, &refs(0..40), []);
}
