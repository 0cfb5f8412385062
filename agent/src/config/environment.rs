//! The only reader of environment variables, once, at the start. An empty variable counts as not set, except where it
//! would be a passphrase or the command that prints it.

use std::ffi::OsString;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::{Error, Result};

/// All that Lifeboat takes from the environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `LIFEBOAT_REPOSITORY`.
    pub repository: Option<OsString>,
    /// `LIFEBOAT_PASSPHRASE`.
    pub passphrase: Option<Zeroizing<String>>,
    /// `LIFEBOAT_PASSPHRASE_FILE`.
    pub passphrase_file: Option<PathBuf>,
    /// `LIFEBOAT_PASSPHRASE_COMMAND`.
    pub passphrase_command: Option<String>,
    /// `CREDENTIALS_DIRECTORY`, made by systemd.
    pub credentials_directory: Option<PathBuf>,
    /// `GOOGLE_APPLICATION_CREDENTIALS`: the key of a service account.
    pub google_credentials: Option<PathBuf>,
    /// `LIFEBOAT_CACHE_DIR`.
    pub cache_dir: Option<PathBuf>,
    /// `LIFEBOAT_KEEP_WITHIN_DAYS`, as it was written.
    pub keep_within_days: Option<String>,
    /// `LIFEBOAT_STATE_DIR`.
    pub state_dir: Option<PathBuf>,
    /// `LIFEBOAT_CLOCK`: a file with the time, for rehearsals.
    pub clock: Option<PathBuf>,
    /// `HOME`, or the user's home directory as the system knows it.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, if absolute, as are all of these.
    pub xdg_config: Option<PathBuf>,
    /// `XDG_CACHE_HOME`.
    pub xdg_cache: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub xdg_data: Option<PathBuf>,
    /// The first of `STATE_DIRECTORY`, made by systemd: stands for a home where a service has none.
    pub service_state: Option<PathBuf>,
    /// The first of `CACHE_DIRECTORY`, made by systemd.
    pub service_cache: Option<PathBuf>,
    /// Colours are welcome: `NO_COLOR` is not set and `TERM` is not `dumb`.
    pub color: bool,
}

impl Environment {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// `Usage` for a variable that is set to something impossible.
    pub fn read() -> Result<Self> {
        let path = |name| set(name).map(PathBuf::from);
        // The specification of these variables says that relative paths are to be ignored.
        let xdg = |name| path(name).filter(|path| path.is_absolute());
        let home = path("HOME").filter(|path| path.is_absolute());
        Ok(Self {
            repository: set("LIFEBOAT_REPOSITORY"),
            passphrase: not_empty("LIFEBOAT_PASSPHRASE", "to the passphrase")?.map(Zeroizing::new),
            passphrase_file: path("LIFEBOAT_PASSPHRASE_FILE"),
            passphrase_command: not_empty("LIFEBOAT_PASSPHRASE_COMMAND", "to the command")?,
            credentials_directory: credentials_directory(),
            google_credentials: path("GOOGLE_APPLICATION_CREDENTIALS"),
            cache_dir: path("LIFEBOAT_CACHE_DIR"),
            keep_within_days: text("LIFEBOAT_KEEP_WITHIN_DAYS")?,
            state_dir: path("LIFEBOAT_STATE_DIR"),
            clock: path("LIFEBOAT_CLOCK"),
            home: home.or_else(|| Some(user()?.dir)),
            xdg_config: xdg("XDG_CONFIG_HOME"),
            xdg_cache: xdg("XDG_CACHE_HOME"),
            xdg_state: xdg("XDG_STATE_HOME"),
            xdg_data: xdg("XDG_DATA_HOME"),
            service_state: first_path("STATE_DIRECTORY"),
            service_cache: first_path("CACHE_DIRECTORY"),
            color: set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb"),
        })
    }
}

/// An environment variable that the configuration names for a secret.
///
/// # Errors
/// `Usage` if it is no text.
pub fn variable(name: &str) -> Result<Option<Zeroizing<String>>> {
    Ok(text(name)?.map(Zeroizing::new))
}

/// `CREDENTIALS_DIRECTORY`, made by systemd.
pub fn credentials_directory() -> Option<PathBuf> {
    set("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Keeps what opens the repository from a program that is about to be started.
pub fn without_secrets(command: &mut std::process::Command) {
    for (name, _) in std::env::vars_os() {
        if is_secret(name.as_encoded_bytes()) {
            command.env_remove(name);
        }
    }
}

/// Whether a variable holds, or leads to, what opens the repository, or is systemd's own.
fn is_secret(name: &[u8]) -> bool {
    name.starts_with(b"LIFEBOAT_PASSPHRASE")
        || [&b"CREDENTIALS_DIRECTORY"[..], b"NOTIFY_SOCKET", b"WATCHDOG_PID", b"WATCHDOG_USEC"]
            .contains(&name)
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The first path of a list with colons.
fn first_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&set(name)?).next().filter(|path| path.is_absolute())
}

fn text(name: &str) -> Result<Option<String>> {
    set(name)
        .map(|value| value.into_string().map_err(|_| Error::usage(format_args!("{name} is not valid UTF-8"))))
        .transpose()
}

/// An empty passphrase, or command that is to print it, is a mistake in a script and not a wish to be asked.
fn not_empty(name: &str, to_what: &str) -> Result<Option<String>> {
    match std::env::var_os(name) {
        Some(value) if value.is_empty() => Err(Error::usage(format_args!("{name} is set but empty"))
            .with_hint(format_args!("Set it {to_what}, or `unset {name}`."))),
        _ => text(name),
    }
}

/// `RUNTIME_DIRECTORY`, made by systemd.
pub fn runtime_directory() -> Option<PathBuf> {
    first_path("RUNTIME_DIRECTORY")
}

/// The machine's name, as the kernel knows it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The user's name, or number where it has none.
pub fn user_name() -> String {
    user().map_or_else(|| rustix::process::geteuid().as_raw().to_string(), |user| user.name)
}

fn user() -> Option<nix::unistd::User> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()
}
