//! How much a destination may take up, and what happens when it is full.
//!
//! | module | job |
//! |---|---|
//! | [`budget`] | what is left, asked before every pack |
//! | [`room`] | making room: by the policy, by pruning, by evicting |
//! | [`evict`] | which snapshots another destination holds verified |
//!
//! Only packs are refused. What ends a run (its index, its session) and what frees space is always tried: a tenth of nothing helps nobody.
//! A part of the space is left to the collector, which writes before it deletes.

pub mod budget;
pub mod evict;
pub mod room;

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::Utc;
use chrono_tz::Tz;

use crate::Result;
use crate::retention::{GroupBy, Policies};
use crate::snapshot::{History, Snapshot};

pub use budget::{Space, Standing};
pub use room::{Room, with_room, with_siblings};

/// What is done when a destination is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhenFull {
    /// Nothing: what does not fit is not stored.
    Fail,
    /// What the policy does not keep is forgotten, and what nothing needs is deleted.
    #[default]
    Prune,
    /// That; then the oldest snapshots that another destination holds verified are forgotten here.
    Evict,
}

impl FromStr for WhenFull {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "fail" => Ok(Self::Fail),
            "prune" => Ok(Self::Prune),
            "evict" => Ok(Self::Evict),
            _ => Err(format!("{text:?}: write \"fail\", \"prune\" or \"evict\"")),
        }
    }
}

/// What a destination takes, and what that may take up.
#[derive(Debug, Clone, Default)]
pub struct SpacePolicy {
    /// Sources of this machine that go to other destinations only.
    pub elsewhere: Elsewhere,
    /// Bytes of all its objects at most.
    pub quota: Option<u64>,
    /// What is done when that, or the store, is full.
    pub when_full: WhenFull,
    /// What is kept there; without it nothing is forgotten by a policy.
    pub keep: Option<Policies>,
    /// The zone in which its days begin; the system's if none.
    pub zone: Option<Tz>,
}

/// Sources of one machine that do not go to a destination. Those of other machines are none of its business.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The machine's name in snapshots.
    pub host: String,
    /// The sources.
    pub sources: BTreeSet<String>,
}

impl Elsewhere {
    /// Whether a snapshot is not meant for the destination.
    pub fn has(&self, snapshot: &Snapshot) -> bool {
        let manifest = &snapshot.manifest;
        manifest.host == self.host
            && manifest.source.as_ref().is_some_and(|source| self.sources.contains(source))
    }
}

impl SpacePolicy {
    /// Snapshots that it does not keep.
    ///
    /// # Errors
    /// As [`History::decide`].
    pub fn lets_go<'h>(&self, history: &'h History) -> Result<Vec<&'h Snapshot>> {
        let Some(policies) = &self.keep else { return Ok(Vec::new()) };
        let decided = history.decide(policies, GroupBy::default(), |_| true, Utc::now(), self.zone)?;
        let let_go = decided.into_iter().filter(|(_, decision)| !decision.keep);
        Ok(let_go.map(|(snapshot, _)| snapshot).collect())
    }
}
