//! Writes the snapshot: the last step, after all packs and the index.

use chrono::{DateTime, FixedOffset};

use super::{Plan, Run};
use crate::repository::Repository;
use crate::session::OpenSession;
use crate::snapshot::Snapshot;
use crate::snapshot::manifest::{Manifest, Summary};
use crate::tree::{Entry, path_text};
use crate::{Error, Result};

/// What the snapshot will say.
pub(super) struct Draft<'a> {
    pub(super) start: DateTime<FixedOffset>,
    pub(super) root: Entry,
    pub(super) plan: &'a Plan,
    pub(super) parent: Option<String>,
    pub(super) summary: Summary,
}

/// Writes the snapshot as the next of this writer's chain.
pub(super) fn commit(
    repository: &Repository,
    run: &Run<'_>,
    draft: Draft<'_>,
    session: Option<&OpenSession>,
) -> Result<Snapshot> {
    let session =
        session.ok_or_else(|| Error::failed("a snapshot without a session: this is a bug in lifeboat"))?;
    let root = {
        let mut owners = run.owners.lock();
        owners.note(draft.root.meta.uid, draft.root.meta.gid);
        Manifest::encode_root(&draft.root, owners.users(), owners.groups())
    };
    let manifest = Manifest {
        version: 1,
        time: draft.start,
        end: run.options.clock.local(),
        host: run.options.host.clone(),
        user: run.options.user.clone(),
        program: format!("lifeboat {}", env!("CARGO_PKG_VERSION")),
        source: run.options.source.clone(),
        paths: draft.plan.paths().iter().map(|path| path_text::to_text(path)).collect(),
        tags: run.options.tags.clone(),
        class: run.options.class.clone(),
        parent: draft.parent,
        root,
        writer: String::new(),
        sequence: 0,
        previous: None,
        heads: Vec::new(),
        rescan: run.options.rescan,
        filtered: run.exclude.leaves_out(),
        left_out: run.left_out.lock().iter().map(|path| path_text::to_text(path)).collect(),
        repaired_from: None,
        lost_total: 0,
        summary: draft.summary,
        errors: run.record.errors(),
        errors_total: run.record.errors_total(),
    };
    repository.append_snapshot(manifest, session, run.context)
}
