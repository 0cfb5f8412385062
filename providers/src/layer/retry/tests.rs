//! The retry layer over a store that fails by script, in paused time: nothing here waits.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{RetryPolicy, RetryProvider};
use crate::layer::Operation;
use crate::layer::fault::{Fault, FaultProvider, Rule, When};
use crate::layer::timeout::{TimeoutPolicy, TimeoutProvider};
use crate::memory::MemoryProvider;
use crate::{
    Body, Capabilities, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, ProviderExt as _, PutMode,
    Receipt, Result, Sha256, SharedProvider, Usage,
};

const TRANSIENT: ErrorKind = ErrorKind::Transient;

/// Attempt number and delay of each event.
type Events = Arc<Mutex<Vec<(u32, Option<Duration>)>>>;

struct Bench {
    memory: Arc<MemoryProvider>,
    faulty: Arc<FaultProvider>,
    retry: RetryProvider,
    events: Events,
}

fn policy() -> RetryPolicy {
    RetryPolicy {
        attempts_max: 5,
        delay_min: Duration::from_secs(1),
        delay_max: Duration::from_secs(8),
        deadline: Duration::from_secs(600),
        jitter_seed: Some(7),
    }
}

fn bench(policy: RetryPolicy, rules: impl IntoIterator<Item = Rule>) -> Bench {
    let memory = Arc::new(MemoryProvider::new());
    let shared: SharedProvider = memory.clone();
    let faulty = rules.into_iter().fold(FaultProvider::new(shared), FaultProvider::with_rule);
    let faulty = Arc::new(faulty);
    let events = Events::default();
    let heard = events.clone();
    let retry = RetryProvider::new(faulty.clone(), policy)
        .with_notify(Arc::new(move |event| heard.lock().push((event.attempt, event.delay))));
    Bench { memory, faulty, retry, events }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(provider: &dyn Provider, name: &str, text: &'static str, mode: PutMode) -> Result<Receipt> {
    let body = Body::from(Bytes::from_static(text.as_bytes()));
    let digest = body.sha256();
    provider.put(&key(name), body, digest, mode).await
}

fn rule(operation: Operation, when: When, fault: Fault) -> Rule {
    Rule::new(operation, when, fault)
}

#[tokio::test(start_paused = true)]
async fn transient_failures_are_repeated_and_told() {
    let failing = [1, 2].map(|n| rule(Operation::Get, When::Call(n), Fault::FailBefore(TRANSIENT)));
    let bench = bench(policy(), failing);
    put(&*bench.memory, "a", "text", PutMode::CreateNew).await.unwrap();
    assert_eq!(bench.retry.get(&key("a"), None).await.unwrap(), "text");
    assert_eq!(bench.faulty.calls(Operation::Get), 3);
    let events = bench.events.lock().clone();
    assert_eq!(events.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2]);
    assert!(events.iter().all(|(_, delay)| delay.is_some()));
}

#[tokio::test(start_paused = true)]
async fn final_errors_are_not_repeated() {
    use ErrorKind::{Corrupt, Denied, Exists, Misconfigured, NotFound, Other, Quota, Unsupported};
    for kind in [NotFound, Exists, Denied, Quota, Corrupt, Misconfigured, Unsupported, Other] {
        let bench = bench(policy(), [rule(Operation::Get, When::Always, Fault::FailBefore(kind))]);
        assert_eq!(bench.retry.get(&key("a"), None).await.unwrap_err().kind(), kind);
        assert_eq!(bench.faulty.calls(Operation::Get), 1, "{kind:?} was repeated");
        assert_eq!(*bench.events.lock(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_end() {
    let bench = bench(policy(), [rule(Operation::Head, When::Always, Fault::FailBefore(TRANSIENT))]);
    let error = bench.retry.head(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), TRANSIENT);
    assert!(error.to_string().contains("given up after 5 attempts"), "{error}");
    assert_eq!(bench.faulty.calls(Operation::Head), 5);
    assert_eq!(bench.events.lock().last().unwrap(), &(5, None));
}

/// Full jitter: each delay lies anywhere between zero and a bound that doubles up to its maximum.
#[tokio::test(start_paused = true)]
async fn delays_are_spread_below_a_doubling_bound() {
    let mut shares = Vec::new();
    for seed in 0..200 {
        let policy = RetryPolicy { attempts_max: 6, jitter_seed: Some(seed), ..policy() };
        let bench = bench(policy, [rule(Operation::Head, When::Always, Fault::FailBefore(TRANSIENT))]);
        bench.retry.head(&key("a")).await.unwrap_err();
        let delays: Vec<f64> =
            bench.events.lock().iter().filter_map(|(_, d)| Some(d.as_ref()?.as_secs_f64())).collect();
        assert_eq!(delays.len(), 5);
        for (delay, bound) in delays.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0]) {
            assert!((0.0..=bound).contains(delay), "{delay} s of at most {bound} s");
            shares.push(delay / bound);
        }
    }
    let tenths = |low: f64| shares.iter().filter(|share| (low..low + 0.1).contains(*share)).count();
    assert!((0..10).all(|tenth| tenths(f64::from(tenth) / 10.0) > 50), "not spread evenly");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_asks_for_is_the_least_delay() {
    let wanted = Duration::from_secs(77);
    let bench = bench(policy(), [rule(Operation::Head, When::Call(1), Fault::Throttle(wanted))]);
    put(&*bench.memory, "a", "text", PutMode::CreateNew).await.unwrap();
    let began = Instant::now();
    bench.retry.head(&key("a")).await.unwrap();
    assert!(began.elapsed() >= wanted, "came back after {:?}", began.elapsed());
}

/// Waiting for longer than the deadline is pointless: the error comes at once.
#[tokio::test(start_paused = true)]
async fn deadline_is_kept() {
    let asked =
        bench(policy(), [rule(Operation::Head, When::Call(1), Fault::Throttle(Duration::from_secs(601)))]);
    let began = Instant::now();
    assert_eq!(asked.retry.head(&key("a")).await.unwrap_err().kind(), ErrorKind::Throttled);
    assert_eq!(began.elapsed(), Duration::ZERO);

    let patient = RetryPolicy { attempts_max: u32::MAX, ..policy() };
    let deadline = patient.deadline;
    let bench = bench(patient, [rule(Operation::Head, When::Always, Fault::FailBefore(TRANSIENT))]);
    let began = Instant::now();
    bench.retry.head(&key("a")).await.unwrap_err();
    assert!(began.elapsed() <= deadline && began.elapsed() > deadline / 2, "{:?}", began.elapsed());
}

/// Waiting and working use up no patience: it begins with the first failure.
#[tokio::test(start_paused = true)]
async fn deadline_begins_with_the_first_failure() {
    let slow = rule(Operation::Put, When::Always, Fault::Delay(Duration::from_secs(3000)));
    let failing = rule(Operation::Put, When::Call(1), Fault::FailBefore(TRANSIENT));
    let bench = bench(policy(), [slow, failing]);
    put(&bench.retry, "a", "text", PutMode::CreateNew).await.unwrap();
    assert_eq!(bench.faulty.calls(Operation::Put), 2);
}

/// An attempt that hangs is an attempt that failed: the layer below says so.
#[tokio::test(start_paused = true)]
async fn hung_attempt_is_given_up_and_repeated() {
    let bench = bench(policy(), [rule(Operation::Put, When::Call(1), Fault::Hang)]);
    let timeout = TimeoutProvider::new(bench.faulty.clone(), &TimeoutPolicy::default());
    let retry = RetryProvider::new(Arc::new(timeout), policy());
    put(&retry, "a", "text", PutMode::CreateNew).await.unwrap();
    assert_eq!(bench.faulty.calls(Operation::Put), 2);
}

/// Many clients that are told the same delay do not come back at the same instant.
#[tokio::test(start_paused = true)]
async fn what_the_store_asks_for_is_spread_too() {
    let mut delays = BTreeSet::new();
    for seed in 0..20 {
        let policy = RetryPolicy { jitter_seed: Some(seed), ..policy() };
        let throttle = Fault::Throttle(Duration::from_secs(30));
        let bench = bench(policy, [rule(Operation::Head, When::Call(1), throttle)]);
        put(&*bench.memory, "a", "text", PutMode::CreateNew).await.unwrap();
        bench.retry.head(&key("a")).await.unwrap();
        delays.extend(bench.events.lock().iter().filter_map(|(_, delay)| *delay));
    }
    assert!(delays.len() > 15, "{delays:?}");
}

/// The store answered 500 after the commit: what is there is ours.
#[tokio::test(start_paused = true)]
async fn create_new_after_a_lost_answer_succeeds() {
    let bench = bench(policy(), [rule(Operation::Put, When::Call(1), Fault::FailAfter(TRANSIENT))]);
    let receipt = put(&bench.retry, "a", "text", PutMode::CreateNew).await.unwrap();
    assert_eq!((receipt.size, receipt.proof), (4, Proof::Server));
    assert_eq!(bench.faulty.calls(Operation::Put), 2);
}

/// The first attempt failed without effect, and meanwhile somebody else created the object.
#[tokio::test(start_paused = true)]
async fn create_new_after_a_lost_answer_does_not_take_anothers_object() {
    let memory = Arc::new(MemoryProvider::new());
    put(&*memory, "a", "theirs", PutMode::CreateNew).await.unwrap();
    let shared: SharedProvider = memory.clone();
    let fault = rule(Operation::Put, When::Call(1), Fault::FailBefore(TRANSIENT));
    let retry = RetryProvider::new(Arc::new(FaultProvider::new(shared).with_rule(fault)), policy());
    for text in ["ours", "others"] {
        assert_eq!(put(&retry, "a", text, PutMode::CreateNew).await.unwrap_err().kind(), ErrorKind::Exists);
    }
    assert_eq!(memory.get(&key("a"), None).await.unwrap(), "theirs");
}

/// Without an unknown outcome before it, `Exists` is the answer even for the same bytes: locks rely on it.
#[tokio::test(start_paused = true)]
async fn create_new_that_exists_at_first_is_refused() {
    let bench = bench(policy(), []);
    put(&bench.retry, "a", "text", PutMode::CreateNew).await.unwrap();
    assert_eq!(
        put(&bench.retry, "a", "text", PutMode::CreateNew).await.unwrap_err().kind(),
        ErrorKind::Exists
    );
}

#[tokio::test(start_paused = true)]
async fn corrupt_put_is_repeated_once() {
    let once = bench(policy(), [rule(Operation::Put, When::Call(1), Fault::FailBefore(ErrorKind::Corrupt))]);
    put(&once.retry, "a", "text", PutMode::CreateNew).await.unwrap();
    let always = bench(policy(), [rule(Operation::Put, When::Always, Fault::FailBefore(ErrorKind::Corrupt))]);
    let error = put(&always.retry, "a", "text", PutMode::CreateNew).await.unwrap_err();
    assert_eq!((error.kind(), always.faulty.calls(Operation::Put)), (ErrorKind::Corrupt, 2));
}

async fn ten_objects(bench: &Bench) {
    for number in 0..10 {
        put(&*bench.memory, &format!("list/{number}"), "text", PutMode::CreateNew).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn listing_goes_on_where_it_stumbled() {
    let stumbles =
        [0, 4, 10].map(|after| rule(Operation::List, When::Always, Fault::ListStumble(after, TRANSIENT)));
    let bench = bench(policy(), stumbles);
    ten_objects(&bench).await;
    assert_eq!(bench.retry.list_all(&Prefix::all()).await.unwrap().len(), 10);
    assert_eq!(bench.faulty.calls(Operation::List), 1);
    assert_eq!(bench.events.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn listing_that_fails_at_its_beginning_begins_anew() {
    let bench = bench(policy(), [rule(Operation::List, When::Call(1), Fault::ListBreak(0, TRANSIENT))]);
    ten_objects(&bench).await;
    assert_eq!(bench.retry.list_all(&Prefix::all()).await.unwrap().len(), 10);
    assert_eq!(bench.faulty.calls(Operation::List), 2);
}

/// Beginning anew would list objects twice, ending early would hide some: the error is told.
#[tokio::test(start_paused = true)]
async fn listing_that_breaks_in_the_middle_ends_with_the_error() {
    let bench = bench(policy(), [rule(Operation::List, When::Call(1), Fault::ListBreak(4, TRANSIENT))]);
    ten_objects(&bench).await;
    let listed: Vec<_> = bench.retry.list(&Prefix::all()).collect().await;
    assert_eq!(listed.len(), 5);
    assert_eq!(listed[4].as_ref().unwrap_err().kind(), TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn batch_of_deletes_repeats_only_what_failed() {
    let failing = [
        rule(Operation::Delete, When::Call(2), Fault::FailBefore(TRANSIENT)),
        rule(Operation::Delete, When::Call(3), Fault::FailBefore(ErrorKind::Denied)),
    ];
    let bench = bench(policy(), failing);
    ten_objects(&bench).await;
    let keys: Vec<Key> = (0..10).map(|number| key(&format!("list/{number}"))).collect();
    let results = bench.retry.delete_many(&keys).await;
    let failed: Vec<_> = results.iter().filter_map(|result| Some(result.as_ref().err()?.kind())).collect();
    assert_eq!((results.len(), failed), (10, vec![ErrorKind::Denied]));
    assert_eq!(bench.faulty.calls(Operation::Delete), 11);
    let left = bench.memory.list_all(&Prefix::all()).await.unwrap();
    assert_eq!(left.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["list/2"]);
}

#[tokio::test(start_paused = true)]
async fn batch_of_deletes_gives_up_in_the_end() {
    let bench = bench(policy(), [rule(Operation::Delete, When::Always, Fault::FailBefore(TRANSIENT))]);
    let results = bench.retry.delete_many(&[key("a"), key("b")]).await;
    assert!(
        results.len() == 2
            && results.iter().all(|result| result.as_ref().is_err_and(|e| e.kind() == TRANSIENT))
    );
    assert_eq!(bench.faulty.calls(Operation::Delete), 10);
}

/// A store whose first answer to a batch leaves out the last key.
#[derive(Debug)]
struct Forgetful(MemoryProvider, Mutex<u32>);

#[async_trait]
impl Provider for Forgetful {
    fn location(&self) -> String {
        "forgetful:".to_owned()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        self.0.put(key, body, sha256, mode).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        self.0.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.0.head(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        self.0.list(prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        *self.1.lock() += 1;
        let answered = if *self.1.lock() == 1 { keys.len() - 1 } else { keys.len() };
        self.0.delete_many(&keys[..answered]).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.0.usage().await
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}

/// It was neither taken for deleted nor asked for without end.
#[tokio::test(start_paused = true)]
async fn key_without_an_answer_is_asked_for_again() {
    let store = Arc::new(Forgetful(MemoryProvider::new(), Mutex::new(0)));
    let keys = ["a", "b", "c"].map(key);
    for name in ["a", "b", "c"] {
        put(&store.0, name, "text", PutMode::CreateNew).await.unwrap();
    }
    let results = RetryProvider::new(store.clone(), policy()).delete_many(&keys).await;
    assert!(results.len() == 3 && results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(*store.1.lock(), 2);
    assert_eq!(store.0.list_all(&Prefix::all()).await.unwrap(), []);
}

/// One key on which the store hangs does not keep a whole batch from being deleted.
#[tokio::test(start_paused = true)]
async fn batch_that_hangs_is_tried_in_halves() {
    let hang = rule(Operation::Delete, When::Always, Fault::Hang);
    let bench = bench(policy(), [hang.in_folder(Prefix::folder("list/3").unwrap())]);
    ten_objects(&bench).await;
    let timeout = TimeoutProvider::new(bench.faulty.clone(), &TimeoutPolicy::default());
    let retry = RetryProvider::new(Arc::new(timeout), policy());
    let keys: Vec<Key> = (0..10).map(|number| key(&format!("list/{number}"))).collect();
    let results = retry.delete_many(&keys).await;
    let failed: Vec<usize> = (0..10).filter(|number| results[*number].is_err()).collect();
    assert_eq!((results.len(), failed), (10, vec![3, 4, 5, 6, 7, 8, 9]));
}
