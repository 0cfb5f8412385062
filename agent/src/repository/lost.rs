//! Packs that the index names and the store does not have (any more): to deduplicate against them would lose data in silence.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use lifeboat_providers::Sha256;

use super::state::{self, LockedMemory};
use super::{Area, Repository, Tombstones, layout};
use crate::events::{Context, Event};
use crate::index::{Index, PackSummary};
use crate::pack::directory::PackKind;
use crate::session::clock::{Clock as _, SystemClock};
use crate::words::count;
use crate::{Error, Result};

/// Many packs of a distant store are listed once in so long, unless it is asked for: that takes its time, and costs money.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// So many are listed in a few requests.
const FEW: usize = 5_000;

/// When packs are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Now.
    Now,
    /// Now where it costs next to nothing: on a disk of this machine, and where few packs are listed in few requests; else once a day.
    Daily,
}

/// An index whose packs are there, and which are not.
#[derive(Debug)]
pub struct Sound {
    /// Without the packs that are lost.
    pub index: Index,
    /// How many packs are missing or cut off.
    pub lost: usize,
}

impl Repository {
    /// Loads the index of what is stored, as far as it is known to be there, without what `tombstones` name. What is amiss is a warning.
    ///
    /// # Errors
    /// As [`Repository::load_catalog`]; `Damaged` if not one of several packs is there.
    pub fn load_sound_index(&self, tombstones: &Tombstones, look: Look, context: &Context) -> Result<Sound> {
        let warn = |text| context.report(Event::Warning(text));
        let catalog = self.load_catalog()?;
        catalog.warn(warn);
        let index = catalog.index.without(tombstones.packs.clone());
        let packs = self.with_sound_index(&index, Index::packs)?;
        let all = packs.len();
        if look == Look::Daily && !self.is_cheap(all) && !self.is_due() {
            return Ok(Sound { index, lost: 0 });
        }
        let lost = self.lost_packs(packs)?;
        self.looked();
        if lost.is_empty() {
            return Ok(Sound { index, lost: 0 });
        }
        if lost.len() == all && all > 1 {
            return Err(Error::damaged(format_args!(
                "all {all} packs that the index names are missing at {}",
                self.store.location()
            ))
            .with_hint(
                "Is the whole repository mounted and copied? If they are gone for good: `lifeboat repair index`.",
            ));
        }
        warn(format!(
            "of the {} at {}, {} missing or cut off: what is still to be had of that is stored again. \
             `lifeboat check` shows which snapshots have lost data, `lifeboat repair index` mends the index",
            count(all as u64, "pack", "packs"),
            self.store.location(),
            count(lost.len() as u64, "is", "are"),
        ));
        // What comes again under the same name is to be found again: these are not left out for good.
        let index = self.index_without(&lost)?.without(tombstones.packs.clone());
        Ok(Sound { index, lost: lost.len() })
    }

    /// Packs that the index names and that are not there in full.
    fn lost_packs(&self, packs: Vec<PackSummary>) -> Result<HashSet<Sha256>> {
        self.store.list_ahead(&[Area::Packs, Area::Meta]);
        let mut stored = HashMap::new();
        for kind in [PackKind::Data, PackKind::Metadata] {
            for info in self.store.list(&Area::of_packs(kind).prefix())? {
                if let Ok(id) = layout::sha256_of(&info.key)
                    && layout::pack(kind, &id)? == info.key
                {
                    stored.insert(id, info.size);
                }
            }
        }
        let mut lost = HashSet::new();
        for pack in packs.into_iter().filter(|pack| stored.get(&pack.id) != Some(&pack.stored_bytes)) {
            let found = self.store.unlisted(&layout::pack(pack.kind, &pack.id)?)?;
            if found.is_none_or(|info| info.size != pack.stored_bytes) {
                lost.insert(pack.id);
            }
        }
        Ok(lost)
    }

    /// The index as if some packs were not named: for this run only, the stored one stays as it is.
    fn index_without(&self, lost: &HashSet<Sha256>) -> Result<Index> {
        let index = Index::scratch(&self.index_cache());
        for info in self.store.list(&Area::Index.prefix())? {
            // What is foreign or damaged was reported before.
            let Ok(id) = layout::sha256_of(&info.key) else { continue };
            if let Ok(mut shard) = self.read_shard(&id) {
                shard.packs.retain(|pack| !lost.contains(&pack.id));
                index.add(&[(id, shard)])?;
            }
        }
        Ok(index)
    }

    /// Whether so many packs are listed in no time. Where listings lag, each folder is one, and what is not shown is asked for.
    fn is_cheap(&self, packs: usize) -> bool {
        !self.store.is_far() || (packs <= FEW && self.store.capabilities().listing_is_consistent)
    }

    /// Whether it is time to look for packs. What is remembered for later than now was written by a clock that went wrong.
    fn is_due(&self) -> bool {
        let last = state::peek(self.directories())
            .and_then(|memory| memory.packs_listed.get(&self.directories().place).copied());
        last.is_none_or(|last| {
            !(last..last + LOOK_EVERY.as_secs()).contains(&SystemClock.wall_time().as_secs())
        })
    }

    /// Remembers that packs were looked for now. Without that memory they are looked for again, which is no harm.
    fn looked(&self) {
        if !self.store.is_far() {
            return;
        }
        if let Ok(mut memory) = LockedMemory::open(self.directories()) {
            memory
                .memory
                .packs_listed
                .insert(self.directories().place.clone(), SystemClock.wall_time().as_secs());
            let _ = memory.save();
        }
    }
}
