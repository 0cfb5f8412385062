//! The settings that are checked: each as small as its question allows.

use crate::guard::{Guard, Guards};
use crate::world::{INITIAL, PROCESSES, Packs, Plan, Role, Setting, Way};

/// The three chunks there are.
pub const A: u8 = 1;
/// See [`A`].
pub const B: u8 = 2;
/// See [`A`].
pub const C: u8 = 4;

/// A store with conditional create and listings that do not lag, one crash.
fn setting(
    name: &'static str,
    packs: [u8; INITIAL],
    named: Packs,
    snapshots: [u8; INITIAL],
    roles: [Role; PROCESSES],
) -> Setting {
    let stored = (0..INITIAL).filter(|pack| packs[*pack] != 0).fold(0, |set, pack| set | 1 << pack);
    Setting {
        name,
        guards: Guards::ALL,
        cas: true,
        lag: false,
        in_flight: true,
        punctual: false,
        early: false,
        crashes: 1,
        removal: false,
        packs,
        stored,
        named,
        snapshots,
        roles,
    }
}

const DEDUP_A: Role = Role::Writer(Way::Dedup, A);
const PARENT: Role = Role::Writer(Way::Parent, 0);
const COLLECTOR: Role = Role::Collector(Plan::Dead);

const NOBODY: Role = Role::Nobody;

/// Chunk A is garbage in pack 0; a writer wants it while two collect it.
pub fn dedup() -> Setting {
    setting("dedup", [A, B, 0], 0b11, [B, 0, 0], [DEDUP_A, COLLECTOR, COLLECTOR, NOBODY])
}

/// The parent is forgotten and its packs are collected while a writer takes over what it had.
pub fn parent() -> Setting {
    setting("parent", [A, B, 0], 0b11, [A, B, 0], [PARENT, Role::Forget, COLLECTOR, NOBODY])
}

/// Two writers, a collector, and one who forgets: also what the first writer has just written, and the other took for its parent.
pub fn writers() -> Setting {
    setting("writers", [A, B, 0], 0b11, [B, 0, 0], [DEDUP_A, PARENT, Role::Forget, COLLECTOR])
}

/// A chunk lies in two packs, and each of two collectors keeps the other one. A writer comes for it.
pub fn duplicate() -> Setting {
    let last = Role::Collector(Plan::DeadKeepLast);
    setting("duplicate", [A, A, B], 0b111, [A, 0, 0], [COLLECTOR, last, DEDUP_A, NOBODY])
}

/// A pack that no shard names is adopted while it is collected, and another writer is to find what it adopted.
pub fn adopt() -> Setting {
    let adopts = Role::Writer(Way::Adopt, A);
    setting("adopt", [A, B, 0], 0b10, [B, 0, 0], [adopts, COLLECTOR, DEDUP_A, NOBODY])
}

/// Two adopt the same pack.
pub fn adopt_twice() -> Setting {
    let adopts = Role::Writer(Way::Adopt, A);
    setting("adopt twice", [A, B, 0], 0b10, [B, 0, 0], [adopts, adopts, COLLECTOR, NOBODY])
}

/// `sync` brings a pack under its name while two collect it.
pub fn copy() -> Setting {
    let copies = Role::Writer(Way::Copy(0), A);
    setting("copy", [A, B, 0], 0b11, [B, 0, 0], [copies, COLLECTOR, COLLECTOR, NOBODY])
}

/// The index is repaired while packs are collected, and a writer relies on what it says.
pub fn repair() -> Setting {
    let repairs = Role::Writer(Way::Repair, 0);
    setting("repair", [A, B, 0], 0b11, [B, 0, 0], [repairs, COLLECTOR, DEDUP_A, NOBODY])
}

/// The index is repaired by one who names tombstoned packs too, as long as they are there.
pub fn repair_all() -> Setting {
    let repairs = Role::Writer(Way::RepairAll, 0);
    setting("repair, all packs", [A, B, 0], 0b11, [B, 0, 0], [repairs, COLLECTOR, DEDUP_A, NOBODY])
}

/// A pack is partly dead and is repacked while a writer wants what is dead of it and another what is live.
pub fn repack() -> Setting {
    let repacks = Role::Collector(Plan::Repack);
    let wants = Role::Writer(Way::Dedup, B);
    setting("repack", [A | B, 0, 0], 0b1, [A, 0, 0], [repacks, wants, PARENT, Role::Forget])
}

/// A collector that is mad: it names packs that everybody needs.
pub fn any_plan() -> Setting {
    let mad = Role::Collector(Plan::Any(0b111));
    setting("any plan", [A, A, B], 0b111, [A, B, 0], [mad, PARENT, Role::Forget, COLLECTOR])
}

/// What a tombstone names is the parent of a writer that saw the tombstone; then it is forgotten.
pub fn parent_in_tombstone() -> Setting {
    let mad = Role::Collector(Plan::Any(0b1));
    setting("parent in a tombstone", [A, B, 0], 0b11, [A, 0, 0], [mad, PARENT, Role::Forget, NOBODY])
}

/// All settings, with all their processes.
pub fn all() -> impl Iterator<Item = Setting> {
    [
        dedup(),
        parent(),
        writers(),
        duplicate(),
        adopt(),
        adopt_twice(),
        copy(),
        repair(),
        repack(),
        any_plan(),
    ]
    .into_iter()
}

/// The same questions with fewer processes, and what of [`all`] is small.
pub fn small() -> impl Iterator<Item = Setting> {
    let two = [dedup(), duplicate(), adopt(), copy()].map(|setting| setting.lacking(2));
    let forgetting = [writers().lacking(1), repack().lacking(1), any_plan().lacking(3)];
    let more = [parent(), parent_in_tombstone(), repair().lacking(2), repair_all().lacking(2)];
    two.into_iter().chain(forgetting).chain(more)
}

impl Setting {
    /// The same, on a store without conditional create.
    #[must_use]
    pub fn without_cas(self) -> Setting {
        Setting { cas: false, ..self }
    }

    /// The same, where listings lag.
    #[must_use]
    pub fn lagging(self) -> Setting {
        Setting { lag: true, ..self }
    }

    /// The same, with collectors that go on to remove tombstones.
    #[must_use]
    pub fn removing(self) -> Setting {
        Setting { removal: true, ..self }
    }

    /// The same, with writers that read before they put their session.
    #[must_use]
    pub fn early(self) -> Setting {
        Setting { early: true, ..self }
    }

    /// The same, where nobody is slow and what dies takes its requests with it.
    #[must_use]
    pub fn punctual(self) -> Setting {
        Setting { punctual: true, ..self }.nothing_in_flight()
    }

    /// The same, with one rule taken out.
    #[must_use]
    pub fn without(self, guard: Guard) -> Setting {
        Setting { guards: self.guards.without(guard), ..self }
    }

    /// The same, with nobody in a place.
    #[must_use]
    pub fn lacking(mut self, who: usize) -> Setting {
        self.roles[who] = Role::Nobody;
        self
    }

    /// The same, where what dies takes its requests with it.
    #[must_use]
    pub fn nothing_in_flight(self) -> Setting {
        Setting { in_flight: false, ..self }
    }

    /// The same, with so many crashes at most.
    #[must_use]
    pub fn crashes(self, crashes: u8) -> Setting {
        Setting { crashes, ..self }
    }
}
