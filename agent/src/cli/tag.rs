//! `lifeboat tag`, `lifeboat snapshots pin` and `unpin`: what snapshots are called after they were made, and which of them no policy may forget.

use std::process::ExitCode;

use clap::Args;
use lifeboat_providers::Sha256;
use serde_json::json;

use super::open_each::{Opened, is_chosen, open_each};
use super::session::{FilterArgs, Session};
use super::text::{count, not_empty};
use super::{EXIT_INCOMPLETE, destinations};
use crate::snapshot::labels::LabelState;
use crate::snapshot::select::Filter;
use crate::snapshot::{History, Snapshot};
use crate::tree::path_text;
use crate::{Error, Result};

/// Arguments of `tag`.
#[derive(Debug, Args)]
#[command(
    after_help = "Snapshots themselves never change: tags that are given later are records beside them, at every destination that has the \
                        snapshot. One that cannot be reached gets them by the next `lifeboat sync` or backup, and the command ends with 3."
)]
pub struct Tag {
    /// Which: id, latest, latest~N
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Add this tag; may be repeated
    #[arg(long, value_name = "TAG", value_parser = not_empty, required_unless_present_any = ["remove", "set"])]
    add: Vec<String>,
    /// Take this tag away; may be repeated
    #[arg(long, value_name = "TAG", value_parser = not_empty)]
    remove: Vec<String>,
    /// Give these tags in place of all it has; an empty one for none
    #[arg(long, value_name = "TAG", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Arguments of `snapshots pin` and `unpin`.
#[derive(Debug, Args)]
pub struct Pin {
    /// Which: id, latest, latest~N
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Tag {
    /// Changes tags.
    ///
    /// # Errors
    /// `Usage` for a snapshot that is not there; errors of the store.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let change = |state: &mut LabelState| {
            if !self.set.is_empty() {
                state.tags.clear();
            }
            let added = self.add.iter().chain(&self.set).filter(|tag| !tag.trim().is_empty());
            state.tags.extend(added.cloned());
            state.tags.retain(|tag| !self.remove.contains(tag));
            state.tags.sort_unstable();
            state.tags.dedup();
        };
        label(session, &self.snapshots, &self.filter.filter()?, &change)
    }
}

impl Pin {
    /// Pins, or takes pins away.
    ///
    /// # Errors
    /// As [`Tag::run`].
    pub fn run(self, session: &Session, pinned: bool) -> Result<ExitCode> {
        label(session, &self.snapshots, &self.filter.filter()?, &|state| state.pinned = pinned)
    }
}

/// Changes what holds of snapshots, at every destination that has them.
fn label(
    session: &Session,
    texts: &[String],
    filter: &Filter,
    change: &dyn Fn(&mut LabelState),
) -> Result<ExitCode> {
    let mut targets = Vec::new();
    for target in destinations::all(session)? {
        if is_chosen(session, &target)? {
            targets.push(target);
        }
    }
    let opened = open_each(session, targets)?;
    let mut failed = 0;
    for Opened { target, found } in &opened {
        if let Err(e) = found {
            let name = &target.name;
            session.output.warning(format_args!("the destination {name} was not told: {e}"));
            failed += 1;
        }
    }
    let mut chosen: Vec<Sha256> = Vec::new();
    for text in texts {
        let id = find(&opened, text, filter)?.id;
        if !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    for id in &chosen {
        failed += write(session, &opened, id, change)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

fn histories(opened: &[Opened]) -> impl Iterator<Item = &History> {
    opened.iter().filter_map(|opened| Some(&opened.found.as_ref().ok()?.1))
}

/// The snapshot that is meant: at the first destination that knows one by this name.
fn find<'o>(opened: &'o [Opened], text: &str, filter: &Filter) -> Result<&'o Snapshot> {
    let mut first = None;
    for history in histories(opened) {
        match history.find(text, filter) {
            Ok(snapshot) => return Ok(snapshot),
            Err(e) => first = first.or(Some(e)),
        }
    }
    Err(first.unwrap_or_else(|| Error::usage(format_args!("no snapshot is called {text:?}"))))
}

/// Writes one record to all that have the snapshot; returns at how many that failed.
fn write(session: &Session, opened: &[Opened], id: &Sha256, change: &dyn Fn(&mut LabelState)) -> Result<u64> {
    let has = |history: &History| history.snapshots.iter().any(|snapshot| snapshot.id == *id);
    let mut holders = opened.iter().filter_map(|opened| {
        let (repository, history) = opened.found.as_ref().ok().filter(|(_, history)| has(history))?;
        Some((&opened.target, repository, history))
    });
    let Some((target, repository, history)) = holders.next() else { return Ok(0) };
    let Some(snapshot) = history.snapshots.iter().find(|snapshot| snapshot.id == *id) else { return Ok(0) };
    let mut state = snapshot.labels();
    change(&mut state);
    let is_new = state != snapshot.labels();
    let mut failed = 0;
    // Also where nothing changes: a destination that was away may not know it yet.
    let label = repository.seal_label(&history.labels, id, &state, &session.settings.host)?;
    for (target, repository, _) in std::iter::once((target, repository, history)).chain(holders) {
        if let Err(e) = repository.store_label(&label) {
            let name = &target.name;
            session.output.warning(format_args!("the destination {name} was not told: {e}"));
            failed += 1;
        }
    }
    report(session, snapshot, &state, is_new)?;
    Ok(failed)
}

fn report(session: &Session, snapshot: &Snapshot, state: &LabelState, is_new: bool) -> Result<()> {
    let output = &session.output;
    if output.json() {
        return output.object(
            "label",
            &json!({ "id": snapshot.id.to_string(), "pinned": state.pinned, "tags": state.tags, "changed": is_new }),
        );
    }
    if output.quiet() {
        return Ok(());
    }
    let tags = state.tags.iter().map(|tag| path_text::display(tag.as_bytes())).collect::<Vec<_>>().join(", ");
    let tags = match state.tags.len() {
        0 => "no tags".to_owned(),
        some => format!("{}: {tags}", count(some as u64, "tag", "tags")),
    };
    let pinned = if state.pinned { "pinned" } else { "not pinned" };
    let as_before = if is_new { "" } else { " (as before)" };
    output.line(format_args!("{}: {pinned}, {tags}{as_before}", snapshot.short_id()))
}
