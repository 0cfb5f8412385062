//! The backup of a source of the configuration: hooks, what it is, where it goes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::backup_job::{Done, Job};
use super::progress::Work;
use super::session::Session;
use crate::backup::{BackupOptions, Guards};
use crate::config;
use crate::events::Context;
use crate::source::hooks::{self, Told};
use crate::{Kind, Result, source};

/// How a source is backed up this time.
#[derive(Debug, Clone)]
pub struct SourceRun {
    /// What for: the snapshot's class.
    pub class: String,
    /// More tags than those of the configuration.
    pub tags: Vec<String>,
    /// Only to these destinations, in place of those of the configuration.
    pub to: Vec<String>,
    /// Read all files, also those that look unchanged.
    pub rescan: bool,
    /// It may be smaller than it was by any share, this once.
    pub accept_shrink: bool,
    /// Store nothing. Hooks do not run.
    pub dry_run: bool,
}

impl SourceRun {
    /// A run for a class.
    pub fn of_class(class: &str) -> Self {
        Self {
            class: class.to_owned(),
            tags: Vec::new(),
            to: Vec::new(),
            rescan: false,
            accept_shrink: false,
            dry_run: false,
        }
    }
}

/// Backs up a source: its hooks run, it is opened, read, and stored at its destinations.
///
/// # Errors
/// Those of hooks whose failure is an error, of the source, of the store; `Interrupted`.
pub fn backup_source(session: &Session, source: &config::Source, run: &SourceRun) -> Result<Done> {
    if run.dry_run {
        return store(session, source, run);
    }
    let mut told = Told { source: source.name.clone(), class: run.class.clone(), ..Told::default() };
    let running = session.begin(Work::Quiet);
    let before = hooks::run(&source.hooks.before, "before", &told, running.context());
    running.end();
    let mut result = before.and_then(|()| store(session, source, run));
    told.outcome = Some(match &result {
        Ok(done) if done.is_complete() => "success",
        Ok(_) => "incomplete",
        Err(e) if e.kind() == Kind::Interrupted => "interrupted",
        Err(_) => "failed",
    });
    told.snapshot =
        result.as_ref().ok().and_then(|done| Some(done.outcome.snapshot.as_ref()?.id.to_string()));
    told.error = result.as_ref().err().map(ToString::to_string);
    let running = session.begin(Work::Quiet);
    // They run also after somebody asked to stop: what `before` has stopped must be started again.
    let context = Context::new(running.context().listener(), Arc::new(AtomicBool::new(false)));
    let hooks = &source.hooks;
    let (which, when) = if result.is_ok() { (&hooks.after, "after") } else { (&hooks.failed, "failed") };
    let ended = hooks::run(which, when, &told, &context);
    let finally = hooks::run_all(&hooks.finally, "finally", &told, &context);
    running.end();
    match (&result, ended.and(finally)) {
        (Ok(_), Err(e)) => result = Err(e),
        // What went wrong first counts; this is said, too.
        (Err(_), Err(e)) => session.output.warning(e),
        (_, Ok(())) => {}
    }
    result
}

fn store(session: &Session, source: &config::Source, run: &SourceRun) -> Result<Done> {
    let settings = &session.settings;
    let guards = match run.accept_shrink {
        true => Guards { shrink_max: None, expect_all: false, ..source.guards },
        false => source.guards,
    };
    let options = BackupOptions {
        host: settings.host.clone(),
        user: settings.user.clone(),
        source: Some(source.name.clone()),
        tags: super::backup_options::each_once(&[&source.tags[..], &run.tags].concat()),
        class: run.class.clone(),
        rescan: run.rescan,
        dry_run: run.dry_run,
        guards,
        clock: settings.clock.clone(),
        level: source.level.unwrap_or(settings.backup.level),
        ..BackupOptions::default()
    };
    // A place that was named on the command line is meant, whatever the configuration says.
    let to = match settings.repository {
        _ if !run.to.is_empty() => &run.to[..],
        Some(_) => &[],
        None => &source.to,
    };
    let opener = source::of(source, settings);
    Job { source: &*opener, to, options: &options }.run(session).map_err(|e| {
        if e.kind() == Kind::Interrupted { e } else { e.context(format_args!("source {}", source.name)) }
    })
}
