//! `lifeboat forget`: forget the snapshots that are named, or those that no rule keeps.

use std::collections::HashSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::forget_policy::{self, KeepArgs};
use super::open_each::{Opened, open_each};
use super::session::{FilterArgs, Session};
use super::text::{self, count};
use super::{EXIT_INCOMPLETE, destinations, prune};
use crate::collect::CollectOptions;
use crate::repository::Repository;
use crate::retention::candidate::what_of;
use crate::snapshot::{History, Snapshot};
use crate::{Error, Result};

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(
    after_help = "Snapshots that are named are forgotten at every destination that has them, or at the one that --repository names. Without any, the policy decides: that of the configuration ([retention]), or of the --keep-… given, for every destination or \
                        the one that --repository names. Snapshots compete with those of the same machine and source, or paths. The newest whole one of \
                        each is always kept, and so are pinned ones and those dated in the future. --dry-run shows what would be decided, and why, and frees nothing.\n\n\
                        Forgotten snapshots cannot be restored any more. That they were forgotten on purpose is recorded, so that \
                        `lifeboat check` can tell them from snapshots that somebody removed.\n\n\
                        Exit code 3: a destination could not be dealt with."
)]
pub struct Forget {
    /// Which: id, latest, latest~N [default: those that no rule keeps]
    #[arg(value_name = "SNAPSHOT", conflicts_with = "keep")]
    snapshots: Vec<String>,
    /// Only say what would be forgotten
    #[arg(long)]
    dry_run: bool,
    /// Forget even the last snapshot of the repository, or pinned ones, if they are named; go on though records of pins cannot be read
    #[arg(long)]
    force: bool,
    /// Then free the space of what no snapshot needs any more, as `lifeboat prune` does
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// A destination that can be used.
struct Place<'o> {
    name: &'o str,
    repository: &'o Repository,
    history: &'o History,
}

impl<'o> Place<'o> {
    /// Those of `chosen` that it has.
    fn own(&self, chosen: &[&Snapshot]) -> Vec<&'o Snapshot> {
        let is_chosen = |own: &&Snapshot| chosen.iter().any(|snapshot| snapshot.id == own.id);
        self.history.snapshots.iter().filter(is_chosen).collect()
    }
}

/// All snapshots that any of them has: a name means the same wherever it is forgotten.
fn union(there: &[Place<'_>]) -> History {
    let mut known = HashSet::new();
    let all = there.iter().flat_map(|place| &place.history.snapshots);
    let mut snapshots: Vec<Snapshot> = all.filter(|snapshot| known.insert(snapshot.id)).cloned().collect();
    snapshots.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.id));
    History { snapshots, ..History::default() }
}

impl Forget {
    /// Forgets them.
    ///
    /// # Errors
    /// `Usage` for a snapshot that is not there, a pinned one or the last one without `--force`, and where nothing says what is kept.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let forgotten = self.forget(session)?;
        if !self.prune || self.dry_run {
            return Ok(forgotten);
        }
        // A destination that was away when snapshots were to be forgotten there is not pruned either.
        let pruned = prune::prune(session, CollectOptions::default())?;
        Ok(if forgotten == ExitCode::SUCCESS { pruned } else { forgotten })
    }

    fn forget(&self, session: &Session) -> Result<ExitCode> {
        if self.snapshots.is_empty() {
            let filter = self.filter.filter()?;
            return forget_policy::run(session, &self.keep, &filter, self.dry_run, self.force, self.prune);
        }
        self.forget_named(session)
    }

    /// Forgets those that are named, at every destination that is meant and has them: what somebody wants gone is to be gone everywhere.
    fn forget_named(&self, session: &Session) -> Result<ExitCode> {
        let filter = self.filter.filter()?;
        let opened = open_each(session, destinations::chosen(session, &[])?)?;
        let mut is_complete = true;
        let mut there: Vec<Place<'_>> = Vec::new();
        for Opened { target, found } in &opened {
            match found {
                Ok((repository, history)) => there.push(Place { name: &target.name, repository, history }),
                Err(e) => {
                    is_complete = false;
                    session.output.warning(format_args!("{}: nothing is forgotten there: {e}", target.name));
                }
            }
        }
        let all = union(&there);
        let mut chosen: Vec<&Snapshot> = Vec::new();
        for text in &self.snapshots {
            let snapshot = all.find(text, &filter)?;
            if !chosen.iter().any(|known| known.id == snapshot.id) {
                chosen.push(snapshot);
            }
        }
        self.refuse_what_must_stay(&there, &chosen)?;
        let mut gone: Vec<&str> = Vec::new();
        let mut failed = None;
        for place in &there {
            let own = place.own(&chosen);
            if own.is_empty() {
                continue;
            }
            let forgotten =
                if self.dry_run { Ok(()) } else { place.repository.forget(&own, &session.settings.host) };
            match forgotten {
                Ok(()) => gone.push(place.name),
                Err(e) => {
                    is_complete = false;
                    session.output.warning(format_args!("{}: {}", place.name, e.in_full()));
                    failed.get_or_insert(e);
                }
            }
        }
        if let (Some(e), true) = (failed, gone.is_empty()) {
            return Err(e);
        }
        for snapshot in &chosen {
            let has = |place: &&Place<'_>| gone.contains(&place.name) && !place.own(&[*snapshot]).is_empty();
            let at: Vec<&str> = there.iter().filter(has).map(|place| place.name).collect();
            self.report(session, snapshot, &at, opened.len() > 1)?;
        }
        if !self.dry_run && !session.output.json() {
            session
                .output
                .line(format_args!("{} forgotten.", count(chosen.len() as u64, "snapshot", "snapshots")))?;
        }
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
    }

    fn refuse_what_must_stay(&self, there: &[Place<'_>], chosen: &[&Snapshot]) -> Result<()> {
        if self.force {
            return Ok(());
        }
        let is_emptied = |place: &&Place<'_>| {
            !place.history.snapshots.is_empty() && place.own(chosen).len() == place.history.snapshots.len()
        };
        if let Some(place) = there.iter().find(is_emptied) {
            let at = if there.len() > 1 { format!(" at {}", place.name) } else { String::new() };
            return Err(Error::usage(format_args!(
                "nothing would be left{at}: these are all snapshots of the repository"
            ))
            .with_hint("Add --force if that is what you want."));
        }
        if let Some(pinned) = chosen.iter().find(|snapshot| snapshot.pinned) {
            let short = pinned.short_id();
            return Err(Error::usage(format_args!("snapshot {short} is pinned")).with_hint(format_args!(
                "Take the pin away by `lifeboat snapshots unpin {short}`, or add --force."
            )));
        }
        Ok(())
    }

    fn report(&self, session: &Session, snapshot: &Snapshot, at: &[&str], are_several: bool) -> Result<()> {
        let manifest = &snapshot.manifest;
        if session.output.json() {
            let object = json!({ "id": snapshot.id.to_string(), "time": manifest.time, "dry_run": self.dry_run, "destinations": at });
            return session.output.object("forgotten", &object);
        }
        session.output.line(format_args!(
            "{} {} of {} ({}, {}){}",
            if self.dry_run { "would forget" } else { "forgot" },
            snapshot.short_id(),
            text::local_time(&manifest.time),
            manifest.host,
            what_of(snapshot),
            if are_several { format!(" at {}", at.join(", ")) } else { String::new() }
        ))
    }
}
