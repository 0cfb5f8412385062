//! A file with holes in a tar archive: GNU's sparse format 1.0, which GNU tar, bsdtar and Python read.
//!
//! The member's content is a map in text (how many regions; of each where it begins and how long it is) filled up to whole blocks,
//! then the regions' bytes. GNU tar lets every region begin with a block, others let one follow the other: regions are widened to
//! whole blocks, so that both read the same.

use super::tar::BLOCK_BYTES;
use crate::Result;
use crate::fetch::ChunkReader;
use crate::tree::Content;

/// Where a file's bytes lie that are in no hole: in order, apart, each from its first byte to after its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Regions {
    list: Vec<(u64, u64)>,
    size: u64,
}

impl Regions {
    /// Those of a content; `None` if it has no hole that is worth a map. The map is held in memory: 16 bytes a region.
    ///
    /// # Errors
    /// `Damaged` if a list is missing or malformed.
    pub(super) fn of(reader: &ChunkReader, content: &Content) -> Result<Option<Self>> {
        let mut regions = Self { list: Vec::new(), size: content.bytes() };
        let mut at = 0;
        reader.for_each_extent(content, &mut |extent| {
            let end = at + extent.length;
            if extent.id.is_some() {
                regions.push(at, end);
            }
            at = end;
            Ok(())
        })?;
        let without_holes = regions.list == [(0, regions.size)];
        Ok((regions.size > 0 && !without_holes).then_some(regions))
    }

    fn push(&mut self, start: u64, end: u64) {
        let start = start - start % BLOCK_BYTES;
        let end = end.next_multiple_of(BLOCK_BYTES).min(self.size);
        match self.list.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            _ => self.list.push((start, end)),
        }
    }

    /// The file's size, holes included.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in regions.
    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|(start, end)| end - start).sum()
    }

    /// How many bytes between `start` and `end` lie in regions.
    pub(super) fn overlap(&self, start: u64, end: u64) -> u64 {
        let first = self.list.partition_point(|region| region.1 <= start);
        let touched = self.list.iter().skip(first).take_while(|region| region.0 < end);
        touched.map(|region| region.1.min(end) - region.0.max(start)).sum()
    }

    /// The map, in whole blocks.
    pub(super) fn map(&self) -> Vec<u8> {
        // A hole at the end is told by a region of no bytes there.
        let ends_in_hole = self.list.last().is_none_or(|last| last.1 < self.size);
        let end = ends_in_hole.then_some((self.size, self.size));
        let mut text = format!("{}\n", self.list.len() + usize::from(ends_in_hole));
        for (start, end) in self.list.iter().copied().chain(end) {
            text.push_str(&format!("{start}\n{}\n", end - start));
        }
        let mut map = text.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(size: u64, data: &[(u64, u64)]) -> Regions {
        let mut regions = Regions { list: Vec::new(), size };
        data.iter().for_each(|(start, end)| regions.push(*start, *end));
        regions
    }

    #[test]
    fn regions_are_whole_blocks_apart_from_each_other() {
        let some =
            regions(10_000, &[(100, 200), (700, 1_100), (1_500, 1_540), (4_096, 4_097), (9_999, 10_000)]);
        assert_eq!(some.list, [(0, 2_048), (4_096, 4_608), (9_728, 10_000)]);
        assert_eq!(some.bytes(), 2_048 + 512 + 272);
        assert_eq!(some.overlap(200, 700), 500);
        assert_eq!(some.overlap(2_000, 9_999), 48 + 512 + 271);
        assert_eq!(some.overlap(5_000, 6_000), 0);
        assert!(some.map().starts_with(b"3\n0\n2048\n4096\n512\n9728\n272\n\0"));
        assert!(regions(3, &[]).map().starts_with(b"1\n3\n0\n\0"));
    }
}
