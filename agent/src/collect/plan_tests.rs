//! The plan, by itself.

use super::*;

const FULL: u64 = 1000;

fn pack(name: u8, live: u64, dead: u64) -> PackUse {
    PackUse {
        id: Sha256::from_bytes([name; 32]),
        kind: PackKind::Data,
        stored_bytes: live + dead + 10,
        bytes: PackBytes { live, dead },
        standing: Standing::Free,
        number: Some(name.into()),
    }
}

fn standing(pack: PackUse, standing: Standing) -> PackUse {
    PackUse { standing, ..pack }
}

fn actions(packs: &[PackUse], max_unused: MaxUnused) -> Vec<(Action, Reason)> {
    let plan = Plan::new(packs.to_vec(), max_unused, |_| FULL);
    plan.packs.iter().map(|planned| (planned.action, planned.reason)).collect()
}

#[test]
fn each_standing_has_its_fate() {
    use Action::{Delete, Keep, Repack};
    let packs = [
        pack(1, 0, 900),
        pack(2, 900, 0),
        pack(3, 10, 890),
        standing(pack(4, 0, 900), Standing::Interrupted),
        standing(pack(5, 0, 900), Standing::AtWork),
        standing(pack(6, 0, 900), Standing::Doomed),
        standing(pack(7, 500, 400), Standing::Doomed),
        standing(pack(8, 0, 900), Standing::Missing),
        standing(pack(9, 0, 0), Standing::Unnamed),
        standing(pack(10, 10, 890), Standing::Interrupted),
    ];
    let expected = [
        (Delete, Reason::Unused),
        (Keep, Reason::Used),
        (Repack, Reason::PartlyUnused),
        (Keep, Reason::Interrupted),
        (Keep, Reason::AtWork),
        (Delete, Reason::Doomed),
        (Repack, Reason::NeededAgain),
        (Delete, Reason::Missing),
        (Delete, Reason::Unnamed),
        (Keep, Reason::Interrupted),
    ];
    assert_eq!(actions(&packs, MaxUnused::default()), expected);
}

#[test]
fn the_emptiest_packs_are_repacked_until_the_rest_is_within_the_limit() {
    let packs = [pack(1, 900, 100), pack(2, 100, 900), pack(3, 500, 500), pack(4, 8000, 0)];
    let repacked = |max: MaxUnused| -> Vec<u32> {
        Plan::new(packs.to_vec(), max, |_| FULL).of(Action::Repack).filter_map(|pack| pack.number).collect()
    };
    assert_eq!(repacked(MaxUnused::Bytes(600)), [2]);
    assert_eq!(repacked(MaxUnused::Bytes(599)), [2, 3]);
    assert_eq!(repacked(MaxUnused::Bytes(0)), [1, 2, 3]);
    assert_eq!(repacked(MaxUnused::Share(0.05)), [2, 3]);
    assert_eq!(repacked(MaxUnused::Unlimited), [0; 0]);
    let plan = Plan::new(packs.to_vec(), MaxUnused::Bytes(599), |_| FULL);
    assert_eq!((plan.frees(), plan.copies(), plan.unused_left()), (1420, 600, 100));
}

#[test]
fn many_small_packs_are_merged_and_few_are_not() {
    let small = |count: u8| -> Vec<PackUse> { (1..=count).map(|n| pack(n, 200, 0)).collect() };
    let repacked =
        |packs: Vec<PackUse>| Plan::new(packs, MaxUnused::default(), |_| FULL).of(Action::Repack).count();
    assert_eq!(repacked(small(15)), 0);
    assert_eq!(repacked(small(16)), 16);
    let mut of_two_kinds = small(16);
    of_two_kinds[0].kind = PackKind::Metadata;
    assert_eq!(repacked(of_two_kinds), 0);
    let large = (1..=20).map(|n| pack(n, 250, 0)).collect();
    assert_eq!(repacked(large), 0);
}

#[test]
fn limits_are_read_as_they_are_written() {
    let parse = |text: &str| text.parse::<MaxUnused>().ok();
    assert_eq!(parse("5%"), Some(MaxUnused::Share(0.05)));
    assert_eq!(parse("0"), Some(MaxUnused::Bytes(0)));
    assert_eq!(parse("1K"), Some(MaxUnused::Bytes(1024)));
    assert_eq!(parse("unlimited"), Some(MaxUnused::Unlimited));
    for wrong in ["", "%", "100%", "-1%", "five", "NaN%"] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}
