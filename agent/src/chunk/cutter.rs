//! The next chunk's length, whichever way a file is cut.

use super::Gear;

/// How files are cut; fixed for a repository when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Params {
    /// Files up to this many bytes are one chunk.
    pub whole_max: usize,
    /// Fewest bytes of a content-defined chunk (but the last of a run).
    pub min: usize,
    /// Bytes where cutting becomes likelier; a power of two.
    pub average: usize,
    /// Most bytes of a content-defined chunk.
    pub max: usize,
    /// Largest page of files that are rewritten in place, in bytes.
    pub page_max: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { whole_max: 128 << 10, min: 16 << 10, average: 64 << 10, max: 256 << 10, page_max: 16 << 10 }
    }
}

/// No chunk is larger, in bytes: a segment must be able to hold it.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

impl Params {
    /// Checks parameters read from a repository.
    ///
    /// # Errors
    /// Words on what is impossible.
    pub fn validate(&self) -> Result<(), &'static str> {
        if !self.average.is_power_of_two() || self.average < 1 << 10 {
            return Err("the average chunk size is not a power of two of at least 1024");
        }
        if !(64 <= self.min && self.min <= self.average && self.average <= self.max) {
            return Err("chunk sizes are not in order");
        }
        if self.max > CHUNK_BYTES_MAX || self.whole_max > CHUNK_BYTES_MAX || self.page_max > CHUNK_BYTES_MAX {
            return Err("a chunk size is over 8 MiB");
        }
        if self.page_max < 4 << 10 || !self.page_max.is_power_of_two() {
            return Err("the largest page is not a power of two of at least 4096");
        }
        Ok(())
    }
}

/// How one file is cut.
#[derive(Debug, Clone, Copy)]
pub enum Cutter<'a> {
    /// All of it is one chunk.
    Whole,
    /// Pages of a fixed size, in bytes.
    Pages(usize),
    /// Content-defined.
    Gear(&'a Gear, &'a Params),
}

impl<'a> Cutter<'a> {
    /// How a file of `size` bytes that begins with `head` is cut.
    pub fn for_file(size: u64, head: &[u8], gear: &'a Gear, params: &'a Params) -> Self {
        if size <= params.whole_max as u64 {
            return Self::Whole;
        }
        match super::detect::page_bytes(head, params) {
            Some(bytes) => Self::Pages(bytes),
            None => Self::Gear(gear, params),
        }
    }

    /// The most bytes a chunk can have; [`Cutter::cut`] wants to see as many, unless the data ends before.
    pub const fn window(&self) -> usize {
        match self {
            Self::Whole => CHUNK_BYTES_MAX,
            Self::Pages(bytes) => *bytes,
            Self::Gear(_, params) => params.max,
        }
    }

    /// The length of the chunk at the front of `data`; 0 only for no data.
    #[inline]
    pub fn cut(&self, data: &[u8]) -> usize {
        match self {
            Self::Whole => data.len().min(CHUNK_BYTES_MAX),
            Self::Pages(bytes) => data.len().min(*bytes),
            Self::Gear(gear, params) => gear.cut(data, params),
        }
    }
}

#[cfg(test)]
#[path = "cutter_tests.rs"]
mod tests;
