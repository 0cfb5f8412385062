//! Backing up: for each changed entry, cut it, skip what is known, seal, pack, store; then the index, then the snapshot.
//!
//! | module | job |
//! |---|---|
//! | [`plan`] | which paths and given files, as a tree from the root |
//! | [`parent`] | the snapshot to compare with, and its directories in order |
//! | [`schedule`] | tasks for all worker threads |
//! | [`directory`] | a directory whose entries come in, in any order |
//! | [`scan`] | list a directory, compare, hand out tasks |
//! | [`file`](mod@file) | read and cut small files |
//! | [`large`] | read and cut large files with all cores |
//! | [`record`] | counts and errors of the run |
//! | [`guards`] | what must hold before a snapshot is written |
//! | [`gone`] | what was in the last snapshot and is gone |
//! | [`commit`] | write the snapshot |
//! | [`destinations`] | the other destinations of the run |

mod commit;
pub mod destinations;
mod directory;
mod file;
mod gone;
mod guards;
mod large;
mod parent;
mod plan;
mod record;
mod scan;
mod schedule;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::compress::Level;
use crate::events::{Context, Counters, Event};
use crate::fetch::ChunkReader;
use crate::fs::Owners;
use crate::index::Index;
use crate::ingest::{ChunkSink, Ingest, IngestOptions};
use crate::repository::lost::Look;
use crate::repository::state::{self, LockedMemory};
use crate::repository::{OwnDirectories, Repository, Tombstones};
use crate::scan::exclude::ExcludeRules;
use crate::session::leftovers::{self, Leftovers};
use crate::session::{self, OpenSession, Role};
use crate::snapshot::history::witness;
use crate::snapshot::manifest::Summary;
use crate::snapshot::{History, Snapshot};
use crate::tree::Entry;
use crate::{Error, Result, locks};

use destinations::{Destination, DestinationOutcome};
pub use guards::Guards;
pub use plan::{Given, Plan};
use record::Record;
use schedule::Scheduler;

/// Deep trees are finished from the deepest directory upwards, so a worker needs some stack (virtual memory only).
const WORKER_STACK_BYTES: usize = 16 << 20;

/// What to back up and how.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The machine's name.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// Name of the source.
    pub source: Option<String>,
    /// Tags for the snapshot.
    pub tags: Vec<String>,
    /// The history it belongs to.
    pub class: String,
    /// Compare with this snapshot instead of the newest of the same host and source or paths.
    pub parent: Option<String>,
    /// Compare with no snapshot: read everything.
    pub rescan: bool,
    /// Store nothing.
    pub dry_run: bool,
    /// Do not go into other file systems.
    pub one_file_system: bool,
    /// What must hold, or there is no snapshot.
    pub guards: Guards,
    /// What time it is.
    pub clock: Clock,
    /// How hard to compress.
    pub level: Level,
    /// Decode and compare every segment before it is stored; see [`IngestOptions::verify`].
    pub verify: bool,
    /// Worker threads; 0 for one a core.
    pub threads: usize,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            host: String::new(),
            user: String::new(),
            source: None,
            tags: Vec::new(),
            class: "manual".to_owned(),
            parent: None,
            rescan: false,
            dry_run: false,
            one_file_system: false,
            guards: Guards::default(),
            clock: Clock::System,
            level: Level::DEFAULT,
            verify: true,
            threads: 0,
        }
    }
}

/// What a backup came to.
#[derive(Debug)]
pub struct Outcome {
    /// The snapshot; `None` for a dry run.
    pub snapshot: Option<Snapshot>,
    /// Counts and bytes.
    pub summary: Summary,
    /// The snapshot it was compared with.
    pub parent: Option<String>,
    /// How many paths could not be read as they are.
    pub errors_total: u64,
    /// How many sockets were noted; nothing can be restored of them.
    pub sockets: u64,
    /// The other destinations, and what became of the snapshot there.
    pub destinations: Vec<DestinationOutcome>,
}

/// All that the worker threads of one backup share.
struct Run<'a> {
    options: &'a BackupOptions,
    exclude: &'a ExcludeRules,
    ingest: &'a Ingest,
    reader: &'a ChunkReader,
    context: &'a Context,
    scheduler: Scheduler,
    record: Record,
    owners: Mutex<Owners>,
    trust: parent::Trust,
    /// What is never backed up.
    own: OwnDirectories,
    /// Of that, what was met.
    left_out: Mutex<Vec<Vec<u8>>>,
}

/// Backs up `plan` into `repository` and writes a snapshot.
///
/// # Errors
/// `Interrupted` if asked to stop: all that was stored is kept and the next run continues; errors of the store; a named parent that is
/// not there; `Usage` if all that was named is the repository itself or its cache; `Failed` if a guard refuses the snapshot; that of a given
/// file which cannot be read. Unreadable files are no error: they are counted in the outcome.
pub fn run(
    repository: &Repository,
    plan: Plan,
    exclude: &ExcludeRules,
    options: &BackupOptions,
    context: &Context,
) -> Result<Outcome> {
    run_to_all(repository, Vec::new(), plan, exclude, options, context)
}

/// As [`run`], and to other destinations of the same repository at the same time. What goes wrong there is in the outcome.
///
/// # Errors
/// As [`run`], of `repository` alone.
pub fn run_to_all(
    repository: &Repository,
    others: Vec<Destination>,
    mut plan: Plan,
    exclude: &ExcludeRules,
    options: &BackupOptions,
    context: &Context,
) -> Result<Outcome> {
    let started = Instant::now();
    let start = options.clock.local();
    refuse_own(&plan, &OwnDirectories::of(repository))?;
    if !options.dry_run {
        // What would end the run at its very end is better known now.
        drop(LockedMemory::open(repository.directories())?);
    }
    let session = match options.dry_run {
        true => None,
        false => Some(session::open(repository, &options.host, Role::Writer)?),
    };
    // A run that reads everything anew also looks whether what it leaves out as known is there.
    let look = if options.rescan { Look::Now } else { Look::Daily };
    let prepared = prepare(repository, &plan, options, look, session.as_ref(), context);
    let (parent, index, leftovers) = match prepared {
        Ok(prepared) => prepared,
        Err(e) => {
            // Nothing is stored yet. What stays of the session is met by the next run.
            let _ = close(session);
            return Err(e);
        }
    };
    let parent = parent.as_ref();
    // What the source had last time is the best guess at what it has now.
    let expected = parent.map_or(0, |parent| parent.manifest.summary.bytes_total);
    context.counters.bytes_total.store(expected, std::sync::atomic::Ordering::Relaxed);
    let ingest_options =
        IngestOptions { level: options.level, verify: options.verify, dry_run: options.dry_run };
    let others = if options.dry_run { Vec::new() } else { others };
    let (mirrors, preparing) = destinations::start(others, &options.host, look, context);
    let ingest = Ingest::start_with_mirrors(repository, index.clone(), ingest_options, mirrors, context)?;
    if let Some(session) = &session {
        ingest.indexer().tell(session.beats().clone());
        leftovers.adopt(session, &index, ingest.indexer(), context)?;
    }
    let reader = ChunkReader::new(repository, index).only_here();
    let gone = parent.map(|parent| gone::look(&plan, parent, &reader)).transpose()?;
    for gone in gone.unwrap_or_default() {
        match options.guards.expect_all {
            true => plan.lack(
                &gone.path,
                gone.kind,
                format!("{}. {}", gone.message, guards::acceptance(options.source.as_deref())),
            ),
            false => context.report(Event::Warning(gone::warning(&gone))),
        }
    }
    let run = Run {
        options,
        exclude,
        ingest: &ingest,
        reader: &reader,
        context,
        scheduler: Scheduler::new(),
        record: Record::new(context.clone()),
        owners: Mutex::new(Owners::new()),
        trust: parent::Trust::since(parent, options.rescan),
        // Now that all of them are made.
        own: OwnDirectories::of(repository),
        left_out: Mutex::default(),
    };
    for missing in &plan.missing {
        run.record.error(missing.path.clone(), missing.kind, missing.message.clone());
    }
    context.report(Event::Phase("backing up"));
    let root = run.everything(&plan, parent).and_then(|root| {
        options.guards.judge(&run.record.summary(), parent)?;
        Ok(root)
    });
    // Whatever happened, what was stored is completed and indexed: the next run continues from it.
    let kept = if options.dry_run { Ok(()) } else { ingest.finish() };
    let mut others = ingest.finish_mirrors();
    let root = match (root, kept) {
        (Ok(root), Ok(())) => root,
        // An upload's error is the cause; that the workers stopped is its consequence. The session stays, so that the next run looks for
        // packs that are not indexed.
        (_, Err(e)) => {
            destinations::abandon(others, preparing);
            return Err(e);
        }
        (Err(e), Ok(())) => {
            destinations::abandon(others, preparing);
            close(session)?;
            return Err(if e.kind() == crate::Kind::Interrupted { interrupted(context) } else { e });
        }
    };
    let mut summary = run.record.summary();
    summary.bytes_stored = Counters::get(&context.counters.bytes_stored);
    summary.seconds = started.elapsed().as_secs_f64();
    let parent_id = parent.map(|snapshot| snapshot.id.to_string());
    let (errors_total, sockets) = (run.record.errors_total(), run.record.sockets());
    if options.dry_run {
        return Ok(Outcome {
            snapshot: None,
            summary,
            parent: parent_id,
            errors_total,
            sockets,
            destinations: Vec::new(),
        });
    }
    context.report(Event::Phase("writing the snapshot"));
    let draft = commit::Draft { start, root, plan: &plan, parent: parent_id.clone(), summary };
    let snapshot = match commit::commit(repository, &run, draft, session.as_ref()) {
        Ok(snapshot) => snapshot,
        Err(e) => {
            destinations::abandon(others, preparing);
            // After any other error it is not known whether the snapshot counts: whoever ends the session finds out.
            if e.kind() == crate::Kind::Fenced {
                let _ = close(session);
            }
            return Err(e);
        }
    };
    // The snapshot is made whatever becomes of the session, which a policy may forbid to remove.
    if let Err(e) = close(session) {
        context.report(Event::Warning(format!(
            "{e}. The snapshot is made; the next backup looks for traces of this one."
        )));
    }
    locks::extend(repository, run.reader, run.reader.index(), &[&snapshot], context);
    repository.trim_object_cache();
    let (late, mut destinations) = preparing.finish(context);
    others.extend(late);
    destinations.extend(destinations::catch_up(repository, others, &snapshot, &options.host, context));
    let is_behind = |outcome: &&DestinationOutcome| outcome.stored.is_none();
    let behind: Vec<_> = destinations.iter().filter(is_behind).map(|outcome| outcome.place.clone()).collect();
    if let Err(e) = state::owe(repository.directories(), &behind, &witness(&snapshot)) {
        context.report(Event::Warning(e.to_string()));
    }
    Ok(Outcome { snapshot: Some(snapshot), summary, parent: parent_id, errors_total, sockets, destinations })
}

/// Reads what the run relies on, after its session is known: snapshots, then the index.
fn prepare(
    repository: &Repository,
    plan: &Plan,
    options: &BackupOptions,
    look: Look,
    session: Option<&OpenSession>,
    context: &Context,
) -> Result<(Option<Snapshot>, Arc<Index>, Leftovers)> {
    let leftovers = match session {
        Some(session) => {
            repository.look_at_space(context)?;
            leftovers::settle(session, &options.host, context)?
        }
        None => Leftovers::default(),
    };
    context.report(Event::Phase("reading snapshots"));
    let history = repository.load_history()?;
    warn_about_missing(repository, &history, context);
    // One that is named and not there is said before the index is loaded.
    let parent = parent::choose(&history, plan, options)?.cloned();
    context.report(Event::Phase("loading the index"));
    let sound = match session {
        Some(session) => session.load_sound_index(look, context)?,
        None => repository.load_sound_index(&Tombstones::default(), look, context)?,
    };
    Ok((parent, Arc::new(sound.index), leftovers))
}

fn close(session: Option<OpenSession>) -> Result<()> {
    session.map_or(Ok(()), OpenSession::close)
}

impl Run<'_> {
    /// Runs all tasks to the end and returns the root directory.
    fn everything(&self, plan: &Plan, parent: Option<&Snapshot>) -> Result<Entry> {
        let result = directory::Finished::default();
        // In a rescan nothing is taken from it; files are counted as changed or not by it.
        let old_root = parent.and_then(|snapshot| snapshot.manifest.root().ok());
        self.scheduler.push_directory(directory::root(plan, old_root, result.clone())?);
        self.run_workers();
        self.context.check_stop()?;
        self.scheduler.outcome()?;
        directory::taken(&result)
    }

    fn run_workers(&self) {
        let threads = crate::threads::count(self.options.threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let worker =
                    std::thread::Builder::new().name("backup".to_owned()).stack_size(WORKER_STACK_BYTES);
                if let Err(e) = worker.spawn_scoped(scope, || self.work()) {
                    self.scheduler.fail(Error::io("cannot start a thread", e));
                }
            }
        });
    }

    /// One worker: tasks until there are none.
    fn work(&self) {
        // A panic must not leave the other workers waiting for ever.
        let guard = schedule::FailOnPanic(&self.scheduler);
        if let Err(e) = self.work_until_done() {
            self.scheduler.fail(e);
        }
        std::mem::forget(guard);
    }

    fn work_until_done(&self) -> Result<()> {
        let mut sink = ChunkSink::new(self.ingest)?;
        let done = self.run_tasks(&mut sink);
        // Also after an interruption: chunks that were read are worth keeping.
        let flushed = if self.options.dry_run { Ok(()) } else { sink.flush() };
        self.record.add_chunks(sink.chunks_added, sink.bytes_added);
        done.and(flushed)
    }

    fn run_tasks(&self, sink: &mut ChunkSink<'_>) -> Result<()> {
        let mut buffer = Vec::new();
        while let Some(task) = self.scheduler.next() {
            let _running = schedule::Running(&self.scheduler);
            if self.context.stopped() {
                self.scheduler.stop();
                return Ok(());
            }
            match task {
                schedule::Task::Directory(directory) => self.scan(directory, sink)?,
                schedule::Task::Files(files) => self.read_files(files, sink, &mut buffer)?,
                schedule::Task::Large(large) => self.read_large(large, sink)?,
                schedule::Task::Block(block) => self.store_block(block, sink)?,
            }
        }
        Ok(())
    }
}

fn warn_about_missing(repository: &Repository, history: &History, context: &Context) {
    for unsound in &history.damaged {
        context.report(Event::Damage(unsound.error.to_string()));
    }
    if let Some(removed) = repository.removed_snapshots(history) {
        context.report(Event::Warning(removed));
    }
}

/// A repository is never backed up into itself: if nothing else was named, there is nothing to do.
fn refuse_own(plan: &Plan, own: &OwnDirectories) -> Result<()> {
    match plan.all_inside(own) {
        None => Ok(()),
        Some((path, what)) => Err(Error::usage(format_args!(
            "{} is {what}, or lies in it: there is nothing to back up",
            crate::tree::path_text::display(path)
        ))
        .with_hint(
            "Name what is to be backed up; a second copy of a repository is made by copying its files.",
        )),
    }
}

fn interrupted(context: &Context) -> Error {
    let error = Error::interrupted();
    match Counters::get(&context.counters.bytes_stored) {
        0 => error.with_hint("No snapshot was made, and nothing was stored: the same command begins anew."),
        stored => error.with_hint(format_args!(
            "No snapshot was made, but {} that were stored are kept: the same command continues from there.",
            crate::fs::size::human(stored)
        )),
    }
}

#[cfg(test)]
#[path = "given_tests.rs"]
mod tests;
