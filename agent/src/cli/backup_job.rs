//! One backup to the destinations that are meant: it goes on with the next when one fails, begins anew when it was fenced, makes room where
//! a destination is full, and notes where the snapshot still has to come. Prints warnings only; what it came to is the caller's to say.

use lifeboat_providers::Proof;

use super::progress::Work;
use super::session::{Session, Target};
use super::{default_repository, destinations};
use crate::backup::destinations::{DestinationOutcome, falls_over};
use crate::backup::{self, BackupOptions, Outcome};
use crate::repository::{Directories, OwnDirectories, Repository, state};
use crate::scan::ahead::Ahead;
use crate::snapshot::history::witness;
use crate::source::Source;
use crate::space::{self, room};
use crate::{Error, Kind, Result};

/// What to back up, where, and how.
pub struct Job<'a> {
    /// What is backed up; opened anew for each attempt.
    pub source: &'a dyn Source,
    /// Names of destinations; none for all, or the one that `--repository` names.
    pub to: &'a [String],
    /// How.
    pub options: &'a BackupOptions,
}

/// What a job came to.
#[derive(Debug)]
pub struct Done {
    /// What the run at the first destination that did came to, and at the others.
    pub outcome: Outcome,
    /// Name of the destination that the snapshot was made at.
    pub name: String,
    /// How what is stored there is proved.
    pub proof: Proof,
    /// The directories of the repository on this machine, and its place.
    pub directories: Directories,
    /// Destinations that were tried before, and why they did not do.
    pub failed: Vec<(String, String)>,
}

impl Done {
    /// Whether all could be read and, unless it was a dry run, every destination has the snapshot.
    pub fn is_complete(&self) -> bool {
        let is_missing = |other: &DestinationOutcome| other.stored.is_none();
        let is_behind = !self.failed.is_empty() || self.outcome.destinations.iter().any(is_missing);
        self.outcome.errors_total == 0 && (self.outcome.snapshot.is_none() || !is_behind)
    }
}

impl Job<'_> {
    /// Backs up.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`, `Usage`, `Interrupted`; those of the source; errors of the store if no destination did.
    pub fn run(&self, session: &Session) -> Result<Done> {
        let targets = destinations::chosen(session, self.to)?;
        let mut was_fenced = false;
        let mut reasons: Vec<(String, String)> = Vec::new();
        let mut done = loop {
            let failed = reasons.len();
            let attempt = self.attempt(session, &targets, failed);
            let is_last = targets.len() <= failed + 1;
            match attempt {
                Ok(done) => break done,
                // What came in by a pipe is gone.
                Err(e) if !self.source.can_open_again() => return Err(e),
                Err(e) if e.kind() == Kind::Fenced && !was_fenced => {
                    session.output.warning(format_args!("{e}. It begins anew"));
                    was_fenced = true;
                }
                Err(e) if is_last || !falls_over(&e) => return Err(e),
                Err(e) => {
                    let name = |at: usize| targets.get(at).map_or("", |target| target.name.as_str());
                    let (name, next) = (name(failed), name(failed + 1));
                    session.output.warning(format_args!(
                        "the destination {name} failed: {e}. The backup goes on with {next}"
                    ));
                    reasons.push((name.to_owned(), e.to_string()));
                }
            }
        };
        let written = targets.get(reasons.len()..).unwrap_or_default();
        owe_the_rest(session, &done, written)?;
        done.failed = reasons;
        Ok(done)
    }

    /// One attempt, after `failed` of the targets did not do.
    fn attempt(&self, session: &Session, targets: &[Target], failed: usize) -> Result<Done> {
        let repository = self.first(session, targets, failed)?;
        let rest = targets.get(failed + 1..).unwrap_or_default();
        let run = || self.run_to(session, &repository, rest);
        let outcome = room::run_with_room(run, |full| self.make_room(session, &repository, full))?;
        if room::is_made_ahead(&repository) && outcome.snapshot.is_some() {
            let running = session.begin(Work::Check);
            let holders = || space::with_siblings(&repository);
            let host = &session.settings.host;
            let made = room::make_ahead(&repository, &holders, host, running.context());
            running.end();
            made?;
        }
        Ok(Done {
            outcome,
            name: targets.get(failed).map(|target| target.name.clone()).unwrap_or_default(),
            proof: repository.store().capabilities().proof,
            directories: repository.directories().clone(),
            failed: Vec::new(),
        })
    }

    /// The repository that is written to first.
    fn first(&self, session: &Session, targets: &[Target], failed: usize) -> Result<Repository> {
        match targets {
            [_] if self.to.is_empty() => self.repository(session),
            _ => {
                let target = targets.get(failed).ok_or_else(|| Error::failed("no destination is left"))?;
                let repository = session.open_target(target)?.0;
                Ok(repository.with_siblings(destinations::siblings(targets, target, &session.output)))
            }
        }
    }

    /// The repository that was named or the default one, which is made if need be.
    fn repository(&self, session: &Session) -> Result<Repository> {
        let is_missing = session.target()?.is_default && !default_repository::exists(&session.settings);
        if !is_missing {
            return session.open();
        }
        if self.options.dry_run {
            return Err(Error::new(
                Kind::NoRepository,
                "a dry run makes no repository, and there is none to compare with yet",
            )
            .with_hint("Run it without --dry-run, or name a repository by --repository."));
        }
        default_repository::create(session, Default::default())
    }

    fn run_to(&self, session: &Session, repository: &Repository, rest: &[Target]) -> Result<Outcome> {
        let opening = session.begin_backup(None);
        let opened = self.source.open(opening.context());
        opening.end();
        let entries = opened?;
        let one_file_system = self.options.one_file_system || entries.one_file_system;
        let options = BackupOptions { one_file_system, ..self.options.clone() };
        let ahead = (!entries.plan.has_given()).then(|| Ahead {
            paths: entries.plan.paths_and_targets().cloned().collect(),
            rules: entries.rules.clone(),
            one_file_system,
            own: OwnDirectories::of(repository),
        });
        let others = destinations::others(repository, rest);
        let running = session.begin_backup(ahead);
        let (plan, rules) = (entries.plan, &entries.rules);
        let outcome = backup::run_to_all(repository, others, plan, rules, &options, running.context());
        running.end();
        // Copies are not needed any more.
        drop(entries.kept);
        outcome
    }

    /// Makes room where the repository is full.
    ///
    /// # Errors
    /// `full`, if none could be made.
    fn make_room(&self, session: &Session, repository: &Repository, full: Error) -> Result<()> {
        if !self.source.can_open_again() {
            // What came in by a pipe is gone.
            return Err(full);
        }
        let running = session.begin(Work::Check);
        let holders = || space::with_siblings(repository);
        let host = &session.settings.host;
        let made = room::make_after(full, repository, &holders, host, running.context());
        running.end();
        made
    }
}

/// Remembers that the snapshot is owed to the destinations that failed, and to those that were not chosen this time.
fn owe_the_rest(session: &Session, done: &Done, written: &[Target]) -> Result<()> {
    let Some(snapshot) = &done.outcome.snapshot else { return Ok(()) };
    let is_owed = |target: &&Target| !written.iter().any(|written| written.name == target.name);
    let all = destinations::all(session)?;
    let places: Vec<_> = all.iter().filter(is_owed).map(|target| target.location.place()).collect();
    if let Err(e) = state::owe(&done.directories, &places, &witness(snapshot)) {
        session.output.warning(e);
    }
    Ok(())
}
