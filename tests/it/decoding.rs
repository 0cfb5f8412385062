//! The fuzz targets' corpus and thousands of mutations of it, replayed on stable through the same entry points.

use std::path::{Path, PathBuf};

use lifeboat_tests::decoders::{ENTRY_POINTS, run, seeds};
use lifeboat_tests::random::Random;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz/corpus")
}

/// All that is kept of an entry point: the seeds, and what fuzzing found worth keeping.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus().join(name))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus for {name}: run the ignored test write_seeds");
    files.into_iter().map(|file| std::fs::read(file).unwrap()).chain(seeds(name)).collect()
}

fn attempt(name: &str, data: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| run(name, data)) {
        eprintln!("{name} fails with {} bytes: {}", data.len(), data.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

fn mutated(data: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = data.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(data.len().max(1));
        match random.below(6) {
            0 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            1 if !data.is_empty() => data[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => data.truncate(at),
            3 => data.insert(at, random.number() as u8),
            4 if !data.is_empty() => {
                let piece = data[at..(at + random.below(20)).min(data.len())].to_vec();
                let to = random.below(data.len());
                data.splice(to..to, piece);
            }
            _ => {
                let len = random.below(12);
                let huge = random.bytes(len);
                data.splice(at..at, huge);
            }
        }
    }
    data
}

#[test]
fn no_decoder_panics_or_breaks_its_laws() {
    for (name, _) in ENTRY_POINTS {
        let inputs = inputs(name);
        attempt(name, b"");
        for (number, input) in inputs.iter().enumerate() {
            attempt(name, input);
            let mut random = Random::new(number as u64);
            for len in 0..input.len().min(300) {
                attempt(name, &input[..len]);
            }
            for at in 0..input.len().min(300) {
                for bit in [1, 0x80, 0xff] {
                    let mut flipped = input.clone();
                    flipped[at] ^= bit;
                    attempt(name, &flipped);
                }
            }
            for _ in 0..1500 {
                attempt(name, &mutated(input, &mut random));
            }
        }
    }
}

/// Every entry point takes something: a seed that is refused would leave nothing to mutate.
#[test]
fn seeds_are_what_their_decoder_takes() {
    use lifeboat_agent::index::shard::Shard;
    use lifeboat_agent::pack::directory::Directory;
    use lifeboat_agent::seal::Header;
    use lifeboat_agent::seal::slot::Slot;
    use lifeboat_agent::snapshot::Manifest;
    use lifeboat_agent::tree::{Content, Node};
    assert!(Header::parse(&seeds("header")[0]).is_ok());
    assert!(Slot::parse(&seeds("slot")[0]).is_ok());
    assert!(Directory::decode(&seeds("directory")[0]).is_ok());
    assert!(Shard::decode(&seeds("shard")[0]).is_ok());
    assert_eq!(Node::decode(&seeds("node")[0]).unwrap().entries.len(), 7);
    assert!(Content::decode_list(&seeds("content")[0]).is_ok());
    assert!(Manifest::decode(&seeds("manifest")[0]).is_ok());
    assert!(ENTRY_POINTS.iter().all(|(name, _)| !seeds(name).is_empty()));
}

/// Every fuzz target has an entry point and the other way round.
#[test]
fn every_entry_point_is_a_fuzz_target() {
    let manifest = std::fs::read_to_string(corpus().parent().unwrap().join("Cargo.toml")).unwrap();
    for (name, _) in ENTRY_POINTS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no target {name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), ENTRY_POINTS.len());
}

/// Not a test: writes `fuzz/corpus/*/seed*`. Run after the format has changed.
#[test]
#[ignore = "writes the corpus"]
fn write_seeds() {
    for (name, _) in ENTRY_POINTS {
        let folder = corpus().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed{number}")), seed).unwrap();
        }
    }
}
