//! Marks, and which copy of a chunk is kept: over packs that share chunks, in several tables.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::index::{Live, Mark, PackBytes, Worth};

/// The chunks of each pack: some lie in several packs, some twice in one.
fn packs() -> Vec<PackEntry> {
    let mut packs: Vec<PackEntry> = (0..12)
        .map(|number| {
            let own = 100 * number..100 * number + 40;
            let shared = (0..20).map(|n| 5000 + mixed(number * 64 + n) % 60);
            pack(number, own.chain(shared).chain([5003, 5003, 100 * number]))
        })
        .collect();
    // A copy as another machine would have stored it.
    packs.push(PackEntry { id: sha256(99), ..packs[4].clone() });
    packs
}

/// The packs in several tables; two of them named by two shards.
fn index_of(packs: &[PackEntry]) -> Index {
    let index = Index::in_memory();
    for (number, pack) in packs.iter().enumerate() {
        let shard = Shard { replaces: Vec::new(), packs: vec![pack.clone()] };
        index.add(&[(sha256(1 << 40 | number as u64), shard)]).unwrap();
    }
    for number in [2, 7] {
        let shard = Shard { replaces: Vec::new(), packs: vec![packs[number].clone()] };
        index.add(&[(sha256(1 << 41 | number as u64), shard)]).unwrap();
    }
    index
}

fn is_used(id: &ChunkId) -> bool {
    !id.as_bytes()[0].is_multiple_of(4)
}

/// In which packs each used chunk is kept.
fn kept(live: &Live) -> HashMap<ChunkId, Vec<Sha256>> {
    let mut kept: HashMap<ChunkId, Vec<Sha256>> = HashMap::new();
    for (number, pack) in live.packs().iter().enumerate() {
        let mut live_plain = 0_u64;
        live.for_each_segment(number as u32, |segment| {
            for (id, length, _) in segment.chunks.iter().filter(|(_, _, is_live)| *is_live) {
                kept.entry(*id).or_default().push(pack.id);
                live_plain += u64::from(*length);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(live_plain == 0, live.bytes(number as u32).live == 0, "{pack:?}");
    }
    kept
}

fn live_of(index: &Index, worth: impl Fn(&Sha256) -> Worth) -> Live {
    let marks = index.marks().unwrap();
    let packs: Vec<Sha256> = marks.packs().iter().map(|pack| pack.id).collect();
    let mut used = HashSet::new();
    index
        .for_each_place(|id, _| {
            used.insert(id);
        })
        .unwrap();
    for id in used.iter().filter(|id| is_used(id)) {
        assert_eq!(marks.mark(id).unwrap(), Mark::New);
        assert_eq!(marks.mark(id).unwrap(), Mark::Known);
    }
    assert_eq!(marks.mark(&chunk_id(1 << 50)).unwrap(), Mark::Absent);
    marks.choose(|number| worth(&packs[number as usize])).unwrap()
}

#[test]
fn one_copy_of_every_used_chunk_is_kept_and_the_same_by_everybody() {
    let packs = packs();
    let live = live_of(&index_of(&packs), |_| Worth::Good);
    let kept_copies = kept(&live);
    let used: HashSet<ChunkId> = packs.iter().flat_map(places).map(|(id, _)| id).filter(is_used).collect();
    assert_eq!(kept_copies.keys().copied().collect::<HashSet<_>>(), used);
    assert!(kept_copies.values().all(|packs| packs.len() == 1));
    // Shards that came in another order make other tables.
    let turned = Index::in_memory();
    for pack in packs.iter().rev() {
        let shard = Shard { replaces: Vec::new(), packs: vec![pack.clone()] };
        turned.add(&[(pack.id, shard)]).unwrap();
    }
    assert_eq!(kept(&live_of(&turned, |_| Worth::Good)), kept_copies);
}

#[test]
fn a_copy_in_a_doomed_or_missing_pack_counts_only_while_there_is_no_other() {
    let packs = packs();
    let index = index_of(&packs);
    let (doomed, twin, missing) = (packs[4].id, sha256(99), packs[5].id);
    let live = live_of(&index, |id| match *id {
        id if id == doomed => Worth::Doomed,
        id if id == missing => Worth::Missing,
        _ => Worth::Good,
    });
    let kept_copies = kept(&live);
    assert!(kept_copies.values().flatten().all(|pack| *pack != doomed), "its twin has all of it");
    assert_eq!(live.stranded, 0);
    assert!(live.lost.is_some(), "chunks that only the missing pack holds");
    let number = live.packs().iter().position(|pack| pack.id == doomed).unwrap();
    let boxes = packs[4].directory.box_bytes();
    assert_eq!(live.bytes(number as u32), PackBytes { live: 0, dead: boxes });
    // Two machines that doom one of two copies each: both stay.
    let live = live_of(&index, |id| if *id == doomed || *id == twin { Worth::Doomed } else { Worth::Good });
    assert!(live.stranded > 0 && live.lost.is_none());
    let both = kept(&live).values().filter(|packs| packs.contains(&doomed) && packs.contains(&twin)).count();
    assert_eq!(both as u64, live.stranded);
}
