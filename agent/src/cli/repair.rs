//! `lifeboat repair`: mend what is damaged, never deleting what can be saved.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::progress::Work;
use super::session::Session;
use super::text::count;
use crate::repair::{self, IndexRepair, IndexRepairOptions, SnapshotRepair, SnapshotRepairOptions};
use crate::tree::path_text;
use crate::{Kind, Result};

const PATHS_LISTED_MAX: usize = 50;

/// The `repair` commands.
#[derive(Debug, Subcommand)]
pub enum Repair {
    /// Make the index anew from the packs
    Index(Index),
    /// Write damaged snapshots once more, with all that can be saved
    Snapshots(Snapshots),
}

/// Arguments of `repair index`.
#[derive(Debug, Args)]
pub struct Index {
    /// Read all stored data, and take what is damaged out of the index: the next backup stores it again
    #[arg(long)]
    read_data: bool,
}

/// Arguments of `repair snapshots`.
#[derive(Debug, Args)]
pub struct Snapshots {
    /// Read all stored data first, to know of all damage
    #[arg(long)]
    read_data: bool,
    /// Forget the snapshots that were written once more
    #[arg(long)]
    forget: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Repair {
    /// Runs the command.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`, `Interrupted`; errors of the store.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Index(arguments) => index(session, &arguments),
            Self::Snapshots(arguments) => snapshots(session, &arguments),
        }
    }
}

fn index(session: &Session, arguments: &Index) -> Result<ExitCode> {
    let repository = session.open()?;
    let running = session.begin(Work::Check);
    let repaired =
        repair::index(&repository, IndexRepairOptions { read_data: arguments.read_data }, running.context());
    running.end();
    let repaired = repaired?;
    report_index(session, &repaired)?;
    let whole = repaired.lost.is_empty() && repaired.lost_segments == 0;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(Kind::Damaged.exit_code()) })
}

fn report_index(session: &Session, repaired: &IndexRepair) -> Result<()> {
    let output = &session.output;
    if output.json() {
        return output.object(
            "summary",
            &json!({
                "was_sound": repaired.was_sound,
                "packs": repaired.packs,
                "found": repaired.found,
                "corrected": repaired.corrected,
                "lost": repaired.lost,
                "damaged": repaired.damaged,
                "segments_saved": repaired.saved,
                "segments_lost": repaired.lost_segments,
                "unreadable": repaired.unreadable,
                "damaged_shards": repaired.damaged_shards,
            }),
        );
    }
    let kinds = [
        ("lost", &repaired.lost),
        ("damaged; what is intact of it was copied, and nothing uses it any more", &repaired.damaged),
        ("unreadable, left as it is", &repaired.unreadable),
    ];
    for (what, packs) in kinds {
        for pack in packs {
            output.line(format_args!("{pack}: {what}"))?;
        }
    }
    if repaired.was_sound {
        return output.line(format_args!(
            "The index is sound ({}); nothing was changed.",
            count(repaired.packs, "pack", "packs")
        ));
    }
    output.line(format_args!(
        "The index was made anew: {}, {} of them not known before, {} not as it said.",
        count(repaired.packs, "pack", "packs"),
        repaired.found,
        repaired.corrected
    ))?;
    if !repaired.damaged.is_empty() {
        output.line(format_args!(
            "Of damaged packs {} copied, {} lost.",
            count(repaired.saved, "segment was", "segments were"),
            count(repaired.lost_segments, "is", "are")
        ))?;
    }
    if repaired.lost.is_empty() && repaired.lost_segments == 0 {
        return Ok(());
    }
    output.complain(
        "What is lost may still be on disk: back up the sources again, then run `lifeboat repair snapshots`.",
    );
    Ok(())
}

fn snapshots(session: &Session, arguments: &Snapshots) -> Result<ExitCode> {
    let repository = session.open()?;
    let options = SnapshotRepairOptions {
        read_data: arguments.read_data,
        forget: arguments.forget,
        dry_run: arguments.dry_run,
        host: session.settings.host.clone(),
    };
    let running = session.begin(Work::Check);
    let repaired = repair::snapshots(&repository, &options, running.context());
    running.end();
    let repaired = repaired?;
    if session.output.json() {
        report_objects(session, &repaired)?;
    } else {
        report_snapshots(session, &repaired, arguments)?;
    }
    let is_whole = repaired.lost.is_empty() && repaired.gone.is_empty() && repaired.labels_lost == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(Kind::Damaged.exit_code()) })
}

fn report_objects(session: &Session, repaired: &SnapshotRepair) -> Result<()> {
    let output = &session.output;
    for (old, new) in &repaired.repaired {
        let new = new.as_ref().map(|new| new.id.to_string());
        output.object("repaired", &json!({ "snapshot": old.id.to_string(), "new": new }))?;
    }
    for (snapshot, path) in &repaired.lost {
        output.object("lost", &json!({ "snapshot": snapshot, "path": path_text::to_text(path) }))?;
    }
    let (count, lost) = (repaired.repaired.len(), repaired.lost.len());
    output.object(
        "summary",
        &json!({
            "repaired": count,
            "lost": lost,
            "gone": repaired.gone,
            "elsewhere": repaired.elsewhere,
            "labels_lost": repaired.labels_lost,
        }),
    )
}

fn report_snapshots(session: &Session, repaired: &SnapshotRepair, arguments: &Snapshots) -> Result<()> {
    let output = &session.output;
    let shown =
        if output.verbose() > 0 { repaired.lost.len() } else { repaired.lost.len().min(PATHS_LISTED_MAX) };
    for (snapshot, path) in repaired.lost.iter().take(shown) {
        let short = snapshot.get(..8).unwrap_or(snapshot);
        output.line(format_args!("{short}:{}: something of it is lost", path_text::display(path)))?;
    }
    if shown < repaired.lost.len() {
        output.line(format_args!("… and {} more (-v lists all)", repaired.lost.len() - shown))?;
    }
    for elsewhere in &repaired.elsewhere {
        let short = elsewhere.get(..8).unwrap_or("of which no id is known here");
        output.line(format_args!(
            "snapshot {short} is at another destination: `lifeboat check --repair` or `lifeboat sync` brings it here"
        ))?;
    }
    for gone in repaired.gone.iter().filter(|gone| !gone.is_empty()) {
        output.line(format_args!("snapshot {gone} cannot be read: nothing of it can be saved here"))?;
    }
    if repaired.labels_lost > 0 {
        output.line(format_args!(
            "{} cannot be read: pins and tags that only they say are not known",
            count(repaired.labels_lost, "record of labels", "records of labels")
        ))?;
    }
    for (old, new) in &repaired.repaired {
        match new {
            Some(new) => output.line(format_args!("{} stands in for {}", new.short_id(), old.short_id()))?,
            None => output.line(format_args!("{} would be written once more", old.short_id()))?,
        }
    }
    let is_sound = repaired.repaired.is_empty() && repaired.gone.is_empty() && repaired.elsewhere.is_empty();
    if is_sound && repaired.labels_lost == 0 {
        return output.line("No snapshot is damaged; nothing was changed.");
    }
    if !arguments.forget && !arguments.dry_run {
        output.say("The damaged snapshots are there still; --forget takes them away.");
    }
    Ok(())
}
