//! `lifeboat backup`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::EXIT_INCOMPLETE;
pub use super::backup_options::Backup;
use super::default_repository;
use super::output::Output;
use super::session::Session;
use super::standard_input::StandardInput;
use super::text::{self, count};
use crate::backup::{self, Outcome, Plan, Stream};
use crate::fs::size::human;
use crate::repository::{OwnDirectories, Repository};
use crate::scan::ahead::Ahead;
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
        let repository = self.repository(session)?;
        let ahead = (!self.stdin).then(|| Ahead {
            paths: plan.paths_and_targets().cloned().collect(),
            rules: rules.clone(),
            one_file_system: options.one_file_system,
            own: OwnDirectories::of(&repository),
        });
        let running = session.begin_backup(ahead);
        if let Some(stream) = &stream {
            running.context().set_current(|current| current.extend_from_slice(&stream.path));
        }
        let outcome = backup::run(&repository, plan, stream, &rules, &options, running.context());
        running.end();
        let outcome = outcome?;
        if self.stdin && outcome.summary.bytes_total == 0 {
            session.output.warning(
                "standard input was empty, and so is the file: did the program that was to write it fail?",
            );
        }
        if session.output.json() {
            session.output.object("summary", &summary_object(&outcome))?;
        } else {
            summary(&session.output, &outcome)?;
        }
        Ok(if outcome.errors_total > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
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

fn summary_object(outcome: &Outcome) -> Value {
    let mut object = json!({
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
