//! What a store that is some milliseconds away is asked for before it is needed: listings, and small objects. So round trips go on while a key is
//! derived or something is decoded.
//!
//! What cannot be had ahead is asked for again by whoever needs it, and fails there with its own words.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::Shared;
use lifeboat_providers::{Key, ObjectInfo, Prefix, ProviderExt as _, SharedProvider};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::Area;

/// Most objects that are read ahead.
const OBJECTS_MAX: usize = 64;

/// Something that is on its way; `None` if it cannot be had.
type Coming<T> = Shared<oneshot::Receiver<Option<T>>>;

/// The area that must have been listed before another is: then every record of a snapshot that was forgotten meanwhile, every chunk of the snapshots,
/// and every pack of the index is in the later listing, whatever others do.
const fn after(area: Area) -> Option<Area> {
    match area {
        Area::Forgotten | Area::Labels | Area::Index => Some(Area::Snapshots),
        Area::Packs | Area::Meta => Some(Area::Index),
        _ => None,
    }
}

/// What was asked for and is not used yet.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    listings: Mutex<HashMap<String, Coming<Arc<Vec<ObjectInfo>>>>>,
    objects: Mutex<HashMap<Key, Coming<Bytes>>>,
}

impl Ahead {
    /// Asks for the listings of `areas`, all at once as far as [`after`] allows.
    pub(super) fn list(&self, areas: &[Area], provider: &SharedProvider, runtime: &Runtime) {
        let mut listings = self.listings.lock();
        // What others wait for is begun before them.
        for area in Area::ALL.into_iter().filter(|area| areas.contains(area)) {
            if listings.contains_key(area.name()) {
                continue;
            }
            let before = after(area).and_then(|before| listings.get(before.name()).cloned());
            let (sender, coming) = oneshot::channel();
            listings.insert(area.name().to_owned(), coming.shared());
            let provider = provider.clone();
            runtime.spawn(async move {
                if let Some(before) = before {
                    let _ = before.await;
                }
                // Nobody may be waiting any more.
                let _ = sender.send(provider.list_all(&area.prefix()).await.ok().map(Arc::new));
            });
        }
    }

    /// Reads what the listings of `areas` that are under way will name, as far as it is `wanted`; nothing of an area that has more than 64
    /// objects, or `bytes_max` bytes, of it. It stays in memory until it is used whole, or this is dropped.
    pub(super) fn read(
        self: &Arc<Self>,
        areas: &[Area],
        bytes_max: u64,
        wanted: impl Fn(&Key) -> bool + Send + 'static,
        provider: &SharedProvider,
        runtime: &Runtime,
    ) {
        let listings = self.listings.lock();
        let listings: Vec<_> = areas.iter().filter_map(|area| listings.get(area.name()).cloned()).collect();
        let (this, provider) = (self.clone(), provider.clone());
        runtime.spawn(async move {
            for listing in listings {
                let Ok(Some(objects)) = listing.await else { continue };
                let chosen: Vec<_> = objects.iter().filter(|object| wanted(&object.key)).collect();
                let bytes: u64 = chosen.iter().map(|object| object.size).sum();
                // Of many the few would save little.
                if chosen.len() <= OBJECTS_MAX && bytes <= bytes_max {
                    chosen.into_iter().for_each(|object| this.fetch(object.key.clone(), &provider));
                }
            }
        });
    }

    /// To be called on the runtime.
    fn fetch(&self, key: Key, provider: &SharedProvider) {
        let (sender, coming) = oneshot::channel();
        self.objects.lock().insert(key.clone(), coming.shared());
        let provider = provider.clone();
        tokio::spawn(async move {
            let _ = sender.send(provider.get(&key, None).await.ok());
        });
    }

    /// What is written or removed is not what was asked for before.
    pub(super) fn forget(&self, key: &Key) {
        self.objects.lock().remove(key);
        self.listings.lock().retain(|area, _| !key.as_str().starts_with(area.as_str()));
    }

    /// No listing that was asked for is used any more.
    pub(super) fn forget_listings(&self) {
        self.listings.lock().clear();
    }

    /// A listing that is here already.
    pub(super) fn insert(&self, area: Area, listing: Vec<ObjectInfo>) {
        let (sender, coming) = oneshot::channel();
        // The receiver is here: it cannot fail.
        let _ = sender.send(Some(Arc::new(listing)));
        self.listings.lock().insert(area.name().to_owned(), coming.shared());
    }

    /// The listing of a folder, if it was asked for; once.
    pub(super) async fn listing(&self, prefix: &Prefix) -> Option<Vec<ObjectInfo>> {
        let coming = self.listings.lock().remove(prefix.as_str())?;
        let listing = coming.await.ok()??;
        Some(Arc::try_unwrap(listing).unwrap_or_else(|shared| shared.to_vec()))
    }

    /// As [`Ahead::listing`], and leaves it for whoever asks next.
    pub(super) async fn peek(&self, prefix: &Prefix) -> Option<Arc<Vec<ObjectInfo>>> {
        let coming = self.listings.lock().get(prefix.as_str()).cloned()?;
        coming.await.ok()?
    }

    /// An object, if it was asked for; once.
    pub(super) async fn object(&self, key: &Key) -> Option<Bytes> {
        let coming = self.objects.lock().remove(key)?;
        coming.await.ok()?
    }

    /// A range of an object, if it was asked for and has it.
    pub(super) async fn part(&self, key: &Key, range: &Range<u64>) -> Option<Bytes> {
        let coming = self.objects.lock().get(key).cloned()?;
        let whole = coming.await.ok()??;
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        (range.start <= range.end && range.end <= whole.len()).then(|| whole.slice(range))
    }
}
