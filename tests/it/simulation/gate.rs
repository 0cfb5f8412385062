//! A store at which every call waits for its turn. The schedule decides which call comes next, what becomes of those of a process that is killed, and how
//! late a listing shows what was written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use lifeboat_agent::session::clock::Clock;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_providers::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result,
    Sha256, Usage,
};
use lifeboat_tests::random::Random;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// A listing may lag behind by so much.
const LAG_MAX_SECONDS: usize = 20 * 60;
/// Nobody computes for so long without a call: a schedule that stands still is a bug.
const STUCK: Duration = Duration::from_secs(60);

/// A clock that only the schedule turns.
#[derive(Debug, Default)]
pub struct TurnedClock(Mutex<Duration>);

impl TurnedClock {
    pub fn pass(&self, seconds: u64) {
        *self.0.lock() += Duration::from_secs(seconds);
    }

    fn seconds(&self) -> u64 {
        self.0.lock().as_secs()
    }
}

impl Clock for TurnedClock {
    fn boot_time(&self) -> Duration {
        *self.0.lock()
    }

    fn wall_time(&self) -> Duration {
        *self.0.lock() + Duration::from_secs(1_700_000_000)
    }
}

/// What the store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub conditional_create: bool,
    pub lags: bool,
}

/// One call, as it waits.
#[derive(Clone)]
enum Call {
    Put(Key, Body, Sha256, PutMode),
    Get(Key, Option<Range<u64>>),
    Head(Key),
    List(Prefix),
    Delete(Key),
}

enum Answer {
    Put(Result<Receipt>),
    Get(Result<Bytes>),
    Head(Result<ObjectInfo>),
    List(Vec<Result<ObjectInfo>>),
    Delete(Result<()>),
}

struct Waiting {
    process: u64,
    call: Call,
    answer: oneshot::Sender<Option<Answer>>,
}

/// The store and all who wait at it.
pub struct Gate {
    /// As it is: no turns, no lag.
    pub store: Arc<MemoryProvider>,
    pub kind: Kind,
    pub clock: Arc<TurnedClock>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Processes that run; calls of others fail.
    alive: HashSet<u64>,
    /// Calls of killed processes that take effect later.
    late: Vec<Call>,
    /// When a listing shows what was put, and no longer shows what was deleted, in seconds of the clock.
    shown_from: HashMap<Key, u64>,
    ghosts: BTreeMap<Key, (ObjectInfo, u64)>,
    lag: Option<Random>,
    /// What happened, for a schedule that fails.
    said: Vec<String>,
}

impl Gate {
    pub fn new(kind: Kind, seed: u64) -> Arc<Self> {
        let store = MemoryProvider::new();
        let store = if kind.conditional_create { store } else { store.without_conditional_create() };
        let state = Mutex::new(State { lag: kind.lags.then(|| Random::new(seed)), ..State::default() });
        Arc::new(Self { store: store.into(), kind, clock: Arc::default(), state, changed: Condvar::new() })
    }

    /// The store as this process sees it.
    pub fn of_process(self: &Arc<Self>, process: u64) -> Arc<Passage> {
        self.state.lock().alive.insert(process);
        Arc::new(Passage { gate: self.clone(), process })
    }

    /// The process has come to its end: what it still has under way in the background is nobody's.
    pub fn ended(&self, process: u64) {
        self.kill(process, &mut |_| Fate::Lost);
        self.changed.notify_all();
    }

    pub fn is_alive(&self, process: u64) -> bool {
        self.state.lock().alive.contains(&process)
    }

    /// Waits until every process that runs has a call that waits, or has ended. Returns those that wait.
    pub fn wait_for_all(&self) -> Vec<u64> {
        let mut state = self.state.lock();
        loop {
            let waiting: HashSet<u64> = state.waiting.iter().map(|waiting| waiting.process).collect();
            if state.alive.iter().all(|process| waiting.contains(process)) {
                let mut waiting: Vec<u64> = waiting.into_iter().collect();
                waiting.sort_unstable();
                return waiting;
            }
            assert!(
                !self.changed.wait_for(&mut state, STUCK).timed_out(),
                "a process neither calls nor ends: {:#?}",
                state.said
            );
        }
    }

    /// Lets one call of a process through: of several the first by its words, so that their order is the schedule's.
    pub fn let_through(&self, process: u64) {
        let next = {
            let mut state = self.state.lock();
            let of_process =
                state.waiting.iter().enumerate().filter(|(_, waiting)| waiting.process == process);
            let first = of_process.min_by_key(|(_, waiting)| words(&waiting.call)).map(|(at, _)| at);
            first.map(|at| state.waiting.swap_remove(at))
        };
        let Some(waiting) = next else { return };
        self.say(format!("{process}: {}", words(&waiting.call)));
        let answer = self.carry_out(waiting.call);
        // Whoever asked may have given up.
        let _ = waiting.answer.send(Some(answer));
    }

    /// Kills a process. `fate` says of each of its calls what becomes of it.
    pub fn kill(&self, process: u64, fate: &mut dyn FnMut(&str) -> Fate) {
        let killed: Vec<Waiting> = {
            let mut state = self.state.lock();
            state.alive.remove(&process);
            let (killed, rest) = std::mem::take(&mut state.waiting)
                .into_iter()
                .partition(|waiting| waiting.process == process);
            state.waiting = rest;
            killed
        };
        for waiting in killed {
            match fate(&words(&waiting.call)) {
                Fate::Lost => {}
                Fate::Done => drop(self.carry_out(waiting.call)),
                Fate::Late => self.state.lock().late.push(waiting.call),
            }
            let _ = waiting.answer.send(None);
        }
    }

    /// One of the calls of killed processes takes effect; or all of them.
    pub fn carry_out_late(&self, random: &mut Random, all: bool) {
        loop {
            let call = {
                let mut state = self.state.lock();
                if state.late.is_empty() {
                    return;
                }
                let at = random.below(state.late.len());
                state.late.swap_remove(at)
            };
            self.say(format!("late: {}", words(&call)));
            self.carry_out(call);
            if !all {
                return;
            }
        }
    }

    pub fn say(&self, text: String) {
        let at = self.clock.seconds();
        self.state.lock().said.push(format!("{at:>7} {text}"));
    }

    pub fn said(&self) -> Vec<String> {
        self.state.lock().said.clone()
    }

    fn carry_out(&self, call: Call) -> Answer {
        let store = &self.store;
        match call {
            Call::Put(key, body, sha256, mode) => {
                let put = at_once(store.put(&key, body, sha256, mode));
                if put.is_ok() {
                    let from = self.delayed();
                    let mut state = self.state.lock();
                    state.ghosts.remove(&key);
                    state.shown_from.entry(key).or_insert(from);
                }
                Answer::Put(put)
            }
            Call::Get(key, range) => Answer::Get(at_once(store.get(&key, range))),
            Call::Head(key) => Answer::Head(at_once(store.head(&key))),
            Call::List(prefix) => Answer::List(self.list(&prefix)),
            Call::Delete(key) => {
                if let Ok(info) = at_once(store.head(&key)) {
                    let until = self.delayed();
                    let mut state = self.state.lock();
                    state.shown_from.remove(&key);
                    state.ghosts.insert(key.clone(), (info, until));
                }
                Answer::Delete(at_once(store.delete(&key)))
            }
        }
    }

    /// When listings know of what happens now.
    fn delayed(&self) -> u64 {
        let lag = self.state.lock().lag.as_mut().map_or(0, |random| random.below(LAG_MAX_SECONDS) as u64);
        self.clock.seconds() + lag
    }

    fn list(&self, prefix: &Prefix) -> Vec<Result<ObjectInfo>> {
        let listed: Vec<Result<ObjectInfo>> = at_once(self.store.list(prefix).collect());
        let (now, state) = (self.clock.seconds(), self.state.lock());
        let is_shown = |info: &Result<ObjectInfo>| {
            info.as_ref().is_ok_and(|info| state.shown_from.get(&info.key).is_none_or(|from| *from <= now))
        };
        let mut shown: Vec<_> = listed.into_iter().filter(is_shown).collect();
        let ghosts = state.ghosts.values().filter(|(info, until)| *until > now && prefix.matches(&info.key));
        shown.extend(ghosts.map(|(info, _)| Ok(info.clone())));
        shown
    }
}

/// A store in memory answers at once.
fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a store in memory waits for nothing")
}

/// What becomes of a call whose caller is killed.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    Lost,
    Done,
    /// It was under way, and takes effect at some later time.
    Late,
}

fn words(call: &Call) -> String {
    match call {
        Call::Put(key, _, _, mode) => format!("put {key} {mode:?}"),
        Call::Get(key, range) => format!("get {key} {range:?}"),
        Call::Head(key) => format!("head {key}"),
        Call::List(prefix) => format!("list {}", prefix.as_str()),
        Call::Delete(key) => format!("delete {key}"),
    }
}

/// The way of one process to the store.
pub struct Passage {
    gate: Arc<Gate>,
    process: u64,
}

impl Passage {
    async fn pass(&self, call: Call) -> Result<Answer> {
        let (sender, receiver) = oneshot::channel();
        let subject = words(&call);
        {
            let mut state = self.gate.state.lock();
            if !state.alive.contains(&self.process) {
                return Err(killed(&subject));
            }
            state.waiting.push(Waiting { process: self.process, call, answer: sender });
        }
        self.gate.changed.notify_all();
        receiver.await.ok().flatten().ok_or_else(|| killed(&subject))
    }
}

fn killed(subject: &str) -> Error {
    Error::new(ErrorKind::Other, "call", subject, "the process was killed")
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passage({})", self.process)
    }
}

#[async_trait]
impl Provider for Passage {
    fn location(&self) -> String {
        "simulation:".to_owned()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        match self.pass(Call::Put(key.clone(), body, sha256, mode)).await? {
            Answer::Put(put) => put,
            _ => unreachable!("another answer"),
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        match self.pass(Call::Get(key.clone(), range)).await? {
            Answer::Get(got) => got,
            _ => unreachable!("another answer"),
        }
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        match self.pass(Call::Head(key.clone())).await? {
            Answer::Head(info) => info,
            _ => unreachable!("another answer"),
        }
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let prefix = prefix.clone();
        let listing = async move {
            match self.pass(Call::List(prefix)).await {
                Ok(Answer::List(listed)) => listed,
                Ok(_) => unreachable!("another answer"),
                Err(e) => vec![Err(e)],
            }
        };
        stream::once(listing).flat_map(stream::iter).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        match self.pass(Call::Delete(key.clone())).await? {
            Answer::Delete(deleted) => deleted,
            _ => unreachable!("another answer"),
        }
    }

    async fn usage(&self) -> Result<Usage> {
        Ok(Usage::default())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            listing_is_consistent: !self.gate.kind.lags,
            concurrency_preferred: 1,
            ..self.gate.store.capabilities()
        }
    }
}
