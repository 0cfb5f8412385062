//! What is there: who is at work, what is about to be deleted, all snapshots, the index, the packs; and what of every pack is in use.
//!
//! In this order, never another: sessions and tombstones, then snapshots, then the index, then packs. So all that a snapshot needs is in the
//! index, and whoever commits later is a session that was there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_providers::Sha256;

use super::plan::{PackUse, Standing};
use super::{CollectOptions, mark};
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::index::{Index, Live, PackBytes, Worth};
use crate::ingest::adopt::adopt_orphans;
use crate::ingest::claims::Claims;
use crate::ingest::indexer::Indexer;
use crate::pack::directory::PackKind;
use crate::repository::{Area, Repository, Tombstones, layout};
use crate::session::{self, Listed, Observations, OpenSession};
use crate::snapshot::{History, Snapshot, chain};
use crate::words::count;
use crate::{Error, Kind, Result};

/// What a run that was cut off has stored is kept for so long after it was first seen dead: the next run of it goes on from there.
const INTERRUPTED_STAYS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is there.
pub(super) struct Survey {
    pub(super) tombstones: Arc<Tombstones>,
    pub(super) history: History,
    pub(super) index: Arc<Index>,
    pub(super) live: Live,
    /// Every pack that the index names or that is there.
    pub(super) packs: Vec<PackUse>,
    /// Sessions that are over and of no use to anybody any more.
    pub(super) done_with: Vec<Listed>,
}

/// Who else writes.
#[derive(Default)]
struct Writers {
    at_work: Vec<Listed>,
    /// Cut off, and not long ago.
    interrupted: Vec<Listed>,
    done_with: Vec<Listed>,
}

/// Looks at everything. Without a session of its own nothing is changed, and every other session counts as at work.
///
/// # Errors
/// `Locked` if another collector is at work; `Damaged` if a snapshot cannot be read in full; errors of the store.
pub(super) fn survey(
    repository: &Repository,
    session: Option<&OpenSession>,
    options: &CollectOptions,
    context: &Context,
) -> Result<Survey> {
    context.report(Event::Phase("reading snapshots"));
    let (tombstones, writers) = match session {
        Some(session) => (session.tombstones().clone(), writers(repository, session, options, context)?),
        None => {
            let tombstones = Arc::new(Tombstones::load(repository)?);
            let at_work = session::list(repository)?;
            (tombstones, Writers { at_work, ..Writers::default() })
        }
    };
    // Whatever was listed before that does not count.
    repository.store().forget_ahead();
    let history = history(repository, context)?;
    context.report(Event::Phase("loading the index"));
    let index = Arc::new(index(repository, context)?);
    let is_collectors = writers.done_with.iter().any(Listed::is_collector);
    if let Some(session) = session.filter(|_| is_collectors && writers.has_none()) {
        adopt(repository, session, &index, context)?;
    }
    let claims = claims(&index, &writers)?;
    context.report(Event::Phase("finding what is needed"));
    let listed = packs(repository)?;
    let is_writing = !writers.at_work.is_empty();
    let mut look = Look { repository, listed, tombstones: &tombstones, claims, writers: &writers };
    let mut marked = look.mark(&index, &history, context);
    if marked.is_err() && index.is_damaged() {
        // The local copy was garbled: mended, it is looked at once more.
        repository.mend_index(&index)?;
        marked = look.mark(&index, &history, context);
    }
    let live = marked?;
    let packs = look.uses(&live, is_writing);
    Ok(Survey { tombstones, history, index, live, packs, done_with: writers.done_with })
}

/// Ends the sessions that are over, and tells the others apart.
fn writers(
    repository: &Repository,
    own: &OpenSession,
    options: &CollectOptions,
    context: &Context,
) -> Result<Writers> {
    let settled = session::settle(repository, Some(own.id()), context)?;
    if let Some(other) = settled.at_work.iter().find(|listed| listed.is_collector()) {
        return Err(Error::new(Kind::Locked, format_args!("{} is at work on this repository", other.words())).with_hint(
            "Nothing was changed. Run the command again when it has ended; one that was killed is over an hour after it was last heard of.",
        ));
    }
    let mut writers = Writers { at_work: settled.at_work, ..Writers::default() };
    if settled.over.is_empty() {
        return Ok(writers);
    }
    let timing = repository.timing();
    let mut observations = Observations::open(repository)?;
    let mut names = HashSet::new();
    for listed in settled.over {
        let name = format!("{DEAD_PREFIX}{:032x}", listed.id);
        let dead_for = observations.see(&name, "", &*timing.clock);
        names.insert(name);
        if listed.is_collector() || dead_for >= INTERRUPTED_STAYS || options.drop_interrupted {
            writers.done_with.push(listed);
        } else {
            writers.interrupted.push(listed);
        }
    }
    observations.retain(DEAD_PREFIX, &names);
    if let Err(e) = observations.save() {
        context.report(Event::Warning(format!("{e}: what interrupted runs have stored is kept longer")));
    }
    Ok(writers)
}

const DEAD_PREFIX: &str = "dead/";

impl Writers {
    fn has_none(&self) -> bool {
        self.at_work.is_empty() && self.interrupted.is_empty()
    }
}

/// All snapshots, if all can be read.
fn history(repository: &Repository, context: &Context) -> Result<History> {
    let history = repository.load_history()?;
    if let Some(id) = history.unreadable.first() {
        let short: String = id.to_string().chars().take(8).collect();
        let why = history.damaged.first().map_or_else(String::new, |first| format!(" ({})", first.error));
        return Err(Error::damaged(format_args!("snapshot {short} cannot be read{why}: nobody knows what it needs")).with_hint(
            "Nothing was deleted. `lifeboat check --repair` heals it from another destination; `lifeboat repair snapshots --forget` \
             records it as lost.",
        ));
    }
    for unsound in &history.damaged {
        context.report(Event::Damage(unsound.error.to_string()));
    }
    let chain = chain::examine(&history, history.memory.as_ref(), &repository.directories().place);
    let gone = chain.gone(&history).count() as u64;
    if gone == 0 {
        return Ok(history);
    }
    Err(Error::damaged(format_args!(
        "{} removed without a record that it was forgotten: should it come back, it would lack what is deleted now",
        count(gone, "snapshot was", "snapshots were")
    ))
    .with_hint(
        "Nothing was deleted. `lifeboat check` lists them, `lifeboat sync` brings them from another destination, and \
         `lifeboat repair snapshots --forget` records them as gone for good.",
    ))
}

/// The index, if all of it can be read.
pub(super) fn index(repository: &Repository, context: &Context) -> Result<Index> {
    let catalog = repository.load_catalog()?;
    if let Some(error) = catalog.damaged.first() {
        return Err(Error::damaged(format_args!(
            "a part of the index cannot be read, so that nobody knows what its packs hold: {error}"
        ))
        .with_hint("Nothing was deleted. `lifeboat repair index` makes the index anew from the packs."));
    }
    catalog.warn(|text| context.report(Event::Warning(text)));
    Ok(catalog.index)
}

/// Takes packs into the index that a collection which was cut off had stored.
fn adopt(
    repository: &Repository,
    session: &OpenSession,
    index: &Arc<Index>,
    context: &Context,
) -> Result<()> {
    let claims = Arc::new(Claims::new());
    let indexer = Indexer::new(repository.clone(), index.clone(), claims, context.clone());
    indexer.tell(session.beats().clone());
    adopt_orphans(session, repository, index, &indexer, context).map(drop)
}

/// Packs that sessions say they have stored.
fn claims(index: &Index, writers: &Writers) -> Result<HashMap<Sha256, Standing>> {
    let mut shards: HashMap<Sha256, Standing> = HashMap::new();
    let sessions = writers.interrupted.iter().map(|listed| (listed, Standing::Interrupted));
    for (listed, standing) in sessions.chain(writers.at_work.iter().map(|listed| (listed, Standing::AtWork)))
    {
        let Ok(said) = &listed.session else { continue };
        shards.extend(said.shards.iter().filter_map(|id| Some((id.parse().ok()?, standing))));
    }
    let mut packs = HashMap::new();
    if !shards.is_empty() {
        index.for_each_shard(|shard| {
            if let Some(standing) = shards.get(&shard.id) {
                packs.extend(shard.packs.iter().map(|pack| (*pack, *standing)));
            }
            Ok(())
        })?;
    }
    Ok(packs)
}

/// Kind and size of all packs that are there.
pub(super) fn packs(repository: &Repository) -> Result<HashMap<Sha256, (PackKind, u64)>> {
    let mut packs = HashMap::new();
    for kind in [PackKind::Data, PackKind::Metadata] {
        repository.store().for_each(&Area::of_packs(kind).prefix(), |info| {
            if let Ok(id) = layout::sha256_of(&info.key)
                && layout::pack(kind, &id)? == info.key
            {
                packs.insert(id, (kind, info.size));
            }
            Ok(())
        })?;
    }
    Ok(packs)
}

/// What is known of packs.
struct Look<'a> {
    repository: &'a Repository,
    listed: HashMap<Sha256, (PackKind, u64)>,
    tombstones: &'a Tombstones,
    claims: HashMap<Sha256, Standing>,
    writers: &'a Writers,
}

impl Look<'_> {
    /// Marks all that snapshots reach, and chooses among copies.
    fn mark(&mut self, index: &Arc<Index>, history: &History, context: &Context) -> Result<Live> {
        let marks = index.marks()?;
        for pack in marks.packs() {
            if !self.listed.contains_key(&pack.id)
                && !self.repository.store().capabilities().listing_is_consistent
                && let Some(info) = self.repository.store().head(&layout::pack(pack.kind, &pack.id)?)?
            {
                self.listed.insert(pack.id, (pack.kind, info.size));
            }
        }
        let worth: Vec<Worth> = marks
            .packs()
            .iter()
            .map(|pack| match self.listed.get(&pack.id) {
                Some((_, size)) if *size != pack.stored_bytes => Worth::Missing,
                None => Worth::Missing,
                Some(_) if self.tombstones.packs.contains(&pack.id) => Worth::Doomed,
                Some(_) => Worth::Good,
            })
            .collect();
        let reader = ChunkReader::new(self.repository, index.clone());
        let snapshots: Vec<&Snapshot> = history.snapshots.iter().collect();
        mark::mark(&reader, &snapshots, &marks, context)?;
        let live = marks.choose(|pack| worth.get(pack as usize).copied().unwrap_or(Worth::Missing))?;
        match live.lost {
            None => Ok(live),
            Some(chunk) => Err(Error::damaged(format_args!(
                "chunk {chunk} is needed, and the packs that hold it are missing or cut off"
            ))
            .with_hint(
                "Nothing was deleted. `lifeboat check` says which snapshots that touches, `lifeboat check --repair` heals packs from another \
                 destination; what is lost for good ends with `lifeboat repair index` and `lifeboat repair snapshots --forget`.",
            )),
        }
    }

    /// Every pack that the index names or that is there.
    fn uses(mut self, live: &Live, is_writing: bool) -> Vec<PackUse> {
        let mut uses = Vec::with_capacity(live.packs().len());
        for (number, pack) in live.packs().iter().enumerate() {
            let listed = self.listed.remove(&pack.id);
            let is_whole = listed.is_some_and(|(_, size)| size == pack.stored_bytes);
            let standing = match self.claims.get(&pack.id) {
                _ if self.tombstones.packs.contains(&pack.id) => Standing::Doomed,
                _ if !is_whole => Standing::Missing,
                Some(standing) => *standing,
                None => Standing::Free,
            };
            uses.push(PackUse {
                id: pack.id,
                kind: pack.kind,
                stored_bytes: listed.map_or(0, |(_, size)| size),
                bytes: live.bytes(number as u32),
                standing,
                number: Some(number as u32),
            });
        }
        for (id, (kind, stored_bytes)) in self.listed {
            let standing = if self.tombstones.packs.contains(&id) {
                Standing::Doomed
            } else if is_writing {
                Standing::AtWork
            } else if !self.writers.interrupted.is_empty() {
                Standing::Interrupted
            } else {
                Standing::Unnamed
            };
            let bytes = PackBytes { live: 0, dead: stored_bytes };
            uses.push(PackUse { id, kind, stored_bytes, bytes, standing, number: None });
        }
        uses
    }
}
