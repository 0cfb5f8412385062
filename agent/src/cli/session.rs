//! What every command shares: decisions, output, the stop flag; opening the repository, its history and the snapshot meant.

use std::ffi::OsStr;
use std::fs;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lifeboat_providers::SharedProvider;
use zeroize::Zeroizing;

use super::output::{Output, Style};
use super::progress::{Running, Work};
use super::signals::Signals;
use super::text::not_empty;
use super::{default_repository, destinations, terminal};
use crate::config::{Environment, Overrides, SecretSource, Settings};
use crate::fetch::ChunkReader;
use crate::repository::connect::{Location, Mode, StoreOptions};
use crate::repository::{Directories, Repository, Store, create, state};
use crate::scan::ahead::Ahead;
use crate::seal::SecretKey;
use crate::seal::slot::Secret;
use crate::snapshot::select::{Filter, parse_time};
use crate::snapshot::{History, Snapshot};
use crate::space::SpacePolicy;
use crate::{Error, Kind, Result};

const PASSPHRASE_TRIES: usize = 3;

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Repository: a directory, a URL such as s3://bucket/folder, or the name of a destination [env: LIFEBOAT_REPOSITORY]
    #[arg(short, long, global = true, value_name = "PLACE")]
    pub repository: Option<std::ffi::OsString>,
    /// Configuration file [default: ~/.config/lifeboat/config.toml, /etc/lifeboat/config.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where relative paths of the configuration begin
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub config_base: Option<PathBuf>,
    /// File with the repository's key
    ///
    /// Without it, the key comes from the first of these that is there: LIFEBOAT_PASSPHRASE, LIFEBOAT_PASSPHRASE_FILE,
    /// LIFEBOAT_PASSPHRASE_COMMAND (a program with its arguments, run without a shell), `passphrase` or `key` in $CREDENTIALS_DIRECTORY,
    /// the configuration, a prompt on the terminal. With -v it is said which.
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more: phases, each path, causes of errors
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Draw no progress line
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// Options that narrow which snapshots are meant.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which snapshots")]
pub struct FilterArgs {
    /// Only snapshots of this machine
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub host: Option<String>,
    /// Only snapshots of this source
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub source: Option<String>,
    /// Only snapshots with this tag; more than one: with all of them
    #[arg(long = "tag", value_name = "TAG", value_parser = not_empty)]
    pub tags: Vec<String>,
    /// Only snapshots of this path; more than one: of all of them
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only snapshots not later than this minute, second or day: '2026-11-20 14:00' (local time), 2026-11-20, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = not_empty)]
    pub at: Option<String>,
}

impl FilterArgs {
    /// The filter they mean.
    ///
    /// # Errors
    /// `Usage` if `--at` is no time or a path cannot be made absolute.
    pub fn filter(&self) -> Result<Filter> {
        use std::os::unix::ffi::OsStrExt as _;
        let absolute = |path: &PathBuf| {
            let absolute = std::path::absolute(path)
                .map_err(|e| Error::usage(Error::io(format_args!("--path {}", path.display()), e)))?;
            let real = fs::canonicalize(&absolute).unwrap_or(absolute);
            Ok(real.as_os_str().as_bytes().to_vec())
        };
        Ok(Filter {
            host: self.host.clone(),
            source: self.source.clone(),
            tags: self.tags.clone(),
            paths: self.paths.iter().map(absolute).collect::<Result<_>>()?,
            at: self.at.as_deref().map(parse_time).transpose()?,
            about: None,
        })
    }

    /// The snapshot that `text` names (id prefix, `latest`, `latest~2`) among those they leave. Where a path in it is named, the latest of those that
    /// may hold it: with several sources the latest of all is of any of them.
    ///
    /// # Errors
    /// As [`History::find`].
    pub fn find<'h>(&self, history: &'h History, text: &str, path: Option<&[u8]>) -> Result<&'h Snapshot> {
        let filter = self.filter()?;
        if let Some(path) = path.filter(|path| path.starts_with(b"/") && filter.source.is_none()) {
            let narrow = Filter { about: Some(path.to_vec()), ..filter.clone() };
            if let Ok(found) = history.find(text, &narrow) {
                return Ok(found);
            }
        }
        history.find(text, &filter)
    }
}

/// A command's surroundings.
#[derive(Debug)]
pub struct Session {
    /// Decisions: command line over environment over configuration file over defaults.
    pub settings: Settings,
    /// Where and how to print.
    pub output: Arc<Output>,
    /// What asks to stop.
    pub signals: Signals,
}

/// A repository as named and as used.
#[derive(Debug, Clone)]
pub struct Target {
    /// The destination's name in the configuration, or the place as it was named.
    pub name: String,
    /// The place.
    pub location: Location,
    /// It is the default repository, because none was named.
    pub is_default: bool,
    /// What its store is opened with.
    pub options: StoreOptions,
    /// What it may take up.
    pub space: SpacePolicy,
}

impl Target {
    /// The store there.
    ///
    /// # Errors
    /// As [`Location::connect`].
    pub fn connect(&self, mode: Mode) -> Result<SharedProvider> {
        self.location.connect(mode, &self.options)
    }

    /// The repository there, by the keys of another one that is the same.
    ///
    /// # Errors
    /// As [`Target::connect`] and [`Repository::open_sibling`].
    pub fn open_beside(&self, first: &Repository) -> Result<Repository> {
        Ok(first.open_sibling(self.connect(Mode::Open)?)?.with_space(self.space.clone()))
    }

    /// The place, by which two names of one are found out.
    pub fn real_place(&self) -> String {
        let path = self.location.local_path().and_then(|path| fs::canonicalize(path).ok());
        path.map_or_else(|| self.location.place(), |path| path.display().to_string())
    }
}

impl Globals {
    /// How to print, as far as the command line says.
    pub fn style(&self, color: bool) -> Style {
        Style {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            progress: !self.no_progress,
            color,
        }
    }
}

impl Session {
    /// Reads environment and configuration and takes over signals.
    ///
    /// # Errors
    /// `Usage` for a configuration that means nothing.
    pub fn start(globals: &Globals, output: Arc<Output>, environment: &Environment) -> Result<Self> {
        let overrides = Overrides {
            repository: globals.repository.clone(),
            config: globals.config.clone(),
            key_file: globals.key_file.clone(),
            config_base: globals.config_base.clone(),
        };
        let settings = Settings::load(overrides, environment)?;
        if let Some(path) = &settings.config_path {
            output.say_verbose(format_args!("configuration: {}", path.display()));
        }
        Ok(Self { settings, output, signals: Signals::install()? })
    }

    /// Begins to show an operation; its context is what the engine is given.
    pub fn begin(&self, work: Work) -> Running {
        Running::begin(&self.output, work, self.signals.stop().clone(), None)
    }

    /// Begins to show a backup.
    pub fn begin_backup(&self, ahead: Option<Ahead>) -> Running {
        Running::begin(&self.output, Work::Backup, self.signals.stop().clone(), ahead)
    }

    /// The repository that was named, the first destination, or the default one.
    ///
    /// # Errors
    /// `Usage` if what was named means nothing.
    pub fn target(&self) -> Result<Target> {
        destinations::primary(self)
    }

    /// Opens the repository that was named, the first destination, or the default one. A memory of it that cannot be read is warned about.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`, `Damaged`; errors of the store.
    pub fn open(&self) -> Result<Repository> {
        let (repository, _) = self.open_with_secret()?;
        self.warn_of_memory(&repository);
        Ok(repository)
    }

    /// As [`Session::open`], but of several destinations of which none was named the first that can be opened: for commands that want
    /// data, and not for those that judge or change one destination.
    ///
    /// # Errors
    /// As [`Session::open`], of the first.
    pub fn open_any(&self) -> Result<Repository> {
        let targets = destinations::all(self)?;
        if self.settings.repository.is_some() || targets.len() == 1 {
            return self.open();
        }
        let mut failed: Vec<(&Target, Error)> = Vec::new();
        let mut behind: Option<(&Target, Repository)> = None;
        for target in &targets {
            match self.open_target(target) {
                // Another may have what this one lacks, the newest snapshot for one.
                Ok((repository, _)) if repository.seems_behind() => {
                    behind = behind.or(Some((target, repository)));
                }
                Ok((repository, _)) => {
                    if let Some((behind, _)) = &behind {
                        self.output.warning(format_args!(
                            "the destination {} lacks snapshots that others have, or may have: {} is used in its place. `lifeboat status` \
                             compares them, `lifeboat sync` brings what is missing",
                            behind.name, target.name
                        ));
                    }
                    for (target, error) in &failed {
                        let (name, used) = (&target.name, repository.store().location());
                        self.output.warning(format_args!(
                            "the destination {name} cannot be used: {error}. {used} is used in its place"
                        ));
                    }
                    self.warn_of_memory(&repository);
                    return Ok(repository.with_siblings(destinations::siblings(
                        &targets,
                        target,
                        &self.output,
                    )));
                }
                // All destinations have the same key: what is wrong with it is wrong everywhere.
                Err(e) if matches!(e.kind(), Kind::WrongKey | Kind::Interrupted | Kind::Usage) => {
                    return Err(e);
                }
                Err(e) => failed.push((target, e)),
            }
        }
        if let Some((target, repository)) = behind {
            for (other, error) in &failed {
                self.output.warning(format_args!("the destination {} cannot be used: {error}", other.name));
            }
            self.warn_of_memory(&repository);
            return Ok(repository.with_siblings(destinations::siblings(&targets, target, &self.output)));
        }
        let mut failed = failed.into_iter();
        let first = failed.next();
        for (target, error) in failed {
            self.output
                .warning(format_args!("the destination {} cannot be used either: {error}", target.name));
        }
        Err(first.map_or_else(|| default_repository::none_named(&self.settings), |(_, error)| error))
    }

    fn warn_of_memory(&self, repository: &Repository) {
        if let Some(trouble) = state::trouble(repository.directories()) {
            self.output.warning(trouble.in_full());
        }
    }

    /// As [`Session::open`], with the secret that opened it, and without the warning.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_with_secret(&self) -> Result<(Repository, Secret)> {
        let targets = destinations::all(self)?;
        let Some(target) = targets.first() else {
            return Err(default_repository::none_named(&self.settings));
        };
        let (repository, secret) = self.open_target(target)?;
        Ok((repository.with_siblings(destinations::siblings(&targets, target, &self.output)), secret))
    }

    /// Opens one place.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_target(&self, target: &Target) -> Result<(Repository, Secret)> {
        if target.is_default && !default_repository::exists(&self.settings) {
            return Err(default_repository::none_named(&self.settings));
        }
        let provider = target.connect(Mode::Open)?;
        let directories = &self.settings.directories;
        let (repository, secret) = match self.secret(target)? {
            Some(secret) => (Repository::open(provider, &secret, directories.clone())?, secret),
            None => self.open_with_prompt(&provider, directories)?,
        };
        let repository = repository.with_other_places(destinations::local_places(&self.settings));
        let repository = repository.with_space(target.space.clone());
        tag_cache(repository.directories());
        self.output.say_verbose(format_args!(
            "repository {} at {}",
            repository.id(),
            repository.store().location()
        ));
        Ok((repository, secret))
    }

    /// The secret that is configured, if any is.
    fn secret(&self, target: &Target) -> Result<Option<Secret>> {
        if let Some(source) = &self.settings.secret {
            self.output.say_verbose(format_args!("key: {source}"));
            return source.load().map(Some);
        }
        let key_file = &self.settings.default_repository.key_file;
        if !target.is_default {
            return Ok(None);
        }
        if key_file.exists() {
            return SecretSource::KeyFile(key_file.clone()).load().map(Some);
        }
        self.output
            .warning(format_args!("the default repository's key file {} is not there", key_file.display()));
        Ok(None)
    }

    fn open_with_prompt(
        &self,
        provider: &SharedProvider,
        directories: &Directories,
    ) -> Result<(Repository, Secret)> {
        let location = provider.location();
        if !create::exists(&Store::new(provider.clone())?)? {
            // Opening says it best: nobody is asked for a passphrase of what is not there.
            let secret = Secret::Passphrase(Zeroizing::default());
            return Ok((Repository::open(provider.clone(), &secret, directories.clone())?, secret));
        }
        let mut tries = 0;
        loop {
            let prompt = format!("Passphrase (or recovery key) for {location}: ");
            let Some(typed) = terminal::ask_passphrase(&prompt, self.signals.stop())? else {
                return Err(no_key());
            };
            let secret = match SecretKey::parse(&typed) {
                Ok(key) => Secret::Key(key),
                Err(_) => Secret::Passphrase(typed),
            };
            tries += 1;
            match Repository::open(provider.clone(), &secret, directories.clone()) {
                Ok(repository) => return Ok((repository, secret)),
                Err(e) if e.kind() == Kind::WrongKey && tries < PASSPHRASE_TRIES => {
                    self.output.complain("That is not the passphrase; try again.");
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// A new passphrase, typed twice.
    ///
    /// # Errors
    /// `WrongKey` if there is no terminal, `Usage` if the two differ.
    pub fn ask_new_passphrase(&self, what: &str) -> Result<Zeroizing<String>> {
        let ask = |prompt: &str| terminal::ask_passphrase(prompt, self.signals.stop())?.ok_or_else(no_key);
        let first = ask(&format!("New passphrase for {what}: "))?;
        if *first == *ask("The same again: ")? {
            Ok(first)
        } else {
            Err(Error::usage("the two passphrases differ")
                .with_hint("Run the command again; nothing was changed."))
        }
    }

    /// All snapshots, which this machine then remembers; those that cannot be read or are gone are warned about.
    ///
    /// # Errors
    /// If the store cannot be listed or read.
    pub fn history(&self, repository: &Repository) -> Result<History> {
        let history = repository.load_history()?;
        for unsound in &history.damaged {
            self.output.damage(&unsound.error);
        }
        for id in &history.unreadable {
            let short: String = id.to_string().chars().take(8).collect();
            self.output.warning(format_args!(
                "snapshot {short} cannot be read and is passed over: if it is the newest, `latest` is the one before it"
            ));
        }
        if let Some(removed) = repository.removed_snapshots(&history) {
            self.output.warning(removed);
        }
        if let Err(e) = repository.remember(&history) {
            self.output.say_verbose(format_args!("{e}: this machine remembers nothing of the repository"));
        }
        Ok(history)
    }

    /// A reader of chunks, contents and directories. Call it after [`Session::history`], never before.
    ///
    /// # Errors
    /// If the index cannot be loaded.
    pub fn reader(&self, repository: &Repository) -> Result<ChunkReader> {
        let catalog = repository.load_catalog()?;
        catalog.warn(|text| self.output.warning(text));
        let output = self.output.clone();
        Ok(ChunkReader::new(repository, Arc::new(catalog.index))
            .with_rescue(move |text| output.warning(text)))
    }

    /// Whether standard input can be asked for an answer.
    pub fn is_interactive(&self) -> bool {
        std::io::stdin().is_terminal() && !self.output.json()
    }
}

/// Tags the cache of one repository so that backup programs leave it out. Only that: the directory that was named for caches may hold a
/// person's files, which they must not leave out. A cache that cannot be used ends no command: whoever needs it says so and does without.
pub(super) fn tag_cache(of_repository: &Directories) {
    const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of Lifeboat; it may be deleted at any time.\n";
    let tag = of_repository.cache_of_all_places().join("CACHEDIR.TAG");
    if state::make_private_dir(&of_repository.cache).is_ok() && !tag.exists() {
        let _ = state::write_atomically(&tag, TAG.as_bytes());
    }
}

fn no_key() -> Error {
    Error::new(Kind::WrongKey, "no key was given, and there is no terminal to ask for a passphrase").with_hint(
        "Set LIFEBOAT_PASSPHRASE, LIFEBOAT_PASSPHRASE_FILE or LIFEBOAT_PASSPHRASE_COMMAND, or name a --key-file.",
    )
}

/// The bytes of an argument.
pub fn argument_bytes(argument: &OsStr) -> &[u8] {
    use std::os::unix::ffi::OsStrExt as _;
    argument.as_bytes()
}
