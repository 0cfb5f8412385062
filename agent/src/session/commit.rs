//! Making snapshots count: the last step of every writer.

use super::OpenSession;
use super::outcome;
use crate::repository::{Area, layout};
use crate::seal::SealedObject;
use crate::{Error, Result};

impl OpenSession {
    /// Makes snapshots count: all or none, and none if another machine took this writer for dead. They are acknowledged when this returns.
    /// Once only.
    ///
    /// Where the store cannot create conditionally the writer looks at its clock before and after, and takes back what came too late.
    ///
    /// # Errors
    /// `Fenced`; errors of the store: whether they count is then not known. Drop the session after those, so that whoever ends it finds out.
    pub fn commit(&self, snapshots: &[SealedObject]) -> Result<()> {
        let total: u64 = snapshots.iter().map(|snapshot| snapshot.body().len()).sum();
        if total > outcome::OUTCOME_BYTES_MAX as u64 {
            return Err(Error::failed(format_args!(
                "{} of snapshots are too many to be written at once",
                crate::fs::size::human(total)
            ))
            .with_hint("Bring or repair fewer snapshots at once."));
        }
        // One that slept for longer than fences stay would meet none.
        self.beats.assure()?;
        if outcome::can_fence(&self.repository) {
            let stored = snapshots.iter().map(|snapshot| snapshot.body().to_bytes()).collect();
            outcome::commit(&self.repository, self.id, stored)?;
            *self.has_outcome.lock() = true;
            return self.put_all(snapshots);
        }
        self.put_all(snapshots)?;
        if self.beats.is_fresh() {
            return Ok(());
        }
        for snapshot in snapshots {
            self.repository.store().delete(&layout::named_by_hash(Area::Snapshots, &snapshot.sha256())?)?;
        }
        Err(outcome::fenced())
    }

    fn put_all(&self, snapshots: &[SealedObject]) -> Result<()> {
        for snapshot in snapshots {
            let key = layout::named_by_hash(Area::Snapshots, &snapshot.sha256())?;
            self.repository.store().create_or_same(&key, snapshot)?;
        }
        Ok(())
    }
}
