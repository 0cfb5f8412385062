//! What keeps the protocol safe, rule by rule, so that each rule can be taken out and its bug be found.

/// One rule of `docs/rfcs/0004-collector.md`. The text of each says what happens without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Guard {
    /// The session is put before anything is listed. Without: after the index was loaded.
    SessionFirst,
    /// Packs of seen tombstones are not deduplicated against.
    DedupShunsTombstoned,
    /// Who has seen a tombstone asks the index, without tombstoned packs, for all that its parent had, and stores anew what is not there.
    ParentProbed,
    /// It does so for all. Without: only for what it finds in tombstoned packs; they may have left the index since the parent was listed.
    ParentProbesAll,
    /// Packs of seen tombstones are not adopted.
    AdoptShunsTombstoned,
    /// A pack of a seen tombstone is not copied verbatim, under its name.
    CopyShunsTombstoned,
    /// `repair index` has a session.
    RepairHasSession,
    /// Who loses the outcome was fenced, and writes no snapshot.
    FenceHeeded,
    /// The snapshot in a committed outcome is put by whoever finds it.
    Helping,
    /// A snapshot that was forgotten stays so, even if a late put brings its object back.
    ForgetRecords,
    /// The sweep waits for sessions, or ends them.
    SweepWaits,
    /// The sweep lists snapshots after sessions. Without: before.
    SnapshotsAfterSessions,
    /// The sweep marks again. Without: it goes by what was live when it planned.
    MarkedAgain,
    /// The sweep loads the index again. Without: it goes by the one it planned with. A matter of progress: nothing is deleted where something
    /// live is not found.
    IndexAgain,
    /// A copy in a pack that any tombstone names is no copy. Without: each collector sweeps its own, and looks at no other.
    AnyTombstoneCounts,
    /// The tombstone goes last. Without: before the index was rewritten.
    TombstoneLast,
    /// The tombstone stays until nobody is left who could have something in flight from before the sweep.
    TombstoneKept,
    /// A shard that is rewritten leaves out only what is not stored, as listed after it was read. Without: all that was to be deleted.
    RewriteDropsOnlyGone,
    /// For the plan, tombstoned packs are absent: live chunks that nothing else has are copied. A matter of progress, not of safety.
    PlanShunsTombstoned,
    /// Without conditional create: before the snapshot is put, the writer looks how long ago its last beat was.
    LookBefore,
    /// Without conditional create: it looks again afterwards, and takes the snapshot back if it was too long.
    LookAfter,
    /// Without conditional create: the time of a beat is that before its request. Without: that of its answer.
    BeatSinceSent,
    /// Without conditional create: who was late once is late for good. Without: the next beat makes it fresh.
    LatenessLatched,
    /// Without conditional create: a dead process is over when nothing of it can be in flight any more.
    DeadSettles,
    /// Without conditional create: a parent is proved chunk by chunk.
    ParentProved,
    /// Where listings lag: sessions are listed when all is listed that was put before the tombstone was. Without: one wait less.
    LagBeforeSessions,
    /// Where listings lag: snapshots are listed a wait after sessions.
    LagBeforeSnapshots,
}

/// Which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards(u32);

impl Guards {
    /// The protocol as it is.
    pub const ALL: Guards = Guards(u32::MAX);

    /// All of these but one.
    #[must_use]
    pub fn without(self, guard: Guard) -> Guards {
        Guards(self.0 & !(1 << guard as u32))
    }

    /// Whether a rule holds.
    pub fn has(self, guard: Guard) -> bool {
        self.0 & (1 << guard as u32) != 0
    }
}
