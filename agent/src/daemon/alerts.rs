//! Notifications: a thread that delivers what waits in the ledger, and tries again what could not be delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{Level, Message};
use crate::config::Settings;
use crate::ledger::Ledger;
use crate::notify::{self, Queue};
use crate::{Error, Result};

/// What another process has put in is found after that at the latest.
const LOOK_EACH: Duration = Duration::from_secs(30);

/// What is to be told although the ledger cannot be written.
#[derive(Debug, Default)]
struct Spare {
    events: Vec<notify::Event>,
    /// The ledger can be written: what was told before is forgotten when all of it has arrived.
    is_over: bool,
}

/// In place of the ledger while that cannot be written: what was told is remembered in it.
struct Memory {
    ledger: Ledger,
    is_over: bool,
}

/// The thread that delivers.
#[derive(Debug)]
pub struct Alerts {
    settings: Arc<Mutex<Arc<Settings>>>,
    spare: Arc<Mutex<Spare>>,
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Alerts {
    /// Starts it; what it cannot do it says as a [`Message::Say`].
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(settings: &Arc<Settings>, sender: Sender<Message>) -> Result<Self> {
        let settings = Arc::new(Mutex::new(settings.clone()));
        let stop = Arc::new(AtomicBool::new(false));
        let spare = Arc::new(Mutex::new(Spare::default()));
        let (wake, woken) = sync_channel(1);
        let deliver = {
            let (settings, stop, spare) = (settings.clone(), stop.clone(), spare.clone());
            move || {
                let mut told = String::new();
                let mut memory = None;
                while !stop.load(Ordering::Relaxed) {
                    let current = settings.lock().clone();
                    let spare = std::mem::take(&mut *spare.lock());
                    let without = deliver_without(&current, &mut memory, spare, &stop);
                    let (outcome, wait) = deliver_once(&current, &stop);
                    let outcome = without.and(outcome);
                    let trouble = outcome.err().map(|e| e.to_string()).unwrap_or_default();
                    if trouble != told && !trouble.is_empty() {
                        let _ = sender.send(Message::Say(Level::Warning, trouble.clone()));
                    }
                    told = trouble;
                    match woken.recv_timeout(wait) {
                        Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        };
        let thread = thread::Builder::new()
            .name("alerts".to_owned())
            .spawn(deliver)
            .map_err(|e| Error::io("cannot start a thread for notifications", e))?;
        Ok(Self { settings, spare, stop, wake, thread: Some(thread) })
    }

    /// The configuration has changed.
    pub fn set(&self, settings: &Arc<Settings>) {
        *self.settings.lock() = settings.clone();
        self.wake();
    }

    /// Tells, each once, what lasts and cannot be put into the ledger.
    pub fn tell_without_ledger(&self, events: Vec<notify::Event>) {
        self.spare.lock().events.extend(events);
    }

    /// Something was written to the ledger.
    pub fn ledger_works(&self) {
        self.spare.lock().is_over = true;
    }

    /// Something may be to be delivered now.
    pub fn wake(&self) {
        // One that is full wakes it already.
        let _ = self.wake.try_send(());
    }

    /// Ends it; what was not delivered waits for the next daemon or run.
    pub fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is in memory is told until all of it has arrived and the ledger can be written.
fn deliver_without(
    settings: &Settings,
    memory: &mut Option<Memory>,
    spare: Spare,
    stop: &AtomicBool,
) -> Result<()> {
    let now = settings.clock.now();
    if memory.is_none() && !spare.events.is_empty() {
        *memory = Some(Memory { ledger: Ledger::in_memory()?, is_over: false });
    }
    let Some(Memory { ledger, is_over }) = memory else { return Ok(()) };
    *is_over = spare.events.is_empty() && (*is_over || spare.is_over);
    spare.events.iter().try_for_each(|event| report(ledger, settings, event, now))?;
    let queue = Queue::new(ledger.connection(), &settings.notify);
    let delivered = queue.deliver_due(now, stop)?;
    if *is_over && queue.channels()?.iter().all(|channel| channel.waiting == 0) {
        *memory = None;
    }
    match delivered.troubles.is_empty() {
        true => Ok(()),
        false => Err(Error::failed(delivered.troubles.join("; "))),
    }
}

fn deliver_once(settings: &Settings, stop: &AtomicBool) -> (Result<()>, Duration) {
    let now = settings.clock.now();
    let delivered = Ledger::open(&settings.directories.state)
        .and_then(|ledger| Queue::new(ledger.connection(), &settings.notify).deliver_due(now, stop));
    match delivered {
        Ok(delivered) => {
            let trouble = delivered.troubles.join("; ");
            let next = delivered.next_due.map(|next| settings.clock.wait_at_most(next - now));
            let said = if trouble.is_empty() { Ok(()) } else { Err(Error::failed(trouble)) };
            (said, next.unwrap_or(LOOK_EACH).clamp(Duration::from_millis(20), LOOK_EACH))
        }
        Err(e) => (Err(e), LOOK_EACH),
    }
}

/// Puts an event in, for every channel that wants it.
///
/// # Errors
/// If the ledger cannot be written.
pub fn report(ledger: &Ledger, settings: &Settings, event: &notify::Event, now: DateTime<Utc>) -> Result<()> {
    Queue::new(ledger.connection(), &settings.notify).report(event, now).map(drop)
}
