//! How each source of the configuration stands at each of its destinations: what `status` shows first.

use std::collections::HashMap;
use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::EXIT_INCOMPLETE;
use super::holdings::Holding;
use super::run;
use super::session::Session;
use super::text::{self, Align, Table, count};
use crate::daemon::dues::Dues;
use crate::daemon::overdue::{self, State};
use crate::ledger::{Ledger, Seen, Standing, Verified};
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// A source at a destination.
pub struct Protected {
    state: State,
    next_run: Option<DateTime<Utc>>,
    /// Snapshots of it there; `None` if the destination was not asked.
    snapshots: Option<u64>,
    /// At how many destinations its newest snapshot is.
    copies: Option<u64>,
    /// When the part of the data there that was not read for longest was read.
    read_since: Option<DateTime<Utc>>,
}

/// All sources at all their destinations; by what the destinations hold where they were asked, else by the ledger.
///
/// # Errors
/// If the ledger cannot be read.
pub fn all(session: &Session, holdings: Option<&[Holding]>) -> Result<Vec<Protected>> {
    let settings = &session.settings;
    if settings.sources.is_empty() {
        return Ok(Vec::new());
    }
    let now = settings.clock.now();
    let ledger = Ledger::open(&settings.directories.state)?;
    let mut standings = ledger.standings()?;
    if let Some(holdings) = holdings {
        // What monitoring is told of sizes. A ledger that cannot be written is no reason to show nothing.
        let _ = see(&ledger, holdings, now);
    }
    let held = holdings.map(|holdings| Held::of(session, holdings));
    if let Some(held) = &held {
        held.correct(&mut standings);
    }
    let verified = ledger.verifications()?;
    let dues = Dues::default();
    let first_seen = |source: &str| ledger.first_seen(source, now).unwrap_or(now);
    let states = overdue::states(settings, &standings, first_seen, now);
    let protected = states.into_iter().map(|state| {
        let Standing { source, destination, .. } = &state.standing;
        Protected {
            next_run: dues.next(settings, &ledger, Some(source), now),
            snapshots: held.as_ref().and_then(|held| held.number(source, destination)),
            copies: held.as_ref().map(|held| held.copies(source)),
            read_since: oldest(&verified, destination),
            state,
        }
    });
    Ok(protected.collect())
}

/// What was last seen at each destination; nothing if the ledger cannot be read.
pub fn remembered(session: &Session) -> Vec<Seen> {
    let ledger = Ledger::open(&session.settings.directories.state);
    ledger.and_then(|ledger| ledger.destinations()).unwrap_or_default()
}

/// Notes how much is at each destination.
///
/// # Errors
/// If the ledger cannot be written.
pub fn see(ledger: &Ledger, holdings: &[Holding], now: DateTime<Utc>) -> Result<()> {
    for holding in holdings {
        let Ok(held) = &holding.held else { continue };
        ledger.see(&Seen {
            destination: holding.name.clone(),
            at: now,
            snapshots: Some(held.snapshots.len() as u64),
            used_bytes: held.space.used,
        })?;
    }
    Ok(())
}

fn oldest(verified: &[Verified], destination: &str) -> Option<DateTime<Utc>> {
    verified.iter().filter(|known| known.destination == destination && known.good).map(|known| known.at).min()
}

/// This machine's snapshots of its sources, by destination and source.
struct Held<'h> {
    by_place: HashMap<(&'h str, &'h str), Vec<&'h Snapshot>>,
    asked: Vec<&'h str>,
}

impl<'h> Held<'h> {
    fn of(session: &Session, holdings: &'h [Holding]) -> Self {
        let mut by_place: HashMap<(&str, &str), Vec<&Snapshot>> = HashMap::new();
        let mut asked = Vec::new();
        for holding in holdings {
            let Some(history) = holding.held.as_ref().ok().and_then(|held| held.history.as_ref()) else {
                continue;
            };
            asked.push(holding.name.as_str());
            let own = history.snapshots.iter().filter(|s| s.manifest.host == session.settings.host);
            for snapshot in own {
                if let Some(source) = &snapshot.manifest.source {
                    by_place.entry((source, &holding.name)).or_default().push(snapshot);
                }
            }
        }
        Self { by_place, asked }
    }

    fn newest(&self, source: &str, destination: &str) -> Option<&'h Snapshot> {
        let all = self.by_place.get(&(source, destination))?;
        all.iter().max_by_key(|snapshot| snapshot.manifest.time).copied()
    }

    fn number(&self, source: &str, destination: &str) -> Option<u64> {
        let number = self.by_place.get(&(source, destination)).map_or(0, Vec::len) as u64;
        self.asked.contains(&destination).then_some(number)
    }

    fn copies(&self, source: &str) -> u64 {
        let all = self.by_place.iter().filter(|((name, _), _)| *name == source).flat_map(|(_, all)| all);
        let Some(newest) = all.max_by_key(|snapshot| (snapshot.manifest.time, snapshot.id)) else { return 0 };
        let has = |place: &&&str| {
            let there = self.by_place.get(&(source, **place));
            there.is_some_and(|all| all.iter().any(|snapshot| snapshot.id == newest.id))
        };
        self.asked.iter().filter(has).count() as u64
    }

    /// What is there counts, not what a ledger says was.
    fn correct(&self, standings: &mut Vec<Standing>) {
        for standing in
            standings.iter_mut().filter(|standing| self.asked.contains(&standing.destination.as_str()))
        {
            let newest = self.newest(&standing.source, &standing.destination);
            standing.last_good = newest.map(|snapshot| snapshot.manifest.time.to_utc());
        }
        for (source, destination) in self.by_place.keys() {
            let is_known = standings.iter().any(|s| s.source == *source && s.destination == *destination);
            if !is_known {
                standings.push(Standing {
                    source: (*source).to_owned(),
                    destination: (*destination).to_owned(),
                    last_good: self
                        .newest(source, destination)
                        .map(|snapshot| snapshot.manifest.time.to_utc()),
                    ..Standing::default()
                });
            }
        }
    }
}

impl Protected {
    /// Whether nothing good came there for too long.
    pub const fn is_overdue(&self) -> bool {
        self.state.overdue_since.is_some()
    }

    /// Whether it is overdue, or was tried and nothing good ever came there.
    pub fn is_wrong(&self) -> bool {
        let has_failed = matches!(self.state.standing.last_result.as_deref(), Some("failed" | "interrupted"));
        self.is_overdue() || (self.state.standing.last_good.is_none() && has_failed)
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        &self.state.standing.source
    }

    /// Whether there is a snapshot of it at the destination, as far as is remembered.
    pub const fn was_ever_good(&self) -> bool {
        self.state.standing.last_good.is_some()
    }

    /// How it stands, in words: `at disk: last good 2 hours ago`.
    pub fn words(&self, now: DateTime<Utc>) -> String {
        let Standing { destination, last_good, .. } = &self.state.standing;
        let last = last_good.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(now - at)));
        format!("at {destination}: last good {last}")
    }

    fn object(&self, now: DateTime<Utc>) -> Value {
        let (state, standing) = (&self.state, &self.state.standing);
        json!({
            "source": standing.source,
            "destination": standing.destination,
            "last_good": standing.last_good,
            "age_seconds": standing.last_good.map(|at| (now - at).num_seconds()),
            "interval_seconds": state.interval.map(|interval| interval.as_secs()),
            "overdue": self.is_overdue(),
            "overdue_since": state.overdue_since,
            "next_run": self.next_run,
            "snapshots": self.snapshots,
            "copies": self.copies,
            "data_read_since": self.read_since,
            "last_result": standing.last_result,
        })
    }
}

/// Prints them, as a table or objects.
///
/// # Errors
/// If standard output cannot be written.
pub fn print(session: &Session, all: &[Protected]) -> Result<()> {
    let (output, now) = (&session.output, session.settings.clock.now());
    if output.json() {
        all.iter().try_for_each(|protected| output.object("source", &protected.object(now)))?;
    }
    if !all.is_empty() {
        daemon(session)?;
    }
    if output.json() {
        return Ok(());
    }
    use Align::{Left, Right};
    let columns = [
        ("Source", Left),
        ("Destination", Left),
        ("Last good", Left),
        ("Age", Right),
        ("Next run", Left),
        ("Snapshots", Right),
        ("Copies", Right),
        ("Data read since", Left),
        ("", Left),
    ];
    let mut table = Table::new(&columns);
    let local = |time: Option<DateTime<Utc>>| {
        time.map_or_else(
            || "-".to_owned(),
            |time| text::local_time(&time.with_timezone(&chrono::Local).fixed_offset()),
        )
    };
    let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), text::grouped);
    for protected in all {
        let standing = &protected.state.standing;
        let trouble = match (protected.is_overdue(), standing.last_result.as_deref()) {
            (true, _) => output.alarmed("OVERDUE"),
            (false, Some(result @ ("failed" | "incomplete"))) => result.to_owned(),
            (false, _) => String::new(),
        };
        table.row([
            standing.source.clone(),
            standing.destination.clone(),
            local(standing.last_good),
            standing.last_good.map_or_else(|| "never".to_owned(), |at| age(now - at)),
            local(protected.next_run),
            number(protected.snapshots),
            number(protected.copies),
            local(protected.read_since),
            trouble,
        ]);
    }
    table.lines().into_iter().try_for_each(|line| output.line(line))?;
    if !all.is_empty() { output.line("") } else { Ok(()) }
}

/// Says that nobody runs what is due. Who may not ask the daemon is told nothing.
fn daemon(session: &Session) -> Result<()> {
    let Ok(socket) = run::daemon_of(session) else { return Ok(()) };
    if session.output.json() {
        return session.output.object("daemon", &json!({ "running": socket.is_some() }));
    }
    if socket.is_none() {
        session.output.warning(
            "no daemon runs with this configuration: what is due is not begun, unless a timer does it. `systemctl start lifeboat` starts one",
        );
    }
    Ok(())
}

/// For an outside monitor: one line for each thing that is wrong, by the ledger alone.
///
/// # Errors
/// If the ledger cannot be read; if standard output cannot be written.
pub fn check(session: &Session) -> Result<ExitCode> {
    let all = all(session, None)?;
    if all.is_empty() {
        return Err(Error::usage("there is no [[source]] to watch over").with_hint(
            "Name the configuration by --config, or ask as the user of the service: sudo -u lifeboat lifeboat status --check",
        ));
    }
    let now = session.settings.clock.now();
    let wrong: Vec<&Protected> = all.iter().filter(|protected| protected.is_wrong()).collect();
    let output = &session.output;
    for protected in &wrong {
        if output.json() {
            output.object("source", &protected.object(now))?;
        } else {
            let word = if protected.is_overdue() { "OVERDUE" } else { "FAILED" };
            output.line(format_args!("{word}: {} {}", protected.source(), protected.words(now)))?;
        }
    }
    if wrong.is_empty() && !output.json() {
        let number =
            count(all.len() as u64, "source at its destination is", "sources at their destinations are");
        output.line(format_args!("OK: {number} as the schedule promises"))?;
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

fn age(age: TimeDelta) -> String {
    match u64::try_from(age.num_seconds()) {
        Ok(seconds) => text::coarse(seconds),
        Err(_) => "in the future".to_owned(),
    }
}
