//! Bringing a destination up to another one: packs verbatim, then its index, then snapshots, each object proved by hash where it arrives.
//!
//! | module | job |
//! |---|---|
//! | [`reach`] | everything that snapshots lead to |
//! | [`needed`] | which segments the snapshots to be brought need, and whether a destination has all of one |
//! | [`copy`] | packs from one store to the other, several at once |
//! | [`absent`] | snapshots that were forgotten before they ever came |
//! | [`slots`] | key slots of all destinations |
//!
//! A destination may have a history of its own: what was forgotten there is not brought back, and what it has besides stays.

mod absent;
mod copy;
pub(crate) mod needed;
mod reach;
pub mod slots;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lifeboat_providers::Sha256;

use crate::chunk::ChunkId;
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::index::Index;
use crate::index::shard::PackEntry;
use crate::ingest::{ChunkSink, Ingest, IngestOptions};
use crate::pack::directory::PackKind;
use crate::repository::lost::Look;
use crate::repository::state::LockedMemory;
use crate::repository::{Area, Repository, Tombstones, layout};
use crate::seal::SealedObject;
use crate::session::{self, OpenSession, leftovers, outcome};
use crate::snapshot::history::witness;
use crate::snapshot::{History, Snapshot};
use crate::words::count;
use crate::{Error, Kind, Result, locks};

/// What is brought.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// This machine, as it tells others that it is at work.
    pub host: String,
    /// Only snapshots of this source.
    pub source: Option<String>,
    /// Snapshots that were made at the origin a moment ago, whether its listing shows them or not.
    pub made: Vec<Snapshot>,
    /// When packs of the destination are looked for that its index names and that are not there.
    pub look: Look,
}

impl SyncOptions {
    /// All that is missing.
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), source: None, made: Vec::new(), look: Look::Daily }
    }
}

/// What was brought.
#[derive(Debug, Default)]
pub struct Synced {
    /// Snapshots that were brought.
    pub snapshots: Vec<Sha256>,
    /// Snapshots of the origin that were there already.
    pub present: HashSet<Sha256>,
    /// Snapshots that could not be brought, because something of them is damaged or missing at the origin.
    pub incomplete: Vec<Sha256>,
    /// Pins and tags that were brought.
    pub labels: u64,
    /// Packs that were copied as they are.
    pub packs: u64,
    /// Segments that were packed anew, because the rest of their pack is not needed.
    pub segments: u64,
    /// Bytes that were stored.
    pub bytes: u64,
    /// What was wrong at the origin.
    pub damage: Vec<String>,
    /// More snapshots are to be brought than may count at once: the rest is for another call.
    pub is_partial: bool,
}

/// What is known of the destination from the run that has just written to it.
pub struct Prepared {
    /// Its index, without what its tombstones name.
    pub index: Arc<Index>,
    /// Its open session.
    pub session: OpenSession,
    /// Whether packs that its index named are not there; they are left out of the index given here.
    pub has_lost: bool,
}

/// What is to be brought, and what stands in the way.
struct Plan<'p> {
    wanted: &'p [&'p Snapshot],
    /// With these the destination has all that the origin has.
    all_of_it: bool,
    /// What is about to be deleted at the destination: no pack of it is written there under its name.
    tombstones: &'p Tombstones,
}

/// How a pack gets to the destination.
enum Way {
    /// As it is.
    Whole(PackEntry),
    /// Only these of its segments, in new packs.
    Segments(PackEntry, Vec<u32>),
}

/// Brings to `to` what `from` has and it lacks.
///
/// # Errors
/// `Interrupted`; errors of either store. What was copied before an error is indexed, and not copied again by the next run. Damage at the
/// origin is in the result.
pub fn run(from: &Repository, to: &Repository, options: &SyncOptions, context: &Context) -> Result<Synced> {
    let mut all = Synced::default();
    loop {
        let synced = bring(from, to, options, None, context)?;
        let goes_on = synced.is_partial && !synced.snapshots.is_empty();
        all.add(synced);
        if !goes_on {
            return Ok(all);
        }
    }
}

/// As [`run`], with what is known of the destination already.
///
/// # Errors
/// As [`run`].
pub fn bring(
    from: &Repository,
    to: &Repository,
    options: &SyncOptions,
    prepared: Option<Prepared>,
    context: &Context,
) -> Result<Synced> {
    context.report(Event::Phase("comparing destinations"));
    let (mut here, there) = (from.load_history()?, to.load_history()?);
    // A listing may not show yet what was stored a moment ago.
    let known: HashSet<Sha256> = here.snapshots.iter().map(|snapshot| snapshot.id).collect();
    here.snapshots.extend(options.made.iter().filter(|made| !known.contains(&made.id)).cloned());
    let mut synced = Synced::default();
    let (missing, elsewhere) = missing(&here, &there, to, options, &mut synced);
    let mut absent = absent::forgotten_before_they_came(&here, &there, to)?;
    // What is not meant for it is no gap there.
    absent.extend(elsewhere.into_iter().map(witness));
    let is_prepared = prepared.is_some();
    if missing.is_empty() && !is_prepared && !may_have_gaps(to, options.look, context)? {
        bring_labels(from, to, &here, &there, &mut synced)?;
        to.record_forgotten(absent, &options.host)?;
        remember(to, &[])?;
        return Ok(synced);
    }
    // What the destination has is read after its session is known; what is missing there may be there by then, which costs nothing.
    let (Prepared { index, session, has_lost }, left) = match prepared {
        Some(prepared) => (prepared, Default::default()),
        None => prepare(to, options, context)?,
    };
    let has_gaps = has_lost || is_blanked(&index);
    // Snapshots that are there and lack something are completed, too.
    let is_wanted = |snapshot: &&Snapshot| {
        missing.iter().any(|missing| missing.id == snapshot.id)
            || (has_gaps && synced.present.contains(&snapshot.id))
    };
    let wanted: Vec<&Snapshot> = here.snapshots.iter().filter(is_wanted).collect();
    if wanted.is_empty() && is_prepared {
        session.close()?;
        bring_labels(from, to, &here, &there, &mut synced)?;
        to.record_forgotten(absent, &options.host)?;
        remember(to, &[])?;
        return Ok(synced);
    }
    let origin = Arc::new(from.load_catalog()?.index);
    let ingest = Ingest::start(to, index.clone(), IngestOptions::default(), context)?;
    ingest.indexer().tell(session.beats().clone());
    left.adopt(&session, &index, ingest.indexer(), context)?;
    let reader = ChunkReader::new(from, origin.clone());
    let all_of_it = missing.len() + synced.present.len() >= here.snapshots.len();
    let plan = Plan { wanted: &wanted, all_of_it, tombstones: session.tombstones() };
    let copied = copy_packs(from, &reader, &ingest, &plan, context, &mut synced);
    // What was copied is indexed whatever came after it.
    let finished = ingest.finish();
    copied.and(finished)?;
    context.report(Event::Phase("writing snapshots"));
    // After a run that wrote to both, what the older snapshot had is not looked at again for the newer one: it was proved when that one came, and
    // packs are looked for once a day. Whoever asks for a `sync` has all of it looked at.
    let is_trusted = is_prepared && !has_gaps && needed::has_all_packs(&reader, &index)?;
    let older = |snapshot: &Snapshot| {
        let is_there = |older: &&Snapshot| synced.present.contains(&older.id);
        here.older(snapshot).find(is_there).filter(|_| is_trusted)
    };
    let older: Vec<Option<&Snapshot>> = missing.iter().map(|snapshot| older(snapshot)).collect();
    let complete = complete(missing.iter().copied().zip(older), &reader, &index, context, &mut synced)?;
    let complete = put_snapshots(from, &session, &complete, &mut synced)?;
    if let Err(e) = session.close() {
        context.report(Event::Warning(format!("{e}. The snapshots are there all the same.")));
    }
    locks::extend(to, &reader, &index, &complete, context);
    bring_labels(from, to, &here, &there, &mut synced)?;
    to.record_forgotten(absent, &options.host)?;
    remember(to, &complete)?;
    Ok(synced)
}

/// Whether the destination may lack something of what it has: known without a session there.
fn may_have_gaps(to: &Repository, look: Look, context: &Context) -> Result<bool> {
    if look == Look::Daily {
        return Ok(false);
    }
    let sound = to.load_sound_index(&Tombstones::default(), look, context)?;
    Ok(sound.lost > 0 || is_blanked(&sound.index))
}

/// Whether a repair found something damaged, and left blank entries for it.
fn is_blanked(index: &Index) -> bool {
    index.contains(&ChunkId::BLANK)
}

/// Opens a session at the destination, then reads what it has.
fn prepare(
    to: &Repository,
    options: &SyncOptions,
    context: &Context,
) -> Result<(Prepared, leftovers::Leftovers)> {
    let (session, left, sound) = session::open_with_index(to, &options.host, options.look, context)?;
    Ok((Prepared { index: Arc::new(sound.index), session, has_lost: sound.lost > 0 }, left))
}

/// Makes snapshots count at the destination, all at once: as many as may. Returns those.
fn put_snapshots<'s>(
    from: &Repository,
    session: &OpenSession,
    complete: &[&'s Snapshot],
    synced: &mut Synced,
) -> Result<Vec<&'s Snapshot>> {
    let (mut objects, mut bytes) = (Vec::new(), 0);
    for snapshot in complete {
        let stored = from.store().get_named(&layout::named_by_hash(Area::Snapshots, &snapshot.id)?)?;
        bytes += stored.len();
        if bytes > outcome::OUTCOME_BYTES_MAX && !objects.is_empty() {
            synced.is_partial = true;
            break;
        }
        objects.push(SealedObject::copied(stored, snapshot.id));
    }
    let put: Vec<_> = complete.iter().take(objects.len()).copied().collect();
    if !put.is_empty() {
        session.commit(&objects)?;
    }
    synced.snapshots.extend(put.iter().map(|snapshot| snapshot.id));
    Ok(put)
}

/// The snapshots to be brought, each writer's in order; and those that the configuration sends elsewhere.
fn missing<'h>(
    here: &'h History,
    there: &History,
    to: &Repository,
    options: &SyncOptions,
    synced: &mut Synced,
) -> (Vec<&'h Snapshot>, Vec<&'h Snapshot>) {
    let present: HashSet<Sha256> = there.snapshots.iter().map(|snapshot| snapshot.id).collect();
    let (mut missing, mut elsewhere): (Vec<&Snapshot>, Vec<&Snapshot>) = Default::default();
    for snapshot in &here.snapshots {
        let id = snapshot.id.to_string();
        if present.contains(&snapshot.id) {
            synced.present.insert(snapshot.id);
        } else if there.forgotten.contains_key(&id) {
            // Its destination wanted it gone.
        } else if to.space().policy().elsewhere.has(snapshot) {
            elsewhere.push(snapshot);
        } else if options.source.is_none() || options.source == snapshot.manifest.source {
            missing.push(snapshot);
        }
    }
    missing.sort_by(|a, b| {
        (&a.manifest.writer, a.manifest.sequence).cmp(&(&b.manifest.writer, b.manifest.sequence))
    });
    (missing, elsewhere)
}

/// Copies what the snapshots need. Damage at the origin is noted and passed over.
fn copy_packs(
    from: &Repository,
    reader: &ChunkReader,
    ingest: &Ingest,
    plan: &Plan<'_>,
    context: &Context,
    synced: &mut Synced,
) -> Result<()> {
    let to = ingest.repository();
    // Of these something is damaged there, and the index says so: what they lack comes in packs of other names.
    let blanked: HashSet<Sha256> =
        ingest.index.lookup_all(&ChunkId::BLANK).into_iter().map(|place| place.pack).collect();
    let there: HashSet<Sha256> = to
        .with_sound_index(&ingest.index, Index::packs)?
        .into_iter()
        .map(|pack| pack.id)
        .filter(|pack| !blanked.contains(pack))
        .collect();
    let lacking: HashMap<Sha256, u64> = from
        .with_sound_index(reader.index(), Index::packs)?
        .into_iter()
        .filter(|pack| !there.contains(&pack.id))
        .map(|pack| (pack.id, pack.stored_bytes))
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    // Where everything is brought, packs go as they are, and with them what nothing uses any more: the next prune there removes it. What is
    // being removed there right now is brought as far as it is needed.
    let is_doomed = lacking.keys().any(|pack| plan.tombstones.packs.contains(pack));
    let needed = match plan.all_of_it && !is_doomed {
        true => None,
        false => {
            context.report(Event::Phase("finding what is needed"));
            Some(needed::segments(reader, plan.wanted, &ingest.index, context)?)
        }
    };
    context.report(Event::Phase("copying packs"));
    context.counters.expect(lacking.values().sum());
    let copier = copy::Copier::start(from, ingest, context)?;
    let mut repack = Vec::new();
    let sent = send(from, &lacking, needed.as_ref(), &ingest.index, plan.tombstones, |way| match way {
        Way::Whole(entry) if blanked.contains(&entry.id) => {
            let segments = entry.directory.segments.iter().map(|segment| segment.number).collect();
            repack.push((entry, segments));
            Ok(())
        }
        Way::Whole(entry) => copier.send(entry),
        Way::Segments(entry, segments) => {
            repack.push((entry, segments));
            Ok(())
        }
    });
    let copied = copier.finish();
    synced.packs += copied.packs;
    synced.bytes += copied.bytes;
    synced.damage.extend(copied.damage);
    copied.outcome?;
    sent?;
    let mut sink = ChunkSink::new(ingest)?;
    for (entry, segments) in repack {
        context.check_stop()?;
        repack_segments(reader, &entry, &segments, &mut sink, synced)?;
    }
    sink.flush()
}

/// Calls `each` with every pack that the destination lacks and how it is to get there, as the origin's shards name them.
fn send(
    from: &Repository,
    lacking: &HashMap<Sha256, u64>,
    needed: Option<&needed::Segments>,
    there: &Index,
    tombstones: &Tombstones,
    mut each: impl FnMut(Way) -> Result<()>,
) -> Result<()> {
    /// A pack of which less than this share is needed is not worth its bytes.
    const WHOLE_SHARE_MIN: f64 = 0.5;
    let mut sent = HashSet::new();
    for info in from.store().list(&Area::Index.prefix())? {
        let Ok(id) = layout::sha256_of(&info.key) else { continue };
        // What of the index is damaged was said when it was loaded; what only such a shard names is missed when snapshots are proved.
        let shard = match from.read_shard(&id) {
            Ok(shard) => shard,
            Err(e) if e.kind() == Kind::Damaged => continue,
            Err(e) => return Err(e),
        };
        for entry in shard.packs {
            if !lacking.contains_key(&entry.id) || entry.directory.is_blank() || !sent.insert(entry.id) {
                continue;
            }
            let is_new = |segment: &&crate::pack::directory::Segment| {
                segment.chunks.iter().any(|chunk| !there.contains(&chunk.id))
            };
            let new: Vec<_> = entry.directory.segments.iter().filter(is_new).collect();
            let wanted: Vec<u32> = match needed {
                None => new.iter().map(|segment| segment.number).collect(),
                Some(needed) => {
                    let numbers = new.iter().map(|segment| segment.number);
                    numbers.filter(|number| needed.contains(&(entry.id, *number))).collect()
                }
            };
            if wanted.is_empty() {
                continue;
            }
            let of = |numbers: &[u32]| -> u64 {
                let segments = entry.directory.segments.iter().filter(|s| numbers.contains(&s.number));
                segments.map(|segment| u64::from(segment.box_bytes)).sum()
            };
            let share = of(&wanted) as f64 / entry.directory.box_bytes().max(1) as f64;
            each(match needed {
                _ if tombstones.packs.contains(&entry.id) => Way::Segments(entry, wanted),
                Some(_) if share < WHOLE_SHARE_MIN => Way::Segments(entry, wanted),
                _ => Way::Whole(entry),
            })?;
        }
    }
    Ok(())
}

/// Stores the chunks of some segments anew.
fn repack_segments(
    reader: &ChunkReader,
    entry: &PackEntry,
    segments: &[u32],
    sink: &mut ChunkSink<'_>,
    synced: &mut Synced,
) -> Result<()> {
    for segment in entry.directory.segments.iter().filter(|segment| segments.contains(&segment.number)) {
        for chunk in &segment.chunks {
            let bytes = match entry.kind {
                PackKind::Data => reader.data(&chunk.id, chunk.length.into()),
                PackKind::Metadata => reader.metadata(&chunk.id),
            };
            match bytes {
                Ok(bytes) if entry.kind == PackKind::Data => drop(sink.data(&bytes)?),
                Ok(bytes) => drop(sink.metadata(&bytes)?),
                Err(e) if e.kind() == Kind::Damaged => synced.damage.push(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        synced.segments += 1;
    }
    Ok(())
}

/// The snapshots of which the destination now has every chunk; each with an older one of which it is known to have all.
fn complete<'s>(
    missing: impl Iterator<Item = (&'s Snapshot, Option<&'s Snapshot>)>,
    reader: &ChunkReader,
    there: &Index,
    context: &Context,
    synced: &mut Synced,
) -> Result<Vec<&'s Snapshot>> {
    let mut completeness = needed::Completeness::new(reader, there, context);
    let mut complete: Vec<&Snapshot> = Vec::new();
    for (snapshot, older) in missing {
        match completeness.lacks(snapshot, older)? {
            None => complete.push(snapshot),
            Some(why) => {
                synced.damage.push(format!("snapshot {}: {why}", snapshot.short_id()));
                synced.incomplete.push(snapshot.id);
            }
        }
    }
    Ok(complete)
}

/// Pins and later tags of all snapshots that are at the destination now.
fn bring_labels(
    from: &Repository,
    to: &Repository,
    here: &History,
    there: &History,
    synced: &mut Synced,
) -> Result<()> {
    let known = there.snapshots.iter().map(|snapshot| snapshot.id).chain(synced.snapshots.iter().copied());
    synced.labels =
        to.bring_labels(&known.collect(), &there.labels, from, &here.labels, &mut synced.damage)?;
    Ok(())
}

/// Remembers that these snapshots are at the destination now.
fn remember(to: &Repository, snapshots: &[&Snapshot]) -> Result<()> {
    let mut memory = LockedMemory::open(to.directories())?;
    let before = memory.memory.clone();
    for snapshot in snapshots {
        let seen = witness(snapshot);
        memory.memory.saw(&to.directories().place, &seen.writer, seen.sequence, &snapshot.id);
    }
    if memory.memory == before { Ok(()) } else { memory.save() }
}

impl Synced {
    /// Adds what another call came to.
    pub(crate) fn add(&mut self, other: Self) {
        // What an earlier call brought is there for the next one.
        let brought: HashSet<Sha256> = self.snapshots.iter().copied().collect();
        self.present.extend(other.present.into_iter().filter(|id| !brought.contains(id)));
        self.snapshots.extend(other.snapshots);
        self.incomplete = other.incomplete;
        self.labels += other.labels;
        self.packs += other.packs;
        self.segments += other.segments;
        self.bytes += other.bytes;
        self.damage.extend(other.damage);
        self.is_partial = other.is_partial;
    }

    /// What could not be brought, as an error.
    ///
    /// # Errors
    /// `Damaged` if anything could not.
    pub fn verdict(&self) -> Result<()> {
        if self.incomplete.is_empty() {
            return Ok(());
        }
        let first = self.damage.first().map_or_else(String::new, |first| format!(" ({first})"));
        Err(Error::damaged(format_args!(
            "{} could not be brought over: something of them is damaged or missing{first}",
            count(self.incomplete.len() as u64, "snapshot", "snapshots")
        ))
        .with_hint(
            "`lifeboat check --repair` takes what is damaged from another destination; then sync again.",
        ))
    }
}
