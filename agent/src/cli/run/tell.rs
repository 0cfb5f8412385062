//! What of a run is worth a notification, and what monitoring is told of it.

use std::sync::atomic::AtomicBool;

use chrono::{DateTime, Utc};

use super::recorder::{Noticed, Recorder};
use crate::cli::destinations;
use crate::cli::session::Session;
use crate::daemon::{figures, name};
use crate::ledger::{Ended, Job, JobKind, JobLock, Ledger, RunResult};
use crate::notify::{Event, EventKind, Queue};
use crate::{Error, Result, metrics};

/// A run that has ended.
pub struct Told<'t> {
    /// What was run.
    pub job: &'t Job,
    /// What it came to.
    pub ended: &'t Ended,
    /// What it noticed.
    pub noticed: &'t Noticed,
    /// Its UUID.
    pub uuid: Option<String>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub now: DateTime<Utc>,
}

/// A run has begun: pings want to know.
pub fn begun(session: &Session, recorder: &Recorder, job: &Job) {
    if job.kind != JobKind::Backup {
        return;
    }
    let settings = &session.settings;
    let mut event = event(session, job, EventKind::Started, "it began".to_owned(), recorder.started);
    event.run.clone_from(&recorder.uuid);
    recorder
        .with(|ledger| Queue::new(ledger.connection(), &settings.notify).report(&event, recorder.started));
}

/// A run has ended: tells who wants to know, and writes the figures for monitoring. What goes wrong with that is a warning.
pub fn ended(session: &Session, ledger: Option<&Ledger>, told: &Told<'_>) {
    let settings = &session.settings;
    let warn = |e: Error| session.output.warning(format_args!("notifications: {}", e.in_full()));
    let in_ledger = |ledger| {
        let queue = Queue::new(Ledger::connection(ledger), &settings.notify);
        let reported = report(session, ledger, &queue, told).map_err(warn).is_ok();
        if reported && let Err(e) = deliver(session, &queue) {
            warn(e);
        }
        reported
    };
    if !ledger.is_some_and(in_ledger)
        && let Err(e) = tell_at_once(session, told)
    {
        warn(e);
    }
    let Some(ledger) = ledger else { return };
    if let Some(path) = &settings.metrics.textfile {
        let figures = figures::of_ledger(settings, ledger, told.now);
        if let Err(e) = figures.and_then(|figures| metrics::textfile::write(path, &figures)) {
            session.output.warning(e);
        }
    }
}

/// Tells without the ledger, each channel once: a full disk is no reason that nobody hears of a failure.
fn tell_at_once(session: &Session, told: &Told<'_>) -> Result<()> {
    let memory = Ledger::in_memory()?;
    // What ends with this process can wait for no morning.
    let mut notify = session.settings.notify.clone();
    for channel in &mut notify.channels {
        (channel.quiet_hours, channel.digest) = (None, None);
    }
    let queue = Queue::new(memory.connection(), &notify);
    report(session, &memory, &queue, told)?;
    send(session, &queue)
}

/// Without a daemon, what waits is delivered by whoever runs something.
fn deliver(session: &Session, queue: &Queue<'_>) -> Result<()> {
    let state = &session.settings.directories.state;
    let Some(_nobody) = JobLock::try_take(state, "daemon")? else { return Ok(()) };
    send(session, queue)
}

fn send(session: &Session, queue: &Queue<'_>) -> Result<()> {
    let delivered = queue.deliver_due(session.settings.clock.now(), &AtomicBool::new(false))?;
    for trouble in delivered.troubles {
        session.output.warning(format_args!("a notification did not arrive: {trouble}"));
    }
    Ok(())
}

fn report(session: &Session, ledger: &Ledger, queue: &Queue<'_>, told: &Told<'_>) -> Result<()> {
    let mut events = match told.job.kind {
        JobKind::Backup => of_backup(session, ledger, told)?,
        JobKind::Prune | JobKind::Check => of_maintenance(session, told),
    };
    let (low, well) = space(session, told);
    events.extend(low);
    if let Some(damage) = &told.noticed.damage
        && !events.iter().any(|event| event.kind == EventKind::Damage)
    {
        let mut event = new(session, told, EventKind::Damage, "stored data is damaged or missing".to_owned());
        event.source = None;
        event.why = Some(damage.clone());
        event.next_step = Some("Run `lifeboat check --all --repair`.".to_owned());
        events.push(event);
    }
    events.iter().try_for_each(|event| queue.report(event, told.now).map(drop))?;
    // A prune that works says nothing of a check that failed.
    let code = told.job.kind.word();
    let is_another = queue.open()?.iter().any(|known| {
        known.event.kind == EventKind::Failure
            && known.event.source.is_none()
            && known.event.code.as_deref() != Some(code)
    });
    // Another part that was read is whole: what was found damaged is so until that is read again.
    let is_damaged = ledger.verifications()?.iter().any(|verified| !verified.good);
    let over = resolved(session, told).into_iter().chain(well);
    let over = over.filter(|(kind, _)| !(is_damaged && *kind == EventKind::Damage));
    for (kind, event) in
        over.filter(|(kind, event)| !(is_another && *kind == EventKind::Failure && event.source.is_none()))
    {
        queue.resolve(kind, &event, told.now)?;
    }
    Ok(())
}

fn event(session: &Session, job: &Job, kind: EventKind, what: String, now: DateTime<Utc>) -> Event {
    let mut event = Event::new(kind, &session.settings.host, now, what);
    event.source.clone_from(&job.source);
    event.class.clone_from(&job.class);
    event
}

fn new(session: &Session, told: &Told<'_>, kind: EventKind, what: String) -> Event {
    event(session, told.job, kind, what, told.now)
}

fn of_backup(session: &Session, ledger: &Ledger, told: &Told<'_>) -> Result<Vec<Event>> {
    let (job, ended) = (told.job, told.ended);
    let who = name(job);
    let (kind, what) = match ended.result {
        RunResult::Good => (EventKind::Success, format!("{who} is backed up")),
        RunResult::Incomplete => {
            (EventKind::Incomplete, format!("{who} is backed up, but not all of it, or not everywhere"))
        }
        RunResult::Failed => (EventKind::Failure, format!("{who} failed")),
        // It is tried again; if not, it will be overdue.
        RunResult::Interrupted => return Ok(Vec::new()),
    };
    let mut outcome = new(session, told, kind, what);
    if kind != EventKind::Success {
        let standings = ledger.standings()?;
        let own = standings.iter().filter(|standing| Some(&standing.source) == job.source.as_ref());
        outcome.last_good = own.filter_map(|standing| standing.last_good).max();
    }
    outcome.run.clone_from(&told.uuid);
    outcome.why.clone_from(&ended.message);
    outcome.next_step.clone_from(&ended.hint);
    outcome.snapshot.clone_from(&ended.snapshot);
    outcome.duration_seconds = Some((told.now - told.started).as_seconds_f64());
    outcome.bytes_read = Some(ended.numbers.bytes_read);
    outcome.bytes_stored = Some(ended.numbers.bytes_stored);
    let mut events = vec![outcome];
    for at in &ended.destinations {
        let mut each = match (at.stored, &ended.snapshot) {
            // Ends what was wrong there, such as being overdue.
            (true, _) => {
                new(session, told, EventKind::Success, format!("{who} is backed up to {}", at.destination))
            }
            (false, Some(_)) => {
                let what = format!("{} lacks the newest snapshot of {who}", at.destination);
                let mut behind = new(session, told, EventKind::DestinationBehind, what);
                behind.why.clone_from(&at.error);
                behind.next_step =
                    Some("The next run brings it there; `lifeboat sync` tries at once.".to_owned());
                behind
            }
            // The failure of the run says it.
            (false, None) => continue,
        };
        each.destination = Some(at.destination.clone());
        events.push(each);
    }
    Ok(events)
}

/// What came of a prune or a check: good news is none.
fn of_maintenance(session: &Session, told: &Told<'_>) -> Vec<Event> {
    if told.ended.result != RunResult::Failed {
        return Vec::new();
    }
    let is_damage = told.ended.exit_code == crate::Kind::Damaged.exit_code();
    let (kind, what) = match is_damage {
        true => (EventKind::Damage, "stored data is damaged or missing".to_owned()),
        false => (EventKind::Failure, format!("the {} failed", name(told.job))),
    };
    let mut event = new(session, told, kind, what);
    event.code = Some(told.job.kind.word().to_owned());
    event.why.clone_from(&told.ended.message);
    event.next_step.clone_from(&told.ended.hint);
    vec![event]
}

/// Destinations that are nearly full, and those that were written to and are not.
fn space(session: &Session, told: &Told<'_>) -> (Vec<Event>, Vec<(EventKind, Event)>) {
    let low = &told.noticed.low_space;
    let (mut events, mut well) = (Vec::new(), Vec::new());
    // By its place is how the engine knows a destination.
    for target in destinations::all(session).unwrap_or_default() {
        let was_written = told.ended.destinations.iter().any(|at| at.stored && at.destination == target.name);
        if low.contains(&target.location.place()) {
            let what = format!("{} is nearly full", target.name);
            let mut event = new(session, told, EventKind::StorageWarning, what);
            event.source = None;
            event.next_step = Some(
                "Look at `lifeboat status`; keep less (`[retention]`), or give it more room.".to_owned(),
            );
            events.push(event.at_destination(&target.name));
        } else if was_written {
            let what = format!("{} has room again", target.name);
            let mut event = new(session, told, EventKind::Recovered, what);
            event.source = None;
            well.push((EventKind::StorageWarning, event.at_destination(&target.name)));
        }
    }
    (events, well)
}

/// What is not wrong any more, as far as this run can tell.
fn resolved(session: &Session, told: &Told<'_>) -> Vec<(EventKind, Event)> {
    let of = |kind, what: String| (kind, new(session, told, EventKind::Recovered, what));
    match (told.job.kind, told.ended.result) {
        (JobKind::Check, RunResult::Good) => {
            vec![
                of(EventKind::Damage, "the stored data that was read is whole".to_owned()),
                of(EventKind::Failure, "the check is done".to_owned()),
            ]
        }
        (JobKind::Prune, RunResult::Good | RunResult::Incomplete) => {
            vec![of(EventKind::Failure, "the prune is done".to_owned())]
        }
        (JobKind::Backup, RunResult::Good | RunResult::Incomplete) => {
            let there = told.ended.destinations.iter().filter(|at| at.stored);
            let again = there.map(|at| {
                let (kind, event) = of(
                    EventKind::DestinationBehind,
                    format!("{} has the newest snapshot again", at.destination),
                );
                (kind, event.at_destination(&at.destination))
            });
            again.collect()
        }
        _ => Vec::new(),
    }
}
