//! What monitoring is told: the ledger's figures, and whether the daemon is alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::dues::Dues;
use super::overdue;
use crate::Result;
use crate::config::Settings;
use crate::ledger::{Ledger, RunResult, Verified};
use crate::metrics::{self, BackupFigures, Check, DestinationFigures, Figures, Health, Probe};
use crate::notify::Queue;

/// The main loop comes round at least twice a minute.
const ALIVE_WITHIN_SECONDS: u64 = 120;

/// The server of figures, if one is configured.
#[derive(Debug, Default)]
pub struct Server {
    running: Option<(std::net::SocketAddr, metrics::Server)>,
    pulse: Option<Arc<Pulse>>,
}

/// What the server's threads know of the daemon.
#[derive(Debug)]
struct Pulse {
    settings: Mutex<Arc<Settings>>,
    began: Instant,
    /// Seconds after `began` at which the main loop came round last.
    alive: AtomicU64,
}

impl Server {
    /// Serves where the configuration says, from now on.
    ///
    /// # Errors
    /// If the address cannot be had; then nothing is served.
    pub fn serve(&mut self, settings: &Arc<Settings>) -> Result<()> {
        if let Some(pulse) = &self.pulse {
            *pulse.settings.lock() = settings.clone();
        }
        let wanted = settings.metrics.listen;
        if self.running.as_ref().map(|(listen, _)| *listen) == wanted {
            return Ok(());
        }
        if let Some((_, server)) = self.running.take() {
            server.stop();
        }
        let Some(listen) = wanted else { return Ok(()) };
        let pulse = Arc::new(Pulse {
            settings: Mutex::new(settings.clone()),
            began: Instant::now(),
            alive: AtomicU64::new(0),
        });
        self.pulse = Some(pulse.clone());
        self.running = Some((listen, metrics::Server::start(listen, pulse)?));
        Ok(())
    }

    /// The main loop has come round.
    pub fn alive(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.alive.store(pulse.began.elapsed().as_secs(), Ordering::Relaxed);
        }
    }
}

impl Probe for Pulse {
    fn figures(&self) -> Result<Figures> {
        let settings = self.settings.lock().clone();
        let ledger = Ledger::open(&settings.directories.state)?;
        of_ledger(&settings, &ledger, settings.clock.now())
    }

    fn is_live(&self) -> bool {
        let silent = self.began.elapsed().as_secs().saturating_sub(self.alive.load(Ordering::Relaxed));
        silent < ALIVE_WITHIN_SECONDS
    }

    fn health(&self) -> Health {
        let settings = self.settings.lock().clone();
        let mut health = Health { is_live: self.is_live(), is_ready: true, checks: Vec::new() };
        let ledger = Ledger::open(&settings.directories.state);
        let states = ledger.and_then(|ledger| overdue::of_ledger(&settings, &ledger, settings.clock.now()));
        match states {
            Ok(states) => {
                health.checks.push(Check::ok("ledger"));
                health.checks.extend(states.iter().map(|state| {
                    let name = format!("{} at {}", state.standing.source, state.standing.destination);
                    match state.overdue_since {
                        None => Check::ok(name),
                        Some(_) => Check::not_well(
                            name,
                            metrics::State::Warning,
                            "it is overdue: see `lifeboat status`",
                        ),
                    }
                }));
            }
            Err(e) => {
                health.is_ready = false;
                health.checks.push(Check::not_well("ledger", metrics::State::Failed, e.to_string()));
            }
        }
        health
    }
}

/// All figures, from the ledger.
///
/// # Errors
/// If it cannot be read.
pub fn of_ledger(settings: &Settings, ledger: &Ledger, now: DateTime<Utc>) -> Result<Figures> {
    let tallies = ledger.tallies()?;
    let verifications = ledger.verifications()?;
    let dues = Dues::default();
    let backups = overdue::of_ledger(settings, ledger, now)?.into_iter().map(|state| {
        let standing = state.standing;
        let runs: BTreeMap<_, _> = tallies
            .iter()
            .filter(|tally| tally.source == standing.source && tally.destination == standing.destination)
            .filter_map(|tally| Some((result(&tally.result)?, tally.runs)))
            .collect();
        BackupFigures {
            last_success: standing.last_good,
            last_attempt: standing.last_try,
            last_result: standing.last_result.as_deref().and_then(result),
            runs,
            duration_seconds: standing.last_seconds,
            expected_interval_seconds: state.interval.map(|interval| interval.as_secs()),
            next_run: dues.next(settings, ledger, Some(&standing.source), now),
            verify_last_success: whole_since(&verifications, &standing.destination),
            source: standing.source,
            destination: standing.destination,
            ..BackupFigures::default()
        }
    });
    let facts = ledger.destinations()?;
    let destinations = settings.destination_names().into_iter().map(|name| {
        let known = facts.iter().find(|known| known.destination == name);
        let quota = settings.destinations.iter().find(|destination| destination.name == name);
        let damage = verifications.iter().filter(|verified| verified.destination == name).map(|v| !v.good);
        DestinationFigures {
            repository_bytes: known
                .and_then(|known| Some(("total".to_owned(), known.used_bytes?)))
                .into_iter()
                .collect(),
            quota_bytes: quota.and_then(|destination| destination.quota),
            snapshots: known.and_then(|known| known.snapshots),
            damage_found: damage.reduce(|one, other| one || other),
            destination: name,
        }
    });
    let channels = Queue::new(ledger.connection(), &settings.notify).channels()?;
    Ok(Figures {
        backups: backups.collect(),
        destinations: destinations.collect(),
        notification_failures: channels
            .into_iter()
            .map(|channel| (channel.channel, channel.failures))
            .collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Since when all parts of a destination's data are known to be whole: the oldest of them.
fn whole_since(verifications: &[Verified], destination: &str) -> Option<DateTime<Utc>> {
    let of = || verifications.iter().filter(|verified| verified.destination == destination);
    of().all(|verified| verified.good).then(|| of().map(|verified| verified.at).min())?
}

fn result(word: &str) -> Option<metrics::RunResult> {
    Some(match RunResult::of_word(word)? {
        RunResult::Good => metrics::RunResult::Success,
        RunResult::Incomplete => metrics::RunResult::Incomplete,
        RunResult::Failed => metrics::RunResult::Failure,
        RunResult::Interrupted => metrics::RunResult::Interrupted,
    })
}
