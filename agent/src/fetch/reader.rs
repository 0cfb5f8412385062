//! Chunks, contents and directories by id. Every chunk is compared with its id before it is given out.

use std::sync::{Arc, OnceLock};

use super::cache::SegmentCache;
use super::renewal::Renewal;
use super::rescue::Rescue;
use crate::chunk::ChunkId;
use crate::index::{self, Index, Location};
use crate::pack::directory::PackKind;
use crate::repository::{Repository, layout};
use crate::tree::content::LEVEL_MAX;
use crate::tree::{Content, Extent, Node};
use crate::{Error, Kind, Result};

/// Decoded bytes that are kept for the next chunk of the same segment.
const CACHE_BYTES: usize = 24 << 20;

/// Reads chunks of one repository, from several threads.
pub struct ChunkReader {
    repository: Repository,
    index: Arc<Index>,
    cache: SegmentCache,
    rescue: Option<Rescue>,
    renewal: Renewal,
    only_here: bool,
    others: OnceLock<Vec<Self>>,
}

/// A chunk's bytes within its decoded segment.
#[derive(Debug, Clone)]
pub struct ChunkBytes {
    segment: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl std::ops::Deref for ChunkBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.segment.get(self.start..self.end).unwrap_or_default()
    }
}

/// Bytes of a content that cannot be had because a list is lost.
#[derive(Debug)]
pub struct Lost {
    /// How many.
    pub length: u64,
    /// Why.
    pub error: Error,
}

impl ChunkReader {
    /// A reader over an index.
    pub fn new(repository: &Repository, index: Arc<Index>) -> Self {
        let cache = SegmentCache::new(CACHE_BYTES);
        Self {
            repository: repository.clone(),
            index,
            cache,
            rescue: None,
            renewal: Renewal::default(),
            only_here: false,
            others: OnceLock::new(),
        }
    }

    /// Looks for chunks that the index does not know in packs that it does not know either, and gives `warn` a word on that; and when a pack
    /// turns out to be gone, loads the index again, as a prune may have moved what it held. For whoever wants data back, not for whoever
    /// judges the index.
    #[must_use]
    pub fn with_rescue(mut self, warn: impl Fn(String) + Send + Sync + 'static) -> Self {
        self.rescue = Some(Rescue::new(Box::new(warn)));
        self
    }

    /// Gives out nothing that only other destinations have, though it heals packs from them: for whoever takes what he could read for stored.
    #[must_use]
    pub fn only_here(mut self) -> Self {
        self.only_here = true;
        self
    }

    /// The repository it reads.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The index it reads by.
    pub const fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// A chunk of file content of `length` bytes.
    ///
    /// # Errors
    /// `Damaged` if no place that the index knows gives the right bytes.
    pub fn data(&self, id: &ChunkId, length: u64) -> Result<ChunkBytes> {
        self.chunk(PackKind::Data, id, Some(length))
    }

    /// A tree node or list.
    ///
    /// # Errors
    /// `Damaged` if no place that the index knows gives the right bytes.
    pub fn metadata(&self, id: &ChunkId) -> Result<ChunkBytes> {
        self.chunk(PackKind::Metadata, id, None)
    }

    /// Whether the index names a place of a chunk.
    ///
    /// # Errors
    /// If the local index turned out to be damaged and cannot be mended.
    pub fn knows(&self, id: &ChunkId) -> Result<bool> {
        if self.index.contains(id) {
            return Ok(true);
        }
        self.repository.mend_index(&self.index)?;
        Ok(self.index.contains(id))
    }

    fn chunk(&self, kind: PackKind, id: &ChunkId, length: Option<u64>) -> Result<ChunkBytes> {
        let mut damage = None;
        let places = self.index.lookup_all(id);
        if let Some(chunk) = self.first_good(kind, id, length, &places, &mut damage)? {
            return Ok(chunk);
        }
        // Before a chunk is called missing: the local copy of the index may have lost places of it.
        self.repository.mend_index(&self.index)?;
        let mut others = self.index.lookup_all(id);
        others.retain(|place| !places.contains(place));
        if let Some(chunk) = self.first_good(kind, id, length, &others, &mut damage)? {
            return Ok(chunk);
        }
        if let Some(rescue) = &self.rescue {
            self.renewal.renew(&self.repository, &self.index, &places)?;
            let mut moved = self.index.lookup_all(id);
            moved.retain(|place| !places.contains(place) && !others.contains(place));
            if let Some(chunk) = self.first_good(kind, id, length, &moved, &mut damage)? {
                return Ok(chunk);
            }
            let rescued = rescue.lookup(&self.repository, &self.index, id)?;
            if let Some(chunk) = self.first_good(kind, id, length, &rescued, &mut damage)? {
                return Ok(chunk);
            }
        }
        if let Some(chunk) = self.chunk_from_sibling(kind, id, length, &places)? {
            return Ok(chunk);
        }
        Err(damage.unwrap_or_else(|| {
            index::unknown(id).with_hint("`lifeboat repair index` makes the index anew from the packs.")
        }))
    }

    /// The chunk from the first place that has it undamaged. Nearly always there is one place.
    fn first_good(
        &self,
        kind: PackKind,
        id: &ChunkId,
        length: Option<u64>,
        places: &[Location],
        damage: &mut Option<Error>,
    ) -> Result<Option<ChunkBytes>> {
        for location in places {
            match self.chunk_at(kind, id, length, location) {
                Ok(chunk) => return Ok(Some(chunk)),
                // A store that cannot give one object may do so for ever: where there are other destinations, that is as good as damage.
                Err(e) if e.kind() == Kind::Damaged || self.may_ask_others(&e) => {
                    damage.get_or_insert(e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Whether another destination may have what this one failed to give.
    pub(crate) fn may_ask_others(&self, error: &Error) -> bool {
        error.kind() == Kind::Store && !self.repository.siblings().is_empty()
    }

    /// The chunk from another destination: the pack it should lie in is healed from there, or, where the other has packed it differently, the
    /// chunk alone is read from there.
    fn chunk_from_sibling(
        &self,
        kind: PackKind,
        id: &ChunkId,
        length: Option<u64>,
        places: &[Location],
    ) -> Result<Option<ChunkBytes>> {
        if self.repository.siblings().is_empty() {
            return Ok(None);
        }
        for place in places {
            if self.repository.heal(&layout::pack(place.kind, &place.pack)?).is_some()
                && let Some(chunk) = self.first_good(kind, id, length, &[*place], &mut None)?
            {
                return Ok(Some(chunk));
            }
        }
        if self.only_here {
            return Ok(None);
        }
        // Damage there is passed over: another destination is only a second chance.
        Ok(self.others().iter().find_map(|other| other.chunk(kind, id, length).ok()))
    }

    /// Readers of the other destinations, made when they are first needed.
    fn others(&self) -> &[Self] {
        self.others.get_or_init(|| {
            let siblings = self.repository.siblings();
            let readers = siblings.open_all(&self.repository).into_iter().filter_map(|(name, other)| {
                let catalog = other.load_catalog().ok()?;
                siblings.tell(format!("what is lost here is looked for in the packs of {name}"));
                Some(Self::new(&other, Arc::new(catalog.index)))
            });
            readers.collect()
        })
    }

    fn chunk_at(
        &self,
        kind: PackKind,
        id: &ChunkId,
        length: Option<u64>,
        location: &Location,
    ) -> Result<ChunkBytes> {
        let segment = self.segment(location)?;
        let start = location.offset as usize;
        let end = start + location.length as usize;
        let chunk = ChunkBytes { segment, start, end };
        let keys = self.repository.keys();
        let actual = match kind {
            PackKind::Data => keys.data_id.id(&chunk),
            PackKind::Metadata => keys.metadata_id.id(&chunk),
        };
        if actual == *id && length.is_none_or(|length| length == u64::from(location.length)) {
            Ok(chunk)
        } else {
            Err(Error::damaged(format_args!("chunk {id} is not where the index says"))
                .with_hint("`lifeboat repair index` makes the index anew from the packs."))
        }
    }

    /// The decoded segment at a location.
    ///
    /// # Errors
    /// `Damaged` if it is missing or damaged; errors of the store.
    pub fn segment(&self, location: &Location) -> Result<Arc<Vec<u8>>> {
        let key = (location.pack, location.segment.number);
        if let Some(segment) = self.cache.get(&key) {
            return Ok(segment);
        }
        let segment = Arc::new(self.repository.read_segment(location)?);
        self.cache.insert(key, segment.clone());
        Ok(segment)
    }

    /// Calls `each` with every chunk and hole of a content, in order; lists are read as they are reached.
    ///
    /// # Errors
    /// `Damaged` if a list is missing or malformed; what `each` returns.
    pub fn for_each_extent(
        &self,
        content: &Content,
        each: &mut dyn FnMut(Extent) -> Result<()>,
    ) -> Result<()> {
        self.for_each_piece(content, &mut |piece| each(piece.map_err(|lost| lost.error)?))
    }

    /// As [`ChunkReader::for_each_extent`], but a list that is missing or malformed is given to `each` as the bytes that are lost with it.
    ///
    /// # Errors
    /// Errors of the store; what `each` returns.
    pub fn for_each_piece(
        &self,
        content: &Content,
        each: &mut dyn FnMut(Result<Extent, Lost>) -> Result<()>,
    ) -> Result<()> {
        for extent in &content.extents {
            let Some(id) = extent.id.filter(|_| content.level > 0) else {
                each(Ok(*extent))?;
                continue;
            };
            let list = match content.level {
                0..=LEVEL_MAX => self.list(&id, content.level - 1, extent.length),
                _ => Err(Error::damaged("content of too many levels")),
            };
            match list {
                Ok(list) => self.for_each_piece(&list, each)?,
                Err(error) if error.kind() == Kind::Damaged => {
                    each(Err(Lost { length: extent.length, error }))?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A list that must be of `level` and cover `length` bytes.
    ///
    /// # Errors
    /// `Damaged` if it is missing, malformed, or of another level or length.
    pub fn list(&self, id: &ChunkId, level: u8, length: u64) -> Result<Content> {
        let list = Content::decode_list(&self.metadata(id)?)
            .map_err(|e| Error::damaged(format_args!("list {id}: {e}")))?;
        if list.level != level || list.bytes() != length {
            return Err(Error::damaged(format_args!("list {id} is not the one that was meant")));
        }
        Ok(list)
    }

    /// A tree node that must be of `length` bytes.
    ///
    /// # Errors
    /// `Damaged` if it is missing, malformed, or of another length.
    pub fn node(&self, id: &ChunkId, length: u64) -> Result<Node> {
        let bytes = self.chunk(PackKind::Metadata, id, Some(length))?;
        Node::decode(&bytes).map_err(|e| Error::damaged(format_args!("tree node {id}: {e}")))
    }

    /// The tree node of a directory's extent.
    ///
    /// # Errors
    /// As [`ChunkReader::node`]; `Damaged` for a hole, which a directory cannot have.
    pub fn node_of(&self, extent: &Extent) -> Result<Node> {
        let id = extent.id.ok_or_else(|| Error::damaged("a directory with a hole"))?;
        self.node(&id, extent.length)
    }

    /// Calls `each` with every node of a directory, in order.
    ///
    /// # Errors
    /// `Damaged` if a node is missing or malformed; what `each` returns.
    pub fn for_each_node(&self, content: &Content, each: &mut dyn FnMut(Node) -> Result<()>) -> Result<()> {
        let mut last: Option<Box<[u8]>> = None;
        self.for_each_extent(content, &mut |extent| {
            let node = self.node_of(&extent)?;
            if let (Some(last), Some(first)) = (&last, node.entries.first())
                && *last >= first.name
            {
                return Err(Error::damaged("a directory's nodes are out of order"));
            }
            last = node.entries.last().map(|entry| entry.name.clone()).or(last.take());
            each(node)
        })
    }

    /// All entries of a directory at once. For directories that fit memory; see [`ChunkReader::for_each_node`].
    ///
    /// # Errors
    /// As [`ChunkReader::for_each_node`].
    pub fn directory(&self, content: &Content) -> Result<Vec<crate::tree::Entry>> {
        let mut entries = Vec::new();
        self.for_each_node(content, &mut |node| {
            if entries.is_empty() {
                entries = node.entries;
            } else {
                entries.extend(node.entries);
            }
            Ok(())
        })?;
        Ok(entries)
    }
}
