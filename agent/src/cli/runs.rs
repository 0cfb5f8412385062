//! `lifeboat runs` and `lifeboat log`: what this machine remembers of its runs.

use std::process::ExitCode;

use chrono::{DateTime, Local, Utc};
use clap::Args;
use serde_json::json;

use super::destinations;
use super::open_each::open_each;
use super::session::Session;
use super::text::{self, Align, Table, not_empty};
use crate::fs::size::human;
use crate::ledger::{Ledger, Run};
use crate::{Error, Result};

/// Arguments of `runs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Only this machine's runs that were made by `lifeboat run` or the daemon; `lifeboat snapshots` lists what is stored."
)]
pub struct Runs {
    /// Only runs of this source
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    source: Option<String>,
    /// First learn from the snapshots what is not known of earlier runs: for a ledger that was lost
    #[arg(long)]
    rebuild: bool,
    /// So many of the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    number: u32,
}

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct Log {
    /// Number of the run, as `lifeboat runs` shows it [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<i64>,
}

impl Runs {
    /// Lists them, the newest last.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let ledger = Ledger::open(&session.settings.directories.state)?;
        if self.rebuild {
            rebuild(session, &ledger)?;
        }
        let mut runs = ledger.runs(self.source.as_deref(), self.number)?;
        runs.reverse();
        if session.output.json() {
            runs.iter().try_for_each(|run| session.output.object("run", run))?;
            return Ok(ExitCode::SUCCESS);
        }
        if runs.is_empty() {
            session.output.line("No runs are remembered.")?;
            return Ok(ExitCode::SUCCESS);
        }
        use Align::{Left, Right};
        let columns = [
            ("Run", Right),
            ("Began", Left),
            ("Took", Right),
            ("What", Left),
            ("Why", Left),
            ("Result", Left),
            ("Stored", Right),
            ("", Left),
        ];
        let mut table = Table::new(&columns);
        for run in &runs {
            table.row(row(run));
        }
        table.lines().into_iter().try_for_each(|line| session.output.line(line))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Learns from what each destination holds; one that cannot be asked tells nothing.
fn rebuild(session: &Session, ledger: &Ledger) -> Result<()> {
    for opened in open_each(session, destinations::all(session)?)? {
        let name = &opened.target.name;
        match opened.found {
            Ok((_, history)) => ledger.learn_from(name, &session.settings.host, &history.snapshots)?,
            Err(e) => session.output.warning(format_args!("nothing is learnt from {name}: {e}")),
        }
    }
    Ok(())
}

fn row(run: &Run) -> Vec<String> {
    let outcome = run.outcome.as_ref();
    let took = run.ended.map(|ended| text::duration((ended - run.started).as_seconds_f64().max(0.0)));
    let message = outcome.and_then(|outcome| outcome.message.clone()).unwrap_or_default();
    vec![
        run.id.to_string(),
        local(run.started),
        took.unwrap_or_else(|| "-".to_owned()),
        crate::daemon::name(&run.job),
        run.job.cause.to_string(),
        outcome.map_or_else(|| "under way".to_owned(), |outcome| outcome.result.to_string()),
        outcome.map_or_else(|| "-".to_owned(), |outcome| human(outcome.numbers.bytes_stored)),
        shortened(&message),
    ]
}

/// The first words of a message: `lifeboat log` shows all.
fn shortened(message: &str) -> String {
    const CHARS_MAX: usize = 60;
    match message.char_indices().nth(CHARS_MAX) {
        None => message.to_owned(),
        Some((at, _)) => format!("{}…", message.get(..at).unwrap_or_default()),
    }
}

impl Log {
    /// Shows what a run said.
    ///
    /// # Errors
    /// `Usage` for a run that is not remembered; if the ledger cannot be read.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let ledger = Ledger::open(&session.settings.directories.state)?;
        let found = match self.run {
            Some(id) => ledger.run(id)?,
            None => ledger.runs(None, 1)?.pop(),
        };
        let Some(run) = found else {
            return Err(Error::usage(match self.run {
                Some(id) => format!("no run {id} is remembered"),
                None => "no runs are remembered".to_owned(),
            })
            .with_hint("`lifeboat runs` lists them."));
        };
        let lines = ledger.lines(run.id)?;
        let output = &session.output;
        if output.json() {
            output.object("run", &run)?;
            for line in &lines {
                output.object(
                    "line",
                    &json!({ "run": run.id, "at": line.at, "level": line.level, "text": line.text }),
                )?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        output.line(format_args!(
            "Run {}: {}, {}, began {}",
            run.id,
            crate::daemon::name(&run.job),
            run.job.cause,
            local(run.started)
        ))?;
        for line in &lines {
            output.line(format_args!(
                "{} {}: {}",
                line.at.with_timezone(&Local).format("%H:%M:%S"),
                line.level,
                line.text
            ))?;
        }
        let Some(outcome) = &run.outcome else {
            output.line("It is under way.")?;
            return Ok(ExitCode::SUCCESS);
        };
        let ended = run.ended.map(local).unwrap_or_default();
        output.line(format_args!("{} at {ended}", outcome.result))?;
        for text in [&outcome.message, &outcome.hint].into_iter().flatten() {
            output.line(format_args!("  {text}"))?;
        }
        for at in &outcome.destinations {
            let what = match (at.stored, &at.error) {
                (true, _) => format!("stored, {}", human(at.bytes_stored)),
                (false, Some(error)) => format!("NOT stored: {error}"),
                (false, None) => "NOT stored".to_owned(),
            };
            output.line(format_args!("  {}: {what}", at.destination))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn local(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}
