//! A small generator of pseudo-random numbers, so that a double with a seed replays. Ids and tokens need to be
//! unlike each other, not secret.

/// Letters of Drive's ids.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `len` letters of base64url.
    pub(crate) fn text(&mut self, len: usize) -> String {
        (0..len).map(|_| char::from(LETTERS[(self.next() % 64) as usize])).collect()
    }

    /// An id of the form that Drive gives to files.
    pub(crate) fn file_id(&mut self) -> String {
        format!("1{}", self.text(32))
    }
}
