//! `lifeboat status`: the destinations, what they hold and lack, and how it is verified.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::EXIT_INCOMPLETE;
use super::holdings::{self, Ask, Holding};
use super::session::Session;
use super::slots;
use super::text::{self, Align, Table, count};
use crate::Result;
use crate::backup::destinations::{proof_word, proof_words};
use crate::fs::size::human;
use crate::snapshot::History;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 3: a destination cannot be reached, or lacks snapshots that another one has, or has other key slots."
)]
pub struct Status {}

impl Status {
    /// Shows them.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`; errors of the store of the first destination that can be opened.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let repository = session.open_any()?;
        let history = session.history(&repository)?;
        let holdings = holdings::ask(session, &repository, Some(&history), Ask::Space)?;
        // What is forgotten at one destination may be kept at another: only what this one has is asked of the others.
        let rows: Vec<Row> = holdings.iter().map(|holding| Row::of(holding, &history)).collect();
        if session.output.json() {
            for row in &rows {
                session.output.object("destination", &row.object())?;
            }
        } else {
            print(session, &rows)?;
        }
        let slots_differ = slots::differ(session, &holdings);
        let is_complete = rows.iter().all(|row| row.error.is_none() && row.lacking == 0) && !slots_differ;
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
    }
}

struct Row {
    name: String,
    place: String,
    snapshots: u64,
    lacking: u64,
    newest: Option<chrono::DateTime<chrono::FixedOffset>>,
    verified: Option<lifeboat_providers::Proof>,
    available: Option<u64>,
    error: Option<String>,
}

impl Row {
    fn of(holding: &Holding, history: &History) -> Self {
        let (name, place) = (holding.name.clone(), holding.place.clone());
        match &holding.held {
            Ok(held) => {
                let here = history.snapshots.iter().filter(|snapshot| held.snapshots.contains(&snapshot.id));
                let newest = here.clone().map(|snapshot| snapshot.manifest.time).max();
                let lacking = history.snapshots.len() - here.count();
                Self {
                    name,
                    place,
                    snapshots: held.snapshots.len() as u64,
                    lacking: lacking as u64,
                    newest,
                    verified: Some(held.proof),
                    available: held.usage.available_bytes,
                    error: None,
                }
            }
            Err(error) => Self {
                name,
                place,
                snapshots: 0,
                lacking: 0,
                newest: None,
                verified: None,
                available: None,
                error: Some(error.to_string()),
            },
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
            "available_bytes": self.available,
            "error": self.error,
        })
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
            text::grouped(row.snapshots),
            text::grouped(row.lacking),
            newest,
            row.available.map_or_else(|| "-".to_owned(), human),
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
    let behind = rows.iter().filter(|row| row.lacking > 0).count() as u64;
    if behind > 0 {
        output.line(format_args!(
            "{} behind: `lifeboat sync` brings what is missing.",
            count(behind, "destination is", "destinations are")
        ))?;
    }
    Ok(())
}
