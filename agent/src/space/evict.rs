//! Forgetting the oldest snapshots of a full destination that another destination holds verified.
//!
//! The newest good one of each source and whatever is pinned stay. A destination that evicts itself counts for nobody: two of them could each rely on the other.

use std::collections::{HashMap, HashSet};

use chrono::Utc;
use lifeboat_providers::Sha256;

use super::WhenFull;
use super::room::with_pins_of;
use crate::collect;
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::pack::directory::PackKind;
use crate::repository::lost::Look;
use crate::repository::{Repository, Tombstones, layout};
use crate::retention::{Candidate, GroupBy, floor};
use crate::session::{self, OpenSession, Role};
use crate::snapshot::{History, Snapshot};
use crate::sync::needed;
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
    let mut holders = holders(repository, others, host, context)?;
    if holders.is_empty() {
        return Ok(0);
    }
    let history = with_pins_of(repository, others, context)?;
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

/// Those of `others` that count.
fn holders(
    repository: &Repository,
    others: &[Repository],
    host: &str,
    context: &Context,
) -> Result<Vec<Holder>> {
    // Another address may be the same place: what is written here would show there.
    let session = session::open(repository, host, Role::Writer)?;
    let asked = others.iter().map(|other| match Holder::of(repository, &session, other, context) {
        Err(e) if e.kind() != Kind::Interrupted => {
            context.report(Event::Warning(format!(
                "{} cannot be asked what it holds: {e}. Nothing that it alone would hold is evicted",
                other.store().location()
            )));
            Ok(None)
        }
        holder => holder,
    });
    let holders = asked.filter_map(Result::transpose).collect();
    if let Err(e) = session.close() {
        context.report(Event::Warning(format!("{e}. The next prune looks for traces of this run.")));
    }
    holders
}

/// Those that may go at all, the oldest first: what even a policy that keeps nothing would keep stays, such as the newest whole one of each source, the
/// newest without errors, and pinned ones. One that is dated in the future pushes out nothing.
fn order(history: &History) -> Vec<&Snapshot> {
    let decided = floor(&Candidate::all(history, GroupBy::default()), Utc::now(), &Utc);
    let may_go = history.snapshots.iter().zip(decided).filter(|(_, decision)| !decision.keep);
    let mut order: Vec<&Snapshot> = may_go.map(|(snapshot, _)| snapshot).collect();
    order.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.id));
    order
}

/// Another destination, asked what it holds.
struct Holder {
    repository: Repository,
    /// Its snapshots that its own policy keeps.
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
        let mut kept: HashSet<Sha256> = history.snapshots.iter().map(|snapshot| snapshot.id).collect();
        for snapshot in policy.lets_go(&history)? {
            kept.remove(&snapshot.id);
        }
        let tombstones = Tombstones::load(&other)?;
        let index = other.load_sound_index(&tombstones, Look::Now, context)?.index;
        let sizes = index.packs()?.into_iter().map(|pack| (pack.id, pack.stored_bytes)).collect();
        let reader = ChunkReader::new(&other, index.into()).only_here();
        Ok(Some(Self { repository: other, kept, reader, sizes, proved: HashMap::new() }))
    }

    /// Whether it has the snapshot and every pack with anything of it, each with the hash that it is named by.
    fn holds(&mut self, snapshot: &Snapshot, context: &Context) -> Result<bool> {
        if !self.kept.contains(&snapshot.id) {
            return Ok(false);
        }
        let packs = match needed::packs(&self.reader, self.reader.index(), &[snapshot], context) {
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
            if !self.is_whole(kind, pack, context)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a pack has the hash that it is named by; asked once of each.
    fn is_whole(&mut self, kind: PackKind, pack: Sha256, context: &Context) -> Result<bool> {
        if let Some(is_whole) = self.proved.get(&pack) {
            return Ok(*is_whole);
        }
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
        Ok(is_whole)
    }
}
