//! Dead stores and refused logins in paused time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{join_all, poll_immediate};
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{CircuitPolicy, CircuitProvider, CircuitState, NotAsked};
use crate::layer::retry::{RetryPolicy, RetryProvider};
use crate::memory::MemoryProvider;
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Provider, ProviderExt as _, PutMode,
    Receipt, Result, Sha256, Usage,
};

/// How the store answers at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// Refuses connections.
    Dead,
    /// Never answers.
    Hangs,
    Throttles,
    RefusesLogin,
    /// Refuses to delete, and nothing else.
    Locks,
}

/// A store of changing mood that counts what reaches it.
#[derive(Debug)]
struct Moody {
    inner: MemoryProvider,
    mood: Mutex<Mood>,
    requests: AtomicU64,
}

impl Moody {
    fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self { inner: MemoryProvider::new(), mood: Mutex::new(mood), requests: AtomicU64::new(0) })
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    async fn ask(&self, operation: &'static str, subject: &(dyn std::fmt::Display + Sync)) -> Result<()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock();
        let error = |kind, reason| Error::new(kind, operation, subject, reason);
        match mood {
            Mood::Dead => Err(error(ErrorKind::Transient, "connection refused")),
            Mood::Hangs => std::future::pending().await,
            Mood::Throttles => Err(error(ErrorKind::Throttled, "slow down")),
            Mood::RefusesLogin => Err(error(ErrorKind::Denied, "the key was revoked").of_the_login()),
            Mood::Locks if operation == "delete" => Err(error(ErrorKind::Denied, "locked")),
            Mood::Well | Mood::Locks => Ok(()),
        }
    }
}

#[async_trait]
impl Provider for Moody {
    fn location(&self) -> String {
        "moody://store".to_owned()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        self.ask("put", key).await?;
        self.inner.put(key, body, sha256, mode).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        self.ask("get", key).await?;
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.ask("head", key).await?;
        self.inner.head(key).await
    }

    /// Each object is a page of its own, and a page that fails is asked for again.
    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let pages = (self.inner.list(prefix), prefix.clone(), None);
        stream::unfold(pages, move |(mut listing, prefix, waiting)| async move {
            let item: Option<Result<ObjectInfo>> = match waiting {
                Some(item) => Some(item),
                None => listing.next().await,
            };
            match self.ask("list", &prefix).await {
                Ok(()) => Some((item?, (listing, prefix, None))),
                Err(error) => Some((Err(error.resumable()), (listing, prefix, item))),
            }
        })
        .fuse()
        .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.ask("delete", key).await?;
        self.inner.delete(key).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.ask("usage", &"store").await?;
        self.inner.usage().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn over(store: &Arc<Moody>) -> CircuitProvider {
    let policy = CircuitPolicy::default();
    // As if it had answered before.
    CircuitProvider::new(store.clone(), CircuitPolicy { give_up_unmet_after: policy.give_up_after, ..policy })
}

async fn put(store: &dyn Provider, name: &str) -> Result<Receipt> {
    let body = Body::from(Bytes::from_static(b"text"));
    let digest = body.sha256();
    store.put(&key(name), body, digest, PutMode::Replace).await
}

/// Fails as often as it takes until the circuit is open.
async fn open(circuit: &CircuitProvider) {
    for _ in 0..5 {
        assert_eq!(circuit.head(&key("a")).await.unwrap_err().kind(), ErrorKind::Transient);
        sleep(Duration::from_secs(8)).await;
    }
    assert!(matches!(circuit.state(), CircuitState::Open { .. }), "{:?}", circuit.state());
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_is_left_alone_and_found_again() {
    let store = Moody::new(Mood::Dead);
    let circuit = over(&store);
    open(&circuit).await;
    // The first probe, after 5 s, is over; the next comes 10 s after it.
    let _ = circuit.head(&key("a")).await;
    let before = store.requests();
    for _ in 0..1000 {
        let error = put(&circuit, "a").await.unwrap_err();
        assert!(error.kind() == ErrorKind::Transient && NotAsked::caused(&error));
        assert!(error.retry_after().is_some_and(|delay| delay <= Duration::from_secs(10)));
    }
    let error = put(&circuit, "a").await.unwrap_err().to_string();
    let due = "cannot put a: moody://store has not answered for 40 s, last: connection refused; it is tried again in 10 s";
    assert_eq!((error.as_str(), store.requests()), (due, before));

    // A probe before a put asks for the key only, and once.
    sleep(Duration::from_secs(10)).await;
    for _ in 0..10 {
        let error = put(&circuit, "a").await.unwrap_err();
        assert!(error.kind() == ErrorKind::Transient && NotAsked::caused(&error), "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
    }
    assert_eq!(store.requests(), before + 1);

    store.set(Mood::Well);
    sleep(Duration::from_secs(20)).await;
    put(&circuit, "a").await.unwrap();
    assert_eq!(circuit.state(), CircuitState::Closed);
    put(&circuit, "b").await.unwrap();
    assert_eq!(store.requests(), before + 4);
}

/// One hour: a request at 5, 15, 35, 75 s, and then each minute.
#[tokio::test(start_paused = true)]
async fn probes_come_at_growing_intervals() {
    let store = Moody::new(Mood::Dead);
    let circuit = over(&store);
    open(&circuit).await;
    let (before, key) = (store.requests(), key("a"));
    for _ in 0..3600 {
        let calls = (0..20).map(|_| circuit.head(&key));
        assert!(join_all(calls).await.iter().all(Result::is_err));
        sleep(Duration::from_secs(1)).await;
    }
    let requests = store.requests() - before;
    assert!((60..=66).contains(&requests), "{requests} requests in an hour");
}

#[tokio::test(start_paused = true)]
async fn failures_with_answers_between_them_open_nothing() {
    let store = Moody::new(Mood::Dead);
    let circuit = over(&store);
    for _ in 0..100 {
        for mood in [Mood::Dead, Mood::Dead, Mood::Dead, Mood::Throttles, Mood::Dead, Mood::Locks, Mood::Dead]
        {
            store.set(mood);
            let error = circuit.delete(&key("a")).await.unwrap_err();
            assert!(!NotAsked::caused(&error), "{error}");
            sleep(Duration::from_secs(60)).await;
        }
    }
    assert_eq!(store.requests(), 700);
    // Many failures at the same moment are one stumble.
    store.set(Mood::Well);
    circuit.head(&key("a")).await.unwrap_err();
    store.set(Mood::Dead);
    for _ in 0..1000 {
        assert!(!NotAsked::caused(&circuit.head(&key("a")).await.unwrap_err()));
    }
    assert_eq!(circuit.state(), CircuitState::Closed);
}

/// Hundred calls with all their retries: all fail for good soon after the store was given up, and it was hardly asked.
#[tokio::test(start_paused = true)]
async fn a_run_over_a_dead_store_ends_in_bounded_time() {
    let store = Moody::new(Mood::Dead);
    let circuit = Arc::new(over(&store));
    let policy = RetryPolicy { jitter_seed: Some(5), ..RetryPolicy::default() };
    let retry = RetryProvider::new(circuit.clone(), policy);
    let began = Instant::now();
    let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let results = join_all(names.iter().map(|name| put(&retry, name))).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(299) && took < Duration::from_secs(365), "{took:?}");
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("given up") && !error.kind().is_retryable(), "{error}");
    }
    let requests = store.requests();
    assert!(requests < 1500, "{requests} requests");

    // Later calls fail at once, and do not ask.
    assert!(matches!(circuit.state(), CircuitState::GivenUp { .. }));
    let began = Instant::now();
    for _ in 0..1000 {
        assert_eq!(put(&retry, "a").await.unwrap_err().kind(), ErrorKind::Unreachable);
    }
    assert!(store.requests() <= requests + 1 && began.elapsed() == Duration::ZERO);
    // But what goes on living finds it again.
    store.set(Mood::Well);
    sleep(Duration::from_secs(60)).await;
    put(&retry, "a").await.unwrap();
    assert_eq!(circuit.state(), CircuitState::Closed);
}

/// Where calls are rare, silence is long before it is noticed: no store is given up without a probe.
#[tokio::test(start_paused = true)]
async fn no_store_is_given_up_unprobed() {
    let store = Moody::new(Mood::Dead);
    let circuit = over(&store);
    for _ in 0..5 {
        assert_eq!(circuit.head(&key("a")).await.unwrap_err().kind(), ErrorKind::Transient);
        sleep(Duration::from_secs(600)).await;
    }
    assert!(matches!(circuit.state(), CircuitState::Open { .. }), "{:?}", circuit.state());
    store.set(Mood::Well);
    assert_eq!(circuit.head(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_abandoned_is_made_by_the_next() {
    let store = Moody::new(Mood::Dead);
    let circuit = over(&store);
    open(&circuit).await;
    sleep(Duration::from_secs(5)).await;
    store.set(Mood::Hangs);
    for _ in 0..10 {
        let before = store.requests();
        assert!(poll_immediate(circuit.head(&key("a"))).await.is_none());
        assert!(poll_immediate(put(&circuit, "a")).await.is_none());
        assert!(poll_immediate(circuit.list_all(&Prefix::all())).await.is_none());
        assert!(poll_immediate(circuit.delete_many(&[key("a")])).await.is_none());
        assert_eq!(store.requests(), before + 4);
    }
    store.set(Mood::Well);
    put(&circuit, "a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_not_hammered() {
    let store = Moody::new(Mood::RefusesLogin);
    let circuit = over(&store);
    assert_eq!(put(&circuit, "a").await.unwrap_err().kind(), ErrorKind::Denied);
    for _ in 0..1000 {
        let error = circuit.head(&key("a")).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Denied && error.is_of_the_login(), "{error}");
        assert!(error.to_string().contains("the key was revoked"), "{error}");
    }
    assert_eq!(store.requests(), 1);
    store.set(Mood::Well);
    sleep(Duration::from_secs(10)).await;
    put(&circuit, "a").await.unwrap();
}

/// A locked object says nothing of the others.
#[tokio::test(start_paused = true)]
async fn a_refused_operation_is_not_taken_for_the_login() {
    let store = Moody::new(Mood::Locks);
    let circuit = over(&store);
    let results = circuit.delete_many(&[key("a"), key("b")]).await;
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Denied)));
    assert!(circuit.delete(&key("a")).await.is_err());
    assert_eq!(store.requests(), 3);
    put(&circuit, "a").await.unwrap();
}

/// What is refused in the middle of a listing is asked for again, and nothing is lost or listed twice.
#[tokio::test(start_paused = true)]
async fn a_listing_outlives_the_outage() {
    let store = Moody::new(Mood::Well);
    for number in 0..10 {
        put(&store.inner, &format!("list/{number}")).await.unwrap();
    }
    let circuit = Arc::new(over(&store));
    let policy = RetryPolicy { jitter_seed: Some(5), ..RetryPolicy::default() };
    let retry = RetryProvider::new(circuit.clone(), policy);
    let all = Prefix::all();
    let mut listing = retry.list(&all);
    let mut listed = vec![listing.next().await.unwrap().unwrap().key];
    store.set(Mood::Dead);
    let recover = async {
        // Others ask too, and take the probes: the listing is refused.
        for _ in 0..200 {
            sleep(Duration::from_secs(1)).await;
            assert!(circuit.head(&key("a")).await.is_err());
        }
        assert!(matches!(circuit.state(), CircuitState::Open { .. }));
        store.set(Mood::Well);
    };
    let rest = async { listing.by_ref().map(|item| item.unwrap().key).collect::<Vec<_>>().await };
    let ((), rest) = tokio::join!(recover, rest);
    listed.extend(rest);
    let due: Vec<Key> = (0..10).map(|number| key(&format!("list/{number}"))).collect();
    assert_eq!(listed, due);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_refused_key_by_key() {
    let store = Moody::new(Mood::Dead);
    let circuit = over(&store);
    assert!(circuit.delete_many(&[]).await.is_empty());
    open(&circuit).await;
    let _ = circuit.head(&key("a")).await;
    let before = store.requests();
    let results = circuit.delete_many(&[key("a"), key("b")]).await;
    let refused = |result: &Result<()>| result.as_ref().is_err_and(NotAsked::caused);
    assert!(results.len() == 2 && results.iter().all(refused));
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|e| e.retry_after().is_some())));
    assert_eq!(store.requests(), before);
}

/// A call that was refused here had no effect: what lies under its key afterwards is somebody else's, even with the same bytes.
#[tokio::test(start_paused = true)]
async fn a_refused_creation_does_not_take_anothers_object() {
    let store = Moody::new(Mood::Dead);
    let circuit = Arc::new(over(&store));
    open(&circuit).await;
    let _ = circuit.head(&key("a")).await;
    let policy = RetryPolicy { jitter_seed: Some(1), ..RetryPolicy::default() };
    let retry = RetryProvider::new(circuit.clone(), policy);
    let (lock, body) = (key("lock"), Body::from(Bytes::from_static(b"text")));
    let ours = retry.put(&lock, body.clone(), body.sha256(), PutMode::CreateNew);
    let theirs = async {
        sleep(Duration::from_secs(1)).await;
        put(&store.inner, "lock").await.unwrap();
        store.set(Mood::Well);
    };
    let (ours, ()) = tokio::join!(ours, theirs);
    assert_eq!(ours.unwrap_err().kind(), ErrorKind::Exists);
}

/// Refusals and probes use up no attempts: even who has few of them outlives the outage.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_dead_store_uses_up_no_attempts() {
    let store = Moody::new(Mood::Dead);
    let circuit = Arc::new(over(&store));
    open(&circuit).await;
    let policy = RetryPolicy { attempts_max: 2, jitter_seed: Some(1), ..RetryPolicy::default() };
    let retry = RetryProvider::new(circuit.clone(), policy);
    let recover = async {
        sleep(Duration::from_secs(200)).await;
        store.set(Mood::Well);
    };
    let key = key("a");
    let (put, deleted, ()) = tokio::join!(put(&retry, "a"), retry.delete(&key), recover);
    assert!(put.is_ok() && deleted.is_ok(), "{put:?} {deleted:?}");
}

/// Who waits for the first answer learns in seconds that there is none; a store that was there before is waited for.
#[tokio::test(start_paused = true)]
async fn a_store_that_never_answered_is_given_up_soon() {
    for (met, least, most) in [(false, 10, 45), (true, 300, 400)] {
        let store = Moody::new(if met { Mood::Well } else { Mood::Dead });
        let circuit = Arc::new(CircuitProvider::new(store.clone(), CircuitPolicy::default()));
        let policy = RetryPolicy { jitter_seed: Some(5), ..RetryPolicy::default() };
        let retry = RetryProvider::new(circuit, policy);
        let key = Key::new("a").unwrap();
        if met {
            assert_eq!(retry.head(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
            store.set(Mood::Dead);
        }
        let began = Instant::now();
        // As a command begins: several questions at once.
        let asked = join_all((0..4).map(|_| retry.head(&key))).await;
        assert!(asked.into_iter().all(|answer| answer.unwrap_err().kind() == ErrorKind::Unreachable));
        let waited = began.elapsed().as_secs();
        assert!((least..most).contains(&waited), "{waited} s, met: {met}");
    }
}
