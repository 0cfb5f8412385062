//! Keeps what a snapshot leans on locked in a store with Object Lock. A new snapshot uses packs of old ones, whose locks would run out before its own.
//!
//! Every lock is extended to a tenth more than the period that was asked for, and again when less than the period is left of it. So each
//! object costs two requests in a tenth of the period, not with every snapshot; and from every snapshot on all it needs is locked for the period.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lifeboat_providers::Key;
use serde::{Deserialize, Serialize};

use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::index::Index;
use crate::repository::store::is_missing;
use crate::repository::{Area, Repository, layout, state};
use crate::session::clock::{Clock as _, SystemClock};
use crate::snapshot::Snapshot;
use crate::sync::needed;
use crate::{Error, Result};

const FILE: &str = "locks.json";
const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// Until when this machine had objects locked, in seconds of its own clock. A cache: what it lacks is extended again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Locked {
    until: BTreeMap<String, u64>,
}

/// Extends the locks of all that `snapshots` need at `repository`, if its store locks what is put. Directories are read by `reader`, which may be of
/// another destination; `index` tells which packs have them here. What goes wrong is a warning: the snapshots are stored.
pub fn extend(
    repository: &Repository,
    reader: &ChunkReader,
    index: &Index,
    snapshots: &[&Snapshot],
    context: &Context,
) {
    let Some(period) = repository.store().capabilities().retention.filter(|_| !snapshots.is_empty()) else {
        return;
    };
    if let Err(e) = extend_all(repository, reader, index, snapshots, period, context) {
        context.report(Event::Warning(format!(
            "{e}. The snapshot is stored, but not all it needs is locked as long as it is; the next backup tries again"
        )));
    }
}

fn extend_all(
    repository: &Repository,
    reader: &ChunkReader,
    index: &Index,
    snapshots: &[&Snapshot],
    period: Duration,
    context: &Context,
) -> Result<()> {
    let mut keys = vec![layout::config()?];
    for snapshot in snapshots {
        keys.push(layout::named_by_hash(Area::Snapshots, &snapshot.id)?);
    }
    for area in [Area::Keys, Area::Index] {
        keys.extend(repository.store().list(&area.prefix())?.into_iter().map(|info| info.key));
    }
    for (kind, pack) in needed::packs(reader, index, snapshots, context)? {
        keys.push(layout::pack(kind, &pack)?);
    }
    let path = repository.directories().cache.join(FILE);
    let mut locked = Locked::read(&path);
    let now = SystemClock.wall_time().as_secs();
    let lease = period + period / 10;
    let due: Vec<Key> = keys.into_iter().filter(|key| locked.is_due(key, now, period, lease)).collect();
    context.report(Event::Phase("extending locks"));
    let results = repository.store().retain_all(&due, lease);
    let mut first_failure = None;
    for (key, result) in due.iter().zip(results) {
        match result {
            Ok(()) => drop(locked.until.insert(key.to_string(), now + lease.as_secs())),
            // Somebody merged it with others since it was listed.
            Err(e) if is_missing(&e) && Area::Index.prefix().matches(key) => {}
            // Perhaps others can be extended.
            Err(e) => first_failure = first_failure.or(Some(e)),
        }
    }
    locked.until.retain(|_, until| *until > now);
    // A cache: without it all locks are looked at again.
    let _ = locked.write(&path);
    first_failure.map_or(Ok(()), |e| Err(e.context("a lock cannot be extended")))
}

impl Locked {
    fn read(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            state::make_private_dir(directory)?;
        }
        let json = serde_json::to_vec(self).map_err(|e| Error::failed(e.to_string()))?;
        state::write_atomically(path, &json)
    }

    /// Whether less than `period` may be left. A time that no lease from now can reach was written by a clock that went wrong.
    fn is_due(&self, key: &Key, now: u64, period: Duration, lease: Duration) -> bool {
        self.until.get(key.as_str()).is_none_or(|until| {
            *until < now + period.as_secs() || *until > now + lease.as_secs() + SECONDS_A_DAY
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_due_when_less_than_the_period_is_left_or_the_clock_went_wrong() {
        const DAY: u64 = SECONDS_A_DAY;
        let (period, lease) = (Duration::from_secs(30 * DAY), Duration::from_secs(33 * DAY));
        let key = layout::config().unwrap();
        let now = 1_000 * DAY;
        let due = |until: u64| {
            let locked = Locked { until: BTreeMap::from([(key.to_string(), until)]) };
            locked.is_due(&key, now, period, lease)
        };
        assert!(Locked::default().is_due(&key, now, period, lease), "nothing is known");
        assert!(due(now + 30 * DAY - 1) && !due(now + 30 * DAY) && !due(now + 33 * DAY));
        assert!(due(now + 35 * DAY), "the clock was set back");
    }
}
