//! Several destinations opened at once, for commands that change what each of them says of its snapshots.

use super::destinations;
use super::session::{Session, Target};
use crate::repository::Repository;
use crate::snapshot::History;
use crate::snapshot::labels::Labels;
use crate::{Error, Kind, Result, threads};

/// A destination, and what it holds or why that is not known.
pub struct Opened {
    /// Which.
    pub target: Target,
    /// The repository there with all its snapshots.
    pub found: Result<(Repository, History)>,
}

/// Opens places and reads their snapshots. One that cannot be used is no error here, as long as another can.
///
/// Every snapshot then has the pins and tags that any of them knows: one that was away when a snapshot was pinned must not forget it.
///
/// # Errors
/// `WrongKey`, `Usage`, `Interrupted`; the error of the first, if none can be used.
pub fn open_each(session: &Session, targets: Vec<Target>) -> Result<Vec<Opened>> {
    let mut opened: Vec<Opened> = Vec::new();
    let mut waiting = targets.into_iter();
    let mut first = None;
    for target in waiting.by_ref() {
        match session.open_target(&target) {
            Ok((repository, _)) => {
                opened.push(Opened { target, found: with_history(session, repository.clone()) });
                first = Some(repository);
                break;
            }
            // All destinations have the same key: what is wrong with it is wrong everywhere.
            Err(e) if matches!(e.kind(), Kind::WrongKey | Kind::Interrupted | Kind::Usage) => return Err(e),
            Err(e) => opened.push(Opened { target, found: Err(e) }),
        }
    }
    if let Some(first) = first {
        let rest: Vec<Target> = waiting.collect();
        let found = threads::at_once(&rest, |target| with_history(session, target.open_beside(&first)?));
        opened.extend(rest.into_iter().zip(found).map(|(target, found)| Opened { target, found }));
    }
    if opened.iter().all(|opened| opened.found.is_err()) {
        let first = opened.into_iter().find_map(|opened| opened.found.err());
        return Err(first.unwrap_or_else(|| Error::usage("no destination is named")));
    }
    unite(&mut opened);
    Ok(opened)
}

fn with_history(session: &Session, repository: Repository) -> Result<(Repository, History)> {
    let history = session.history(&repository)?;
    Ok((repository, history))
}

fn unite(opened: &mut [Opened]) {
    let mut all = Labels::default();
    for (_, history) in opened.iter().filter_map(|opened| opened.found.as_ref().ok()) {
        all.unite(&history.labels);
    }
    for (_, history) in opened.iter_mut().filter_map(|opened| opened.found.as_mut().ok()) {
        history.labels.unite(&all);
        history.apply_labels();
    }
}

/// Whether a place is one of those that are written to.
pub fn is_chosen(session: &Session, target: &Target) -> Result<bool> {
    let chosen = destinations::chosen(session, &[])?;
    Ok(chosen.iter().any(|each| each.name == target.name))
}
