//! `lifeboat config`: whether the configuration is right, what it comes to, and how it may look.

mod init;
mod shown;
mod validate;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use super::session::Session;
use crate::config::{Environment, schema};
use crate::tree::path_text;
use crate::{Error, Result};

/// What `lifeboat config example` prints: every key, with what it does.
const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// Commands on the configuration.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Write a configuration from the answers to a few questions
    Init(init::Init),
    /// Check the configuration, whether its destinations can be reached, and its sources read
    Validate(Validate),
    /// Print the configuration as it counts, without secrets
    Show(Show),
    /// Print the JSON Schema of the configuration file
    Schema(Schema),
    /// Print a commented configuration with every key
    Example(Example),
}

/// Arguments of `config validate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 2 if the configuration is wrong, 1 if a destination cannot be used or a source not be read. Databases are copied and \
                        programs run, as for a backup, but hooks do not run and nothing is stored."
)]
pub struct Validate {
    /// The file; the one that would be used without it
    file: Option<PathBuf>,
    /// Only read the file: reach no destination and no source
    #[arg(long)]
    offline: bool,
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
#[command(
    after_help = "What is not from the file says where it comes from. Secrets are masked; where they are is shown."
)]
pub struct Show {}

/// Arguments of `config schema`.
#[derive(Debug, Args)]
pub struct Schema {}

/// Arguments of `config example`.
#[derive(Debug, Args)]
pub struct Example {}

impl Config {
    /// Whether it works without configuration and environment.
    pub const fn needs_no_session(&self) -> bool {
        matches!(self, Self::Schema(_) | Self::Example(_))
    }

    /// The configuration file that it names.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Validate(command) => command.file.as_deref(),
            _ => None,
        }
    }

    /// Runs a command that needs no session.
    ///
    /// # Errors
    /// If it cannot be printed.
    pub fn run_alone(self, output: &Output) -> Result<ExitCode> {
        match self {
            Self::Schema(_) => output.bytes(schema::text()?.as_bytes())?,
            _ => output.bytes(EXAMPLE.as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The command's.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Init(command) => command.run(session),
            Self::Validate(command) => command.run(session),
            Self::Show(command) => command.run(session),
            Self::Schema(_) | Self::Example(_) => self.run_alone(&session.output),
        }
    }
}

impl Validate {
    /// The configuration was read and checked before: a wrong one ends every command with exit code 2.
    fn run(self, session: &Session) -> Result<ExitCode> {
        let mut checks = vec![validate::file(session)];
        if !self.offline {
            if !session.settings.sources.is_empty() {
                checks.push(validate::key(session));
            }
            checks.extend(validate::destinations(session)?);
            checks.extend(validate::sources(session)?);
        }
        validate::print(session, &checks)
    }
}

impl Show {
    fn run(self, session: &Session) -> Result<ExitCode> {
        let settings = &session.settings;
        let written = match &settings.config_path {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|e| Error::io(path.display(), e))?;
                toml::from_str(&text).map_err(|e| Error::usage(e.message()))?
            }
            None => json!({}),
        };
        let shown = shown::of(written, settings, &Environment::read()?);
        if session.output.json() {
            let file = settings.config_path.as_ref().map(|path| {
                use std::os::unix::ffi::OsStrExt as _;
                path_text::to_text(path.as_os_str().as_bytes())
            });
            let object = json!({ "file": file, "settings": shown.settings, "origins": shown.origins });
            session.output.object("configuration", &object)?;
        } else {
            let file = settings.config_path.as_ref().map(|path| path.display().to_string());
            session.output.line(format_args!("# {}", file.as_deref().unwrap_or("no configuration file")))?;
            session.output.bytes(shown.toml()?.as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
