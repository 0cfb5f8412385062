//! Directories and default places, after the XDG base directory specification.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Environment;
use crate::repository::connect::Google;
use crate::{Error, Result};

const SYSTEM_CONFIG: &str = "/etc/lifeboat/config.toml";

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
        let home = environment.home.clone().ok_or_else(|| {
            Error::usage("this user has no home directory")
                .with_hint("Set HOME to a directory for Lifeboat's files.")
        })?;
        let below = |named: &Option<PathBuf>, fallback: &str| {
            named.clone().unwrap_or_else(|| home.join(fallback)).join("lifeboat")
        };
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
            cache: below(&environment.xdg_cache, ".cache"),
            state: below(&environment.xdg_state, ".local/state"),
            default_repository: DefaultRepository {
                path: data.join("repository"),
                key_file: data.join("key"),
            },
            home,
        })
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
    fn paths_of_a_file_begin_at_the_file() {
        let resolve = |text: &str| places().resolve_location(text, Path::new("/etc/lifeboat"));
        assert_eq!(resolve("~/backup"), "/home/me/backup");
        assert_eq!(resolve("backup"), "/etc/lifeboat/backup");
        assert_eq!(resolve("/srv/backup"), "/srv/backup");
        assert_eq!(resolve("file:///srv/backup"), "file:///srv/backup");
    }
}
