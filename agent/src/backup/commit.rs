//! Writes the snapshot: the last step, after all packs and the index.

use chrono::{DateTime, FixedOffset};

use super::{Plan, Run};
use crate::repository::state::LockedMemory;
use crate::repository::{Area, Repository};
use crate::seal::header::ObjectKind;
use crate::snapshot::history::{Snapshot, witness};
use crate::snapshot::manifest::{Manifest, Summary, Witness};
use crate::tree::{Entry, path_text};
use crate::Result;

/// What the snapshot will say.
pub(super) struct Draft<'a> {
    pub(super) start: DateTime<FixedOffset>,
    pub(super) root: Entry,
    pub(super) plan: &'a Plan,
    pub(super) parent: Option<String>,
    pub(super) summary: Summary,
}

/// Writes the snapshot as the next of this writer's chain.
///
/// The memory is locked meanwhile, so that two processes of one machine take different places.
pub(super) fn commit(repository: &Repository, run: &Run<'_>, draft: Draft<'_>) -> Result<Snapshot> {
    let mut memory = LockedMemory::open(repository.directories())?;
    // Again, and under the lock: another process may have taken the next place since the run began.
    let history = repository.load_history()?;
    for snapshot in &history.snapshots {
        memory.memory.saw(&snapshot.manifest.writer, snapshot.manifest.sequence, &snapshot.id);
    }
    for Witness { writer, sequence, id } in history.forgotten.values() {
        if let Ok(id) = id.parse() {
            memory.memory.saw(writer, *sequence, &id);
        }
    }
    let writer = memory.memory.writer.clone();
    let last = memory.memory.heads.get(&writer).cloned();
    let owners = run.owners.lock();
    let manifest = Manifest {
        version: 1,
        time: draft.start,
        end: chrono::Local::now().fixed_offset(),
        host: run.options.host.clone(),
        user: run.options.user.clone(),
        program: format!("lifeboat {}", env!("CARGO_PKG_VERSION")),
        source: run.options.source.clone(),
        paths: draft.plan.paths().iter().map(|path| path_text::to_text(path)).collect(),
        tags: run.options.tags.clone(),
        class: run.options.class.clone(),
        parent: draft.parent,
        root: Manifest::encode_root(&draft.root, owners.users(), owners.groups()),
        sequence: last.as_ref().map_or(1, |last| last.sequence + 1),
        previous: last.map(|last| last.id),
        heads: other_heads(&history.snapshots, &writer),
        writer,
        rescan: run.options.rescan,
        summary: draft.summary,
        errors: run.record.errors(),
        errors_total: run.record.errors_total(),
    };
    drop(owners);
    let id = repository.put_whole(Area::Snapshots, ObjectKind::Snapshot, &manifest.encode()?)?;
    memory.memory.saw(&manifest.writer, manifest.sequence, &id);
    memory.save()?;
    Ok(Snapshot { id, manifest })
}

/// The newest snapshot of every other writer: witnesses that they were there.
fn other_heads(snapshots: &[Snapshot], own: &str) -> Vec<Witness> {
    let mut heads: std::collections::BTreeMap<&str, Witness> = std::collections::BTreeMap::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.manifest.writer != own) {
        let seen = witness(snapshot);
        let head = heads.entry(&snapshot.manifest.writer).or_insert_with(|| seen.clone());
        if head.sequence < seen.sequence {
            *head = seen;
        }
    }
    heads.into_values().collect()
}
