//! What could not be read when a snapshot was made: said again wherever somebody relies on the snapshot.

use super::output::Output;
use super::text::{count, grouped};
use crate::Result;
use crate::fetch::walk::components;
use crate::snapshot::{FileError, Manifest, Snapshot};
use crate::tree::path_text;

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
        "{how_many} could not be read in full when snapshot {short} was made{colon}{} (`lifeboat snapshots {short}` lists them)",
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
    output.line(format_args!(
        "{} could not be read in full when snapshot {} was made:",
        count(manifest.errors_total, "path", "paths"),
        snapshot.short_id()
    ))?;
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
