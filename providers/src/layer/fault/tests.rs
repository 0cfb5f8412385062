//! Faults come where the script says, and the same seed gives the same faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Fault, FaultProvider, Rule, When};
use crate::layer::{Operation, ReadOnlyProvider, RecordProvider};
use crate::memory::MemoryProvider;
use crate::{
    Body, ErrorKind, Key, Prefix, Provider, ProviderExt as _, PutMode, Receipt, Result, SharedProvider,
};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(provider: &dyn Provider, name: &str, text: &str) -> Result<Receipt> {
    let body = Body::from(Bytes::from(text.to_owned()));
    let digest = body.sha256();
    provider.put(&key(name), body, digest, PutMode::Replace).await
}

fn faulty(rules: impl IntoIterator<Item = Rule>) -> FaultProvider {
    let memory: SharedProvider = Arc::new(MemoryProvider::new());
    rules.into_iter().fold(FaultProvider::new(memory), FaultProvider::with_rule)
}

/// Which of a thousand puts fail, in which order they may come.
async fn failing_puts(seed: u64, order: impl Iterator<Item = u64>) -> Vec<u64> {
    let fail = Fault::FailBefore(ErrorKind::Transient);
    let store = faulty([Rule::new(Operation::Put, When::PerMille(100), fail)]).with_seed(seed);
    let mut failed = Vec::new();
    for number in order {
        if put(&store, &number.to_string(), "text").await.is_err() {
            failed.push(number);
        }
    }
    failed.sort_unstable();
    failed
}

#[tokio::test]
async fn same_seed_gives_the_same_faults_in_any_order() {
    let faults = failing_puts(1, 0..1000).await;
    assert!((60..140).contains(&faults.len()), "{} of 1000 failed, 100 were asked for", faults.len());
    assert_eq!(failing_puts(1, 0..1000).await, faults);
    assert_eq!(failing_puts(1, (0..1000).rev()).await, faults);
    assert_ne!(failing_puts(2, 0..1000).await, faults);
}

#[tokio::test]
async fn rules_count_the_calls_they_look_at() {
    let fail = |kind| Fault::FailBefore(kind);
    let packs = Prefix::folder("packs").unwrap();
    let store = faulty([
        Rule::new(Operation::Put, When::Call(2), fail(ErrorKind::Denied)).in_folder(packs.clone()),
        Rule::new(Operation::Put, When::From(4), fail(ErrorKind::Quota)).in_folder(packs),
        Rule::new(None, When::Call(3), fail(ErrorKind::Other)),
    ]);
    let mut kinds = Vec::new();
    for name in ["packs/1", "index/1", "packs-old/1", "packs/2", "packs/3", "packs/4", "packs/5", "index/2"] {
        kinds.push(put(&store, name, "text").await.err().map(|error| error.kind()));
    }
    use ErrorKind::{Denied, Other, Quota};
    assert_eq!(kinds, [None, None, Some(Other), Some(Denied), None, Some(Quota), Some(Quota), None]);
    assert_eq!((store.calls(Operation::Put), store.calls(Operation::Get), store.calls_in_all()), (8, 0, 8));
}

#[tokio::test]
async fn effect_comes_before_a_late_failure_and_not_with_an_early_one() {
    for (fault, stored) in
        [(Fault::FailBefore(ErrorKind::Transient), false), (Fault::FailAfter(ErrorKind::Transient), true)]
    {
        let store = faulty([Rule::new(Operation::Put, When::Always, fault)]);
        assert_eq!(put(&store, "a", "text").await.unwrap_err().kind(), ErrorKind::Transient);
        assert_eq!(store.exists(&key("a")).await.unwrap(), stored);
    }
}

#[tokio::test]
async fn damage_is_silent() {
    let store = faulty([
        Rule::new(Operation::Put, When::Call(1), Fault::FlipBit),
        Rule::new(Operation::Put, When::Call(2), Fault::Lose),
        Rule::new(Operation::Get, When::Call(2), Fault::Truncate),
        Rule::new(Operation::Get, When::Call(3), Fault::FlipBit),
    ]);
    put(&store, "flipped", "text").await.unwrap();
    put(&store, "lost", "text").await.unwrap();
    put(&store, "kept", "text").await.unwrap();
    assert_eq!(store.get(&key("flipped"), None).await.unwrap(), "teyt");
    assert_eq!(store.get(&key("kept"), None).await.unwrap(), "te");
    assert_eq!(store.get(&key("kept"), None).await.unwrap(), "teyt");
    assert_eq!(store.get(&key("kept"), None).await.unwrap(), "text");
    assert!(!store.exists(&key("lost")).await.unwrap());
}

#[tokio::test]
async fn full_store_takes_what_fits() {
    let store = faulty([]).with_bytes_left(10);
    put(&store, "a", "123456").await.unwrap();
    assert_eq!(put(&store, "b", "12345").await.unwrap_err().kind(), ErrorKind::Quota);
    put(&store, "b", "1234").await.unwrap();
    assert_eq!(put(&store, "c", "1").await.unwrap_err().kind(), ErrorKind::Quota);
    store.set_bytes_left(u64::MAX);
    put(&store, "c", "1").await.unwrap();
}

#[tokio::test]
async fn hooks_are_called_before_and_after_the_effect() {
    let memory = Arc::new(MemoryProvider::new());
    let seen = Arc::new(AtomicU64::new(0));
    let hook = |weight: u64| -> super::FaultHook {
        let (seen, memory) = (seen.clone(), memory.clone());
        Arc::new(move |operation, subject| {
            let there = memory.usage().now_used();
            assert_eq!((operation, subject, there > 0), (Operation::Put, "a", weight == 10));
            seen.fetch_add(weight, Ordering::SeqCst);
        })
    };
    let shared: SharedProvider = memory.clone();
    let store = FaultProvider::new(shared)
        .with_rule(Rule::new(Operation::Put, When::Call(1), Fault::HookBefore(hook(1))))
        .with_rule(Rule::new(Operation::Put, When::Call(1), Fault::HookAfter(hook(10))));
    put(&store, "a", "text").await.unwrap();
    put(&store, "b", "text").await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 11);
}

/// Runs a future that is known to be ready.
trait NowUsed {
    fn now_used(self) -> u64;
}

impl<F: Future<Output = Result<crate::Usage>>> NowUsed for F {
    fn now_used(self) -> u64 {
        use futures_util::FutureExt as _;
        self.now_or_never().unwrap().unwrap().used_bytes.unwrap()
    }
}

#[tokio::test]
async fn listings_break_as_told() {
    let kind = ErrorKind::Transient;
    let outcomes = [
        (Fault::ListShort(2), 2, None, false),
        (Fault::ListBreak(2, kind), 2, Some(kind), false),
        (Fault::ListStumble(2, kind), 5, Some(kind), true),
        (Fault::FailBefore(kind), 0, Some(kind), false),
        (Fault::FailAfter(kind), 5, Some(kind), false),
    ];
    for (fault, objects, error, resumable) in outcomes {
        let store = faulty([Rule::new(Operation::List, When::Always, fault)]);
        for number in 0..5 {
            put(&store, &number.to_string(), "text").await.unwrap();
        }
        let items: Vec<_> = store.list(&Prefix::all()).collect().await;
        let errors: Vec<_> = items.iter().filter_map(|item| item.as_ref().err()).collect();
        assert_eq!(items.len() - errors.len(), objects);
        assert_eq!(errors.iter().map(|error| error.kind()).collect::<Vec<_>>(), Vec::from_iter(error));
        assert!(errors.iter().all(|error| error.is_resumable() == resumable));
    }
}

#[tokio::test]
async fn record_counts_calls_bytes_and_errors() {
    let memory: SharedProvider = Arc::new(MemoryProvider::new());
    let record = RecordProvider::new(memory).with_log(3);
    put(&record, "a", "12345").await.unwrap();
    put(&record, "b", "123").await.unwrap();
    record.get(&key("a"), Some(1..3)).await.unwrap();
    record.get(&key("missing"), None).await.unwrap_err();
    assert_eq!(record.list_all(&Prefix::all()).await.unwrap().len(), 2);
    assert!(record.delete_many(&[key("a"), key("b")]).await.iter().all(Result::is_ok));
    let (puts, gets) = (record.counts(Operation::Put), record.counts(Operation::Get));
    assert_eq!((puts.calls, puts.errors, puts.bytes_sent, puts.bytes_received), (2, 0, 8, 0));
    assert_eq!((gets.calls, gets.errors, gets.bytes_sent, gets.bytes_received), (2, 1, 0, 2));
    let (lists, deletes) = (record.counts(Operation::List), record.counts(Operation::DeleteMany));
    assert_eq!((lists.calls, lists.objects, deletes.calls, deletes.objects), (1, 2, 1, 2));
    let log = record.log();
    assert_eq!(log.iter().map(|call| call.subject.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
    record.reset();
    assert!(record.all_counts().is_empty() && record.log().is_empty());
}

#[tokio::test]
async fn read_only_refuses_every_change() {
    let memory: SharedProvider = Arc::new(MemoryProvider::new());
    put(&*memory, "a", "text").await.unwrap();
    let store = ReadOnlyProvider::new(memory);
    assert_eq!(put(&store, "a", "other").await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.delete(&key("a")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.delete_many(&[key("a")]).await[0].as_ref().unwrap_err().kind(), ErrorKind::Denied);
    let period = std::time::Duration::from_secs(1);
    assert_eq!(store.retain(&key("a"), period).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.get(&key("a"), None).await.unwrap(), "text");
    assert_eq!(store.list_all(&Prefix::all()).await.unwrap().len(), 1);
}
