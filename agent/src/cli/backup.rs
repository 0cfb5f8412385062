//! `lifeboat backup`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::EXIT_INCOMPLETE;
use super::backup_job::{Done, Job};
pub use super::backup_options::Backup;
use super::output::Output;
use super::session::Session;
use super::source_job;
use super::standard_input::{StandardInput, StandardInputSource};
use super::text::{self, count};
use crate::backup::destinations::{proof_word, proof_words};
use crate::backup::{Outcome, Plan};
use crate::events::Context;
use crate::fs::size::human;
use crate::scan::exclude::ExcludeRules;
use crate::source::{Entries, Source};
use crate::tree::path_text;
use crate::{Error, Result, config};

impl Backup {
    /// Backs up.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`, `Usage`, `Interrupted`; errors of the store.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        if !self.names_something() {
            let source = self.configured(session)?;
            let done = source_job::backup_source(session, source, &self.source_run()?)?;
            return report(&session.output, &done);
        }
        // All that can be wrong about the arguments is found before a repository is made or a passphrase asked for.
        let source = self.what(session)?;
        let options = self.options(&session.settings);
        let done = Job { source: &*source, to: &self.to, options: &options }.run(session)?;
        if self.stdin && done.outcome.summary.bytes_total == 0 {
            session.output.warning(
                "standard input was empty, and so is the file: did the program that was to write it fail?",
            );
        }
        report(&session.output, &done)
    }

    /// The source of the configuration that is meant, where no path is named.
    fn configured<'s>(&self, session: &'s Session) -> Result<&'s config::Source> {
        let sources = &session.settings.sources;
        let missing = Error::usage("nothing is named that is to be backed up");
        match (&self.source, &sources[..]) {
            (Some(name), [_, ..]) => config::Source::named(sources, name),
            (_, []) => Err(missing.with_hint("Name a PATH: lifeboat backup ~/documents")),
            (None, [first, ..]) => Err(missing.with_hint(format_args!(
                "`lifeboat run {}` backs up that source of the configuration; for a path: lifeboat backup PATH",
                first.name
            ))),
        }
    }

    /// What the arguments name.
    fn what(&self, session: &Session) -> Result<Box<dyn Source>> {
        if self.stdin {
            let input = StandardInput::new(session.signals.stop().clone());
            return Ok(Box::new(StandardInputSource::new(self.stdin_path()?, input)));
        }
        let plan = self.plan()?;
        let rules = self.exclude_rules(&session.settings, &plan)?;
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
        Ok(Box::new(Named { plan, rules }))
    }
}

/// The paths of the command line.
struct Named {
    plan: Plan,
    rules: ExcludeRules,
}

impl Source for Named {
    fn open(&self, _context: &Context) -> Result<Entries> {
        Ok(Entries { rules: self.rules.clone(), ..Entries::new(self.plan.clone()) })
    }
}

/// Says what a backup came to, and returns its exit code.
///
/// # Errors
/// If it cannot be printed.
pub(super) fn report(output: &Output, done: &Done) -> Result<ExitCode> {
    if output.json() {
        output.object("summary", &summary_object(done))?;
    } else {
        summary(output, &done.outcome)?;
        destinations_lines(output, done)?;
    }
    Ok(if done.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

fn summary_object(made: &Done) -> Value {
    let outcome = &made.outcome;
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
fn destinations_lines(output: &Output, at: &Done) -> Result<()> {
    let outcome = &at.outcome;
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
