//! A store's objects as bytes: to copy a store, to damage it, to look what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_providers::{Body, Key, Prefix, Provider, PutMode};

/// All objects of a store by key.
pub type Objects = BTreeMap<String, Bytes>;

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// Reads all objects.
pub fn read_all(store: &dyn Provider) -> Objects {
    wait(async {
        let mut objects = Objects::new();
        let mut listing = store.list(&Prefix::all());
        while let Some(info) = listing.next().await {
            let key = info.unwrap().key;
            let bytes = store.get(&key, None).await.unwrap();
            objects.insert(key.to_string(), bytes);
        }
        objects
    })
}

/// A store in memory with these objects.
pub fn store_of(objects: &Objects) -> Arc<MemoryProvider> {
    let store = Arc::new(MemoryProvider::new());
    for (key, bytes) in objects {
        put(&*store, key, bytes);
    }
    store
}

/// Writes an object whatever is there.
pub fn put(store: &dyn Provider, key: &str, bytes: &Bytes) {
    let body = Body::from(bytes.clone());
    let digest = body.sha256();
    wait(store.put(&Key::new(key).unwrap(), body, digest, PutMode::Replace)).unwrap();
}

/// Removes an object.
pub fn remove(store: &dyn Provider, key: &str) {
    wait(store.delete(&Key::new(key).unwrap())).unwrap();
}

/// Keys of one folder.
pub fn keys_in(objects: &Objects, folder: &str) -> Vec<String> {
    let prefix = format!("{folder}/");
    objects.keys().filter(|key| key.starts_with(&prefix)).cloned().collect()
}
