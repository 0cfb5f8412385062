//! Lines: a filter for ids that are not there, and the way to those that are, in one cache line.
//!
//! Ids are uniform (keyed BLAKE3), so the table is cut into equal ranges of ids of [`KEYS_PER_LINE`] keys on
//! average. Each has a line of 64 bytes: the number of its first entry, and a Bloom filter of 480 bits over its
//! keys. A line is found by one multiplication, so a miss, which is what almost every probe of a first backup
//! is, costs one cache miss, and a hit one more for the entry itself. Ids that are not uniform would only make
//! lookups slower (a full filter, a binary search in a long range), never wrong.
//!
//! Without the filter the same probes took (CPU time of a miss, all tables, a shared 2-core Sapphire Rapids): 1
//! million keys 250 ns instead of 30, 10 million 590 instead of 110; and where entries are read instead of
//! mapped, see [`super::blocks`], 6,400 instead of 190, as every miss had to read entries. It costs 1.25 bytes a key.
//!
//! Lines are in the order of ids, as entries are: both are written front to back while a merge streams.

use super::layout::u32_at;

/// One cache line.
pub(super) const LINE_BYTES: usize = 64;

/// 10 filter bits a key: 1.3 % of misses go on to the entries (measured; see `filters_most_misses`).
const KEYS_PER_LINE: u64 = 48;

const START_BYTES: usize = 4;
const FILTER_BITS: u64 = 8 * (LINE_BYTES - START_BYTES) as u64;

/// Bits set for a key, each chosen by 10 bits of the id's lower half.
const PROBES: u32 = 6;

/// How many lines a table of so many entries has; at least one.
pub(super) fn lines_for(entries: u32) -> u32 {
    u64::from(entries).div_ceil(KEYS_PER_LINE).max(1) as u32
}

/// Which line an id belongs to, and where in the line's range it lies as a fraction of 2⁶⁴.
#[inline]
pub(super) fn line_of(id: u128, lines: u32) -> (u32, u64) {
    let product = (id >> 64) * u128::from(lines);
    ((product >> 64) as u32, product as u64)
}

/// One line while it is read or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line([u8; LINE_BYTES]);

impl Line {
    /// A line whose entries begin with number `start`, no key in its filter.
    pub(super) fn starting_at(start: u32) -> Self {
        let mut bytes = [0; LINE_BYTES];
        bytes[..START_BYTES].copy_from_slice(&start.to_le_bytes());
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; LINE_BYTES] {
        &self.0
    }

    pub(super) fn insert(&mut self, id: u128) {
        for bit in bits(id) {
            self.0[START_BYTES + bit / 8] |= 1 << (bit % 8);
        }
    }
}

/// The number of the first entry of a stored line.
#[inline]
pub(super) fn start_of(line: &[u8; LINE_BYTES]) -> u32 {
    u32_at(line, 0)
}

/// Whether a stored line's filter admits the id; a key that was inserted is always admitted.
#[inline]
pub(super) fn admits(line: &[u8; LINE_BYTES], id: u128) -> bool {
    bits(id).all(|bit| line[START_BYTES + bit / 8] & 1 << (bit % 8) != 0)
}

#[inline]
fn bits(id: u128) -> impl Iterator<Item = usize> {
    let low = id as u64;
    (0..PROBES).map(move |i| ((((low >> (10 * i)) & 0x3ff) * FILTER_BITS) >> 10) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> u128 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        u128::from_be_bytes(bytes)
    }

    #[test]
    fn filters_most_misses() {
        const KEYS: u32 = 200_000;
        let lines = lines_for(KEYS);
        let mut table = vec![Line::starting_at(0); lines as usize];
        (0..KEYS).for_each(|n| table[line_of(id(n), lines).0 as usize].insert(id(n)));
        let admitted = |n: &u32| admits(table[line_of(id(*n), lines).0 as usize].as_bytes(), id(*n));
        assert!((0..KEYS).all(|n| admitted(&n)));
        let wrong = (KEYS..2 * KEYS).filter(admitted).count();
        assert!(wrong * 1000 < KEYS as usize * 16, "{wrong} of {KEYS} absent keys admitted");
    }

    #[test]
    fn lines_cover_all_ids_in_order() {
        for lines in [1, 2, 3, 1000, u32::MAX] {
            assert_eq!(line_of(0, lines).0, 0);
            assert_eq!(line_of(u128::MAX, lines).0, lines - 1);
        }
        assert_eq!(lines_for(0), 1);
    }
}
