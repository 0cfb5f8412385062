//! Segments into packs, for all worker threads at once.

use std::sync::Arc;

use parking_lot::Mutex;

use super::claims::Claims;
use super::indexer::Indexer;
use super::mirror::{self, Mirror};
use super::upload::Uploader;
use crate::compress::Level;
use crate::events::Context;
use crate::index::Index;
use crate::pack::building::Building;
use crate::pack::directory::{DirectoryChunk, PackKind};
use crate::pack::segment::{OpenSegment, SegmentCoder, seal_coded};
use crate::repository::Repository;
use crate::seal::cipher::BoxInfo;
use crate::seal::keys::random_bytes;
use crate::{Error, Result};

/// Open data packs: a segment goes into either at random, so that a pack's order of sizes tells less.
const OPEN_DATA_PACKS: usize = 2;
/// Plain bytes of a metadata segment: small, so that one directory is read without much else.
pub const METADATA_SEGMENT_BYTES: usize = 256 << 10;
/// Stored bytes of a metadata pack at most: a backup with few changes writes few.
const METADATA_PACK_BYTES: usize = 8 << 20;

/// How chunks are stored.
#[derive(Debug, Clone, Copy)]
pub struct IngestOptions {
    /// How hard to compress.
    pub level: Level,
    /// Decode and compare every segment before it is sealed, and open the first of each pack again.
    pub verify: bool,
    /// Store nothing: only count what would be stored.
    pub dry_run: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self { level: Level::DEFAULT, verify: true, dry_run: false }
    }
}

/// Where all new chunks of a run go.
pub struct Ingest {
    repository: Repository,
    options: IngestOptions,
    /// Where each stored chunk lies.
    pub index: Arc<Index>,
    /// Which chunks are new in this run.
    pub claims: Arc<Claims>,
    indexer: Arc<Indexer>,
    uploader: Mutex<Uploader>,
    data: Vec<Mutex<Arc<Building>>>,
    metadata: Mutex<Arc<Building>>,
    mirrors: Arc<[Mirror]>,
    /// Counters and events.
    pub context: Context,
}

impl Ingest {
    /// An ingest into `repository`, deduplicating against `index`.
    ///
    /// # Errors
    /// If the system gives no threads or randomness.
    pub fn start(
        repository: &Repository,
        index: Arc<Index>,
        options: IngestOptions,
        context: &Context,
    ) -> Result<Self> {
        Self::start_with_mirrors(repository, index, options, Vec::new(), context)
    }

    /// As [`Ingest::start`], with other destinations that get the same packs.
    ///
    /// # Errors
    /// As [`Ingest::start`].
    pub fn start_with_mirrors(
        repository: &Repository,
        index: Arc<Index>,
        options: IngestOptions,
        mirrors: Vec<Mirror>,
        context: &Context,
    ) -> Result<Self> {
        let mirrors: Arc<[Mirror]> = mirrors.into();
        let claims = Arc::new(Claims::new());
        let indexer =
            Arc::new(Indexer::new(repository.clone(), index.clone(), claims.clone(), context.clone()));
        let in_flight = 2 * repository.config().pack_bytes;
        let uploader = Uploader::start(
            repository.clone(),
            indexer.clone(),
            mirrors.clone(),
            context.clone(),
            in_flight,
        )?;
        let data = (0..OPEN_DATA_PACKS)
            .map(|_| Ok(Mutex::new(Arc::new(new_pack(repository, PackKind::Data)?))))
            .collect::<Result<_>>()?;
        Ok(Self {
            repository: repository.clone(),
            options,
            index,
            claims,
            indexer,
            uploader: Mutex::new(uploader),
            data,
            metadata: Mutex::new(Arc::new(new_pack(repository, PackKind::Metadata)?)),
            mirrors,
            context: context.clone(),
        })
    }

    /// The repository it writes to.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// How chunks are stored.
    pub const fn options(&self) -> &IngestOptions {
        &self.options
    }

    /// Compresses, seals, verifies and packs one segment; waits while too many bytes are under way.
    ///
    /// # Errors
    /// If the segment does not survive verification, or an upload has failed.
    pub fn store_segment(
        &self,
        kind: PackKind,
        segment: &mut OpenSegment,
        coder: &mut SegmentCoder,
    ) -> Result<()> {
        if segment.is_empty() {
            return Ok(());
        }
        let (info, coded_bytes) = coder.compress(&segment.plain)?;
        let (pack, reservation) = self.reserve(kind, coded_bytes, segment.chunks.len())?;
        let sealed = coder.seal(&pack, reservation, info, &segment.plain)?;
        if pack.append(reservation, info, sealed, std::mem::take(&mut segment.chunks)) {
            self.submit(&pack)?;
        }
        segment.plain.clear();
        Ok(())
    }

    /// Seals and packs a segment that is coded already, as it comes out of another pack; waits while too many bytes are under way.
    ///
    /// # Errors
    /// If it does not survive sealing, or an upload has failed.
    pub fn store_coded(
        &self,
        kind: PackKind,
        info: BoxInfo,
        coded: &[u8],
        chunks: Vec<DirectoryChunk>,
    ) -> Result<()> {
        let (pack, reservation) = self.reserve(kind, coded.len(), chunks.len())?;
        let sealed = seal_coded(&pack, reservation, info, coded, self.options.verify)?;
        if pack.append(reservation, info, sealed, chunks) { self.submit(&pack) } else { Ok(()) }
    }

    /// Finishes all packs, waits for their uploads, and stores the rest of the index.
    ///
    /// # Errors
    /// The first error of any upload; errors of the store.
    pub fn finish(&self) -> Result<()> {
        let mut submitted = Ok(());
        for open in self.data.iter().chain([&self.metadata]) {
            let pack = open.lock().clone();
            if submitted.is_ok() && pack.close() {
                submitted = self.submit(&pack);
            }
        }
        // The first error of an upload is the cause; that nothing more could be submitted is its consequence.
        let finished = self.uploader.lock().finish();
        // What was acknowledged is kept even if another upload failed.
        let flushed = self.indexer.flush();
        finished.and(submitted).and(flushed)
    }

    /// Waits for the other destinations. Call it after [`Ingest::finish`], whatever that came to.
    pub fn finish_mirrors(&self) -> Vec<mirror::Finished> {
        self.mirrors.iter().map(Mirror::finish).collect()
    }

    /// Takes note of packs that are stored already.
    pub const fn indexer(&self) -> &Arc<Indexer> {
        &self.indexer
    }

    fn reserve(
        &self,
        kind: PackKind,
        coded_bytes: usize,
        chunks: usize,
    ) -> Result<(Arc<Building>, crate::pack::building::Reservation)> {
        let open = match kind {
            PackKind::Data => {
                let [random] = random_bytes::<1>()?;
                &self.data[usize::from(random) % self.data.len()]
            }
            PackKind::Metadata => &self.metadata,
        };
        let target = full_pack_bytes(&self.repository, kind);
        let mut open = open.lock();
        for _ in 0..2 {
            if let Some((reservation, closed)) = open.reserve(coded_bytes, chunks, target) {
                let pack = open.clone();
                if closed {
                    *open = Arc::new(new_pack(&self.repository, kind)?);
                }
                return Ok((pack, reservation));
            }
            *open = Arc::new(new_pack(&self.repository, kind)?);
        }
        Err(Error::failed("no pack takes a segment"))
    }

    fn submit(&self, pack: &Building) -> Result<()> {
        let finished = pack.finish()?;
        self.uploader.lock().submit(finished)
    }
}

/// Stored bytes at which a pack of this kind is full.
pub fn full_pack_bytes(repository: &Repository, kind: PackKind) -> usize {
    match kind {
        PackKind::Data => repository.config().pack_bytes,
        PackKind::Metadata => METADATA_PACK_BYTES.min(repository.config().pack_bytes),
    }
}

fn new_pack(repository: &Repository, kind: PackKind) -> Result<Building> {
    Ok(Building::new(kind, repository.new_header(kind.into())?, &repository.keys().seal))
}
