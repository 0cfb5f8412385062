//! What each destination holds, from listings: asked of all at once.

use std::collections::HashSet;

use lifeboat_providers::{Proof, Sha256};

use super::destinations;
use super::session::{Session, Target};
use crate::repository::{Area, Repository, layout};
use crate::snapshot::{History, Snapshot};
use crate::space::{Elsewhere, Standing};
use crate::sync::slots::SlotNames;
use crate::{Result, threads};

/// A destination and what is there.
pub struct Holding {
    /// What it is called.
    pub name: String,
    /// What its place is.
    pub place: String,
    /// What is there, or why that cannot be said.
    pub held: Result<Held>,
}

/// What is at a destination.
pub struct Held {
    /// Snapshots by id.
    pub snapshots: HashSet<Sha256>,
    /// What they say, and which were forgotten there, if that was asked for.
    pub history: Option<History>,
    /// Key slots, as far as they were asked for.
    pub slots: Option<SlotNames>,
    /// How what is stored there is proved.
    pub proof: Proof,
    /// Space, as far as it was asked for and the store tells.
    pub space: Standing,
    /// What is not meant for it.
    elsewhere: Elsewhere,
}

/// What else is asked besides the snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    Snapshots,
    /// What they say, which were forgotten, and the key slots.
    History,
    /// That, and the space, which is a request of its own at some stores. How much is taken is counted where there is a quota, and on this machine.
    Space,
    /// That, and how much is taken is counted everywhere, by a listing of all that is there.
    Size,
}

/// Asks all destinations, at once. One that is the only one is not asked for its snapshots where they are `known`.
///
/// # Errors
/// `Usage` if the configuration means nothing. What a destination cannot say is in the result.
pub fn ask(session: &Session, open: &Repository, known: Option<&History>, ask: Ask) -> Result<Vec<Holding>> {
    let targets = destinations::all(session)?;
    let own = open.store().location();
    let is_only = targets.len() == 1;
    let held = threads::at_once(&targets, |target| match known.filter(|_| is_only) {
        Some(history) => Ok(Held {
            snapshots: history.snapshots.iter().map(|snapshot| snapshot.id).collect(),
            history: None,
            // One alone differs from nobody.
            slots: None,
            proof: open.store().capabilities().proof,
            space: space(open, ask),
            elsewhere: target.space.elsewhere.clone(),
        }),
        None if target.location.place() == own => look(open, ask),
        None => look(&target.open_beside(open)?, ask),
    });
    let holding = |(target, held): (&Target, _)| Holding {
        name: target.name.clone(),
        place: target.location.place(),
        held,
    };
    Ok(targets.iter().zip(held).map(holding).collect())
}

fn look(repository: &Repository, ask: Ask) -> Result<Held> {
    let (snapshots, history, slots) = match ask {
        Ask::Snapshots => {
            let listed = repository.store().list(&Area::Snapshots.prefix())?;
            (listed.iter().filter_map(|info| layout::sha256_of(&info.key).ok()).collect(), None, None)
        }
        Ask::History | Ask::Space | Ask::Size => {
            let history = repository.load_history()?;
            let ids = history.snapshots.iter().map(|snapshot| snapshot.id).collect();
            (ids, Some(history), Some(SlotNames::of(repository)?))
        }
    };
    let proof = repository.store().capabilities().proof;
    let elsewhere = repository.space().policy().elsewhere.clone();
    Ok(Held { snapshots, history, slots, proof, space: space(repository, ask), elsewhere })
}

fn space(repository: &Repository, ask: Ask) -> Standing {
    if matches!(ask, Ask::Snapshots | Ask::History) {
        return Standing::default();
    }
    let mut standing = repository.measure_space().unwrap_or_default();
    let is_near = || repository.store().capabilities().local_root.is_some();
    if standing.used.is_none() && (ask == Ask::Size || is_near()) {
        standing.used = repository.stored_bytes().ok();
    }
    standing
}

/// All snapshots that any destination has, the newest last.
pub fn union(holdings: &[Holding]) -> Vec<&Snapshot> {
    let mut known = HashSet::new();
    let histories = holdings.iter().filter_map(|holding| holding.held.as_ref().ok()?.history.as_ref());
    let mut all: Vec<&Snapshot> = histories
        .flat_map(|history| &history.snapshots)
        .filter(|snapshot| known.insert(snapshot.id))
        .collect();
    all.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.id));
    all
}

impl Held {
    /// Those of `all` that are not here and were not forgotten here.
    pub fn lacking<'s>(&self, all: &[&'s Snapshot]) -> Vec<&'s Snapshot> {
        let was_forgotten = |snapshot: &Snapshot| {
            let forgotten = self.history.as_ref().map(|history| &history.forgotten);
            forgotten.is_some_and(|forgotten| forgotten.contains_key(&snapshot.id.to_string()))
        };
        let is_lacking =
            |s: &&&Snapshot| !self.snapshots.contains(&s.id) && !was_forgotten(s) && !self.elsewhere.has(s);
        all.iter().filter(is_lacking).copied().collect()
    }
}
