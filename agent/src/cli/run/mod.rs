//! `lifeboat run`: jobs of the configuration, through the running daemon or here.
//!
//! | module | job |
//! |---|---|
//! | [`job`] | one job from its lock to its last word |
//! | [`recorder`] | what it says and comes to, into the ledger |
//! | [`verify`] | a part of the stored data read and compared |
//! | [`tell`] | what of it is worth a notification, and to monitoring |
//! | [`show`] | the object of a run, and its lines for people |

mod job;
mod recorder;
pub mod show;
mod tell;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;

use super::session::Session;
use super::text::not_empty;
use crate::daemon::dues::takes;
use crate::daemon::protocol::Request;
use crate::daemon::socket;
use crate::ledger::{Job, JobKind, Trigger};
use crate::{Error, Kind, Result};

/// A run whose daemon is gone ends within that.
const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "A source is backed up with its hooks to its destinations; then what its policy does not keep is forgotten. A class runs all sources \
                        that take it. With a daemon running, the daemon runs it, and what it says is shown; Ctrl-C then ends only the showing.\n\n\
                        Exit code: the worst of all jobs."
)]
pub struct Run {
    /// Sources of the configuration, or a class (hourly, daily …) for all its sources
    #[arg(value_name = "SOURCE|CLASS", value_parser = not_empty)]
    names: Vec<String>,
    /// Which history the snapshots belong to [default: manual, or the class that was named]
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    class: Option<String>,
    /// Back up all sources
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Free what no snapshot needs, at all destinations
    #[arg(long)]
    prune: bool,
    /// Read and compare the part of the stored data that was not read for longest
    #[arg(long)]
    check: bool,
    /// Make a snapshot though the source shrank beyond its limit
    #[arg(long)]
    accept_shrink: bool,
    /// Run it here, also if a daemon is running
    #[arg(long)]
    here: bool,
    /// Ends with the process that started it
    #[arg(long, hide = true)]
    supervised: bool,
    /// Why it is run
    #[arg(long, hide = true, value_parser = trigger, default_value = "manual")]
    cause: Trigger,
}

fn trigger(text: &str) -> Result<Trigger, String> {
    Trigger::of_word(text).ok_or_else(|| format!("{text:?} is no reason for a run"))
}

impl Run {
    /// Runs the jobs.
    ///
    /// # Errors
    /// `Usage` for a name that is neither a source nor a class. What a job comes to is in the exit code.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        if self.supervised {
            // The daemon asked for this; if it was killed, nobody takes down what this one does.
            let _ = set_parent_process_death_signal(Some(Signal::TERM));
        }
        let jobs = self.jobs(session)?;
        if !self.here
            && let Some(code) = self.through_daemon(session, &jobs)?
        {
            return Ok(code);
        }
        // What a daemon that was killed had begun is about to end.
        let patience = if self.supervised { PREDECESSOR_ENDS_WITHIN } else { Duration::ZERO };
        let how = job::How { accept_shrink: self.accept_shrink, patience };
        let mut worst = 0;
        for job in &jobs {
            let code = job::run(session, job, how)?;
            worst = crate::daemon::worse(worst, code);
            if code == Kind::Interrupted.exit_code() {
                break;
            }
        }
        Ok(ExitCode::from(worst))
    }

    fn jobs(&self, session: &Session) -> Result<Vec<Job>> {
        let settings = &session.settings;
        let mut jobs = Vec::new();
        let backup = |source: &str, class: &str| Job {
            kind: JobKind::Backup,
            source: Some(source.to_owned()),
            class: Some(class.to_owned()),
            cause: self.cause,
        };
        let class = self.class.as_deref().unwrap_or("manual");
        if self.all {
            jobs.extend(settings.sources.iter().map(|source| backup(&source.name, class)));
        }
        for name in &self.names {
            if settings.source(name).is_some() {
                jobs.push(backup(name, class));
                continue;
            }
            let of_class = settings.sources.iter().filter(|source| takes(source, name));
            let is_class = settings.schedule.class(name).is_some();
            if !is_class {
                return Err(self.unknown(session, name));
            }
            let class = self.class.as_deref().unwrap_or(name);
            jobs.extend(of_class.map(|source| backup(&source.name, class)));
        }
        let maintenance = [(self.prune, JobKind::Prune), (self.check, JobKind::Check)];
        let wanted = maintenance.into_iter().filter(|(is_wanted, _)| *is_wanted);
        jobs.extend(wanted.map(|(_, kind)| Job { kind, source: None, class: None, cause: self.cause }));
        match jobs.is_empty() {
            false => Ok(jobs),
            true if settings.sources.is_empty() => Err(Error::usage("the configuration has no [[source]]")
                .with_hint(
                    "`lifeboat backup PATH` needs none; `lifeboat config init` writes a configuration.",
                )),
            true => Err(Error::usage("nothing is named that is to be run").with_hint(format_args!(
                "Name a source ({}), a class, --all, --prune or --check.",
                names(session)
            ))),
        }
    }

    fn unknown(&self, session: &Session, name: &str) -> Error {
        let classes = session.settings.schedule.classes.iter().map(|class| class.name.as_str());
        let classes: Vec<&str> = classes.collect();
        Error::usage(format_args!("{name} is neither a source nor a class")).with_hint(format_args!(
            "Sources are: {}. Classes are: {}.",
            names(session),
            classes.join(", ")
        ))
    }

    /// Has the daemon do it, if one runs with this configuration.
    fn through_daemon(&self, session: &Session, jobs: &[Job]) -> Result<Option<ExitCode>> {
        let Some(path) = daemon_of(session)? else { return Ok(None) };
        let request = Request::Run { jobs: jobs.to_vec(), accept_shrink: self.accept_shrink };
        let mut shown = show::Shown::default();
        let stop = session.signals.stop();
        let mut outcome = Ok(());
        let asked = socket::ask(&path, &request, stop, |line| {
            outcome = shown.line(&session.output, line);
            outcome.is_ok()
        });
        outcome?;
        match asked {
            Ok(None) => Ok(None),
            Ok(Some(())) => shown.outcome().map(Some),
            Err(e) if e.kind() == Kind::Interrupted => {
                Err(e.with_hint("The daemon goes on with it: see `lifeboat runs`."))
            }
            Err(e) => Err(e),
        }
    }
}

fn names(session: &Session) -> String {
    let names: Vec<&str> = session.settings.sources.iter().map(|source| source.name.as_str()).collect();
    names.join(", ")
}

/// The socket of a daemon that runs with this configuration, if there is one.
///
/// # Errors
/// If one is there and does not answer.
pub fn daemon_of(session: &Session) -> Result<Option<std::path::PathBuf>> {
    let settings = &session.settings;
    let own = settings.config_path.as_ref().and_then(|path| std::fs::canonicalize(path).ok());
    for path in settings.daemon.sockets(&settings.directories.state) {
        let mut config = None;
        let asked = socket::ask(&path, &Request::State, session.signals.stop(), |line| {
            let parsed: Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(named) = parsed.get("config").and_then(Value::as_str) {
                config = std::fs::canonicalize(named).ok();
            }
            true
        });
        match asked {
            Ok(Some(())) if config.is_some() && config == own => return Ok(Some(path)),
            // Another's: what is run here has its own locks, if the state directory is the same.
            Ok(_) => {}
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => session.output.say_verbose(format_args!("{}: {e}", path.display())),
        }
    }
    Ok(None)
}
