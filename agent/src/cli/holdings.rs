//! What each destination holds, from listings: asked of all at once.

use std::collections::HashSet;

use lifeboat_providers::{Proof, Sha256, Usage};

use super::destinations;
use super::session::{Session, Target};
use crate::repository::{Area, Repository, layout};
use crate::snapshot::History;
use crate::{Error, Result};

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
    /// How what is stored there is proved.
    pub proof: Proof,
    /// Space, as far as the store tells.
    pub usage: Usage,
}

/// Asks all destinations but the one that is open already, and puts that one among them.
///
/// # Errors
/// `Usage` if the configuration means nothing. What a destination cannot say is in the result.
pub fn ask(session: &Session, open: &Repository, history: &History) -> Result<Vec<Holding>> {
    let targets = destinations::all(&session.settings)?;
    if let [only] = targets.as_slice() {
        // It was listed a moment ago.
        let snapshots = history.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let usage = open.store().usage().unwrap_or_default();
        let held = Ok(Held { snapshots, proof: open.store().capabilities().proof, usage });
        return Ok(vec![Holding { name: only.name.clone(), place: only.location.place(), held }]);
    }
    let own = open.store().location();
    std::thread::scope(|scope| {
        let start = |target: &Target| {
            let (name, place) = (target.name.clone(), target.location.place());
            let (target, is_open) = (target.clone(), place == own);
            let work = move || {
                if is_open {
                    return look(open);
                }
                look(&open.open_sibling(target.connect(crate::repository::connect::Mode::Open)?)?)
            };
            (name, place, scope.spawn(work))
        };
        let threads: Vec<_> = targets.iter().map(start).collect();
        let broke_down = |_| Err(Error::failed("a thread broke down: this is a bug in lifeboat"));
        let ended = threads.into_iter().map(|(name, place, thread)| Holding {
            name,
            place,
            held: thread.join().unwrap_or_else(broke_down),
        });
        Ok(ended.collect())
    })
}

fn look(repository: &Repository) -> Result<Held> {
    let listed = repository.store().list(&Area::Snapshots.prefix())?;
    let snapshots = listed.iter().filter_map(|info| layout::sha256_of(&info.key).ok()).collect();
    let usage = repository.store().usage().unwrap_or_default();
    Ok(Held { snapshots, proof: repository.store().capabilities().proof, usage })
}
