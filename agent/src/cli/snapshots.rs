//! `lifeboat snapshots`: what there is, grouped by machine and source or paths.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::holdings::{self, Ask, Holding};
use super::session::{FilterArgs, Session};
use super::tag::Pin;
use super::text::{self, Align, Table, count};
use super::unread;
use crate::backup::destinations::proof_word;
use crate::fs::size::human;
use crate::snapshot::Snapshot;
use crate::tree::path_text;
use crate::{Error, Result};

/// Arguments of `snapshots`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Snapshots {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these: id, latest, latest~N
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Only the newest N of each group
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    latest: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What is done to snapshots in place of listing them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep snapshots whatever the policy says
    Pin(Pin),
    /// Let the policy decide again
    Unpin(Pin),
}

impl Snapshots {
    /// Lists them.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`; `Usage` for a snapshot that is not there.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self.command {
            Some(Command::Pin(pin)) => return pin.run(session, true),
            Some(Command::Unpin(pin)) => return pin.run(session, false),
            None => {}
        }
        let repository = session.open_any()?;
        let history = session.history(&repository)?;
        let filter = self.filter.filter()?;
        let mut chosen: Vec<&Snapshot> = if self.snapshots.is_empty() {
            history.snapshots.iter().filter(|snapshot| filter.matches(snapshot)).collect()
        } else {
            self.snapshots.iter().map(|text| history.find(text, &filter)).collect::<Result<_>>()?
        };
        let holdings = holdings::ask(session, &repository, Some(&history), Ask::Snapshots)?;
        for holding in &holdings {
            if let Err(error) = &holding.held {
                session.output.warning(format_args!(
                    "what the destination {} holds is not known: {error}",
                    holding.name
                ));
            }
        }
        let groups = group(&chosen);
        if let Some(latest) = self.latest {
            let kept: Vec<_> = groups
                .values()
                .flat_map(|group| group.iter().rev().take(usize::try_from(latest).unwrap_or(usize::MAX)))
                .map(|s| s.id)
                .collect();
            chosen.retain(|snapshot| kept.contains(&snapshot.id));
        }
        if session.output.json() {
            for snapshot in &chosen {
                session.output.object("snapshot", &object(snapshot, &holdings)?)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        // Who names snapshots, or asks for more, wants to know what they lack.
        let in_full = !self.snapshots.is_empty() || session.output.verbose() > 0;
        print(session, &chosen, history.snapshots.len(), in_full, &holdings)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A machine, and the name or paths of what is backed up there.
type GroupKey = (String, String);

fn group<'s>(snapshots: &[&'s Snapshot]) -> BTreeMap<GroupKey, Vec<&'s Snapshot>> {
    let mut groups: BTreeMap<GroupKey, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let manifest = &snapshot.manifest;
        let what = match &manifest.source {
            Some(source) => format!("source {}", path_text::display(source.as_bytes())),
            None => paths(snapshot),
        };
        groups.entry((path_text::display(manifest.host.as_bytes()), what)).or_default().push(snapshot);
    }
    groups
}

/// The manifest with the ids, and without the root directory, which is for programs that read the format.
fn object(snapshot: &Snapshot, holdings: &[Holding]) -> Result<Value> {
    let manifest = serde_json::to_value(&snapshot.manifest).map_err(|e| Error::failed(e.to_string()))?;
    let destinations = holdings.iter().map(|holding| {
        let held = holding.held.as_ref().ok();
        let stored = held.map(|held| held.snapshots.contains(&snapshot.id));
        let verified = held.filter(|_| stored == Some(true)).map(|held| proof_word(held.proof));
        json!({ "name": holding.name, "stored": stored, "verified": verified })
    });
    let mut object = json!({
        "id": snapshot.id.to_string(),
        "short_id": snapshot.short_id(),
        "destinations": destinations.collect::<Vec<_>>(),
    });
    if let (Value::Object(object), Value::Object(mut fields)) = (&mut object, manifest) {
        fields.remove("root");
        for (name, time) in [("time", &snapshot.manifest.time), ("end", &snapshot.manifest.end)] {
            fields.insert(name.to_owned(), text::json_time(time).into());
        }
        fields.insert("tags".to_owned(), snapshot.tags.clone().into());
        fields.insert("pinned".to_owned(), snapshot.pinned.into());
        object.append(&mut fields);
    }
    Ok(object)
}

fn print(
    session: &Session,
    chosen: &[&Snapshot],
    all: usize,
    in_full: bool,
    holdings: &[Holding],
) -> Result<()> {
    let output = &session.output;
    if chosen.is_empty() {
        return if all == 0 {
            output.line("There are no snapshots yet: make one with `lifeboat backup PATH`.")
        } else {
            output.line(format_args!(
                "None of the {} passes the filter.",
                count(all as u64, "snapshot", "snapshots")
            ))
        };
    }
    for ((host, what), snapshots) in group(chosen) {
        output.line(format_args!("{host}, {what}"))?;
        for line in table(&snapshots, holdings).lines() {
            output.line(format_args!("  {line}"))?;
        }
        for snapshot in snapshots.iter().filter(|_| in_full) {
            unread::list(output, snapshot)?;
        }
        output.line("")?;
    }
    if let Some(lacking) = chosen.iter().rev().find(|s| s.manifest.errors_total > 0 && !in_full) {
        output.say(format_args!("`lifeboat snapshots {}` lists what could not be read.", lacking.short_id()));
    }
    output.line(count(chosen.len() as u64, "snapshot", "snapshots"))
}

fn table(snapshots: &[&Snapshot], holdings: &[Holding]) -> Table {
    use Align::{Left, Right};
    let has = |test: fn(&Snapshot) -> bool| snapshots.iter().any(|snapshot| test(snapshot));
    let paths_differ = has(|snapshot| snapshot.manifest.source.is_some());
    let tags = has(|snapshot| !snapshot.tags.is_empty());
    let class = has(|snapshot| snapshot.manifest.class != "manual");
    let pinned = has(|snapshot| snapshot.pinned);
    let errors = has(|snapshot| snapshot.manifest.errors_total > 0);
    let several = holdings.len() > 1;
    let optional = [
        (paths_differ, ("Paths", Left)),
        (class, ("Class", Left)),
        (tags, ("Tags", Left)),
        (pinned, ("Pin", Left)),
        (several, ("Stored at", Left)),
        (errors, ("Errors", Right)),
    ];
    let mut columns = vec![
        ("Id", Left),
        ("Time", Left),
        ("Age", Left),
        ("Files", Right),
        ("Size", Right),
        ("Added", Right),
    ];
    columns.extend(optional.iter().filter(|(wanted, _)| *wanted).map(|(_, column)| *column));
    let mut table = Table::new(&columns);
    for snapshot in snapshots {
        let manifest = &snapshot.manifest;
        let summary = &manifest.summary;
        let files = summary.files_new + summary.files_changed + summary.files_unmodified;
        let mut row = vec![
            snapshot.short_id(),
            text::local_time(&manifest.time),
            text::age(&manifest.time),
            text::grouped(files),
            human(summary.bytes_total),
            human(summary.bytes_stored),
        ];
        let cells = [
            (paths_differ, paths(snapshot)),
            (class, path_text::display(manifest.class.as_bytes())),
            (tags, path_text::display(snapshot.tags.join(",").as_bytes())),
            (pinned, if snapshot.pinned { "pinned".to_owned() } else { String::new() }),
            (several, stored_at(snapshot, holdings)),
            (
                errors,
                if manifest.errors_total == 0 { String::new() } else { text::grouped(manifest.errors_total) },
            ),
        ];
        row.extend(cells.into_iter().filter(|(wanted, _)| *wanted).map(|(_, cell)| cell));
        table.row(row);
    }
    table
}

/// The destinations that have a snapshot; `?` after one that cannot be asked.
fn stored_at(snapshot: &Snapshot, holdings: &[Holding]) -> String {
    let names = holdings.iter().filter_map(|holding| match &holding.held {
        Ok(held) => held.snapshots.contains(&snapshot.id).then(|| holding.name.clone()),
        Err(_) => Some(format!("{}?", holding.name)),
    });
    names.collect::<Vec<_>>().join(" ")
}

fn paths(snapshot: &Snapshot) -> String {
    let paths: Vec<String> =
        snapshot.manifest.path_bytes().iter().map(|path| path_text::display(path)).collect();
    paths.join(" ")
}
