//! Makes the index anew from what the packs say of themselves.
//!
//! New shards are stored before old ones are removed, and the old stay in force until the last new one is stored. What is intact of a
//! damaged pack is copied to a new one first; the damaged one stays, and nothing uses it any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_providers::{Key, ObjectInfo, Sha256};

use crate::chunk::id::IdKey;
use crate::compress::Decompressor;
use crate::events::{Context, Event};
use crate::index::shard::{PackEntry, Shard};
use crate::index::{Index, SegmentLocation};
use crate::ingest::{ChunkSink, Ingest, IngestOptions};
use crate::pack::directory::{PackKind, Segment};
use crate::repository::{Area, Repository, layout, store};
use crate::seal::cipher::ObjectCipher;
use crate::seal::header::{HEADER_BYTES, ObjectKind};
use crate::session::process::host_name;
use crate::session::{self, OpenSession};
use crate::{Error, Kind, Result};

/// Chunks of a shard at most: its plain form stays far below the format's limit.
///
/// Tests want several shards of few chunks.
const SHARD_CHUNKS_MAX: usize = if cfg!(test) { 8 } else { 1 << 20 };

/// How the index is made anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct IndexRepairOptions {
    /// Read every pack, and take damaged segments out of the index, so that the next backup stores their chunks again.
    pub read_data: bool,
}

/// What a repair of the index came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IndexRepair {
    /// Nothing was wrong, nothing was changed.
    pub was_sound: bool,
    /// Packs in the index now.
    pub packs: u64,
    /// Packs that no shard in force had named.
    pub found: u64,
    /// Packs of which the index said something else than they do, or something that is not so any more.
    pub corrected: u64,
    /// Packs that were named and are not there: what they held is lost, unless other packs hold it too.
    pub lost: Vec<String>,
    /// Packs that were found damaged: what is intact of them was copied, and nothing uses them any more.
    pub damaged: Vec<String>,
    /// Segments of damaged packs that were copied.
    pub saved: u64,
    /// Segments of damaged packs of which nothing can be had.
    pub lost_segments: u64,
    /// Packs whose directory cannot be read and which no shard names: left where they are.
    pub unreadable: Vec<String>,
    /// Shards that could not be read.
    pub damaged_shards: u64,
}

/// Makes the index anew, and removes tombstones that cannot be read: what they meant is deleted and not named any more, or there.
///
/// # Errors
/// `Interrupted`; `Locked` while a collector is at work; errors of the store. Nothing is removed before all that replaces it is stored.
pub fn index(repository: &Repository, options: IndexRepairOptions, context: &Context) -> Result<IndexRepair> {
    let repository = &repository.without_copies();
    // As it replaces shards, it must go on naming what a sweep may yet find to be needed: so it lets none begin.
    let (session, unreadable) = session::open_holding_back(repository, &host_name(), context)?;
    let repaired = make_anew(repository, options, &session, context).and_then(|repair| {
        for (key, error) in &unreadable {
            // One of a later version can be read by that.
            if error.kind() == Kind::Damaged {
                repository.store().delete(key)?;
                context.report(Event::Notice(format!(
                    "{key} could not be read and is removed: the index names what is there"
                )));
            }
        }
        Ok(repair)
    });
    let closed = session.close();
    let repair = repaired?;
    closed?;
    Ok(repair)
}

fn make_anew(
    repository: &Repository,
    options: IndexRepairOptions,
    session: &OpenSession,
    context: &Context,
) -> Result<IndexRepair> {
    let doomed = &session.tombstones().packs;
    let mut repair = IndexRepair::default();
    context.report(Event::Phase("reading the index"));
    let mut old = read_shards(repository, &mut repair)?;
    context.report(Event::Phase("reading packs"));
    let mut packs = Vec::new();
    // Whatever else holds these chunks, they are stored once more: no part of the index is to be trusted yet.
    // A full destination must be mendable.
    let repository = &repository.to_free_space();
    let ingest = Ingest::start(repository, Arc::new(Index::in_memory()), IngestOptions::default(), context)?;
    ingest.indexer().tell(session.beats().clone());
    let mut copies = ChunkSink::new(&ingest)?;
    let mut listed = list_packs(repository)?;
    add_unlisted(repository, &old, &mut listed)?;
    for (kind, info) in listed {
        context.check_stop()?;
        let Ok(id) = layout::sha256_of(&info.key) else { continue };
        if layout::pack(kind, &id)? != info.key {
            continue;
        }
        if doomed.contains(&id) && !old.in_force.contains(&(kind, id)) {
            // It is being deleted: what names it now may go on doing so, nothing else may begin to.
            old.known.remove(&(kind, id));
            continue;
        }
        let is_disputed = old.disputed.contains(&(kind, id));
        let entry = match old.known.remove(&(kind, id)) {
            // One that was found damaged is looked at again: perhaps only its disk was not well.
            Some(entry)
                if entry.stored_bytes == info.size
                    && !options.read_data
                    && !entry.directory.is_blank()
                    && !is_disputed =>
            {
                Some(entry)
            }
            Some(named) => {
                let entry = examine(repository, &named, &mut copies, &mut repair)?;
                repair.corrected += u64::from(entry != named || is_disputed);
                Some(entry)
            }
            None => match find(repository, kind, &id, info.size, &mut repair, context)? {
                // An upload that was cut off may have its final name and other bytes: what is intact of them is used.
                Some(entry) if !is_proved(repository, &info)? => {
                    Some(examine(repository, &entry, &mut copies, &mut repair)?)
                }
                entry => entry,
            },
        };
        if let Some(entry) = entry {
            repair.found += u64::from(!old.in_force.contains(&(kind, id)));
            repair.packs += 1;
            packs.push(entry);
        }
    }
    copies.flush()?;
    ingest.finish()?;
    for ((kind, id), entry) in &old.known {
        if doomed.contains(id) {
            // It was deleted because nothing needs it.
            repair.corrected += u64::from(old.in_force.contains(&(*kind, *id)));
        } else if entry.directory.is_blank() {
            // Nothing was left of it to lose.
            repair.corrected += 1;
        } else {
            repair.lost.push(layout::pack(*kind, id)?.to_string());
        }
    }
    repair.lost.sort();
    let is_right =
        repair.lost.is_empty() && repair.found == 0 && repair.corrected == 0 && repair.damaged_shards == 0;
    repair.was_sound = is_right && repair.damaged.is_empty();
    if !is_right {
        context.report(Event::Phase("writing the index"));
        write(repository, packs, &old.shards, session)?;
    }
    Ok(repair)
}

/// All packs that are there now: those that the repair makes come later.
fn list_packs(repository: &Repository) -> Result<Vec<(PackKind, ObjectInfo)>> {
    let mut packs = Vec::new();
    for kind in [PackKind::Metadata, PackKind::Data] {
        let listed = repository.store().list(&Area::of_packs(kind).prefix())?;
        packs.extend(listed.into_iter().map(|info| (kind, info)));
    }
    Ok(packs)
}

/// Adds packs that the index names, no listing shows and the store has all the same: a listing that lags is no reason to drop anything.
fn add_unlisted(repository: &Repository, old: &Old, listed: &mut Vec<(PackKind, ObjectInfo)>) -> Result<()> {
    let shown: HashSet<Key> = listed.iter().map(|(_, info)| info.key.clone()).collect();
    for (kind, id) in old.known.keys() {
        let key = layout::pack(*kind, id)?;
        if !shown.contains(&key)
            && let Some(info) = repository.store().unlisted(&key)?
        {
            listed.push((*kind, info));
        }
    }
    Ok(())
}

fn is_proved(repository: &Repository, info: &ObjectInfo) -> Result<bool> {
    match repository.prove_pack(info) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == Kind::Damaged => Ok(false),
        Err(e) => Err(e),
    }
}

/// What the stored shards say.
#[derive(Default)]
struct Old {
    /// All packs that any readable shard names.
    known: HashMap<(PackKind, Sha256), PackEntry>,
    /// Those that a shard names which no other replaces.
    in_force: HashSet<(PackKind, Sha256)>,
    /// Those of which two shards in force say different things: a repair was cut off between them.
    disputed: HashSet<(PackKind, Sha256)>,
    /// All that are there, readable or not.
    shards: Vec<(Sha256, Key)>,
}

fn read_shards(repository: &Repository, repair: &mut IndexRepair) -> Result<Old> {
    let mut old = Old::default();
    let mut shards = Vec::new();
    for info in repository.store().list(&Area::Index.prefix())? {
        // A foreign file is none of ours to count or remove: `check` names it.
        let Ok(id) = layout::sha256_of(&info.key) else { continue };
        match repository.read_shard(&id) {
            Ok(shard) => shards.push((id, shard)),
            Err(e) if store::is_missing(&e) => continue,
            Err(e) if e.kind() == Kind::Damaged => repair.damaged_shards += 1,
            Err(e) => return Err(e),
        }
        old.shards.push((id, info.key));
    }
    let replaced: HashSet<Sha256> = shards.iter().flat_map(|(_, shard)| shard.replaces.clone()).collect();
    for (id, shard) in shards {
        for pack in shard.packs {
            let name = (pack.kind, pack.id);
            if replaced.contains(&id) {
                if !old.in_force.contains(&name) {
                    old.known.insert(name, pack);
                }
            } else if old.in_force.insert(name) {
                // What is in force counts: an older shard that was left over may still name segments that were found damaged.
                old.known.insert(name, pack);
            } else if let Some(other) = old.known.get_mut(&name)
                && *other != pack
            {
                // What one of them has left out may be all that was copied of the pack, or nothing of it: it is looked at anew.
                old.disputed.insert(name);
                if named_segments(&pack) > named_segments(other) {
                    *other = pack;
                }
            }
        }
    }
    Ok(old)
}

/// How many segments an entry has chunks of.
fn named_segments(pack: &PackEntry) -> usize {
    pack.directory.segments.iter().filter(|segment| !segment.is_blank()).count()
}

/// Reads a pack that a shard names; where it is whole, what it says of itself counts. Of one that is damaged or cut off, of which the
/// shard may be the only directory left, what is intact goes to `copies`, and the entry comes back blank.
fn examine(
    repository: &Repository,
    named: &PackEntry,
    copies: &mut ChunkSink<'_>,
    repair: &mut IndexRepair,
) -> Result<PackEntry> {
    let key = layout::pack(named.kind, &named.id)?;
    let bytes = read(repository, &key)?;
    let own = bytes.as_ref().and_then(|bytes| own_entry(repository, named, bytes));
    let is_intact = own.is_some();
    let mut entry = own.unwrap_or_else(|| named.clone());
    let mut segments = SoundSegments::new(repository, &entry, &key, bytes.as_ref())?;
    if is_intact && entry.directory.segments.iter().all(|segment| segments.plain(segment).is_some()) {
        return Ok(entry);
    }
    if named.directory.is_blank() {
        // What could be had of it was copied when it was found damaged.
        return Ok(named.clone());
    }
    for segment in entry.directory.segments.iter_mut().filter(|segment| !segment.is_blank()) {
        match segments.plain(segment) {
            Some(plain) => {
                copy(segment, plain, entry.kind, copies)?;
                repair.saved += 1;
            }
            None => repair.lost_segments += 1,
        }
        segment.blank();
    }
    repair.damaged.push(key.to_string());
    Ok(entry)
}

/// All bytes of a pack; `None` if some cannot be read, not by a second try either.
fn read(repository: &Repository, key: &Key) -> Result<Option<Bytes>> {
    for _ in 0..2 {
        match repository.store().get(key) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(e) if e.kind() == Kind::Damaged => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Stores a segment's chunks once more.
fn copy(segment: &Segment, plain: &[u8], kind: PackKind, copies: &mut ChunkSink<'_>) -> Result<()> {
    for (_, bytes) in segment.chunks_of(plain) {
        match kind {
            PackKind::Data => copies.data(bytes)?,
            PackKind::Metadata => copies.metadata(bytes)?,
        };
    }
    Ok(())
}

/// Decodes a pack's segments.
struct SoundSegments<'p> {
    repository: &'p Repository,
    key: &'p Key,
    /// All of the pack; without it, because some sector is bad, each segment is read by itself.
    bytes: Option<&'p Bytes>,
    cipher: ObjectCipher,
    id_key: &'p IdKey,
    /// Where each segment lies, by its number.
    offsets: HashMap<u32, u64>,
    decompressor: Decompressor,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

impl<'p> SoundSegments<'p> {
    fn new(
        repository: &'p Repository,
        entry: &PackEntry,
        key: &'p Key,
        bytes: Option<&'p Bytes>,
    ) -> Result<Self> {
        let numbers = entry.directory.segments.iter().map(|segment| segment.number);
        let id_key = repository.id_key(entry.kind);
        Ok(Self {
            repository,
            key,
            bytes,
            cipher: repository.pack_cipher(entry.kind, entry.salt),
            id_key,
            offsets: numbers.zip(entry.directory.segment_offsets()).collect(),
            decompressor: Decompressor::new()?,
            sealed: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// A segment's chunks, if all are what their ids say.
    fn plain(&mut self, segment: &Segment) -> Option<&[u8]> {
        let offset = *self.offsets.get(&segment.number)?;
        let location = SegmentLocation::new(segment, offset);
        let end = offset.checked_add(u64::from(segment.box_bytes))?;
        self.sealed.clear();
        match self.bytes {
            Some(bytes) => {
                let range = usize::try_from(offset).ok()?..usize::try_from(end).ok()?;
                self.sealed.extend_from_slice(bytes.get(range)?);
            }
            None => {
                let read = self.repository.store().get_range(self.key, offset..end).ok()?;
                self.sealed.extend_from_slice(&read);
            }
        }
        Repository::open_segment(
            &self.cipher,
            &location,
            &mut self.sealed,
            &mut self.decompressor,
            &mut self.plain,
        )
        .ok()?;
        has_its_chunks(segment, &self.plain, self.id_key).then_some(&self.plain)
    }
}

/// What a pack says of itself, if all its bytes are as they were stored.
fn own_entry(repository: &Repository, named: &PackEntry, bytes: &Bytes) -> Option<PackEntry> {
    let head = bytes.get(..HEADER_BYTES)?;
    if Sha256::of(bytes) != named.id {
        return None;
    }
    repository.open_pack_entry(named.kind, &named.id, bytes.len() as u64, head, bytes).ok()
}

/// Whether a segment's chunks are what their ids say. One that was blanked has none.
fn has_its_chunks(segment: &Segment, plain: &[u8], id_key: &IdKey) -> bool {
    segment.chunks_of(plain).all(|(chunk, bytes)| id_key.id(bytes) == chunk.id)
}

/// Reads the directory of a pack that no shard names.
fn find(
    repository: &Repository,
    kind: PackKind,
    id: &Sha256,
    size: u64,
    repair: &mut IndexRepair,
    context: &Context,
) -> Result<Option<PackEntry>> {
    match repository.read_pack_entry(kind, id, size) {
        Ok(entry) => Ok(Some(entry)),
        Err(e) if store::is_missing(&e) => Ok(None),
        // A damaged header may claim any version.
        Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Failed) => {
            context.report(Event::Damage(e.to_string()));
            repair.unreadable.push(layout::pack(kind, id)?.to_string());
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Stores the new shards, then removes the old ones. Only the last new shard says that it replaces the old: until it is stored, all old
/// ones are in force.
fn write(
    repository: &Repository,
    packs: Vec<PackEntry>,
    old: &[(Sha256, Key)],
    session: &OpenSession,
) -> Result<()> {
    let replaces: Vec<Sha256> = old.iter().map(|(id, _)| *id).collect();
    let mut groups: Vec<Vec<PackEntry>> = vec![Vec::new()];
    let mut chunks = 0;
    for pack in packs {
        chunks += pack.directory.chunk_count();
        if let Some(group) = groups.last_mut() {
            group.push(pack);
        }
        if chunks >= SHARD_CHUNKS_MAX {
            chunks = 0;
            groups.push(Vec::new());
        }
    }
    let last = groups.len() - 1;
    for (at, packs) in groups.into_iter().enumerate() {
        let replaces = if at == last { replaces.clone() } else { Vec::new() };
        let shard = Shard { replaces, packs };
        let plain =
            shard.encode().map_err(|e| Error::failed(format_args!("cannot encode the index: {e}")))?;
        // Somebody who took this run for dead may have deleted what it names.
        session.beats().assure()?;
        let id = repository.put_whole(Area::Index, ObjectKind::IndexShard, &plain)?;
        session.beats().wrote([id.to_string()], false);
    }
    // A new shard never has an old one's name: its salt is random.
    old.iter().try_for_each(|(_, key)| repository.store().delete(key))
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
