//! Index shards as a first backup would store them, and for each pack a sparse file of its size: a backup looks whether all packs are
//! there, and that belongs to what is measured.

use std::fs::{self, File};
use std::path::Path;

use lifeboat_agent::index::shard::{PackEntry, Shard};
use lifeboat_agent::pack::directory::{Codec, Directory, DirectoryChunk, PackKind, SEGMENTS_OFFSET, Segment};
use lifeboat_agent::repository::{Area, Repository, layout};
use lifeboat_agent::seal::header::ObjectKind;
use lifeboat_providers::Sha256;

use crate::Fault;
use crate::ids::{id, mixed};

/// Chunks of a shard: a backup writes a checkpoint after as many.
const SHARD_CHUNKS: u64 = 256 << 10;
/// What a segment of the default size and mixed content comes to, in parts of 256.
const CODED_PER_256: u32 = 154;
/// A directory's box and the footer, roughly: the format only sets a least size.
const PACK_TAIL_BYTES: u64 = 8 << 10;

/// Stores shards that name `chunks` chunks in the repository at `root`.
pub fn store(repository: &Repository, root: &Path, chunks: u64) -> Result<(), Fault> {
    let mut next = 0;
    let (mut shards, mut packs, mut stored, mut plain) = (0_u64, 0_u64, 0_u64, 0_u64);
    while next < chunks {
        let end = chunks.min(next + SHARD_CHUNKS);
        let mut shard = Shard::default();
        while next < end {
            let pack = pack(repository, &mut next, end);
            plain += pack.directory.plain_bytes();
            stored += pack.stored_bytes;
            packs += 1;
            place(root, &pack)?;
            shard.packs.push(pack);
        }
        repository.put_whole(Area::Index, ObjectKind::IndexShard, &shard.encode()?)?;
        shards += 1;
    }
    println!(
        "{{\"chunks\":{chunks},\"shards\":{shards},\"packs\":{packs},\"stored_bytes\":{stored},\"plain_bytes\":{plain}}}"
    );
    Ok(())
}

/// A pack of the repository's size with the chunks from `next` on, which then is the first of the following one.
fn pack(repository: &Repository, next: &mut u64, end: u64) -> PackEntry {
    let first = *next;
    let mut directory = Directory::default();
    while *next < end && directory.box_bytes() < repository.config().pack_bytes as u64 {
        let number = directory.segments.len() as u32;
        directory.segments.push(segment(repository.config().segment_bytes as u32, number, next, end));
    }
    PackEntry {
        id: Sha256::of(&first.to_le_bytes()),
        salt: *Sha256::of(&mixed(first).to_le_bytes()).as_bytes(),
        kind: PackKind::Data,
        stored_bytes: SEGMENTS_OFFSET + directory.box_bytes() + PACK_TAIL_BYTES,
        directory,
    }
}

/// A file that takes up no space.
fn place(root: &Path, pack: &PackEntry) -> Result<(), Fault> {
    let path = root.join(layout::pack(pack.kind, &pack.id)?.to_string());
    fs::create_dir_all(path.parent().ok_or("a pack has no folder")?)?;
    Ok(File::create_new(path)?.set_len(pack.stored_bytes)?)
}

fn segment(segment_bytes: u32, number: u32, next: &mut u64, end: u64) -> Segment {
    let (mut chunks, mut plain_bytes) = (Vec::new(), 0);
    while *next < end && plain_bytes < segment_bytes {
        let length = length(*next);
        chunks.push(DirectoryChunk { id: id(*next), length });
        plain_bytes += length;
        *next += 1;
    }
    let box_bytes = plain_bytes / 256 * CODED_PER_256 + 16;
    Segment { number, box_bytes, plain_bytes, codec: Codec::Zstd, chunks }
}

/// 16 to 112 KiB, 64 on average, as the default cutter's chunks of large files.
fn length(number: u64) -> u32 {
    (16 << 10) + (mixed(!number) % (96 << 10)) as u32
}
