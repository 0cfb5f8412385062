//! Random histories of a repository's shards, with the index checked against what the format says counts.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// A writer stores a shard: packs of these numbers, replacing some shards that are present.
    Store { packs: Vec<u64>, replaces: Vec<prop::sample::Index>, tells_the_index: bool },
    /// Shards are deleted.
    Delete { shards: Vec<prop::sample::Index> },
    /// The index is brought up to date, so many shards at a time, in some order.
    Refresh { batch: usize, seed: u64 },
    /// The process ends and another begins.
    Reopen,
    /// Memory is given back.
    Trim,
}

fn steps() -> impl Strategy<Value = Step> {
    let indexes = || vec(any::<prop::sample::Index>(), 0..4);
    prop_oneof![
        5 => (vec(0..40_u64, 0..4), indexes(), any::<bool>()).prop_map(|(packs, replaces, tells_the_index)| {
            Step::Store { packs, replaces, tells_the_index }
        }),
        2 => indexes().prop_map(|shards| Step::Delete { shards }),
        3 => (1..5_usize, any::<u64>()).prop_map(|(batch, seed)| Step::Refresh { batch, seed }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Trim),
    ]
}

/// The same pack for the same number; chunks are shared between packs.
fn some_pack(number: u64) -> PackEntry {
    let count = mixed(number) % 60;
    pack(number, (0..count).map(|n| mixed(number << 8 | n) % 500))
}

struct Repository {
    present: BTreeMap<Sha256, Shard>,
    stored: u64,
}

impl Repository {
    fn names(&self, indexes: &[prop::sample::Index]) -> Vec<Sha256> {
        let names: Vec<_> = self.present.keys().copied().collect();
        indexes.iter().filter(|_| !names.is_empty()).map(|index| names[index.index(names.len())]).collect()
    }

    fn store(&mut self, packs: &[u64], replaces: Vec<Sha256>) -> (Sha256, Shard) {
        self.stored += 1;
        let id = sha256(1 << 50 | self.stored);
        let shard = Shard { replaces, packs: packs.iter().map(|number| some_pack(*number)).collect() };
        self.present.insert(id, shard.clone());
        (id, shard)
    }

    fn refresh(&self, index: &Index, batch: usize, seed: u64) {
        index.retain(&self.present.keys().copied().collect());
        for _ in 0..self.present.len() + 1 {
            let covered = index.covered();
            assert!(covered.iter().all(|id| self.present.contains_key(id)));
            let mut missing: Vec<_> = self.present.iter().filter(|(id, _)| !covered.contains(id)).collect();
            if missing.is_empty() {
                return;
            }
            missing.sort_by_key(|(id, _)| mixed(seed ^ u64::from(id.as_bytes()[0])));
            for batch in missing.chunks(batch) {
                let batch: Vec<_> = batch.iter().map(|(id, shard)| (**id, (*shard).clone())).collect();
                index.add(&batch).unwrap();
            }
        }
        panic!("the index never gets to cover all shards");
    }

    fn assert_matches(&self, index: &Index) {
        let replaced: HashSet<_> = self.present.values().flat_map(|shard| &shard.replaces).collect();
        let counted = self.present.iter().filter(|(id, _)| !replaced.contains(id));
        let packs: Vec<_> = counted.flat_map(|(_, shard)| &shard.packs).collect();
        assert_holds(index, &packs, (0..520).map(chunk_id));
        index.verify().unwrap();
    }
}

fn run(steps: Vec<Step>, dir: Option<&std::path::Path>) {
    let open = || dir.map_or_else(Index::in_memory, |dir| Index::open(dir).unwrap());
    let mut index = open();
    let mut repository = Repository { present: BTreeMap::new(), stored: 0 };
    for step in steps {
        match step {
            Step::Store { packs, replaces, tells_the_index } => {
                let replaces = repository.names(&replaces);
                let stored = repository.store(&packs, replaces);
                if tells_the_index {
                    index.add(&[stored]).unwrap();
                }
            }
            Step::Delete { shards } => {
                repository.names(&shards).iter().for_each(|id| drop(repository.present.remove(id)));
            }
            Step::Refresh { batch, seed } => {
                repository.refresh(&index, batch, seed);
                repository.assert_matches(&index);
            }
            Step::Reopen => index = open(),
            Step::Trim => index.trim_resident(),
        }
    }
    repository.refresh(&index, 3, 0);
    repository.assert_matches(&index);
    if let Some(dir) = dir {
        let tables = index.tables().len();
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), tables, "files are left behind");
        drop(index);
        repository.assert_matches(&Index::open(dir).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn follows_any_history_on_disk(steps in vec(steps(), 1..40)) {
        run(steps, Some(tempfile::tempdir().unwrap().path()));
    }

    #[test]
    fn follows_any_history_in_memory(steps in vec(steps(), 1..40)) {
        run(steps, None);
    }
}

/// A shard that replaced another is replaced in turn: the first stays ignored while the second is present.
#[test]
fn what_a_replaced_shard_replaced_stays_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |replaces: &[u64], number| Shard {
        replaces: replaces.iter().map(|n| sha256(*n)).collect(),
        packs: vec![pack(number, number * 10..number * 10 + 10)],
    };
    let [first, second, third] =
        [(sha256(1), shard(&[], 1)), (sha256(2), shard(&[1], 2)), (sha256(3), shard(&[2], 3))];
    let index = Index::open(dir.path()).unwrap();
    for shard in [&first, &second, &third] {
        index.add(std::slice::from_ref(shard)).unwrap();
    }
    assert_eq!(index.covered().len(), 3);
    assert_holds(&index, &[&third.1.packs[0]], (0..40).map(chunk_id));

    // The second goes: nothing says any more that the first is replaced, and it must be fetched again.
    let index = Index::open(dir.path()).unwrap();
    index.retain(&HashSet::from([first.0, third.0]));
    assert_eq!(index.covered(), HashSet::from([third.0]));
    index.add(std::slice::from_ref(&first)).unwrap();
    assert_holds(&index, &[&first.1.packs[0], &third.1.packs[0]], (0..40).map(chunk_id));
}

/// Only what a vanished shard alone listed goes; nothing else has to be fetched.
#[test]
fn a_vanished_shard_costs_no_other_shard() {
    let index = Index::in_memory();
    let shards: Vec<_> = (0..10).map(simple_shard).collect();
    let shared = Shard { replaces: Vec::new(), packs: vec![pack(3, 300..400)] };
    index.add(&[&shards[..], &[(sha256(77), shared)]].concat()).unwrap();
    let present: HashSet<_> =
        index.covered().into_iter().filter(|id| ![3, 4].map(|n| shards[n].0).contains(id)).collect();
    index.retain(&present);
    assert_eq!(index.covered(), present);
    let kept: Vec<_> = [0, 1, 2, 3, 5, 6, 7, 8, 9].iter().map(|n| &shards[*n].1.packs[0]).collect();
    assert_holds(&index, &kept, (400..500).map(chunk_id));
}
