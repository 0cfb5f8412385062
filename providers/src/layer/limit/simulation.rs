//! The search for the number of calls at once, on simulated stores in paused time: what it reaches, against the best that any
//! fixed number reaches on the same store.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{LimitPolicy, LimitProvider};
use crate::memory::MemoryProvider;
use crate::pace::Pace;
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, PutMode, Receipt, Result,
    Sha256, Usage,
};

const BODY_BYTES: u64 = 1 << 20;
const WORKERS: usize = 24;
const CONCURRENCY_MAX: usize = 24;
const SEARCH_TIME: Duration = Duration::from_secs(20 * 60);

/// A store behind a line.
#[derive(Debug, Clone, Copy)]
struct Nature {
    /// From the call to its first byte; on average, where it varies.
    latency: Duration,
    /// Whether it varies evenly from half of that to one and a half.
    varies: bool,
    /// What the line carries.
    bytes_per_second: u64,
    /// More calls at once than this are refused.
    throttles_above: usize,
    /// What its capabilities say.
    preferred: usize,
}

#[derive(Debug)]
struct Simulated {
    nature: Nature,
    line_is_free_at: Mutex<Instant>,
    in_flight: AtomicUsize,
    stored: AtomicU64,
    calls: AtomicU64,
    throttled: AtomicU64,
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Simulated {
    fn new(nature: Nature) -> Arc<Self> {
        Arc::new(Self {
            nature,
            line_is_free_at: Mutex::new(Instant::now()),
            in_flight: AtomicUsize::new(0),
            stored: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl Provider for Simulated {
    fn location(&self) -> String {
        "simulated:".to_owned()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, _: PutMode) -> Result<Receipt> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let at_once = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _counted = Counted(&self.in_flight);
        if at_once > self.nature.throttles_above {
            self.throttled.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
            return Err(Error::new(ErrorKind::Throttled, "put", key, "too many at once"));
        }
        let number = self.calls.load(Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let share = if self.nature.varies { 0.5 + (number >> 32) as f64 / f64::from(u32::MAX) } else { 1.0 };
        sleep(self.nature.latency.mul_f64(share)).await;
        let through = {
            let mut free = self.line_is_free_at.lock();
            let takes = Duration::from_secs_f64(body.len() as f64 / self.nature.bytes_per_second as f64);
            *free = (*free).max(Instant::now()) + takes;
            *free
        };
        sleep_until(through).await;
        self.stored.fetch_add(body.len(), Ordering::SeqCst);
        Ok(Receipt { size: body.len(), sha256, proof: Proof::Server, version: None })
    }

    async fn get(&self, _: &Key, _: Option<Range<u64>>) -> Result<Bytes> {
        Err(puts_only("get"))
    }

    async fn head(&self, _: &Key) -> Result<ObjectInfo> {
        Err(puts_only("head"))
    }

    fn list(&self, _: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        stream::empty().boxed()
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        Err(puts_only("delete"))
    }

    async fn usage(&self) -> Result<Usage> {
        Err(puts_only("usage"))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { concurrency_preferred: self.nature.preferred, ..MemoryProvider::new().capabilities() }
    }
}

fn puts_only(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, "simulated:", "only puts are simulated")
}

/// Puts by so many workers for so long; the bytes stored per second.
async fn run(store: &Simulated, through: &dyn Provider, workers: usize, time: Duration) -> f64 {
    let body = Body::from(vec![0; BODY_BYTES as usize]);
    let digest = body.sha256();
    let until = Instant::now() + time;
    let work = (0..workers).map(|worker| {
        let (body, key) = (body.clone(), Key::new(format!("packs/{worker}")).unwrap());
        async move {
            loop {
                let put = through.put(&key, body.clone(), digest, PutMode::Replace);
                match timeout(until.saturating_duration_since(Instant::now()), put).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => sleep(Duration::from_millis(50)).await,
                    Err(_) => return,
                }
            }
        }
    });
    join_all(work).await;
    store.stored.load(Ordering::SeqCst) as f64 / time.as_secs_f64()
}

/// The best that a fixed number of calls at once reaches, and that number.
async fn best(nature: Nature) -> (f64, usize) {
    let mut best = (0.0, 0);
    for number in 1..=CONCURRENCY_MAX.min(nature.throttles_above) {
        let store = Simulated::new(nature);
        let reached = run(&store, &*store, number, Duration::from_secs(120)).await;
        if reached > best.0 * 1.001 {
            best = (reached, number);
        }
    }
    // For as long as the search has, so that the beginning weighs the same.
    let store = Simulated::new(nature);
    (run(&store, &*store, best.1, SEARCH_TIME).await, best.1)
}

struct Reached {
    share_of_best: f64,
    share_throttled: f64,
    concurrency: usize,
    best: usize,
}

/// What the search reaches in twenty minutes from a cold start.
async fn adaptive(nature: Nature) -> Reached {
    let (best_speed, best) = best(nature).await;
    let store = Simulated::new(nature);
    let policy = LimitPolicy { concurrency_max: Some(CONCURRENCY_MAX), transport_is_paced: false };
    let limit = LimitProvider::new(store.clone(), &policy, Pace::unlimited());
    let speed = run(&store, &limit, WORKERS, SEARCH_TIME).await;
    let snapshot = limit.snapshot();
    assert_eq!(snapshot.in_flight, 0);
    assert_eq!(snapshot.throttled, store.throttled.load(Ordering::SeqCst));
    Reached {
        share_of_best: speed / best_speed,
        share_throttled: snapshot.throttled as f64 / store.calls.load(Ordering::SeqCst) as f64,
        concurrency: snapshot.concurrency.unwrap(),
        best,
    }
}

fn nature() -> Nature {
    Nature {
        latency: Duration::from_secs(1),
        varies: false,
        bytes_per_second: 10 << 20,
        throttles_above: usize::MAX,
        preferred: 4,
    }
}

/// A long line: eleven calls fill it, and the search finds about as many.
#[tokio::test(start_paused = true)]
async fn a_line_is_filled_from_a_cold_start() {
    let reached = adaptive(nature()).await;
    assert!(reached.share_of_best >= 0.95, "{:.3} of the best", reached.share_of_best);
    assert!((10..=13).contains(&reached.best), "{} is best", reached.best);
    assert!((reached.best - 1..=reached.best + 3).contains(&reached.concurrency), "{}", reached.concurrency);
    assert!(reached.share_throttled == 0.0);
}

/// A short line that one or two calls fill: more do no harm, and the search does not run away.
#[tokio::test(start_paused = true)]
async fn a_slow_line_is_not_flooded() {
    let slow = Nature { latency: Duration::from_millis(50), bytes_per_second: 1 << 20, ..nature() };
    let reached = adaptive(slow).await;
    assert!(reached.share_of_best >= 0.95, "{:.3} of the best", reached.share_of_best);
    assert!(reached.concurrency <= 6, "{} at once", reached.concurrency);
}

/// A store that throttles: the search finds the number, and hardly ever goes above it.
#[tokio::test(start_paused = true)]
async fn the_throttling_number_is_found_and_kept_below() {
    for (throttles_above, preferred) in [(6, 8), (6, 2), (1, 8), (3, 24), (17, 4)] {
        let latency = Duration::from_millis(200);
        let store = Nature { latency, bytes_per_second: 1 << 40, throttles_above, preferred, ..nature() };
        let reached = adaptive(store).await;
        let case = format!("throttles above {throttles_above}, begun with {preferred}");
        assert!(reached.share_of_best >= 0.95, "{case}: {:.3} of the best", reached.share_of_best);
        assert!(reached.share_throttled < 0.01, "{case}: {:.4} throttled", reached.share_throttled);
        assert!(reached.concurrency <= throttles_above + 1, "{case}: {} at once", reached.concurrency);
    }
}

/// Both at once: a line that needs more calls than the store takes.
#[tokio::test(start_paused = true)]
async fn a_line_before_a_throttling_store() {
    let reached = adaptive(Nature { throttles_above: 8, ..nature() }).await;
    assert!(reached.share_of_best >= 0.95, "{:.3} of the best", reached.share_of_best);
    assert!(reached.share_throttled < 0.01, "{:.4} throttled", reached.share_throttled);
}

/// Chance does not lead the search astray: neither away from the number nor far beyond it.
#[tokio::test(start_paused = true)]
async fn latency_that_varies_is_no_reason_to_wander() {
    for nature in [nature(), Nature { throttles_above: 8, ..nature() }] {
        let reached = adaptive(Nature { varies: true, ..nature }).await;
        assert!(reached.share_of_best >= 0.95, "{nature:?}: {:.3} of the best", reached.share_of_best);
        assert!(reached.share_throttled < 0.01, "{nature:?}: {:.4} throttled", reached.share_throttled);
    }
}
