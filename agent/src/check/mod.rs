//! Proving that a repository can be restored: in tiers, from listings to every stored byte.
//!
//! | module | job |
//! |---|---|
//! | [`subset`] | which packs are read |
//! | [`packs`] | packs against the index, by names and sizes |
//! | [`data`] | every byte of packs: hash, authentication, decoding, ids |
//! | [`mod@stated`] | what the store itself says of hashes |
//! | [`mod@heal`] | damaged and missing objects from other destinations |
//! | [`trees`] | every directory and list, and that every chunk has a place |
//! | [`touched`] | which snapshots and paths damage touches |
//! | [`writers`] | sessions, outcomes, tombstones |

mod data;
mod heal;
mod packs;
pub mod stated;
pub mod subset;
mod touched;
mod trees;
mod writers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_providers::{Key, ObjectInfo, Sha256};

use crate::chunk::ChunkId;
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::index::{Index, Location};
use crate::pack::directory::{PackKind, Segment};
use crate::repository::{Area, Repository, Tombstones, layout, slots};
use crate::snapshot::{History, chain};
use crate::words::count;
use crate::{Error, Kind, Result};

pub use heal::{found_elsewhere, heal};
pub use stated::stated;
pub use subset::ReadData;

/// Most bytes of each kind of a distant store's other objects that are fetched before they are looked at.
const SMALL_BYTES_MAX: u64 = 8 << 20;
/// Most bytes of a distant store's metadata packs that are fetched whole before their directories are looked at; more is read in parts.
const METADATA_BYTES_MAX: u64 = 32 << 20;

/// How thorough a check is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CheckOptions {
    /// Which packs are read whole.
    pub read_data: ReadData,
    /// Worker threads; 0 for one a core.
    pub threads: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object, or what stands for it.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A path of a snapshot whose data cannot be had in full.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched {
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// The path; empty for the whole snapshot.
    pub path: Vec<u8>,
    /// Why.
    pub reason: String,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Damaged and missing objects.
    pub damages: Vec<Damage>,
    /// What that touches.
    pub touched: Vec<Touched>,
    /// Snapshots that were removed without a record, or never came.
    pub removed: Vec<Sha256>,
    /// What is odd but harms nothing.
    pub warnings: Vec<String>,
    /// Snapshots examined.
    pub snapshots: u64,
    /// Packs that the index names.
    pub packs: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Bytes that were read of them.
    pub bytes_read: u64,
    /// Chunks in those.
    pub chunks_read: u64,
    /// Directories and lists examined.
    pub trees: u64,
    /// Packs that no index names: left by an interrupted run, used by the next.
    pub orphans: u64,
}

impl Report {
    /// `Damaged` if anything is wrong.
    ///
    /// # Errors
    /// The error that the report deserves.
    pub fn verdict(&self) -> Result<()> {
        if self.damages.is_empty() && self.touched.is_empty() {
            return Ok(());
        }
        let snapshots: HashSet<&str> = self.touched.iter().map(|touched| touched.snapshot.as_str()).collect();
        Err(Error::damaged(format_args!(
            "the repository is damaged: {}, touching {}",
            count(self.damages.len().max(1) as u64, "problem", "problems"),
            count(snapshots.len() as u64, "snapshot", "snapshots")
        ))
        .with_hint(if self.index_only() {
            "Packs lie in no part of the index that can be read, and what is missing most likely lies in them: `lifeboat repair index` \
             enters what each pack says of itself, and takes nothing away. Then check again."
        } else if self.snapshots_only() {
            "What is gone of snapshots nothing brings back here but another copy of the repository. `lifeboat repair snapshots --forget` \
             records them as gone: the check then passes."
        } else {
            "`lifeboat repair index` (with --read-data if --read-data found it) takes what is lost out of the index; back up the source \
             again to store it anew; `lifeboat repair snapshots` then saves what can be saved of old snapshots."
        }))
    }

    /// Whether nothing but the index is known to be incomplete, and there are packs that can make it whole.
    fn index_only(&self) -> bool {
        self.orphans > 0 && self.damages.iter().all(|damage| damage.object.starts_with("index"))
    }

    /// Whether all that is wrong is that snapshots, or what they were labelled with, are missing or unreadable.
    fn snapshots_only(&self) -> bool {
        let of_history = |object: &str| object.starts_with("snapshot") || object.starts_with("labels");
        self.touched.is_empty() && self.damages.iter().all(|damage| of_history(&damage.object))
    }

    fn damage(&mut self, object: impl ToString, problem: impl ToString) {
        let damage = Damage { object: object.to_string(), problem: problem.to_string() };
        if !self.damages.contains(&damage) {
            self.damages.push(damage);
        }
    }

    /// A damaged pack of which a repair has copied what could be had.
    fn unused_damage(&mut self, pack: impl std::fmt::Display) {
        self.warnings.push(format!("{pack} is damaged; nothing uses it any more"));
    }
}

/// What is known to be bad: packs that are missing or damaged, and segments that do not decode.
#[derive(Debug, Default)]
pub(crate) struct Bad {
    packs: HashMap<Sha256, String>,
    segments: HashMap<(Sha256, u32), String>,
}

impl Bad {
    /// Why this place of a chunk is no good; `None` if nothing speaks against it.
    fn reason(&self, location: &Location) -> Option<&str> {
        self.packs
            .get(&location.pack)
            .or_else(|| self.segments.get(&(location.pack, location.segment.number)))
            .map(String::as_str)
    }
}

/// What the parts of one check share.
pub(crate) struct Check<'a> {
    repository: &'a Repository,
    options: &'a CheckOptions,
    context: &'a Context,
    /// Made from the stored shards.
    pub(crate) index: Arc<Index>,
    bad: Bad,
    /// Every shard that is there could be read.
    shards_are_sound: bool,
    /// A chunk was looked for that no shard names.
    misses_chunks: AtomicBool,
    pub(crate) report: Report,
}

/// Examines a repository.
///
/// # Errors
/// `Interrupted`; errors of the store that are no damage, such as lost connections. Damage is in the report.
pub fn run(repository: &Repository, options: &CheckOptions, context: &Context) -> Result<Report> {
    let repository = &repository.without_copies();
    for _ in 0..PRUNED_MEANWHILE_MAX {
        // In the order that makes them safe: packs are listed after the index.
        repository.store().list_ahead(&[Area::Snapshots, Area::Forgotten, Area::Labels, Area::Index]);
        // One that is used below, and is older than the listing of packs, does as well as a new one.
        let before = match repository.store().peek_ahead(Area::Index) {
            Some(listed) => keys(&listed),
            None => stored_shards(repository)?,
        };
        let report = examine(repository, options, context)?;
        // Before a prune deletes what was moved, it stores a shard that names the new place: where all shards are as they were, nothing was.
        if report.verdict().is_ok() || before == stored_shards(repository)? {
            return Ok(report);
        }
        context.report(Event::Notice(
            "a prune was at work meanwhile: everything is looked at once more".to_owned(),
        ));
    }
    examine(repository, options, context)
}

/// How many times a check that finds damage begins anew because a prune was at work meanwhile.
const PRUNED_MEANWHILE_MAX: usize = 3;

/// The index shards that are there.
fn stored_shards(repository: &Repository) -> Result<HashSet<Key>> {
    Ok(keys(&repository.store().list_now(&[Area::Index])?.concat()))
}

fn keys(listed: &[ObjectInfo]) -> HashSet<Key> {
    listed.iter().map(|info| info.key.clone()).collect()
}

fn examine(repository: &Repository, options: &CheckOptions, context: &Context) -> Result<Report> {
    let mut report = Report::default();
    context.report(Event::Phase("checking keys and snapshots"));
    use Area::{Keys, Meta, Outcomes, Packs, Removed, Sessions, Tombstones};
    repository.store().list_ahead(&[Keys, Removed, Sessions, Outcomes, Tombstones, Packs, Meta]);
    // All of it is looked at.
    let small = [Area::Snapshots, Area::Forgotten, Area::Labels, Area::Index];
    repository.store().read_ahead(&small, SMALL_BYTES_MAX, |_| true);
    repository.store().read_ahead(&[Area::Meta], METADATA_BYTES_MAX, |_| true);
    let (slots, history) = std::thread::scope(|scope| {
        let slots = scope.spawn(|| slots::list(repository.store(), repository.id()));
        let history = repository.load_history();
        (slots.join().unwrap_or_else(|_| Err(crate::threads::broke_down())), history)
    });
    let ((_, errors), history) = (slots?, history?);
    errors.into_iter().for_each(|error| report.damage("key slot", error));
    check_slot_removals(repository, &mut report)?;
    check_history(repository, &history, &mut report);
    remember(repository, &history, context);
    writers::check(repository, &history, &mut report)?;
    let mut check = survey(repository, options, context, report)?;
    context.report(Event::Phase("checking directories"));
    let reader = ChunkReader::new(repository, check.index.clone());
    let sound = check.trees(&history, &reader)?;
    if !sound {
        context.report(Event::Phase("finding what the damage touches"));
        check.find_touched(&history, &reader)?;
        check.index.require_sound()?;
    }
    check.report.snapshots = history.snapshots.len() as u64;
    Ok(check.report)
}

/// Learns what is stored: the index from its shards, packs by their sizes, and by their bytes as far as `options` says.
pub(crate) fn survey<'a>(
    repository: &'a Repository,
    options: &'a CheckOptions,
    context: &'a Context,
    mut report: Report,
) -> Result<Check<'a>> {
    context.report(Event::Phase("checking the index"));
    let before = report.damages.len();
    let index = Arc::new(check_index(repository, &mut report)?);
    let shards_are_sound = report.damages.len() == before;
    let mut check = Check {
        repository,
        options,
        context,
        index,
        bad: Bad::default(),
        shards_are_sound,
        misses_chunks: AtomicBool::new(false),
        report,
    };
    context.report(Event::Phase("checking packs"));
    check.packs()?;
    if options.read_data != ReadData::Nothing {
        context.report(Event::Phase("reading data"));
        check.data()?;
    }
    Ok(check)
}

fn check_history(repository: &Repository, history: &History, report: &mut Report) {
    for unsound in &history.damaged {
        let text = unsound.error.to_string();
        report.damage(&unsound.key, text.strip_prefix(&format!("{} ", unsound.key)).unwrap_or(&text));
    }
    for id in &history.lingering {
        report.warnings.push(format!(
            "snapshot {id} was forgotten on purpose and is there still or again: the next forget or prune removes it"
        ));
    }
    let memory = history.memory.as_ref();
    let lost = memory.into_iter().flat_map(|m| history.lost_labels(m, &repository.directories().place));
    for (id, snapshot) in lost {
        // What is there and damaged is reported already.
        if !history.labels.unreadable.iter().any(|known| known.to_string() == id) {
            report.damage(
                format_args!("{}/{id}", Area::Labels.name()),
                format_args!(
                    "was removed: whether snapshot {snapshot} is pinned, and its later tags, are not known (known from this machine's memory)"
                ),
            );
        }
    }
    let chain = chain::examine(history, memory, &repository.directories().place);
    for missing in chain.gone(history) {
        report.removed.extend(missing.id.as_ref().and_then(|id| id.parse::<Sha256>().ok()));
        let object = match &missing.id {
            Some(id) => format!("snapshots/{id}"),
            None => format!("snapshot {} of writer {}", missing.sequence, missing.writer),
        };
        report.damage(
            object,
            format!("was removed without a record that it was forgotten (known from {})", missing.said_by),
        );
    }
    for fork in chain.forks {
        report.warnings.push(format!(
            "writer {} has two snapshots at place {}: two machines seem to share one state directory",
            fork.writer, fork.sequence
        ));
    }
}

/// A machine that only ever checks notices a rollback, too.
fn remember(repository: &Repository, history: &History, context: &Context) {
    if let Err(e) = repository.remember(history) {
        context.report(Event::Warning(format!(
            "{e}: a later rollback of the store would not be noticed by this machine"
        )));
    }
}

/// Without its record a removed slot could come back from another destination.
fn check_slot_removals(repository: &Repository, report: &mut Report) -> Result<()> {
    for info in repository.store().list(&Area::Removed.prefix())? {
        let Some(id) = layout::slot_id(&info.key) else {
            report
                .warnings
                .push(format!("{} does not belong here: its name is not that of a key slot", info.key));
            continue;
        };
        match repository.slot_removal(id) {
            Ok(_) => {}
            Err(e) if crate::repository::store::is_missing(&e) => {}
            Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Failed) => report.damage(&info.key, e),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads every index shard anew: the local cache would hide what is wrong with the stored ones.
fn check_index(repository: &Repository, report: &mut Report) -> Result<Index> {
    const HINT: &str = "`lifeboat repair index` makes it anew.";
    let index = Index::scratch(&repository.index_cache());
    let mut ids = Vec::new();
    for info in repository.store().list(&Area::Index.prefix())? {
        match layout::sha256_of(&info.key) {
            Ok(id) => ids.push(id),
            Err(e) => report.damage(&info.key, e.with_hint(HINT)),
        }
    }
    repository.add_shards(&index, &ids, |id, e| {
        report.damage(format_args!("{}/{id}", Area::Index.name()), e.with_hint(HINT));
    })?;
    index.require_sound()?;
    Ok(index)
}

impl Check<'_> {
    /// Whether all shards could be read and name every pack that is there: then what the index does not know is lost.
    pub(crate) const fn index_is_whole(&self) -> bool {
        self.shards_are_sound && self.report.orphans == 0
    }

    /// Whether chunks were looked for that no listed shard names, at a store whose listings may lag: the shard may only not be shown yet.
    pub(crate) fn may_miss_shards(&self) -> bool {
        self.misses_chunks.load(Ordering::Relaxed)
            && !self.repository.store().capabilities().listing_is_consistent
    }

    /// The index without the places that are known to be bad or about to be deleted: what lies there only is to be stored again.
    ///
    /// # Errors
    /// Errors of the store.
    pub(crate) fn index_of_the_sound(&self, tombstones: Option<&Tombstones>) -> Result<Arc<Index>> {
        let doomed = tombstones.map(|tombstones| tombstones.packs.clone()).unwrap_or_default();
        if self.bad.packs.is_empty() && self.bad.segments.is_empty() && doomed.is_empty() {
            return Ok(self.index.clone());
        }
        let index = Index::scratch(&self.repository.index_cache());
        for info in self.repository.store().list(&Area::Index.prefix())? {
            let Ok(id) = layout::sha256_of(&info.key) else { continue };
            let mut shard = match self.repository.read_shard(&id) {
                Ok(shard) => shard,
                // Reported before.
                Err(e) if e.kind() == Kind::Damaged => continue,
                Err(e) => return Err(e),
            };
            shard.packs.retain(|pack| !self.bad.packs.contains_key(&pack.id));
            for pack in &mut shard.packs {
                let bad = |number| self.bad.segments.contains_key(&(pack.id, number));
                pack.directory
                    .segments
                    .iter_mut()
                    .filter(|segment| bad(segment.number))
                    .for_each(Segment::blank);
            }
            index.add(&[(id, shard)])?;
        }
        Ok(Arc::new(index.without(doomed)))
    }

    /// Whether nothing of a pack is in use: it was found damaged, and the index was repaired since.
    pub(super) fn is_blank(&self, pack: &Sha256) -> Result<bool> {
        let mut is_blank = true;
        self.index.for_each_chunk(pack, |id, _| is_blank &= id == ChunkId::BLANK)?;
        Ok(is_blank)
    }

    /// Whether a chunk can be read, of `length` bytes if that is known, as far as this check knows; the reason if not.
    pub(crate) fn place_of(
        &self,
        id: &ChunkId,
        kind: PackKind,
        length: Option<u64>,
    ) -> std::result::Result<(), String> {
        let fits = |place: &Location| {
            place.kind == kind && length.is_none_or(|length| length == u64::from(place.length))
        };
        let is_good = |place: &Location| fits(place) && self.bad.reason(place).is_none();
        match self.index.lookup(id) {
            None => {
                self.misses_chunks.store(true, Ordering::Relaxed);
                Err("its chunk is in no pack that the index names".to_owned())
            }
            Some(place) if is_good(&place) => Ok(()),
            Some(first) => {
                if self.index.lookup_all(id).iter().any(is_good) {
                    return Ok(());
                }
                let other = "its chunk is in a pack of the wrong kind, or has another length";
                Err(self.bad.reason(&first).unwrap_or(other).to_owned())
            }
        }
    }
}
