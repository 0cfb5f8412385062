//! What must hold in every state.

use stateright::Property;

use crate::world::{
    Chunks, INITIAL, Life, Outcome, PROCESSES, Plan, Process, Role, Setting, Snapshots, State, Step, members,
};
use crate::writer;

/// Acknowledged snapshots that nobody wanted gone are there, and whole.
pub const ACKNOWLEDGED: &str = "what was acknowledged is there and whole";
/// Snapshots that can be seen are whole. Without conditional create: but for the one that RFC 4 names.
pub const VISIBLE: &str = "what can be seen is whole";
/// As [`VISIBLE`], with no exception.
pub const NO_RESIDUE: &str = "what can be seen is whole, whatever the store";
/// The index names no pack that is gone, but for packs that tombstones name.
pub const INDEX: &str = "the index names nothing that is gone";
/// One undisturbed collection frees all that is not needed, whatever the others left when they died, and breaks nothing.
pub const FREED: &str = "all garbage can be freed";

/// Whether something can happen: a test that nothing is possible would prove nothing.
pub const SOMETIMES_ACKNOWLEDGED: &str = "a new snapshot is acknowledged";
/// See [`SOMETIMES_ACKNOWLEDGED`].
pub const SOMETIMES_DELETED: &str = "a pack is deleted";

/// More steps than a lone collector can need.
const LONE_STEPS_MAX: usize = 200;

/// What is to be proved of a setting.
pub fn properties(setting: &Setting) -> Vec<Property<Setting>> {
    let mut properties = vec![
        Property::always(ACKNOWLEDGED, |setting: &Setting, state: &State| {
            setting.acknowledged_is_whole(state)
        }),
        Property::always(VISIBLE, |setting: &Setting, state: &State| {
            broken(setting, state) & !residue(setting, state) == 0
        }),
        Property::always(INDEX, |_: &Setting, state: &State| index_is_sound(state)),
        Property::always(FREED, |setting: &Setting, state: &State| can_be_freed(setting, state)),
        Property::sometimes(SOMETIMES_DELETED, |setting: &Setting, state: &State| {
            setting.stored & !state.store.packs != 0
        }),
    ];
    if setting.roles.iter().any(|role| matches!(role, Role::Writer(way, _) if !way.repairs())) {
        properties.push(Property::sometimes(SOMETIMES_ACKNOWLEDGED, |_: &Setting, state: &State| {
            state.acknowledged >> INITIAL != 0
        }));
    }
    if !setting.cas {
        properties.push(Property::always(NO_RESIDUE, |setting: &Setting, state: &State| {
            broken(setting, state) == 0
        }));
    }
    properties
}

impl Setting {
    /// What a reader finds who loads the index again when it misses a pack.
    fn found(&self, state: &State) -> Chunks {
        state.store.chunks_in(self, state.store.index() & state.store.packs)
    }

    fn acknowledged_is_whole(&self, state: &State) -> bool {
        let wanted = state.acknowledged & !state.unwanted;
        let lost = wanted & !state.store.snapshots;
        lost == 0 && state.store.needs_in(self, wanted) & !self.found(state) == 0
    }
}

/// Visible snapshots that lack chunks.
fn broken(setting: &Setting, state: &State) -> Snapshots {
    let found = setting.found(state);
    let lacks = |snapshot: &usize| state.store.needs_of(setting, *snapshot) & !found != 0;
    members(state.store.visible(setting)).filter(lacks).fold(0, |set, snapshot| set | 1 << snapshot)
}

/// Snapshots that may lack chunks: put too late without conditional create, never acknowledged, by a writer that is dead or has yet to look at
/// its clock again.
fn residue(setting: &Setting, state: &State) -> Snapshots {
    if setting.cas {
        return 0;
    }
    let looks_yet = |who: &usize| {
        let process = &state.processes[*who];
        process.life == Life::Gone || matches!(process.step, Step::LookAfter | Step::TakeBack)
    };
    let candidates = (0..PROCESSES).filter(looks_yet).fold(0, |set, who| set | 1 << (INITIAL + who));
    state.put_late & !state.acknowledged & candidates
}

fn index_is_sound(state: &State) -> bool {
    state.store.index() & !state.store.tombstoned() & !state.store.packs == 0
}

/// Kills all, lets one collector run alone, and looks what it left.
fn can_be_freed(setting: &Setting, state: &State) -> bool {
    if broken(setting, state) != 0 {
        // Nothing is collected before such a snapshot is forgotten.
        return true;
    }
    let mut state = *state;
    // What was committed is helped before anything is planned.
    let committed = |who: &usize| state.store.outcomes[*who] == Outcome::Committed;
    let sessions = members(state.store.sessions).filter(|who| *who < PROCESSES);
    for who in sessions.filter(committed).collect::<Vec<_>>() {
        writer::put_snapshot(setting, &mut state, who);
        writer::remove_session(&mut state, who);
    }
    for process in &mut state.processes {
        *process = Process::at(Step::Done, Life::Gone);
    }
    state.store.unlisted = 0;
    let last = PROCESSES;
    state.processes[last] = Process::at(Step::Planning, Life::Up);
    for _ in 0..LONE_STEPS_MAX {
        if state.processes[last].life == Life::Gone {
            break;
        }
        setting.advance(&mut state, last, Role::Collector(Plan::Repack), 0);
    }
    let store = &state.store;
    let live = store.needs_in(setting, store.visible(setting));
    let is_garbage = |pack: usize| store.chunks_of(setting, pack) & !live != 0;
    let garbage = members(store.packs).any(is_garbage);
    let is_through = state.processes[last].life == Life::Gone;
    let names_right = store.index() == store.packs && store.tombstoned() == 0;
    is_through
        && !garbage
        && names_right
        && setting.acknowledged_is_whole(&state)
        && broken(setting, &state) == 0
}
