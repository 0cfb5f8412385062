//! Counts and errors of a run, from all threads.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::events::{Context, Counters, Event};
use crate::fs::FileType;
use crate::snapshot::manifest::{ERRORS_LISTED_MAX, FileError, FileErrorKind, Summary};
use crate::tree::path_text;

/// How an entry compares with the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    New,
    Changed,
    Unmodified,
}

/// What a run has come to so far.
pub(super) struct Record {
    context: Context,
    files_new: AtomicU64,
    files_changed: AtomicU64,
    files_unmodified: AtomicU64,
    directories: AtomicU64,
    others: AtomicU64,
    sockets: AtomicU64,
    bytes_total: AtomicU64,
    bytes_read: AtomicU64,
    chunks_added: AtomicU64,
    bytes_added: AtomicU64,
    errors: Mutex<Vec<FileError>>,
    errors_total: AtomicU64,
}

impl Record {
    pub(super) fn new(context: Context) -> Self {
        let zero = AtomicU64::default;
        Self {
            context,
            files_new: zero(),
            files_changed: zero(),
            files_unmodified: zero(),
            directories: zero(),
            others: zero(),
            sockets: zero(),
            bytes_total: zero(),
            bytes_read: zero(),
            chunks_added: zero(),
            bytes_added: zero(),
            errors: Mutex::default(),
            errors_total: zero(),
        }
    }

    /// A file of the snapshot.
    pub(super) fn file(&self, change: Change, bytes: u64) {
        let counter = match change {
            Change::New => &self.files_new,
            Change::Changed => &self.files_changed,
            Change::Unmodified => &self.files_unmodified,
        };
        Counters::add(counter, 1);
        Counters::add(&self.bytes_total, bytes);
        Counters::add(&self.context.counters.files, 1);
    }

    /// A directory of the snapshot.
    pub(super) fn directory(&self) {
        Counters::add(&self.directories, 1);
    }

    /// A link, device, fifo or socket of the snapshot.
    pub(super) fn other(&self, kind: FileType) {
        Counters::add(&self.others, 1);
        if kind == FileType::Socket {
            Counters::add(&self.sockets, 1);
        }
    }

    /// How many sockets there were.
    pub(super) fn sockets(&self) -> u64 {
        Counters::get(&self.sockets)
    }

    /// Bytes were read from the source.
    pub(super) fn read(&self, bytes: u64) {
        Counters::add(&self.bytes_read, bytes);
        Counters::add(&self.context.counters.bytes, bytes);
    }

    /// A worker's new chunks.
    pub(super) fn add_chunks(&self, chunks: u64, bytes: u64) {
        Counters::add(&self.chunks_added, chunks);
        Counters::add(&self.bytes_added, bytes);
    }

    /// A path that could not be read as it is: goes into the snapshot, the events and the exit code.
    pub(super) fn error(&self, path: Vec<u8>, kind: FileErrorKind, message: String) {
        self.errors_total.fetch_add(1, Ordering::Relaxed);
        {
            let mut errors = self.errors.lock();
            if errors.len() < ERRORS_LISTED_MAX {
                errors.push(FileError { path: path_text::to_text(&path), kind, message: message.clone() });
            }
        }
        self.context.report(Event::FileError { path, kind, message });
    }

    pub(super) fn errors(&self) -> Vec<FileError> {
        let mut errors = self.errors.lock().clone();
        errors.sort_by(|a, b| a.path.cmp(&b.path));
        errors
    }

    pub(super) fn errors_total(&self) -> u64 {
        self.errors_total.load(Ordering::Relaxed)
    }

    pub(super) fn summary(&self) -> Summary {
        let get = Counters::get;
        Summary {
            files_new: get(&self.files_new),
            files_changed: get(&self.files_changed),
            files_unmodified: get(&self.files_unmodified),
            directories: get(&self.directories),
            others: get(&self.others),
            bytes_total: get(&self.bytes_total),
            bytes_read: get(&self.bytes_read),
            bytes_added: get(&self.bytes_added),
            chunks_added: get(&self.chunks_added),
            ..Summary::default()
        }
    }
}
