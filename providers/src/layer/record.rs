//! Counts calls and bytes, by operation and by the area of the store that they concern, and keeps a log of the calls if asked
//! to: for tests ("the second run puts nothing") and for the bench (requests per run, and where each comes from).

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

/// The area of calls that concern the whole store.
const WHOLE_STORE: &str = "*";

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
    counts: BTreeMap<(String, Operation), Counts>,
    log: Vec<Call>,
}

/// All counts, as a table of one line per area and operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// By the first segment of the keys (`packs`, `index` …; `*` for the whole store) and the operation.
    pub counts: BTreeMap<(String, Operation), Counts>,
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
        self.all_counts().get(&operation).copied().unwrap_or_default()
    }

    /// The counts of every operation that was called.
    pub fn all_counts(&self) -> BTreeMap<Operation, Counts> {
        let mut sums = BTreeMap::<Operation, Counts>::new();
        for ((_, operation), counts) in &self.notes.lock().counts {
            sums.entry(*operation).or_default().add(counts);
        }
        sums
    }

    /// All counts by area and operation so far.
    pub fn summary(&self) -> Summary {
        Summary { counts: self.notes.lock().counts.clone() }
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
        area: &str,
        subject: impl fmt::Display,
        added: Counts,
        error: Option<ErrorKind>,
    ) {
        let mut notes = self.notes.lock();
        let counts = notes.counts.entry((area.to_owned(), operation)).or_default();
        counts.add(&Counts { calls: 1, errors: u64::from(error.is_some()), ..added });
        if notes.log.len() < self.log_calls_max {
            let bytes = added.bytes_sent + added.bytes_received;
            notes.log.push(Call { operation, subject: subject.to_string(), bytes, error });
        }
    }

    fn note_result<T>(
        &self,
        operation: Operation,
        area: &str,
        subject: impl fmt::Display,
        result: Result<T>,
        add: impl FnOnce(&T, &mut Counts),
    ) -> Result<T> {
        let mut added = Counts { objects: 1, ..Counts::default() };
        if let Ok(value) = &result {
            add(value, &mut added);
        }
        self.note(operation, area, subject, added, result.as_ref().err().map(crate::Error::kind));
        result
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.objects += other.objects;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }
}

impl Summary {
    /// All calls together.
    pub fn total(&self) -> Counts {
        self.counts.values().fold(Counts::default(), |mut sum, counts| {
            sum.add(counts);
            sum
        })
    }

    /// Calls per GiB of body bytes moved either way; `None` if none were moved.
    pub fn calls_per_gib(&self) -> Option<f64> {
        let total = self.total();
        let bytes = total.bytes_sent.saturating_add(total.bytes_received);
        (bytes > 0).then(|| total.calls as f64 * f64::from(1_u32 << 30) / bytes as f64)
    }
}

impl fmt::Display for Summary {
    /// One line per area and operation, and one with the sums.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.counts.keys().map(|(area, _)| area.len()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:width$} {:11} {:>8} {:>7} {:>9} {:>15} {:>15}",
            "area", "operation", "calls", "errors", "objects", "bytes sent", "bytes received"
        )?;
        let mut line = |area: &str, operation: &str, counts: &Counts| {
            let Counts { calls, errors, objects, bytes_sent, bytes_received } = counts;
            writeln!(
                f,
                "{area:width$} {operation:11} {calls:>8} {errors:>7} {objects:>9} {bytes_sent:>15} \
                 {bytes_received:>15}"
            )
        };
        for ((area, operation), counts) in &self.counts {
            line(area, operation.name(), counts)?;
        }
        line("total", "", &self.total())?;
        match self.calls_per_gib() {
            Some(calls) => writeln!(f, "{calls:.1} calls per GiB"),
            None => Ok(()),
        }
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
        self.note_result(Operation::Put, area(key.as_str()), key, result, |receipt, added| {
            added.bytes_sent = receipt.size
        })
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        let result = self.inner.get(key, range).await;
        self.note_result(Operation::Get, area(key.as_str()), key, result, |bytes, added| {
            added.bytes_received = bytes.len() as u64
        })
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let result = self.inner.head(key).await;
        self.note_result(Operation::Head, area(key.as_str()), key, result, |_, _| {})
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
                        self.note(Operation::List, area(folder.trim_end_matches('/')), &folder, added, error);
                        None
                    }
                }
            }
        });
        noted.fuse().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let result = self.inner.delete(key).await;
        self.note_result(Operation::Delete, area(key.as_str()), key, result, |(), _| {})
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let results = self.inner.delete_many(keys).await;
        let error = results.iter().find_map(|result| result.as_ref().err()).map(crate::Error::kind);
        let added = Counts { objects: keys.len() as u64, ..Counts::default() };
        let area = keys.first().map_or(WHOLE_STORE, |key| area(key.as_str()));
        self.note(Operation::DeleteMany, area, format_args!("{} objects", keys.len()), added, error);
        results
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        let result = self.inner.retain(key, period).await;
        self.note_result(Operation::Retain, area(key.as_str()), key, result, |(), _| {})
    }

    async fn usage(&self) -> Result<Usage> {
        let result = self.inner.usage().await;
        self.note_result(Operation::Usage, WHOLE_STORE, self.location(), result, |_, _| {})
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// The first segment of a key or folder.
fn area(path: &str) -> &str {
    match path.split('/').next() {
        Some(first) if !first.is_empty() => first,
        _ => WHOLE_STORE,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ProviderExt as _;
    use crate::memory::MemoryProvider;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[tokio::test]
    async fn calls_and_bytes_are_counted_by_area_and_operation() {
        let record = RecordProvider::new(Arc::new(MemoryProvider::new()));
        for (name, size) in [("packs/1", 1 << 20), ("packs/2", 3 << 20), ("index/1", 1000), ("config", 10)] {
            let body = Body::from(vec![0; size]);
            let digest = body.sha256();
            record.put(&key(name), body, digest, PutMode::CreateNew).await.unwrap();
        }
        record.get(&key("packs/1"), Some(0..1000)).await.unwrap();
        record.get(&key("packs/9"), None).await.unwrap_err();
        record.list_all(&Prefix::folder("packs").unwrap()).await.unwrap();
        record.list_all(&Prefix::all()).await.unwrap();
        assert!(record.delete_many(&[key("index/1"), key("index/2")]).await.iter().all(Result::is_ok));
        record.usage().await.unwrap();

        let summary = record.summary();
        let counts = |area: &str, operation| summary.counts[&(area.to_owned(), operation)];
        let puts = counts("packs", Operation::Put);
        assert_eq!((puts.calls, puts.objects, puts.bytes_sent), (2, 2, 4 << 20));
        let gets = counts("packs", Operation::Get);
        assert_eq!((gets.calls, gets.errors, gets.bytes_received), (2, 1, 1000));
        assert_eq!(counts("packs", Operation::List).objects, 2);
        assert_eq!(counts("*", Operation::List).objects, 4);
        assert_eq!(counts("index", Operation::DeleteMany).objects, 2);
        assert_eq!((counts("config", Operation::Put).calls, counts("*", Operation::Usage).calls), (1, 1));
        assert_eq!(record.counts(Operation::Put).calls, 4);
        assert_eq!((summary.total().calls, record.all_counts().len()), (10, 5));
        let table = summary.to_string();
        assert_eq!(table.lines().count(), 1 + 8 + 1 + 1, "{table}");
        assert!(table.contains("delete-many"), "{table}");
        let widths: Vec<usize> = table.lines().take(10).map(str::len).collect();
        assert!(widths.iter().all(|width| width == &widths[0]), "{table}");
        // Ten calls for 4 MiB and some.
        let calls = summary.calls_per_gib().unwrap();
        assert!((2550.0..2560.0).contains(&calls), "{calls}");
        assert_eq!(Summary::default().calls_per_gib(), None);
    }
}
