//! Gives up attempts that hang. The time an attempt has grows with the bytes it moves, so that a slow line is never taken
//! for a dead one, and whatever waits for its turn above this layer is not counted.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream};
use tokio::time::{Instant, timeout};

use crate::pace::{Direction, Pace};
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, PutMode, Receipt, Result,
    Sha256, SharedProvider, Usage,
};

/// How long an attempt may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// Without the time for its bytes.
    pub attempt: Duration,
    /// The slowest line that counts as alive: an attempt gets this much more time for the bytes it moves.
    pub bytes_per_second_min: u64,
}

impl Default for TimeoutPolicy {
    /// For a store on the internet.
    fn default() -> Self {
        Self { attempt: Duration::from_secs(60), bytes_per_second_min: 16 << 10 }
    }
}

/// The cause in the error of an attempt that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attempt was given up")]
pub struct TimedOut;

impl TimedOut {
    /// Whether this is why the call failed.
    pub fn caused(error: &Error) -> bool {
        use std::error::Error as _;
        error.source().is_some_and(|source| source.is::<Self>())
    }
}

/// A provider whose calls end.
pub struct TimeoutProvider {
    inner: SharedProvider,
    attempt: Duration,
    sent_per_second_min: u64,
    received_per_second_min: u64,
}

impl TimeoutProvider {
    /// Over `inner`.
    pub fn new(inner: SharedProvider, policy: &TimeoutPolicy) -> Self {
        let slowest = policy.bytes_per_second_min.max(1);
        Self {
            inner,
            attempt: policy.attempt,
            sent_per_second_min: slowest,
            received_per_second_min: slowest,
        }
    }

    /// Leaves more time where `at_once` calls share the bandwidth that `pace` leaves them: half of an even share of the
    /// lowest limit, whenever that holds, still counts as alive.
    #[must_use]
    pub fn with_pace(mut self, pace: &Pace, at_once: usize) -> Self {
        let at_most = |floor: u64, direction| match pace.limits().rate_min(direction) {
            Some(rate) => floor.min(rate.bytes_per_second() / (at_once.max(1) as u64 * 2)).max(1),
            None => floor,
        };
        self.sent_per_second_min = at_most(self.sent_per_second_min, Direction::Upload);
        self.received_per_second_min = at_most(self.received_per_second_min, Direction::Download);
        self
    }

    /// The time for a call that sends or receives so many bytes.
    fn time_for(&self, sent: u64, received: u64) -> Duration {
        let seconds =
            (sent / self.sent_per_second_min).saturating_add(received / self.received_per_second_min);
        self.attempt.saturating_add(Duration::from_secs(seconds))
    }

    /// A whole object. Only of one that takes longer than a call without bytes may, the size is asked for: it says how much
    /// longer is right, and a store that does not answer that either hangs.
    async fn get_whole(&self, key: &Key) -> Result<Bytes> {
        let began = Instant::now();
        let mut get = self.inner.get(key, None);
        if let Ok(result) = timeout(self.attempt, &mut get).await {
            return result;
        }
        let size = match select(&mut get, pin!(timeout(self.attempt, self.inner.head(key)))).await {
            Either::Left((result, _)) => return result,
            Either::Right((Ok(Ok(info)), _)) => info.size,
            // It answers, if not that. Few objects are larger than two packs.
            Either::Right((Ok(Err(error)), _)) if error.kind() != ErrorKind::Transient => {
                self.capabilities().pack_bytes_preferred.saturating_mul(2)
            }
            Either::Right(_) => return Err(hung("get", key, began.elapsed())),
        };
        let limit = self.time_for(0, size);
        match timeout(limit.saturating_sub(began.elapsed()), get).await {
            Ok(result) => result,
            Err(_) => Err(hung("get", key, limit)),
        }
    }

    async fn limited<T>(
        &self,
        operation: &'static str,
        subject: &(impl fmt::Display + ?Sized),
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        timeout(limit, call).await.unwrap_or_else(|_| Err(hung(operation, subject, limit)))
    }
}

fn hung(operation: &'static str, subject: &(impl fmt::Display + ?Sized), limit: Duration) -> Error {
    let reason = format_args!("no answer within {} s", limit.as_secs());
    Error::new(ErrorKind::Transient, operation, subject, reason).with_source(TimedOut)
}

impl fmt::Debug for TimeoutProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeoutProvider({:?})", self.inner)
    }
}

#[async_trait]
impl Provider for TimeoutProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        // A store that proves by reading back moves the bytes of a put both ways, and of one that is not known yet that may be.
        let reads_back = self.inner.capabilities().proof != Proof::Server;
        let limit = self.time_for(body.len(), if reads_back { body.len() } else { 0 });
        self.limited("put", key, limit, self.inner.put(key, body, sha256, mode)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        let Some(range) = range else { return self.get_whole(key).await };
        let limit = self.time_for(0, range.end.saturating_sub(range.start));
        self.limited("get", key, limit, self.inner.get(key, Some(range))).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.limited("head", key, self.attempt, self.inner.head(key)).await
    }

    /// Each object may take as long as a call without bytes. A listing that hangs ends with the error: polled again, it
    /// would wait for the same answer.
    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let (listing, folder) = (self.inner.list(prefix), prefix.clone());
        stream::unfold(Some(listing), move |listing| {
            let folder = folder.clone();
            async move {
                let mut listing = listing?;
                match timeout(self.attempt, listing.next()).await {
                    Ok(item) => Some((item?, Some(listing))),
                    Err(_) => Some((Err(hung("list", &folder, self.attempt)), None)),
                }
            }
        })
        .fuse()
        .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.limited("delete", key, self.attempt, self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        // As much time as for one delete, and a second for each further one.
        let limit = self.attempt.saturating_add(Duration::from_secs(keys.len() as u64));
        match timeout(limit, self.inner.delete_many(keys)).await {
            Ok(results) => results,
            Err(_) => keys.iter().map(|key| Err(hung("delete", key, limit))).collect(),
        }
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        self.limited("retain", key, self.attempt, self.inner.retain(key, period)).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.limited("usage", &self.location(), self.attempt, self.inner.usage()).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    //! Hung and slow calls in paused time.

    use std::sync::Arc;

    use super::*;
    use crate::ProviderExt as _;
    use crate::layer::Operation;
    use crate::layer::fault::{Fault, FaultProvider, Rule, When};
    use crate::memory::MemoryProvider;
    use crate::pace::Limits;

    fn policy() -> TimeoutPolicy {
        TimeoutPolicy { attempt: Duration::from_secs(30), bytes_per_second_min: 1000 }
    }

    fn over(rule: Rule) -> TimeoutProvider {
        let faulty = FaultProvider::new(Arc::new(MemoryProvider::new())).with_rule(rule);
        TimeoutProvider::new(Arc::new(faulty), &policy())
    }

    fn key() -> Key {
        Key::new("a").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_ends() {
        let store = over(Rule::new(None, When::Always, Fault::Hang));
        let body = Body::from(vec![1; 10_000]);
        let digest = body.sha256();
        let began = Instant::now();
        let seconds = |since: Instant| since.elapsed().as_secs();
        let put = store.put(&key(), body, digest, PutMode::Replace).await.unwrap_err();
        assert_eq!((put.kind(), seconds(began)), (ErrorKind::Transient, 40));
        assert!(TimedOut::caused(&put) && put.to_string().contains("no answer within 40 s"), "{put}");
        let began = Instant::now();
        assert!(TimedOut::caused(&store.get(&key(), Some(0..5000)).await.unwrap_err()));
        assert_eq!(seconds(began), 35);
        let began = Instant::now();
        assert!(TimedOut::caused(&store.get(&key(), None).await.unwrap_err()));
        assert_eq!(seconds(began), 60);
        let began = Instant::now();
        assert!(TimedOut::caused(&store.head(&key()).await.unwrap_err()));
        assert!(store.usage().await.is_err() && store.delete(&key()).await.is_err());
        assert!(store.retain(&key(), Duration::ZERO).await.is_err());
        assert!(store.list_all(&Prefix::all()).await.is_err());
        assert_eq!(seconds(began), 150);
        let results = store.delete_many(&[key(), key()]).await;
        assert!(results.len() == 2 && results.iter().all(Result::is_err));
        assert_eq!(seconds(began), 182);
    }

    /// 100,000 bytes at 1,000 bytes per second have 100 s more.
    #[tokio::test(start_paused = true)]
    async fn slow_line_is_not_taken_for_a_hung_one() {
        let store = over(Rule::new(Operation::Put, When::Always, Fault::Delay(Duration::from_secs(120))));
        let body = Body::from(vec![1_u8; 100_000]);
        let digest = body.sha256();
        store.put(&key(), body, digest, PutMode::CreateNew).await.unwrap();
    }

    /// The size is asked for when it is needed, and decides.
    #[tokio::test(start_paused = true)]
    async fn whole_object_has_the_time_for_its_bytes() {
        for (delay, due) in [(20, Ok(20)), (70, Ok(70)), (120, Ok(120)), (200, Err(130)), (3600, Err(130))] {
            let memory: SharedProvider = Arc::new(MemoryProvider::new());
            let body = Body::from(vec![1_u8; 100_000]);
            let digest = body.sha256();
            memory.put(&key(), body, digest, PutMode::CreateNew).await.unwrap();
            let slow = Rule::new(Operation::Get, When::Always, Fault::Delay(Duration::from_secs(delay)));
            let faulty = Arc::new(FaultProvider::new(memory).with_rule(slow));
            let store = TimeoutProvider::new(faulty.clone(), &policy());
            let began = Instant::now();
            let result = store.get(&key(), None).await.map(|_| ()).map_err(|e| assert!(TimedOut::caused(&e)));
            let seconds = began.elapsed().as_secs();
            assert_eq!(result.map(|()| seconds).map_err(|()| seconds), due, "{delay} s");
            assert_eq!(faulty.calls(Operation::Head), u64::from(delay > 30));
        }
    }

    /// Eight calls share 64 KiB/s: half of the 8 KiB/s that each gets are 4 KiB/s.
    #[tokio::test(start_paused = true)]
    async fn a_bandwidth_limit_leaves_more_time() {
        let limits = Limits { download: Some("64KiB/s".parse().unwrap()), ..Limits::default() };
        let rule = Rule::new(Operation::Get, When::Always, Fault::Hang);
        let faulty = Arc::new(FaultProvider::new(Arc::new(MemoryProvider::new())).with_rule(rule));
        let store = TimeoutProvider::new(faulty, &TimeoutPolicy::default()).with_pace(&Pace::new(limits), 8);
        let began = Instant::now();
        store.get(&key(), Some(0..1 << 20)).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 60 + 256);
        assert_eq!(store.time_for(1 << 20, 0).as_secs(), 60 + 64);
    }
}
