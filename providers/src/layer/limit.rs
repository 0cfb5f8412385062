//! Keeps a store from being asked for too much: calls at once, new objects per second, and for stores without connections
//! of ours bytes per second.
//!
//! - **Calls at once** adapt (see `adapt`): half as many when the store throttles, one more while that helps. Calls wait in line.
//!   A listing waits for its first request only; for further ones it occupies a slot if there is one, and none while nobody
//!   asks for the next object.
//! - **Puts per second** begin evenly spaced.
//! - **Bytes per second** are charged to the [`Pace`] body by body: a put goes when what was charged before has flowed. Stores
//!   whose connections are [`crate::pace::PacedIo`]s are paced there, evenly, and not here.
//!
//! Dropping a call at any moment gives back its slot and its place in the line.

mod adapt;
mod slots;

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use super::timeout::TimedOut;
use crate::pace::{Direction, Pace};
use crate::{
    Body, Capabilities, ErrorKind, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result, Sha256,
    SharedProvider, Usage,
};
use slots::{Ending, Slot, Slots};

/// How late a timer comes at most on a machine that is not overloaded.
const TIMERS_ARE_LATE_BY: Duration = Duration::from_millis(20);

/// A call that moves less does not hang because others use the line.
const CONGESTING_BYTES_MIN: u64 = 64 << 10;

/// What this layer limits besides its [`Pace`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitPolicy {
    /// The most calls at once that the search may come to. `None` leaves a store that consists of files unlimited and gives
    /// any other its [`Capabilities::concurrency_preferred`], where the search begins.
    pub concurrency_max: Option<usize>,
    /// The connections of the store keep the pace themselves, so that bodies are not charged here.
    pub transport_is_paced: bool,
}

/// What can be seen of the layer from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSnapshot {
    /// Calls at once that are allowed now; `None` for any number.
    pub concurrency: Option<usize>,
    /// Calls under way.
    pub in_flight: usize,
    /// How often the store asked for less.
    pub throttled: u64,
}

/// A provider that is asked for no more than suits it.
pub struct LimitProvider {
    inner: SharedProvider,
    pace: Pace,
    /// `None` for any number of calls at once.
    slots: Option<Slots>,
    /// Calls that callers are to offer at once; `None` for what the store names.
    concurrency_preferred: Option<usize>,
    creates_every: Option<Duration>,
    charges_bodies: bool,
    /// Puts go through one by one, in the order in which they came, until they begin.
    puts: Mutex<Puts>,
    gets: Mutex<()>,
}

/// When puts begin.
#[derive(Debug, Default)]
struct Puts {
    /// The earliest time for the next one.
    next: Option<Instant>,
}

/// Bytes charged for a call; taken back unless the call moved them.
struct Charge<'a> {
    pace: &'a Pace,
    direction: Direction,
    bytes: u64,
}

impl LimitProvider {
    /// Over `inner`, with the limits of `pace`.
    pub fn new(inner: SharedProvider, policy: &LimitPolicy, pace: Pace) -> Self {
        let capabilities = inner.capabilities();
        let start = capabilities.concurrency_preferred.max(1);
        let is_files = capabilities.local_root.is_some();
        let max = policy.concurrency_max.or_else(|| (!is_files).then_some(start));
        let creates = pace.limits().creates_per_second.filter(|creates| *creates > 0.0);
        Self {
            slots: max.map(|max| Slots::new(start, max)),
            // Callers offer so many calls; how many of them run is found here.
            concurrency_preferred: max.map(|max| max.max(1)),
            creates_every: creates.and_then(|creates| Duration::try_from_secs_f64(1.0 / creates).ok()),
            charges_bodies: !policy.transport_is_paced,
            puts: Mutex::default(),
            gets: Mutex::default(),
            inner,
            pace,
        }
    }

    /// What it allows and what is under way.
    pub fn snapshot(&self) -> LimitSnapshot {
        match self.slots.as_ref().map(Slots::seen) {
            Some(seen) => LimitSnapshot {
                concurrency: Some(seen.limit),
                in_flight: seen.in_flight,
                throttled: seen.throttled,
            },
            None => LimitSnapshot { concurrency: None, in_flight: 0, throttled: 0 },
        }
    }

    async fn slot(&self) -> Option<Slot<'_>> {
        Some(self.slots.as_ref()?.acquire().await)
    }

    fn charges(&self, direction: Direction) -> bool {
        self.charges_bodies && self.pace.is_limited(direction)
    }

    /// A call that moves no body.
    async fn run<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let slot = self.slot().await;
        let result = call.await;
        end(slot, ending(&result, 0, false));
        result
    }

    /// Waits until a put of so many bytes may begin.
    async fn begin_put(&self, bytes: u64) -> (Option<Slot<'_>>, Option<Charge<'_>>) {
        let charges = self.charges(Direction::Upload);
        if self.creates_every.is_none() && !charges {
            return (self.slot().await, None);
        }
        let mut puts = self.puts.lock().await;
        if charges {
            self.pace.settled(Direction::Upload).await;
        }
        if let Some(next) = puts.next {
            sleep_until(next).await;
        }
        // The slot comes last: whoever waits for anything else must not keep it from others. And the next put may look at
        // the clock only when this one has begun, or a full store would be followed by a rush.
        let slot = self.slot().await;
        if let Some(every) = self.creates_every {
            let now = Instant::now();
            // What a timer was late is made up for, and no more.
            let due = puts.next.unwrap_or(now).max(now.checked_sub(TIMERS_ARE_LATE_BY).unwrap_or(now));
            puts.next = due.checked_add(every);
        }
        (slot, charges.then(|| Charge::new(&self.pace, Direction::Upload, bytes)))
    }

    /// Waits until a get may begin. The bytes are charged now where their number is known, or many would go at once.
    async fn begin_get(&self, bytes: u64) -> (Option<Slot<'_>>, Option<Charge<'_>>) {
        if !self.charges(Direction::Download) {
            return (self.slot().await, None);
        }
        let _turn: MutexGuard<'_, ()> = self.gets.lock().await;
        self.pace.settled(Direction::Download).await;
        let slot = self.slot().await;
        (slot, Some(Charge::new(&self.pace, Direction::Download, bytes)))
    }
}

impl<'a> Charge<'a> {
    fn new(pace: &'a Pace, direction: Direction, bytes: u64) -> Self {
        pace.charge(direction, bytes);
        Self { pace, direction, bytes }
    }

    /// So many bytes were moved.
    fn settle(self, moved: u64) {
        match moved.checked_sub(self.bytes) {
            Some(more) => self.pace.charge(self.direction, more),
            None => self.pace.refund(self.direction, self.bytes - moved),
        }
    }
}

/// What a result says about the number of calls at once.
fn ending<T>(result: &Result<T>, moved: u64, moves_bytes: bool) -> Ending {
    match result {
        Ok(_) => Ending::Answered(moved),
        Err(error) if error.kind() == ErrorKind::Throttled => Ending::Throttled,
        // A call with hardly any bytes that hangs says that the store is dead, not that there are too many.
        Err(error) if moves_bytes && TimedOut::caused(error) => Ending::Hung,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Exists) => Ending::Answered(0),
        Err(_) => Ending::Other,
    }
}

fn end(slot: Option<Slot<'_>>, ending: Ending) {
    if let Some(slot) = slot {
        slot.end(ending);
    }
}

impl fmt::Debug for LimitProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitProvider({:?})", self.inner)
    }
}

#[async_trait]
impl Provider for LimitProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        let bytes = body.len();
        let (slot, charge) = self.begin_put(bytes).await;
        let result = self.inner.put(key, body, sha256, mode).await;
        end(slot, ending(&result, bytes, bytes >= CONGESTING_BYTES_MIN));
        // A put that failed with the body on its way has used the line; how far it came is not known.
        if let (Err(error), Some(charge)) = (&result, charge)
            && !TimedOut::caused(error)
        {
            charge.settle(0);
        }
        result
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        let range_is_unknown = range.is_none();
        let expected = range.as_ref().map_or(0, |range| range.end.saturating_sub(range.start));
        if range.is_some() && expected == 0 {
            return self.inner.get(key, range).await;
        }
        // A range that reaches far beyond every object will be refused: nothing is charged for it beforehand.
        let charged = if expected > self.inner.capabilities().pack_bytes_preferred { 0 } else { expected };
        let (slot, charge) = self.begin_get(charged).await;
        let result = self.inner.get(key, range).await;
        let moved = result.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let moves_bytes = range_is_unknown || expected >= CONGESTING_BYTES_MIN;
        end(slot, ending(&result, moved, moves_bytes));
        if let Some(charge) = charge {
            charge.settle(moved);
        }
        result
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.run(self.inner.head(key)).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let Some(slots) = &self.slots else { return self.inner.list(prefix) };
        let listing = Listing { slots, inner: self.inner.list(prefix), began: false };
        stream::unfold(listing, |mut listing| async move { Some((listing.next().await?, listing)) })
            .fuse()
            .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.run(self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let slot = self.slot().await;
        let results = self.inner.delete_many(keys).await;
        let endings = results.iter().map(|result| ending(result, 0, false));
        let telling = |wanted: Ending| endings.clone().any(|ending| ending == wanted).then_some(wanted);
        let batch = telling(Ending::Throttled).or_else(|| telling(Ending::Answered(0)));
        end(slot, batch.unwrap_or(Ending::Other));
        results
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        self.run(self.inner.retain(key, period)).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.run(self.inner.usage()).await
    }

    fn capabilities(&self) -> Capabilities {
        // Asked anew: a store may have learnt by its first write how it proves what it holds.
        let mut capabilities = self.inner.capabilities();
        capabilities.concurrency_preferred =
            self.concurrency_preferred.unwrap_or(capabilities.concurrency_preferred);
        capabilities
    }
}

struct Listing<'a> {
    slots: &'a Slots,
    inner: BoxStream<'a, Result<ObjectInfo>>,
    /// Whether the first request was made.
    began: bool,
}

impl Listing<'_> {
    async fn next(&mut self) -> Option<Result<ObjectInfo>> {
        if !self.began {
            let slot = self.slots.acquire().await;
            self.began = true;
            let item = self.inner.next().await;
            slot.end(listed(item.as_ref()));
            return item;
        }
        let asked = Instant::now();
        // Most objects come from a page that is there already. Only when this one does not, a request is under way, which is
        // counted as soon as it can be: waiting before it is polled would let it run into its time limit.
        let (slots, inner) = (self.slots, self.inner.next());
        match select(inner, pin!(slots.acquire())).await {
            Either::Left((item, _)) => {
                slots.learn(listed(item.as_ref()), asked);
                item
            }
            Either::Right((slot, next)) => {
                let item = next.await;
                slot.end(listed(item.as_ref()));
                item
            }
        }
    }
}

/// What an object listed, or an error in its place, says.
fn listed(item: Option<&Result<ObjectInfo>>) -> Ending {
    match item {
        Some(Err(error)) if error.kind() == ErrorKind::Throttled => Ending::Throttled,
        _ => Ending::Other,
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
