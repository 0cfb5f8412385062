//! Counts calls and bytes, and keeps a log of the calls if asked to: for tests ("the second run puts nothing")
//! and for the bench (requests per run).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;

use super::Operation;
use crate::{
    Body, Capabilities, ErrorKind, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result, Sha256,
    SharedProvider, Usage,
};

/// What all calls of one operation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls that ended, well or not. A listing is one call; a call that was abandoned is none.
    pub calls: u64,
    /// Calls that ended with an error, `NotFound` and `Exists` included.
    pub errors: u64,
    /// Objects concerned: those listed, those in a batch of deletes, otherwise one per call.
    pub objects: u64,
    /// Body bytes handed to the store by calls that succeeded.
    pub bytes_sent: u64,
    /// Body bytes received from it.
    pub bytes_received: u64,
}

/// One finished call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which call.
    pub operation: Operation,
    /// The key, or the folder listed, or the number of keys of a batch.
    pub subject: String,
    /// Body bytes sent or received.
    pub bytes: u64,
    /// How it failed, if it did.
    pub error: Option<ErrorKind>,
}

/// A provider that takes note of every call.
pub struct RecordProvider {
    inner: SharedProvider,
    notes: Mutex<Notes>,
    log_calls_max: usize,
}

#[derive(Default)]
struct Notes {
    counts: BTreeMap<Operation, Counts>,
    log: Vec<Call>,
}

impl RecordProvider {
    /// Over `inner`, counting only.
    pub fn new(inner: SharedProvider) -> Self {
        Self { inner, notes: Mutex::default(), log_calls_max: 0 }
    }

    /// Also keeps the first `calls_max` calls, in the order in which they ended.
    #[must_use]
    pub fn with_log(mut self, calls_max: usize) -> Self {
        self.log_calls_max = calls_max;
        self
    }

    /// The counts of one operation so far.
    pub fn counts(&self, operation: Operation) -> Counts {
        self.notes.lock().counts.get(&operation).copied().unwrap_or_default()
    }

    /// The counts of every operation that was called.
    pub fn all_counts(&self) -> BTreeMap<Operation, Counts> {
        self.notes.lock().counts.clone()
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Call> {
        self.notes.lock().log.clone()
    }

    /// Forgets counts and log.
    pub fn reset(&self) {
        *self.notes.lock() = Notes::default();
    }

    fn note(
        &self,
        operation: Operation,
        subject: impl fmt::Display,
        added: Counts,
        error: Option<ErrorKind>,
    ) {
        let mut notes = self.notes.lock();
        let counts = notes.counts.entry(operation).or_default();
        counts.calls += 1;
        counts.errors += u64::from(error.is_some());
        counts.objects += added.objects;
        counts.bytes_sent += added.bytes_sent;
        counts.bytes_received += added.bytes_received;
        if notes.log.len() < self.log_calls_max {
            let bytes = added.bytes_sent + added.bytes_received;
            notes.log.push(Call { operation, subject: subject.to_string(), bytes, error });
        }
    }

    fn note_result<T>(
        &self,
        operation: Operation,
        subject: impl fmt::Display,
        result: Result<T>,
        add: impl FnOnce(&T, &mut Counts),
    ) -> Result<T> {
        let mut added = Counts { objects: 1, ..Counts::default() };
        if let Ok(value) = &result {
            add(value, &mut added);
        }
        self.note(operation, subject, added, result.as_ref().err().map(crate::Error::kind));
        result
    }
}

impl fmt::Debug for RecordProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordProvider({:?})", self.inner)
    }
}

#[async_trait]
impl Provider for RecordProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        let result = self.inner.put(key, body, sha256, mode).await;
        self.note_result(Operation::Put, key, result, |receipt, added| added.bytes_sent = receipt.size)
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        let result = self.inner.get(key, range).await;
        self.note_result(Operation::Get, key, result, |bytes, added| {
            added.bytes_received = bytes.len() as u64
        })
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let result = self.inner.head(key).await;
        self.note_result(Operation::Head, key, result, |_, _| {})
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let folder = prefix.to_string();
        let state = (self.inner.list(prefix), Counts::default(), None);
        let noted = stream::unfold(Some(state), move |state| {
            let folder = folder.clone();
            async move {
                let (mut listing, mut added, mut error) = state?;
                match listing.next().await {
                    Some(item) => {
                        match &item {
                            Ok(_) => added.objects += 1,
                            Err(failure) => error = Some(failure.kind()),
                        }
                        Some((item, Some((listing, added, error))))
                    }
                    None => {
                        self.note(Operation::List, folder, added, error);
                        None
                    }
                }
            }
        });
        noted.fuse().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let result = self.inner.delete(key).await;
        self.note_result(Operation::Delete, key, result, |(), _| {})
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let results = self.inner.delete_many(keys).await;
        let error = results.iter().find_map(|result| result.as_ref().err()).map(crate::Error::kind);
        let added = Counts { objects: keys.len() as u64, ..Counts::default() };
        self.note(Operation::DeleteMany, format_args!("{} objects", keys.len()), added, error);
        results
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        let result = self.inner.retain(key, period).await;
        self.note_result(Operation::Retain, key, result, |(), _| {})
    }

    async fn usage(&self) -> Result<Usage> {
        let result = self.inner.usage().await;
        self.note_result(Operation::Usage, self.location(), result, |_, _| {})
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
