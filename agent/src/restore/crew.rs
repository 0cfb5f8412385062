//! The worker threads of one walk: they work off a window while the next is being filled.
//!
//! Windows end in the order in which they were handed over, so a directory is settled when all before it is done.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Run;
use super::window::{Buffers, Item, Left, Window, batches};
use crate::{Error, Result};

/// Windows that are worked on while the next is being filled.
const UNDER_WAY_MAX: usize = 1;

/// What workers and walker tell each other.
#[derive(Default)]
pub(super) struct Crew {
    state: Mutex<State>,
    /// There is work, or none will come.
    called: Condvar,
    /// A window is done.
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Oldest first.
    under_way: VecDeque<Job>,
    closed: bool,
    /// The first error that ends the restore: what is left is not worked on.
    error: Option<Error>,
    failed: bool,
}

/// A window that is worked off.
struct Job {
    items: Arc<Vec<Item>>,
    batches: VecDeque<Range<usize>>,
    /// Batches that are not done.
    unfinished: usize,
    left: Vec<Left>,
    number: u64,
}

/// A batch in the hands of a worker; counted as done when dropped, whatever became of it.
struct Assignment<'c> {
    crew: &'c Crew,
    number: u64,
    items: Arc<Vec<Item>>,
    batch: Range<usize>,
    outcome: Option<Result<()>>,
}

impl Drop for Assignment<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Err(crate::threads::broke_down()));
        let mut state = self.crew.state.lock();
        if let Err(e) = outcome {
            state.failed = true;
            state.error.get_or_insert(e);
            self.crew.done.notify_all();
        }
        let job = state.under_way.iter_mut().find(|job| job.number == self.number);
        if let Some(job) = job {
            job.unfinished -= 1;
            if job.unfinished == 0 {
                self.crew.done.notify_all();
            }
        }
    }
}

impl Crew {
    /// The next batch, oldest window first; waits for one. `None` if none will come.
    fn next(&self) -> Option<Assignment<'_>> {
        let mut state = self.state.lock();
        loop {
            let waiting = state.under_way.iter_mut().find(|job| !job.batches.is_empty());
            if let Some(job) = waiting
                && let Some(batch) = job.batches.pop_front()
            {
                let (number, items) = (job.number, job.items.clone());
                return Some(Assignment { crew: self, number, items, batch, outcome: None });
            }
            if state.closed {
                return None;
            }
            self.called.wait(&mut state);
        }
    }

    fn hand_over(&self, mut items: Vec<Item>, left: Vec<Left>) {
        items.sort_by_key(Item::order);
        let batches = VecDeque::from(batches(&items));
        let mut state = self.state.lock();
        let number = state.under_way.back().map_or(0, |last| last.number + 1);
        let unfinished = batches.len();
        state.under_way.push_back(Job { items: Arc::new(items), batches, unfinished, left, number });
        self.called.notify_all();
    }

    /// Waits until at most `most` windows are under way; returns the directories that were left in those that are done.
    fn wait(&self, most: usize) -> Result<Vec<Left>> {
        let mut left = Vec::new();
        let mut state = self.state.lock();
        loop {
            while state.under_way.front().is_some_and(|job| job.unfinished == 0) {
                left.extend(state.under_way.pop_front().into_iter().flat_map(|job| job.left));
            }
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.under_way.len() <= most {
                return Ok(left);
            }
            self.done.wait(&mut state);
        }
    }

    /// No more work will come; what waits still is not done.
    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.failed = true;
        self.called.notify_all();
    }

    /// A worker cannot go on: the walk ends.
    fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        state.failed = true;
        state.error.get_or_insert(error);
        self.done.notify_all();
    }

    fn has_failed(&self) -> bool {
        self.state.lock().failed
    }
}

impl Run<'_> {
    /// Runs `walk` with workers for its windows.
    pub(super) fn with_crew(&self, walk: impl FnOnce() -> Result<()>) -> Result<()> {
        *self.crew.state.lock() = State::default();
        std::thread::scope(|scope| {
            let workers: std::io::Result<Vec<_>> =
                (0..crate::threads::count_for_reading(self.options.threads))
                    .map(|_| {
                        let worker = std::thread::Builder::new().name("restore".to_owned());
                        worker.spawn_scoped(scope, || self.work())
                    })
                    .collect();
            let walked = {
                // Also if the walk breaks down: the workers would wait for ever.
                let _close = CloseAtEnd(&self.crew);
                match &workers {
                    Ok(_) => walk(),
                    Err(e) => Err(Error::failed(format_args!("cannot start a thread: {e}"))),
                }
            };
            // Whatever ended one was told to the walk.
            let ended = workers
                .into_iter()
                .flatten()
                .map(|worker| worker.join().map_err(|_| crate::threads::broke_down()));
            let ended: Result<Vec<()>> = ended.collect();
            walked.and(ended.map(drop))
        })
    }

    /// Hands a full window to the workers; the walk goes on.
    pub(super) fn advance(&self, window: &mut Window) -> Result<()> {
        self.wait_after(window, UNDER_WAY_MAX)
    }

    /// Works off the window and all before it.
    pub(super) fn flush(&self, window: &mut Window) -> Result<()> {
        self.wait_after(window, 0)
    }

    fn wait_after(&self, window: &mut Window, most: usize) -> Result<()> {
        let (items, left) = window.take();
        self.crew.hand_over(items, left);
        let left = self.crew.wait(most)?;
        self.settle(left);
        Ok(())
    }

    fn work(&self) {
        let mut buffers = match Buffers::new() {
            Ok(buffers) => buffers,
            Err(e) => return self.crew.fail(e),
        };
        while let Some(mut assignment) = self.crew.next() {
            let outcome = if self.crew.has_failed() {
                Ok(())
            } else {
                self.context.check_stop().and_then(|()| {
                    let batch = assignment.items.get(assignment.batch.clone()).unwrap_or_default();
                    self.write_batch(batch, &mut buffers)
                })
            };
            assignment.outcome = Some(outcome);
        }
    }
}

struct CloseAtEnd<'c>(&'c Crew);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
