//! Copies what is in use of some packs to new ones. Segments of which everything is in use are opened and sealed again as they are, compressed;
//! of the others the chunks that are in use are packed anew.
//!
//! What was copied is indexed whatever ends the copying: the next run finds two copies, prefers the new one, and copies the rest.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use lifeboat_providers::Key;
use parking_lot::Mutex;

use super::plan::PackUse;
use crate::compress::Decompressor;
use crate::events::{Context, Counters};
use crate::index::{Index, Live, LiveSegment};
use crate::ingest::packer::METADATA_SEGMENT_BYTES;
use crate::ingest::{Ingest, IngestOptions};
use crate::pack::directory::{DirectoryChunk, PackKind};
use crate::pack::segment::{OpenSegment, SegmentCoder};
use crate::repository::{Repository, layout};
use crate::seal::Role;
use crate::seal::cipher::BoxInfo;
use crate::session::OpenSession;
use crate::{Error, Kind, Result, threads};

/// Segments of one pack that lie this close are read together, in bytes.
const GAP_BYTES_MAX: u64 = 512 << 10;
/// … up to this many bytes at once.
const READ_BYTES_MAX: u64 = 4 << 20;

/// What was copied.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Packs of which all that is in use lies in new packs now.
    pub(super) packs: Vec<PackUse>,
    /// Bytes of new packs.
    pub(super) stored_bytes: u64,
    /// Segments that were copied as they are, and those that were packed anew.
    pub(super) whole: u64,
    pub(super) anew: u64,
    /// Packs of which something cannot be read: they stay.
    pub(super) damage: Vec<String>,
}

/// Copies what `live` says is in use of these packs.
///
/// # Errors
/// `Interrupted`; errors of the store. What was copied before is indexed.
pub(super) fn repack(
    repository: &Repository,
    session: &OpenSession,
    index: &Arc<Index>,
    live: &Live,
    packs: &[PackUse],
    context: &Context,
) -> Result<Copied> {
    if packs.is_empty() {
        return Ok(Copied::default());
    }
    context.counters.expect(packs.iter().map(|pack| pack.bytes.live).sum());
    let before = Counters::get(&context.counters.bytes_stored);
    let ingest = Ingest::start(repository, index.clone(), IngestOptions::default(), context)?;
    ingest.indexer().tell(session.beats().clone());
    let work = Work {
        repository,
        live,
        packs,
        ingest: &ingest,
        context,
        next: AtomicUsize::new(0),
        copied: Mutex::default(),
        whole: AtomicU64::new(0),
        anew: AtomicU64::new(0),
    };
    let worked = threads::run(threads::count_for_reading(0).min(packs.len()), || work.run());
    let finished = ingest.finish();
    // An upload's error is the cause; that the workers stopped is its consequence.
    finished?;
    worked?;
    let mut copied = work.copied.into_inner();
    copied.stored_bytes = Counters::get(&context.counters.bytes_stored) - before;
    copied.whole = work.whole.into_inner();
    copied.anew = work.anew.into_inner();
    copied.packs.sort_unstable_by_key(|pack| pack.id);
    Ok(copied)
}

/// What the threads share.
struct Work<'a> {
    repository: &'a Repository,
    live: &'a Live,
    packs: &'a [PackUse],
    ingest: &'a Ingest,
    context: &'a Context,
    next: AtomicUsize,
    copied: Mutex<Copied>,
    whole: AtomicU64,
    anew: AtomicU64,
}

/// Buffers of one thread.
struct Buffers {
    decompressor: Decompressor,
    coder: SegmentCoder,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    /// Chunks of segments that are in use in part, until they fill one, of each kind.
    data: OpenSegment,
    metadata: OpenSegment,
}

impl Buffers {
    fn open(&mut self, kind: PackKind) -> &mut OpenSegment {
        match kind {
            PackKind::Data => &mut self.data,
            PackKind::Metadata => &mut self.metadata,
        }
    }
}

impl Work<'_> {
    fn run(&self) -> Result<()> {
        let options = self.ingest.options();
        let mut buffers = Buffers {
            decompressor: Decompressor::new()?,
            coder: SegmentCoder::new(options.level, options.verify)?,
            sealed: Vec::new(),
            plain: Vec::new(),
            data: OpenSegment::default(),
            metadata: OpenSegment::default(),
        };
        let copied = self.copy_all(&mut buffers);
        // Also when it was interrupted: a chunk more that is copied is a chunk less to copy.
        let flushed = [PackKind::Data, PackKind::Metadata].into_iter().try_for_each(|kind| {
            let mut open = std::mem::take(buffers.open(kind));
            self.ingest.store_segment(kind, &mut open, &mut buffers.coder)
        });
        copied.and(flushed)
    }

    fn copy_all(&self, buffers: &mut Buffers) -> Result<()> {
        while let Some(pack) = self.packs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.context.check_stop()?;
            match self.copy(pack, buffers) {
                Ok(()) => self.copied.lock().packs.push(*pack),
                Err(e) if e.kind() == Kind::Damaged => self.copied.lock().damage.push(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Copies one pack.
    fn copy(&self, pack: &PackUse, buffers: &mut Buffers) -> Result<()> {
        let Some(number) = pack.number else { return Ok(()) };
        let mut segments: Vec<LiveSegment> = Vec::new();
        self.live.for_each_segment(number, |segment| {
            segments.push(segment);
            Ok(())
        })?;
        segments.sort_by_key(|segment| segment.location.segment.offset);
        let key = layout::pack(pack.kind, &pack.id)?;
        for run in segments.chunk_by(joins) {
            self.context.check_stop()?;
            let mut at = 0;
            while let Some(rest) = run.get(at..).filter(|rest| !rest.is_empty()) {
                let batch = &rest[..batch_of(rest)];
                at += batch.len();
                self.copy_batch(&key, batch, buffers)?;
            }
        }
        Ok(())
    }

    /// Reads some segments at once and copies them.
    fn copy_batch(&self, key: &Key, batch: &[LiveSegment], buffers: &mut Buffers) -> Result<()> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let range = range_of(first).start..range_of(last).end;
        let mut bytes = match self.repository.store().get_range(key, range.clone()) {
            Err(e) if e.kind() == Kind::Damaged => {
                self.repository.heal(key).and_then(|whole| cut(&whole, &range)).ok_or(e)?
            }
            bytes => bytes?,
        };
        for segment in batch {
            match self.copy_segment(segment, &bytes, range.start, buffers) {
                Err(e) if e.kind() == Kind::Damaged => {
                    // Perhaps another destination has the pack intact.
                    let whole = self.repository.heal(key);
                    let Some(healed) = whole.and_then(|whole| cut(&whole, &range)) else {
                        let number = segment.location.segment.number;
                        return Err(e.context(format_args!("segment {number} of {key}")));
                    };
                    bytes = healed;
                    self.copy_segment(segment, &bytes, range.start, buffers)?;
                }
                copied => copied?,
            }
            let stored = u64::from(segment.location.segment.box_bytes);
            Counters::add(&self.context.counters.bytes, stored);
        }
        Ok(())
    }

    fn copy_segment(
        &self,
        segment: &LiveSegment,
        bytes: &[u8],
        start: u64,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let location = &segment.location;
        let range = range_of(segment);
        let sealed = cut_slice(bytes, &(range.start - start..range.end - start));
        buffers.sealed.clear();
        buffers.sealed.extend_from_slice(sealed.unwrap_or_default());
        let cipher = self.repository.pack_cipher(location.kind, location.pack_salt);
        let (codec, plain_bytes) = (location.segment.codec, location.segment.plain_bytes);
        let info = BoxInfo { role: Role::Segment, codec, plain_bytes };
        if segment.is_whole() {
            cipher.open(location.segment.number.into(), info, &mut buffers.sealed)?;
            let chunks =
                segment.chunks.iter().map(|(id, length, _)| DirectoryChunk { id: *id, length: *length });
            self.whole.fetch_add(1, Ordering::Relaxed);
            return self.ingest.store_coded(location.kind, info, &buffers.sealed, chunks.collect());
        }
        Repository::open_segment(
            &cipher,
            &location.segment,
            &mut buffers.sealed,
            &mut buffers.decompressor,
            &mut buffers.plain,
        )?;
        self.anew.fetch_add(1, Ordering::Relaxed);
        self.pack_anew(segment, buffers)
    }

    /// Packs the chunks that are in use of a segment that was decoded.
    fn pack_anew(&self, segment: &LiveSegment, buffers: &mut Buffers) -> Result<()> {
        let kind = segment.location.kind;
        let target = match kind {
            PackKind::Data => self.repository.config().segment_bytes,
            PackKind::Metadata => METADATA_SEGMENT_BYTES,
        };
        let plain = std::mem::take(&mut buffers.plain);
        let mut rest = plain.as_slice();
        for (id, length, is_live) in &segment.chunks {
            let (chunk, tail) = rest.split_at((*length as usize).min(rest.len()));
            rest = tail;
            if !is_live {
                continue;
            }
            if self.repository.id_key(kind).id(chunk) != *id {
                return Err(Error::damaged(format_args!("chunk {id} is not where the index says")));
            }
            let mut open = std::mem::take(buffers.open(kind));
            if open.is_full_for(chunk.len(), target) {
                self.ingest.store_segment(kind, &mut open, &mut buffers.coder)?;
            }
            open.push(*id, chunk);
            *buffers.open(kind) = open;
        }
        buffers.plain = plain;
        Ok(())
    }
}

fn range_of(segment: &LiveSegment) -> Range<u64> {
    let start = segment.location.segment.offset;
    start..start + u64::from(segment.location.segment.box_bytes)
}

fn joins(a: &LiveSegment, b: &LiveSegment) -> bool {
    range_of(b).start <= range_of(a).end + GAP_BYTES_MAX
}

/// How many of these are read at once.
fn batch_of(segments: &[LiveSegment]) -> usize {
    let Some(first) = segments.first() else { return 0 };
    let end = range_of(first).start + READ_BYTES_MAX;
    segments.iter().take_while(|segment| range_of(segment).end <= end).count().max(1)
}

fn cut(bytes: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    cut_slice(bytes, range).map(|part| bytes.slice_ref(part))
}

fn cut_slice<'b>(bytes: &'b [u8], range: &Range<u64>) -> Option<&'b [u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}
