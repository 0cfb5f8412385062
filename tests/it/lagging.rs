//! A store whose listings lag: what they do not show is neither called missing nor dropped.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use lifeboat_agent::Kind;
use lifeboat_agent::check::{self, CheckOptions};
use lifeboat_agent::events::Context;
use lifeboat_agent::repair::{self, IndexRepairOptions, SnapshotRepairOptions};
use lifeboat_agent::repository::Repository;
use lifeboat_agent::seal::Cipher;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_providers::{
    Body, Capabilities, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result, Sha256, Usage,
};
use lifeboat_tests::grow;
use lifeboat_tests::random::Random;
use lifeboat_tests::world::{World, backup_all, create, open};
use parking_lot::Mutex;

/// A store that does not list what lies in some areas.
#[derive(Debug, Default)]
struct Lagging {
    store: MemoryProvider,
    hidden: Mutex<Vec<&'static str>>,
}

#[async_trait]
impl Provider for Lagging {
    fn location(&self) -> String {
        self.store.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        self.store.put(key, body, sha256, mode).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        self.store.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.store.head(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let hidden = self.hidden.lock().clone();
        let is_shown = move |info: &Result<ObjectInfo>| {
            let key = info.as_ref().unwrap().key.as_str().to_owned();
            !hidden.iter().any(|area| key.starts_with(area))
        };
        self.store.list(prefix).filter(move |info| std::future::ready(is_shown(info))).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.store.delete(key).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.store.usage().await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { listing_is_consistent: false, ..self.store.capabilities() }
    }
}

/// A repository with a snapshot.
fn backed_up() -> (World, Arc<Lagging>) {
    let (world, store) = (World::new(), Arc::new(Lagging::default()));
    grow::file(&world.source().join("large"), 300_000, &mut Random::new(1));
    grow::leave_the_future(&world.source());
    let repository = create(store.clone(), &world.machine("maker"), Cipher::default());
    backup_all(&repository, &world.source());
    (world, store)
}

/// As a machine sees it that did not make it.
fn another_machine(world: &World, store: &Arc<Lagging>) -> Repository {
    open(store.clone(), &world.machine("other")).unwrap()
}

#[test]
fn packs_that_no_listing_shows_are_not_missing() {
    let (world, store) = backed_up();
    let repository = another_machine(&world, &store);
    let check = || check::run(&repository, &CheckOptions::default(), &Context::silent()).unwrap();
    let repair = || repair::index(&repository, IndexRepairOptions::default(), &Context::silent()).unwrap();
    *store.hidden.lock() = vec!["packs/", "meta/"];
    let report = check();
    assert!(report.verdict().is_ok(), "{:?}", report.damages);
    let repaired = repair();
    assert!(repaired.was_sound && repaired.packs >= 2, "{repaired:?}");
    store.hidden.lock().clear();
    assert!(check().verdict().is_ok() && repair().was_sound);
    // What cannot be had by its name either is missing.
    let packs = Prefix::folder("packs").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lost = runtime.block_on(store.list(&packs).next()).unwrap().unwrap().key;
    runtime.block_on(store.delete(&lost)).unwrap();
    *store.hidden.lock() = vec!["packs/", "meta/"];
    assert_eq!(check().damages.len(), 1);
    assert_eq!(repair().lost, [lost.as_str()]);
}

#[test]
fn snapshots_are_not_forgotten_for_an_index_that_no_listing_shows() {
    let (world, store) = backed_up();
    *store.hidden.lock() = vec!["packs/", "meta/", "index/"];
    let repository = another_machine(&world, &store);
    let repair = || {
        let options = SnapshotRepairOptions { forget: true, ..SnapshotRepairOptions::default() };
        repair::snapshots(&repository, &options, &Context::silent())
    };
    let refused = repair().unwrap_err();
    assert!(refused.kind() == Kind::Failed && refused.to_string().contains("may lag"), "{refused}");
    store.hidden.lock().clear();
    let repaired = repair().unwrap();
    assert!(repaired.repaired.is_empty() && repaired.gone.is_empty());
    let history = repository.load_history().unwrap();
    assert_eq!((history.snapshots.len(), history.forgotten.len()), (1, 0));
}
