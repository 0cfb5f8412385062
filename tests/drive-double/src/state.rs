//! Everything the double knows, behind one lock, and the waiting for it.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::answer::{Outcome, message_of, refuse};
use crate::auth::{Auth, Identity};
use crate::fault::{Faults, Plan};
use crate::listing::Pages;
use crate::log::{Log, LoggedRequest};
use crate::options::Options;
use crate::random::Random;
use crate::request::Head;
use crate::sessions::Sessions;
use crate::store::Store;

/// The state of a double.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) random: Random,
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    pub(crate) pages: Pages,
    pub(crate) auth: Auth,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    /// Connections are cut as soon as they are seen.
    pub(crate) down: bool,
    rate: Option<(Instant, u64)>,
}

impl State {
    pub(crate) fn new(url: &str, options: Options, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            store: Store::new(&options, &mut random),
            auth: Auth::new(url, &options, &mut random),
            random,
            sessions: Sessions::new(),
            pages: Pages::default(),
            faults: Faults::default(),
            log: Log::default(),
            down: false,
            rate: None,
            options,
        }
    }

    /// Counts a call against the rate.
    pub(crate) fn check_rate(&mut self) -> Outcome<()> {
        let Some(rate) = self.options.rate else { return Ok(()) };
        let now = Instant::now();
        let (begun, calls) = match self.rate {
            Some((begun, calls)) if now.duration_since(begun) < rate.per => (begun, calls),
            _ => (now, 0),
        };
        self.rate = Some((begun, calls.saturating_add(1)));
        if calls >= rate.calls {
            return Err(refuse(403, "userRateLimitExceeded", message_of("userRateLimitExceeded")));
        }
        Ok(())
    }

    /// Whether whoever calls may see a file at all; what must not be seen is not found.
    pub(crate) fn is_visible(&self, id: &str, identity: &Identity, all_drives: bool) -> bool {
        self.store.get(id).is_some_and(|file| is_visible(file, identity, all_drives))
    }
}

pub(crate) fn is_visible(file: &crate::file::File, identity: &Identity, all_drives: bool) -> bool {
    (file.by_app || identity.sees_all()) && (file.drive_id.is_none() || all_drives)
}

/// The state and who waits for changes of it.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    released: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new(), released: watch::Sender::new(0) }
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// Records that a request arrived and says what goes wrong with it.
    pub(crate) fn begin(&self, head: &Head) -> (u64, Plan) {
        let mut state = self.state.lock();
        let path = head.path_and_query();
        let plan = state.faults.plan(head.call, &path);
        let header = |name| head.header(name).map(str::to_owned);
        let number = state.log.add(LoggedRequest {
            number: 0,
            call: head.call,
            method: head.method.to_string(),
            path,
            range: header("range"),
            content_range: header("content-range"),
            user_agent: header("user-agent"),
            bytes_in: 0,
            bytes_out: 0,
            status: None,
            finished: false,
            faults: plan.names(),
            note: None,
            at: Instant::now(),
        });
        drop(state);
        self.changed.notify_all();
        (number, plan)
    }

    /// Changes the record of a request.
    pub(crate) fn record(&self, number: u64, change: impl FnOnce(&mut LoggedRequest)) {
        if let Some(entry) = self.state.lock().log.entry(number) {
            change(entry);
        }
        self.changed.notify_all();
    }

    /// Waits until `condition` holds of the requests, or the deadline passes. Whether it holds.
    pub(crate) fn wait_until(&self, deadline: Instant, condition: impl Fn(&[LoggedRequest]) -> bool) -> bool {
        let mut state = self.state.lock();
        loop {
            if condition(state.log.all()) {
                return true;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return condition(state.log.all());
            }
        }
    }

    pub(crate) fn release(&self) {
        self.state.lock().faults.release();
        self.released.send_modify(|times| *times += 1);
    }

    /// Waits for the next [`Shared::release`].
    pub(crate) fn hang(&self) -> impl Future<Output = ()> + use<> {
        let mut released = self.released.subscribe();
        async move {
            // An error says that the double is gone.
            let _ = released.changed().await;
        }
    }
}
