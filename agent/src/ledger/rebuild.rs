//! What snapshots tell of the past, for a ledger that was lost.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::Result;
use crate::ledger::{AtDestination, Ledger};
use crate::snapshot::Snapshot;

impl Ledger {
    /// Learns of each source of `host` when its newest snapshot at `destination` was made, and that what each of its classes was due for by then is
    /// done. What is known of later stays.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn_from(&self, destination: &str, host: &str, snapshots: &[Snapshot]) -> Result<()> {
        let mut newest: BTreeMap<(&str, &str), DateTime<Utc>> = BTreeMap::new();
        for snapshot in snapshots.iter().filter(|snapshot| snapshot.manifest.host == host) {
            let manifest = &snapshot.manifest;
            let Some(source) = &manifest.source else { continue };
            let time = manifest.time.to_utc();
            let known = newest.entry((source, &manifest.class)).or_insert(time);
            *known = (*known).max(time);
            self.learn(&AtDestination {
                source: source.clone(),
                destination: destination.to_owned(),
                time,
                snapshot: snapshot.id.to_string(),
            })?;
        }
        for ((source, class), time) in newest {
            if self.handled(source, class)?.is_none_or(|known| known < time) {
                self.handle(source, class, time)?;
            }
        }
        Ok(())
    }
}
