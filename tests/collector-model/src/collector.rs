//! The steps of a collector.

use crate::guard::Guard;
use crate::world::{
    ACTORS, Actors, Chunks, INITIAL, Life, Outcome, PROCESSES, Packs, Plan, Process, Setting, State, Step,
    Store, members, new_pack, new_shard, tombstone_bit,
};
use crate::writer::{put_snapshot, remove_session, unlist};

/// Does a collector's next step. Choice 0 ends a session that holds the sweep back, choice 1 lets it.
pub fn step(setting: &Setting, state: &mut State, who: usize, plan: Plan, choice: u8) {
    let store = state.store;
    let mut me = state.processes[who];
    match me.step {
        Step::Planning => planning(setting, &store, plan, &mut me),
        Step::PutCopy => {
            state.store.contents[who] = me.fresh;
            state.store.packs |= 1 << new_pack(who);
            me.fresh = 0;
            me.step = Step::NameCopy;
        }
        Step::NameCopy => {
            state.store.shards[new_shard(who)] = 1 << new_pack(who);
            me.step = if me.packs != 0 { Step::Publish } else { Step::ChooseTombstones };
        }
        Step::Publish => {
            state.store.tombstones[who] = me.packs;
            unlist(setting, state, tombstone_bit(who));
            me.packs = 0;
            me.step = Step::ChooseTombstones;
        }
        Step::ChooseTombstones => choose(setting, &store, who, &mut me),
        Step::WaitForTombstones => {
            me.wait = if setting.guards.has(Guard::LagBeforeSessions) { store.unlisted } else { 0 };
            me.step = Step::WaitForSessions;
        }
        Step::WaitForSessions => me.step = before_sessions(setting),
        Step::ListSessions => {
            let unaware = members(store.listed_sessions()).filter(|w| me.tombstones & !store.saw[*w] != 0);
            me.actors = unaware.fold(0, |set, w| set | 1 << w);
            to_next_session(setting, &store, &mut me);
        }
        Step::EndSessions => end_session(setting, state, &mut me, choice),
        Step::Help => {
            put_snapshot(setting, state, usize::from(me.one));
            me.step = Step::TidyAfter;
        }
        Step::TidyAfter => {
            remove_session(state, usize::from(me.one));
            me.one = 0;
            to_next_session(setting, &store, &mut me);
        }
        Step::WaitForSnapshots => me.step = after_sessions(setting),
        Step::Mark => {
            if setting.guards.has(Guard::MarkedAgain) {
                me.chunks = store.needs_in(setting, store.listed_snapshots(setting));
            }
            me.step = match setting.guards.has(Guard::SnapshotsAfterSessions) {
                true => Step::ListAllTombstones,
                false => Step::ListSessions,
            };
        }
        Step::ListAllTombstones => {
            let all = setting.guards.has(Guard::AnyTombstoneCounts);
            me.tombstones &= if all { Actors::MAX } else { 1 << who };
            let listed = if all { store.listed_tombstones() } else { 0 };
            me.shunned = store.packs_of(listed | me.tombstones);
            me.step = Step::Decide;
        }
        Step::Decide => decide(setting, &store, &mut me),
        Step::Delete => {
            if let Some(pack) = members(me.packs & store.packs).next() {
                state.store.packs &= !(1 << pack);
            }
            let more = me.packs & state.store.packs != 0;
            me.step = match setting.guards.has(Guard::TombstoneLast) {
                _ if more => Step::Delete,
                true => Step::ReadShard,
                false => Step::RemoveTombstone,
            };
        }
        Step::ReadShard => read_shard(setting, &store, who, &mut me, state),
        Step::ReplaceShard => {
            let shard = usize::from(me.one);
            let rest = me.read & !me.packs;
            // Two that replace the same shard: both are in force.
            let untouched = store.shards[shard] == me.read;
            state.store.shards[shard] = if untouched { rest } else { store.shards[shard] | rest };
            (me.one, me.read) = (0, 0);
            me.step = Step::ReadShard;
        }
        Step::WaitOut => {
            me.actors = 0;
            me.late = true;
            me.step = Step::ReadShard;
        }
        Step::RemoveTombstone => {
            for t in members(me.tombstones) {
                if store.tombstones[t] & (store.packs | !me.packs) == 0 {
                    state.store.tombstones[t] = 0;
                    state.store.unlisted &= !tombstone_bit(t);
                }
            }
            me.step = match setting.guards.has(Guard::TombstoneLast) {
                true => Step::Done,
                false => Step::ReadShard,
            };
            // With the rule taken out, the index comes last.
            me.tombstones = 0;
        }
        _ => me.step = Step::Done,
    }
    state.processes[who] = me;
}

/// Whether a collector has to wait before its next step.
pub fn must_wait(state: &State, who: usize) -> bool {
    let me = &state.processes[who];
    match me.step {
        Step::WaitForTombstones | Step::WaitForSessions | Step::WaitForSnapshots => me.wait != 0,
        Step::WaitOut => members(me.actors).any(|other| state.processes[other].life != Life::Gone),
        _ => false,
    }
}

/// Whether a session may be taken for over. With conditional create, any may: a fence is put, or its outcome is found.
pub fn may_end(setting: &Setting, state: &State, who: usize) -> bool {
    let process = &state.processes[who];
    let dead = match setting.guards.has(Guard::DeadSettles) {
        true => process.life == Life::Gone,
        false => matches!(process.life, Life::Gone | Life::Dying),
    };
    let fenced = setting.cas && !setting.punctual;
    fenced || dead || process.overdue || state.store.sessions & (1 << who) == 0
}

/// What is live and what goes. Where something live is missing, nothing does.
fn planning(setting: &Setting, store: &Store, plan: Plan, me: &mut Process) {
    let live = store.needs_in(setting, store.listed_snapshots(setting));
    let named = store.listed_index();
    let tombstoned = store.packs_of(store.listed_tombstones());
    let good = if setting.guards.has(Guard::PlanShunsTombstoned) { named & !tombstoned } else { named };
    if live & !store.chunks_in(setting, named & store.packs) != 0 {
        me.step = Step::Done;
        return;
    }
    let mut kept: Packs = 0;
    for chunk in members(live) {
        let mut copies = members(good).filter(|pack| store.chunks_of(setting, *pack) & (1 << chunk) != 0);
        let copy = if plan == Plan::DeadKeepLast { copies.last() } else { copies.next() };
        kept |= copy.map_or(0, |pack| 1 << pack);
    }
    me.packs = store.packs & !kept & !tombstoned;
    match plan {
        Plan::Any(packs) => me.packs = packs & store.packs,
        Plan::Repack => {
            let is_partly_dead = |pack: &usize| store.chunks_of(setting, *pack) & !live != 0;
            let partly: Packs = members(kept).filter(is_partly_dead).fold(0, |set, pack| set | 1 << pack);
            me.fresh = live & !store.chunks_in(setting, kept & !partly);
            me.packs |= partly;
        }
        Plan::Dead | Plan::DeadKeepLast => {}
    }
    if !setting.guards.has(Guard::MarkedAgain) {
        me.chunks = live;
    }
    if !setting.guards.has(Guard::IndexAgain) {
        me.read = named;
    }
    me.step = match (me.fresh, me.packs) {
        (0, 0) => Step::ChooseTombstones,
        (0, _) => Step::Publish,
        _ => Step::PutCopy,
    };
}

fn choose(setting: &Setting, store: &Store, who: usize, me: &mut Process) {
    let known = store.listed_tombstones() | if store.tombstones[who] != 0 { 1 << who } else { 0 };
    let unswept = |t: &usize| store.tombstones[*t] & (store.packs | store.index()) != 0;
    let is_due = |t: &usize| removes(setting, who) || unswept(t);
    me.tombstones = members(known).filter(is_due).fold(0, |set, t| set | 1 << t);
    if setting.lag {
        me.wait = store.unlisted;
    }
    me.step = match me.tombstones {
        0 => Step::Done,
        _ if setting.lag => Step::WaitForTombstones,
        _ => before_sessions(setting),
    };
}

/// The last collector always does all there is to do.
fn removes(setting: &Setting, who: usize) -> bool {
    setting.removal || who == PROCESSES
}

fn before_sessions(setting: &Setting) -> Step {
    match (setting.guards.has(Guard::SweepWaits), setting.guards.has(Guard::SnapshotsAfterSessions)) {
        (true, true) => Step::ListSessions,
        _ => Step::Mark,
    }
}

fn after_sessions(setting: &Setting) -> Step {
    match setting.guards.has(Guard::SnapshotsAfterSessions) {
        true => Step::Mark,
        false => Step::ListAllTombstones,
    }
}

fn to_next_session(setting: &Setting, store: &Store, me: &mut Process) {
    me.step = if me.tombstones == 0 {
        Step::Done
    } else if me.actors != 0 {
        Step::EndSessions
    } else if setting.lag {
        me.wait = if setting.guards.has(Guard::LagBeforeSnapshots) { store.unlisted } else { 0 };
        Step::WaitForSnapshots
    } else {
        after_sessions(setting)
    };
}

/// Ends the first of the sessions that hold the sweep back, or is held back by it.
fn end_session(setting: &Setting, state: &mut State, me: &mut Process, choice: u8) {
    let Some(writer) = members(me.actors).next() else {
        to_next_session(setting, &state.store, me);
        return;
    };
    me.actors &= !(1 << writer);
    if choice != 0 || !may_end(setting, state, writer) {
        me.tombstones &= state.store.saw[writer];
    } else if setting.cas && writer < PROCESSES {
        match state.store.outcomes[writer] {
            Outcome::Open => state.store.outcomes[writer] = Outcome::Fenced,
            Outcome::Fenced => {}
            Outcome::Committed if setting.guards.has(Guard::Helping) => {
                me.one = writer as u8;
                me.step = Step::Help;
                return;
            }
            Outcome::Committed => {}
        }
    }
    to_next_session(setting, &state.store, me);
}

/// Which packs of the tombstones can go: what they hold is dead, or lies in a pack that no tombstone names.
fn decide(setting: &Setting, store: &Store, me: &mut Process) {
    let live: Chunks = me.chunks;
    let named = if setting.guards.has(Guard::IndexAgain) { store.listed_index() } else { me.read };
    me.read = 0;
    me.chunks = 0;
    if live & !store.chunks_in(setting, named) != 0 {
        me.step = Step::Done;
        return;
    }
    let lacking = live & !store.chunks_in(setting, named & !me.shunned);
    let can_go = |pack: &usize| store.chunks_of(setting, *pack) & lacking == 0;
    let targets = store.packs_of(me.tombstones);
    me.packs = members(targets).filter(can_go).fold(0, |set, pack| set | 1 << pack);
    me.step = if me.packs & store.packs != 0 { Step::Delete } else { Step::ReadShard };
}

fn read_shard(setting: &Setting, store: &Store, who: usize, me: &mut Process, state: &State) {
    if setting.guards.has(Guard::RewriteDropsOnlyGone) {
        me.packs &= !store.packs;
    }
    let names_gone = |shard: &usize| store.shards[*shard] & me.packs != 0;
    if let Some(shard) = (0..store.shards.len()).find(names_gone) {
        me.one = shard as u8;
        me.read = store.shards[shard];
        me.step = Step::ReplaceShard;
    } else if !removes(setting, who) || me.tombstones == 0 {
        me.step = Step::Done;
    } else if me.late || !setting.guards.has(Guard::TombstoneKept) {
        me.step = Step::RemoveTombstone;
    } else {
        let others = (0..ACTORS).filter(|other| *other != who);
        let at_work = others.filter(|p| matches!(state.processes[*p].life, Life::Up | Life::Dying));
        me.actors = at_work.fold(0, |set, other| set | 1 << other);
        me.step = Step::WaitOut;
    }
}

const _: () = assert!(INITIAL + ACTORS <= 16, "packs are bits of 16");
