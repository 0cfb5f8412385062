//! `lifeboat doctor`: finds what is wrong with the set-up, and says the fix.
//!
//! | module | what is looked at |
//! |---|---|
//! | this one | clock, configuration, directories, key, snapshots |
//! | `service` | the daemon, sources, channels |
//! | `store` | the store of each destination: whether it is there, has room, can be written to |

mod service;
mod store;

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use super::session::Session;
use super::text::{self, count};
use crate::config::SecretSource;
use crate::fs::size::human;
use crate::repository::slots;
use crate::repository::{Area, Repository, state};
use crate::seal::slot::Purpose;
use crate::snapshot::History;
use crate::tree::path_text;
use crate::{Error, Result};

/// Less free space than this is worth a word.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// A newest snapshot older than this is worth a word.
const AGE_DAYS_MAX: i64 = 7;
/// Sessions older than this were most likely cut off.
const SESSION_HOURS_MAX: u64 = 24;
/// This program was not there before: an earlier clock is wrong.
const BUILT_AFTER: i64 = 1_795_000_000;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 if something is wrong. Nothing is changed; `lifeboat check` looks into the repository."
)]
pub struct Doctor {}

/// How a thing that was looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Worth knowing, but nothing is broken.
    Advice,
    Bad,
}

/// Prints findings as they are found and counts them.
struct Findings<'a> {
    session: &'a Session,
    /// The destination that is looked at, where there are several.
    place: Option<String>,
    bad: u64,
    advice: u64,
}

impl Findings<'_> {
    fn good(&mut self, what: &str, text: impl std::fmt::Display) -> Result<()> {
        self.add(Verdict::Good, what, &text.to_string(), None)
    }

    fn bad(&mut self, what: &str, text: impl std::fmt::Display, fix: &str) -> Result<()> {
        self.add(Verdict::Bad, what, &text.to_string(), Some(fix))
    }

    fn advice(&mut self, what: &str, text: impl std::fmt::Display, fix: &str) -> Result<()> {
        self.add(Verdict::Advice, what, &text.to_string(), Some(fix))
    }

    fn error(&mut self, what: &str, error: &Error) -> Result<()> {
        self.add(Verdict::Bad, what, &error.to_string(), error.hint())
    }

    fn add(&mut self, verdict: Verdict, what: &str, text: &str, fix: Option<&str>) -> Result<()> {
        let word = match verdict {
            Verdict::Good => "ok",
            Verdict::Advice => "advice",
            Verdict::Bad => "wrong",
        };
        self.bad += u64::from(verdict == Verdict::Bad);
        self.advice += u64::from(verdict == Verdict::Advice);
        let output = &self.session.output;
        if output.json() {
            return output.object(
                "finding",
                &json!({
                    "verdict": word,
                    "subject": what,
                    "destination": self.place,
                    "message": text,
                    "fix": fix
                }),
            );
        }
        if verdict == Verdict::Good && output.quiet() {
            return Ok(());
        }
        match &self.place {
            Some(place) => output.line(format_args!("{word:<7} {place}, {what}: {text}"))?,
            None => output.line(format_args!("{word:<7} {what}: {text}"))?,
        }
        match fix {
            Some(fix) => output.line(format_args!("        fix: {fix}")),
            None => Ok(()),
        }
    }
}

impl Doctor {
    /// Looks at everything.
    ///
    /// # Errors
    /// If the findings cannot be printed.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let mut findings = Findings { session, place: None, bad: 0, advice: 0 };
        clock(&mut findings)?;
        configuration(&mut findings)?;
        directories(&mut findings)?;
        let has_key = key(&mut findings)?;
        service::look(&mut findings)?;
        store::look(&mut findings, has_key)?;
        let (bad, advice) = (findings.bad, findings.advice);
        if session.output.json() {
            session.output.object("summary", &json!({ "wrong": bad, "advice": advice }))?;
        } else if bad == 0 {
            session.output.line(match advice {
                0 => "Nothing is wrong.".to_owned(),
                _ => format!("Nothing is wrong; {}.", count(advice, "piece of advice", "pieces of advice")),
            })?;
        } else {
            session.output.line(format_args!("{} wrong.", count(bad, "thing is", "things are")))?;
        }
        Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn clock(findings: &mut Findings<'_>) -> Result<()> {
    let now = findings.session.settings.clock.now();
    if now.timestamp() < BUILT_AFTER {
        let fix = "Set the clock, best by NTP (timedatectl set-ntp true).";
        return findings.bad(
            "clock",
            format_args!("it says {}, which is long past", text::local_time(&now)),
            fix,
        );
    }
    findings.good("clock", text::local_time(&now))
}

fn configuration(findings: &mut Findings<'_>) -> Result<()> {
    match &findings.session.settings.config_path {
        Some(path) => findings.good("configuration", path.display()),
        None => findings.good("configuration", "no file, and none is needed"),
    }
}

fn directories(findings: &mut Findings<'_>) -> Result<()> {
    let directories = findings.session.settings.directories.clone();
    for (what, path, variable) in [
        ("cache", &directories.cache, "LIFEBOAT_CACHE_DIR"),
        ("state", &directories.state, "LIFEBOAT_STATE_DIR"),
    ] {
        match writable(path) {
            Ok(()) => findings.good(what, format_args!("{} is writable", path.display()))?,
            Err(e) => {
                let fix =
                    format!("Give its owner write permission, or name another directory by {variable}.");
                findings.bad(what, e, &fix)?;
            }
        }
    }
    match free_bytes(&directories.cache) {
        Some(free) if free < FREE_BYTES_MIN => findings.bad(
            "cache",
            format_args!("only {} are free there", human(free)),
            "Free some space, or name another directory by LIFEBOAT_CACHE_DIR.",
        ),
        _ => Ok(()),
    }
}

fn writable(directory: &Path) -> Result<()> {
    state::make_private_dir(directory)?;
    let probe = directory.join(format!(".doctor.{}", std::process::id()));
    state::write_atomically(&probe, b"")?;
    std::fs::remove_file(&probe).map_err(|e| Error::io(format_args!("cannot remove {}", probe.display()), e))
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether the repository can be tried: there is no key that is known to be bad.
fn key(findings: &mut Findings<'_>) -> Result<bool> {
    let settings = &findings.session.settings;
    let default = &settings.default_repository;
    let uses_default =
        settings.repository.is_none() && settings.destinations.is_empty() && default.key_file.exists();
    let source = settings
        .secret
        .clone()
        .or_else(|| uses_default.then(|| SecretSource::KeyFile(default.key_file.clone())));
    match source {
        None => findings.advice(
            "key",
            "none is configured: a passphrase is asked for on the terminal",
            "For backups without a person, name a key file or LIFEBOAT_PASSPHRASE_FILE.",
        )?,
        Some(source) => match source.load() {
            Ok(_) => findings.good("key", source)?,
            Err(e) => {
                findings.error("key", &e)?;
                return Ok(false);
            }
        },
    }
    Ok(true)
}

fn contents(findings: &mut Findings<'_>, repository: &Repository) -> Result<()> {
    match slots::list(repository.store(), repository.id()) {
        Ok((slots, errors)) => {
            for error in &errors {
                findings.bad(
                    "key slots",
                    error,
                    "Remove it by `lifeboat key remove` and add another, or copy `keys` back.",
                )?;
            }
            if !slots.iter().any(|slot| slot.purpose == Purpose::Recovery) && slots.len() == 1 {
                findings.advice(
                    "key slots",
                    "there is one way into the repository only",
                    "`lifeboat key recovery` makes a key to keep on paper.",
                )?;
            }
        }
        Err(e) => findings.error("key slots", &e)?,
    }
    sessions(findings, repository)?;
    match repository.load_history() {
        Ok(history) => snapshots(findings, repository, &history),
        Err(e) => findings.error("snapshots", &e),
    }
}

fn sessions(findings: &mut Findings<'_>, repository: &Repository) -> Result<()> {
    let sessions = match repository.store().list(&Area::Sessions.prefix()) {
        Ok(sessions) => sessions,
        Err(e) => return findings.error("sessions", &e),
    };
    let old = |modified: SystemTime| {
        modified.elapsed().is_ok_and(|elapsed| elapsed.as_secs() > SESSION_HOURS_MAX * 3600)
    };
    let stale = sessions.iter().filter(|info| info.modified.is_some_and(old)).count() as u64;
    if stale > 0 {
        let text = format!("{} of a backup that was most likely cut off", count(stale, "trace", "traces"));
        return findings.advice(
            "sessions",
            text,
            "The next backup from that machine continues it and takes the trace away.",
        );
    }
    match sessions.len() as u64 {
        0 => findings.good("sessions", "none open"),
        open => findings.good(
            "sessions",
            format_args!("{} open: a backup runs, or was cut off lately", count(open, "is", "are")),
        ),
    }
}

fn snapshots(findings: &mut Findings<'_>, repository: &Repository, history: &History) -> Result<()> {
    for unsound in &history.damaged {
        findings.bad("snapshots", &unsound.error, "`lifeboat check` shows what is touched.")?;
    }
    if let Some(trouble) = state::trouble(repository.directories()) {
        findings.error("state", &trouble)?;
    }
    let missing = repository.count_removed(history);
    if missing > 0 {
        let text = format!("{} removed without a record", count(missing, "snapshot was", "snapshots were"));
        findings.bad(
            "snapshots",
            text,
            "`lifeboat check` lists them; find out who can write to the store.",
        )?;
    }
    let Some(newest) = history.snapshots.last() else {
        return findings.bad("snapshots", "there are none yet", "Make one: lifeboat backup PATH");
    };
    let (time, now) = (newest.manifest.time, findings.session.settings.clock.now());
    let days = now.signed_duration_since(time).num_days();
    let words = format!(
        "{}, the newest {}",
        count(history.snapshots.len() as u64, "snapshot", "snapshots"),
        text::age(&time)
    );
    if time > now + chrono::TimeDelta::minutes(10) {
        findings.bad(
            "clock",
            format_args!(
                "it says {}, but the newest snapshot, of {}, was made at {}",
                text::local_time(&now),
                path_text::display(newest.manifest.host.as_bytes()),
                text::local_time(&time)
            ),
            "Set the clock of this machine, or of that one (timedatectl set-ntp true).",
        )
    } else if days > AGE_DAYS_MAX {
        findings.bad("snapshots", words, "Run `lifeboat backup` again, best from a timer.")
    } else if newest.manifest.errors_total > 0 {
        let text =
            format!("{words}; {} could not be read", count(newest.manifest.errors_total, "path", "paths"));
        findings.advice("snapshots", text, "`lifeboat snapshots latest` lists them.")
    } else {
        findings.good("snapshots", words)
    }
}
