//! What waits to be run, and what may run now. Pure: who runs it is told and tells.
//!
//! Nothing of one source overlaps, and there is one check at a time, beside the others, which do not wait for it: it may take hours, and changes nothing; what waits already is not queued twice; the higher priority goes first, and of
//! the same what was asked for by a person, then what was due first.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::ledger::{Job, JobKind, Trigger};

/// Names a queued job.
pub type Ticket = u64;

/// A job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its name.
    pub ticket: Ticket,
    /// What is to be run.
    pub job: Job,
    /// When it was due.
    pub due: DateTime<Utc>,
    /// Higher goes first.
    pub priority: i32,
    /// A source that shrank beyond its limit is accepted.
    pub accept_shrink: bool,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    waiting: Vec<Waiting>,
    running: HashMap<Ticket, Job>,
    parallel: usize,
    last: Ticket,
}

impl Queue {
    /// One that lets so many jobs run at once, besides a check; at least one.
    pub fn new(parallel: usize) -> Self {
        Self { waiting: Vec::new(), running: HashMap::new(), parallel: parallel.max(1), last: 0 }
    }

    /// From now on so many jobs may run at once, besides a check.
    pub fn set_parallel(&mut self, parallel: usize) {
        self.parallel = parallel.max(1);
    }

    /// Queues a job and returns its ticket, or that of the same job if it waits already: then it keeps its place, and what a person asks for moves up.
    pub fn push(&mut self, job: Job, due: DateTime<Utc>, priority: i32, accept_shrink: bool) -> Ticket {
        let same = |waiting: &&mut Waiting| {
            (waiting.job.kind, &waiting.job.source, &waiting.job.class) == (job.kind, &job.source, &job.class)
        };
        if let Some(waiting) = self.waiting.iter_mut().find(same) {
            if job.cause == Trigger::Manual {
                waiting.job.cause = Trigger::Manual;
            }
            waiting.accept_shrink |= accept_shrink;
            return waiting.ticket;
        }
        self.last += 1;
        self.waiting.push(Waiting { ticket: self.last, job, due, priority, accept_shrink });
        self.last
    }

    /// Takes the next job that may run now, which then counts as running until [`Queue::ended`].
    pub fn take(&mut self) -> Option<Waiting> {
        let is_check = |job: &Job| job.kind == JobKind::Check;
        let others = self.running.values().filter(|job| !is_check(job)).count();
        let has_place = |waiting: &&Waiting| match is_check(&waiting.job) {
            true => others == self.running.len(),
            // A backup that finds a destination full needs the collector that a prune is.
            false => others < self.parallel,
        };
        let rank = |waiting: &Waiting| {
            let by_hand = waiting.job.cause != Trigger::Manual;
            (-i64::from(waiting.priority), by_hand, waiting.due, waiting.ticket)
        };
        let is_free =
            |waiting: &&Waiting| !self.running.values().any(|running| overlap(running, &waiting.job));
        let ticket =
            self.waiting.iter().filter(has_place).filter(is_free).min_by_key(|waiting| rank(waiting))?.ticket;
        let at = self.waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        let taken = self.waiting.remove(at);
        self.running.insert(taken.ticket, taken.job.clone());
        Some(taken)
    }

    /// A job does not run any more.
    pub fn ended(&mut self, ticket: Ticket) {
        self.running.remove(&ticket);
    }

    /// Whether this source and class waits or runs.
    pub fn has(&self, job: &Job) -> bool {
        self.jobs()
            .any(|known| (known.kind, &known.source, &known.class) == (job.kind, &job.source, &job.class))
    }

    /// Whether anything of a source waits or runs.
    pub fn has_source(&self, source: &str) -> bool {
        self.jobs().any(|job| job.source.as_deref() == Some(source))
    }

    /// All that wait or run.
    fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.waiting.iter().map(|waiting| &waiting.job).chain(self.running.values())
    }

    /// Takes out all that waits for a source that is gone, or that `is_wanted` refuses.
    pub fn retain(&mut self, is_wanted: impl Fn(&Job) -> bool) -> Vec<Waiting> {
        let (kept, dropped) = std::mem::take(&mut self.waiting).into_iter().partition(|w| is_wanted(&w.job));
        self.waiting = kept;
        dropped
    }

    /// How many jobs wait, and how many run.
    pub fn len(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// Whether nothing waits and nothing runs.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}

fn overlap(one: &Job, other: &Job) -> bool {
    one.kind == other.kind && one.source == other.source
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        Utc.timestamp_opt(1_800_000_000 + second, 0).unwrap()
    }

    fn job(source: &str, class: &str, cause: Trigger) -> Job {
        let (source, class) = (Some(source.to_owned()), Some(class.to_owned()));
        Job { kind: JobKind::Backup, source, class, cause }
    }

    fn names(queue: &mut Queue) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(next) = queue.take() {
            names.push(format!(
                "{}-{}",
                next.job.source.unwrap_or_default(),
                next.job.class.unwrap_or_default()
            ));
            queue.ended(next.ticket);
        }
        names
    }

    #[test]
    fn priority_then_people_then_time() {
        let mut queue = Queue::new(1);
        queue.push(job("a", "daily", Trigger::Schedule), at(1), 0, false);
        queue.push(job("b", "daily", Trigger::Schedule), at(0), 0, false);
        queue.push(job("c", "daily", Trigger::Manual), at(5), 0, false);
        queue.push(job("d", "daily", Trigger::Schedule), at(9), 1, false);
        assert_eq!(names(&mut queue), ["d-daily", "c-daily", "b-daily", "a-daily"]);
    }

    #[test]
    fn one_source_never_overlaps_and_others_may() {
        let mut queue = Queue::new(2);
        queue.push(job("a", "hourly", Trigger::Schedule), at(0), 0, false);
        queue.push(job("a", "daily", Trigger::Schedule), at(0), 0, false);
        queue.push(job("b", "daily", Trigger::Schedule), at(7), 0, false);
        let first = queue.take().unwrap();
        let second = queue.take().unwrap();
        assert_eq!((first.job.source.as_deref(), second.job.source.as_deref()), (Some("a"), Some("b")));
        assert_eq!(queue.take(), None);
        queue.ended(second.ticket);
        assert_eq!(queue.take(), None, "a still runs");
        queue.ended(first.ticket);
        assert_eq!(queue.take().unwrap().job.class.as_deref(), Some("daily"));
    }

    #[test]
    fn a_check_waits_for_nothing_and_nothing_for_it() {
        let mut queue = Queue::new(1);
        let work = |kind| Job { kind, source: None, class: None, cause: Trigger::Schedule };
        queue.push(work(JobKind::Check), at(0), 0, false);
        queue.push(work(JobKind::Prune), at(1), 0, false);
        queue.push(job("a", "hourly", Trigger::Schedule), at(2), 0, false);
        let check = queue.take().unwrap();
        let prune = queue.take().unwrap();
        assert_eq!((check.job.kind, prune.job.kind), (JobKind::Check, JobKind::Prune));
        assert_eq!(queue.take(), None, "a prune is at work");
        queue.ended(prune.ticket);
        assert_eq!(queue.take().unwrap().job.source.as_deref(), Some("a"));
        queue.push(work(JobKind::Check), at(3), 0, false);
        assert_eq!(queue.take(), None, "one at a time");
        queue.ended(check.ticket);
        assert_eq!(queue.take().unwrap().job.kind, JobKind::Check);
    }

    #[test]
    fn what_waits_is_not_queued_twice_but_again_while_it_runs() {
        let mut queue = Queue::new(1);
        let first = queue.push(job("a", "daily", Trigger::Schedule), at(0), 0, false);
        assert_eq!(queue.push(job("a", "daily", Trigger::Manual), at(1), 0, true), first);
        let taken = queue.take().unwrap();
        assert!(taken.accept_shrink && taken.job.cause == Trigger::Manual);
        assert_ne!(queue.push(job("a", "daily", Trigger::Manual), at(2), 0, false), first);
        assert_eq!(queue.len(), (1, 1));
    }
}
