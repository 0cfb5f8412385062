//! `lifeboat status`: the destinations, what they hold and lack, and how it is verified.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::EXIT_INCOMPLETE;
use super::holdings::{self, Ask, Held, Holding};
use super::session::Session;
use super::text::{self, Align, Table, count};
use super::{protection, slots};
use crate::Result;
use crate::backup::destinations::{proof_word, proof_words};
use crate::fs::size::human;
use crate::ledger::Seen;
use crate::snapshot::Snapshot;
use crate::space::Standing;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 3: a source is overdue (nothing good came to a destination for twice the interval of its schedule), or a destination cannot be \
                        reached, lacks snapshots that another one has, or has other key slots."
)]
pub struct Status {
    /// Only say which sources are overdue, for a monitor: asks no destination and needs no key
    #[arg(long)]
    check: bool,
}

impl Status {
    /// Shows them.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`; errors of the store of the first destination that can be opened.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        if self.check {
            return protection::check(session);
        }
        let repository = match session.open_any() {
            Ok(repository) => repository,
            Err(e) => {
                // What the ledger knows is worth the more when nothing else can be asked.
                protection::print(session, &protection::all(session, None)?)?;
                return Err(e);
            }
        };
        // For the chain's sake: whoever looks is told of what was removed.
        session.history(&repository)?;
        let holdings = holdings::ask(session, &repository, None, Ask::Space)?;
        let all = holdings::union(&holdings);
        let protected = protection::all(session, Some(&holdings))?;
        let remembered = protection::remembered(session);
        let row = |holding| Row::of(holding, &all, &remembered);
        let rows: Vec<Row> = holdings.iter().map(row).collect();
        protection::print(session, &protected)?;
        if session.output.json() {
            for row in &rows {
                session.output.object("destination", &row.object())?;
            }
        } else {
            print(session, &rows)?;
        }
        let slots_differ = slots::differ(session, &holdings);
        let is_complete =
            rows.iter().all(|row| row.error.is_none() && row.lacking == Some(0)) && !slots_differ;
        let is_complete = is_complete && !protected.iter().any(protection::Protected::is_wrong);
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
    }
}

struct Row {
    name: String,
    place: String,
    /// What is not known is none: the destination cannot be reached.
    snapshots: Option<u64>,
    lacking: Option<u64>,
    newest: Option<chrono::DateTime<chrono::FixedOffset>>,
    verified: Option<lifeboat_providers::Proof>,
    space: Standing,
    error: Option<String>,
}

impl Row {
    fn of(holding: &Holding, all: &[&Snapshot], remembered: &[Seen]) -> Self {
        let held = holding.held.as_ref();
        let newest = |held: &Held| {
            let here = all.iter().filter(|snapshot| held.snapshots.contains(&snapshot.id));
            here.map(|snapshot| snapshot.manifest.time).max()
        };
        let mut space = held.map(|held| held.space).unwrap_or_default();
        if space.used.is_none() {
            let seen = remembered.iter().find(|seen| seen.destination == holding.name);
            space.used = seen.and_then(|seen| seen.used_bytes);
        }
        Self {
            name: holding.name.clone(),
            place: holding.place.clone(),
            snapshots: held.ok().map(|held| held.snapshots.len() as u64),
            lacking: held.ok().map(|held| held.lacking(all).len() as u64),
            newest: held.ok().and_then(newest),
            verified: held.ok().map(|held| held.proof),
            space,
            error: held.err().map(ToString::to_string),
        }
    }

    fn object(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "location": self.place,
            "snapshots": self.snapshots,
            "lacking": self.lacking,
            "newest": self.newest.as_ref().map(text::json_time),
            "verified": self.verified.map(proof_word),
            "available_bytes": self.space.left(true),
            "used_bytes": self.space.used,
            "quota_bytes": self.space.quota,
            "error": self.error,
        })
    }
}

/// What can still be stored, and of what quota that is.
fn free(space: &Standing) -> String {
    match (space.left(true), space.quota) {
        (Some(left), Some(quota)) => format!("{} of {}", human(left), human(quota)),
        (Some(left), None) => human(left),
        (None, _) => "-".to_owned(),
    }
}

fn print(session: &Session, rows: &[Row]) -> Result<()> {
    use Align::{Left, Right};
    let output = &session.output;
    let mut table = Table::new(&[
        ("Destination", Left),
        ("Place", Left),
        ("Snapshots", Right),
        ("Lacks", Right),
        ("Newest", Left),
        ("Size", Right),
        ("Free", Right),
        ("Stored data is", Left),
    ]);
    for row in rows {
        let newest = row.newest.as_ref().map_or_else(|| "-".to_owned(), text::local_time);
        let verified = match (&row.error, row.verified) {
            (None, Some(proof)) => proof_words(proof).to_owned(),
            _ => "not known: it cannot be reached".to_owned(),
        };
        table.row(vec![
            row.name.clone(),
            row.place.clone(),
            row.snapshots.map_or_else(|| "?".to_owned(), text::grouped),
            row.lacking.map_or_else(|| "?".to_owned(), text::grouped),
            newest,
            row.space.used.map_or_else(|| "-".to_owned(), human),
            free(&row.space),
            verified,
        ]);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    for row in rows {
        if let Some(error) = &row.error {
            output.warning(format_args!("{}: {error}", row.name));
        }
    }
    let behind = rows.iter().filter(|row| row.lacking.is_some_and(|lacking| lacking > 0)).count() as u64;
    if behind > 0 {
        output.line(format_args!(
            "{} behind: `lifeboat sync` brings what is missing.",
            count(behind, "destination is", "destinations are")
        ))?;
    }
    Ok(())
}
