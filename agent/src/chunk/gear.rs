//! Content-defined cut points by a keyed gear hash with normalised chunk sizes.
//!
//! The table of 256 × 64 bits is expanded from a secret key: with a public table a store could tell known files
//! by their chunk lengths. The cut points of a key are frozen by golden vectors; changing them would end deduplication
//! against everything stored before.

use super::cutter::Params;

/// The secret table.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Gear {
    table: Box<[u64; 256]>,
}

impl Gear {
    /// Expands the table from its key's BLAKE3 stream.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut stream = blake3::Hasher::new_keyed(key).finalize_xof();
        let mut table = Box::new([0_u64; 256]);
        for value in table.iter_mut() {
            let mut bytes = [0; 8];
            stream.fill(&mut bytes);
            *value = u64::from_le_bytes(bytes);
        }
        Self { table }
    }

    /// The length of the chunk at the front of `data`.
    ///
    /// `data` must reach to the file's (or data run's) end or hold at least `params.max` bytes, so that the cut does not depend on
    /// how the caller reads. Empty data gives 0.
    pub fn cut(&self, data: &[u8], params: &Params) -> usize {
        let end = data.len().min(params.max);
        if end <= params.min {
            return end;
        }
        let normal = params.average.clamp(params.min, end);
        let bits = params.average.ilog2();
        let strict = !(u64::MAX >> (bits + 2));
        let loose = !(u64::MAX >> (bits - 2));
        let mut hash = 0;
        if let Some(len) = self.scan(&data[params.min..normal], strict, &mut hash) {
            return params.min + len;
        }
        match self.scan(&data[normal..end], loose, &mut hash) {
            Some(len) => normal + len,
            None => end,
        }
    }

    /// Bytes up to and with the first after which the hash has none of the mask's bits.
    #[inline]
    fn scan(&self, data: &[u8], mask: u64, hash: &mut u64) -> Option<usize> {
        let table = &*self.table;
        let mut h = *hash;
        for (i, &byte) in data.iter().enumerate() {
            h = (h << 1).wrapping_add(table[usize::from(byte)]);
            if h & mask == 0 {
                return Some(i + 1);
            }
        }
        *hash = h;
        None
    }
}

impl std::fmt::Debug for Gear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gear(…)")
    }
}
