//! What operations report while they run. The command line, and later the API, notifications and metrics, are listeners.
//!
//! Counters change thousands of times a second and are shared memory that a listener reads when it likes; everything else
//! is an [`Event`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::snapshot::manifest::FileErrorKind;

/// One thing that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A phase of the operation began, such as "loading the index".
    Phase(&'static str),
    /// Something a person should know; the operation goes on.
    Notice(String),
    /// Something is not as it should be; the operation goes on.
    Warning(String),
    /// A path could not be read or restored as it is.
    FileError {
        /// The path.
        path: Vec<u8>,
        /// What happened.
        kind: FileErrorKind,
        /// The system's words.
        message: String,
    },
    /// Stored data is damaged or missing.
    Damage(String),
    /// A path was dealt with (only with `-v`).
    Path {
        /// What was done: `new`, `changed`, `restored` …
        action: &'static str,
        /// The path.
        path: Vec<u8>,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A destination is nearly full; the operation goes on.
    LowSpace {
        /// Which.
        place: String,
        /// What is nearly used up.
        words: String,
    },
    /// A part of the index was stored: what came before it survives any interruption.
    Checkpoint,
}

/// Counters of a running operation. Which ones are used depends on the operation.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files dealt with.
    pub files: AtomicU64,
    /// Files expected in all; 0 while unknown.
    pub files_total: AtomicU64,
    /// Bytes dealt with: read, restored, or checked.
    pub bytes: AtomicU64,
    /// Those of them that had neither to be read nor to be written: they bring the end nearer and say nothing of the speed.
    pub bytes_passed: AtomicU64,
    /// Bytes expected in all; 0 while unknown.
    pub bytes_total: AtomicU64,
    /// Bytes of new chunks, before compression.
    pub bytes_added: AtomicU64,
    /// Bytes written to the store.
    pub bytes_stored: AtomicU64,
    /// Problems so far.
    pub errors: AtomicU64,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Counts bytes as dealt with that had neither to be read nor to be written.
    pub fn pass(&self, bytes: u64) {
        Self::add(&self.bytes, bytes);
        Self::add(&self.bytes_passed, bytes);
    }

    /// Begins to count bytes anew, with so many expected; 0 if that is not known.
    pub fn expect(&self, bytes: u64) {
        self.bytes.store(0, Ordering::Relaxed);
        self.bytes_passed.store(0, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Receives events, from any thread.
pub trait Listener: Send + Sync {
    /// Called for each event, in the thread where it happened: be quick.
    fn event(&self, event: &Event);
}

/// A listener that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Listener for Silent {
    fn event(&self, _event: &Event) {}
}

/// What an operation is given to report to and to be stopped by.
#[derive(Clone)]
pub struct Context {
    listener: Arc<dyn Listener>,
    /// Counters of the operation.
    pub counters: Arc<Counters>,
    current: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
}

impl Context {
    /// A context that reports to `listener` and ends when `stop` is set.
    pub fn new(listener: Arc<dyn Listener>, stop: Arc<AtomicBool>) -> Self {
        Self { listener, counters: Arc::default(), current: Arc::default(), stop }
    }

    /// A context that nobody listens to and nobody stops.
    pub fn silent() -> Self {
        Self::new(Arc::new(Silent), Arc::default())
    }

    /// Who listens.
    pub fn listener(&self) -> Arc<dyn Listener> {
        self.listener.clone()
    }

    /// Reports an event.
    pub fn report(&self, event: Event) {
        if matches!(event, Event::FileError { .. } | Event::Damage(_)) {
            Counters::add(&self.counters.errors, 1);
        }
        self.listener.event(&event);
    }

    /// Says which path is being dealt with, for a progress line. Skipped when somebody is reading it.
    pub fn set_current(&self, path: impl FnOnce(&mut Vec<u8>)) {
        if let Some(mut current) = self.current.try_lock() {
            current.clear();
            path(&mut current);
        }
    }

    /// The path that is being dealt with.
    pub fn current(&self) -> Vec<u8> {
        self.current.lock().clone()
    }

    /// Whether the operation was asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error if the operation was asked to stop.
    ///
    /// # Errors
    /// `Interrupted`.
    pub fn check_stop(&self) -> crate::Result<()> {
        if self.stopped() { Err(crate::Error::interrupted()) } else { Ok(()) }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("counters", &self.counters).finish_non_exhaustive()
    }
}
