//! Which sessions are over, and ending them. See RFC 4, "When a session is over".
//!
//! A session that is taken for over is fenced before anybody acts on it, also one whose process is known to be dead: its last request may
//! still be on its way.

use std::collections::{HashMap, HashSet};

use lifeboat_providers::{Key, Sha256};

use super::object::{Role, SessionObject};
use super::observed::Observations;
use super::open::is_open_here;
use super::outcome::{self, Outcome};
use super::process::Process;
use crate::events::{Context, Event};
use crate::repository::{Area, Repository, layout, store};
use crate::seal::header::ObjectKind;
use crate::words::count;
use crate::{Error, Kind, Result};

/// A session that is there.
#[derive(Debug)]
pub struct Listed {
    /// Its number: the name of its objects.
    pub id: u128,
    /// Its key.
    pub key: Key,
    /// What it says of itself, or why that cannot be read.
    pub session: Result<SessionObject>,
    /// The hash of its stored bytes: changes with every beat.
    pub stored: Sha256,
}

/// Whether a session is over, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is not.
    AtWork,
    /// Somebody has said how it ended, or nobody can read what was said.
    Ended,
    /// Its process is known to be dead.
    Dead,
    /// It was not heard of for the stale time.
    Stale,
}

/// All sessions after those that are over were ended.
#[derive(Debug, Default)]
pub struct Settled {
    /// Those that are not over.
    pub at_work: Vec<Listed>,
    /// Those that were fenced. Their objects are there still.
    pub over: Vec<Listed>,
    /// Snapshots that were put for those that had committed, which are removed.
    pub helped: Vec<Sha256>,
}

impl Listed {
    /// Whether it is of a collector. One that cannot be read counts as a writer.
    pub fn is_collector(&self) -> bool {
        self.session.as_ref().is_ok_and(|session| session.role == Role::Collector)
    }

    /// Whether it holds back the sweep of a tombstone, unless it is over.
    pub fn holds_back(&self, tombstone: &Sha256) -> bool {
        !self.session.as_ref().is_ok_and(|session| session.has_seen(tombstone))
    }

    /// Who it is, for messages.
    pub fn words(&self) -> String {
        match &self.session {
            Ok(session) => session.words(),
            Err(e) => format!("a writer whose {} cannot be read ({e})", self.key),
        }
    }
}

/// All sessions that are there now. Files that are none are left out: `check` names them.
///
/// # Errors
/// Errors of the store. One that cannot be read is in the result.
pub fn list(repository: &Repository) -> Result<Vec<Listed>> {
    let infos = repository.store().list_now(&[Area::Sessions])?.concat();
    read_listed(repository, infos.into_iter().map(|info| info.key))
}

/// Reads sessions that were listed; those that are gone since then are left out.
///
/// # Errors
/// As [`list`].
pub fn read_listed(repository: &Repository, keys: impl Iterator<Item = Key>) -> Result<Vec<Listed>> {
    let named: Vec<(u128, Key)> = keys.filter_map(|key| Some((layout::session_id(&key)?, key))).collect();
    let keys: Vec<Key> = named.iter().map(|(_, key)| key.clone()).collect();
    let mut listed = Vec::new();
    for ((id, key), stored) in named.into_iter().zip(repository.store().get_each(keys)) {
        let stored = match stored {
            Ok(stored) => stored,
            Err(e) if store::is_missing(&e) => continue,
            Err(e) if e.kind() == Kind::Damaged => {
                listed.push(Listed { id, key, session: Err(e), stored: Sha256::of(b"") });
                continue;
            }
            Err(e) => return Err(e),
        };
        let session = repository
            .open_object(ObjectKind::Session, &stored)
            .and_then(|json| SessionObject::decode(&json))
            .map_err(|e| e.context(&key));
        listed.push(Listed { id, key, session, stored: Sha256::of(&stored) });
    }
    Ok(listed)
}

/// Whether a session is over. `said` is what its outcome says, if there is one.
pub fn state(
    repository: &Repository,
    listed: &Listed,
    said: Option<&Result<Outcome>>,
    observations: &mut Observations,
) -> State {
    let timing = repository.timing();
    let name = observed_name(listed.id);
    let unchanged = observations.see(&name, &listed.stored.to_string(), &*timing.clock);
    if let Some(Ok(_)) = said {
        return State::Ended;
    }
    let is_heard_of = listed.session.as_ref().map_or(true, SessionObject::is_heard_of);
    let stale = match is_heard_of {
        true => timing.stale(outcome::can_fence(repository)),
        false => timing.stale_old_version,
    };
    let is_dead = is_known_dead(listed, &timing.process) && {
        let name = format!("{DEAD_PREFIX}{:032x}", listed.id);
        let dead_for = observations.see(&name, "", &*timing.clock);
        outcome::can_fence(repository) || dead_for >= timing.dead_without_fence
    };
    if is_dead {
        State::Dead
    } else if unchanged >= stale {
        // An outcome that cannot be read may be a commit: its writer gets the stale time to put its snapshot.
        if said.is_some() { State::Ended } else { State::Stale }
    } else {
        State::AtWork
    }
}

/// Whether the process of a session is known to have ended; a session of this very process that it does not have open any more counts.
pub(super) fn is_known_dead(listed: &Listed, own: &Process) -> bool {
    let Ok(session) = &listed.session else { return false };
    let process = session.process();
    process.is_known_dead(own) || (process.is(own) && !is_open_here(listed.id))
}

/// Lists all sessions but `own`, ends those that are over, and puts the snapshots of those that had committed.
///
/// # Errors
/// Errors of the store; if the state directory cannot be used.
pub fn settle(repository: &Repository, own: Option<u128>, context: &Context) -> Result<Settled> {
    // Sessions before outcomes: one that ends in between is seen with its outcome, or not at all the next time.
    let sessions = list(repository)?;
    if !sessions.is_empty() {
        let mut observations = Observations::open(repository)?;
        for prefix in [SESSION_PREFIX, DEAD_PREFIX] {
            let names = sessions.iter().map(|listed| format!("{prefix}{:032x}", listed.id)).collect();
            observations.retain(prefix, &names);
        }
        save(&observations, context);
    }
    settle_listed(repository, sessions, own, context)
}

pub(super) fn settle_listed(
    repository: &Repository,
    sessions: Vec<Listed>,
    own: Option<u128>,
    context: &Context,
) -> Result<Settled> {
    let mut settled = Settled::default();
    if sessions.iter().all(|listed| Some(listed.id) == own) {
        return Ok(settled);
    }
    let mut said = read_outcomes(repository)?;
    let mut observations = Observations::open(repository)?;
    let mut over = Vec::new();
    for listed in sessions {
        if Some(listed.id) == own {
            continue;
        }
        match state(repository, &listed, said.get(&listed.id), &mut observations) {
            State::AtWork => settled.at_work.push(listed),
            _ => over.push(listed),
        }
    }
    save(&observations, context);
    drop(observations);
    for listed in over {
        let ended = match said.remove(&listed.id) {
            Some(outcome) => outcome,
            None => outcome::fence(repository, listed.id),
        };
        match ended {
            Ok(outcome @ Outcome::Committed(_)) => {
                settled.helped.extend(outcome::help(repository, &outcome)?);
                // Nothing is left to be done for it.
                warn_of(repository.store().delete_many(&[layout::outcome(listed.id)?, listed.key]), context);
                continue;
            }
            Ok(Outcome::Fenced) => {}
            // Nobody can commit by it any more, and what it says nobody can help with.
            Err(e) if outcome::is_unreadable(&e) => {
                context.report(Event::Damage(format!(
                    "{e}: a snapshot that was being written may not be there"
                )));
            }
            Err(e) => return Err(e),
        }
        settled.over.push(listed);
    }
    if !settled.helped.is_empty() {
        context.report(Event::Notice(format!(
            "{} of a run that was cut off in its last step: completed",
            count(settled.helped.len() as u64, "snapshot", "snapshots")
        )));
    }
    Ok(settled)
}

/// What all outcomes say, or why they cannot be read.
fn read_outcomes(repository: &Repository) -> Result<HashMap<u128, Result<Outcome>>> {
    let mut said = HashMap::new();
    if !outcome::can_fence(repository) {
        return Ok(said);
    }
    for info in repository.store().list_now(&[Area::Outcomes])?.concat() {
        let Some(id) = layout::session_id(&info.key) else { continue };
        match outcome::read(repository, id) {
            Ok(Some(outcome)) => drop(said.insert(id, Ok(outcome))),
            Ok(None) => {}
            Err(e) if outcome::is_unreadable(&e) => drop(said.insert(id, Err(e))),
            Err(e) => return Err(e),
        }
    }
    Ok(said)
}

/// Removes the objects of sessions that are over and done with. A fence stays: see [`expire`]. Those that cannot be removed are returned.
pub fn remove(repository: &Repository, over: &[Listed]) -> Vec<Error> {
    let keys: Vec<Key> = over.iter().map(|listed| listed.key.clone()).collect();
    repository.store().delete_many(&keys).into_iter().filter_map(Result::err).collect()
}

/// Removes outcomes whose session is gone and that this machine has seen for long enough: no process that could meet them sleeps that long.
///
/// # Errors
/// Errors of the store; if the state directory cannot be used.
pub fn expire(repository: &Repository, context: &Context) -> Result<u64> {
    let timing = repository.timing();
    let outcomes = repository.store().list_now(&[Area::Outcomes])?.concat();
    if outcomes.is_empty() {
        return Ok(0);
    }
    // Listed after the outcomes: one that has its session has it still.
    let sessions = repository.store().list_now(&[Area::Sessions])?.concat();
    let sessions: HashSet<u128> = sessions.iter().filter_map(|info| layout::session_id(&info.key)).collect();
    let mut observations = Observations::open(repository)?;
    let (mut names, mut old) = (HashSet::new(), Vec::new());
    for info in outcomes {
        let Some(id) = layout::session_id(&info.key).filter(|id| !sessions.contains(id)) else { continue };
        let name = format!("{OUTCOME_PREFIX}{id:032x}");
        if observations.see(&name, "", &*timing.clock) >= timing.outcomes_stay {
            old.push(info.key);
        }
        names.insert(name);
    }
    observations.retain(OUTCOME_PREFIX, &names);
    save(&observations, context);
    drop(observations);
    let failed = warn_of(repository.store().delete_many(&old), context);
    Ok((old.len() - failed) as u64)
}

/// Reports what could not be removed, which a policy may forbid; returns how many.
fn warn_of(removed: Vec<Result<()>>, context: &Context) -> usize {
    let failed: Vec<Error> = removed.into_iter().filter_map(Result::err).collect();
    for e in &failed {
        context.report(Event::Warning(format!("{e}. It takes up little and is tried again later.")));
    }
    failed.len()
}

/// What is observed: names of this machine's own memory, not of objects.
const SESSION_PREFIX: &str = "session:";
const DEAD_PREFIX: &str = "dead:";
const OUTCOME_PREFIX: &str = "outcome:";

fn observed_name(id: u128) -> String {
    format!("{SESSION_PREFIX}{id:032x}")
}

fn save(observations: &Observations, context: &Context) {
    if let Err(e) = observations.save() {
        context.report(Event::Warning(format!(
            "{e}: since when other writers were not heard of is not remembered, so that they are waited for longer"
        )));
    }
}
