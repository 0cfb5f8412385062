//! The layers together, in paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{Stack, StackOptions};
use crate::layer::circuit::{CircuitPolicy, CircuitState};
use crate::layer::fault::{Fault, FaultProvider, Rule, When};
use crate::layer::limit::LimitPolicy;
use crate::layer::retry::RetryPolicy;
use crate::layer::{Operation, RecordProvider};
use crate::memory::MemoryProvider;
use crate::pace::{Limits, Pace};
use crate::{
    Body, ErrorKind, Key, Prefix, Provider, ProviderExt as _, PutMode, Receipt, Result, SharedProvider,
};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(store: &dyn Provider, name: &str, bytes: usize) -> Result<Receipt> {
    let body = Body::from(Bytes::from(vec![0; bytes]));
    let digest = body.sha256();
    store.put(&key(name), body, digest, PutMode::CreateNew).await
}

fn faulty(rules: impl IntoIterator<Item = Rule>) -> Arc<FaultProvider> {
    let memory: SharedProvider = Arc::new(MemoryProvider::new());
    Arc::new(rules.into_iter().fold(FaultProvider::new(memory), FaultProvider::with_rule))
}

fn options() -> StackOptions {
    StackOptions {
        retry: RetryPolicy { jitter_seed: Some(3), ..RetryPolicy::default() },
        ..StackOptions::default()
    }
}

/// For a store that was there before.
fn options_of_a_known_store() -> StackOptions {
    let circuit = CircuitPolicy::default();
    let circuit = CircuitPolicy { give_up_unmet_after: circuit.give_up_after, ..circuit };
    StackOptions { circuit, ..options() }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Each call takes nearly as long as an attempt may, and waits for a slot for far longer.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_is_not_hanging() {
    let store = faulty([Rule::new(Operation::Put, When::Always, Fault::Delay(Duration::from_secs(50)))]);
    let limit = LimitPolicy { concurrency_max: Some(1), ..LimitPolicy::default() };
    let stack = Stack::new(store.clone(), StackOptions { limit, ..options() });
    let began = Instant::now();
    let names = names(30);
    let results = join_all(names.iter().map(|name| put(&*stack.provider, name, 1))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((began.elapsed().as_secs(), store.calls(Operation::Put)), (30 * 50, 30));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_bandwidth_is_not_hanging() {
    let store = faulty([]);
    let limits = Limits { upload: Some("1KiB/s".parse().unwrap()), ..Limits::default() };
    let stack = Stack::new(store.clone(), StackOptions { pace: Pace::new(limits), ..options() });
    let names = names(30);
    let began = Instant::now();
    let results = join_all(names.iter().map(|name| put(&*stack.provider, name, 100 << 10))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(store.calls(Operation::Put), 30);
    assert!(began.elapsed() > Duration::from_secs(2880), "{:?}", began.elapsed());
}

/// A store that swallows every call: hundred callers wait for eight slots, and all are told in bounded time.
#[tokio::test(start_paused = true)]
async fn a_run_over_a_store_that_hangs_ends_in_bounded_time() {
    let store = faulty([Rule::new(None, When::Always, Fault::Hang)]);
    let stack = Stack::new(store.clone(), options_of_a_known_store());
    let began = Instant::now();
    let names = names(100);
    let results = join_all(names.iter().map(|name| put(&*stack.provider, name, 1))).await;
    let took = began.elapsed();
    // The first failures come after a minute; five minutes later all is over, but for the last probe.
    assert!(took >= Duration::from_secs(360) && took < Duration::from_secs(480), "{took:?}");
    let kinds = results.into_iter().map(|result| result.unwrap_err().kind());
    assert!(kinds.into_iter().all(|kind| kind == ErrorKind::Unreachable));
    assert!(store.calls_in_all() < 40, "{} requests", store.calls_in_all());
    assert!(matches!(stack.circuit.state(), CircuitState::GivenUp { .. }));
    assert_eq!(stack.limit.snapshot().in_flight, 0);
}

/// A store that fails for a while is waited for: nobody above notices.
#[tokio::test(start_paused = true)]
async fn a_short_outage_is_ridden_out() {
    let memory: SharedProvider = Arc::new(MemoryProvider::new());
    let began = Instant::now();
    let fail = Fault::FailBefore(ErrorKind::Transient);
    let away = (1..=60).map(|call| Rule::new(None, When::Call(call), fail.clone()));
    let store = Arc::new(away.fold(FaultProvider::new(memory), FaultProvider::with_rule));
    let failures = Arc::new(Mutex::new(0_u32));
    let counted = failures.clone();
    let notify = Arc::new(move |_: &crate::layer::retry::RetryEvent<'_>| *counted.lock() += 1);
    let stack = Stack::new(store, StackOptions { notify: Some(notify), ..options_of_a_known_store() });
    let names = names(10);
    let results = join_all(names.iter().map(|name| put(&*stack.provider, name, 1))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(began.elapsed() > Duration::from_secs(2) && began.elapsed() < Duration::from_secs(300));
    assert!(*failures.lock() >= 50, "{} failures were told", failures.lock());
    assert_eq!(stack.circuit.state(), CircuitState::Closed);
}

/// Calls that hang with their bytes are taken for too many on a slow line.
#[tokio::test(start_paused = true)]
async fn hung_bodies_halve_the_calls_at_once() {
    let store = faulty([Rule::new(Operation::Put, When::Call(1), Fault::Hang)]);
    let stack = Stack::new(store, options());
    put(&*stack.provider, "a", 1 << 20).await.unwrap();
    assert_eq!(stack.limit.snapshot().concurrency, Some(4));
}

/// What is recorded around the stack are calls, what is recorded below it are attempts.
#[tokio::test(start_paused = true)]
async fn calls_and_attempts_are_told_apart() {
    let store = faulty([Rule::new(Operation::Put, When::Every(2), Fault::FailBefore(ErrorKind::Transient))]);
    let attempts = Arc::new(RecordProvider::new(store));
    let calls = RecordProvider::new(super::stack(attempts.clone(), options()));
    for name in names(10) {
        put(&calls, &name, 1).await.unwrap();
    }
    assert_eq!((calls.counts(Operation::Put).calls, calls.counts(Operation::Put).errors), (10, 0));
    assert_eq!((attempts.counts(Operation::Put).calls, attempts.counts(Operation::Put).errors), (19, 9));
}

/// Everything is dropped at every moment of its life, over a store that fails, hangs and throttles.
#[tokio::test(start_paused = true)]
async fn dropped_calls_leave_nothing_behind() {
    let rule = |when, fault| Rule::new(None, when, fault);
    let store = faulty([
        rule(When::Always, Fault::Delay(Duration::from_millis(300))),
        rule(When::Every(7), Fault::Hang),
        rule(When::Every(3), Fault::FailBefore(ErrorKind::Transient)),
        rule(When::Every(5), Fault::Throttle(Duration::from_secs(1))),
    ]);
    let limits = Limits {
        upload: Some("1MiB/s".parse().unwrap()),
        creates_per_second: Some(5.0),
        ..Limits::default()
    };
    let limit = LimitPolicy { concurrency_max: Some(3), ..LimitPolicy::default() };
    let stack = Stack::new(store, StackOptions { pace: Pace::new(limits), limit, ..options() });
    for step in 0..200_u64 {
        let store = &*stack.provider;
        let name = step.to_string();
        let (all, key) = (Prefix::all(), key(&name));
        let calls = join_all((0..4).map(|_| async {
            let _ = put(store, &name, 100 << 10).await;
            let _ = store.get(&key, None).await;
            let _ = store.list_all(&all).await;
            let _ = store.delete_many(std::slice::from_ref(&key)).await;
        }));
        let _ = timeout(Duration::from_millis(step * step), calls).await;
        assert_eq!(stack.limit.snapshot().in_flight, 0, "after {step}");
    }
    // The store may count as dead or throttled by now; but calls still get their turn.
    sleep(Duration::from_secs(3600)).await;
    put(&*stack.provider, "last", 1).await.unwrap();
}
