//! Packs from one store to another as they are, several at once. What does not have the hash it is named by is not passed on.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::events::{Context, Counters};
use crate::index::shard::PackEntry;
use crate::ingest::Ingest;
use crate::ingest::indexer::Indexer;
use crate::repository::{Repository, layout};
use crate::seal::SealedObject;
use crate::{Error, Kind, Result};

/// Packs under way at once at most: as many are in memory.
const AT_ONCE_MAX: usize = 4;

/// Copies what it is sent.
pub(super) struct Copier {
    queue: Sender<PackEntry>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What became of it.
pub(super) struct Copied {
    pub(super) packs: u64,
    pub(super) bytes: u64,
    /// What is wrong with packs at the origin.
    pub(super) damage: Vec<String>,
    /// The first error that ended it.
    pub(super) outcome: Result<()>,
}

struct Shared {
    from: Repository,
    to: Repository,
    indexer: Arc<Indexer>,
    context: Context,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packs: u64,
    bytes: u64,
    damage: Vec<String>,
    error: Option<Error>,
}

impl Copier {
    pub(super) fn start(from: &Repository, ingest: &Ingest, context: &Context) -> Result<Self> {
        let to = ingest.repository().clone();
        let at_once = |repository: &Repository| repository.store().capabilities().concurrency_preferred;
        let threads = at_once(from).max(at_once(&to)).clamp(1, AT_ONCE_MAX);
        let shared = Arc::new(Shared {
            from: from.clone(),
            to,
            indexer: ingest.indexer().clone(),
            context: context.clone(),
            state: Mutex::default(),
        });
        let (queue, packs) = crossbeam_channel::bounded(threads);
        let threads = (0..threads)
            .map(|_| {
                let (shared, packs) = (shared.clone(), packs.clone());
                std::thread::Builder::new().name("copy".to_owned()).spawn(move || shared.run(&packs))
            })
            .collect::<Result<_, _>>()
            .map_err(|e| Error::io("cannot start a thread", e))?;
        Ok(Self { queue, threads, shared })
    }

    /// Hands a pack over; waits while enough are under way.
    pub(super) fn send(&self, entry: PackEntry) -> Result<()> {
        self.shared.context.check_stop()?;
        if self.shared.state.lock().error.is_some() {
            return Err(Error::failed("a pack could not be copied"));
        }
        self.queue.send(entry).map_err(|_| Error::failed("the copying has ended"))
    }

    pub(super) fn finish(self) -> Copied {
        drop(self.queue);
        for thread in self.threads {
            if thread.join().is_err() {
                let error = Error::failed("a thread that copies broke down: this is a bug in lifeboat");
                self.shared.state.lock().error.get_or_insert(error);
            }
        }
        let state = std::mem::take(&mut *self.shared.state.lock());
        Copied {
            packs: state.packs,
            bytes: state.bytes,
            damage: state.damage,
            outcome: state.error.map_or(Ok(()), Err),
        }
    }
}

impl Shared {
    fn run(&self, packs: &Receiver<PackEntry>) {
        for entry in packs {
            if self.state.lock().error.is_some() || self.context.stopped() {
                continue;
            }
            if let Err(error) = self.copy(entry) {
                self.state.lock().error.get_or_insert(error);
            }
        }
    }

    fn copy(&self, entry: PackEntry) -> Result<()> {
        let key = layout::pack(entry.kind, &entry.id)?;
        let bytes = match self.from.store().get_named(&key) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == Kind::Damaged => match self.from.heal(&key) {
                Some(bytes) => bytes,
                None => {
                    self.state.lock().damage.push(e.to_string());
                    return Ok(());
                }
            },
            Err(e) => return Err(e),
        };
        let stored_bytes = bytes.len() as u64;
        let object = SealedObject::copied(bytes, entry.id);
        self.to.put_pack(entry.kind, &entry.id, &object, &self.context)?;
        self.indexer.acknowledge(entry)?;
        let counters = &self.context.counters;
        Counters::add(&counters.bytes, stored_bytes);
        Counters::add(&counters.bytes_stored, stored_bytes);
        let mut state = self.state.lock();
        state.packs += 1;
        state.bytes += stored_bytes;
        Ok(())
    }
}
