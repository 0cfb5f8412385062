//! What there is: the store's objects, the processes, and what only the observer knows.
//!
//! Sets are bits. Every process has a place of its own for the one object of each kind that it may make: process `p` makes pack
//! [`new_pack`]`(p)`, shard [`new_shard`]`(p)`, snapshot [`new_snapshot`]`(p)`, session, outcome and tombstone `p`.

use crate::guard::{Guard, Guards};

/// Processes of a setting at most.
pub const PROCESSES: usize = 4;
/// Processes, and the collector that comes when all others are gone (see `judge`).
pub const ACTORS: usize = PROCESSES + 1;
/// Packs and snapshots that are there at the beginning, at most; packs and snapshots of processes are numbered after them.
pub const INITIAL: usize = 3;

/// A set of chunks.
pub type Chunks = u8;
/// A set of packs.
pub type Packs = u16;
/// A set of snapshots.
pub type Snapshots = u8;
/// A set of actors, or of the tombstones or sessions that they made.
pub type Actors = u8;

/// In [`Process::actors`]: what was read is from before the session.
pub const READ_EARLY: Actors = 1;

/// The pack that an actor packs.
pub fn new_pack(actor: usize) -> usize {
    INITIAL + actor
}

/// The shard that an actor writes. Shard 0 is there at the beginning.
pub fn new_shard(actor: usize) -> usize {
    1 + actor
}

/// The snapshot that an actor writes.
pub fn new_snapshot(actor: usize) -> usize {
    INITIAL + actor
}

/// The members of a set, ascending.
pub fn members(set: impl Into<u16>) -> impl Iterator<Item = usize> {
    let set = set.into();
    (0..16).filter(move |bit| set & (1 << bit) != 0)
}

/// How a writer comes to what its snapshot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// It asks the index for each chunk.
    Dedup,
    /// It takes over all that its parent has, with no question, and nothing else.
    Parent,
    /// As `Dedup`, after it adopted the packs that no shard names.
    Adopt,
    /// `sync`: it copies this pack verbatim, under its name, unless the index names it.
    Copy(u8),
    /// `repair index`: it writes a shard of all packs there are but tombstoned ones, and no snapshot.
    Repair,
    /// The same with tombstoned ones, and a session that says it saw no tombstone.
    RepairAll,
}

impl Way {
    /// Whether no snapshot is written.
    pub fn repairs(self) -> bool {
        matches!(self, Way::Repair | Way::RepairAll)
    }
}

/// What a collector wants to be rid of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plan {
    /// Packs with nothing live; of several copies the one in the first pack is kept.
    Dead,
    /// The same, but the copy in the last pack is kept.
    DeadKeepLast,
    /// And packs that are partly dead, after what is live of them was copied.
    Repack,
    /// These packs, whatever they hold: the protocol must bear any plan.
    Any(Packs),
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Writes a snapshot of these chunks (with [`Way::Parent`]: of the parent's).
    Writer(Way, Chunks),
    /// Forgets one snapshot, whichever.
    Forget,
    /// Collects.
    Collector(Plan),
    /// There is no such process.
    Nobody,
}

/// A store, processes, and how much may go wrong.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Named in messages.
    pub name: &'static str,
    /// The rules that hold.
    pub guards: Guards,
    /// Conditional create.
    pub cas: bool,
    /// An object may be missing from listings for some time after it was put.
    pub lag: bool,
    /// Processes may crash with a request in flight that takes effect later. Without: a crash takes the request with it.
    pub in_flight: bool,
    /// Nobody's session is ended while it lives: no stale time ever passes.
    pub punctual: bool,
    /// Writers read before they put their session, and begin to read anew only if tombstones changed meanwhile.
    pub early: bool,
    /// Crashes at most.
    pub crashes: u8,
    /// Whether collectors go on to remove tombstones.
    pub removal: bool,
    /// What the packs hold that are there at the beginning; 0 for a pack that is not there (but at the origin of a `sync`, for one).
    pub packs: [Chunks; INITIAL],
    /// Of these, those that are stored.
    pub stored: Packs,
    /// Of these, those that the first shard names.
    pub named: Packs,
    /// The snapshots that are there at the beginning, all acknowledged; 0 for none.
    pub snapshots: [Chunks; INITIAL],
    /// The processes.
    pub roles: [Role; PROCESSES],
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Not.
    Open,
    /// With the snapshot that the outcome holds.
    Committed,
    /// By somebody else.
    Fenced,
}

/// The objects of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Store {
    /// Packs that are stored.
    pub packs: Packs,
    /// What is in each actor's pack.
    pub contents: [Chunks; ACTORS],
    /// The packs that each shard names.
    pub shards: [Packs; ACTORS + 1],
    /// Snapshots that are stored.
    pub snapshots: Snapshots,
    /// What each process's snapshot needs.
    pub needs: [Chunks; PROCESSES],
    /// Snapshots that a forget record names.
    pub forgotten: Snapshots,
    /// Sessions that are there.
    pub sessions: Actors,
    /// Which tombstones each session saw.
    pub saw: [Actors; ACTORS],
    /// Outcomes.
    pub outcomes: [Outcome; PROCESSES],
    /// The packs of each tombstone; 0 for none.
    pub tombstones: [Packs; ACTORS],
    /// What was put and is not listed yet; see [`tombstone_bit`] and its siblings.
    pub unlisted: u32,
}

/// The bit of a tombstone in [`Store::unlisted`].
pub fn tombstone_bit(actor: usize) -> u32 {
    1 << actor
}

/// The bit of a session.
pub fn session_bit(actor: usize) -> u32 {
    1 << (8 + actor)
}

/// The bit of a snapshot.
pub fn snapshot_bit(snapshot: usize) -> u32 {
    1 << (16 + snapshot)
}

/// The bit of a shard.
pub fn shard_bit(shard: usize) -> u32 {
    1 << (24 + shard)
}

impl Store {
    /// What a pack holds.
    pub fn chunks_of(&self, setting: &Setting, pack: usize) -> Chunks {
        if pack < INITIAL { setting.packs[pack] } else { self.contents[pack - INITIAL] }
    }

    /// What packs hold.
    pub fn chunks_in(&self, setting: &Setting, packs: Packs) -> Chunks {
        members(packs).fold(0, |chunks, pack| chunks | self.chunks_of(setting, pack))
    }

    /// What a snapshot needs.
    pub fn needs_of(&self, setting: &Setting, snapshot: usize) -> Chunks {
        if snapshot < INITIAL { setting.snapshots[snapshot] } else { self.needs[snapshot - INITIAL] }
    }

    /// What snapshots need.
    pub fn needs_in(&self, setting: &Setting, snapshots: Snapshots) -> Chunks {
        members(snapshots).fold(0, |chunks, snapshot| chunks | self.needs_of(setting, snapshot))
    }

    /// The snapshots that count: stored, and not recorded as forgotten.
    pub fn visible(&self, setting: &Setting) -> Snapshots {
        if setting.guards.has(Guard::ForgetRecords) {
            self.snapshots & !self.forgotten
        } else {
            self.snapshots
        }
    }

    /// The visible snapshots that a listing shows now.
    pub fn listed_snapshots(&self, setting: &Setting) -> Snapshots {
        self.visible(setting) & !((self.unlisted >> 16) as u8)
    }

    /// The tombstones that a listing shows now.
    pub fn listed_tombstones(&self) -> Actors {
        let there = (0..ACTORS).filter(|t| self.tombstones[*t] != 0).fold(0, |set, t| set | 1 << t);
        there & !(self.unlisted as u8)
    }

    /// The sessions that a listing shows now.
    pub fn listed_sessions(&self) -> Actors {
        self.sessions & !((self.unlisted >> 8) as u8)
    }

    /// The packs that the listed shards name.
    pub fn listed_index(&self) -> Packs {
        let listed = (0..self.shards.len()).filter(|shard| self.unlisted & shard_bit(*shard) == 0);
        listed.fold(0, |packs, shard| packs | self.shards[shard])
    }

    /// The packs that any shard names.
    pub fn index(&self) -> Packs {
        self.shards.iter().fold(0, |packs, shard| packs | shard)
    }

    /// The packs of these tombstones.
    pub fn packs_of(&self, tombstones: Actors) -> Packs {
        members(tombstones).fold(0, |packs, t| packs | self.tombstones[t])
    }

    /// The packs of all tombstones.
    pub fn tombstoned(&self) -> Packs {
        self.tombstones.iter().fold(0, |packs, t| packs | t)
    }
}

/// What a process does next. The request of a step takes effect at once, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum Step {
    // A writer.
    PutSession,
    ListTombstones,
    NameSeen,
    ListSnapshots,
    LoadIndex,
    PutPack,
    PutShard,
    Beat,
    LookBefore,
    CreateOutcome,
    PutSnapshot,
    LookAfter,
    TakeBack,
    Tidy,
    // Who forgets.
    Record,
    Remove,
    // A collector.
    Planning,
    PutCopy,
    NameCopy,
    Publish,
    ChooseTombstones,
    WaitForTombstones,
    WaitForSessions,
    ListSessions,
    EndSessions,
    Help,
    TidyAfter,
    WaitForSnapshots,
    Mark,
    ListAllTombstones,
    Decide,
    Delete,
    ReadShard,
    ReplaceShard,
    WaitOut,
    RemoveTombstone,
    // All.
    Done,
}

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It has not begun.
    Waiting,
    /// It goes on, some time or never.
    Up,
    /// It is dead, and its last request may still take effect.
    Dying,
    /// It is dead or through, and nothing of it is in flight.
    Gone,
}

/// A process. What a step does not need any more is zero, so that equal futures are equal states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "see the steps that set them")]
pub struct Process {
    pub life: Life,
    pub step: Step,
    /// Writer: tombstones it saw. Collector: tombstones it sweeps.
    pub tombstones: Actors,
    /// Writer: packs it holds for absent. Collector: packs that it found tombstoned.
    pub shunned: Packs,
    /// Writer: what its snapshot needs. Collector: what is live.
    pub chunks: Chunks,
    /// Writer: chunks of a new pack. Collector: chunks to be copied.
    pub fresh: Chunks,
    /// Writer: packs for its shard. Collector: packs to be deleted, and then left out.
    pub packs: Packs,
    /// Writer: it was late when it looked. Forget: what it forgets. Collector: the shard that it rewrites.
    pub one: u8,
    /// Collector: what the shard that it rewrites said. Before: the index of the plan.
    pub read: Packs,
    /// Collector: sessions to be ended before the sweep; actors that it waits out. Writer that reads early: [`READ_EARLY`] or not.
    pub actors: Actors,
    /// Collector: what was not listed when it began to wait.
    pub wait: u32,
    /// Without conditional create: the stale time passed since the last beat took effect.
    pub overdue: bool,
    /// It passed since the time that the writer goes by.
    pub late: bool,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The store.
    pub store: Store,
    /// The processes, and the place of the last collector.
    pub processes: [Process; ACTORS],
    /// Crashes so far.
    pub crashes: u8,
    /// Snapshots that were acknowledged to a user.
    pub acknowledged: Snapshots,
    /// Snapshots that a user wanted gone.
    pub unwanted: Snapshots,
    /// Snapshots whose put took effect when the stale time had passed, but not yet when the writer looked.
    pub put_late: Snapshots,
}
