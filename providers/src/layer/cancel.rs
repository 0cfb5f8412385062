//! Ends calls when the caller asks to stop: the outermost layer but the record, so that neither a slow line nor the delays between attempts keep anybody
//! waiting.
//!
//! What leaves things in order (the index of what was stored, the removal of a session) is given some seconds more; what is only work is abandoned
//! at once. See [`Provider`] on what an abandoned call leaves.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream};
use tokio::time::sleep;

use super::Operation;
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result,
    Sha256, SharedProvider, Usage,
};

/// A flag that a signal sets wakes nobody: it is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What puts things in order may take so long after the caller asked to stop.
const IN_ORDER_WITHIN: Duration = Duration::from_secs(10);

/// Whether a call puts things in order, and is given some seconds when the caller asks to stop.
pub type PutsInOrder = fn(Operation, &str) -> bool;

/// A provider whose calls end when a flag is set.
pub struct CancelProvider {
    inner: SharedProvider,
    stop: Arc<AtomicBool>,
    puts_in_order: PutsInOrder,
}

impl CancelProvider {
    /// Over `inner`; `stop` is set by whoever wants the calls to end.
    pub fn new(inner: SharedProvider, stop: Arc<AtomicBool>, puts_in_order: PutsInOrder) -> Self {
        Self { inner, stop, puts_in_order }
    }

    async fn until_stopped(&self, operation: Operation, subject: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            sleep(LOOK_EVERY).await;
        }
        if (self.puts_in_order)(operation, subject) {
            sleep(IN_ORDER_WITHIN).await;
        }
    }

    async fn race<T>(&self, operation: Operation, subject: &str, call: impl Future<Output = T>) -> Result<T> {
        let (call, stopped) = (pin!(call), pin!(self.until_stopped(operation, subject)));
        match select(call, stopped).await {
            Either::Left((result, _)) => Ok(result),
            Either::Right(((), _)) => {
                Err(Error::new(ErrorKind::Cancelled, operation.as_str(), subject, "asked to stop"))
            }
        }
    }
}

impl fmt::Debug for CancelProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelProvider({:?})", self.inner)
    }
}

#[async_trait]
impl Provider for CancelProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        self.race(Operation::Put, key.as_str(), self.inner.put(key, body, sha256, mode)).await?
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        self.race(Operation::Get, key.as_str(), self.inner.get(key, range)).await?
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.race(Operation::Head, key.as_str(), self.inner.head(key)).await?
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let subject = prefix.as_str().to_owned();
        let listing = Some((self.inner.list(prefix), subject));
        stream::unfold(listing, move |listing| async move {
            let (mut listing, subject) = listing?;
            match self.race(Operation::List, &subject, listing.next()).await {
                Ok(next) => Some((next?, Some((listing, subject)))),
                Err(cancelled) => Some((Err(cancelled), None)),
            }
        })
        .fuse()
        .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.race(Operation::Delete, key.as_str(), self.inner.delete(key)).await?
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let subject = keys.first().map_or("", Key::as_str);
        match self.race(Operation::DeleteMany, subject, self.inner.delete_many(keys)).await {
            Ok(results) => results,
            Err(_) => {
                let cancelled = |key| Err(Error::new(ErrorKind::Cancelled, "delete", key, "asked to stop"));
                keys.iter().map(cancelled).collect()
            }
        }
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        self.race(Operation::Retain, key.as_str(), self.inner.retain(key, period)).await?
    }

    async fn usage(&self) -> Result<Usage> {
        self.race(Operation::Usage, "", self.inner.usage()).await?
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::layer::fault::{Fault, FaultProvider, Rule, When};
    use crate::memory::MemoryProvider;

    fn slow(stop: &Arc<AtomicBool>) -> CancelProvider {
        let hours = Fault::Delay(Duration::from_secs(3600));
        let rules = [Operation::Put, Operation::Get, Operation::List, Operation::Delete]
            .map(|operation| Rule::new(operation, When::Always, hours.clone()));
        let store = rules
            .into_iter()
            .fold(FaultProvider::new(Arc::new(MemoryProvider::new())), FaultProvider::with_rule);
        CancelProvider::new(Arc::new(store), stop.clone(), |_, key| key.starts_with("index/"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_under_way_ends_when_it_is_asked_to_and_one_that_puts_things_in_order_soon_after() {
        for (key, within) in [("packs/a", LOOK_EVERY), ("index/a", IN_ORDER_WITHIN + LOOK_EVERY)] {
            let stop = Arc::new(AtomicBool::new(false));
            let store = slow(&stop);
            let key = Key::new(key).unwrap();
            let began = Instant::now();
            let asked = async {
                sleep(Duration::from_secs(60)).await;
                stop.store(true, Ordering::Relaxed);
            };
            let body = Body::from(vec![1]);
            let sha256 = body.sha256();
            let mut listing = store.list(&Prefix::all());
            let (put, got, listed, ()) = tokio::join!(
                store.put(&key, body, sha256, PutMode::Replace),
                store.get(&key, None),
                listing.next(),
                asked,
            );
            assert_eq!(put.unwrap_err().kind(), ErrorKind::Cancelled);
            assert_eq!(got.unwrap_err().kind(), ErrorKind::Cancelled);
            assert_eq!(listed.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
            let waited = began.elapsed() - Duration::from_secs(60);
            assert!(waited <= within, "{key}: {waited:?}");
        }
    }
}
