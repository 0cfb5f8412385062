//! Slots, spacing and charges in paused time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join_all, poll_immediate};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{LimitPolicy, LimitProvider};
use crate::layer::Operation;
use crate::layer::fault::{Fault, FaultProvider, Rule, When};
use crate::memory::MemoryProvider;
use crate::pace::{Limits, Pace};
use crate::{
    Body, ErrorKind, Key, Prefix, Provider, ProviderExt as _, PutMode, Receipt, Result, SharedProvider,
};

const MIB: usize = 1 << 20;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(store: &dyn Provider, name: &str, bytes: usize) -> Result<Receipt> {
    let body = Body::from(vec![0; bytes]);
    let digest = body.sha256();
    store.put(&key(name), body, digest, PutMode::Replace).await
}

fn memory() -> SharedProvider {
    Arc::new(MemoryProvider::new())
}

/// A store whose calls take a second.
fn slow() -> SharedProvider {
    let delay = Fault::Delay(Duration::from_secs(1));
    Arc::new(FaultProvider::new(memory()).with_rule(Rule::new(None, When::Always, delay)))
}

fn at_once(store: SharedProvider, concurrency_max: usize) -> LimitProvider {
    let policy = LimitPolicy { concurrency_max: Some(concurrency_max), transport_is_paced: false };
    LimitProvider::new(store, &policy, Pace::unlimited())
}

fn paced(store: SharedProvider, limits: Limits) -> LimitProvider {
    LimitProvider::new(store, &LimitPolicy::default(), Pace::new(limits))
}

fn upload(text: &str) -> Limits {
    Limits { upload: Some(text.parse().unwrap()), ..Limits::default() }
}

fn creates(creates_per_second: f64) -> Limits {
    Limits { creates_per_second: Some(creates_per_second), ..Limits::default() }
}

fn nothing_is_held(limit: &LimitProvider) {
    assert_eq!(limit.snapshot().in_flight, 0);
    assert!(limit.puts.try_lock().is_ok() && limit.gets.try_lock().is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_run_in_the_order_in_which_they_came() {
    let limit = at_once(slow(), 1);
    let order = Mutex::new(Vec::new());
    let began = Instant::now();
    let names: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    join_all(names.iter().map(|name| async {
        put(&limit, name, 10).await.unwrap();
        order.lock().push(name.clone());
        assert!(limit.snapshot().in_flight <= 1);
    }))
    .await;
    assert_eq!(*order.lock(), names);
    assert_eq!(began.elapsed().as_secs(), 20);
    nothing_is_held(&limit);
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_how_many_calls_to_offer() {
    assert_eq!(at_once(memory(), 30).capabilities().concurrency_preferred, 30);
    let folder = tempfile::tempdir().unwrap();
    let local: SharedProvider = Arc::new(crate::local::LocalProvider::open(folder.path()).unwrap());
    let preferred = local.capabilities();
    let limit = LimitProvider::new(local, &LimitPolicy::default(), Pace::unlimited());
    assert_eq!((limit.capabilities(), limit.snapshot().concurrency), (preferred, None));
}

#[tokio::test(start_paused = true)]
async fn puts_begin_evenly_spaced() {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let heard = begun.clone();
    let hook = Fault::HookBefore(Arc::new(move |_, _: &str| heard.lock().push(Instant::now())));
    let delay = Fault::Delay(Duration::from_millis(700));
    let store = FaultProvider::new(memory())
        .with_rule(Rule::new(Operation::Put, When::Always, hook))
        .with_rule(Rule::new(Operation::Put, When::Always, delay));
    let limit = paced(Arc::new(store), creates(3.0));
    let names: Vec<String> = (0..31).map(|number| number.to_string()).collect();
    join_all(names.iter().map(|name| put(&limit, name, 10))).await;
    let begun = begun.lock().clone();
    let took = begun[30] - begun[0];
    assert!(took >= Duration::from_millis(9999) && took < Duration::from_millis(10_100), "{took:?}");
    for gap in begun.windows(2).map(|pair| pair[1] - pair[0]) {
        assert!(gap >= Duration::from_millis(325) && gap <= Duration::from_millis(340), "{gap:?}");
    }
    // Other calls do not wait for them.
    let (_, took) = tokio::join!(join_all(names.iter().map(|name| put(&limit, name, 10))), async {
        let began = Instant::now();
        limit.head(&key("1")).await.unwrap();
        began.elapsed()
    });
    assert_eq!(took, Duration::ZERO);
}

/// A store that was full or idle is not followed by a rush.
#[tokio::test(start_paused = true)]
async fn no_puts_are_saved_up() {
    let limit = paced(memory(), creates(2.0));
    put(&limit, "a", 1).await.unwrap();
    sleep(Duration::from_secs(100)).await;
    let began = Instant::now();
    for number in 0..11 {
        put(&limit, &number.to_string(), 1).await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(4900), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn bodies_are_charged() {
    let limit = paced(memory(), Limits { download: Some("2MiB/s".parse().unwrap()), ..upload("1MiB/s") });
    let began = Instant::now();
    let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    join_all(names.iter().map(|name| put(&limit, name, MIB))).await;
    let took = began.elapsed();
    // The last of ten begins when those before it have flowed.
    assert!(took > Duration::from_millis(8900) && took <= Duration::from_secs(9), "{took:?}");
    for range in [None, Some(0..MIB as u64)] {
        let began = Instant::now();
        for name in &names {
            assert_eq!(limit.get(&key(name), range.clone()).await.unwrap().len(), MIB);
        }
        limit.pace.settled(crate::pace::Direction::Download).await;
        let took = began.elapsed();
        assert!(took > Duration::from_millis(4800) && took <= Duration::from_millis(5050), "{took:?}");
    }
    assert_eq!((limit.pace.bytes_sent(), limit.pace.bytes_received()), (10 << 20, 20 << 20));
}

/// What was not moved is not charged: a store that refuses at once does not keep the others waiting.
#[tokio::test(start_paused = true)]
async fn bytes_that_were_not_moved_are_given_back() {
    let fail = Fault::FailBefore(ErrorKind::Transient);
    let store = FaultProvider::new(memory()).with_rule(Rule::new(None, When::Always, fail));
    let limit =
        paced(Arc::new(store), Limits { download: Some("1KiB/s".parse().unwrap()), ..upload("1KiB/s") });
    let began = Instant::now();
    for _ in 0..100 {
        put(&limit, "a", MIB).await.unwrap_err();
        limit.get(&key("a"), Some(0..MIB as u64)).await.unwrap_err();
        limit.get(&key("a"), Some(0..u64::MAX)).await.unwrap_err();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!((limit.pace.bytes_sent(), limit.pace.bytes_received()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn transport_that_is_paced_is_not_charged_twice() {
    let policy = LimitPolicy { transport_is_paced: true, ..LimitPolicy::default() };
    let limit = LimitProvider::new(memory(), &policy, Pace::new(upload("1KiB/s")));
    let began = Instant::now();
    for _ in 0..10 {
        put(&limit, "a", MIB).await.unwrap();
    }
    assert_eq!((began.elapsed(), limit.pace.bytes_sent()), (Duration::ZERO, 0));
}

/// A listing that nobody asks for its next object, and one that is dropped, keep nobody waiting.
#[tokio::test(start_paused = true)]
async fn idle_listings_hold_no_slot() {
    let store = memory();
    for number in 0..10 {
        put(&*store, &format!("list/{number}"), 1).await.unwrap();
    }
    let stumbles = [3, 6].map(|after| {
        Rule::new(Operation::List, When::Always, Fault::ListStumble(after, ErrorKind::Transient))
    });
    let store = stumbles.into_iter().fold(FaultProvider::new(store), FaultProvider::with_rule);
    let limit = at_once(Arc::new(store), 1);
    let all = Prefix::all();
    let mut listings: Vec<_> = (0..5).map(|_| limit.list(&all)).collect();
    for listing in &mut listings {
        assert!(listing.next().await.unwrap().is_ok());
    }
    put(&limit, "a", 1).await.unwrap();
    let listing = listings.pop().unwrap();
    let items: Vec<_> = listing.collect().await;
    assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 9);
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 2);
    drop(listings);
    nothing_is_held(&limit);
}

/// A listing that waits for its first page, and one that waits for a slot, give back what they hold.
#[tokio::test(start_paused = true)]
async fn dropped_listings_hold_no_slot() {
    let limit = at_once(slow(), 1);
    let all = Prefix::all();
    let mut waiting = limit.list(&all);
    assert!(poll_immediate(waiting.next()).await.is_none());
    assert_eq!(limit.snapshot().in_flight, 1);
    let mut queued = limit.list(&all);
    assert!(poll_immediate(queued.next()).await.is_none());
    drop(queued);
    drop(waiting);
    nothing_is_held(&limit);
    assert_eq!(limit.list_all(&all).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_throttling_store_is_asked_less() {
    let throttle = Fault::FailBefore(ErrorKind::Throttled);
    let store = FaultProvider::new(slow()).with_rule(Rule::new(None, When::Always, throttle));
    let limit = at_once(Arc::new(store), 16);
    assert_eq!(limit.snapshot().concurrency, Some(8));
    limit.head(&key("a")).await.unwrap_err();
    assert_eq!(limit.snapshot().concurrency, Some(4));
    sleep(Duration::from_secs(1)).await;
    assert!(limit.list(&Prefix::all()).next().await.unwrap().is_err());
    assert_eq!(limit.snapshot().concurrency, Some(2));
    sleep(Duration::from_secs(1)).await;
    assert!(limit.delete_many(&[key("a"), key("b")]).await.iter().all(Result::is_err));
    assert_eq!((limit.snapshot().concurrency, limit.snapshot().throttled), (Some(1), 3));
    nothing_is_held(&limit);
}

/// Calls are dropped at every moment of their lives, alone and in crowds.
#[tokio::test(start_paused = true)]
async fn dropped_calls_hold_nothing() {
    let limits = Limits {
        upload: Some("1MiB/s".parse().unwrap()),
        download: Some("1MiB/s".parse().unwrap()),
        creates_per_second: Some(2.0),
        ..Limits::default()
    };
    let policy = LimitPolicy { concurrency_max: Some(2), transport_is_paced: false };
    let limit = LimitProvider::new(slow(), &policy, Pace::new(limits));
    for step in 0..150_u64 {
        let (name, time) = (step.to_string(), Duration::from_millis(step * 40));
        let all = Prefix::all();
        let calls = join_all((0..4).map(|_| async {
            let _ = put(&limit, &name, 200 << 10).await;
            let _ = limit.get(&key(&name), None).await;
            let _ = limit.list_all(&all).await;
            let _ = limit.delete(&key(&name)).await;
        }));
        let _ = timeout(time, calls).await;
        nothing_is_held(&limit);
        assert_eq!(limit.snapshot().concurrency.unwrap(), limit.slots.as_ref().unwrap().seen().limit);
    }
    // What was charged for calls that were dropped on their way flows, and then all is as in the beginning.
    limit.pace.settled(crate::pace::Direction::Upload).await;
    limit.pace.settled(crate::pace::Direction::Download).await;
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    put(&limit, "last", 10).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 1);
}
