//! What has not been backed up for too long: nothing good since twice the interval that the schedule promises.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::dues::takes;
use crate::Result;
use crate::config::{Settings, Source};
use crate::ledger::{Ledger, Standing};
use crate::notify::{Event, EventKind};
use crate::schedule;

/// So many intervals may pass without anything good.
const INTERVALS: i32 = 2;
/// Of an interval of a minute twice of it is no time at all to back something up in.
const AT_LEAST: TimeDelta = TimeDelta::minutes(10);

/// How a source stands at one of its destinations.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What is remembered of it; nothing but the names if nothing is.
    pub standing: Standing,
    /// The interval that the schedule promises; `None` without a schedule.
    pub interval: Option<Duration>,
    /// Since when it is overdue, if it is.
    pub overdue_since: Option<DateTime<Utc>>,
}

/// The interval that a source's schedule promises: that of its most frequent class.
pub fn interval(settings: &Settings, source: &Source, now: DateTime<Utc>) -> Option<Duration> {
    let schedules = &settings.schedule;
    let classes = schedules.classes.iter().filter(|class| takes(source, &class.name));
    let crons = classes.filter_map(|class| class.cron.as_ref());
    crons.map(|cron| schedule::expected_interval(cron, schedules.zone, now)).min()
}

/// How every source stands at each of its destinations. `first_seen` says since when a source is known that has never been backed up.
pub fn states(
    settings: &Settings,
    standings: &[Standing],
    first_seen: impl Fn(&str) -> DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<State> {
    let known: HashMap<(&str, &str), &Standing> = standings
        .iter()
        .map(|standing| ((standing.source.as_str(), standing.destination.as_str()), standing))
        .collect();
    let of_source = |source: &Source| -> Vec<State> {
        let interval = interval(settings, source, now);
        let state = |destination: String| {
            let standing = known.get(&(source.name.as_str(), destination.as_str())).copied().cloned();
            let nothing = || Standing { source: source.name.clone(), destination, ..Standing::default() };
            let standing = standing.unwrap_or_else(nothing);
            let patience = interval.map(|interval| {
                (TimeDelta::from_std(interval).unwrap_or(TimeDelta::MAX / 4) * INTERVALS).max(AT_LEAST)
            });
            // What a wrong clock has left in the future says nothing.
            let believed = standing.last_good.filter(|at| *at - now <= schedule::due::AHEAD_MAX);
            let since = believed.unwrap_or_else(|| first_seen(&source.name).min(now));
            let until = patience.and_then(|patience| since.checked_add_signed(patience));
            State { standing, interval, overdue_since: until.filter(|until| *until < now) }
        };
        settings.destinations_of(source).into_iter().map(state).collect()
    };
    settings.sources.iter().flat_map(of_source).collect()
}

/// As [`states`], from the ledger.
///
/// # Errors
/// If it cannot be read.
pub fn of_ledger(settings: &Settings, ledger: &Ledger, now: DateTime<Utc>) -> Result<Vec<State>> {
    let standings = ledger.standings()?;
    // A ledger that cannot be written does not know it: then it is now.
    Ok(states(settings, &standings, |source| ledger.first_seen(source, now).unwrap_or(now), now))
}

/// When this process last saw a snapshot of a source (first) stored at a destination (second).
pub type Stored = HashMap<(String, String), DateTime<Utc>>;

/// An event for each that is overdue.
///
/// # Errors
/// If the ledger cannot be read.
pub fn look(settings: &Settings, ledger: &Ledger, stored: &Stored, now: DateTime<Utc>) -> Result<Vec<Event>> {
    let mut standings = ledger.standings()?;
    // What was seen counts although a full disk keeps the ledger from knowing it.
    for ((source, destination), at) in stored {
        let is_it = |known: &&mut Standing| known.source == *source && known.destination == *destination;
        match standings.iter_mut().find(is_it) {
            Some(known) => known.last_good = known.last_good.max(Some(*at)),
            None => standings.push(Standing {
                source: source.clone(),
                destination: destination.clone(),
                last_good: Some(*at),
                ..Standing::default()
            }),
        }
    }
    let first_seen = |source: &str| ledger.first_seen(source, now).unwrap_or(now);
    Ok(states(settings, &standings, first_seen, now)
        .into_iter()
        .filter(|state| state.overdue_since.is_some())
        .map(|state| event(settings, &state, now))
        .collect())
}

fn event(settings: &Settings, state: &State, now: DateTime<Utc>) -> Event {
    let Standing { source, destination, last_good, .. } = &state.standing;
    let what = match last_good {
        Some(last) => {
            format!("{source} has no snapshot at {destination} since {}", last.format("%Y-%m-%d %H:%M UTC"))
        }
        None => format!("{source} was never backed up to {destination}"),
    };
    let mut event = Event::new(EventKind::Overdue, &settings.host, now, what);
    event.source = Some(source.clone());
    event.destination = Some(destination.clone());
    event.last_good = *last_good;
    event.since = state.overdue_since;
    event.next_step =
        Some(format!("Look at `lifeboat runs --source {source}`; `lifeboat run {source}` tries at once."));
    event
}
