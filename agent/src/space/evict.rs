//! Forgetting the oldest snapshots of a full destination that another destination holds verified.
//!
//! The newest of each source and whatever is pinned stay. A destination that evicts itself counts for nobody: two of them could each rely on the other.

use std::collections::{HashMap, HashSet};

use chrono::Utc;
use lifeboat_providers::Sha256;

use super::WhenFull;
use crate::collect;
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::index::Index;
use crate::repository::lost::Look;
use crate::repository::{Repository, Tombstones, layout};
use crate::retention::GroupBy;
use crate::session::{self, OpenSession, Role};
use crate::snapshot::{History, Snapshot};
use crate::sync::needed;
use crate::words::count;
use crate::{Kind, Result};

/// Forgets the oldest snapshots at `repository` that one of `others` holds verified, until about `wanted` bytes are needed by nothing any more or none
/// is left that may go. Returns how many. Their space comes free with a collection.
///
/// # Errors
/// `Damaged` if it is not known what is pinned, or a snapshot cannot be read in full: nothing is forgotten then; `Interrupted`; errors of the store.
pub fn evict(
    repository: &Repository,
    others: &[Repository],
    wanted: u64,
    host: &str,
    context: &Context,
) -> Result<usize> {
    // Another address may be the same place: what is written here would show there.
    let session = session::open(repository, host, Role::Writer)?;
    let done = evict_in(&session, repository, others, wanted, host, context);
    if let Err(e) = session.close() {
        context.report(Event::Warning(format!("{e}. The next prune looks for traces of this run.")));
    }
    done
}

fn evict_in(
    session: &OpenSession,
    repository: &Repository,
    others: &[Repository],
    wanted: u64,
    host: &str,
    context: &Context,
) -> Result<usize> {
    let mut holders = Vec::new();
    for other in others {
        match Holder::of(repository, session, other, context) {
            Ok(holder) => holders.extend(holder),
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => context.report(Event::Warning(format!(
                "{} cannot be asked what it holds: {e}. Nothing that it alone would hold is evicted",
                other.store().location()
            ))),
        }
    }
    if holders.is_empty() {
        return Ok(0);
    }
    let mut history = repository.load_history()?;
    repository.require_pins(&history)?;
    for holder in &holders {
        history.labels.unite(&holder.history.labels);
    }
    history.apply_labels();
    let order = order(&history);
    let frees = collect::alone_bytes(repository, &history, &order, context)?;
    let (mut doomed, mut freed) = (Vec::new(), 0_u64);
    for (snapshot, bytes) in order.into_iter().zip(frees) {
        if freed >= wanted {
            break;
        }
        context.check_stop()?;
        let mut holding = None;
        for holder in &mut holders {
            if holder.holds(snapshot, context)? {
                holding = Some(holder.repository.store().location());
                break;
            }
        }
        let Some(place) = holding else { continue };
        context.report(Event::Notice(format!(
            "snapshot {} is evicted from {}: {place} holds it, verified",
            snapshot.short_id(),
            repository.store().location()
        )));
        doomed.push(snapshot);
        freed = freed.saturating_add(bytes);
    }
    repository.forget(&doomed, host)?;
    Ok(doomed.len())
}

/// Those that may go at all, the oldest first.
fn order(history: &History) -> Vec<&Snapshot> {
    let groups = crate::retention::Candidate::all(history, GroupBy::default());
    let mut newest: HashMap<_, &Snapshot> = HashMap::new();
    for (candidate, snapshot) in groups.iter().zip(&history.snapshots) {
        let newest = newest.entry(&candidate.group).or_insert(snapshot);
        if snapshot.manifest.time >= newest.manifest.time {
            *newest = snapshot;
        }
    }
    let stays: HashSet<Sha256> = newest.values().map(|snapshot| snapshot.id).collect();
    let may_go = |snapshot: &&Snapshot| !snapshot.pinned && !stays.contains(&snapshot.id);
    let mut order: Vec<&Snapshot> = history.snapshots.iter().filter(may_go).collect();
    order.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.id));
    order
}

/// Another destination, asked what it holds.
struct Holder {
    repository: Repository,
    history: History,
    /// Its snapshots that its own policy does not let go.
    kept: HashSet<Sha256>,
    reader: ChunkReader,
    /// Bytes of each of its packs.
    sizes: HashMap<Sha256, u64>,
    /// Packs that were looked at, and whether they are what they should be.
    proved: HashMap<Sha256, bool>,
}

impl Holder {
    /// `None` if it does not count: it evicts itself, or is the same place.
    fn of(
        here: &Repository,
        session: &OpenSession,
        other: &Repository,
        context: &Context,
    ) -> Result<Option<Self>> {
        let policy = other.space().policy();
        let is_same_place = other.store().location() == here.store().location()
            || session::list(other)?.iter().any(|listed| listed.id == session.id());
        if is_same_place || policy.when_full == WhenFull::Evict {
            return Ok(None);
        }
        // What is read to judge it comes from there.
        let other = other.without_copies();
        let history = other.load_history()?;
        let all = || history.snapshots.iter().map(|snapshot| snapshot.id);
        let kept = match &policy.keep {
            None => all().collect(),
            Some(policies) => {
                let decided =
                    history.decide(policies, GroupBy::default(), |_| true, Utc::now(), policy.zone)?;
                decided
                    .iter()
                    .filter(|(_, decision)| decision.keep)
                    .map(|(snapshot, _)| snapshot.id)
                    .collect()
            }
        };
        let tombstones = Tombstones::load(&other)?;
        let index = other.load_sound_index(&tombstones, Look::Now, context)?.index;
        let sizes = index.packs()?.into_iter().map(|pack| (pack.id, pack.stored_bytes)).collect();
        let reader = ChunkReader::new(&other, index.into()).only_here();
        Ok(Some(Self { repository: other, history, kept, reader, sizes, proved: HashMap::new() }))
    }

    /// Whether it has the snapshot and every pack with anything of it, each with the hash that it is named by.
    fn holds(&mut self, snapshot: &Snapshot, context: &Context) -> Result<bool> {
        if !self.kept.contains(&snapshot.id) {
            return Ok(false);
        }
        let index: &Index = self.reader.index();
        let packs = match needed::packs(&self.reader, index, &[snapshot], context) {
            Ok(packs) => packs,
            Err(e) if e.kind() == Kind::Damaged => {
                context.report(Event::Damage(format!(
                    "{} has not all of snapshot {}: {e}",
                    self.repository.store().location(),
                    snapshot.short_id()
                )));
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        for (kind, pack) in packs {
            context.check_stop()?;
            let is_whole = match self.proved.get(&pack) {
                Some(is_whole) => *is_whole,
                None => {
                    let size = self.sizes.get(&pack).copied().unwrap_or_default();
                    let key = layout::pack(kind, &pack)?;
                    let is_whole = self.repository.store().holds(&key, size, pack)?;
                    if !is_whole {
                        context.report(Event::Damage(format!(
                            "{key} at {} is damaged: what needs it is not evicted elsewhere",
                            self.repository.store().location()
                        )));
                    }
                    self.proved.insert(pack, is_whole);
                    is_whole
                }
            };
            if !is_whole {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How many, for messages.
pub(super) fn words(evicted: usize) -> String {
    count(evicted as u64, "snapshot that another destination holds", "snapshots that other destinations hold")
}
