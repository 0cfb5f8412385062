//! Putting a session again every few minutes, with what it wrote meanwhile, from a thread of its own that is woken and stopped by events.

use std::sync::Arc;
use std::thread::JoinHandle;

use lifeboat_providers::{Key, Sha256};
use parking_lot::{Condvar, Mutex};

use super::clock::Moment;
use super::object::SessionObject;
use super::outcome::{self, can_fence};
use crate::repository::{Repository, layout};
use crate::seal::header::ObjectKind;
use crate::{Error, Result};

/// What a session's threads share.
pub struct Beats {
    repository: Repository,
    key: Key,
    /// What is put next.
    object: Mutex<SessionObject>,
    heard: Mutex<Heard>,
    /// Held while the session is put, so that a later beat never comes before an earlier one.
    putting: Mutex<()>,
    signal: Mutex<Signal>,
    signalled: Condvar,
}

struct Heard {
    /// Just before the last put that was acknowledged.
    last: Moment,
    /// Two of them were so far apart that somebody may have taken this session for dead.
    lapsed: bool,
}

#[derive(Default)]
struct Signal {
    stop: bool,
    wake: bool,
}

impl Beats {
    /// Puts a new session for the first time.
    ///
    /// # Errors
    /// Errors of the store.
    pub(super) fn begin(repository: &Repository, key: Key, object: SessionObject) -> Result<Arc<Self>> {
        let last = Moment::now(&*repository.timing().clock);
        // Nobody else has this random name: no look before the write is needed.
        let sealed = repository.seal(ObjectKind::Session, &object.encode()?)?;
        repository.store().create_or_same(&key, &sealed)?;
        Ok(Arc::new(Self {
            repository: repository.clone(),
            key,
            object: Mutex::new(object),
            heard: Mutex::new(Heard { last, lapsed: false }),
            putting: Mutex::new(()),
            signal: Mutex::default(),
            signalled: Condvar::new(),
        }))
    }

    /// Starts the thread that puts it again and again.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(self: &Arc<Self>) -> Result<JoinHandle<()>> {
        let beats = self.clone();
        let run = move || beats.run();
        std::thread::Builder::new()
            .name("beat".to_owned())
            .spawn(run)
            .map_err(|e| Error::io("cannot start a thread", e))
    }

    fn run(&self) {
        loop {
            {
                let mut signal = self.signal.lock();
                if !signal.stop && !signal.wake {
                    self.signalled.wait_for(&mut signal, self.repository.timing().beat_every);
                }
                if signal.stop {
                    return;
                }
                signal.wake = false;
            }
            // A store that is away now may be there at the next beat. That it was away for too long is seen at the end.
            let _ = self.put();
        }
    }

    /// Ends the thread after what it is doing.
    pub(super) fn stop(&self) {
        self.signal.lock().stop = true;
        self.signalled.notify_all();
    }

    /// Puts the session soon.
    fn wake(&self) {
        self.signal.lock().wake = true;
        self.signalled.notify_all();
    }

    /// Puts the session now, with a higher beat.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn put(&self) -> Result<()> {
        let _putting = self.putting.lock();
        let clock = &*self.repository.timing().clock;
        let before = Moment::now(clock);
        let json = {
            let mut object = self.object.lock();
            object.beat += 1;
            object.encode()?
        };
        self.repository.store().replace(&self.key, &self.repository.seal(ObjectKind::Session, &json)?)?;
        let grace = self.grace();
        let mut heard = self.heard.lock();
        heard.lapsed |= heard.last.elapsed_at_most(clock) > grace;
        heard.last = before;
        Ok(())
    }

    /// That nobody has taken this writer for dead, before it writes an index shard: what that names may be gone, else.
    ///
    /// # Errors
    /// `Fenced`; errors of the store.
    pub fn assure(&self) -> Result<()> {
        if self.is_fresh() {
            return Ok(());
        }
        let timing = self.repository.timing();
        let asleep = self.heard.lock().last.elapsed_at_most(&*timing.clock);
        if !can_fence(&self.repository) || asleep > timing.asleep_max {
            return Err(outcome::fenced());
        }
        // Whoever acts on it being over has fenced it before.
        self.put()?;
        let id = layout::session_id(&self.key).unwrap_or_default();
        match outcome::read(&self.repository, id) {
            Ok(None) => {
                self.heard.lock().lapsed = false;
                Ok(())
            }
            Ok(Some(_)) => Err(outcome::fenced()),
            Err(e) if outcome::is_unreadable(&e) => Err(outcome::fenced().with_source(e)),
            Err(e) => Err(e),
        }
    }

    /// Notes index shards that are stored. They are said soon if more is to come, else with the next beat.
    pub fn wrote(&self, shards: impl IntoIterator<Item = String>, soon: bool) {
        self.object.lock().shards.extend(shards);
        if soon {
            self.wake();
        }
    }

    /// Notes tombstones that were seen, and says so soon unless it has.
    pub(super) fn saw<'t>(&self, tombstones: impl Iterator<Item = &'t Sha256>) {
        let seen: Vec<String> = tombstones.map(ToString::to_string).collect();
        let is_said = {
            let mut object = self.object.lock();
            let is_said = seen.iter().all(|name| object.seen.contains(name));
            object.seen = seen;
            is_said
        };
        if !is_said {
            self.wake();
        }
    }

    /// Whether nobody can have taken this session for dead because it was not heard of.
    pub(super) fn is_fresh(&self) -> bool {
        let grace = self.grace();
        let heard = self.heard.lock();
        !heard.lapsed && heard.last.elapsed_at_most(&*self.repository.timing().clock) <= grace
    }

    fn grace(&self) -> std::time::Duration {
        self.repository.timing().grace(can_fence(&self.repository))
    }
}
