//! What could not be read when a snapshot was made, or was lost since: said again wherever somebody relies on the snapshot.

use super::output::Output;
use super::text::{count, grouped, local_time};
use crate::fetch::walk::components;
use crate::snapshot::manifest::FileErrorKind;
use crate::snapshot::{FileError, History, Manifest, Snapshot};
use crate::tree::path_text;
use crate::{Error, Result};

/// How many paths a notice names; the rest is counted.
const NAMED_MAX: usize = 3;

/// Says in a notice that paths below `path` (the root without one) are missing or not whole, and how to see which.
pub fn notice(output: &Output, snapshot: &Snapshot, path: Option<&[u8]>) {
    let manifest = &snapshot.manifest;
    let below = below(manifest, path.unwrap_or_default());
    let unlisted = unlisted(manifest);
    if below.is_empty() && unlisted == 0 {
        return;
    }
    let how_many = match (below.len() as u64, unlisted) {
        (0, _) => "perhaps paths here are among those that".to_owned(),
        (number, 0) => count(number, "path", "paths"),
        (number, _) => format!("at least {}", count(number, "path", "paths")),
    };
    let mut names: Vec<String> = below.iter().take(NAMED_MAX).map(|error| shown(&error.path)).collect();
    if below.len() > names.len() {
        names.push("…".to_owned());
    }
    let colon = if names.is_empty() { "" } else { ": " };
    output.notice(format_args!(
        "{how_many} {}{colon}{} (`lifeboat snapshots {short}` lists them)",
        reason(snapshot),
        names.join(", "),
        short = snapshot.short_id(),
    ));
}

/// How many of the paths that could not be read lie below `path`, as far as the snapshot lists them.
pub fn count_below(snapshot: &Snapshot, path: Option<&[u8]>) -> usize {
    below(&snapshot.manifest, path.unwrap_or_default()).len()
}

/// Lists all that the snapshot lists, one a line.
///
/// # Errors
/// If standard output cannot be written.
pub fn list(output: &Output, snapshot: &Snapshot) -> Result<()> {
    let manifest = &snapshot.manifest;
    if manifest.errors_total == 0 {
        return Ok(());
    }
    output.line(format_args!("{} {}:", count(manifest.errors_total, "path", "paths"), reason(snapshot)))?;
    for error in &manifest.errors {
        output.line(format_args!(
            "  {}: {}",
            shown(&error.path),
            path_text::display(error.message.as_bytes())
        ))?;
    }
    match unlisted(manifest) {
        0 => Ok(()),
        more => output.line(format_args!("  … and {} more, which the snapshot only counts", grouped(more))),
    }
}

fn reason(snapshot: &Snapshot) -> String {
    let since = if snapshot.manifest.lost_total > 0 { ", or were lost since" } else { "" };
    format!("could not be read in full when snapshot {} was made{since}", snapshot.short_id())
}

/// The error that a repaired snapshot deserves where paths below `path` are lost: whoever restores it does not get all that was backed up.
///
/// # Errors
/// `Damaged`, with the snapshot that has more.
pub fn lost(history: &History, snapshot: &Snapshot, path: Option<&[u8]>) -> Result<()> {
    let manifest = &snapshot.manifest;
    let is_lost = |error: &&FileError| error.kind == FileErrorKind::Lost;
    let here = below(manifest, path.unwrap_or_default()).into_iter().filter(is_lost).count() as u64;
    let listed = manifest.errors.iter().filter(is_lost).count() as u64;
    let unlisted = manifest.lost_total.saturating_sub(listed);
    if here + unlisted == 0 {
        return Ok(());
    }
    let at_least = if unlisted > 0 { "at least " } else { "" };
    let short = snapshot.short_id();
    let error = Error::damaged(format_args!(
        "snapshot {short} was saved from a damaged one: {at_least}{} of what was backed up {} lost or not whole",
        count(here, "path", "paths"),
        if here == 1 { "is" } else { "are" }
    ));
    let hint = match history.whole_before(snapshot) {
        Some(whole) => format!(
            "What is left was restored. Snapshot {} of {} is whole: restore from it what is missing. `lifeboat snapshots {short}` lists it.",
            whole.short_id(),
            local_time(&whole.manifest.time)
        ),
        None => format!("What is left was restored. `lifeboat snapshots {short}` lists what is missing."),
    };
    Err(error.with_hint(hint))
}

fn unlisted(manifest: &Manifest) -> u64 {
    manifest.errors_total.saturating_sub(manifest.errors.len() as u64)
}

fn below<'m>(manifest: &'m Manifest, path: &[u8]) -> Vec<&'m FileError> {
    let wanted: Vec<&[u8]> = components(path).collect();
    let is_below = |error: &&FileError| {
        let bytes = path_text::from_text(&error.path).unwrap_or_default();
        let mut names = components(&bytes);
        wanted.iter().all(|name| names.next() == Some(name))
    };
    manifest.errors.iter().filter(is_below).collect()
}

/// A stored path for people.
fn shown(text: &str) -> String {
    path_text::from_text(text)
        .map_or_else(|| path_text::display(text.as_bytes()), |bytes| path_text::display(&bytes))
}
