//! `lifeboat sync`: bring destinations up to another one.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::progress::Work;
use super::session::{Session, Target};
use super::text::{count, not_empty};
use super::{EXIT_INCOMPLETE, destinations, slots};
use crate::fs::size::human;
use crate::repository::Repository;
use crate::repository::lost::Look;
use crate::sync::{self, SyncOptions, Synced};
use crate::{Error, Kind, Result, space};

/// Arguments of `sync`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without options, all destinations are brought to the same snapshots, but those that were forgotten somewhere stay forgotten there: the first that \
                        can be opened gets what others have, then the others what it has. Only what is \
                        missing is moved, each object is proved by hash where it arrives, and a run that is cut off is continued by the next. \
                        What was forgotten at a destination is not brought back. Key slots are made the same at all of them: \
                        what was added or removed at one is added or removed at the others.\n\nExit code 3: a destination could not be brought up."
)]
pub struct Sync {
    /// The destination that is read
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    from: Option<String>,
    /// A destination that is written to; may be repeated
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    to: Vec<String>,
    /// Only snapshots of this source
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    source: Option<String>,
}

impl Sync {
    /// Brings them up.
    ///
    /// # Errors
    /// `Usage` if there are no two destinations; errors of the origin. What fails at a destination is printed.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let all = destinations::all(session)?;
        if all.len() < 2 {
            return Err(Error::usage("there is one destination only, and nothing to bring up to it")
                .with_hint(
                    "Name several in the configuration, as [[destination]]; config.example.toml shows how.",
                ));
        }
        let (origin, from) = self.origin(session, &all)?;
        let targets: Vec<Target> = match self.to.as_slice() {
            [] => all.into_iter().filter(|target| target.name != origin.name).collect(),
            names => destinations::named(session, names)?,
        };
        if targets.iter().any(|target| target.name == origin.name) {
            return Err(Error::usage(format_args!("{} cannot be brought up to itself", origin.name))
                .with_hint("Name another destination by --from or --to."));
        }
        let mut failed = slots::sync(session, &origin, &from, &targets);
        for target in &targets {
            match self.bring(session, &from, target) {
                Ok(synced) => {
                    report(session, &origin, target, &synced)?;
                    if let Err(error) = synced.verdict() {
                        session.output.damage(&error);
                        failed += 1;
                    }
                }
                Err(e) if e.kind() == Kind::Interrupted => return Err(e),
                Err(e) if targets.len() == 1 => {
                    return Err(e.context(format_args!("destination {}", target.name)));
                }
                Err(e) => {
                    session
                        .output
                        .warning(format_args!("the destination {} was not brought up: {e}", target.name));
                    if session.output.json() {
                        let error = json!({ "from": origin.name, "to": target.name, "error": e.to_string() });
                        session.output.object("summary", &error)?;
                    }
                    failed += 1;
                }
            }
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
    }

    fn origin(&self, session: &Session, all: &[Target]) -> Result<(Target, Repository)> {
        let candidates = match &self.from {
            Some(name) => destinations::named(session, std::slice::from_ref(name))?,
            None => all.iter().filter(|target| !self.to.contains(&target.name)).cloned().collect(),
        };
        let mut first = None;
        for target in candidates {
            match session.open_target(&target) {
                Ok((repository, _)) => {
                    let siblings = destinations::siblings(all, &target, &session.output);
                    return Ok((target, repository.with_siblings(siblings)));
                }
                Err(e) if matches!(e.kind(), Kind::WrongKey | Kind::Interrupted) => return Err(e),
                Err(e) => {
                    session
                        .output
                        .warning(format_args!("the destination {} cannot be read: {e}", target.name));
                    first = first.or(Some(e));
                }
            }
        }
        Err(first.unwrap_or_else(|| Error::usage("no destination is left to read from")))
    }

    fn bring(&self, session: &Session, from: &Repository, target: &Target) -> Result<Synced> {
        let to = target.open_beside(from)?;
        if self.from.is_none() && self.to.is_empty() {
            // What was made while the first was away, or by others, is brought to it before anything is brought from it.
            let back = self.one_way(session, &to, from, Look::Daily)?;
            if !back.snapshots.is_empty() {
                session.output.notice(format_args!(
                    "{} brought from {} to {}",
                    count(back.snapshots.len() as u64, "snapshot", "snapshots"),
                    target.name,
                    from.store().location()
                ));
            }
            for damage in &back.damage {
                session.output.warning(format_args!("{}: {damage}", target.name));
            }
        }
        self.one_way(session, from, &to, Look::Now)
    }

    fn one_way(&self, session: &Session, from: &Repository, to: &Repository, look: Look) -> Result<Synced> {
        let options =
            SyncOptions { source: self.source.clone(), look, ..SyncOptions::new(&session.settings.host) };
        let running = session.begin(Work::Check);
        let context = running.context();
        let holders = || [from, to].into_iter().flat_map(space::with_siblings).collect();
        let synced = space::with_room(to, &holders, &session.settings.host, context, || {
            match sync::run(from, to, &options, context) {
                Err(e) if e.kind() == Kind::Fenced => {
                    let place = to.store().location();
                    session.output.warning(format_args!("{place}: {e}. It begins anew"));
                    sync::run(from, to, &options, context)
                }
                synced => synced,
            }
        });
        running.end();
        synced
    }
}

fn report(session: &Session, origin: &Target, target: &Target, synced: &Synced) -> Result<()> {
    let output = &session.output;
    if output.json() {
        return output.object(
            "summary",
            &json!({
                "from": origin.name,
                "to": target.name,
                "snapshots": synced.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "present": synced.present.len(),
                "incomplete": synced.incomplete.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "labels": synced.labels,
                "packs": synced.packs,
                "segments_repacked": synced.segments,
                "bytes": synced.bytes,
                "error": null,
            }),
        );
    }
    for damage in &synced.damage {
        output.warning(format_args!("{}: {damage}", origin.name));
    }
    if output.quiet() {
        return Ok(());
    }
    if synced.labels > 0 {
        let labels = count(synced.labels, "pin or tag", "pins or tags");
        output.line(format_args!("{}: {labels} brought from {}.", target.name, origin.name))?;
    }
    if synced.snapshots.is_empty() && synced.incomplete.is_empty() {
        let there = count(synced.present.len() as u64, "snapshot", "snapshots");
        return output.line(format_args!("{}: up to date with {}, {there}.", target.name, origin.name));
    }
    output.line(format_args!(
        "{}: {} brought from {}, {} ({}); {} were there.",
        target.name,
        count(synced.snapshots.len() as u64, "snapshot", "snapshots"),
        origin.name,
        count(synced.packs, "pack", "packs"),
        human(synced.bytes),
        synced.present.len(),
    ))
}
