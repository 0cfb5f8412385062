//! Hands finished packs to the store: bounded in bytes, several at once, first error kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use super::indexer::Indexer;
use super::mirror::Mirror;
use crate::events::{Context, Counters};
use crate::pack::building::FinishedPack;
use crate::pack::directory::PackKind;
use crate::repository::Repository;
use crate::{Error, Result};

/// Threads that upload at most.
const THREADS_MAX: usize = 16;

/// Uploads packs in threads of its own.
pub struct Uploader {
    queue: Option<Sender<FinishedPack>>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    budget: Mutex<usize>,
    budget_freed: Condvar,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
    repository: Repository,
    indexer: Arc<Indexer>,
    mirrors: Arc<[Mirror]>,
    context: Context,
}

impl Uploader {
    /// An uploader that holds at most about `bytes_max` of packs in memory.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(
        repository: Repository,
        indexer: Arc<Indexer>,
        mirrors: Arc<[Mirror]>,
        context: Context,
        bytes_max: usize,
    ) -> Result<Self> {
        let concurrency = repository.store().capabilities().concurrency_preferred.clamp(1, THREADS_MAX);
        let (queue, packs) = crossbeam_channel::unbounded::<FinishedPack>();
        let shared = Arc::new(Shared {
            budget: Mutex::new(bytes_max),
            budget_freed: Condvar::new(),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            repository,
            indexer,
            mirrors,
            context,
        });
        let threads = (0..concurrency)
            .map(|_| {
                let (shared, packs) = (shared.clone(), packs.clone());
                std::thread::Builder::new().name("upload".to_owned()).spawn(move || shared.run(&packs))
            })
            .collect::<Result<_, _>>()
            .map_err(|e| Error::io("cannot start a thread", e))?;
        Ok(Self { queue: Some(queue), threads, shared })
    }

    /// Hands a pack over; waits while too many bytes are under way.
    ///
    /// # Errors
    /// `Failed` once any upload has failed; the first error itself comes from [`Uploader::finish`].
    pub fn submit(&self, pack: FinishedPack) -> Result<()> {
        let bytes = usize::try_from(pack.body.len()).unwrap_or(usize::MAX);
        {
            let mut budget = self.shared.budget.lock();
            // A pack larger than the whole budget must still pass: it waits until all of it is free.
            let needed = bytes.min(self.shared.most());
            while *budget < needed && !self.has_failed() {
                self.shared.budget_freed.wait(&mut budget);
            }
            *budget = budget.saturating_sub(needed);
        }
        if self.has_failed() {
            return Err(Error::failed("an upload failed"));
        }
        match &self.queue {
            Some(queue) => queue.send(pack).map_err(|_| Error::failed("the uploads have ended")),
            None => Err(Error::failed("the uploads have ended")),
        }
    }

    /// Whether any upload has failed: there is no use in going on.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Waits for all uploads.
    ///
    /// # Errors
    /// The first error of any upload.
    pub fn finish(&mut self) -> Result<()> {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(Error::failed("an upload thread broke down"));
            }
        }
        match self.shared.error.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        // Errors were reported by `finish`, or whoever drops it unfinished has an error already.
        let _ = self.finish();
    }
}

impl Shared {
    fn most(&self) -> usize {
        // Half of what is free at the start would deadlock nothing, but packs are far smaller than the budget anyway.
        self.repository.config().pack_bytes
    }

    fn run(&self, packs: &Receiver<FinishedPack>) {
        for pack in packs {
            let held = usize::try_from(pack.body.len()).unwrap_or(usize::MAX).min(self.most());
            if !self.failed.load(Ordering::Acquire)
                && let Err(error) = self.upload(pack)
            {
                self.fail(error);
            }
            *self.budget.lock() += held;
            self.budget_freed.notify_all();
        }
    }

    fn upload(&self, pack: FinishedPack) -> Result<()> {
        let (object, entry) = pack.seal();
        for mirror in &*self.mirrors {
            mirror.offer(&object, &entry);
        }
        let key = self.repository.put_pack(entry.kind, &entry.id, &object, &self.context)?;
        if entry.kind == PackKind::Metadata {
            self.repository.cache_object(&key, object.body().pieces());
        }
        Counters::add(&self.context.counters.bytes_stored, entry.stored_bytes);
        self.indexer.acknowledge(entry)
    }

    fn fail(&self, error: Error) {
        self.error.lock().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.budget_freed.notify_all();
    }
}
