//! What each destination holds, from listings: asked of all at once.

use std::collections::HashSet;

use lifeboat_providers::{Proof, Sha256, Usage};

use super::destinations;
use super::session::{Session, Target};
use crate::repository::connect::Mode;
use crate::repository::{Area, Repository, layout};
use crate::snapshot::History;
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
    /// Key slots, as far as they were asked for.
    pub slots: Option<SlotNames>,
    /// How what is stored there is proved.
    pub proof: Proof,
    /// Space, as far as it was asked for and the store tells.
    pub usage: Usage,
}

/// What else is asked besides the snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    Snapshots,
    /// The key slots.
    Slots,
    /// The key slots, and the space too, which is a request of its own at some stores.
    Space,
}

/// Asks all destinations, at once. One that is the only one is not asked for its snapshots where its history is `known`.
///
/// # Errors
/// `Usage` if the configuration means nothing. What a destination cannot say is in the result.
pub fn ask(session: &Session, open: &Repository, known: Option<&History>, ask: Ask) -> Result<Vec<Holding>> {
    let targets = destinations::all(&session.settings)?;
    let own = open.store().location();
    let is_only = targets.len() == 1;
    let held = threads::at_once(&targets, |target| match known.filter(|_| is_only) {
        // One alone differs from nobody.
        Some(history) => Ok(Held::of(open, history.snapshots.iter().map(|snapshot| snapshot.id), ask, None)),
        None if target.location.place() == own => look(open, ask),
        None => look(&open.open_sibling(target.connect(Mode::Open)?)?, ask),
    });
    let holding = |(target, held): (&Target, _)| Holding {
        name: target.name.clone(),
        place: target.location.place(),
        held,
    };
    Ok(targets.iter().zip(held).map(holding).collect())
}

fn look(repository: &Repository, ask: Ask) -> Result<Held> {
    let listed = repository.store().list(&Area::Snapshots.prefix())?;
    let slots = match ask {
        Ask::Snapshots => None,
        Ask::Slots | Ask::Space => Some(SlotNames::of(repository)?),
    };
    Ok(Held::of(repository, listed.iter().filter_map(|info| layout::sha256_of(&info.key).ok()), ask, slots))
}

impl Held {
    fn of(
        repository: &Repository,
        snapshots: impl Iterator<Item = Sha256>,
        ask: Ask,
        slots: Option<SlotNames>,
    ) -> Self {
        let usage = match ask {
            Ask::Snapshots | Ask::Slots => Usage::default(),
            Ask::Space => repository.store().usage().unwrap_or_default(),
        };
        let proof = repository.store().capabilities().proof;
        Self { snapshots: snapshots.collect(), slots, proof, usage }
    }
}
