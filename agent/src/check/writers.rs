//! Sessions, outcomes and tombstones: whether each can be read, and what one that cannot means.

use lifeboat_providers::{ObjectInfo, Sha256};

use super::Report;
use crate::repository::{Area, Repository, Tombstones, layout, store};
use crate::session::{Outcome, outcome, over};
use crate::snapshot::History;
use crate::{Kind, Result};

/// Looks at all of them.
///
/// # Errors
/// Errors of the store that are no damage.
pub(super) fn check(repository: &Repository, history: &History, report: &mut Report) -> Result<()> {
    let sessions = foreign(repository, Area::Sessions, report)?;
    for listed in over::read_listed(repository, sessions.into_iter().map(|info| info.key))? {
        if let Err(e) = listed.session {
            report.damage(
                &listed.key,
                format!("{e} (nothing depends on it; if it stays so it is removed when it was not heard of for long)"),
            );
        }
    }
    for info in foreign(repository, Area::Outcomes, report)? {
        let Some(id) = layout::session_id(&info.key) else { continue };
        match outcome::read(repository, id) {
            Ok(Some(outcome)) => unfinished(repository, id, &outcome, history, report)?,
            Ok(None) => {}
            Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Failed) && !store::is_missing(&e) => {
                report.damage(
                    &info.key,
                    format!("{e} (if a backup was cut off in its last step, its snapshot was not acknowledged and is lost)"),
                );
            }
            Err(e) => return Err(e),
        }
    }
    let listed = repository.store().list(&Area::Tombstones.prefix())?;
    let (_, unreadable) = Tombstones::read(repository, &listed)?;
    for (key, e) in unreadable {
        let hint = e.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
        report.damage(key, format!("{e}{hint}"));
    }
    Ok(())
}

/// The objects of an area; files that do not belong there are named.
fn foreign(repository: &Repository, area: Area, report: &mut Report) -> Result<Vec<ObjectInfo>> {
    let infos = repository.store().list(&area.prefix())?;
    for info in infos.iter().filter(|info| layout::session_id(&info.key).is_none()) {
        report.damage(
            &info.key,
            "it does not belong here: its name is not of 32 hex digits. If you put it there, remove it.",
        );
    }
    Ok(infos)
}

/// A snapshot that was committed and is not there: its writer is about to put it, or was cut off, and the next run completes it.
fn unfinished(
    repository: &Repository,
    id: u128,
    outcome: &Outcome,
    history: &History,
    report: &mut Report,
) -> Result<()> {
    let Outcome::Committed(snapshots) = outcome else { return Ok(()) };
    let has_session = repository.store().head(&layout::session(id)?)?.is_some();
    for id in snapshots.iter().map(|stored| Sha256::of(stored)) {
        let text = id.to_string();
        let is_known = history.get(&text).is_some()
            || history.forgotten.contains_key(&text)
            || history.unreadable.contains(&id);
        // Without its session it was put once, and is one that was removed: that is said elsewhere.
        if !is_known && has_session {
            report.warnings.push(format!(
                "snapshot {text} is being written, or its backup was cut off in the last step: the next backup there completes it"
            ));
        }
    }
    Ok(())
}
