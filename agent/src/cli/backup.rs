//! `lifeboat backup`.

use std::process::ExitCode;

use lifeboat_providers::Proof;
use serde_json::{Value, json};

use super::EXIT_INCOMPLETE;
pub use super::backup_options::Backup;
use super::output::Output;
use super::progress::Work;
use super::session::{Session, Target};
use super::standard_input::StandardInput;
use super::text::{self, count};
use super::{default_repository, destinations};
use crate::backup::destinations::{falls_over, proof_word, proof_words};
use crate::backup::{self, BackupOptions, Outcome, Plan, Stream};
use crate::fs::size::human;
use crate::repository::{Directories, OwnDirectories, Repository, state};
use crate::scan::ahead::Ahead;
use crate::scan::exclude::ExcludeRules;
use crate::snapshot::history::witness;
use crate::space::{self, room};
use crate::tree::path_text;
use crate::{Error, Kind, Result};

impl Backup {
    /// Backs up.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`, `Usage`, `Interrupted`; errors of the store.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        // All that can be wrong about the arguments is found before a repository is made or a passphrase asked for.
        let (plan, stream) = self.what(session)?;
        let rules = self.exclude_rules(&session.settings, &plan)?;
        let options = self.options(&session.settings);
        for (link, target) in &plan.followed {
            session.output.notice(format_args!(
                "{} is a link: what it leads to, {}, is backed up too",
                path_text::display(link),
                path_text::display(target)
            ));
        }
        for path in Self::named_and_excluded(&plan, &rules, &session.settings) {
            session.output.notice(format_args!(
                "{} matches a pattern of what is to be left out, and is backed up all the same: it was named",
                path_text::display(path)
            ));
        }
        let targets = destinations::chosen(session, &self.to)?;
        let mut stream = stream;
        let (mut failed, mut was_fenced) = (0, false);
        let mut reasons: Vec<(String, String)> = Vec::new();
        let (outcome, mut made) = loop {
            let rest = targets.get(failed + 1..).unwrap_or_default();
            let attempt = self.first(session, &targets, failed).and_then(|repository| {
                let run = || self.run_to(session, &repository, rest, &plan, &rules, &options, &mut stream);
                let outcome = room::run_with_room(run, |full| self.make_room(session, &repository, full))?;
                if room::is_made_ahead(&repository) && outcome.snapshot.is_some() {
                    let running = session.begin(Work::Check);
                    let holders = || space::with_siblings(&repository);
                    let made =
                        room::make_ahead(&repository, &holders, &session.settings.host, running.context());
                    running.end();
                    made?;
                }
                let made = Made {
                    failed: Vec::new(),
                    name: targets.get(failed).map(|target| target.name.clone()).unwrap_or_default(),
                    proof: repository.store().capabilities().proof,
                    directories: repository.directories().clone(),
                };
                Ok((outcome, made))
            });
            match attempt {
                Ok(done) => break done,
                Err(e) if e.kind() == Kind::Fenced && !was_fenced && !(self.stdin && stream.is_none()) => {
                    session.output.warning(format_args!("{e}. It begins anew"));
                    was_fenced = true;
                }
                // What came in by a pipe is gone.
                Err(e) if rest.is_empty() || !falls_over(&e) || (self.stdin && stream.is_none()) => {
                    return Err(e);
                }
                Err(e) => {
                    let name = |at: usize| targets.get(at).map_or("", |target| target.name.as_str());
                    let (name, next) = (name(failed), name(failed + 1));
                    session.output.warning(format_args!(
                        "the destination {name} failed: {e}. The backup goes on with {next}"
                    ));
                    reasons.push((name.to_owned(), e.to_string()));
                    failed += 1;
                }
            }
        };
        made.failed = reasons;
        if let Some(snapshot) = &outcome.snapshot {
            // Those that failed, and those that were not chosen this time.
            let written = targets.get(failed..).unwrap_or_default();
            let is_owed = |target: &&Target| !written.iter().any(|written| written.name == target.name);
            let all = destinations::all(session)?;
            let places: Vec<_> = all.iter().filter(is_owed).map(|target| target.location.place()).collect();
            if let Err(e) = state::owe(&made.directories, &places, &witness(snapshot)) {
                session.output.warning(e);
            }
        }
        if self.stdin && outcome.summary.bytes_total == 0 {
            session.output.warning(
                "standard input was empty, and so is the file: did the program that was to write it fail?",
            );
        }
        if session.output.json() {
            session.output.object("summary", &summary_object(&made, &outcome))?;
        } else {
            summary(&session.output, &outcome)?;
            destinations_lines(&session.output, &made, &outcome)?;
        }
        let is_behind = failed > 0 || outcome.destinations.iter().any(|other| other.stored.is_none());
        let incomplete = outcome.errors_total > 0 || (is_behind && outcome.snapshot.is_some());
        Ok(if incomplete { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
    }

    /// The repository that is written to first, after `failed` of the targets did not do.
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

    /// Makes room where the repository is full.
    ///
    /// # Errors
    /// `full`, if none could be made.
    fn make_room(&self, session: &Session, repository: &Repository, full: Error) -> Result<()> {
        if self.stdin {
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

    #[expect(clippy::too_many_arguments, reason = "one attempt of a run that has them all")]
    fn run_to(
        &self,
        session: &Session,
        repository: &Repository,
        rest: &[Target],
        plan: &Plan,
        rules: &ExcludeRules,
        options: &BackupOptions,
        stream: &mut Option<Stream>,
    ) -> Result<Outcome> {
        let ahead = (!self.stdin).then(|| Ahead {
            paths: plan.paths_and_targets().cloned().collect(),
            rules: rules.clone(),
            one_file_system: options.one_file_system,
            own: OwnDirectories::of(repository),
        });
        let others = destinations::others(repository, rest);
        let running = session.begin_backup(ahead);
        if let Some(stream) = stream {
            running.context().set_current(|current| current.extend_from_slice(&stream.path));
        }
        let (plan, stream) = (plan.clone(), stream.take());
        let outcome = backup::run_to_all(repository, others, plan, stream, rules, options, running.context());
        running.end();
        outcome
    }

    fn what(&self, session: &Session) -> Result<(Plan, Option<Stream>)> {
        if !self.stdin {
            return Ok((self.plan()?, None));
        }
        let path = self.stdin_path()?;
        let stream = Stream {
            path: path.clone(),
            reader: Box::new(StandardInput::new(session.signals.stop().clone())),
        };
        Ok((Plan::for_stream(&path), Some(stream)))
    }

    /// The repository that was named or the default one, which is made if need be.
    fn repository(&self, session: &Session) -> Result<Repository> {
        let is_missing = session.target()?.is_default && !default_repository::exists(&session.settings);
        if !is_missing {
            return session.open();
        }
        if self.dry_run {
            return Err(Error::new(
                Kind::NoRepository,
                "a dry run makes no repository, and there is none to compare with yet",
            )
            .with_hint("Run it without --dry-run, or name a repository by --repository."));
        }
        default_repository::create(session, Default::default())
    }
}

fn summary_object(made: &Made, outcome: &Outcome) -> Value {
    let first = outcome.snapshot.as_ref().map(|_| {
        json!({
            "name": made.name,
            "location": made.directories.place,
            "stored": true,
            "verified": proof_word(made.proof),
            "bytes_stored": outcome.summary.bytes_stored,
            "snapshots_caught_up": 0,
            "error": null,
        })
    });
    let failed = made.failed.iter().map(|(name, why)| json!({ "name": name, "stored": false, "error": why }));
    let others = outcome.destinations.iter().map(|other| {
        json!({
            "name": other.name,
            "location": other.place,
            "stored": other.stored.is_some(),
            "verified": other.stored.map(proof_word),
            "bytes_stored": other.bytes_stored,
            "snapshots_caught_up": other.snapshots_caught_up,
            "error": other.error.as_ref().map(ToString::to_string),
        })
    });
    let others: Vec<Value> = first.into_iter().chain(others).chain(failed).collect();
    let mut object = json!({
        "destinations": others,
        "snapshot": outcome.snapshot.as_ref().map(|snapshot| snapshot.id.to_string()),
        "parent": outcome.parent,
        "errors_total": outcome.errors_total,
        "sockets": outcome.sockets,
        "dry_run": outcome.snapshot.is_none(),
    });
    if let (Value::Object(object), Ok(Value::Object(mut fields))) =
        (&mut object, serde_json::to_value(outcome.summary))
    {
        object.append(&mut fields);
        if outcome.snapshot.is_none() {
            object.insert("bytes_stored".to_owned(), Value::Null);
        }
    }
    object
}

fn summary(output: &Output, outcome: &Outcome) -> Result<()> {
    let summary = &outcome.summary;
    if !output.quiet() {
        output.line(format_args!(
            "Files:   {} new, {} changed, {} unmodified",
            text::grouped(summary.files_new),
            text::grouped(summary.files_changed),
            text::grouped(summary.files_unmodified)
        ))?;
        let sockets = match outcome.sockets {
            0 => String::new(),
            number => format!(" ({} noted, which a restore skips)", count(number, "socket", "sockets")),
        };
        output.line(format_args!(
            "Others:  {}, {}{sockets}",
            count(summary.directories, "directory", "directories"),
            count(summary.others, "link or special file", "links and special files"),
        ))?;
        // A dry run compresses nothing: how much would be stored is not known.
        let added = match outcome.snapshot {
            Some(_) => {
                format!("{} added, {} stored", human(summary.bytes_added), human(summary.bytes_stored))
            }
            None => format!("{} would be added, before compression", human(summary.bytes_added)),
        };
        output.line(format_args!(
            "Data:    {} in all, {} read, {added}",
            human(summary.bytes_total),
            human(summary.bytes_read),
        ))?;
        let rate = match (summary.bytes_read as f64 / summary.seconds.max(0.001)) as u64 {
            0 => String::new(),
            rate => format!(" ({}/s read)", human(rate)),
        };
        output.line(format_args!("Time:    {}{rate}", text::duration(summary.seconds)))?;
    }
    match (&outcome.snapshot, &outcome.parent) {
        _ if output.quiet() => Ok(()),
        (None, _) => output.line("Nothing was stored: this was a dry run."),
        (Some(snapshot), None) => output.line(format_args!("Snapshot {} made.", snapshot.short_id())),
        (Some(snapshot), Some(parent)) => {
            let parent = parent.get(..8).unwrap_or(parent);
            output.line(format_args!("Snapshot {} made, compared with {parent}.", snapshot.short_id()))
        }
    }
}

/// Where the snapshot is now, one line for each destination, the one it was made at first.
fn destinations_lines(output: &Output, at: &Made, outcome: &Outcome) -> Result<()> {
    if output.quiet() || outcome.snapshot.is_none() {
        return Ok(());
    }
    let is_only = outcome.destinations.is_empty() && at.failed.is_empty();
    let name = if is_only { &at.directories.place } else { &at.name };
    let stored = outcome.summary.bytes_stored;
    output.line(format_args!("  {name}: stored, {}, {}", human(stored), proof_words(at.proof)))?;
    for other in &outcome.destinations {
        let name = &other.name;
        match (other.stored, &other.error) {
            (Some(proof), _) => {
                let caught_up = match other.snapshots_caught_up {
                    0 => String::new(),
                    number => format!(
                        ", with {} that it lacked",
                        count(number, "earlier snapshot", "earlier snapshots")
                    ),
                };
                let stored = human(other.bytes_stored);
                output.line(format_args!("  {name}: stored, {stored}, {}{caught_up}", proof_words(proof)))?;
            }
            (None, Some(error)) => output.line(format_args!("  {name}: NOT stored: {error}"))?,
            (None, None) => output.line(format_args!("  {name}: NOT stored"))?,
        }
    }
    for (name, why) in &at.failed {
        output.line(format_args!("  {name}: NOT stored: {why}"))?;
    }
    Ok(())
}

/// Where a snapshot was made.
struct Made {
    name: String,
    proof: Proof,
    directories: Directories,
    /// Destinations that were tried before, and why they did not do.
    failed: Vec<(String, String)>,
}
