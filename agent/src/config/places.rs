//! Directories and default places, after the XDG base directory specification.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Environment;
use crate::repository::connect::Google;
use crate::{Error, Result};

const SYSTEM_CONFIG: &str = "/etc/lifeboat/config.toml";
/// What users of services have for a home: then the directories of the service stand for it, also when a person runs a command as that user.
const NO_HOME: &str = "/nonexistent";
const SYSTEM_STATE: &str = "/var/lib/lifeboat";
const SYSTEM_CACHE: &str = "/var/cache/lifeboat";

/// Where things are unless somebody says otherwise.
#[derive(Debug, Clone)]
pub struct Places {
    home: PathBuf,
    /// Configuration files, in the order in which they are looked for.
    pub config_files: Vec<PathBuf>,
    /// The cache of all repositories.
    pub cache: PathBuf,
    /// What is remembered of all repositories.
    pub state: PathBuf,
    /// The repository that is used when none is named.
    pub default_repository: DefaultRepository,
    /// Where the credentials of a Google account are.
    pub google: Google,
}

/// The repository that is used, and made, when none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRepository {
    /// The repository's directory.
    pub path: PathBuf,
    /// Its key file.
    pub key_file: PathBuf,
}

impl Places {
    /// The places of this user.
    ///
    /// # Errors
    /// `Usage` when no home directory is known.
    pub fn of(environment: &Environment) -> Result<Self> {
        let own = environment.home.clone().filter(|home| home != Path::new(NO_HOME));
        let is_service = own.is_none();
        let system = |path: &str| environment.home.is_some().then(|| PathBuf::from(path));
        let state = environment.service_state.clone().or_else(|| system(SYSTEM_STATE));
        let cache = environment.service_cache.clone().or_else(|| system(SYSTEM_CACHE));
        let home = own.or_else(|| state.clone()).or_else(|| environment.state_dir.clone()).ok_or_else(|| {
            Error::usage("this user has no home directory").with_hint(
                "Set HOME to a directory for Lifeboat's files, or, for a service, LIFEBOAT_STATE_DIR and LIFEBOAT_CACHE_DIR.",
            )
        })?;
        let below = |named: &Option<PathBuf>, fallback: &str| {
            named.clone().unwrap_or_else(|| home.join(fallback)).join("lifeboat")
        };
        // What another service made for itself counts only where there is nothing else.
        let of_service = |named: Option<PathBuf>| named.filter(|_| is_service);
        let data = below(&environment.xdg_data, ".local/share");
        let config = below(&environment.xdg_config, ".config");
        Ok(Self {
            google: Google {
                client: config.join("google-client.json"),
                token: config.join("google-token.json"),
                service_account: environment.google_credentials.clone(),
                subject: None,
            },
            config_files: vec![config.join("config.toml"), PathBuf::from(SYSTEM_CONFIG)],
            cache: of_service(cache).unwrap_or_else(|| below(&environment.xdg_cache, ".cache")),
            state: of_service(state).unwrap_or_else(|| below(&environment.xdg_state, ".local/state")),
            default_repository: DefaultRepository {
                path: data.join("repository"),
                key_file: data.join("key"),
            },
            home,
        })
    }

    /// Where a new configuration file is written: for all users where root does it.
    pub fn config_for_new(&self) -> PathBuf {
        let at = if rustix::process::geteuid().is_root() {
            self.config_files.last()
        } else {
            self.config_files.first()
        };
        at.cloned().unwrap_or_else(|| PathBuf::from(SYSTEM_CONFIG))
    }

    /// A path from the configuration file: `~/` is the home directory, relative ones begin at `base`.
    pub fn resolve(&self, path: &Path, base: &Path) -> PathBuf {
        match path.strip_prefix("~") {
            Ok(rest) => self.home.join(rest),
            Err(_) => base.join(path),
        }
    }

    /// A repository from the configuration file: a URL as it is, a path as [`Places::resolve`].
    pub fn resolve_location(&self, location: &str, base: &Path) -> OsString {
        let is_url = location.split('/').next().is_some_and(|start| start.contains(':'));
        if is_url { location.into() } else { self.resolve(Path::new(location), base).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::of(&Environment { home: Some("/home/me".into()), ..Environment::default() }).unwrap()
    }

    #[test]
    fn defaults_follow_the_home_directory() {
        let places = places();
        assert_eq!(places.config_files[0], Path::new("/home/me/.config/lifeboat/config.toml"));
        assert_eq!(places.default_repository.key_file, Path::new("/home/me/.local/share/lifeboat/key"));
    }

    #[test]
    fn a_service_without_a_home_has_its_own_directories() {
        for home in [None, Some("/nonexistent".into())] {
            let service = Environment {
                home,
                service_state: Some("/var/lib/lifeboat".into()),
                service_cache: Some("/var/cache/lifeboat".into()),
                ..Environment::default()
            };
            let places = Places::of(&service).unwrap();
            assert_eq!(places.state, Path::new("/var/lib/lifeboat"));
            assert_eq!(places.cache, Path::new("/var/cache/lifeboat"));
            assert_eq!(places.config_files.last().unwrap(), Path::new(SYSTEM_CONFIG));
            assert_eq!(
                places.resolve(Path::new("~/key"), Path::new("/etc")),
                Path::new("/var/lib/lifeboat/key")
            );
        }
    }

    #[test]
    fn a_command_as_the_user_of_the_service_finds_what_the_service_has() {
        let person = Environment { home: Some(NO_HOME.into()), ..Environment::default() };
        let places = Places::of(&person).unwrap();
        assert_eq!(places.state, Path::new("/var/lib/lifeboat"));
        assert_eq!(places.cache, Path::new("/var/cache/lifeboat"));
    }

    #[test]
    fn the_program_s_own_variable_is_home_enough() {
        let named = Environment { state_dir: Some("/var/lib/lifeboat".into()), ..Environment::default() };
        let places = Places::of(&named).unwrap();
        assert_eq!(places.google.token, Path::new("/var/lib/lifeboat/.config/lifeboat/google-token.json"));
        let error = Places::of(&Environment::default()).unwrap_err();
        assert!(error.hint().unwrap().contains("LIFEBOAT_STATE_DIR"));
    }

    #[test]
    fn the_directories_of_another_service_are_not_taken_where_there_is_a_home() {
        let environment = Environment {
            home: Some("/home/me".into()),
            service_state: Some("/var/lib/runner".into()),
            service_cache: Some("/var/cache/runner".into()),
            ..Environment::default()
        };
        let places = Places::of(&environment).unwrap();
        assert_eq!(places.state, Path::new("/home/me/.local/state/lifeboat"));
        assert_eq!(places.cache, Path::new("/home/me/.cache/lifeboat"));
    }

    #[test]
    fn paths_of_a_file_begin_at_the_file() {
        let resolve = |text: &str| places().resolve_location(text, Path::new("/etc/lifeboat"));
        assert_eq!(resolve("~/backup"), "/home/me/backup");
        assert_eq!(resolve("backup"), "/etc/lifeboat/backup");
        assert_eq!(resolve("/srv/backup"), "/srv/backup");
        assert_eq!(resolve("file:///srv/backup"), "file:///srv/backup");
    }
}
