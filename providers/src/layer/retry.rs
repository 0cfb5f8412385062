//! Repeats calls that may succeed when repeated: exponential delays with full jitter, a number of attempts, a
//! deadline, and what the store asks for (`Retry-After`) as the least delay.
//!
//! The deadline runs from the first failure: neither waiting for a turn nor an attempt that moves many bytes over a slow line
//! uses up the patience that begins when something goes wrong. That an attempt ends at all is the job of
//! [`crate::layer::timeout`] below. What [`crate::layer::circuit`] refuses, and how it probes, are not attempts.
//!
//! Every call of the contract is idempotent but one: [`PutMode::CreateNew`]. When an attempt of it ends with an
//! unknown outcome and the next one finds the object there, the bytes are compared: our own earlier attempt
//! succeeded, or somebody else was first.
//!
//! Needs a tokio runtime with its timer enabled.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::time::{Instant, sleep};

use super::circuit::{NotAsked, Probed};
use super::timeout::TimedOut;
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Provider, ProviderExt as _, PutMode,
    Receipt, Result, Sha256, SharedProvider, Usage,
};

/// How persistent the layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts per call, the first included.
    pub attempts_max: u32,
    /// The upper bound of the first delay; it doubles with each attempt. The delay itself is drawn evenly from
    /// zero to the bound, so that many clients do not come back at the same instant.
    pub delay_min: Duration,
    /// The upper bound of every delay, on top of what the store asks for.
    pub delay_max: Duration,
    /// No attempt begins later than this after the first one failed.
    pub deadline: Duration,
    /// Makes the delays reproducible.
    pub jitter_seed: Option<u64>,
}

impl Default for RetryPolicy {
    /// For a store on the internet: rides out a router that restarts and a store that is down for minutes. One call in
    /// hundreds draws delays so short that ten attempts are over in half a minute; twenty last.
    fn default() -> Self {
        Self {
            attempts_max: 20,
            delay_min: Duration::from_millis(500),
            delay_max: Duration::from_secs(60),
            deadline: Duration::from_secs(15 * 60),
            jitter_seed: None,
        }
    }
}

/// An attempt failed in a way that may be repeated.
#[derive(Debug)]
pub struct RetryEvent<'a> {
    /// What failed.
    pub error: &'a Error,
    /// Which attempt that was, from 1; of what was refused without an attempt, how many there were before.
    pub attempt: u32,
    /// How long until the next one; `None` when the layer gives up.
    pub delay: Option<Duration>,
}

/// Told of each failed attempt that is, or could have been, repeated. Must be quick.
pub type RetryNotify = Arc<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

/// A provider that repeats what failed for the moment.
pub struct RetryProvider {
    inner: SharedProvider,
    policy: RetryPolicy,
    notify: Option<RetryNotify>,
    /// State of the generator the delays are drawn from.
    jitter: AtomicU64,
}

impl RetryProvider {
    /// Over `inner`.
    pub fn new(inner: SharedProvider, policy: RetryPolicy) -> Self {
        let seed = policy.jitter_seed.or_else(|| getrandom::u64().ok()).unwrap_or_default();
        Self { inner, policy, notify: None, jitter: AtomicU64::new(seed) }
    }

    /// Tells `notify` of every failed attempt.
    #[must_use]
    pub fn with_notify(mut self, notify: RetryNotify) -> Self {
        self.notify = Some(notify);
        self
    }

    fn attempts(&self) -> Attempts<'_> {
        let delays = ExponentialBuilder::new()
            .with_min_delay(self.policy.delay_min)
            .with_max_delay(self.policy.delay_max)
            .without_max_times()
            .build();
        Attempts { layer: self, failing_since: None, delays, made: 0 }
    }

    /// Repeats an idempotent call.
    async fn repeat<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempts = self.attempts();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    /// A number drawn evenly, by SplitMix64: spread is all that is asked of it.
    fn draw(&self) -> u64 {
        let state = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The attempts of one call.
struct Attempts<'a> {
    layer: &'a RetryProvider,
    failing_since: Option<Instant>,
    delays: ExponentialBackoff,
    /// Attempts made so far, which all failed.
    made: u32,
}

impl Attempts<'_> {
    /// Waits if another attempt is worth it, else gives the error back.
    async fn failed(&mut self, error: Error) -> Result<()> {
        if error.kind().is_retryable() { self.wait(error).await } else { Err(error) }
    }

    /// Waits until the next attempt may begin; gives the error back when there is none left.
    async fn wait(&mut self, error: Error) -> Result<()> {
        let was_asked = !NotAsked::caused(&error) && !Probed::caused(&error);
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        self.made = self.made.saturating_add(u32::from(was_asked));
        let delay = self.next_delay(&error, was_asked, failing_since.elapsed());
        if let Some(notify) = &self.layer.notify {
            notify(&RetryEvent { error: &error, attempt: self.made, delay });
        }
        match delay {
            Some(delay) => {
                sleep(delay).await;
                Ok(())
            }
            None if self.made > 1 => {
                let seconds = failing_since.elapsed().as_secs();
                Err(error.with_note(format_args!("given up after {} attempts in {seconds} s", self.made)))
            }
            None => Err(error),
        }
    }

    fn next_delay(&mut self, error: &Error, was_asked: bool, failing_for: Duration) -> Option<Duration> {
        let policy = &self.layer.policy;
        if self.made >= policy.attempts_max {
            return None;
        }
        let bound = if was_asked { self.delays.next().unwrap_or(policy.delay_max) } else { policy.delay_min };
        // The upper 32 bits make a fraction of the bound.
        let drawn = bound.mul_f64((self.layer.draw() >> 32) as f64 / f64::from(u32::MAX));
        // Not the larger of the two: all who are told to wait for 30 s would come back together.
        let delay = drawn.checked_add(error.retry_after().unwrap_or_default())?;
        (failing_for.checked_add(delay)? <= policy.deadline).then_some(delay)
    }
}

impl fmt::Debug for RetryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryProvider({:?})", self.inner)
    }
}

#[async_trait]
impl Provider for RetryProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        let size = body.len();
        let mut attempts = self.attempts();
        let mut outcome_is_unknown = false;
        let mut was_corrupt = false;
        loop {
            let error = match self.inner.put(key, body.clone(), sha256, mode).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Exists if outcome_is_unknown => match self.prove(key, size, sha256).await {
                    Ok(Some(proof)) => return Ok(Receipt { size, sha256, proof, version: None }),
                    Ok(None) => return Err(error),
                    Err(gone) if gone.kind() == ErrorKind::NotFound => {
                        let reason = "the object was there and then was not";
                        attempts.wait(Error::new(ErrorKind::Transient, "put", key, reason)).await?;
                    }
                    Err(unproved) => return Err(unproved),
                },
                // The bytes were damaged on their way, or the disk has a bad spot: the next try may miss both.
                ErrorKind::Corrupt if !was_corrupt => {
                    (was_corrupt, outcome_is_unknown) = (true, true);
                    attempts.wait(error).await?;
                }
                _ => {
                    outcome_is_unknown |= !NotAsked::caused(&error);
                    attempts.failed(error).await?;
                }
            }
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        self.repeat(|| self.inner.get(key, range.clone())).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.repeat(|| self.inner.head(key)).await
    }

    /// A listing that fails before its first object begins anew; later, it goes on where the store can (see
    /// [`Error::is_resumable`]) and else ends with the error.
    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let listing =
            Listing { layer: self, prefix: prefix.clone(), inner: None, attempts: None, began: false };
        stream::unfold(Some(listing), |listing| async move {
            let mut listing = listing?;
            match listing.next().await? {
                Ok(info) => Some((Ok(info), Some(listing))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .fuse()
        .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.repeat(|| self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let mut batch = Batch::new(keys);
        let mut attempts = self.attempts();
        while let Some(pending) = batch.pending() {
            let results = self.inner.delete_many(&pending).await;
            let Some(failure) = batch.take(results) else {
                attempts = self.attempts();
                continue;
            };
            if TimedOut::caused(&failure) {
                batch.halve();
            }
            if let Err(error) = attempts.failed(failure).await {
                batch.give_up(&error);
            }
        }
        batch.finish()
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        self.repeat(|| self.inner.retain(key, period)).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.repeat(|| self.inner.usage()).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// A batch of deletes: what came of each key, and which are still to be tried.
struct Batch<'a> {
    keys: &'a [Key],
    results: Vec<Option<Result<()>>>,
    /// How many are tried at once.
    size: usize,
}

impl<'a> Batch<'a> {
    fn new(keys: &'a [Key]) -> Self {
        Self { keys, results: keys.iter().map(|_| None).collect(), size: keys.len() }
    }

    /// The next keys without a result; `None` if there are none.
    fn pending(&self) -> Option<Vec<Key>> {
        let open = self.keys.iter().zip(&self.results).filter(|(_, result)| result.is_none());
        let pending: Vec<Key> = open.map(|(key, _)| key.clone()).take(self.size).collect();
        (!pending.is_empty()).then_some(pending)
    }

    /// Takes the results of the pending keys in order. Gives back a failure if any key is to be tried again: of several, the
    /// one that asks for the longest delay.
    fn take(&mut self, results: Vec<Result<()>>) -> Option<Error> {
        let mut failure: Option<Error> = None;
        let mut results = results.into_iter();
        let open =
            self.results.iter_mut().zip(self.keys).filter(|(result, _)| result.is_none()).take(self.size);
        for (slot, key) in open {
            // One result per key is promised; a key without one must not be taken for deleted, nor asked for at once.
            let unanswered = || {
                Err(Error::new(ErrorKind::Transient, "delete", key, "the store did not say what came of it"))
            };
            match results.next().unwrap_or_else(unanswered) {
                Err(error) if error.kind().is_retryable() => {
                    let is_longer = failure.as_ref().is_none_or(|f| f.retry_after() < error.retry_after());
                    failure = if is_longer { Some(error) } else { failure };
                }
                result => *slot = Some(result),
            }
        }
        failure
    }

    /// Tries fewer at once: of a batch that hung, one key may be the reason.
    fn halve(&mut self) {
        self.size = (self.size / 2).max(1);
    }

    /// All pending keys failed like this.
    fn give_up(&mut self, error: &Error) {
        for (key, result) in self.keys.iter().zip(&mut self.results).filter(|(_, result)| result.is_none()) {
            *result = Some(Err(Error::new(error.kind(), "delete", key, error.reason())));
        }
    }

    fn finish(self) -> Vec<Result<()>> {
        self.results.into_iter().flatten().collect()
    }
}

/// A listing that outlives failed requests.
struct Listing<'a> {
    layer: &'a RetryProvider,
    prefix: Prefix,
    inner: Option<BoxStream<'a, Result<ObjectInfo>>>,
    /// The attempts since the last object came.
    attempts: Option<Attempts<'a>>,
    /// Whether an object was handed out.
    began: bool,
}

impl Listing<'_> {
    async fn next(&mut self) -> Option<Result<ObjectInfo>> {
        loop {
            let layer = self.layer;
            let inner = self.inner.get_or_insert_with(|| layer.inner.list(&self.prefix));
            let error = match inner.next().await? {
                Ok(info) => {
                    (self.attempts, self.began) = (None, true);
                    return Some(Ok(info));
                }
                Err(error) => error,
            };
            let resumable = error.is_resumable();
            if self.began && !resumable {
                return Some(Err(error));
            }
            if let Err(error) = self.attempts.get_or_insert_with(|| layer.attempts()).failed(error).await {
                return Some(Err(error));
            }
            if !resumable {
                self.inner = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
