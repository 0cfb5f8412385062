//! The steps of writers, and of `forget`.

use crate::guard::Guard;
use crate::world::{
    Outcome, Process, READ_EARLY, Setting, State, Step, Store, Way, members, new_pack, new_shard,
    new_snapshot, session_bit, shard_bit, snapshot_bit,
};

/// Where a writer begins.
pub fn first(setting: &Setting, way: Way) -> Step {
    if has_session_first(setting, way) && !reads_early(setting, way) {
        Step::PutSession
    } else {
        Step::ListTombstones
    }
}

fn reads_early(setting: &Setting, way: Way) -> bool {
    setting.early && !way.repairs()
}

fn has_session_first(setting: &Setting, way: Way) -> bool {
    match way {
        Way::Repair | Way::RepairAll => setting.guards.has(Guard::RepairHasSession),
        _ => setting.guards.has(Guard::SessionFirst),
    }
}

/// Does a writer's next step.
pub fn step(setting: &Setting, state: &mut State, who: usize, way: Way, wants: u8, choice: u8) {
    let store = state.store;
    let mut me = state.processes[who];
    match me.step {
        Step::PutSession => {
            put_session(setting, state, who, me.tombstones);
            (me.overdue, me.late) = (false, false);
            me.step = if has_session_first(setting, way) {
                Step::ListTombstones
            } else {
                after_reading(setting, &me)
            };
        }
        Step::ListTombstones => {
            if !setting.guards.has(Guard::BeatSinceSent) {
                me.late = false;
            }
            let listed = store.listed_tombstones();
            if me.actors == READ_EARLY && me.tombstones == listed {
                me.actors = 0;
                me.step = after_reading(setting, &me);
                state.processes[who] = me;
                return;
            }
            let has_session = store.sessions & (1 << who) != 0;
            (me.actors, me.chunks, me.fresh, me.packs) = (0, 0, 0, 0);
            me.tombstones = listed;
            me.shunned = store.packs_of(me.tombstones);
            let names = me.tombstones != 0 && has_session && way != Way::RepairAll;
            me.step = if names { Step::NameSeen } else { to_reading(way) };
        }
        Step::NameSeen => {
            if beats(setting, state, who, &mut me) {
                me.step = to_reading(way);
            }
        }
        Step::ListSnapshots => match members(store.listed_snapshots(setting)).nth(usize::from(choice)) {
            Some(parent) => {
                me.chunks = store.needs_of(setting, parent);
                me.step = Step::LoadIndex;
            }
            None => me.step = Step::Tidy,
        },
        Step::LoadIndex => {
            load_index(setting, state, way, wants, &mut me);
            me.step = to_writing(setting, &store, who, &mut me, way);
        }
        Step::PutPack => {
            if me.fresh != 0 {
                state.store.contents[who] = me.fresh;
                state.store.packs |= 1 << new_pack(who);
                me.packs |= 1 << new_pack(who);
                me.fresh = 0;
            } else {
                state.store.packs |= me.packs;
            }
            me.step = Step::PutShard;
        }
        Step::PutShard => {
            state.store.shards[new_shard(who)] = me.packs;
            unlist(setting, state, shard_bit(new_shard(who)));
            me.packs = 0;
            me.step = match way {
                _ if way.repairs() => Step::Tidy,
                _ => to_commit(setting),
            };
        }
        Step::Beat => {
            if beats(setting, state, who, &mut me) {
                me.step = Step::LookBefore;
            }
        }
        Step::LookBefore => {
            let stops = me.late && setting.guards.has(Guard::LookBefore);
            me.one = u8::from(me.late);
            me.step = if stops { Step::Done } else { Step::PutSnapshot };
        }
        Step::CreateOutcome => {
            state.store.needs[who] = me.chunks;
            me.step = match store.outcomes[who] {
                Outcome::Open => {
                    state.store.outcomes[who] = Outcome::Committed;
                    // Choice 1: its answer is lost, and the request is sent again.
                    if choice == 0 { Step::PutSnapshot } else { Step::CreateOutcome }
                }
                // Its own, of the first request.
                Outcome::Committed => Step::PutSnapshot,
                Outcome::Fenced if setting.guards.has(Guard::FenceHeeded) => Step::Done,
                Outcome::Fenced => Step::PutSnapshot,
            };
        }
        Step::PutSnapshot => {
            state.store.needs[who] = me.chunks;
            put_snapshot(setting, state, who);
            // Late only since it looked.
            if !setting.cas && me.late && me.one == 0 {
                state.put_late |= 1 << new_snapshot(who);
            }
            if setting.cas {
                acknowledge(state, who);
                me.step = Step::Tidy;
            } else {
                me.step = Step::LookAfter;
            }
        }
        Step::LookAfter => {
            let stops = me.late && setting.guards.has(Guard::LookAfter);
            if !stops {
                acknowledge(state, who);
            }
            me.step = if stops { Step::TakeBack } else { Step::Tidy };
        }
        Step::TakeBack => {
            state.store.snapshots &= !(1 << new_snapshot(who));
            state.store.unlisted &= !snapshot_bit(new_snapshot(who));
            me.step = Step::Tidy;
        }
        Step::Tidy => {
            remove_session(state, who);
            me.step = Step::Done;
        }
        _ => me.step = Step::Done,
    }
    state.processes[who] = me;
}

/// Does the next step of one who forgets a snapshot: the record first.
pub fn forget(setting: &Setting, state: &mut State, who: usize, choice: u8) {
    let mut me = state.processes[who];
    match me.step {
        Step::Record => match members(state.store.listed_snapshots(setting)).nth(usize::from(choice)) {
            Some(snapshot) => {
                state.store.forgotten |= 1 << snapshot;
                state.unwanted |= 1 << snapshot;
                me.one = snapshot as u8;
                me.step = Step::Remove;
            }
            None => me.step = Step::Done,
        },
        _ => {
            state.store.snapshots &= !(1 << me.one);
            state.store.unlisted &= !snapshot_bit(usize::from(me.one));
            me.step = Step::Done;
        }
    }
    state.processes[who] = me;
}

/// Puts a process's snapshot, by itself or by who helps.
pub fn put_snapshot(setting: &Setting, state: &mut State, who: usize) {
    let snapshot = new_snapshot(who);
    if state.store.snapshots & (1 << snapshot) == 0 {
        state.store.snapshots |= 1 << snapshot;
        unlist(setting, state, snapshot_bit(snapshot));
    }
}

/// Removes a process's session and outcome, in one request.
pub fn remove_session(state: &mut State, who: usize) {
    state.store.sessions &= !(1 << who);
    state.store.saw[who] = 0;
    state.store.unlisted &= !session_bit(who);
    state.store.outcomes[who] = Outcome::Open;
}

/// Where listings lag, what was put is not listed for now.
pub fn unlist(setting: &Setting, state: &mut State, bit: u32) {
    if setting.lag {
        state.store.unlisted |= bit;
    }
}

fn put_session(setting: &Setting, state: &mut State, who: usize, saw: u8) {
    if state.store.sessions & (1 << who) == 0 {
        state.store.sessions |= 1 << who;
        unlist(setting, state, session_bit(who));
    }
    state.store.saw[who] = saw;
}

/// Puts the session again, and says whether the writer may go on.
fn beats(setting: &Setting, state: &mut State, who: usize, me: &mut Process) -> bool {
    if !setting.cas {
        let latches = setting.guards.has(Guard::LatenessLatched);
        if me.late && latches {
            me.step = Step::Done;
            return false;
        }
        (me.overdue, me.late) = (false, false);
    }
    put_session(setting, state, who, me.tombstones);
    true
}

fn acknowledge(state: &mut State, who: usize) {
    state.acknowledged |= 1 << new_snapshot(who);
}

fn load_index(setting: &Setting, state: &State, way: Way, wants: u8, me: &mut Process) {
    let (store, guards) = (&state.store, setting.guards);
    let chunks_in = |packs| store.chunks_in(setting, packs);
    let named = store.listed_index();
    let sound = named & !me.shunned;
    let usable = if guards.has(Guard::DedupShunsTombstoned) { sound } else { named };
    if way != Way::Parent {
        me.chunks = wants;
    }
    match way {
        Way::Dedup => me.fresh = wants & !chunks_in(usable),
        Way::Adopt => {
            let shuns = guards.has(Guard::AdoptShunsTombstoned);
            me.packs = store.packs & !named & !if shuns { me.shunned } else { 0 };
            me.fresh = wants & !chunks_in(usable | me.packs);
        }
        Way::Parent => {
            let missing = me.chunks & !chunks_in(sound);
            if me.tombstones != 0 && guards.has(Guard::ParentProbed) {
                let all = guards.has(Guard::ParentProbesAll);
                me.fresh |= if all { missing } else { missing & chunks_in(named & me.shunned) };
            }
            if !setting.cas && guards.has(Guard::ParentProved) {
                me.fresh |= missing;
            }
        }
        Way::Copy(pack) => {
            let is_shunned = me.shunned & (1 << pack) != 0 && guards.has(Guard::CopyShunsTombstoned);
            if is_shunned {
                me.fresh = wants & !chunks_in(usable);
            } else if usable & (1 << pack) == 0 {
                me.packs = 1 << pack;
            }
        }
        Way::Repair => me.packs = store.packs & !me.shunned,
        Way::RepairAll => me.packs = store.packs,
    }
    // What is not needed any more is forgotten, but for what the session says.
    me.shunned = 0;
}

fn to_reading(way: Way) -> Step {
    if way == Way::Parent { Step::ListSnapshots } else { Step::LoadIndex }
}

/// After all was read: what is to be stored, if the session is there.
fn to_writing(setting: &Setting, store: &Store, who: usize, me: &mut Process, way: Way) -> Step {
    let has_session = store.sessions & (1 << who) != 0;
    match way {
        _ if way.repairs() => Step::PutShard,
        _ if !has_session && reads_early(setting, way) => {
            me.actors = READ_EARLY;
            Step::PutSession
        }
        _ if has_session_first(setting, way) || has_session => after_reading(setting, me),
        _ => Step::PutSession,
    }
}

fn after_reading(setting: &Setting, me: &Process) -> Step {
    // Adopted packs are there already.
    if me.fresh != 0 || me.packs != 0 { Step::PutPack } else { to_commit(setting) }
}

fn to_commit(setting: &Setting) -> Step {
    if setting.cas { Step::CreateOutcome } else { Step::Beat }
}
