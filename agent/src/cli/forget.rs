//! `lifeboat forget`: forget the snapshots that are named. Rules for keeping come with retention.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::session::{FilterArgs, Session};
use super::text::{self, count};
use crate::snapshot::Snapshot;
use crate::tree::path_text;
use crate::{Error, Result};

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(
    after_help = "Forgotten snapshots cannot be restored any more. That they were forgotten on purpose is recorded, so that \
                        `lifeboat check` can tell them from snapshots that somebody removed."
)]
pub struct Forget {
    /// Which: id, latest, latest~N
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Only say what would be forgotten
    #[arg(long)]
    dry_run: bool,
    /// Forget even the last snapshot of the repository
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Forget {
    /// Forgets them.
    ///
    /// # Errors
    /// `Usage` for a snapshot that is not there, or the last one without `--force`.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
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
        let paths: Vec<String> = manifest.path_bytes().iter().map(|path| path_text::display(path)).collect();
        session.output.line(format_args!(
            "{} {} of {} ({}, {})",
            if self.dry_run { "would forget" } else { "forgot" },
            snapshot.short_id(),
            text::local_time(&manifest.time),
            manifest.host,
            paths.join(" ")
        ))
    }
}
