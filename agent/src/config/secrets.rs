//! Where the key comes from, and reading it. Nothing here prompts: that is the command line's.
//!
//! The first of these that is there is used: `--key-file`; `LIFEBOAT_PASSPHRASE`, `_FILE`, `_COMMAND`; `passphrase` or `key` in
//! `$CREDENTIALS_DIRECTORY`; what the configuration names, which is one of `key_file`, `passphrase_file`, `passphrase_command` and `passphrase`.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{ConfigFile, Environment, SecretValue, secret_program};
use crate::private_file::{self, Guard};
use crate::seal::SecretKey;
use crate::seal::slot::{Purpose, Secret};
use crate::tree::path_text;
use crate::{Error, Result};

/// Where a key comes from.
#[derive(Clone)]
pub enum SecretSource {
    /// A file with the text of a key.
    KeyFile(PathBuf),
    /// A passphrase from the environment.
    Passphrase(Zeroizing<String>),
    /// A file with a passphrase.
    PassphraseFile(PathBuf),
    /// A program that prints a passphrase, with its arguments.
    PassphraseCommand(Vec<String>),
    /// A passphrase that the configuration has, or says the place of.
    Configured(SecretValue),
    /// A file with the text of a key, or a passphrase, given and guarded by systemd.
    Credential {
        /// The file.
        path: PathBuf,
        /// Which of the two it is.
        purpose: Purpose,
    },
}

/// The source that is named first.
///
/// # Errors
/// `Usage` for a command that cannot be split into words, or a configuration that is asked and names several sources.
pub fn choose(
    key_file: Option<PathBuf>,
    environment: &Environment,
    file: &ConfigFile,
    resolve: impl Fn(&Path) -> PathBuf,
) -> Result<Option<SecretSource>> {
    if let Some(path) = key_file {
        return Ok(Some(SecretSource::KeyFile(path)));
    }
    if let Some(passphrase) = &environment.passphrase {
        return Ok(Some(SecretSource::Passphrase(passphrase.clone())));
    }
    if let Some(path) = &environment.passphrase_file {
        return Ok(Some(SecretSource::PassphraseFile(path.clone())));
    }
    if let Some(command) = &environment.passphrase_command {
        let words = split_command(command)
            .map_err(|why| Error::usage(format_args!("LIFEBOAT_PASSPHRASE_COMMAND: {why}")))?;
        return Ok(Some(SecretSource::PassphraseCommand(words)));
    }
    if let Some(source) = environment.credentials_directory.as_deref().and_then(credential) {
        return Ok(Some(source));
    }
    let key_file = file.key_file.as_deref().map(|path| SecretSource::KeyFile(resolve(path)));
    let passphrase_file =
        file.passphrase_file.as_deref().map(|path| SecretSource::PassphraseFile(resolve(path)));
    let command = file.passphrase_command.clone().map(SecretSource::PassphraseCommand);
    let passphrase = file.passphrase.clone().map(|value| SecretSource::Configured(value.resolved(&resolve)));
    let named = [
        ("key_file", key_file),
        ("passphrase_file", passphrase_file),
        ("passphrase_command", command),
        ("passphrase", passphrase),
    ];
    let mut named = named.into_iter().filter_map(|(key, source)| Some((key, source?)));
    match (named.next(), named.next()) {
        // Places have an order, keys of one file have none that anybody could guess.
        (Some((first, _)), Some((second, _))) => Err(Error::usage(format_args!(
            "the configuration names two places for the key: {first} and {second}"
        ))
        .with_hint("Leave in the one that opens the repository, and take the other out.")),
        (first, _) => Ok(first.map(|(_, source)| source)),
    }
}

fn credential(directory: &Path) -> Option<SecretSource> {
    [("passphrase", Purpose::Passphrase), ("key", Purpose::KeyFile)].into_iter().find_map(
        |(name, purpose)| {
            let path = directory.join(name);
            path.exists().then_some(SecretSource::Credential { path, purpose })
        },
    )
}

/// Splits a command as a shell splits words, with quotes; nothing is expanded and no shell runs.
///
/// # Errors
/// Words on what is wrong: a quote that is not closed, or nothing at all.
pub fn split_command(text: &str) -> Result<Vec<String>, String> {
    let words = shell_words::split(text).map_err(|e| e.to_string())?;
    if words.is_empty() { Err("the command is empty".to_owned()) } else { Ok(words) }
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    /// `Usage` or `WrongKey` with the next step if the source gives nothing usable, or is readable by others.
    pub fn load(&self) -> Result<Secret> {
        match self {
            Self::KeyFile(path) => read_key_file(path).map(Secret::Key),
            Self::Passphrase(passphrase) => Ok(Secret::Passphrase(passphrase.clone())),
            Self::PassphraseFile(path) => {
                let text = private_file::read(path, "passphrase file", Guard::Mode)?;
                one_passphrase(&text, &name(path)).map(Secret::Passphrase)
            }
            Self::PassphraseCommand(words) => run(words).map(Secret::Passphrase),
            Self::Configured(value) => {
                let what = "passphrase of the repository";
                one_passphrase(&value.read(what)?, what).map(Secret::Passphrase)
            }
            Self::Credential { path, purpose: Purpose::Passphrase } => {
                let text = private_file::read(path, "credential", Guard::System)?;
                one_passphrase(&text, &name(path)).map(Secret::Passphrase)
            }
            Self::Credential { path, .. } => {
                let text = private_file::read(path, "credential", Guard::System)?;
                parse_key(&text, path).map(Secret::Key)
            }
        }
    }

    /// What a slot for this secret is for.
    pub const fn purpose(&self) -> Purpose {
        match self {
            Self::KeyFile(_) => Purpose::KeyFile,
            Self::Credential { purpose, .. } => *purpose,
            _ => Purpose::Passphrase,
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyFile(path) => write!(f, "the key file {}", name(path)),
            Self::Passphrase(_) => f.write_str("the passphrase in LIFEBOAT_PASSPHRASE"),
            Self::PassphraseFile(path) => write!(f, "the passphrase file {}", name(path)),
            Self::PassphraseCommand(words) => {
                write!(f, "the passphrase command `{}`", words.first().map_or("", String::as_str))
            }
            Self::Configured(value) if value.is_written() => {
                f.write_str("the passphrase in the configuration")
            }
            Self::Configured(value) => write!(f, "the passphrase of the configuration {}", value.masked()),
            Self::Credential { path, .. } => write!(f, "the credential {}", name(path)),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads a key file that only its owner can read.
///
/// # Errors
/// `Usage` if it cannot be read or others can read it; `WrongKey` if it holds no key.
pub fn read_key_file(path: &Path) -> Result<SecretKey> {
    let text = private_file::read(path, "key file", Guard::Mode)?;
    parse_key(&text, path)
}

fn parse_key(text: &str, path: &Path) -> Result<SecretKey> {
    SecretKey::parse(text).map_err(|e| e.context(name(path)))
}

fn one_passphrase(text: &str, place: &str) -> Result<Zeroizing<String>> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Error::usage(format_args!("{place} gives an empty passphrase")));
    }
    if line.contains(['\n', '\r']) {
        return Err(Error::usage(format_args!("{place} gives several lines"))
            .with_hint("A passphrase is one line; a key belongs in --key-file."));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn run(words: &[String]) -> Result<Zeroizing<String>> {
    let what = format!("the passphrase command `{}`", words.first().map_or("", String::as_str));
    one_passphrase(&secret_program::printed(words, &what)?, &what)
}

fn name(path: &Path) -> String {
    path_text::display(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_one_line() {
        assert_eq!(one_passphrase("secret\r\n", "x").unwrap().as_str(), "secret");
        assert_eq!(one_passphrase(" with blanks ", "x").unwrap().as_str(), " with blanks ");
        assert!(one_passphrase("\n", "x").is_err());
        assert!(one_passphrase("a\nb\n", "x").is_err());
    }

    #[test]
    fn a_passphrase_of_the_configuration_is_read_and_not_shown() {
        let choose = |text: &str| {
            let file = ConfigFile::parse(text, "c").unwrap();
            super::choose(None, &Environment::default(), &file, |path| Path::new("/etc").join(path))
        };
        let written = choose("passphrase = \"hunter2\"").unwrap().unwrap();
        assert!(matches!(written.load().unwrap(), Secret::Passphrase(text) if *text == "hunter2"));
        assert!(!format!("{written} {written:?}").contains("hunter2"));
        let elsewhere = choose("passphrase = { file = \"here\" }").unwrap().unwrap();
        assert!(elsewhere.to_string().contains("/etc/here"), "{elsewhere}");
        let both = choose("passphrase = \"hunter2\"\nkey_file = \"k\"").unwrap_err().to_string();
        assert!(both.contains("key_file and passphrase") && !both.contains("hunter2"), "{both}");
    }

    #[test]
    fn the_first_source_named_wins() {
        let environment =
            Environment { passphrase_command: Some("pass show 'a b'".into()), ..Environment::default() };
        let file = ConfigFile { key_file: Some("key".into()), ..ConfigFile::default() };
        let choose = |flag: Option<PathBuf>, environment: &Environment| {
            super::choose(flag, environment, &file, |path| Path::new("/etc").join(path)).unwrap().unwrap()
        };
        assert!(
            matches!(choose(Some("k".into()), &environment), SecretSource::KeyFile(path) if path == Path::new("k"))
        );
        assert!(
            matches!(choose(None, &environment), SecretSource::PassphraseCommand(words) if words[2] == "a b")
        );
        assert!(matches!(choose(None, &Environment::default()),
            SecretSource::KeyFile(path) if path == Path::new("/etc/key")));
    }
}
