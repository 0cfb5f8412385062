//! Stops hammering a store that does not answer, and a login that is refused.
//!
//! After several failures in a row, over some time, without any answer between them, the circuit *opens*: calls fail at once
//! ([`ErrorKind::Transient`], with the time until it is tried again as [`Error::retry_after`]), but for one *probe* at a time at
//! growing intervals. The first answer of any kind closes it; also "no such object" and "too many requests" are answers.
//! Before a call that moves bytes, the probe is a `head` of its key: a store that is slow to take a pack is not dead.
//!
//! A store that stays silent for [`CircuitPolicy::give_up_after`] is *given up*: calls fail with
//! [`ErrorKind::Unreachable`], which no retry layer repeats, so that a run over a dead store ends in bounded time. Probes go on
//! with the calls that still come, and an answer closes the circuit as before: what lives longer than a run recovers.
//!
//! A refused login ([`Error::of_the_login`]) is remembered for a moment: the thousand calls that are under way need not
//! each be refused by the store.
//!
//! Belongs below the layer where calls wait for their turn, so that a queue before a dead store drains at once.

mod state;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result,
    Sha256, SharedProvider, Usage,
};
pub use state::CircuitState;
use state::{Admission, Failure, Refusal, State};

/// When a store counts as dead, and for how long it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// Failures in a row that open the circuit …
    pub failures_min: u32,
    /// … if there is so much time between the first and the last.
    pub open_after: Duration,
    /// How long until the first probe; it doubles with each one that fails.
    pub probe_delay_min: Duration,
    /// How long between two probes at most.
    pub probe_delay_max: Duration,
    /// How long after the first of the failures the store is given up.
    pub give_up_after: Duration,
    /// The same for a store that has not answered once: rather than down for the moment it is switched off, or the wrong address, and somebody is waiting
    /// to hear that.
    pub give_up_unmet_after: Duration,
    /// How long a refused login is remembered.
    pub login_memory: Duration,
}

impl Default for CircuitPolicy {
    /// Rides out a router that restarts; gives up after five minutes, but what never answered after 20 seconds.
    fn default() -> Self {
        Self {
            failures_min: 5,
            open_after: Duration::from_secs(30),
            probe_delay_min: Duration::from_secs(5),
            probe_delay_max: Duration::from_secs(60),
            give_up_after: Duration::from_secs(5 * 60),
            give_up_unmet_after: Duration::from_secs(20),
            login_memory: Duration::from_secs(10),
        }
    }
}

/// The cause in the error of a call that was refused here: it was not made, and nothing can have come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing was asked of the store")]
pub struct NotAsked;

impl NotAsked {
    /// Whether the call was refused without a request.
    pub fn caused(error: &Error) -> bool {
        use std::error::Error as _;
        error.source().is_some_and(|source| source.is::<Self>())
    }
}

/// The cause in the error of a call that tried a dead store again: it says nothing new, however often it fails.
#[derive(Debug, thiserror::Error)]
#[error("the store was tried again")]
pub struct Probed(#[source] Error);

impl Probed {
    /// Whether the call was a try of a dead store.
    pub fn caused(error: &Error) -> bool {
        use std::error::Error as _;
        error.source().is_some_and(|source| source.is::<Self>())
    }
}

/// A provider that fails at once while its store is dead.
pub struct CircuitProvider {
    inner: SharedProvider,
    policy: CircuitPolicy,
    state: Mutex<State>,
}

/// The right to probe; given back when the call is dropped, so that the next one probes.
struct Probe<'a> {
    layer: &'a CircuitProvider,
    is_over: bool,
}

impl CircuitProvider {
    /// Over `inner`, closed.
    pub fn new(inner: SharedProvider, policy: CircuitPolicy) -> Self {
        Self { inner, policy, state: Mutex::default() }
    }

    /// How the store is doing.
    pub fn state(&self) -> CircuitState {
        self.state.lock().shown(Instant::now())
    }

    /// Lets a call pass, or refuses it.
    fn admit(&self, operation: &'static str, subject: &dyn fmt::Display) -> Result<Option<Probe<'_>>> {
        let admission = self.state.lock().admit(&self.policy, Instant::now());
        match admission {
            Admission::Pass => Ok(None),
            Admission::Probe => Ok(Some(Probe { layer: self, is_over: false })),
            Admission::Refuse(refusal) => Err(self.refusal(operation, subject, refusal)),
        }
    }

    fn refusal(&self, operation: &'static str, subject: &dyn fmt::Display, refusal: Refusal) -> Error {
        let location = self.inner.location();
        match refusal {
            Refusal::Silent { silent_for, reason, retry_after, given_up } => {
                let (silent, again) = (silent_for.as_secs(), retry_after.as_secs_f64().ceil());
                let silence = format_args!("{location} has not answered for {silent} s, last: {reason}");
                if given_up {
                    let reason = format_args!("{silence}; it is given up, run again when it answers");
                    return Error::new(ErrorKind::Unreachable, operation, subject, reason)
                        .with_source(NotAsked);
                }
                let reason = format_args!("{silence}; it is tried again in {again} s");
                Error::new(ErrorKind::Transient, operation, subject, reason)
                    .with_retry_after(retry_after)
                    .with_source(NotAsked)
            }
            Refusal::Login { reason, ago } => {
                let ago = ago.as_secs();
                let reason = format_args!("{reason} (as {location} said {ago} s ago; not asked again yet)");
                Error::new(ErrorKind::Denied, operation, subject, reason).of_the_login().with_source(NotAsked)
            }
        }
    }

    /// Takes note of how a call ended. Gives the failure of a store that is given up its final kind.
    fn note<T>(&self, result: Result<T>, probe: Option<Probe<'_>>) -> Result<T> {
        let is_probe = probe.is_some();
        if let Some(mut probe) = probe {
            probe.is_over = true;
        }
        let now = Instant::now();
        let Err(error) = result else {
            self.state.lock().answered(None, now);
            return result;
        };
        if error.kind() != ErrorKind::Transient {
            let refused_login = error.is_of_the_login().then(|| error.reason());
            self.state.lock().answered(refused_login, now);
            return Err(error);
        }
        let failure = self.state.lock().failed(&self.policy, error.reason(), is_probe, now);
        let (operation, subject) = (error.operation(), error.subject().to_owned());
        match failure {
            Failure::Passing => Err(error),
            Failure::Probe { retry_after } => {
                let reason = error.reason().to_owned();
                let told = Error::new(ErrorKind::Transient, operation, subject, reason);
                Err(told.with_retry_after(retry_after).with_source(Probed(error)))
            }
            Failure::GivenUp => {
                let reason = format!(
                    "{}; {} is given up, run again when it answers",
                    error.reason(),
                    self.inner.location()
                );
                Err(Error::new(ErrorKind::Unreachable, operation, subject, reason).with_source(error))
            }
        }
    }

    /// A call that is its own probe.
    async fn light<T>(
        &self,
        operation: &'static str,
        subject: &(dyn fmt::Display + Sync),
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let probe = self.admit(operation, subject)?;
        let result = call.await;
        self.note(result, probe)
    }

    /// A call that moves bytes: a dead store is probed by asking what it has under the key.
    async fn heavy<T>(
        &self,
        operation: &'static str,
        key: &Key,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Some(probe) = self.admit(operation, key)? {
            let probed = self.inner.head(key).await;
            let probed = self.note(probed, Some(probe));
            if let Err(error) = probed
                && matches!(error.kind(), ErrorKind::Transient | ErrorKind::Unreachable)
            {
                // Of the call itself nothing was asked.
                let told = Error::new(error.kind(), operation, key, error.reason()).with_source(NotAsked);
                return Err(match error.retry_after() {
                    Some(delay) => told.with_retry_after(delay),
                    None => told,
                });
            }
        }
        let result = call.await;
        self.note(result, None)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.layer.state.lock().probe_was_dropped();
        }
    }
}

impl fmt::Debug for CircuitProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CircuitProvider({:?})", self.inner)
    }
}

#[async_trait]
impl Provider for CircuitProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        self.heavy("put", key, self.inner.put(key, body, sha256, mode)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        if range.as_ref().is_some_and(Range::is_empty) {
            // Makes no request, so it says nothing about the store.
            return self.inner.get(key, range).await;
        }
        self.heavy("get", key, self.inner.get(key, range)).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.light("head", key, self.inner.head(key)).await
    }

    /// What is refused here can be polled again, and goes on where the listing was.
    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let listing = Listing { layer: self, prefix: prefix.clone(), inner: None };
        stream::unfold(Some(listing), |listing| async move { listing?.next().await }).fuse().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.light("delete", key, self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let probe = match keys.first().map(|key| self.admit("delete", key)) {
            None => return Vec::new(),
            Some(Ok(probe)) => probe,
            Some(Err(refusal)) => return keys.iter().map(|key| Err(again(&refusal, key))).collect(),
        };
        let mut results = self.inner.delete_many(keys).await;
        // One answer among them is an answer.
        let answer = results.iter().position(|result| !is_silence(result)).unwrap_or(0);
        if let Some(result) = results.get_mut(answer) {
            let told = std::mem::replace(result, Ok(()));
            *result = self.note(told, probe);
        }
        results
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        self.light("retain", key, self.inner.retain(key, period)).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.light("usage", &self.location(), self.inner.usage()).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// A listing that a dead store interrupts.
struct Listing<'a> {
    layer: &'a CircuitProvider,
    prefix: Prefix,
    inner: Option<BoxStream<'a, Result<ObjectInfo>>>,
}

impl Listing<'_> {
    /// The next item, and the listing if it goes on.
    async fn next(mut self) -> Option<(Result<ObjectInfo>, Option<Self>)> {
        let layer = self.layer;
        let probe = match layer.admit("list", &self.prefix) {
            Ok(probe) => probe,
            Err(refusal) => return Some((Err(refusal.resumable()), Some(self))),
        };
        let inner = self.inner.get_or_insert_with(|| layer.inner.list(&self.prefix));
        let item = inner.next().await.transpose();
        let goes_on = item.as_ref().map_or_else(Error::is_resumable, |_| true);
        match layer.note(item, probe) {
            Ok(item) => Some((Ok(item?), Some(self))),
            Err(error) if goes_on => Some((Err(error.resumable()), Some(self))),
            Err(error) => Some((Err(error), None)),
        }
    }
}

fn is_silence(result: &Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Transient)
}

/// One refusal of a whole batch, as that of one of its keys.
fn again(refusal: &Error, key: &Key) -> Error {
    let error = Error::new(refusal.kind(), "delete", key, refusal.reason()).with_source(NotAsked);
    let error = if refusal.is_of_the_login() { error.of_the_login() } else { error };
    match refusal.retry_after() {
        Some(delay) => error.with_retry_after(delay),
        None => error,
    }
}

#[cfg(test)]
mod tests;
