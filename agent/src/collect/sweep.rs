//! Deletes what tombstones name, as soon as nobody who might need it is left: the order of RFC 4.
//!
//! Sessions, then tombstones, then snapshots, then the index are looked at anew. What is needed after all stays, and so does its tombstone.
//! After the packs the index is written without them. A tombstone stays for a long time after its packs are gone: a late request of a machine
//! that was asleep must not bring them back.

use std::collections::HashSet;
use std::time::Duration;

use lifeboat_providers::{ErrorKind, Key, Sha256};
use parking_lot::Mutex;

use super::mark::{self, Reached};
use super::plan::PackUse;
use super::shards;
use super::survey::{self, Survey};
use crate::chunk::ChunkId;
use crate::events::{Context, Counters, Event};
use crate::fetch::ChunkReader;
use crate::fs::size::human;
use crate::index::{self, Index, Live, Mark};
use crate::pack::directory::PackKind;
use crate::repository::tombstones::{TOMBSTONE_PACKS_MAX, Tombstone};
use crate::repository::{Repository, Tombstones, layout};
use crate::session::clock::Clock;
use crate::session::{self, Observations, OpenSession};
use crate::snapshot::Snapshot;
use crate::words::count;
use crate::{Error, Kind, Result};

/// A tombstone stays for so long after its packs were first seen gone, as fences do.
const TOMBSTONES_STAY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Where listings lag, a tombstone is seen so long before it counts that nobody holds it back, and then that for as long again.
const LAG: Duration = Duration::from_secs(60 * 60);
/// Objects that are deleted by one call: a signal is heard in between.
const BATCH: usize = 1000;

const SWEPT_PREFIX: &str = "swept/";
const SEEN_PREFIX: &str = "seen/";
const FREE_PREFIX: &str = "free/";

/// Packs that are not deleted yet, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Who may need them: words for people.
    pub by: Vec<String>,
}

impl HeldBack {
    /// What waits for whom.
    pub fn words(&self) -> String {
        format!(
            "{} ({}) wait to be deleted, for {}",
            count(self.packs, "pack", "packs"),
            human(self.bytes),
            self.by.join("; ")
        )
    }
}

/// What the store did not let go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denied {
    /// How many objects.
    pub objects: u64,
    /// Their bytes, of packs.
    pub bytes: u64,
    /// What the store said of the first.
    pub reason: String,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) packs: u64,
    pub(super) bytes: u64,
    pub(super) held_back: Vec<HeldBack>,
    pub(super) denied: Denied,
    /// Packs that were to go, and that a snapshot made meanwhile needs.
    pub(super) needed: u64,
    pub(super) shards_written: u64,
}

/// Publishes what is to go.
///
/// # Errors
/// Errors of the store.
pub(super) fn publish<'p>(
    repository: &Repository,
    packs: impl Iterator<Item = &'p PackUse>,
) -> Result<Tombstones> {
    let packs: Vec<&PackUse> = packs.collect();
    let mut published = Tombstones::default();
    for part in packs.chunks(TOMBSTONE_PACKS_MAX) {
        let of =
            |kind: PackKind| part.iter().filter(move |pack| pack.kind == kind).map(|pack| pack.id).collect();
        let tombstone = Tombstone { data: of(PackKind::Data), metadata: of(PackKind::Metadata) };
        let name = Tombstones::publish(repository, &tombstone)?;
        published.packs.extend(part.iter().map(|pack| pack.id));
        published.by_name.insert(name, tombstone);
    }
    Ok(published)
}

/// Sweeps all tombstones there are: those of `survey`, and those just `published`. `copied` are packs of which new packs have all that is used.
///
/// # Errors
/// `Fenced`, `Interrupted`; `Damaged` if a snapshot that is new cannot be read in full: nothing is deleted then; errors of the store.
pub(super) fn sweep(
    repository: &Repository,
    session: &OpenSession,
    survey: &Survey,
    published: &Tombstones,
    copied: &[PackUse],
    context: &Context,
) -> Result<Swept> {
    context.report(Event::Phase("looking who may need what is to go"));
    let mut swept = Swept::default();
    let settled = session::settle(repository, Some(session.id()), context)?;
    repository.store().forget_ahead();
    let tombstones = tombstones(repository, survey, published)?;
    let needed = needed(repository, survey, &tombstones, copied, context)?;
    let mut free = Vec::new();
    let mut observations = Observations::open(repository)?;
    let clock = repository.timing().clock.clone();
    for (name, tombstone) in &tombstones.by_name {
        let holders = settled.at_work.iter().filter(|listed| listed.holds_back(name));
        let mut by: Vec<String> = holders.map(session::Listed::words).collect();
        if !repository.store().capabilities().listing_is_consistent
            && !is_ripe(&mut observations, name, by.is_empty(), &*clock)
        {
            by.push("two hours to pass, as this store's listings lag: run prune again after each".to_owned());
        }
        if by.is_empty() {
            free.push((name, tombstone));
        } else {
            hold_back(survey, tombstone, by, &mut swept);
        }
    }
    for prefix in [SEEN_PREFIX, FREE_PREFIX] {
        observations.retain(prefix, &tombstones.names().map(|name| format!("{prefix}{name}")).collect());
    }
    save(&observations, context);
    drop(observations);
    let goes: HashSet<Sha256> = free
        .iter()
        .flat_map(|(_, tombstone)| tombstone.packs())
        .map(|(_, id)| *id)
        .filter(|id| !needed.contains(id))
        .collect();
    swept.needed = needed.intersection(&published.packs).count() as u64;
    let mut gone = true;
    if !goes.is_empty() {
        context.report(Event::Phase("deleting packs"));
        session.beats().assure()?;
        let mut packs = Vec::new();
        for pack in survey.packs.iter().filter(|pack| goes.contains(&pack.id) && pack.stored_bytes > 0) {
            packs.push((layout::pack(pack.kind, &pack.id)?, pack.stored_bytes));
        }
        let wanted = packs.len() as u64;
        (swept.packs, swept.bytes) = delete(repository, packs, &mut swept.denied, context)?;
        gone = swept.packs == wanted;
        swept.shards_written =
            write_index(repository, session, survey, &tombstones, &mut swept.denied, context)?;
    }
    if gone && needed.is_empty() {
        let names = free.into_iter().map(|(name, _)| *name).collect::<Vec<_>>();
        bury(repository, session, &names, &mut swept, context)?;
    }
    Ok(swept)
}

/// Whether enough time has passed where listings lag. A writer and a tombstone may be invisible to each other at first; and that a session is gone
/// may show before the snapshot does that it has made: so both waits are needed, one after the other.
fn is_ripe(observations: &mut Observations, name: &Sha256, is_free: bool, clock: &dyn Clock) -> bool {
    let is_seen = observations.see(&format!("{SEEN_PREFIX}{name}"), "", clock) >= LAG;
    // Another token makes the time begin anew.
    let token = if is_seen && is_free { "free" } else { "held" };
    observations.see(&format!("{FREE_PREFIX}{name}"), token, clock) >= LAG && token == "free"
}

/// Takes out of the index what tombstones name and is not there any more, and nothing else: what was only meant to be deleted may have been
/// stored again by somebody since then, if this run was asleep.
fn write_index(
    repository: &Repository,
    session: &OpenSession,
    survey: &Survey,
    tombstones: &Tombstones,
    denied: &mut Denied,
    context: &Context,
) -> Result<u64> {
    context.report(Event::Phase("writing the index"));
    repository.renew_index(&survey.index)?;
    let mut dropped = HashSet::new();
    survey.index.for_each_pack(|pack| {
        if tombstones.packs.contains(&pack.id) {
            dropped.insert(pack.id);
        }
    })?;
    if !dropped.is_empty() {
        // Listed after the shards were, whose packs it decides on.
        let stored = survey::packs(repository)?;
        dropped.retain(|pack| !stored.contains_key(pack));
    }
    let rewritten = shards::rewrite(repository, session, &survey.index, &dropped, context)?;
    let replaced = rewritten.replaced.into_iter().map(|key| (key, 0)).collect();
    delete(repository, replaced, denied, context)?;
    Ok(rewritten.written)
}

/// All tombstones as they are now: those that were known, and those just published. Where listings lag they count though they are not listed yet.
fn tombstones(repository: &Repository, survey: &Survey, published: &Tombstones) -> Result<Tombstones> {
    let mut listed = Tombstones::load(repository)?;
    let mut others = listed.by_name.len();
    let mut lacking = 0;
    for (name, tombstone) in survey.tombstones.by_name.iter().chain(&published.by_name) {
        match listed.by_name.contains_key(name) {
            true => others -= 1,
            false => {
                lacking += 1;
                listed.packs.extend(tombstone.packs().map(|(_, id)| *id));
                listed.by_name.insert(*name, tombstone.clone());
            }
        }
    }
    if others == 0 && (lacking == 0 || !repository.store().capabilities().listing_is_consistent) {
        return Ok(listed);
    }
    // Which copy of a chunk stays was decided without knowing them.
    Err(Error::new(Kind::Locked, "another prune was at work at the same time")
        .with_hint("Nothing was deleted that either needs. Run the command again: it goes on from here."))
}

fn hold_back(survey: &Survey, tombstone: &Tombstone, by: Vec<String>, swept: &mut Swept) {
    let ids: HashSet<&Sha256> = tombstone.packs().map(|(_, id)| id).collect();
    let packs = survey.packs.iter().filter(|pack| pack.stored_bytes > 0 && ids.contains(&pack.id));
    let (packs, bytes) = packs.fold((0, 0), |(packs, bytes), pack| (packs + 1, bytes + pack.stored_bytes));
    if packs > 0 {
        swept.held_back.push(HeldBack { packs, bytes, by });
    }
}

/// Packs of tombstones that are needed: what lay in them alone and could not be copied, and what snapshots need that are new.
fn needed(
    repository: &Repository,
    survey: &Survey,
    tombstones: &Tombstones,
    copied: &[PackUse],
    context: &Context,
) -> Result<HashSet<Sha256>> {
    let copied: HashSet<Sha256> = copied.iter().map(|pack| pack.id).collect();
    let mut needed: HashSet<Sha256> = survey
        .packs
        .iter()
        .filter(|pack| {
            pack.bytes.live > 0 && tombstones.packs.contains(&pack.id) && !copied.contains(&pack.id)
        })
        .map(|pack| pack.id)
        .collect();
    let history = repository.load_history()?;
    if !history.unreadable.is_empty() {
        return Err(Error::damaged(
            "a snapshot that was made just now cannot be read: nobody knows what it needs",
        )
        .with_hint("Nothing was deleted. `lifeboat check` says what is damaged."));
    }
    repository.renew_index(&survey.index)?;
    let known: HashSet<Sha256> = survey.history.snapshots.iter().map(|snapshot| snapshot.id).collect();
    let new: Vec<&Snapshot> =
        history.snapshots.iter().filter(|snapshot| !known.contains(&snapshot.id)).collect();
    if new.is_empty() {
        return Ok(needed);
    }
    let later = Later {
        live: &survey.live,
        index: &survey.index,
        tombstones,
        seen: Mutex::default(),
        needed: Mutex::default(),
    };
    let reader = ChunkReader::new(repository, survey.index.clone());
    mark::mark(&reader, &new, &later, context)?;
    survey.index.require_sound()?;
    needed.extend(later.needed.into_inner());
    Ok(needed)
}

/// What snapshots reach that were made after the plan.
struct Later<'a> {
    live: &'a Live,
    /// As it is now.
    index: &'a Index,
    tombstones: &'a Tombstones,
    /// Chunks that the index did not know then.
    seen: Mutex<HashSet<ChunkId>>,
    needed: Mutex<HashSet<Sha256>>,
}

impl Reached for Later<'_> {
    fn reach(&self, id: &ChunkId) -> Result<bool> {
        match self.live.marks().mark(id)? {
            // Its copy stays, or was copied.
            Mark::Known => return Ok(false),
            Mark::Absent if !self.seen.lock().insert(*id) => return Ok(false),
            Mark::New | Mark::Absent => {}
        }
        let places = self.index.lookup_all(id);
        if places.is_empty() {
            return Err(index::unknown(id));
        }
        if places.iter().all(|place| self.tombstones.packs.contains(&place.pack)) {
            self.needed.lock().extend(places.iter().map(|place| place.pack));
        }
        Ok(true)
    }
}

/// Deletes objects; returns how many, and their bytes. What the store does not let go is noted.
fn delete(
    repository: &Repository,
    objects: Vec<(Key, u64)>,
    denied: &mut Denied,
    context: &Context,
) -> Result<(u64, u64)> {
    let mut deleted = (0, 0);
    for batch in objects.chunks(BATCH) {
        context.check_stop()?;
        let keys: Vec<Key> = batch.iter().map(|(key, _)| key.clone()).collect();
        let mut first_error = None;
        for (result, (_, bytes)) in repository.store().delete_many(&keys).into_iter().zip(batch) {
            match result {
                Ok(()) => {
                    deleted.0 += 1;
                    deleted.1 += bytes;
                    Counters::add(&context.counters.files, 1);
                }
                Err(e) if is_denied(&e) => {
                    denied.objects += 1;
                    denied.bytes += bytes;
                    if denied.reason.is_empty() {
                        denied.reason = e.to_string();
                    }
                }
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
        if let Some(e) = first_error {
            return Err(e);
        }
    }
    Ok(deleted)
}

/// Whether a store refuses to delete: for want of a permission, or because a lock protects the object.
fn is_denied(error: &Error) -> bool {
    use std::error::Error as _;
    let source = error.source().and_then(|source| source.downcast_ref::<lifeboat_providers::Error>());
    source.is_some_and(|e| e.kind() == ErrorKind::Denied)
}

/// Removes tombstones whose packs have been gone for long.
fn bury(
    repository: &Repository,
    session: &OpenSession,
    names: &[Sha256],
    swept: &mut Swept,
    context: &Context,
) -> Result<()> {
    let mut observations = Observations::open(repository)?;
    let clock = repository.timing().clock.clone();
    let mut old = Vec::new();
    for name in names {
        if observations.see(&format!("{SWEPT_PREFIX}{name}"), "", &*clock) >= TOMBSTONES_STAY {
            old.push((layout::named_by_hash(crate::repository::Area::Tombstones, name)?, 0));
        }
    }
    let kept = |prefix: &str| names.iter().map(|name| format!("{prefix}{name}")).collect();
    observations.retain(SWEPT_PREFIX, &kept(SWEPT_PREFIX));
    save(&observations, context);
    drop(observations);
    if old.is_empty() {
        return Ok(());
    }
    session.beats().assure()?;
    delete(repository, old, &mut swept.denied, context).map(drop)
}

fn save(observations: &Observations, context: &Context) {
    if let Err(e) = observations.save() {
        context.report(Event::Warning(format!("{e}: what waits for time to pass waits longer")));
    }
}
