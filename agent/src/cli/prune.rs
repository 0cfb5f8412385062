//! `lifeboat prune`: free what no snapshot needs.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::progress::Work;
use super::session::{Session, Target};
use super::text::{Align, Table, count};
use super::{EXIT_INCOMPLETE, destinations};
use crate::collect::{self, CollectOptions, Outcome};
use crate::fs::size::human;
use crate::repository::Repository;
use crate::{Error, Kind, Result};

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(
    after_help = "Space that forgotten snapshots took is freed by this command only. Backups on any machine may go on meanwhile: what one of \
                        them may need is kept back until it has ended, and said. With several destinations each is pruned, unless \
                        --repository names one.\n\nExit codes: 3 the store did not let something go, or a destination could not be pruned · \
                        11 another prune is at work · 14 a snapshot cannot be read in full: nothing was deleted."
)]
pub struct Prune {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// How much that nothing uses may stay in packs that hold something in use: a share of all (5%), an amount (500M), or `unlimited`
    #[arg(long, value_name = "AMOUNT", default_value = "5%")]
    max_unused: String,
    /// Free also what backups that were cut off have stored, which their next run would go on from
    #[arg(long)]
    drop_interrupted: bool,
}

impl Prune {
    /// Prunes.
    ///
    /// # Errors
    /// `Locked` while another prune is at work; `Damaged` if a snapshot cannot be read in full; errors of the store. Of several destinations,
    /// what fails at one is printed, and the worst decides the exit code.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let max_unused = self.max_unused.parse().map_err(|e: Error| e.context("--max-unused"))?;
        let (drop_interrupted, dry_run) = (self.drop_interrupted, self.dry_run);
        prune(session, CollectOptions { max_unused, drop_interrupted, dry_run, ..CollectOptions::default() })
    }
}

/// Prunes the destinations that are meant.
///
/// # Errors
/// As [`Prune::run`].
pub fn prune(session: &Session, options: CollectOptions) -> Result<ExitCode> {
    let options = CollectOptions { host: session.settings.host.clone(), ..options };
    let targets = destinations::chosen(session, &[])?;
    if let [_] = targets.as_slice() {
        let outcome = one(session, &session.open()?, &options)?;
        return finish(session, None, &outcome);
    }
    let (first, mut worst) = (session.open_any()?, None::<Error>);
    let mut code = ExitCode::SUCCESS;
    for target in &targets {
        match open(session, &first, &targets, target).and_then(|repository| {
            let outcome = one(session, &repository, &options)?;
            finish(session, Some(target), &outcome)
        }) {
            Ok(done) if done == ExitCode::SUCCESS => {}
            Ok(incomplete) => code = incomplete,
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => {
                session.output.warning(format_args!("the destination {} was not pruned: {e}", target.name));
                if let Some(hint) = e.hint() {
                    session.output.say(format_args!("{}: {hint}", target.name));
                }
                code = ExitCode::from(EXIT_INCOMPLETE);
                if e.kind() == Kind::Damaged {
                    worst = worst.or(Some(e.context(format_args!("destination {}", target.name))));
                }
            }
        }
    }
    worst.map_or(Ok(code), Err)
}

fn open(session: &Session, first: &Repository, targets: &[Target], target: &Target) -> Result<Repository> {
    let repository = target.open_beside(first)?;
    Ok(repository.with_siblings(destinations::siblings(targets, target, &session.output)))
}

fn one(session: &Session, repository: &Repository, options: &CollectOptions) -> Result<Outcome> {
    let running = session.begin(Work::Check);
    let outcome = collect::run(repository, options, running.context());
    running.end();
    outcome
}

/// Prints what one destination came to, and says the exit code it deserves.
fn finish(session: &Session, target: Option<&Target>, outcome: &Outcome) -> Result<ExitCode> {
    if session.output.json() {
        print_object(session, target, outcome)?;
    } else {
        print(session, target, outcome)?;
    }
    outcome.verdict()?;
    Ok(if outcome.denied.objects == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

fn print_object(session: &Session, target: Option<&Target>, outcome: &Outcome) -> Result<()> {
    let tallies = outcome.plan.tallies();
    let plan = tallies.iter().map(|((action, reason), tally)| {
        json!({
            "action": action.word(),
            "reason": reason.word(),
            "packs": tally.packs,
            "bytes": tally.stored_bytes,
            "bytes_used": tally.live_bytes,
            "bytes_unused": tally.dead_bytes,
        })
    });
    let held = outcome
        .held_back
        .iter()
        .map(|held| json!({ "packs": held.packs, "bytes": held.bytes, "by": held.by }));
    session.output.object(
        "summary",
        &json!({
            "destination": target.map(|target| &target.name),
            "dry_run": outcome.dry_run,
            "plan": plan.collect::<Vec<_>>(),
            "bytes_to_free": outcome.plan.frees(),
            "bytes_to_copy": outcome.plan.copies(),
            "bytes_unused_left": outcome.plan.unused_left(),
            "packs_repacked": outcome.packs_repacked,
            "segments_copied": outcome.segments_copied,
            "segments_repacked": outcome.segments_repacked,
            "bytes_written": outcome.bytes_written,
            "packs_deleted": outcome.packs_deleted,
            "bytes_deleted": outcome.bytes_deleted,
            "bytes_freed": outcome.bytes_freed(),
            "held_back": held.collect::<Vec<_>>(),
            "denied": outcome.denied.objects,
            "bytes_denied": outcome.denied.bytes,
            "packs_needed": outcome.packs_needed,
            "damage": outcome.damage,
        }),
    )
}

fn print(session: &Session, target: Option<&Target>, outcome: &Outcome) -> Result<()> {
    let output = &session.output;
    if outcome.dry_run || output.verbose() > 0 {
        print_plan(session, target, outcome)?;
    }
    let name = target.map_or_else(String::new, |target| format!("{}: ", target.name));
    for held in &outcome.held_back {
        output.notice(format_args!("{name}{}", held.words()));
    }
    if outcome.plan.lacks_room() {
        output.notice(format_args!(
            "{name}packs that are used in part stay: there is no room to copy what is used of them. What this run freed is room for the next prune"
        ));
    }
    if outcome.packs_needed > 0 {
        output.notice(format_args!(
            "{name}{} kept: a snapshot made meanwhile needs them",
            count(outcome.packs_needed, "pack is", "packs are")
        ));
    }
    if outcome.denied.objects > 0 {
        output.warning(format_args!(
            "{name}the store did not let {} go ({}): {}. They are not used any more, and the next prune tries again",
            count(outcome.denied.objects, "object", "objects"),
            human(outcome.denied.bytes),
            outcome.denied.reason
        ));
    }
    for damage in &outcome.damage {
        output.damage(damage);
    }
    if output.quiet() {
        return Ok(());
    }
    output.line(format_args!("{name}{}", words(outcome)))
}

/// One sentence.
fn words(outcome: &Outcome) -> String {
    let frees = outcome.plan.frees();
    if outcome.dry_run {
        return match frees {
            0 => "Nothing to free.".to_owned(),
            _ => format!(
                "Would free {}; {} would be copied for it.",
                human(frees),
                human(outcome.plan.copies())
            ),
        };
    }
    if outcome.packs_deleted == 0 && outcome.packs_repacked == 0 {
        return match outcome.held_back.is_empty() && outcome.denied.objects == 0 {
            true => "Nothing to free.".to_owned(),
            false => "Nothing freed yet.".to_owned(),
        };
    }
    let deleted = count(outcome.packs_deleted, "pack", "packs");
    let freed = match u64::try_from(outcome.bytes_freed()) {
        Ok(freed) => format!("Freed {}: {deleted} deleted", human(freed)),
        Err(_) => format!("Nothing freed yet: {deleted} deleted"),
    };
    let copied = match outcome.packs_repacked {
        0 => String::new(),
        packs => format!(
            ", what is used of {} copied ({})",
            count(packs, "pack", "packs"),
            human(outcome.bytes_written)
        ),
    };
    format!("{freed}{copied}.")
}

fn print_plan(session: &Session, target: Option<&Target>, outcome: &Outcome) -> Result<()> {
    if let Some(target) = target {
        session.output.line(format_args!("{}:", target.name))?;
    }
    let columns = [
        ("", Align::Left),
        ("packs", Align::Right),
        ("used", Align::Right),
        ("unused", Align::Right),
        ("why", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for ((action, reason), tally) in outcome.plan.tallies() {
        table.row([
            action.word().to_owned(),
            crate::words::grouped(tally.packs),
            human(tally.live_bytes),
            human(tally.dead_bytes),
            reason.words().to_owned(),
        ]);
    }
    table.lines().into_iter().try_for_each(|line| session.output.line(line))
}
