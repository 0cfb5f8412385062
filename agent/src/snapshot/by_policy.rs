//! What a policy makes of a history. The rules themselves are pure code: `retention`.

use chrono::{DateTime, Local, Utc};
use chrono_tz::Tz;

use super::{History, Snapshot};
use crate::repository::{Repository, state};
use crate::retention::{Candidate, Decision, GroupBy, Policies, plan};
use crate::{Error, Result};

impl History {
    /// What becomes of each snapshot of which `wanted` says so; the others compete with nobody. Days begin in `zone`, or in the system's.
    ///
    /// # Errors
    /// As [`plan()`].
    pub fn decide(
        &self,
        policies: &Policies,
        group_by: GroupBy,
        wanted: impl Fn(&Snapshot) -> bool,
        now: DateTime<Utc>,
        zone: Option<Tz>,
    ) -> Result<Vec<(&Snapshot, Decision)>> {
        let seen = self.snapshots.iter().zip(Candidate::all(self, group_by));
        let seen = seen.filter(|(snapshot, _)| wanted(snapshot));
        let (snapshots, candidates): (Vec<&Snapshot>, Vec<Candidate>) = seen.unzip();
        let decisions = match zone {
            Some(zone) => plan(&candidates, policies, now, &zone)?,
            None => plan(&candidates, policies, now, &Local)?,
        };
        Ok(snapshots.into_iter().zip(decisions).collect())
    }
}

impl Repository {
    /// Refuses a history of which it is not known what is pinned: nothing is to be forgotten by a rule then.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn require_pins(&self, history: &History) -> Result<()> {
        let memory = state::peek(self.directories()).unwrap_or_default();
        let is_gone = !history.lost_labels(&memory, &self.directories().place).is_empty();
        if !is_gone && history.labels.unreadable.is_empty() {
            return Ok(());
        }
        Err(Error::damaged(
            "a record of pins and tags is damaged or was removed: what is pinned is not known",
        )
        .with_hint(
            "`lifeboat snapshots` takes a damaged one from another destination; without one, look what is pinned, and use \
             `lifeboat forget --force`.",
        ))
    }
}
