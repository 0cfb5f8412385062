//! `lifeboat daemon` and `lifeboat reload`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::thread;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::output::Output;
use super::run::daemon_of;
use super::run::show::Shown;
use super::session::Globals;
use crate::config::{Environment, Overrides, Settings};
use crate::daemon::child::Program;
use crate::daemon::protocol::Request;
use crate::daemon::{self, Level, Loaded, Message, socket};
use crate::repository::state::{make_private_dir, write_atomically};
use crate::{Error, Kind, Result};

/// Arguments of `daemon`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs in the foreground, as systemd wants it (deploy/systemd/lifeboat.service). SIGHUP or `lifeboat reload` makes it read its configuration anew; \
                        SIGTERM ends it within seconds, and what was stored is used by the next run; a second one ends it at once."
)]
pub struct Daemon {}

/// Arguments of `reload`.
#[derive(Debug, Args)]
#[command(
    after_help = "A configuration that means nothing is refused as a whole, and the old one stays: exit code 2."
)]
pub struct Reload {}

impl Daemon {
    /// Runs until a signal ends it.
    ///
    /// # Errors
    /// As [`daemon::run`].
    pub fn run(self, globals: &Globals, output: &Output, environment: &Environment) -> Result<ExitCode> {
        let loader = Loader { globals, environment };
        let read = || loader.read();
        let (sender, messages) = daemon::messages();
        pass_signals_on(sender.clone())?;
        let say = |level: Level, text: &str| match level {
            Level::Info => output.say(text),
            Level::Warning => output.warning(text),
        };
        daemon::run(&read, &say, sender, &messages)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Reload {
    /// Has the daemon read its configuration anew.
    ///
    /// # Errors
    /// `Usage` if it refuses the configuration; if no daemon runs with it.
    pub fn run(self, session: &super::session::Session) -> Result<ExitCode> {
        let Some(path) = daemon_of(session)? else {
            return Err(Error::failed("no daemon runs with this configuration").with_hint(
                "Start it with `systemctl start lifeboat`, or `lifeboat daemon`. Without a daemon there is nothing to reload.",
            ));
        };
        let mut shown = Shown::default();
        socket::ask(&path, &Request::Reload, session.signals.stop(), |line| {
            shown.line(&session.output, line).is_ok()
        })?;
        let code = shown.outcome()?;
        session.output.say("The configuration was read anew.");
        Ok(code)
    }
}

/// Reads the configuration, first and again. Jobs get a copy of what was accepted: whoever edits the file edits nothing that runs.
struct Loader<'a> {
    globals: &'a Globals,
    environment: &'a Environment,
}

impl Loader<'_> {
    fn overrides(&self) -> Overrides {
        Overrides {
            repository: self.globals.repository.clone(),
            config: self.globals.config.clone(),
            key_file: self.globals.key_file.clone(),
            ..Overrides::default()
        }
    }

    /// Reads it into a copy that is not accepted yet.
    fn read(&self) -> Result<Loaded> {
        // Who may write to it is looked at where it lies, and errors name it.
        let settings = Settings::load(self.overrides(), self.environment)?;
        let Some(path) = settings.config_path.clone() else {
            return Err(Error::usage("the daemon needs a configuration, and there is none")
                .with_hint("`lifeboat config init` writes one."));
        };
        let path = std::path::absolute(&path).map_err(|e| Error::io(path.display(), e))?;
        let base = path.parent().unwrap_or_else(|| Path::new("/")).to_path_buf();
        match copy_of(&path, &settings.directories.state.join("running")) {
            Ok(copy) => {
                // What is in the copy counts, whatever happened to the file meanwhile.
                let overrides = Overrides {
                    config: Some(copy.clone()),
                    config_base: Some(base.clone()),
                    ..self.overrides()
                };
                let mut settings = Settings::load(overrides, self.environment)?;
                settings.config_path = Some(path);
                let accepted = copy.with_extension("toml");
                let program = self.program(&accepted, &base)?;
                Ok(Loaded { settings, program, copy: Some((copy, accepted)) })
            }
            // A full disk must not keep anything from being protected that can be.
            Err(e) if e.kind() == Kind::Quota => {
                let program = self.program(&path, &base)?;
                Ok(Loaded { settings, program, copy: None })
            }
            Err(e) => Err(e),
        }
    }

    fn program(&self, config: &Path, base: &Path) -> Result<Program> {
        let path = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
        let mut arguments: Vec<OsString> =
            vec!["--config".into(), config.into(), "--config-base".into(), base.into()];
        if let Some(key_file) = &self.globals.key_file {
            let key_file = std::path::absolute(key_file).map_err(|e| Error::io(key_file.display(), e))?;
            arguments.extend(["--key-file".into(), key_file.into()]);
        }
        if let Some(repository) = &self.globals.repository {
            arguments.extend(["--repository".into(), repository.clone()]);
        }
        Ok(Program { path: path.into(), arguments })
    }
}

/// A private copy that is about to be accepted.
fn copy_of(path: &Path, directory: &Path) -> Result<PathBuf> {
    make_private_dir(directory)?;
    let text = fs::read(path).map_err(|e| Error::io(path.display(), e))?;
    let copy = directory.join("config.new");
    write_atomically(&copy, &text)?;
    Ok(copy)
}

fn pass_signals_on(sender: Sender<Message>) -> Result<()> {
    let cannot = |e| Error::io("cannot handle signals", e);
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
    let pass = move || {
        for signal in signals.forever() {
            let message = if signal == SIGHUP { Message::Reload } else { Message::Stop };
            if sender.send(message).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(pass).map(drop).map_err(cannot)
}
