//! The stages of a backup, one by one: chunker, ids, compression, seal, index, walk.
//!
//! `cargo bench -p lifeboat-micro-benches`. Compare ratios within one run only.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run should say so at once")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lifeboat_agent::chunk::id::IdKey;
use lifeboat_agent::chunk::{ChunkId, Gear, Params};
use lifeboat_agent::compress::{Compressor, Decompressor, Level};
use lifeboat_agent::fs::capture;
use lifeboat_agent::index::Index;
use lifeboat_agent::index::shard::{PackEntry, Shard};
use lifeboat_agent::pack::directory::{Codec, Directory, DirectoryChunk, PackKind, Segment};
use lifeboat_agent::seal::cipher::BoxInfo;
use lifeboat_agent::seal::{Cipher, Header, Keys, MasterKey, ObjectKind, RepositoryId, Role};
use lifeboat_providers::Sha256;

/// Bytes that compress about threefold, as program text does; the same in every run.
fn text(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(format!("entry {} has value {:x}\n", state >> 54, state >> 40).as_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn chunker(c: &mut Criterion) {
    let data = text(8 << 20);
    let gear = Gear::new(&[7; 32]);
    let params = Params::default();
    let mut group = c.benchmark_group("chunker");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("gear", |b| {
        b.iter(|| {
            let mut rest = data.as_slice();
            let mut count = 0;
            while !rest.is_empty() {
                rest = &rest[gear.cut(rest, &params)..];
                count += 1;
            }
            count
        });
    });
    let key = IdKey::from_bytes([1; 32]);
    for bytes in [4 << 10, 64 << 10] {
        group.bench_with_input(BenchmarkId::new("id", bytes), &bytes, |b, &bytes| {
            b.iter(|| data.chunks(bytes).map(|chunk| key.id(chunk).prefix_u64()).fold(0, u64::wrapping_add));
        });
    }
    group.finish();
}

fn seal(c: &mut Criterion) {
    let plain = text(2 << 20);
    let keys = Keys::derive(&MasterKey::from_bytes([3; 32]));
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    for (name, level) in [("fast", Level::FAST), ("default", Level::DEFAULT), ("high", Level::HIGH)] {
        let mut compressor = Compressor::new(level).unwrap();
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("compress", name), |b| {
            b.iter(|| compressor.compress(&plain, &mut out).unwrap());
        });
    }
    let mut coded = Vec::new();
    let codec = Compressor::new(Level::DEFAULT).unwrap().compress(&plain, &mut coded).unwrap();
    let mut decompressor = Decompressor::new().unwrap();
    let mut decoded = Vec::new();
    group.bench_function("decompress", |b| {
        b.iter(|| decompressor.decompress(codec, &mut coded, plain.len(), &mut decoded).unwrap());
    });
    for cipher in [Cipher::XChaCha20Poly1305, Cipher::Aes256Gcm] {
        let header =
            Header { kind: ObjectKind::DataPack, cipher, repository: RepositoryId([1; 16]), salt: [2; 32] };
        let object = header.object_cipher(&keys.seal);
        let info = BoxInfo { role: Role::Segment, codec: Codec::Raw, plain_bytes: plain.len() as u32 };
        group.bench_function(BenchmarkId::new("seal", cipher), |b| {
            b.iter(|| {
                let mut sealed = plain.clone();
                object.seal(0, info, &mut sealed, 0).unwrap();
                sealed.len()
            });
        });
    }
    group.finish();
}

fn index(c: &mut Criterion) {
    const PACKS: u64 = 256;
    const CHUNKS: u64 = 4096;
    let id = |n: u64| {
        let hash = Sha256::of(&n.to_le_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        ChunkId::from_bytes(id)
    };
    let packs = (0..PACKS)
        .map(|pack| {
            let chunks =
                (0..CHUNKS).map(|n| DirectoryChunk { id: id(pack * CHUNKS + n), length: 512 }).collect();
            let segment =
                Segment { number: 0, box_bytes: 1 << 20, plain_bytes: 2 << 20, codec: Codec::Zstd, chunks };
            PackEntry {
                id: Sha256::of(format!("pack {pack}").as_bytes()),
                salt: [0; 32],
                kind: PackKind::Data,
                stored_bytes: 2 << 20,
                directory: Directory { segments: vec![segment] },
            }
        })
        .collect();
    let index = Index::in_memory();
    index.add(&[(Sha256::of(b"shard"), Shard { replaces: Vec::new(), packs })]).unwrap();
    let mut group = c.benchmark_group("index of 1 M chunks");
    group.throughput(Throughput::Elements(1));
    let mut n = 0;
    group.bench_function("hit", |b| {
        b.iter(|| {
            n = (n + 7919) % (PACKS * CHUNKS);
            index.contains(black_box(&id(n)))
        });
    });
    group.bench_function("miss", |b| {
        b.iter(|| {
            n += 1;
            index.contains(black_box(&id(n + PACKS * CHUNKS)))
        });
    });
    group.finish();
}

fn walk(c: &mut Criterion) {
    use std::os::fd::AsFd as _;
    let directory = tempfile::tempdir().unwrap();
    for i in 0..1000 {
        std::fs::write(directory.path().join(format!("file {i}")), b"x").unwrap();
    }
    let fd = capture::open_dir_path(directory.path().as_os_str().as_encoded_bytes()).unwrap();
    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("names and stat", |b| {
        b.iter(|| {
            let names = capture::read_names(fd.as_fd()).unwrap();
            names.iter().map(|name| capture::stat(fd.as_fd(), &name.name).unwrap().size).sum::<u64>()
        });
    });
    group.finish();
}

criterion_group!(stages, chunker, seal, index, walk);
criterion_main!(stages);
