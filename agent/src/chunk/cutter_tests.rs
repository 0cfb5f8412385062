//! Laws of cutting, and golden vectors: these values must never change for format version 1.

use proptest::prelude::*;

use super::*;

fn lengths(data: &[u8], gear: &Gear, params: &Params) -> Vec<usize> {
    let mut rest = data;
    std::iter::from_fn(|| {
        let len = gear.cut(rest, params);
        rest = &rest[len..];
        (len > 0).then_some(len)
    })
    .collect()
}

/// Deterministic bytes that are not uniform: a BLAKE3 stream.
fn stream(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

const SMALL: Params = Params { whole_max: 0, min: 64, average: 1024, max: 4096, page_max: 4096 };

proptest! {
    #[test]
    fn chunks_cover_the_data_within_bounds(seed: u8, len in 0_usize..60_000) {
        let data = stream(seed, len);
        let lengths = lengths(&data, &Gear::new(&[9; 32]), &SMALL);
        prop_assert_eq!(lengths.iter().sum::<usize>(), len);
        if let Some((last, others)) = lengths.split_last() {
            prop_assert!(others.iter().all(|len| (SMALL.min..=SMALL.max).contains(len)));
            prop_assert!(*last <= SMALL.max);
        }
    }

    #[test]
    fn a_cut_depends_only_on_the_window(seed: u8, extra in 0_usize..9000) {
        let gear = Gear::new(&[5; 32]);
        let data = stream(seed, SMALL.max + extra);
        prop_assert_eq!(gear.cut(&data, &SMALL), gear.cut(&data[..SMALL.max], &SMALL));
    }
}

/// After an insertion the cuts fall back into step: how soon is a matter of chance, so it is the mean that is bounded, over fixed cases.
#[test]
fn an_insertion_changes_few_chunks() {
    const CASES: u8 = 64;
    let gear = Gear::new(&[3; 32]);
    let chunks = |data: &[u8]| {
        let mut start = 0;
        let mut all = Vec::new();
        for len in lengths(data, &gear, &SMALL) {
            all.push(data[start..start + len].to_vec());
            start += len;
        }
        all
    };
    let mut new = 0;
    for case in 0..CASES {
        let before = stream(case, 100_000);
        let mut after = before.clone();
        let at = usize::from(case) * 1500;
        after.splice(at..at, stream(case.wrapping_add(100), 1 + usize::from(case)));
        let old: std::collections::HashSet<_> = chunks(&before).into_iter().collect();
        new += chunks(&after).into_iter().filter(|chunk| !old.contains(chunk)).count();
    }
    assert!(new < 6 * usize::from(CASES), "{new} new chunks in {CASES} insertions");
}

#[test]
fn keys_cut_differently() {
    let data = stream(1, 1 << 20);
    let params = Params::default();
    assert_ne!(lengths(&data, &Gear::new(&[1; 32]), &params), lengths(&data, &Gear::new(&[2; 32]), &params));
}

#[test]
fn golden_cut_points() {
    let lengths = lengths(&stream(1, 1 << 20), &Gear::new(&[1; 32]), &Params::default());
    assert_eq!(lengths, GOLDEN);
}

#[test]
fn impossible_parameters_are_refused() {
    let fine = Params::default();
    assert!(fine.validate().is_ok());
    for bad in [
        Params { average: 65_000, ..fine },
        Params { min: 0, ..fine },
        Params { max: 1 << 30, ..fine },
        Params { page_max: 5000, ..fine },
        Params { average: 0, ..fine },
    ] {
        assert!(bad.validate().is_err(), "{bad:?}");
    }
}

/// Chunk lengths of `stream(1, 1 MiB)` under gear key `[1; 32]` with the default parameters, as a Python program written from
/// `docs/format.md` computed them.
const GOLDEN: &[usize] = &[
    27417, 71433, 72964, 25382, 78130, 69444, 73405, 61293, 59665, 94439, 69640, 67537, 67839, 93484, 37300,
    68184, 11020,
];
