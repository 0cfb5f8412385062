//! `lifeboat check`: proof that the repository can be restored.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::progress::Work;
use super::session::Session;
use super::text::{count, grouped};
use crate::check::{self, CheckOptions, ReadData, Report};
use crate::fs::size::human;
use crate::tree::path_text;
use crate::{Error, Result};

/// How much of the damage and what it touches is listed for people; all of it with `--json` or `-v`.
const LISTED_MAX: usize = 50;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without options, everything is checked but the stored data itself: keys, snapshots, that none was removed, the \
                        index, directories, and that every pack is there in full.\n\nExit code 14: damage was found."
)]
pub struct Check {
    /// Read and authenticate all stored data too
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read a part of the stored data: a random share (10%), one of N equal parts (1/7), or about so much (500M)
    #[arg(long, value_name = "PART")]
    read_data_subset: Option<String>,
}

impl Check {
    /// Checks.
    ///
    /// # Errors
    /// `Damaged` if anything is wrong; `NoRepository`, `WrongKey`; errors of the store.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let read_data = match &self.read_data_subset {
            Some(part) => part.parse().map_err(|e: Error| e.context("--read-data-subset"))?,
            None if self.read_data => ReadData::All,
            None => ReadData::Nothing,
        };
        let repository = session.open()?;
        let running = session.begin(Work::Check);
        let options = CheckOptions { read_data, ..CheckOptions::default() };
        let report = check::run(&repository, &options, running.context());
        running.end();
        let report = report?;
        if session.output.json() {
            print_objects(session, &report)?;
        } else {
            print(session, &report)?;
        }
        report.verdict()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print_objects(session: &Session, report: &Report) -> Result<()> {
    let output = &session.output;
    for warning in &report.warnings {
        output.warning(warning);
    }
    for damage in &report.damages {
        output.object("damage", &json!({ "object": damage.object, "message": damage.problem }))?;
    }
    for touched in &report.touched {
        let path = path_text::to_text(&touched.path);
        output.object(
            "touched",
            &json!({ "snapshot": touched.snapshot, "path": path, "message": touched.reason }),
        )?;
    }
    output.object(
        "summary",
        &json!({
            "damages": report.damages.len(),
            "touched": report.touched.len(),
            "warnings": report.warnings.len(),
            "snapshots": report.snapshots,
            "trees": report.trees,
            "packs": report.packs,
            "packs_read": report.packs_read,
            "bytes_read": report.bytes_read,
            "chunks_read": report.chunks_read,
            "orphans": report.orphans,
        }),
    )
}

fn print(session: &Session, report: &Report) -> Result<()> {
    let output = &session.output;
    for warning in &report.warnings {
        output.warning(warning);
    }
    let damages = report.damages.iter().map(|damage| format!("{}: {}", damage.object, damage.problem));
    list(session, "Damaged or missing:", damages.collect())?;
    let touched = report.touched.iter().map(|touched| {
        let short = touched.snapshot.get(..8).unwrap_or(&touched.snapshot);
        match touched.path.as_slice() {
            [] => format!("{short}: all of it ({})", touched.reason),
            path => format!("{short}:{} ({})", path_text::display(path), touched.reason),
        }
    });
    list(session, "Touched by that:", touched.collect())?;
    if output.quiet() {
        return Ok(());
    }
    output.line(format_args!(
        "Checked {}, {}, {}.",
        count(report.snapshots, "snapshot", "snapshots"),
        count(report.trees, "directory or list", "directories and lists"),
        count(report.packs, "pack", "packs"),
    ))?;
    if report.packs_read > 0 {
        output.line(format_args!(
            "Read {} with {} ({}).",
            count(report.packs_read, "pack", "packs"),
            count(report.chunks_read, "chunk", "chunks"),
            human(report.bytes_read)
        ))?;
    }
    if report.orphans > 0 {
        let packs = count(report.orphans, "pack", "packs");
        output.say_verbose(format_args!(
            "{packs} of an interrupted backup are not used yet; the next backup uses them."
        ));
    }
    match report.verdict() {
        Ok(()) if report.packs_read == report.packs => {
            output.line("No damage: all data is there and intact.")
        }
        Ok(()) if report.packs_read > 0 => output.line("No damage found; not all data was read."),
        Ok(()) => output.line("No damage found. `lifeboat check --read-data` reads the data too."),
        Err(_) => Ok(()),
    }
}

/// A list under a title, cut where it gets long.
fn list(session: &Session, title: &str, lines: Vec<String>) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let shown = if session.output.verbose() > 0 { lines.len() } else { lines.len().min(LISTED_MAX) };
    session.output.line(title)?;
    for line in lines.iter().take(shown) {
        session.output.line(format_args!("  {line}"))?;
    }
    match (lines.len() - shown) as u64 {
        0 => Ok(()),
        more => session.output.line(format_args!("  … and {} more (-v lists all)", grouped(more))),
    }
}
