//! What is to become of each pack: decided by pure code, shown, and only then done.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lifeboat_providers::Sha256;

use crate::fs::size;
use crate::index::PackBytes;
use crate::pack::directory::PackKind;
use crate::{Error, Result};

/// A pack below this part of its full size is small …
const SMALL_PART: u64 = 4;
/// … and so many of one kind are merged: fewer are not worth their requests.
const SMALL_MERGED_MIN: usize = 16;

/// How much that nothing uses may stay in packs that hold something in use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// This share of all that is left, 0 to 1.
    Share(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any: nothing is copied, only packs that hold nothing in use are deleted.
    Unlimited,
}

impl Default for MaxUnused {
    fn default() -> Self {
        Self::Share(0.05)
    }
}

impl std::str::FromStr for MaxUnused {
    type Err = Error;

    /// `5%`, `500M` or `unlimited`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format_args!("{text} is no share or amount"))
                .with_hint("Give a share (5%), an amount (500M), or `unlimited`.")
        };
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let Some(share) = text.strip_suffix('%') else {
            return size::parse_size(text).map(Self::Bytes).map_err(|_| wrong());
        };
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        if (0.0..100.0).contains(&share) { Ok(Self::Share(share / 100.0)) } else { Err(wrong()) }
    }
}

impl MaxUnused {
    /// The bytes it allows beside so many that are in use.
    fn bytes(self, live: u64) -> u64 {
        match self {
            Self::Share(share) => (live as f64 * share / (1.0 - share)) as u64,
            Self::Bytes(bytes) => bytes,
            Self::Unlimited => u64::MAX,
        }
    }
}

/// What is known of a pack besides what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The index names it, it is there, nobody has a claim on it.
    Free,
    /// It is there, and no part of the index names it.
    Unnamed,
    /// The index names it, and it is not there in full.
    Missing,
    /// An earlier run is about to delete it.
    Doomed,
    /// A run that was cut off stored it, not long ago; the next one of it goes on from there.
    Interrupted,
    /// A run that is at work has stored it.
    AtWork,
}

/// A pack and what of it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// The pack's name.
    pub id: Sha256,
    /// What its chunks are.
    pub kind: PackKind,
    /// The object's bytes, as far as it is there.
    pub stored_bytes: u64,
    /// Of that, what is in use and what is not.
    pub bytes: PackBytes,
    /// What else is known of it.
    pub standing: Standing,
    /// Its number among the packs of the index.
    pub number: Option<u32>,
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It goes.
    Delete,
    /// What is in use of it is copied; then it goes.
    Repack,
    /// It stays.
    Keep,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing of it is in use.
    Unused,
    /// No part of the index names it.
    Unnamed,
    /// It is not there in full, and other packs have all that is in use.
    Missing,
    /// An earlier run meant to delete it, and could not yet.
    Doomed,
    /// An earlier run meant to delete it, and something in it is needed after all.
    NeededAgain,
    /// Too much of it is not in use.
    PartlyUnused,
    /// It is small, and there are many such.
    Small,
    /// All of it is in use.
    Used,
    /// Some of it is not in use, which is within the limit.
    WithinLimit,
    /// What is used of it is to be copied, and there is no room for that yet.
    NoRoom,
    /// An interrupted run stored it, and its next run goes on from there.
    Interrupted,
    /// A run that is at work stored it.
    AtWork,
}

impl Action {
    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Repack => "repack",
            Self::Keep => "keep",
        }
    }
}

impl Reason {
    /// Words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unused => "nothing of them is used",
            Self::Unnamed => "no index names them",
            Self::Missing => "not there in full, nothing of them is used",
            Self::Doomed => "left to delete by an earlier run",
            Self::NeededAgain => "needed again after an earlier run",
            Self::PartlyUnused => "used in part",
            Self::Small => "small, and many",
            Self::Used => "used",
            Self::WithinLimit => "used in part, within --max-unused",
            Self::NoRoom => "no room yet to copy what is used",
            Self::Interrupted => "of an interrupted run, for its next",
            Self::AtWork => "of a run that is at work",
        }
    }

    /// One word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Unnamed => "unnamed",
            Self::Missing => "missing",
            Self::Doomed => "doomed",
            Self::NeededAgain => "needed_again",
            Self::PartlyUnused => "partly_unused",
            Self::Small => "small",
            Self::Used => "used",
            Self::WithinLimit => "within_limit",
            Self::NoRoom => "no_room",
            Self::Interrupted => "interrupted",
            Self::AtWork => "at_work",
        }
    }
}

/// A pack and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The pack.
    pub pack: PackUse,
    /// What becomes of it.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// Packs of one action and reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub packs: u64,
    /// Their stored bytes.
    pub stored_bytes: u64,
    /// Of that, in use.
    pub live_bytes: u64,
    /// Of that, not in use.
    pub dead_bytes: u64,
}

/// What is to become of all packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each pack, in order of names.
    pub packs: Vec<Planned>,
}

impl Plan {
    /// Decides.
    ///
    /// `full_bytes` says how large a full pack of a kind is.
    pub fn new(mut packs: Vec<PackUse>, max_unused: MaxUnused, full_bytes: impl Fn(PackKind) -> u64) -> Self {
        packs.sort_unstable_by_key(|pack| pack.id);
        let live: u64 = packs.iter().map(|pack| pack.bytes.live).sum();
        let mut packs: Vec<Planned> = packs.into_iter().map(first_look).collect();
        let limit = max_unused.bytes(live);
        let partly = |planned: &&mut Planned| planned.reason == Reason::WithinLimit;
        let mut candidates: Vec<&mut Planned> = packs.iter_mut().filter(partly).collect();
        let mut unused: u64 = candidates.iter().map(|planned| planned.pack.bytes.dead).sum();
        // The largest share first: it frees most for what has to be copied.
        candidates.sort_by_cached_key(|planned| Reverse(dead_share(&planned.pack)));
        for planned in candidates {
            if unused <= limit {
                break;
            }
            unused -= planned.pack.bytes.dead;
            (planned.action, planned.reason) = (Action::Repack, Reason::PartlyUnused);
        }
        if max_unused != MaxUnused::Unlimited {
            for kind in [PackKind::Data, PackKind::Metadata] {
                merge_small(&mut packs, kind, full_bytes(kind));
            }
        }
        Self { packs }
    }

    /// The same, with copies of so many bytes at most: what finds no room stays for the next time, which has what this one frees.
    #[must_use]
    pub fn within(mut self, room: u64) -> Self {
        let may_wait =
            |planned: &&mut Planned| matches!(planned.reason, Reason::PartlyUnused | Reason::Small);
        let mut taken: u64 = self.copies();
        let mut waiting: Vec<&mut Planned> = self.packs.iter_mut().filter(may_wait).collect();
        waiting.sort_by_cached_key(|planned| dead_share(&planned.pack));
        for planned in waiting {
            if taken <= room {
                break;
            }
            taken -= planned.pack.bytes.live;
            (planned.action, planned.reason) = (Action::Keep, Reason::NoRoom);
        }
        self
    }

    /// Whether copies found no room.
    pub fn lacks_room(&self) -> bool {
        self.packs.iter().any(|planned| planned.reason == Reason::NoRoom)
    }

    /// Packs of one action.
    pub fn of(&self, action: Action) -> impl Iterator<Item = &PackUse> {
        self.packs.iter().filter(move |planned| planned.action == action).map(|planned| &planned.pack)
    }

    /// How many packs there are of each action and reason, and their bytes.
    pub fn tallies(&self) -> BTreeMap<(Action, Reason), Tally> {
        let mut tallies: BTreeMap<(Action, Reason), Tally> = BTreeMap::new();
        for Planned { pack, action, reason } in &self.packs {
            let tally = tallies.entry((*action, *reason)).or_default();
            tally.packs += 1;
            tally.stored_bytes += pack.stored_bytes;
            tally.live_bytes += pack.bytes.live;
            tally.dead_bytes += match action {
                Action::Keep => pack.bytes.dead,
                Action::Delete | Action::Repack => pack.stored_bytes.saturating_sub(pack.bytes.live),
            };
        }
        tallies
    }

    /// Bytes that are free when it is carried out, as far as can be told before.
    pub fn frees(&self) -> u64 {
        let goes = self.packs.iter().filter(|planned| planned.action != Action::Keep);
        goes.map(|planned| planned.pack.stored_bytes.saturating_sub(planned.pack.bytes.live)).sum()
    }

    /// Bytes that are copied for it.
    pub fn copies(&self) -> u64 {
        self.of(Action::Repack).map(|pack| pack.bytes.live).sum()
    }

    /// Bytes that stay though nothing uses them, in packs that hold something in use.
    pub fn unused_left(&self) -> u64 {
        self.of(Action::Keep).filter(|pack| pack.bytes.live > 0).map(|pack| pack.bytes.dead).sum()
    }
}

/// In millionths; of equals, by name.
fn dead_share(pack: &PackUse) -> (u128, Sha256) {
    let PackBytes { live, dead } = pack.bytes;
    (u128::from(dead) * 1_000_000 / u128::from(live + dead).max(1), pack.id)
}

/// What can be said of a pack by itself.
fn first_look(pack: PackUse) -> Planned {
    use Action::{Delete, Keep, Repack};
    let PackBytes { live, dead } = pack.bytes;
    let (action, reason) = match (pack.standing, live, dead) {
        (Standing::Doomed, 0, _) => (Delete, Reason::Doomed),
        (Standing::Doomed, ..) => (Repack, Reason::NeededAgain),
        (Standing::Missing, ..) => (Delete, Reason::Missing),
        (Standing::Interrupted, 0, _) => (Keep, Reason::Interrupted),
        (Standing::AtWork, 0, _) => (Keep, Reason::AtWork),
        (Standing::Unnamed, ..) => (Delete, Reason::Unnamed),
        (_, 0, _) => (Delete, Reason::Unused),
        (_, _, 0) => (Keep, Reason::Used),
        (Standing::Free, ..) => (Keep, Reason::WithinLimit),
        // What is not in use of it yet may be so soon.
        (Standing::Interrupted, ..) => (Keep, Reason::Interrupted),
        (Standing::AtWork, ..) => (Keep, Reason::AtWork),
    };
    Planned { pack, action, reason }
}

/// Many small packs make few large ones.
fn merge_small(packs: &mut [Planned], kind: PackKind, full_bytes: u64) {
    let is_small = |planned: &Planned| {
        let pack = &planned.pack;
        planned.action == Action::Keep
            && pack.standing == Standing::Free
            && pack.kind == kind
            && pack.stored_bytes < full_bytes / SMALL_PART
    };
    if packs.iter().filter(|planned| is_small(planned)).count() < SMALL_MERGED_MIN {
        return;
    }
    for planned in packs.iter_mut().filter(|planned| is_small(planned)) {
        (planned.action, planned.reason) = (Action::Repack, Reason::Small);
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
