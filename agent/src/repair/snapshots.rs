//! Writes damaged snapshots once more with all that can be saved of them.
//!
//! A file of which chunks are lost is kept under its name with `.lifeboat-damaged` behind it, holes in place of what is lost; a directory of
//! which nodes are lost keeps the others. The old snapshots stay, unless they are to be forgotten. A second run finds the copies of the
//! first and writes nothing.

use std::collections::HashSet;

use super::rewrite::Rewrite;
use crate::check::{self, CheckOptions, ReadData, Report};
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::ingest::{ChunkSink, Ingest, IngestOptions};
use crate::repository::{Area, Repository, layout, state};
use crate::session::{self, OpenSession, Role};
use crate::snapshot::history::Snapshot;
use crate::snapshot::labels::LabelState;
use crate::snapshot::manifest::{Manifest, Witness};
use crate::snapshot::{History, chain};
use crate::{Error, Kind, Result};
use lifeboat_providers::Sha256;

/// How snapshots are repaired.
#[derive(Debug, Clone, Default)]
pub struct SnapshotRepairOptions {
    /// Read every pack first, so that damage is known that only reading shows.
    pub read_data: bool,
    /// Forget the snapshots that were written anew, and record those that are lost as forgotten.
    pub forget: bool,
    /// Change nothing: only report.
    pub dry_run: bool,
    /// The machine's name, for records.
    pub host: String,
}

/// What a repair of snapshots came to.
#[derive(Debug, Default)]
pub struct SnapshotRepair {
    /// Damaged snapshots and those that stand for them, made now or by an earlier repair (`None`: a dry run would make one).
    pub repaired: Vec<(Snapshot, Option<Snapshot>)>,
    /// Paths of which something is lost, by snapshot id.
    pub lost: Vec<(String, Vec<u8>)>,
    /// Snapshots that cannot be read at all, or are gone: nothing of them can be saved here.
    pub gone: Vec<String>,
    /// Snapshots that are not here, or damaged, and that another destination has, or may have.
    pub elsewhere: Vec<String>,
    /// Records of pins and later tags that cannot be read.
    pub labels_lost: u64,
}

/// Repairs all snapshots.
///
/// # Errors
/// `Interrupted`; errors of the store.
pub fn snapshots(
    repository: &Repository,
    options: &SnapshotRepairOptions,
    context: &Context,
) -> Result<SnapshotRepair> {
    let repository = &repository.without_copies();
    let session = match options.dry_run {
        true => None,
        false => Some(session::open(repository, &options.host, Role::Writer)?),
    };
    let repaired = with_session(repository, options, session.as_ref(), context);
    // After an error of the store it is perhaps not known whether the snapshots count: whoever ends the session finds out.
    let is_known = repaired.as_ref().err().is_none_or(|e| !matches!(e.kind(), Kind::Store | Kind::Damaged));
    if let Some(session) = session.filter(|_| is_known)
        && let Err(e) = session.close()
    {
        context.report(Event::Warning(format!("{e}. What was repaired stays so.")));
    }
    repaired
}

fn with_session(
    repository: &Repository,
    options: &SnapshotRepairOptions,
    session: Option<&OpenSession>,
    context: &Context,
) -> Result<SnapshotRepair> {
    let history = repository.load_history()?;
    let read_data = if options.read_data { ReadData::All } else { ReadData::Nothing };
    let check_options = CheckOptions { read_data, threads: 0 };
    let mut check = check::survey(repository, &check_options, context, Report::default())?;
    let reader = ChunkReader::new(repository, check.index.clone());
    let mut repair = SnapshotRepair::default();
    // Before anything is appended: what this run writes is not lost.
    let gone = lost_snapshots(repository, &history)?;
    let manifests = if check.trees(&history, &reader)? {
        Vec::new()
    } else {
        if !options.dry_run && !check.index_is_whole() {
            // What lies in a pack that no index names would count as lost, and be forgotten for good.
            return Err(Error::failed(
                "the index does not name all packs: what seems to be lost may only not be named",
            )
            .with_hint("Run `lifeboat repair index` first, then this command again."));
        }
        if options.forget && !options.dry_run && check.may_miss_shards() {
            return Err(Error::failed(format_args!(
                "no part of the index that {} lists names some chunks; its listings may lag, so they may be there all the same: nothing was \
                 changed, and nothing is forgotten",
                repository.store().location()
            ))
            .with_hint(
                "Run it again in some minutes. Without --forget it saves what can be saved and keeps the old snapshots; `lifeboat forget ID` \
                 then takes one away.",
            ));
        }
        rewrite(repository, &check, &reader, &history, options, session, context, &mut repair)?
    };
    append(repository, &history, manifests, session, options, context, &mut repair)?;
    // What another destination has is not lost: a `sync` brings it.
    let (elsewhere, gone) = elsewhere(repository, gone);
    repair.elsewhere = elsewhere.into_iter().map(|witness| witness.id).collect();
    let memory = state::peek(repository.directories()).unwrap_or_default();
    let lost = history.lost_labels(&memory, &repository.directories().place).into_iter().map(|(id, _)| id);
    let unreadable = history.labels.unreadable.iter().map(ToString::to_string);
    repair.labels_lost = lost.chain(unreadable).collect::<HashSet<_>>().len() as u64;
    repair.gone = gone.iter().map(|witness| witness.id.clone()).collect();
    if options.forget && !options.dry_run {
        let old: Vec<&Snapshot> = repair.repaired.iter().map(|(old, _)| old).collect();
        repository.forget(&old, &options.host)?;
        repository.record_forgotten(gone, &options.host)?;
        repository.remove_labels(history.labels.unreadable.iter())?;
        accept_lost_labels(repository)?;
    }
    Ok(repair)
}

/// Appends what stands for damaged snapshots, unless an earlier repair did; without a session nothing.
fn append(
    repository: &Repository,
    history: &History,
    manifests: Vec<(Snapshot, Manifest)>,
    session: Option<&OpenSession>,
    options: &SnapshotRepairOptions,
    context: &Context,
    repair: &mut SnapshotRepair,
) -> Result<()> {
    let damaged: Vec<Sha256> = manifests.iter().map(|(old, _)| old.id).collect();
    let (mut olds, mut new) = (Vec::new(), Vec::new());
    for (old, manifest) in manifests {
        match earlier_copy(history, &old, &manifest) {
            Some(copy) if !damaged.contains(&copy.id) => repair.repaired.push((old, Some(copy.clone()))),
            _ => {
                olds.push(old);
                new.push(manifest);
            }
        }
    }
    match session {
        Some(session) => {
            let made = repository.append_snapshots(new, session, context)?;
            for (old, new) in olds.into_iter().zip(made) {
                let new = with_labels(repository, history, &old, new, &options.host)?;
                repair.repaired.push((old, Some(new)));
            }
        }
        None => repair.repaired.extend(olds.into_iter().map(|old| (old, None))),
    }
    Ok(())
}

/// The damaged snapshots, and what is to stand for each; its nodes are stored.
#[expect(clippy::too_many_arguments, reason = "one step of a repair that has them all")]
fn rewrite(
    repository: &Repository,
    check: &check::Check<'_>,
    reader: &ChunkReader,
    history: &History,
    options: &SnapshotRepairOptions,
    session: Option<&OpenSession>,
    context: &Context,
    repair: &mut SnapshotRepair,
) -> Result<Vec<(Snapshot, Manifest)>> {
    let ingest_options = IngestOptions { dry_run: options.dry_run, ..IngestOptions::default() };
    let index = check.index_of_the_sound(session.map(|session| &**session.tombstones()))?;
    let ingest = Ingest::start(&repository.to_free_space(), index, ingest_options, context)?;
    if let Some(session) = session {
        ingest.indexer().tell(session.beats().clone());
    }
    context.report(Event::Phase("saving what can be saved"));
    let mut manifests = Vec::new();
    let mut sink = ChunkSink::new(&ingest)?;
    for snapshot in &history.snapshots {
        let mut rewrite = Rewrite::new(check, reader, context, &mut sink);
        if let Some(manifest) = rewrite.snapshot(snapshot)? {
            let id = snapshot.id.to_string();
            repair.lost.extend(rewrite.lost.into_iter().map(|path| (id.clone(), path)));
            manifests.push((snapshot.clone(), manifest));
        }
    }
    if !options.dry_run {
        sink.flush()?;
        ingest.finish()?;
    }
    check.index.require_sound()?;
    Ok(manifests)
}

/// Gives what stands for a damaged snapshot the pin of the old one, and the tags it was given later.
fn with_labels(
    repository: &Repository,
    history: &History,
    old: &Snapshot,
    new: Snapshot,
    host: &str,
) -> Result<Snapshot> {
    if !old.pinned && old.tags == old.manifest.tags {
        return Ok(new);
    }
    let added = new.tags.iter().filter(|tag| !old.manifest.tags.contains(tag));
    let state = LabelState { pinned: old.pinned, tags: old.tags.iter().chain(added).cloned().collect() };
    repository.store_label(&repository.seal_label(&history.labels, &new.id, &state, host)?)?;
    Ok(Snapshot { pinned: state.pinned, tags: state.tags, ..new })
}

/// What is gone of labels is not missed any more.
fn accept_lost_labels(repository: &Repository) -> Result<()> {
    let mut memory = state::LockedMemory::open(repository.directories())?;
    match memory.memory.labels.remove(&repository.directories().place) {
        Some(_) => memory.save(),
        None => Ok(()),
    }
}

/// What an earlier repair wrote for the same snapshot with the same losses.
fn earlier_copy<'h>(history: &'h History, old: &Snapshot, manifest: &Manifest) -> Option<&'h Snapshot> {
    let id = old.id.to_string();
    history.snapshots.iter().find(|snapshot| {
        let copy = &snapshot.manifest;
        copy.repaired_from.as_deref() == Some(id.as_str()) && copy.root == manifest.root
    })
}

/// Parts those that another destination has, or may have as it cannot be asked, from those that nobody has.
fn elsewhere(repository: &Repository, gone: Vec<Witness>) -> (Vec<Witness>, Vec<Witness>) {
    let others = if gone.is_empty() { Vec::new() } else { repository.siblings().open_all(repository) };
    let histories: Vec<Option<History>> = others.iter().map(|(_, other)| other.load_history().ok()).collect();
    gone.into_iter().partition(|witness| {
        histories.iter().any(|history| {
            history.as_ref().is_none_or(|history| {
                history.snapshots.iter().any(|snapshot| {
                    let manifest = &snapshot.manifest;
                    snapshot.id.to_string() == witness.id
                        || (witness.id.is_empty()
                            && (&manifest.writer, manifest.sequence) == (&witness.writer, witness.sequence))
                })
            })
        })
    })
}

/// Snapshots that something names and nobody can read.
fn lost_snapshots(repository: &Repository, history: &History) -> Result<Vec<Witness>> {
    let memory = state::peek(repository.directories());
    let mut lost: Vec<Witness> = Vec::new();
    for missing in chain::examine(history, memory.as_ref(), &repository.directories().place).missing {
        let (writer, sequence, id) = (missing.writer, missing.sequence, missing.id.unwrap_or_default());
        // Another process may have made it since the history was read.
        if id.is_empty() || !is_readable(repository, &id)? {
            lost.push(Witness { writer, sequence, id });
        }
    }
    // Unreadable ones that nothing names yet: nobody will miss their place, but their object is in the way.
    for info in repository.store().list(&Area::Snapshots.prefix())? {
        let Ok(id) = layout::sha256_of(&info.key) else { continue };
        let id = id.to_string();
        if history.get(&id).is_none()
            && !history.forgotten.contains_key(&id)
            && !lost.iter().any(|witness| witness.id == id)
            && !is_readable(repository, &id)?
        {
            lost.push(Witness { writer: String::new(), sequence: 0, id });
        }
    }
    Ok(lost)
}

/// Whether a snapshot can be read. One that a store does not give out just now is not called lost: it would be removed.
fn is_readable(repository: &Repository, id: &str) -> Result<bool> {
    let Ok(id) = id.parse() else { return Ok(false) };
    match repository.read_snapshot(&id) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == Kind::Damaged => Ok(false),
        Err(e) => Err(e),
    }
}
