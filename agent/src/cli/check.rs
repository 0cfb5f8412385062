//! `lifeboat check`: proof that the repository can be restored.

use std::process::ExitCode;

use clap::Args;
use lifeboat_providers::Key;
use serde_json::json;

use super::holdings::{self, Ask};
use super::progress::Work;
use super::session::Session;
use super::text::{count, grouped};
use super::{EXIT_INCOMPLETE, destinations, slots};
use crate::check::{self, CheckOptions, ReadData, Report};
use crate::fs::size::human;
use crate::repository::{Repository, Siblings};
use crate::tree::path_text;
use crate::{Error, Kind, Result};

/// How much of the damage and what it touches is listed for people; all of it with `--json` or `-v`.
const LISTED_MAX: usize = 50;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without options, everything is checked but the stored data itself: keys, snapshots, that none was removed, the \
                        index, directories, and that every pack is there in full.\n\nExit code 14: damage was found. Exit code 3: with --all, a destination \
                        cannot be reached, lacks snapshots that another one has, or has other key slots."
)]
pub struct Check {
    /// Read and authenticate all stored data too
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read a part of the stored data: a random share (10%), one of N equal parts (1/7), or about so much (500M)
    #[arg(long, value_name = "PART")]
    read_data_subset: Option<String>,
    /// Take what is damaged or missing from another destination
    #[arg(long)]
    repair: bool,
    /// Check all destinations, and compare them: by listings and the hashes that stores state, without reading stored data
    #[arg(long)]
    all: bool,
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
        let options = CheckOptions { read_data, ..CheckOptions::default() };
        if self.all {
            return self.all_destinations(session, &options);
        }
        let repository = session.open()?;
        let verdict = one(session, &repository, &options, self.repair)?.report.verdict();
        verdict.map_err(|e| self.with_others(&repository, e))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Where there are other destinations, what they have comes before any other remedy.
    fn with_others(&self, repository: &Repository, error: Error) -> Error {
        if self.repair || repository.siblings().is_empty() {
            return error;
        }
        error.with_hint(
            "Run the same check with --repair first: it takes what is damaged or missing from another destination.",
        )
    }

    fn all_destinations(&self, session: &Session, options: &CheckOptions) -> Result<ExitCode> {
        let targets = destinations::all(session)?;
        let first = session.open_any()?;
        let mut worst: Option<Error> = None;
        let mut unreached = 0;
        for target in &targets {
            session.output.say(format_args!("{}, {}:", target.name, target.location.place()));
            let opened = target.open_beside(&first);
            let checked = opened.and_then(|repository| {
                let siblings = destinations::siblings(&targets, target, &session.output);
                let repository = repository.with_siblings(siblings);
                let verdict = one(session, &repository, options, self.repair)?.report.verdict();
                verdict.map_err(|e| self.with_others(&repository, e))?;
                self.stated(session, &repository)
            });
            match checked {
                Ok(()) => {}
                Err(e) if e.kind() == Kind::Interrupted => return Err(e),
                Err(e) => {
                    session.output.warning(format_args!("{}: {e}", target.name));
                    if session.output.json() {
                        let error = json!({ "name": target.name, "error": e.to_string() });
                        session.output.object("destination", &error)?;
                    }
                    // Damage is worse than a destination that is away.
                    match e.kind() {
                        Kind::Damaged => {
                            worst = worst.or(Some(e.context(format_args!("destination {}", target.name))))
                        }
                        _ => unreached += 1,
                    }
                }
            }
        }
        let behind = compare(session, &first)?;
        let done = if behind + unreached == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) };
        worst.map_or(Ok(done), Err)
    }

    /// What the store says of hashes; with `--repair`, what is wrong is healed.
    fn stated(&self, session: &Session, repository: &Repository) -> Result<()> {
        let running = session.begin(Work::Check);
        let stated = check::stated(repository, running.context());
        running.end();
        let stated = stated?;
        if session.output.json() {
            session.output.object(
                "stated",
                &json!({
                    "location": repository.store().location(),
                    "proved": stated.proved,
                    "silent": stated.silent,
                    "wrong": stated.wrong.iter().map(ToString::to_string).collect::<Vec<_>>(),
                }),
            )?;
        } else if stated.proved > 0 {
            let proved = count(stated.proved, "object has", "objects have");
            session.output.say(format_args!("The store states that {proved} the hash of its name."));
        }
        // Once for each: to heal is to fetch and to write.
        let is_left = |key: &&Key| !(self.repair && repository.heal(key).is_some());
        let left: Vec<_> = stated.wrong.iter().filter(is_left).collect();
        match left.first() {
            None => Ok(()),
            Some(first) => Err(Error::damaged(format_args!(
                "the store states another hash than their name for {} ({first})",
                count(left.len() as u64, "object", "objects")
            ))
            .with_hint("`lifeboat check --all --repair` takes them from another destination.")),
        }
    }
}

/// What a check of one destination came to.
pub(super) struct Checked {
    /// What it found, after what could be healed was.
    pub report: Report,
    /// What was wrong before that.
    pub damage: Option<Error>,
}

/// Checks a destination, and with `repair` what of it can be healed again after that; prints what it found.
///
/// # Errors
/// Errors of the store. Damage is no error here.
pub(super) fn one(
    session: &Session,
    repository: &Repository,
    options: &CheckOptions,
    repair: bool,
) -> Result<Checked> {
    // A check changes nothing, and judges this destination by itself.
    let alone = repository.clone().with_siblings(Siblings::none());
    let mut report = look(session, &alone, options)?;
    let elsewhere = check::found_elsewhere(repository, &report)?;
    if !elsewhere.is_empty() {
        for (witness, name) in &elsewhere {
            let short = witness.id.get(..8).unwrap_or(&witness.id);
            session.output.warning(format_args!(
                "snapshot {short} is at {name} and not here: `lifeboat sync` brings it"
            ));
        }
        report = look(session, &alone, options)?;
    }
    let damage = report.verdict().err();
    if repair && damage.is_some() {
        let (damaged, healed) = check::heal(repository, &report);
        session.output.say(format_args!(
            "{healed} of {} healed from other destinations.",
            count(damaged, "damaged or missing object is", "damaged or missing objects are")
        ));
        if healed > 0 {
            report = look(session, &alone, options)?;
        }
    }
    if session.output.json() {
        print_objects(session, repository, &report)?;
    } else {
        print(session, &report)?;
    }
    Ok(Checked { report, damage })
}

fn look(session: &Session, repository: &Repository, options: &CheckOptions) -> Result<Report> {
    let running = session.begin(Work::Check);
    let report = check::run(repository, options, running.context());
    running.end();
    report
}

/// Which snapshots are at some destinations only, and whose key slots differ; how many destinations lack something that was not forgotten there.
fn compare(session: &Session, first: &Repository) -> Result<u64> {
    let holdings = holdings::ask(session, first, None, Ask::History)?;
    let all = holdings::union(&holdings);
    let mut behind = 0;
    for holding in &holdings {
        let Ok(held) = &holding.held else { continue };
        let lacking = held.lacking(&all).len() as u64;
        behind += u64::from(lacking > 0);
        if session.output.json() {
            session.output.object("comparison", &json!({ "name": holding.name, "lacking": lacking }))?;
        } else if lacking > 0 {
            session.output.line(format_args!(
                "{} lacks {} that others have: `lifeboat sync` brings what is missing.",
                holding.name,
                count(lacking, "snapshot", "snapshots")
            ))?;
        }
    }
    if behind == 0 && !session.output.json() && !session.output.quiet() {
        let number = holdings.iter().filter(|holding| holding.held.is_ok()).count() as u64;
        session.output.line(format_args!(
            "{}: none lacks a snapshot.",
            count(number, "destination was compared", "destinations were compared")
        ))?;
    }
    Ok(behind + u64::from(slots::differ(session, &holdings)))
}

fn print_objects(session: &Session, repository: &Repository, report: &Report) -> Result<()> {
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
            "location": repository.store().location(),
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
