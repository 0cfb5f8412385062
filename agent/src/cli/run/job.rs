//! One job: locked, noted, done, told.

use std::time::Duration;

use super::recorder::Recorder;
use super::{show, tell, verify};
use crate::backup::destinations::proof_word;
use crate::cli::EXIT_INCOMPLETE;
use crate::cli::backup_job::Done;
use crate::cli::forget_policy::{self, KeepArgs};
use crate::cli::prune;
use crate::cli::session::Session;
use crate::cli::source_job::{SourceRun, backup_source};
use crate::collect::CollectOptions;
use crate::ledger::{Ended, Job, JobKind, JobLock, Numbers, RunResult, Stored};
use crate::snapshot::select::Filter;
use crate::{Error, Kind, Result, config};

/// How a job is run.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// A source that shrank beyond its limit is accepted.
    pub accept_shrink: bool,
    /// So long another process that is at it is waited for.
    pub patience: Duration,
}

/// Runs a job, and returns the exit code that it is worth.
///
/// # Errors
/// `Locked` if another process is at it; if standard output cannot be written.
pub fn run(session: &Session, job: &Job, how: How) -> Result<u8> {
    let settings = &session.settings;
    // Of a source that is called like something else, too.
    let name = job.source.as_ref().map_or_else(|| job.kind.to_string(), |source| format!("source-{source}"));
    let stop = session.signals.stop();
    let Some(_lock) = JobLock::take_within(&settings.directories.state, &name, how.patience, stop)? else {
        return Err(Error::new(
            Kind::Locked,
            format_args!("{} is being run by another process", crate::daemon::name(job)),
        )
        .with_hint("Wait for it, or look at `lifeboat runs`."));
    };
    let recorder = Recorder::begin(session, job);
    tell::begun(session, &recorder, job);
    let ended = attempt(session, &recorder, job, how.accept_shrink);
    let now = settings.clock.now();
    let (id, started, uuid) = (recorder.id, recorder.started, recorder.uuid.clone());
    let (ledger, noticed) = recorder.end(job, &ended, now);
    let told = tell::Told { job, ended: &ended, noticed: &noticed, uuid, started, now };
    tell::ended(session, ledger.as_ref(), &told);
    show::run(&session.output, id, job, &ended)?;
    Ok(ended.exit_code)
}

fn attempt(session: &Session, recorder: &Recorder, job: &Job, accept_shrink: bool) -> Ended {
    let done = match job.kind {
        JobKind::Backup => backup(session, job, accept_shrink),
        JobKind::Prune => {
            let code = prune::prune(session, CollectOptions::default());
            code.map(|code| {
                came_to(if code == std::process::ExitCode::SUCCESS { 0 } else { EXIT_INCOMPLETE })
            })
        }
        JobKind::Check => verify::verify(session, recorder).map(|()| came_to(0)),
    };
    let mut ended = done.unwrap_or_else(|e| failed(&e));
    if ended.destinations.is_empty() && job.kind == JobKind::Backup {
        // That nothing came there is worth a note for each.
        let source = job.source.as_deref().and_then(|name| session.settings.source(name));
        let names = source.map(|source| session.settings.destinations_of(source)).unwrap_or_default();
        ended.destinations = names.into_iter().map(|name| nothing_at(name, &ended)).collect();
    }
    ended
}

fn came_to(exit_code: u8) -> Ended {
    Ended {
        result: if exit_code == 0 { RunResult::Good } else { RunResult::Incomplete },
        exit_code,
        message: None,
        hint: None,
        snapshot: None,
        numbers: Numbers::default(),
        destinations: Vec::new(),
    }
}

fn failed(error: &Error) -> Ended {
    let is_interrupted = error.kind() == Kind::Interrupted;
    Ended {
        result: if is_interrupted { RunResult::Interrupted } else { RunResult::Failed },
        message: Some(error.to_string()),
        hint: error.hint().map(str::to_owned),
        ..came_to(error.kind().exit_code())
    }
}

fn nothing_at(destination: String, ended: &Ended) -> Stored {
    Stored { destination, stored: false, verified: None, bytes_stored: 0, error: ended.message.clone() }
}

fn backup(session: &Session, job: &Job, accept_shrink: bool) -> Result<Ended> {
    let settings = &session.settings;
    let name = job.source.as_deref().unwrap_or_default();
    let source = config::Source::named(&settings.sources, name)?;
    let class = job.class.as_deref().unwrap_or("manual");
    let rescan = settings.schedule.class(class).is_some_and(|class| class.rescan);
    let done =
        backup_source(session, source, &SourceRun { rescan, accept_shrink, ..SourceRun::of_class(class) })?;
    let ended = of_backup(&done);
    if ended.snapshot.is_some() {
        forget(session, name);
    }
    Ok(ended)
}

fn of_backup(done: &Done) -> Ended {
    let summary = &done.outcome.summary;
    let destinations = destinations(done);
    let missing: Vec<String> = destinations
        .iter()
        .filter(|at| !at.stored)
        .map(|at| {
            format!(
                "{} does not have it: {}",
                at.destination,
                at.error.as_deref().unwrap_or("no reason is known")
            )
        })
        .collect();
    let unread = match done.outcome.errors_total {
        0 => None,
        number => {
            Some(format!("{} could not be read as they are", crate::words::count(number, "path", "paths")))
        }
    };
    let why: Vec<String> = unread.into_iter().chain(missing).collect();
    Ended {
        message: (!why.is_empty()).then(|| why.join("; ")),
        hint: (!why.is_empty())
            .then(|| "`lifeboat log RUN` lists what was said; the next run tries again.".to_owned()),
        snapshot: done.outcome.snapshot.as_ref().map(|snapshot| snapshot.id.to_string()),
        numbers: Numbers {
            files: summary.files_new + summary.files_changed + summary.files_unmodified,
            errors: done.outcome.errors_total,
            bytes_total: summary.bytes_total,
            bytes_read: summary.bytes_read,
            bytes_added: summary.bytes_added,
            bytes_stored: summary.bytes_stored,
        },
        destinations,
        ..came_to(if why.is_empty() { 0 } else { EXIT_INCOMPLETE })
    }
}

/// What became of the snapshot at each destination, the one it was made at first.
fn destinations(done: &Done) -> Vec<Stored> {
    let is_made = done.outcome.snapshot.is_some();
    let first = is_made.then(|| Stored {
        destination: done.name.clone(),
        stored: true,
        verified: Some(proof_word(done.proof).to_owned()),
        bytes_stored: done.outcome.summary.bytes_stored,
        error: None,
    });
    let others = done.outcome.destinations.iter().map(|other| Stored {
        destination: other.name.clone(),
        stored: other.stored.is_some(),
        verified: other.stored.map(|proof| proof_word(proof).to_owned()),
        bytes_stored: other.bytes_stored,
        error: other.error.as_ref().map(ToString::to_string),
    });
    let failed = done.failed.iter().map(|(name, why)| Stored {
        destination: name.clone(),
        stored: false,
        verified: None,
        bytes_stored: 0,
        error: Some(why.clone()),
    });
    first.into_iter().chain(others).chain(failed).collect()
}

/// Forgets what no policy keeps of a source on this machine. What goes wrong is a warning: the snapshot is made.
fn forget(session: &Session, source: &str) {
    let settings = &session.settings;
    let has_policy =
        settings.destination_names().iter().any(|name| settings.retention.policies(name).is_some());
    if !has_policy {
        return;
    }
    let filter =
        Filter { host: Some(settings.host.clone()), source: Some(source.to_owned()), ..Filter::default() };
    if let Err(e) = forget_policy::run(session, &KeepArgs::default(), &filter, false, false, true) {
        session.output.warning(format_args!("nothing was forgotten: {}", e.in_full()));
    }
}
