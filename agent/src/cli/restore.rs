//! `lifeboat restore`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::EXIT_INCOMPLETE;
use super::progress::Work;
use super::session::{FilterArgs, Session, argument_bytes};
use super::text::{self, count};
use super::unread;
use crate::Result;
use crate::events::Counters;
use crate::fs::size::human;
use crate::restore::{self, Outcome, Overwrite, RestoreOptions, Selection};
use crate::snapshot::Snapshot;
use crate::snapshot::select::Selector;
use crate::tree::path_text;

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Entries land below DIR with their whole path; with SNAPSHOT:PATH a directory's entries, or the file itself, land \
                        directly in DIR. A restore that was interrupted continues when the same command is run again."
)]
pub struct Restore {
    /// Which: id, latest, latest~N; after a colon, a path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// The directory that is restored into; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Restore only what matches this pattern (syntax of .gitignore); may be given more than once
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Do not restore what matches this pattern; may be given more than once
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// What becomes of files that are there already [default: a target that is not empty is refused]
    #[arg(long, value_enum, value_name = "WHEN")]
    overwrite: Option<OverwriteName>,
    /// Remove what is in restored directories and not in the snapshot
    #[arg(long)]
    delete: bool,
    /// Delete even where the target has nothing in common with the snapshot
    #[arg(long, requires = "delete")]
    force: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Wait for the disk at the end, read back what should be as in the snapshot, and compare
    #[arg(long)]
    verify: bool,
    /// Whose files they become, as far as this user may say so
    #[arg(long, value_enum, default_value_t = OwnersName::Numbers)]
    owners: OwnersName,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OverwriteName {
    /// They become as in the snapshot; equal data is not written
    Always,
    /// The same, but files of equal size and time are taken as equal
    IfChanged,
    /// Only files that are older than in the snapshot
    IfNewer,
    /// They stay as they are
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OwnersName {
    /// User and group by number
    Numbers,
    /// User and group by name, where this machine knows it
    Names,
}

impl From<OverwriteName> for Overwrite {
    fn from(name: OverwriteName) -> Self {
        match name {
            OverwriteName::Always => Self::Always,
            OverwriteName::IfChanged => Self::IfChanged,
            OverwriteName::IfNewer => Self::IfNewer,
            OverwriteName::Never => Self::Never,
        }
    }
}

impl Restore {
    /// Restores.
    ///
    /// # Errors
    /// `Usage` for a snapshot, path or target that cannot be; `Damaged` or `Failed` if not everything could be restored.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let selection = Selection::new(&self.include, &self.exclude)?;
        let selector = Selector::parse(argument_bytes(&self.snapshot));
        let repository = session.open_any()?;
        let history = session.history(&repository)?;
        let snapshot = self.filter.find(&history, &selector.snapshot, selector.path.as_deref())?;
        let options = self.options();
        self.announce(session, snapshot);
        let running = session.begin(Work::Restore);
        let outcome = restore::run(
            &repository,
            snapshot,
            selector.path.as_deref(),
            &selection,
            &options,
            running.context(),
        );
        running.end();
        let outcome = outcome?;
        self.report(session, snapshot, selector.path.as_deref(), &outcome)?;
        unread::notice(&session.output, snapshot, selector.path.as_deref());
        outcome.verdict()?;
        unread::lost(&history, snapshot, selector.path.as_deref())?;
        Ok(if outcome.is_short { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
    }

    fn options(&self) -> RestoreOptions {
        RestoreOptions {
            overwrite: self.overwrite.map(Overwrite::from),
            delete: self.delete,
            force: self.force,
            dry_run: self.dry_run,
            verify: self.verify,
            owners_by_name: self.owners == OwnersName::Names,
            ..RestoreOptions::into_directory(self.target.clone())
        }
    }

    fn announce(&self, session: &Session, snapshot: &Snapshot) {
        let manifest = &snapshot.manifest;
        session.output.say(format_args!(
            "{} snapshot {} of {} ({}) into {}",
            if self.dry_run { "Comparing" } else { "Restoring" },
            snapshot.short_id(),
            manifest.host,
            text::local_time(&manifest.time),
            self.target.display()
        ));
    }

    fn report(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        path: Option<&[u8]>,
        outcome: &Outcome,
    ) -> Result<()> {
        let (output, tally, get) = (&session.output, &outcome.tally, Counters::get);
        if output.json() {
            return output.object(
                "summary",
                &json!({
                    "snapshot": snapshot.id.to_string(),
                    "target": path_text::to_text(self.target.as_os_str().as_bytes()),
                    "dry_run": self.dry_run,
                    "files_restored": get(&tally.files_restored),
                    "files_unchanged": get(&tally.files_unchanged),
                    "files_skipped": get(&tally.files_skipped),
                    "others": get(&tally.others),
                    "bytes_written": get(&tally.bytes_written),
                    "bytes_total": get(&tally.bytes_total),
                    "deleted": get(&tally.deleted),
                    "failed": get(&tally.failed),
                    "damaged": get(&tally.damaged),
                    "verified": get(&tally.verified),
                    "shortfalls": outcome.shortfalls,
                    "unread_at_backup": unread::count_below(snapshot, path),
                }),
            );
        }
        if !outcome.shortfalls.is_empty() {
            output.warning(&outcome.shortfalls);
        }
        if output.quiet() {
            return Ok(());
        }
        let verb = if self.dry_run { "would be restored" } else { "restored" };
        let mut parts = vec![
            format!(
                "{} {verb} ({})",
                count(get(&tally.files_restored), "file", "files"),
                human(get(&tally.bytes_written))
            ),
            format!("{} unchanged", text::grouped(get(&tally.files_unchanged))),
        ];
        let optional = [
            (&tally.files_skipped, "left alone"),
            (&tally.deleted, "deleted"),
            (&tally.failed, "failed"),
            (&tally.verified, "verified"),
        ];
        for (counter, word) in optional {
            if get(counter) > 0 {
                parts.push(format!("{} {word}", text::grouped(get(counter))));
            }
        }
        output.line(format_args!("{}.", parts.join(", ")))
    }
}
