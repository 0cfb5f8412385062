//! What a job says and comes to, into the ledger. A ledger that cannot be written (a full disk) is warned about, and ends no backup.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::ledger::{Ended, Job, Ledger};
use crate::seal::keys::random_bytes;
use crate::{Error, Result};

/// Notes of one run.
pub struct Recorder {
    inner: Arc<Mutex<Inner>>,
    output: Arc<Output>,
    /// The run's number, if it is noted.
    pub id: Option<i64>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// A UUID, by which pings of its beginning and end are known to belong together.
    pub uuid: Option<String>,
}

struct Inner {
    ledger: Option<Ledger>,
    failed: Option<Error>,
    low_space: BTreeSet<String>,
    damage: Option<String>,
}

/// What a run noticed besides what it was for.
#[derive(Debug, Default)]
pub struct Noticed {
    /// Places that are nearly full.
    pub low_space: BTreeSet<String>,
    /// The first damage that was met.
    pub damage: Option<String>,
}

impl Recorder {
    /// Begins to note a run. Whoever calls it holds the job's lock.
    pub fn begin(session: &Session, job: &Job) -> Self {
        let settings = &session.settings;
        let started = settings.clock.now();
        let mut id = None;
        let opened = Ledger::open(&settings.directories.state).and_then(|ledger| {
            if let Some(aside) = ledger.put_aside() {
                session.output.warning(format_args!(
                    "the ledger of runs was damaged and is begun anew; the old one is {}",
                    aside.display()
                ));
            }
            id = Some(ledger.begin(job, started)?);
            Ok(ledger)
        });
        let (ledger, failed) = match opened {
            Ok(ledger) => (Some(ledger), None),
            Err(e) => (None, Some(e)),
        };
        let inner = Arc::new(Mutex::new(Inner { ledger, failed, low_space: BTreeSet::new(), damage: None }));
        if let Some(id) = id {
            let (inner, clock) = (inner.clone(), settings.clock.clone());
            session.output.set_tap(Some(Box::new(move |level, text| {
                let mut inner = inner.lock();
                match level {
                    // It is said as a warning, too.
                    "space" => drop(inner.low_space.insert(text.to_owned())),
                    _ => {
                        if level == "damage" {
                            inner.damage.get_or_insert_with(|| text.to_owned());
                        }
                        inner.attempt(|ledger| ledger.log(id, level, text, clock.now()));
                    }
                }
            })));
        }
        Self { inner, output: session.output.clone(), id, started, uuid: uuid() }
    }

    /// Notes what it came to; the ledger, if there is one, for what follows, and what was noticed.
    pub fn end(self, job: &Job, ended: &Ended, now: DateTime<Utc>) -> (Option<Ledger>, Noticed) {
        self.output.set_tap(None);
        let (id, started) = (self.id, self.started);
        let mut inner = self.inner.lock();
        if let Some(id) = id {
            inner.attempt(|ledger| ledger.end(id, job, ended, started, now));
        }
        if let Some(e) = inner.failed.take() {
            let why = e.in_full();
            self.output.warning(format_args!("this run is not remembered, or not all of it: {why}"));
        }
        let noticed =
            Noticed { low_space: std::mem::take(&mut inner.low_space), damage: inner.damage.take() };
        (inner.ledger.take(), noticed)
    }

    /// Does something with the ledger while the run goes on.
    pub fn with<T>(&self, attempt: impl FnOnce(&Ledger) -> Result<T>) -> Option<T> {
        self.inner.lock().attempt(attempt)
    }
}

/// A random one (RFC 9562, version 4).
fn uuid() -> Option<String> {
    let number = u128::from_be_bytes(random_bytes().ok()?);
    let number = number & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

impl Inner {
    fn attempt<T>(&mut self, attempt: impl FnOnce(&Ledger) -> Result<T>) -> Option<T> {
        match attempt(self.ledger.as_ref()?) {
            Ok(done) => Some(done),
            Err(e) => {
                self.failed.get_or_insert(e);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_says_its_version() {
        let uuid = super::uuid().unwrap();
        assert_eq!((uuid.len(), uuid.matches('-').count(), &uuid[14..15]), (36, 4, "4"));
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
    }
}
