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

/// The thread that delivers.
#[derive(Debug)]
pub struct Alerts {
    settings: Arc<Mutex<Arc<Settings>>>,
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
        let (wake, woken) = sync_channel(1);
        let deliver = {
            let (settings, stop) = (settings.clone(), stop.clone());
            move || {
                let mut told = String::new();
                while !stop.load(Ordering::Relaxed) {
                    let current = settings.lock().clone();
                    let (outcome, wait) = deliver_once(&current, &stop);
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
        Ok(Self { settings, stop, wake, thread: Some(thread) })
    }

    /// The configuration has changed.
    pub fn set(&self, settings: &Arc<Settings>) {
        *self.settings.lock() = settings.clone();
        self.wake();
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
pub fn report(ledger: &Ledger, settings: &Settings, event: notify::Event, now: DateTime<Utc>) -> Result<()> {
    Queue::new(ledger.connection(), &settings.notify).report(&event, now).map(drop)
}
