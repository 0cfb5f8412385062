//! What `lifeboat config validate` looks at: a list of checks, each with what it found.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::cli::destinations;
use crate::cli::progress::Work;
use crate::cli::session::{Session, Target};
use crate::config::Source;
use crate::fs::size::human;
use crate::repository::connect::Mode;
use crate::repository::{Store, create};
use crate::source::{self, Entries};
use crate::tree::path_text;
use crate::words::count;
use crate::{Error, Kind, Result};

/// Something that was looked at.
pub(super) struct Check {
    /// What it is called.
    pub name: String,
    /// What was found, or what is wrong.
    pub outcome: Result<String>,
}

/// The file, which was read and checked before any command runs.
pub(super) fn file(session: &Session) -> Check {
    let outcome = match &session.settings.config_path {
        Some(path) => Ok(format!("{} is right", path.display())),
        None => Err(Error::usage("there is no configuration file")
            .with_hint("`lifeboat config example` prints one; `lifeboat config validate FILE` names one.")),
    };
    Check { name: "file".to_owned(), outcome }
}

/// Whether there is a key, as the service needs one: nobody is there to be asked.
pub(super) fn key(session: &Session) -> Check {
    let outcome = match &session.settings.secret {
        Some(source) => source.load().map(|_| format!("{source} can be read")),
        None => Err(Error::new(
            Kind::WrongKey,
            "nothing says where the key is: the service cannot ask for a passphrase",
        )
        .with_hint(
            "Write `passphrase_file` or `key_file` into the configuration; `lifeboat config init` makes one.",
        )),
    };
    Check { name: "key".to_owned(), outcome }
}

/// Each destination: whether its store can be reached, and the repository there opens. Nothing is written there.
///
/// # Errors
/// `Interrupted`; `Usage` for places that mean nothing.
pub(super) fn destinations(session: &Session) -> Result<Vec<Check>> {
    let targets = destinations::chosen(session, &[])?;
    let mut checks = Vec::new();
    for target in targets.iter().filter(|target| !target.is_default) {
        let outcome = destination(session, target);
        if let Err(error) = &outcome
            && error.kind() == Kind::Interrupted
        {
            return Err(Error::interrupted());
        }
        checks.push(Check { name: format!("destination {}", target.name), outcome });
    }
    Ok(checks)
}

fn destination(session: &Session, target: &Target) -> Result<String> {
    let place = target.location.place();
    if let Some(path) = target.location.local_path()
        && !path.exists()
    {
        return match path.parent().filter(|parent| parent.is_dir()) {
            Some(_) => Ok(format!("{place} is not there yet: `lifeboat init` makes it")),
            None => Err(Error::new(
                Kind::NoRepository,
                format_args!("{place} is not there, nor what it is to lie in"),
            )
            .with_hint("Check the path; is the disk mounted?")),
        };
    }
    let provider = target.connect(Mode::Open)?;
    if !create::exists(&Store::new(provider)?)? {
        return Ok(format!("{place} can be reached and has no repository yet: `lifeboat init` makes it"));
    }
    if session.settings.secret.is_none() {
        return Ok(format!("{place} has a repository; it was not opened, as no key is configured"));
    }
    let (repository, _) = session.open_target(target)?;
    Ok(format!("{} opens", repository.store().location()))
}

/// Prints them, one a line, and says by the exit code how it is.
///
/// # Errors
/// If they cannot be printed.
pub(super) fn print(session: &Session, checks: &[Check]) -> Result<ExitCode> {
    let mut code = 0;
    for Check { name, outcome } in checks {
        let (word, text, hint) = match outcome {
            Ok(text) => ("ok", text.clone(), None),
            Err(error) => ("error", error.to_string(), error.hint()),
        };
        if let Err(error) = outcome {
            let own =
                if error.kind() == Kind::Usage { Kind::Usage.exit_code() } else { Kind::Failed.exit_code() };
            code = code.max(own);
        }
        if session.output.json() {
            let object = json!({ "check": name, "ok": outcome.is_ok(), "text": text, "hint": hint });
            session.output.object("check", &object)?;
            continue;
        }
        session.output.line(format_args!("{word:<6} {name}: {text}"))?;
        if let Some(hint) = hint {
            session.output.line(format_args!("       {hint}"))?;
        }
    }
    Ok(ExitCode::from(code))
}

/// Each source, dry: what it names is looked for, databases are copied and checked, programs run and what they print is counted. Nothing is stored,
/// and hooks do not run.
///
/// # Errors
/// `Interrupted`.
pub(super) fn sources(session: &Session) -> Result<Vec<Check>> {
    let settings = &session.settings;
    let mut checks = Vec::new();
    for source in &settings.sources {
        let running = session.begin(Work::Quiet);
        let opened = source::of(source, settings).open(running.context());
        let outcome = opened.and_then(|entries| dry(source, &entries));
        running.end();
        if session.signals.stop().load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        checks.push(Check { name: format!("source {}", source.name), outcome });
    }
    Ok(checks)
}

fn dry(source: &Source, entries: &Entries) -> Result<String> {
    if let Some((path, why)) = entries.plan.lacking().next() {
        return Err(Error::failed(format_args!("{}: {why}", path_text::display(path)))
            .with_hint("The rest of the source is backed up without it, and each run says so."));
    }
    let (files, bytes) = entries.plan.read_given()?;
    Ok(match source.kind_word() {
        "command" if bytes == 0 => {
            return Err(Error::failed("the program printed nothing").with_hint("Run it by hand to see why."));
        }
        "command" => format!("the program printed {}", human(bytes)),
        "sqlite" => format!("{}, {}, whole", count(files, "database", "databases"), human(bytes)),
        _ => format!("{} there", count(entries.plan.paths().len() as u64, "path is", "paths are")),
    })
}
