//! What is left at a destination: by its quota, and by what its store says of itself. Asked before every pack.
//!
//! What other machines write meanwhile is seen when it is measured again: each time a quarter of what was left has been written, and before
//! anything is refused.

use lifeboat_providers::{Prefix, Usage};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::SpacePolicy;
use crate::events::{Context, Event};
use crate::fs::size::human;
use crate::repository::Repository;
use crate::{Error, Kind, Result};

/// This is left to what frees space …
const RESERVE_BYTES: u64 = 64 << 20;
/// … or this part of the whole, if that is less: of a quota, of a store.
const RESERVE_OF_QUOTA: u64 = 16;
const RESERVE_OF_STORE: u64 = 100;
/// Less than this part of a quota left is worth a warning …
const LOW_PART: u64 = 10;
/// … of a store too, but not as long as there is this much.
const LOW_BYTES: u64 = 1 << 30;
/// It is not measured again before so much was written.
const STEP_MIN_BYTES: u64 = 16 << 20;

/// The space of a destination, as far as this process knows it.
#[derive(Debug, Default)]
pub struct Space {
    policy: SpacePolicy,
    state: Mutex<State>,
    /// Shared by those who write packs, taken by who measures.
    writing: RwLock<()>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was measured last.
    standing: Option<Standing>,
    /// Bytes written since then.
    written: u64,
    /// It was said that little is left.
    warned: bool,
    /// Bytes that were refused last.
    refused: u64,
}

/// What is taken and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Bytes of all objects; known where there is a quota, or somebody counted.
    pub used: Option<u64>,
    /// Bytes of all objects at most.
    pub quota: Option<u64>,
    /// What the store says of itself.
    pub store: Usage,
}

impl Standing {
    /// Bytes that can still be written; `None` without any limit. Whoever frees space may take the reserve.
    pub fn left(&self, takes_reserve: bool) -> Option<u64> {
        let reserve = |whole: u64, part: u64| if takes_reserve { 0 } else { RESERVE_BYTES.min(whole / part) };
        let by_quota = self.quota.map(|quota| {
            quota.saturating_sub(reserve(quota, RESERVE_OF_QUOTA)).saturating_sub(self.used.unwrap_or(0))
        });
        let by_store = self.store.available_bytes.map(|available| {
            available.saturating_sub(reserve(self.store.limit_bytes.unwrap_or(u64::MAX), RESERVE_OF_STORE))
        });
        [by_quota, by_store].into_iter().flatten().min()
    }

    /// Words if little is left.
    fn is_low(&self) -> Option<String> {
        if let (Some(quota), Some(used)) = (self.quota, self.used)
            && quota.saturating_sub(used) < quota / LOW_PART
        {
            return Some(format!("{} of the {} that it may take up are used", human(used), human(quota)));
        }
        let available = self.store.available_bytes?;
        let low = self.store.limit_bytes.map_or(LOW_BYTES, |limit| LOW_BYTES.min(limit / LOW_PART));
        (available < low).then(|| format!("its store has only {} left", human(available)))
    }

    /// The same after so many bytes more.
    fn after(mut self, written: u64) -> Self {
        self.used = self.used.map(|used| used + written);
        self.store.available_bytes =
            self.store.available_bytes.map(|available| available.saturating_sub(written));
        self
    }
}

impl Space {
    /// The space of a destination that keeps to `policy`.
    pub fn new(policy: SpacePolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// What it may take up, and what happens when it does.
    pub const fn policy(&self) -> &SpacePolicy {
        &self.policy
    }
}

impl Repository {
    /// What is taken and what is left, asked now.
    ///
    /// # Errors
    /// Errors of the store, where there is a quota.
    pub fn measure_space(&self) -> Result<Standing> {
        let quota = self.space().policy.quota;
        let used = quota.map(|_| self.stored_bytes()).transpose()?;
        // A store that does not say now what it has left says so when something is put there.
        let store = self.store().usage().unwrap_or_default();
        let standing = Standing { used, quota, store };
        let mut state = self.space().state.lock();
        (state.standing, state.written) = (Some(standing), 0);
        Ok(standing)
    }

    /// Where there is a quota: measures, and says if little is left.
    ///
    /// # Errors
    /// As [`Repository::measure_space`].
    pub fn look_at_space(&self, context: &Context) -> Result<()> {
        if self.space().policy.quota.is_some() {
            self.measure_space()?;
            self.warn_if_low(context);
        }
        Ok(())
    }

    /// Bytes that did not fit when something was refused last; 0 if nothing was.
    pub(super) fn refused_bytes(&self) -> u64 {
        self.space().state.lock().refused
    }

    /// What is known of the space without asking for it.
    pub fn known_space(&self) -> Option<Standing> {
        let state = self.space().state.lock();
        Some(state.standing?.after(state.written))
    }

    /// Bytes of all objects, by listings: a request for each thousand of them at some stores.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn stored_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        self.store().for_each(&Prefix::all(), |info| {
            bytes += info.size;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Takes room for so many bytes; keep what is returned until they are written. Little room is reported, once.
    ///
    /// # Errors
    /// `Quota` if they do not fit; errors of the store where it has to be asked.
    pub fn take_space(&self, bytes: u64, context: &Context) -> Result<RwLockReadGuard<'_, ()>> {
        let space = self.space();
        let mut writing = space.writing.read();
        if !self.take_known(bytes) {
            drop(writing);
            // What is still being written would be missing from the listings. Others that find no room wait here, and then know what was found.
            let nobody_writes = space.writing.write();
            if !self.take_known(bytes) {
                self.measure_space()?;
                if !self.take_known(bytes) {
                    space.state.lock().refused = bytes;
                    return Err(self.full(bytes));
                }
            }
            writing = RwLockWriteGuard::downgrade(nobody_writes);
        }
        self.warn_if_low(context);
        Ok(writing)
    }

    /// Whether they fit, as far as is known for sure: not if it is time to measure again.
    fn take_known(&self, bytes: u64) -> bool {
        let mut state = self.space().state.lock();
        let Some(standing) = state.standing else { return false };
        if let Some(left) = standing.left(self.takes_reserve())
            && (state.written >= STEP_MIN_BYTES.max(left / 4) || state.written + bytes > left)
        {
            return false;
        }
        state.written += bytes;
        true
    }

    /// Says once that little is left, if it is.
    pub fn warn_if_low(&self, context: &Context) {
        let mut state = self.space().state.lock();
        let Some(low) =
            state.standing.filter(|_| !state.warned).and_then(|s| s.after(state.written).is_low())
        else {
            return;
        };
        state.warned = true;
        drop(state);
        context.report(Event::LowSpace { place: self.store().location(), words: low });
    }

    fn full(&self, bytes: u64) -> Error {
        let standing = self.known_space().unwrap_or_default();
        let of_quota = standing.quota.map(|quota| quota.saturating_sub(standing.used.unwrap_or(0)));
        let left = standing.left(true).unwrap_or_default();
        let taken = match (standing.quota, standing.used) {
            (Some(quota), Some(used)) if of_quota == Some(left) => {
                format!("{} of its quota of {} are used", human(used), human(quota))
            }
            _ => format!("its store has {} left", human(left)),
        };
        let kept = left - standing.left(false).unwrap_or_default().min(left);
        let kept = if kept == 0 { String::new() } else { format!(" ({} are kept for `prune`)", human(kept)) };
        let place = self.store().location();
        Error::new(Kind::Quota, format_args!("{place} is full: {taken}, and {} more do not fit{kept}", human(bytes)))
            .with_hint(
                "All older snapshots are as they were, and what this run stored is used by the next. `lifeboat forget` with `lifeboat prune` \
                 makes room; so does a larger `quota`, if one is set.",
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(quota: Option<(u64, u64)>, store: Option<(u64, u64)>) -> Standing {
        Standing {
            used: quota.map(|(used, _)| used),
            quota: quota.map(|(_, quota)| quota),
            store: Usage {
                used_bytes: None,
                available_bytes: store.map(|(available, _)| available),
                limit_bytes: store.map(|(_, limit)| limit),
            },
        }
    }

    #[test]
    fn the_tighter_limit_counts_and_the_reserve_is_the_collectors() {
        const MIB: u64 = 1 << 20;
        assert_eq!(standing(None, None).left(false), None);
        let quota = standing(Some((800, 1600)), None);
        assert_eq!((quota.left(false), quota.left(true)), (Some(700), Some(800)));
        assert_eq!(standing(Some((2000, 1600)), None).left(true), Some(0));
        let large = standing(Some((0, 100 << 30)), None);
        assert_eq!(large.left(false), Some((100 << 30) - 64 * MIB));
        let disk = standing(None, Some((500 * MIB, 1 << 40)));
        assert_eq!((disk.left(false), disk.left(true)), (Some(436 * MIB), Some(500 * MIB)));
        assert_eq!(standing(None, Some((50, 1000))).left(false), Some(40));
        assert_eq!(standing(Some((800, 1600)), Some((50, 1000))).left(false), Some(40));
    }

    #[test]
    fn little_is_a_tenth_of_a_quota_and_a_tenth_of_a_store_up_to_a_gibibyte() {
        let is_low = |quota, store| standing(quota, store).is_low().is_some();
        assert!(!is_low(None, None) && !is_low(Some((900, 1000)), None) && is_low(Some((901, 1000)), None));
        assert!(is_low(None, Some((99, 1000))) && !is_low(None, Some((100, 1000))));
        assert!(is_low(None, Some(((1 << 30) - 1, 1 << 50))) && !is_low(None, Some((1 << 30, 1 << 50))));
    }
}
