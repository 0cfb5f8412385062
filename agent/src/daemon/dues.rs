//! Which jobs are due. What was handled is in the ledger, and here too: a ledger that cannot be written makes nothing run twice.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::{Settings, Source};
use crate::ledger::{Job, JobKind, Ledger, Trigger};
use crate::schedule::{self, Cron};

/// A run that failed is tried again after these minutes, one after the other; then the next time of its schedule is waited for.
const AGAIN_AFTER_MINUTES: [i64; 3] = [5, 15, 60];
/// A run that begins no later than that after its time is on time.
const ON_TIME: TimeDelta = TimeDelta::minutes(2);

/// What is remembered of dues in this process.
#[derive(Debug, Default)]
pub struct Dues {
    handled: HashMap<Key, DateTime<Utc>>,
    failed: HashMap<Key, Failed>,
}

/// Source (empty for maintenance) and class (or what is done).
type Key = (String, String);

#[derive(Debug, Clone, Copy)]
struct Failed {
    due: DateTime<Utc>,
    tries: usize,
    not_before: DateTime<Utc>,
}

/// A job that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct DueJob {
    /// What.
    pub job: Job,
    /// The time of its schedule.
    pub due: DateTime<Utc>,
    /// Higher goes first.
    pub priority: i32,
}

/// A schedule of a source, or of maintenance.
struct Planned<'s> {
    kind: JobKind,
    source: Option<&'s Source>,
    class: &'s str,
    cron: &'s Cron,
}

impl Planned<'_> {
    fn key(&self) -> Key {
        (self.source.map(|source| source.name.clone()).unwrap_or_default(), self.class.to_owned())
    }

    fn delay(&self, settings: &Settings) -> std::time::Duration {
        let source = self.source.map_or("", |source| source.name.as_str());
        schedule::jitter(&settings.host, source, self.class, settings.schedule.jitter)
    }
}

/// All schedules of a configuration.
fn planned(settings: &Settings) -> impl Iterator<Item = Planned<'_>> {
    let schedules = &settings.schedule;
    let sources = settings.sources.iter().flat_map(|source| {
        let classes = schedules.classes.iter().filter(|class| takes(source, &class.name));
        classes.filter_map(|class| {
            let cron = class.cron.as_ref()?;
            Some(Planned { kind: JobKind::Backup, source: Some(source), class: &class.name, cron })
        })
    });
    let prune = schedules.prune.iter().map(|cron| (JobKind::Prune, cron));
    let check = schedules.check.iter().map(|cron| (JobKind::Check, cron));
    let maintenance =
        prune.chain(check).map(|(kind, cron)| Planned { kind, source: None, class: kind.word(), cron });
    sources.chain(maintenance)
}

/// Whether a source is backed up in a class.
pub fn takes(source: &Source, class: &str) -> bool {
    source.classes.is_empty() || source.classes.iter().any(|known| known == class)
}

/// The class in which a source is backed up first.
fn first_class<'s>(settings: &'s Settings, source: &Source) -> Option<&'s str> {
    let mut classes = settings.schedule.classes.iter().filter(|class| takes(source, &class.name));
    classes.find(|class| class.cron.is_some()).map(|class| class.name.as_str())
}

impl Dues {
    /// The jobs that are due now.
    pub fn now(&mut self, settings: &Settings, ledger: &Ledger, now: DateTime<Utc>) -> Vec<DueJob> {
        let mut due = Vec::new();
        for planned in planned(settings) {
            let key = planned.key();
            let handled = self.handled(ledger, &key);
            // Maintenance that was never done has nothing to maintain yet; of a source that was never backed up one run stands for all that its
            // classes would have been due for. The times of the others come.
            let begins_now = |source: &Source| first_class(settings, source) == Some(planned.class);
            if handled.is_none() && !planned.source.is_some_and(begins_now) {
                self.handle(ledger, &key, now);
                continue;
            }
            let zone = settings.schedule.zone;
            let Some(found) = schedule::due(planned.cron, zone, planned.delay(settings), handled, now) else {
                continue;
            };
            let waits = |failed: &Failed| failed.due == found.at && now < failed.not_before;
            if self.failed.get(&key).is_some_and(waits) {
                continue;
            }
            let late = now - found.at - TimeDelta::from_std(planned.delay(settings)).unwrap_or_default();
            let cause = match found.missed == 0 && late <= ON_TIME {
                true => Trigger::Schedule,
                false => Trigger::CatchUp,
            };
            due.push(DueJob {
                job: Job {
                    kind: planned.kind,
                    source: planned.source.map(|source| source.name.clone()),
                    class: planned.source.map(|_| planned.class.to_owned()),
                    cause,
                },
                due: found.at,
                // Backups go before maintenance.
                priority: planned.source.map_or(i32::MIN, |source| source.priority),
            });
        }
        due
    }

    /// When the next job is due, of those of a source if one is named.
    pub fn next(
        &self,
        settings: &Settings,
        ledger: &Ledger,
        source: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let zone = settings.schedule.zone;
        let of_source = |planned: &Planned<'_>| {
            source.is_none_or(|name| planned.source.is_some_and(|source| source.name == name))
        };
        let next = |planned: Planned<'_>| {
            let key = planned.key();
            let delay = planned.delay(settings);
            let next = schedule::next_due(planned.cron, zone, delay, self.handled(ledger, &key), now)?;
            let again = self.failed.get(&key).map(|failed| failed.not_before);
            // What failed is due all the time until it is tried again.
            Some(if next <= now { again.unwrap_or(next).max(next) } else { next })
        };
        planned(settings).filter(of_source).filter_map(next).min()
    }

    /// Notes that a job has ended. One that is not `good` is tried again a few times; one that was stopped stays due.
    pub fn ended(
        &mut self,
        ledger: &Ledger,
        ended: &DueJob,
        good: bool,
        stopped: bool,
        now: DateTime<Utc>,
    ) -> Option<String> {
        let job = &ended.job;
        let class = job.class.clone().unwrap_or_else(|| job.kind.word().to_owned());
        let key = (job.source.clone().unwrap_or_default(), class);
        if matches!(job.cause, Trigger::Change) || stopped {
            return None;
        }
        if good {
            self.failed.remove(&key);
            // What was asked for by hand stands for what would have been due.
            return self.handle(ledger, &key, ended.due);
        }
        if job.cause == Trigger::Manual {
            return None;
        }
        let tries =
            self.failed.get(&key).filter(|failed| failed.due == ended.due).map_or(0, |failed| failed.tries);
        match AGAIN_AFTER_MINUTES.get(tries) {
            Some(minutes) => {
                let not_before = now + TimeDelta::minutes(*minutes);
                self.failed.insert(key, Failed { due: ended.due, tries: tries + 1, not_before });
                None
            }
            None => {
                self.failed.remove(&key);
                self.handle(ledger, &key, ended.due)
            }
        }
    }

    fn handled(&self, ledger: &Ledger, key: &Key) -> Option<DateTime<Utc>> {
        match self.handled.get(key) {
            Some(due) => Some(*due),
            None => ledger.handled(&key.0, &key.1).ok().flatten(),
        }
    }

    /// Remembers it here and in the ledger; returns why the ledger could not be written.
    fn handle(&mut self, ledger: &Ledger, key: &Key, due: DateTime<Utc>) -> Option<String> {
        self.handled.insert(key.clone(), due);
        ledger.handle(&key.0, &key.1, due).err().map(|e| e.to_string())
    }
}
