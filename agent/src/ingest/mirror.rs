//! Hands the packs of a run to other destinations as well, from the same bytes in memory. Nobody waits for the slowest: a pack that finds its
//! destination's share of memory taken is left to the catching up at the end of the run, which reads it from the first destination.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::claims::Claims;
use super::indexer::Indexer;
use crate::events::Context;
use crate::index::Index;
use crate::index::shard::PackEntry;
use crate::repository::Repository;
use crate::repository::lost::{Look, Sound};
use crate::seal::SealedObject;
use crate::session::{self, OpenSession};
use crate::{Error, Result};

/// Packs of one destination that may wait in memory or be under way at once.
const PACKS_IN_MEMORY: usize = 4;

/// Another destination of a run.
pub struct Mirror {
    /// What the destination is called.
    pub name: String,
    index: Arc<Index>,
    has_lost: bool,
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

/// What ends with the destination's part of the run.
struct Running {
    queue: Option<Sender<(SealedObject, PackEntry)>>,
    threads: Vec<JoinHandle<()>>,
    session: Option<OpenSession>,
}

/// A destination after its part of the run.
pub struct Finished {
    /// What it is called.
    pub name: String,
    /// The repository there.
    pub repository: Repository,
    /// Its index, with all that was stored.
    pub index: Arc<Index>,
    /// Packs that its index names are not there.
    pub has_lost: bool,
    /// Bytes that were stored there.
    pub bytes_stored: u64,
    /// Tells others that this writer is at work there, until the snapshot is written.
    pub session: Option<OpenSession>,
    /// What went wrong. All that was stored before that is indexed, as far as the destination lets it.
    pub outcome: Result<()>,
}

struct Shared {
    repository: Repository,
    indexer: Indexer,
    context: Context,
    bytes_waiting: AtomicU64,
    bytes_stored: AtomicU64,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Mirror {
    /// Prepares a destination: opens a session of its own there, then loads its index.
    ///
    /// # Errors
    /// Errors of its store; if the system gives no threads.
    pub fn start(
        name: String,
        repository: Repository,
        host: &str,
        look: Look,
        context: &Context,
    ) -> Result<Self> {
        repository.look_at_space(context)?;
        let (session, left, Sound { index, lost }) =
            session::open_with_index(&repository, host, look, context)?;
        let index = Arc::new(index);
        let claims = Arc::new(Claims::new());
        let indexer = Indexer::new(repository.clone(), index.clone(), claims, context.clone());
        indexer.tell(session.beats().clone());
        left.adopt(&session, &index, &indexer, context)?;
        let shared = Arc::new(Shared {
            repository,
            indexer,
            context: context.clone(),
            bytes_waiting: AtomicU64::new(0),
            bytes_stored: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        });
        let (queue, packs) = crossbeam_channel::unbounded();
        let threads = (0..PACKS_IN_MEMORY)
            .map(|_| {
                let (shared, packs) = (shared.clone(), packs.clone());
                std::thread::Builder::new().name("mirror".to_owned()).spawn(move || shared.run(&packs))
            })
            .collect::<Result<_, _>>()
            .map_err(|e| Error::io("cannot start a thread", e))?;
        let running = Mutex::new(Running { queue: Some(queue), threads, session: Some(session) });
        Ok(Self { name, index, has_lost: lost > 0, shared, running })
    }

    /// Takes a pack if there is room for it. Never waits.
    pub fn offer(&self, object: &SealedObject, entry: &PackEntry) {
        let shared = &self.shared;
        let room = (PACKS_IN_MEMORY * shared.repository.config().pack_bytes) as u64;
        let waiting = shared.bytes_waiting.fetch_add(entry.stored_bytes, Ordering::AcqRel);
        let fits = waiting == 0 || waiting + entry.stored_bytes <= room;
        let is_taken = fits
            && !shared.failed.load(Ordering::Acquire)
            && self
                .running
                .lock()
                .queue
                .as_ref()
                .is_some_and(|queue| queue.send((object.clone(), entry.clone())).is_ok());
        if !is_taken {
            shared.bytes_waiting.fetch_sub(entry.stored_bytes, Ordering::AcqRel);
        }
    }

    /// Waits for what was taken, and indexes it. What is offered later is not taken.
    pub fn finish(&self) -> Finished {
        let mut running = self.running.lock();
        running.queue = None;
        for thread in running.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(Error::failed("an upload thread broke down: this is a bug in lifeboat"));
            }
        }
        let flushed = self.shared.indexer.flush();
        let outcome = match self.shared.error.lock().take() {
            Some(error) => Err(error),
            None => flushed,
        };
        Finished {
            name: self.name.clone(),
            repository: self.shared.repository.clone(),
            index: self.index.clone(),
            has_lost: self.has_lost,
            bytes_stored: self.shared.bytes_stored.load(Ordering::Acquire),
            session: running.session.take(),
            outcome,
        }
    }
}

impl Shared {
    fn run(&self, packs: &Receiver<(SealedObject, PackEntry)>) {
        for (object, entry) in packs {
            let bytes = entry.stored_bytes;
            if !self.failed.load(Ordering::Acquire)
                && let Err(error) = self.store(&object, entry)
            {
                self.fail(error);
            }
            self.bytes_waiting.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    fn store(&self, object: &SealedObject, entry: PackEntry) -> Result<()> {
        self.repository.put_pack(entry.kind, &entry.id, object, &self.context)?;
        self.bytes_stored.fetch_add(entry.stored_bytes, Ordering::AcqRel);
        self.indexer.acknowledge(entry)
    }

    fn fail(&self, error: Error) {
        self.error.lock().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }
}
