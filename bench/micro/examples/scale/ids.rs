//! Chunk ids that look random and can be made again from a number, so that no list of them is needed to look them up.

use lifeboat_agent::chunk::ChunkId;

/// Numbers of chunks that are named by no shard.
pub const ABSENT_FROM: u64 = 1 << 40;

/// The id of the chunk of a number.
pub fn id(number: u64) -> ChunkId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed(2 * number).to_be_bytes());
    bytes[8..].copy_from_slice(&mixed(2 * number + 1).to_be_bytes());
    ChunkId::from_bytes(bytes)
}

/// SplitMix64 (Steele, Lea, Flood, 2014): the number's bits spread over all 64, no two numbers alike.
pub const fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
