//! Every byte of packs: the hash they are named by, each segment's authentication and decoding, each chunk's id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Check;
use crate::chunk::ChunkId;
use crate::compress::Decompressor;
use crate::events::Counters;
use crate::index::shard::PackEntry;
use crate::index::{PackSummary, SegmentLocation};
use crate::pack::directory::{DirectoryChunk, Segment};
use crate::repository::{Repository, layout};
use crate::seal::header::HEADER_BYTES;
use crate::{Kind, Result};
use lifeboat_providers::Sha256;

/// What reading one pack came to.
struct PackResult {
    pack: PackSummary,
    /// What is wrong with the pack as a whole.
    problem: Option<String>,
    /// Segments that are bad, and why.
    segments: Vec<(u32, String)>,
    chunks: u64,
}

impl Check<'_> {
    /// Reads the packs that were asked for.
    pub(super) fn data(&mut self) -> Result<()> {
        let known = self.index.packs()?.into_iter().filter(|pack| !self.bad.packs.contains_key(&pack.id));
        let packs = self.options.read_data.pick(known.collect(), |pack| pack.id, |pack| pack.stored_bytes)?;
        let total = packs.iter().map(|pack| pack.stored_bytes).sum();
        self.context.counters.bytes_total.store(total, Ordering::Relaxed);
        let results = self.read_all(&packs)?;
        for result in results {
            self.report.packs_read += 1;
            self.report.bytes_read += result.pack.stored_bytes;
            self.report.chunks_read += result.chunks;
            let key = layout::pack(result.pack.kind, &result.pack.id)?;
            let is_damaged = result.problem.is_some() || !result.segments.is_empty();
            if is_damaged && self.is_blank(&result.pack.id)? {
                self.report.unused_damage(key);
                continue;
            }
            for (number, problem) in result.segments {
                self.report.damage(format_args!("{key}, segment {number}"), &problem);
                let reason = format!("segment {number} of {key}: {problem}");
                self.bad.segments.insert((result.pack.id, number), reason);
            }
            if let Some(problem) = result.problem {
                self.report.damage(key, problem);
            }
        }
        Ok(())
    }

    fn read_all(&self, packs: &[PackSummary]) -> Result<Vec<PackResult>> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(packs.len()));
        let threads = crate::threads::count_for_reading(self.options.threads);
        let work = || -> Result<()> {
            let mut decompressor = Decompressor::new()?;
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.context.check_stop()?;
                let result = self.read_pack(*pack, &mut decompressor)?;
                Counters::add(&self.context.counters.bytes, pack.stored_bytes);
                Counters::add(&self.context.counters.files, 1);
                results.lock().push(result);
            }
            Ok(())
        };
        crate::threads::run(threads.min(packs.len()), work)?;
        let mut results = results.into_inner();
        results.sort_by_key(|result| result.pack.id);
        Ok(results)
    }

    fn read_pack(&self, pack: PackSummary, decompressor: &mut Decompressor) -> Result<PackResult> {
        let mut result = PackResult { pack, problem: None, segments: Vec::new(), chunks: 0 };
        let key = layout::pack(pack.kind, &pack.id)?;
        let bytes = match self.repository.store().get(&key) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == Kind::Damaged => {
                result.problem = Some(e.to_string());
                self.all_segments(&mut result, &e.to_string())?;
                return Ok(result);
            }
            Err(e) => return Err(e),
        };
        let intact = Sha256::of(&bytes) == pack.id;
        if !intact {
            result.problem = Some("its bytes do not have the hash it is named by".to_owned());
        }
        let head = bytes.get(..HEADER_BYTES).unwrap_or(&bytes);
        let entry = self.repository.open_pack_entry(pack.kind, &pack.id, bytes.len() as u64, head, &bytes);
        match entry {
            Ok(entry) if intact => {
                self.read_segments(&entry, &bytes, decompressor, &mut result);
                self.compare_with_index(&entry, &mut result)?;
            }
            // Whatever these bytes are, what counts is what the index expects in them.
            Ok(_) => self.read_segments_by_index(&bytes, decompressor, &mut result)?,
            Err(e) => {
                result.problem.get_or_insert(e.to_string());
                self.read_segments_by_index(&bytes, decompressor, &mut result)?;
            }
        }
        Ok(result)
    }

    /// Decodes every segment that the pack's own directory names.
    fn read_segments(
        &self,
        entry: &PackEntry,
        bytes: &[u8],
        decompressor: &mut Decompressor,
        result: &mut PackResult,
    ) {
        let id_key = self.repository.id_key(entry.kind);
        let cipher = self.repository.pack_cipher(entry.kind, entry.salt);
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        for (segment, offset) in entry.directory.segments.iter().zip(entry.directory.segment_offsets()) {
            let location = SegmentLocation::new(segment, offset);
            take_box(bytes, &location, &mut sealed);
            let opened = Repository::open_segment(&cipher, &location, &mut sealed, decompressor, &mut plain);
            if let Err(e) = opened {
                result.segments.push((segment.number, e.to_string()));
                continue;
            }
            for (chunk, bytes) in segment.chunks_of(&plain) {
                result.chunks += 1;
                if id_key.id(bytes) != chunk.id {
                    let problem = format!("chunk {} is not what its id says", chunk.id);
                    result.segments.push((segment.number, problem));
                    break;
                }
            }
        }
    }

    /// What the index says of a pack must be what the pack says of itself: restores read by the index.
    fn compare_with_index(&self, entry: &PackEntry, result: &mut PackResult) -> Result<()> {
        let segments = entry.directory.segments.iter().zip(entry.directory.segment_offsets());
        let own: HashMap<_, _> =
            segments.map(|(segment, at)| (SegmentLocation::new(segment, at), segment)).collect();
        // The index tells chunks segment by segment, so the places of one are kept and not those of a pack, which may hold millions.
        let (mut place, mut chunks) = (None, Vec::new());
        self.index.for_each_chunk(&entry.id, |id, location| {
            if place.replace(location.segment) != Some(location.segment) {
                chunks.clear();
                chunks.extend(own.get(&location.segment).into_iter().flat_map(|segment| placed(segment)));
            }
            let at = chunks.binary_search_by_key(&location.offset, |(offset, _)| *offset);
            let said = at.ok().and_then(|at| chunks.get(at)).map(|(_, chunk)| (chunk.id, chunk.length));
            if id != ChunkId::BLANK
                && (location.pack_salt != entry.salt || said != Some((id, location.length)))
            {
                let problem = "the index says something else of it than the pack itself".to_owned();
                result.segments.push((location.segment.number, problem));
            }
        })?;
        result.segments.sort();
        result.segments.dedup();
        Ok(())
    }

    /// The directory is damaged: tries the segments that the index knows.
    fn read_segments_by_index(
        &self,
        bytes: &[u8],
        decompressor: &mut Decompressor,
        result: &mut PackResult,
    ) -> Result<()> {
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        let mut last = None;
        let mut bad = Vec::new();
        self.index.for_each_chunk(&result.pack.id, |_, location| {
            if last.replace(location.segment.number) == Some(location.segment.number) {
                return;
            }
            let cipher = self.repository.pack_cipher(location.kind, location.pack_salt);
            take_box(bytes, &location.segment, &mut sealed);
            let opened =
                Repository::open_segment(&cipher, &location.segment, &mut sealed, decompressor, &mut plain);
            if let Err(e) = opened {
                bad.push((location.segment.number, e.to_string()));
            }
        })?;
        bad.sort();
        bad.dedup();
        result.segments.extend(bad);
        Ok(())
    }

    /// Nothing of the pack can be had.
    fn all_segments(&self, result: &mut PackResult, problem: &str) -> Result<()> {
        let mut numbers = Vec::new();
        self.index.for_each_chunk(&result.pack.id, |_, location| numbers.push(location.segment.number))?;
        numbers.sort_unstable();
        numbers.dedup();
        result.segments.extend(numbers.into_iter().map(|number| (number, problem.to_owned())));
        Ok(())
    }
}

/// A segment's chunks and where each begins in it, in that order.
fn placed(segment: &Segment) -> impl Iterator<Item = (u32, DirectoryChunk)> {
    segment.chunks.iter().scan(0_u32, |next, chunk| {
        let offset = *next;
        *next = next.saturating_add(chunk.length);
        Some((offset, *chunk))
    })
}

/// The bytes of a segment's box; none if the pack is too short, which fails authentication.
fn take_box(bytes: &[u8], location: &SegmentLocation, sealed: &mut Vec<u8>) {
    sealed.clear();
    let start = usize::try_from(location.offset).unwrap_or(usize::MAX);
    let range = start..start.saturating_add(location.box_bytes as usize);
    sealed.extend_from_slice(bytes.get(range).unwrap_or_default());
}
