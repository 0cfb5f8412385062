//! `lifeboat forget`: forget the snapshots that are named, or those that no rule keeps.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::forget_policy::{self, KeepArgs};
use super::prune;
use super::session::{FilterArgs, Session};
use super::text::{self, count};
use crate::collect::CollectOptions;
use crate::retention::candidate::what_of;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without snapshots, the policy decides: that of the configuration ([retention]), or of the --keep-… given, for every destination or \
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
        let repository = session.open()?;
        let history = session.history(&repository)?;
        let filter = self.filter.filter()?;
        let mut chosen: Vec<&Snapshot> = Vec::new();
        for text in &self.snapshots {
            let snapshot = history.find(text, &filter)?;
            if !chosen.iter().any(|known| known.id == snapshot.id) {
                chosen.push(snapshot);
            }
        }
        if chosen.len() == history.snapshots.len() && !self.force {
            return Err(Error::usage("nothing would be left: these are all snapshots of the repository")
                .with_hint("Add --force if that is what you want."));
        }
        if let Some(pinned) = chosen.iter().find(|snapshot| snapshot.pinned && !self.force) {
            let short = pinned.short_id();
            return Err(Error::usage(format_args!("snapshot {short} is pinned")).with_hint(format_args!(
                "Take the pin away by `lifeboat snapshots unpin {short}`, or add --force."
            )));
        }
        if !self.dry_run {
            repository.forget(&chosen, &session.settings.host)?;
        }
        for snapshot in &chosen {
            self.report(session, snapshot)?;
        }
        if !self.dry_run && !session.output.json() {
            session
                .output
                .line(format_args!("{} forgotten.", count(chosen.len() as u64, "snapshot", "snapshots")))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self, session: &Session, snapshot: &Snapshot) -> Result<()> {
        let manifest = &snapshot.manifest;
        if session.output.json() {
            let object =
                json!({ "id": snapshot.id.to_string(), "time": manifest.time, "dry_run": self.dry_run });
            return session.output.object("forgotten", &object);
        }
        session.output.line(format_args!(
            "{} {} of {} ({}, {})",
            if self.dry_run { "would forget" } else { "forgot" },
            snapshot.short_id(),
            text::local_time(&manifest.time),
            manifest.host,
            what_of(snapshot)
        ))
    }
}
