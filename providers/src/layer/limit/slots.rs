//! Slots for calls: first come, first served; how many there are changes while calls wait and run.

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::adapt::Adapt;

/// How a call ended, as far as it says something about the number of calls at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The store answered, and so many body bytes were moved.
    Answered(u64),
    /// The store asked for less.
    Throttled,
    /// The call hung while it moved bytes.
    Hung,
    /// It says nothing.
    Other,
}

/// The slots of a store.
#[derive(Debug)]
pub(super) struct Slots {
    free: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    adapt: Adapt,
    /// How many slots there are.
    slots: usize,
    /// Slots that disappear when they are given back.
    surplus: usize,
    throttled: u64,
}

/// What can be seen of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) limit: usize,
    pub(super) in_flight: usize,
    pub(super) throttled: u64,
}

/// A slot in use. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    permit: Option<SemaphorePermit<'a>>,
    began: Instant,
}

impl Slots {
    /// `start` slots, which become up to `max`.
    pub(super) fn new(start: usize, max: usize) -> Self {
        let adapt = Adapt::new(start, max.min(Semaphore::MAX_PERMITS), Instant::now());
        let slots = adapt.limit();
        let state = State { adapt, slots, surplus: 0, throttled: 0 };
        Self { free: Semaphore::new(slots), state: Mutex::new(state) }
    }

    /// Waits for a slot.
    pub(super) async fn acquire(&self) -> Slot<'_> {
        // It is never closed; without a permit the call would only not be counted.
        let permit = self.free.acquire().await.ok();
        let began = Instant::now();
        self.state.lock().adapt.begin(began);
        Slot { slots: self, permit, began }
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.state.lock();
        Seen { limit: state.slots, in_flight: state.adapt.in_flight(), throttled: state.throttled }
    }

    /// Learns from a call that began at `began`.
    pub(super) fn learn(&self, ending: Ending, began: Instant) {
        let mut state = self.state.lock();
        let now = Instant::now();
        match ending {
            Ending::Answered(bytes) => state.adapt.done(bytes, now),
            Ending::Throttled => {
                state.throttled += 1;
                state.adapt.throttled(began, now);
            }
            Ending::Hung => state.adapt.congested(began, now),
            Ending::Other => {}
        }
        let wanted = state.adapt.limit();
        if wanted > state.slots {
            let more = wanted - state.slots;
            let kept = more.min(state.surplus);
            state.surplus -= kept;
            self.free.add_permits(more - kept);
        } else {
            let fewer = state.slots - wanted;
            state.surplus += fewer - self.free.forget_permits(fewer);
        }
        state.slots = wanted;
    }
}

impl Slot<'_> {
    /// Gives the slot back and learns from how the call ended.
    pub(super) fn end(self, ending: Ending) {
        self.slots.learn(ending, self.began);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        state.adapt.end(Instant::now());
        let Some(permit) = self.permit.take() else { return };
        if state.surplus > 0 {
            state.surplus -= 1;
            permit.forget();
        } else {
            drop(state);
            drop(permit);
        }
    }
}
