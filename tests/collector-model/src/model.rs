//! The model: which actions there are in a state, and what comes of them.

use stateright::{Model, Property};

use crate::world::{ACTORS, Life, Outcome, PROCESSES, Process, Role, Setting, State, Step, Store, members};
use crate::{collector, judge, writer};

/// What happens next. Processes go on in any order, and none has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A process does its next step; the number picks one where there are several ways.
    Does(usize, Step, u8),
    /// A process is killed before this step, whose request may be on its way already.
    Dies(usize, Step),
    /// The last request of a dead process takes effect.
    Lands(usize, Step),
    /// It never will.
    IsLost(usize, Step),
    /// The stale time passes for a writer that puts no beat.
    FallsSilent(usize),
    /// An object (a bit of `Store::unlisted`) appears in listings.
    Appears(u32),
}

impl Setting {
    /// The state at the beginning.
    pub fn begin(&self) -> State {
        let mut shards = [0; ACTORS + 1];
        shards[0] = self.named;
        let snapshots = self.snapshots.iter().enumerate().filter(|(_, needs)| **needs != 0);
        let snapshots = snapshots.fold(0, |set, (snapshot, _)| set | 1 << snapshot);
        let store = Store {
            packs: self.stored,
            contents: [0; ACTORS],
            shards,
            snapshots,
            needs: [0; PROCESSES],
            forgotten: 0,
            sessions: 0,
            saw: [0; ACTORS],
            outcomes: [Outcome::Open; PROCESSES],
            tombstones: [0; ACTORS],
            unlisted: 0,
        };
        let mut processes = [Process::at(Step::Done, Life::Gone); ACTORS];
        for (process, role) in processes.iter_mut().zip(self.roles) {
            *process = match role {
                Role::Nobody => continue,
                Role::Writer(way, _) => Process::at(writer::first(self, way), Life::Waiting),
                Role::Forget => Process::at(Step::Record, Life::Waiting),
                Role::Collector(_) => Process::at(Step::Planning, Life::Waiting),
            };
        }
        let (acknowledged, unwanted, put_late) = (snapshots, 0, 0);
        State { store, processes, crashes: 0, acknowledged, unwanted, put_late }
    }

    /// In how many ways a process can do its next step; 0 if it has to wait.
    fn ways(&self, state: &State, who: usize) -> u8 {
        let process = &state.processes[who];
        match process.step {
            _ if collector::must_wait(state, who) => 0,
            Step::ListSnapshots | Step::Record => {
                state.store.listed_snapshots(self).count_ones().max(1) as u8
            }
            Step::CreateOutcome if state.store.outcomes[who] == Outcome::Open => 2,
            Step::EndSessions => {
                let writer = members(process.actors).next();
                // What cannot be ended can only be let.
                if writer.is_some_and(|writer| collector::may_end(self, state, writer)) { 2 } else { 1 }
            }
            _ => 1,
        }
    }

    /// Does a process's next step.
    pub fn advance(&self, state: &mut State, who: usize, role: Role, choice: u8) {
        match role {
            Role::Writer(way, wants) => writer::step(self, state, who, way, wants, choice),
            Role::Forget => writer::forget(self, state, who, choice),
            Role::Collector(plan) => collector::step(self, state, who, plan, choice),
            Role::Nobody => {}
        }
        if state.processes[who].step == Step::Done {
            state.processes[who] = Process::at(Step::Done, Life::Gone);
        }
    }

    fn actions_of(&self, state: &State, who: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[who];
        let step = process.step;
        match process.life {
            Life::Gone => {}
            Life::Dying => actions.extend([Action::Lands(who, step), Action::IsLost(who, step)]),
            Life::Waiting | Life::Up => {
                let ways = self.ways(state, who);
                actions.extend((0..ways).map(|choice| Action::Does(who, step, choice)));
                if process.life == Life::Up && state.crashes < self.crashes {
                    actions.push(Action::Dies(who, step));
                }
            }
        }
        let has_session = state.store.sessions & (1 << who) != 0;
        let is_left = has_session && matches!(process.life, Life::Up | Life::Dying);
        let knows_already = process.overdue && process.late;
        if is_left && !knows_already && !self.cas && !self.punctual {
            actions.push(Action::FallsSilent(who));
        }
    }
}

impl Process {
    /// A process with nothing in mind.
    pub fn at(step: Step, life: Life) -> Process {
        Process {
            life,
            step,
            tombstones: 0,
            shunned: 0,
            chunks: 0,
            fresh: 0,
            packs: 0,
            one: 0,
            read: 0,
            actors: 0,
            wait: 0,
            overdue: false,
            late: false,
        }
    }
}

impl Step {
    /// Whether the step changes the store, so that its request can be late.
    fn writes(self) -> bool {
        matches!(
            self,
            Step::PutSession
                | Step::NameSeen
                | Step::PutPack
                | Step::PutShard
                | Step::Beat
                | Step::CreateOutcome
                | Step::PutSnapshot
                | Step::TakeBack
                | Step::Tidy
                | Step::Record
                | Step::Remove
                | Step::PutCopy
                | Step::NameCopy
                | Step::Publish
                | Step::EndSessions
                | Step::Help
                | Step::TidyAfter
                | Step::Delete
                | Step::ReplaceShard
                | Step::RemoveTombstone
        )
    }
}

impl Model for Setting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (who, role) in self.roles.iter().enumerate() {
            if *role != Role::Nobody {
                self.actions_of(state, who, actions);
            }
        }
        let unlisted = (0..u32::BITS).filter(|bit| state.store.unlisted & (1 << bit) != 0);
        actions.extend(unlisted.map(Action::Appears));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Does(who, _, choice) => {
                next.processes[who].life = Life::Up;
                self.advance(&mut next, who, self.roles[who], choice);
            }
            Action::Dies(who, step) => {
                next.crashes += 1;
                match self.in_flight && step.writes() {
                    true => next.processes[who].life = Life::Dying,
                    false => next.processes[who] = Process::at(Step::Done, Life::Gone),
                }
            }
            Action::Lands(who, _) => {
                let acknowledged = next.acknowledged;
                self.advance(&mut next, who, self.roles[who], 0);
                next.processes[who] = Process::at(Step::Done, Life::Gone);
                // Nobody is left to say so.
                next.acknowledged = acknowledged;
            }
            Action::IsLost(who, _) => next.processes[who] = Process::at(Step::Done, Life::Gone),
            Action::FallsSilent(who) => {
                next.processes[who].overdue = true;
                next.processes[who].late = true;
            }
            Action::Appears(bit) => {
                next.store.unlisted &= !(1 << bit);
                for process in &mut next.processes {
                    process.wait &= !(1 << bit);
                }
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Setting>> {
        judge::properties(self)
    }
}
