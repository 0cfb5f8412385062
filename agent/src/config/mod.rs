//! What the person decided: command line over environment over configuration file over defaults, checked once.
//!
//! | module | job |
//! |---|---|
//! | [`daemon`] | how the service works |
//! | [`destination`] | the places that hold the repository |
//! | [`duration`] | lengths of time as they are written |
//! | [`environment`] | the only reader of environment variables |
//! | [`file`](mod@file) | the configuration file |
//! | [`name`] | names of destinations, sources and channels |
//! | [`notify`] | who is told what |
//! | [`metrics`] | where monitoring finds the figures |
//! | [`places`] | which directories and default places follow from the environment |
//! | [`retention`] | what `forget` keeps |
//! | [`routes`] | which source goes to which destination |
//! | [`schedule`] | classes, and when the daemon runs what |
//! | [`schema`](mod@schema) | the file's JSON Schema, and what in it is a secret |
//! | `secret_program` | programs that print a secret |
//! | [`secret_value`] | a secret, or where it is |
//! | [`secrets`] | where the key comes from, and reading it |
//! | [`source`] | what is backed up, how, and what runs before and after |
//!
//! No other module reads the environment (checked by `tests/it/tidy.rs`).

pub mod daemon;
pub mod destination;
pub mod duration;
pub mod environment;
pub mod file;
pub mod metrics;
pub mod name;
pub mod notify;
pub mod places;
pub mod retention;
pub mod routes;
pub mod schedule;
pub mod schema;
mod secret_program;
pub mod secret_value;
pub mod secrets;
pub mod source;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::compress::Level;
use crate::notify::{Notify, Redactor};
use crate::repository::Directories;
use crate::repository::connect::Google;
use crate::{Error, Result};

pub use daemon::Daemon;
pub use destination::Destination;
pub use environment::Environment;
pub use file::ConfigFile;
pub use metrics::Metrics;
pub use places::{DefaultRepository, Places};
pub use retention::Retention;
pub use schedule::Schedules;
pub use secret_value::SecretValue;
pub use secrets::SecretSource;
pub use source::Source;

/// What was said on the command line that other places can say too.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--repository`.
    pub repository: Option<OsString>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--key-file`.
    pub key_file: Option<PathBuf>,
    /// Where relative paths of the configuration begin, if not at its own directory.
    pub config_base: Option<PathBuf>,
}

/// All decisions, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Path or URL of the repository, or name of a destination, if any was named.
    pub repository: Option<OsString>,
    /// The destinations of the configuration, the primary first.
    pub destinations: Vec<Destination>,
    /// The sources of the configuration.
    pub sources: Vec<Source>,
    /// Where the credentials of a Google account are, for places that are no destination.
    pub google: Google,
    /// Where the key comes from, if anything says so.
    pub secret: Option<SecretSource>,
    /// Cache and state of this machine.
    pub directories: Directories,
    /// The repository that is used, and made, when none is named.
    pub default_repository: DefaultRepository,
    /// What `backup` does unless told otherwise.
    pub backup: BackupDefaults,
    /// How the service works.
    pub daemon: Daemon,
    /// What `forget` keeps.
    pub retention: Retention,
    /// Who is told what.
    pub notify: Notify,
    /// When the daemon runs what.
    pub schedule: Schedules,
    /// Where monitoring finds the figures.
    pub metrics: Metrics,
    /// The configuration file that was read.
    pub config_path: Option<PathBuf>,
    /// Where a new one is written.
    pub new_config_path: PathBuf,
    /// The machine's name.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// What time it is.
    pub clock: Clock,
    /// Whether colours are welcome.
    pub color: bool,
}

/// What `backup` does unless told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupDefaults {
    /// How hard to compress.
    pub level: Level,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Files of such patterns.
    pub exclude_file: Vec<PathBuf>,
    /// Leave out the contents of caches that are tagged as such.
    pub exclude_caches: bool,
    /// Do not go into other file systems.
    pub one_file_system: bool,
}

impl Settings {
    /// Reads the configuration file and merges everything.
    ///
    /// # Errors
    /// `Usage` for a configuration that cannot be read or means nothing, or when no home directory is known.
    pub fn load(overrides: Overrides, environment: &Environment) -> Result<Self> {
        let places = Places::of(environment)?;
        let config_path = match &overrides.config {
            Some(path) => Some(path.clone()),
            None => places.config_files.iter().find(|path| path.exists()).cloned(),
        };
        let file = match &config_path {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        let own = config_path.as_deref().and_then(Path::parent);
        let base = overrides.config_base.as_deref().or(own).unwrap_or_else(|| Path::new(""));
        let resolve = |path: &Path| places.resolve(path, base);
        let repository = overrides.repository.or_else(|| environment.repository.clone());
        let repository = match (repository, &file.repository) {
            (Some(named), _) => Some(named),
            (None, Some(named)) => Some(places.resolve_location(named, base)),
            (None, None) => None,
        };
        if file.repository.is_some() && !file.destination.is_empty() {
            return Err(Error::usage("the configuration has both `repository` and [[destination]]")
                .with_hint("Make the repository the first [[destination]]: name = \"…\", url = \"…\"."));
        }
        let credentials = environment.credentials_directory.as_deref();
        let destinations = destination::check(file.destination.clone(), &places, base, credentials)?;
        let sources = source::check(file.source.clone(), &places, base, &destinations)?;
        let schedule = Schedules::check(file.schedule.clone(), file.class.clone())?;
        let classes: Vec<&str> = schedule.classes.iter().map(|class| class.name.as_str()).collect();
        source::check_classes(&sources, &classes)?;
        let own = file.destination.iter();
        let general = Retention::with_classes(file.retention.clone(), schedule::kept(&file.class))?;
        let retention = Retention::check(
            general,
            own.filter_map(|each| Some((each.name.clone(), each.retention.clone()?))).collect(),
            environment.keep_within_days.as_deref(),
        )?;
        let secret = secrets::choose(overrides.key_file, environment, &file, resolve)?;
        let level = match &file.compression {
            None => Level::DEFAULT,
            Some(text) => {
                text.parse().map_err(|why| Error::usage(format_args!("compression {text:?}: {why}")))?
            }
        };
        let host = file.host.unwrap_or_else(environment::host_name);
        let redactor = redactor(&destinations, secret.as_ref());
        let notify = notify::check(file.notify.unwrap_or_default(), &host, &places, base, redactor)?;
        let cache = environment.cache_dir.clone().or_else(|| file.cache_dir.as_deref().map(resolve));
        Ok(Self {
            repository,
            destinations,
            sources,
            google: places.google.clone(),
            secret,
            directories: Directories::new(
                cache.unwrap_or_else(|| places.cache.clone()),
                environment.state_dir.clone().unwrap_or_else(|| places.state.clone()),
            ),
            backup: BackupDefaults {
                level,
                exclude: file.exclude,
                exclude_file: file.exclude_file.iter().map(|path| resolve(path)).collect(),
                exclude_caches: file.exclude_caches,
                one_file_system: file.one_file_system,
            },
            daemon: file.daemon.check(resolve)?,
            retention,
            notify,
            schedule,
            metrics: file.metrics.unwrap_or_default().check(resolve)?,
            default_repository: places.default_repository.clone(),
            config_path,
            new_config_path: places.config_for_new(),
            host,
            user: environment::user_name(),
            clock: environment.clock.clone().map_or(Clock::System, Clock::File),
            color: environment.color,
        })
    }
}

/// What no message may contain, as far as it is known without running a program or reading a file.
fn redactor(destinations: &[Destination], secret: Option<&SecretSource>) -> Redactor {
    let redactor = Redactor::default();
    for secret in destinations.iter().filter_map(|each| each.access_key.as_ref()?.written()) {
        redactor.learn(secret);
    }
    if let Some(SecretSource::Passphrase(passphrase)) = secret {
        redactor.learn(passphrase);
    }
    redactor
}
