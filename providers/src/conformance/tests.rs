//! The suite passes on correct stores, and each broken store fails the cases that are about what is broken.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{Options, Report, run};
use crate::layer::fault::{Fault, FaultProvider, Rule, When};
use crate::layer::limit::LimitPolicy;
use crate::layer::retry::{RetryPolicy, RetryProvider};
use crate::layer::{Operation, RecordProvider, StackOptions, stack};
use crate::memory::MemoryProvider;
use crate::pace::{Limits, Pace};
use crate::{
    Body, Capabilities, ErrorKind, Key, ObjectInfo, Prefix, Provider, ProviderExt as _, PutMode, Receipt,
    Result, Sha256, SharedProvider, Usage,
};

fn options() -> Options {
    Options { folder: Prefix::folder("check").unwrap(), ..Options::default() }
}

/// Enough to break what is broken, and quick.
fn small_options() -> Options {
    Options { large_bytes: 10_000, listed_objects: 100, ..options() }
}

fn failed_cases(report: &Report) -> Vec<&'static str> {
    report.failures().map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_passes_and_is_left_empty() {
    let memory = Arc::new(MemoryProvider::new());
    let report = run(memory.clone(), options()).await;
    assert!(report.passed(), "{report}");
    assert!(report.cases.len() >= 35, "only {} cases ran", report.cases.len());
    assert_eq!(report.left_behind, Vec::<String>::new());
    assert_eq!(memory.list_all(&Prefix::all()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_pass_too() {
    let memory: SharedProvider = Arc::new(MemoryProvider::new());
    let faultless = Arc::new(FaultProvider::new(memory));
    let store = stack(faultless, StackOptions::default());
    let report = run(Arc::new(RecordProvider::new(store)), options()).await;
    assert!(report.passed(), "{report}");
}

/// Every seventh call fails before or after its effect: nobody above the retry layer notices.
#[tokio::test(start_paused = true)]
async fn retry_makes_an_unreliable_store_pass() {
    use Operation::{Delete, Get, Head, List, Put};
    let mut unreliable = FaultProvider::new(Arc::new(MemoryProvider::new())).with_seed(1);
    for operation in [Put, Get, Head, List, Delete] {
        let before = Fault::FailBefore(ErrorKind::Transient);
        unreliable = unreliable.with_rule(Rule::new(operation, When::PerMille(70), before));
    }
    for operation in [Put, Get, Head, Delete] {
        let after = Fault::FailAfter(ErrorKind::Transient);
        unreliable = unreliable.with_rule(Rule::new(operation, When::PerMille(70), after));
    }
    let stumble = Fault::ListStumble(3, ErrorKind::Transient);
    let unreliable = Arc::new(unreliable.with_rule(Rule::new(List, When::Always, stumble)));
    let retry = RetryPolicy { jitter_seed: Some(1), ..RetryPolicy::default() };
    let report = run(Arc::new(RetryProvider::new(unreliable.clone(), retry.clone())), options()).await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.left_behind, Vec::<String>::new());
    let report = run(stack(unreliable, StackOptions { retry, ..StackOptions::default() }), options()).await;
    assert!(report.passed(), "{report}");
}

/// All layers and limits over a store that fails, throttles and hangs by chance, with little room for calls.
#[tokio::test(start_paused = true)]
async fn whole_stack_makes_a_terrible_store_pass() {
    let per_mille = |share, fault| Rule::new(None, When::PerMille(share), fault);
    for seed in 0..5 {
        let terrible = FaultProvider::new(Arc::new(MemoryProvider::new()))
            .with_seed(seed)
            .with_rule(per_mille(300, Fault::Delay(Duration::from_secs(1))))
            .with_rule(per_mille(50, Fault::FailBefore(ErrorKind::Transient)))
            .with_rule(per_mille(50, Fault::Throttle(Duration::from_secs(5))))
            .with_rule(per_mille(20, Fault::Hang))
            .with_rule(Rule::new(Operation::List, When::Always, Fault::ListStumble(3, ErrorKind::Transient)));
        // Not of listings: what fails at its end was listed already.
        let after = [Operation::Put, Operation::Get, Operation::Head, Operation::Delete].map(|operation| {
            Rule::new(operation, When::PerMille(50), Fault::FailAfter(ErrorKind::Transient))
        });
        let terrible = after.into_iter().fold(terrible, FaultProvider::with_rule);
        let limits = Limits {
            upload: Some("10MiB/s".parse().unwrap()),
            download: Some("20MiB/s".parse().unwrap()),
            creates_per_second: Some(50.0),
            ..Limits::default()
        };
        let options = StackOptions {
            retry: RetryPolicy { jitter_seed: Some(seed), ..RetryPolicy::default() },
            limit: LimitPolicy { concurrency_max: Some(5), transport_is_paced: false },
            pace: Pace::new(limits),
            ..StackOptions::default()
        };
        let small = Options { large_bytes: 1 << 20, listed_objects: 200, ..self::options() };
        let report = run(stack(Arc::new(terrible), options), small).await;
        assert!(report.passed(), "seed {seed}\n{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_stores_fail() {
    use Operation::{Delete, Get, Head, List, Put};
    let broken: &[(Operation, Fault, &str)] = &[
        (Put, Fault::FlipBit, "one_byte_round_trips"),
        (Put, Fault::FlipBit, "wrong_digest_is_refused"),
        (Put, Fault::Lose, "large_object_round_trips"),
        (Put, Fault::WrongDigest, "receipt_states_what_was_stored"),
        (Put, Fault::FailAfter(ErrorKind::Transient), "replace_creates"),
        (Put, Fault::FailBefore(ErrorKind::Other), "create_new_refuses_existing"),
        (Get, Fault::FlipBit, "ranges_are_exact"),
        (Get, Fault::Truncate, "large_object_round_trips"),
        (Get, Fault::FailBefore(ErrorKind::Other), "missing_object_is_not_found"),
        (Head, Fault::WrongDigest, "head_describes_the_object"),
        (Head, Fault::FailBefore(ErrorKind::NotFound), "replace_replaces"),
        (List, Fault::ListShort(99), "long_listing_is_complete"),
        (List, Fault::ListShort(1), "listing_keeps_to_its_folder"),
        (List, Fault::ListBreak(2, ErrorKind::Transient), "listing_goes_into_subfolders"),
        (List, Fault::WrongDigest, "listing_describes_the_objects"),
        (Delete, Fault::FailBefore(ErrorKind::NotFound), "delete_is_idempotent"),
    ];
    for (operation, fault, case) in broken {
        let memory = Arc::new(MemoryProvider::new());
        let faulty = FaultProvider::new(memory).with_rule(Rule::new(*operation, When::Always, fault.clone()));
        let report = run(Arc::new(faulty), small_options()).await;
        assert!(
            failed_cases(&report).contains(case),
            "{operation}: {case} passed on a broken store\n{report}"
        );
    }
}

/// On one thread, so that every writer's check comes before the first one's write.
#[tokio::test]
async fn sloppy_stores_fail() {
    let sloppy = [
        (Sloppiness::ChecksThenWrites, "one_of_many_creators_wins"),
        (Sloppiness::IgnoresCreateNew, "create_new_refuses_existing"),
        (Sloppiness::ClampsRanges, "range_beyond_end_is_corrupt"),
        (Sloppiness::MatchesPrefixesAsText, "listing_keeps_to_its_folder"),
        (Sloppiness::DeletesNothing, "deleted_object_is_gone"),
        (Sloppiness::TrustsDigests, "wrong_digest_leaves_old_object"),
    ];
    for (sloppiness, case) in sloppy {
        let report = run(Arc::new(Sloppy(MemoryProvider::new(), sloppiness)), small_options()).await;
        assert!(failed_cases(&report).contains(&case), "{case} passed on a {sloppiness:?} store\n{report}");
    }
}

/// What an implementer gets wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sloppiness {
    ChecksThenWrites,
    IgnoresCreateNew,
    ClampsRanges,
    MatchesPrefixesAsText,
    DeletesNothing,
    TrustsDigests,
}

#[derive(Debug)]
struct Sloppy(MemoryProvider, Sloppiness);

#[async_trait]
impl Provider for Sloppy {
    fn location(&self) -> String {
        "sloppy:".to_owned()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        match self.1 {
            Sloppiness::ChecksThenWrites if mode == PutMode::CreateNew => {
                if self.0.exists(key).await? {
                    return Err(crate::Error::new(ErrorKind::Exists, "put", key, "there already"));
                }
                tokio::task::yield_now().await;
                self.0.put(key, body, sha256, PutMode::Replace).await
            }
            Sloppiness::IgnoresCreateNew => self.0.put(key, body, sha256, PutMode::Replace).await,
            Sloppiness::TrustsDigests => {
                let digest = body.sha256();
                self.0.put(key, body, digest, mode).await
            }
            _ => self.0.put(key, body, sha256, mode).await,
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        let range = match (self.1, range) {
            (Sloppiness::ClampsRanges, Some(range)) => {
                let size = self.0.head(key).await?.size;
                Some(range.start.min(size)..range.end.min(size))
            }
            (_, range) => range,
        };
        self.0.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.0.head(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        use futures_util::StreamExt as _;
        if self.1 != Sloppiness::MatchesPrefixesAsText {
            return self.0.list(prefix);
        }
        let text = prefix.as_str().to_owned();
        let all = self.0.list(&Prefix::all());
        all.filter(move |info| {
            let matches = info.as_ref().is_ok_and(|info| info.key.as_str().starts_with(&text));
            async move { matches }
        })
        .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        if self.1 == Sloppiness::DeletesNothing { Ok(()) } else { self.0.delete(key).await }
    }

    async fn usage(&self) -> Result<Usage> {
        self.0.usage().await
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}
