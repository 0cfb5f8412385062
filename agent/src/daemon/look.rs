//! What is looked at each minute: whether the ledger is still the one that others see, whether jobs still have their configuration, what is overdue.

use chrono::TimeDelta;

use super::{Daemon, Level, alerts, child, overdue};
use crate::ledger::Ledger;
use crate::notify::Event;

/// What is overdue and about to be done gets so long.
const PATIENCE: TimeDelta = TimeDelta::minutes(30);
/// As often.
const LOOK_EACH: TimeDelta = TimeDelta::minutes(1);

impl Daemon<'_> {
    pub(super) fn look_around(&mut self) {
        let now = self.now();
        if self.looked_at.is_some_and(|at| now >= at && now - at < LOOK_EACH) {
            return;
        }
        self.looked_at = Some(now);
        self.look_after_ledger();
        self.look_after_copy();
        self.look_for_overdue();
    }

    /// One that was deleted, put aside by a run, or could not be written at the start.
    fn look_after_ledger(&mut self) {
        if self.ledger.is_current() {
            return;
        }
        if let Ok(ledger) = Ledger::open(&self.settings.directories.state) {
            self.ledger = ledger;
            self.say(Level::Warning, "the ledger of runs was gone; what snapshots tell is learnt anew");
            self.begin_ledger();
        }
    }

    /// What is to be done with a ledger that was opened just now.
    pub(super) fn begin_ledger(&self) {
        if let Some(aside) = self.ledger.put_aside() {
            let text = format!(
                "the ledger of runs was damaged and is begun anew; the old one is {}. Backups are not touched",
                aside.display()
            );
            self.say(Level::Warning, &text);
        }
        if self.ledger.is_new() {
            // Else all that ever was due would be caught up.
            child::learn(&self.program);
        }
    }

    /// Jobs cannot run without the copy of the configuration that they are given.
    fn look_after_copy(&mut self) {
        if !self.program.config_is_there() {
            self.say(Level::Warning, "the copy of the configuration that runs are given is gone");
            // Said by it.
            let _ = self.reload();
        }
    }

    fn look_for_overdue(&mut self) {
        let now = self.now();
        match overdue::look(&self.settings, &self.ledger, &self.stored, now) {
            Ok(mut events) => {
                // After a machine slept all is late, and about to be done. What is not done soon is late all the same.
                let queue = &self.queue;
                self.waits_since.retain(|source, _| queue.has_source(source));
                events.retain(|event| {
                    let source = event.source.clone().unwrap_or_default();
                    !queue.has_source(&source)
                        || now - *self.waits_since.entry(source).or_insert(now) >= PATIENCE
                });
                self.report(events);
            }
            Err(e) => self.say(Level::Warning, &e.in_full()),
        }
    }

    /// Tells what is wrong, if need be without the ledger: a full disk is no reason that nobody hears of it.
    pub(super) fn report(&self, events: Vec<Event>) {
        if events.is_empty() {
            return self.alerts.wake();
        }
        let now = self.now();
        if !self.ledger.is_current() {
            self.alerts.tell_without_ledger(events);
            return self.alerts.wake();
        }
        let reported =
            events.iter().try_for_each(|event| alerts::report(&self.ledger, &self.settings, event, now));
        match reported {
            Ok(()) => self.alerts.ledger_works(),
            Err(e) => {
                self.say(Level::Warning, &e.in_full());
                self.alerts.tell_without_ledger(events);
            }
        }
        self.alerts.wake();
    }
}
