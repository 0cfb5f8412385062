//! A set of chunks, each with the groups that have it, of any size in bounded memory.
//!
//! Pairs of chunk and group are collected, sorted, and when there are too many written as a sorted run to an unnamed temporary
//! file; at the end the runs are merged, in order of ids, which is also the order in which the index is read fastest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};

use crate::chunk::{ChunkId, id::CHUNK_ID_BYTES};
use crate::{Error, Result};

/// Which group has a chunk.
pub type GroupId = u16;

/// Pairs that are kept in memory: 32 MB.
const PAIRS_MAX: usize = 32_000_000 / size_of::<Pair>();
const PAIR_BYTES: usize = CHUNK_ID_BYTES + size_of::<GroupId>();
/// Read buffer of each run while they are merged, in bytes.
const RUN_BUFFER_BYTES: usize = 64 << 10;

type Pair = ([u8; CHUNK_ID_BYTES], GroupId);

/// The set in the making.
#[derive(Debug)]
pub struct ChunkSet {
    pairs: Vec<Pair>,
    pairs_max: usize,
    runs: Vec<File>,
}

impl Default for ChunkSet {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkSet {
    /// An empty set.
    pub const fn new() -> Self {
        Self { pairs: Vec::new(), pairs_max: PAIRS_MAX, runs: Vec::new() }
    }

    /// Notes that a group has a chunk; that it was noted before does not matter.
    ///
    /// # Errors
    /// If a temporary file cannot be written.
    pub fn add(&mut self, id: &ChunkId, group: GroupId) -> Result<()> {
        if self.pairs.len() >= self.pairs_max {
            self.sort();
            // Unless most were repetitions, the rest of the run would fill up at once again.
            if self.pairs.len() > self.pairs_max / 2 {
                self.spill().map_err(|e| Error::io("cannot write a temporary file", e))?;
            }
        }
        self.pairs.push((*id.as_bytes(), group));
        Ok(())
    }

    /// Calls `each` with every chunk once, in order of ids, and the groups that have it.
    ///
    /// # Errors
    /// If a temporary file cannot be read; what `each` returns.
    pub fn for_each(mut self, each: &mut dyn FnMut(&ChunkId, &[GroupId]) -> Result<()>) -> Result<()> {
        let failed = |e| Error::io("cannot read a temporary file", e);
        self.sort();
        let mut sources: Vec<Source> = Vec::new();
        for mut run in self.runs {
            run.rewind().map_err(failed)?;
            sources.push(Source::Run(BufReader::with_capacity(RUN_BUFFER_BYTES, run)));
        }
        sources.push(Source::Memory(self.pairs.into_iter()));
        let mut heap = BinaryHeap::new();
        for (number, source) in sources.iter_mut().enumerate() {
            heap.extend(source.next().map_err(failed)?.map(|pair| Reverse((pair, number))));
        }
        let mut current: Option<ChunkId> = None;
        let mut groups: Vec<GroupId> = Vec::new();
        while let Some(Reverse(((id, group), number))) = heap.pop() {
            let id = ChunkId::from_bytes(id);
            if let Some(done) = current.filter(|current| *current != id) {
                each(&done, &groups)?;
                groups.clear();
            }
            current = Some(id);
            if groups.last() != Some(&group) {
                groups.push(group);
            }
            let next = sources.get_mut(number).and_then(|source| source.next().transpose());
            if let Some(pair) = next.transpose().map_err(failed)? {
                heap.push(Reverse((pair, number)));
            }
        }
        current.map_or(Ok(()), |done| each(&done, &groups))
    }

    fn sort(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
    }

    fn spill(&mut self) -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(RUN_BUFFER_BYTES, unnamed_file()?);
        for (id, group) in self.pairs.drain(..) {
            out.write_all(&id)?;
            out.write_all(&group.to_le_bytes())?;
        }
        self.runs.push(out.into_inner()?);
        Ok(())
    }
}

enum Source {
    Memory(std::vec::IntoIter<Pair>),
    Run(BufReader<File>),
}

impl Source {
    fn next(&mut self) -> std::io::Result<Option<Pair>> {
        match self {
            Self::Memory(pairs) => Ok(pairs.next()),
            Self::Run(run) => {
                let mut bytes = [0; PAIR_BYTES];
                if run.fill_buf_is_empty()? {
                    return Ok(None);
                }
                run.read_exact(&mut bytes)?;
                let mut id = [0; CHUNK_ID_BYTES];
                id.copy_from_slice(&bytes[..CHUNK_ID_BYTES]);
                Ok(Some((id, GroupId::from_le_bytes([bytes[CHUNK_ID_BYTES], bytes[CHUNK_ID_BYTES + 1]]))))
            }
        }
    }
}

/// A file without a name in the directory for temporary files: gone when it is closed, whatever happens.
fn unnamed_file() -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let dir = std::env::temp_dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // A file system without such files: ids are worth nothing without the key, but nobody else needs them.
        Err(_) => named_then_removed(&dir),
    }
}

fn named_then_removed(dir: &std::path::Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = dir.join(format!(".lifeboat-stats-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

trait IsEmpty {
    fn fill_buf_is_empty(&mut self) -> std::io::Result<bool>;
}

impl<R: std::io::BufRead> IsEmpty for R {
    fn fill_buf_is_empty(&mut self) -> std::io::Result<bool> {
        Ok(self.fill_buf()?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_once_with_all_their_groups_however_often_they_were_spilled() {
        let mut set = ChunkSet { pairs_max: 7, ..ChunkSet::new() };
        for round in 0..3_u16 {
            for n in 0..50_u8 {
                set.add(&ChunkId::from_bytes([n; 16]), if n % 2 == 0 { round } else { 0 }).unwrap();
            }
        }
        assert!(set.runs.len() > 3);
        let mut seen = Vec::new();
        set.for_each(&mut |id, groups| {
            let expected: &[u16] = if id.as_bytes()[0] % 2 == 0 { &[0, 1, 2] } else { &[0] };
            assert_eq!(groups, expected);
            seen.push(id.as_bytes()[0]);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    }
}
