//! What snapshots tell of the past, for a ledger that was lost.

use crate::Result;
use crate::ledger::{AtDestination, Ledger};
use crate::snapshot::Snapshot;

impl Ledger {
    /// Learns of each source of `host` when its newest snapshot at `destination` was made, and of each of its classes when it was due last.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn_from(&self, destination: &str, host: &str, snapshots: &[Snapshot]) -> Result<()> {
        let own = snapshots.iter().filter(|snapshot| snapshot.manifest.host == host);
        for snapshot in own {
            let manifest = &snapshot.manifest;
            let Some(source) = &manifest.source else { continue };
            let time = manifest.time.to_utc();
            self.learn(&AtDestination {
                source: source.clone(),
                destination: destination.to_owned(),
                time,
                snapshot: snapshot.id.to_string(),
            })?;
            // Whoever has a memory of dues trusts that.
            let is_later = self.handled(source, &manifest.class)?.is_none_or(|known| known < time);
            if self.is_new() && is_later {
                self.handle(source, &manifest.class, time)?;
            }
        }
        Ok(())
    }
}
