//! What a store itself says of its objects' hashes: compared with their names, without reading a byte of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_providers::{Key, ObjectInfo};
use parking_lot::Mutex;

use crate::Result;
use crate::events::{Context, Counters};
use crate::repository::{Area, Repository, layout};

/// What the store stated.
#[derive(Debug, Default)]
pub struct Stated {
    /// Objects whose stated hash is the one they are named by.
    pub proved: u64,
    /// Objects of which the store states no hash.
    pub silent: u64,
    /// Objects whose stated hash is another, or that are gone.
    pub wrong: Vec<Key>,
}

/// Asks the store for the hash of everything that is named by it. One request for each object where listings have no hashes.
///
/// # Errors
/// `Interrupted`; errors of the store.
pub fn stated(repository: &Repository, context: &Context) -> Result<Stated> {
    let mut objects: Vec<ObjectInfo> = Vec::new();
    for area in [Area::Snapshots, Area::Labels, Area::Index, Area::Meta, Area::Packs] {
        objects.extend(repository.store().list(&area.prefix())?);
    }
    context.counters.files_total.store(objects.len() as u64, Ordering::Relaxed);
    let capabilities = repository.store().capabilities();
    if capabilities.local_root.is_some() {
        // A disk computes no hashes: that is what `--read-data` is for.
        return Ok(Stated { silent: objects.len() as u64, ..Stated::default() });
    }
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Stated::default()));
    let work = || -> Result<()> {
        while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            context.check_stop()?;
            Counters::add(&context.counters.files, 1);
            let Ok(name) = layout::sha256_of(&object.key) else { continue };
            let hash = match object.sha256 {
                Some(hash) => Some(Some(hash)),
                None => repository.store().head(&object.key)?.map(|info| info.sha256),
            };
            let mut found = found.lock();
            match hash {
                Some(Some(hash)) if hash == name => found.proved += 1,
                Some(None) => found.silent += 1,
                _ => found.wrong.push(object.key.clone()),
            }
        }
        Ok(())
    };
    let at_once = capabilities.concurrency_preferred.max(1);
    crate::threads::run(at_once, work)?;
    let mut found = found.into_inner();
    found.wrong.sort_unstable();
    Ok(found)
}
