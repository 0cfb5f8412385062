//! The configuration file: TOML, as `config.example.toml` documents it. An unknown key is an error that names the nearest one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::daemon::DaemonFile;
use super::destination::DestinationFile;
use super::metrics::MetricsFile;
use super::notify::NotifyFile;
use super::retention::RetentionFile;
use super::schedule::{ClassFile, ScheduleFile};
use super::secret_value::SecretValue;
use super::source::SourceFile;
use crate::private_file;
use crate::tree::path_text;
use crate::{Error, Result};

/// The configuration as written.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Configuration of Lifeboat")]
pub struct ConfigFile {
    /// Path or URL of the repository.
    #[serde(deserialize_with = "not_empty")]
    #[schemars(with = "Option<String>")]
    pub repository: Option<String>,
    /// Places that hold the repository, the primary first.
    pub destination: Vec<DestinationFile>,
    /// What is backed up.
    pub source: Vec<SourceFile>,
    /// The file with the repository's key.
    pub key_file: Option<PathBuf>,
    /// The file with the repository's passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// A program that prints the passphrase, with its arguments.
    #[serde(deserialize_with = "command")]
    #[schemars(with = "Option<OneOrMany>")]
    pub passphrase_command: Option<Vec<String>>,
    /// The repository's passphrase, or where it is.
    pub passphrase: Option<SecretValue>,
    /// Where the cache is kept.
    pub cache_dir: Option<PathBuf>,
    /// `off`, `fast`, `default`, `high`, or a level from 1 to 19.
    #[serde(deserialize_with = "word_or_number")]
    #[schemars(with = "Option<WordOrNumber>")]
    pub compression: Option<String>,
    /// Patterns of what is left out.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub exclude: Vec<String>,
    /// Files of such patterns.
    #[serde(deserialize_with = "one_or_many_paths")]
    #[schemars(with = "OneOrMany")]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out the contents of caches that are tagged as such.
    pub exclude_caches: bool,
    /// Do not go into other file systems.
    pub one_file_system: bool,
    /// The machine's name in snapshots.
    #[serde(deserialize_with = "not_empty")]
    #[schemars(with = "Option<String>")]
    pub host: Option<String>,
    /// How the service works.
    pub daemon: DaemonFile,
    /// What `forget` keeps.
    pub retention: Option<RetentionFile>,
    /// Who is told what.
    pub notify: Option<NotifyFile>,
    /// Histories: when each is made, and how much of it is kept.
    pub class: BTreeMap<String, ClassFile>,
    /// The zone of schedules, and what else is done by schedule.
    pub schedule: ScheduleFile,
    /// Where monitoring finds the figures.
    pub metrics: Option<MetricsFile>,
}

impl ConfigFile {
    /// Reads the file, which nobody but root and this user may be able to write to: it may name a program to be run. One with a secret in it
    /// others must not be able to read either.
    ///
    /// # Errors
    /// `Usage` with the line if it cannot be read or means nothing, or if others can write to it, or read a secret in it.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path_text::display(path.as_os_str().as_bytes());
        let cannot = |e: std::io::Error| {
            let why = crate::error::describe_io(&e);
            Error::usage(format_args!("cannot read the configuration file {name}: {why}"))
                .with_hint("Check the path given by --config and the file's permissions.")
        };
        let mut file = File::open(path).map_err(cannot)?;
        // What is looked at is what is read, whatever the name leads to a moment later.
        let metadata = file.metadata().map_err(cannot)?;
        refuse_writable_by_others(&metadata, path, &name)?;
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(cannot)?;
        let read = Self::parse(&text, &name)?;
        if let Some(what) = read.written_secret() {
            private_file::refuse_readable_by_others(&metadata, path, &format!("{what} in"))?;
        }
        Ok(read)
    }

    /// What the first secret is called that is written in the file itself.
    fn written_secret(&self) -> Option<String> {
        let is_written = |secret: &Option<SecretValue>| secret.as_ref().is_some_and(SecretValue::is_written);
        if is_written(&self.passphrase) {
            return Some("passphrase".to_owned());
        }
        let with_secret = self.destination.iter().find(|each| is_written(&each.secret_access_key));
        let of_channels = || self.notify.as_ref().and_then(NotifyFile::written_secret);
        with_secret.map(|each| format!("secret of destination {}", each.name)).or_else(of_channels)
    }

    /// Reads the text of a file that messages call `name`.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| explain(&error, text, name))
    }
}

/// Refuses a regular file that somebody other than root and this user can change. Whether it runs a program now does not matter: whoever can
/// write to it can make it run one.
fn refuse_writable_by_others(metadata: &Metadata, path: &Path, name: &str) -> Result<()> {
    const OTHERS_WRITE: u32 = 0o022;
    if !metadata.is_file() {
        return Ok(());
    }
    let path = path.to_string_lossy();
    let quoted = shell_words::quote(&path);
    let user = rustix::process::geteuid().as_raw();
    if ![0, user].contains(&metadata.uid()) {
        return Err(Error::usage(format_args!(
            "the configuration file {name} belongs to another user (number {}), who could have any program run",
            metadata.uid()
        ))
        .with_hint(format_args!("If all in it is as it should be, run: chown {user} {quoted}")));
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(Error::usage(format_args!(
            "the configuration file {name} can be changed by others, who could have any program run"
        ))
        .with_hint(format_args!("If all in it is as it should be, run: chmod go-w {quoted}")));
    }
    Ok(())
}

/// An error with the file, the line, and the nearest known key.
fn explain(error: &toml::de::Error, text: &str, name: &str) -> Error {
    let span = error.span().unwrap_or_default();
    let line = text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
    let message = error.message().trim_end();
    let Some((unknown, known)) = unknown_key(message) else {
        return Error::usage(format_args!("{name}, line {line}: {message}"))
            .with_hint("config.example.toml documents every key.");
    };
    let error = Error::usage(format_args!("{name}, line {line}: unknown key `{unknown}`"));
    match nearest(unknown, &known) {
        Some(near) => error.with_hint(format_args!("Did you mean `{near}`?")),
        None => error.with_hint(format_args!("Known keys are: {}.", known.join(", "))),
    }
}

/// Serde says "unknown field `a`, expected one of `b`, `c`": the unknown name, and the known ones.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    Some((unknown, rest.split('`').skip(1).step_by(2).collect()))
}

/// The candidate that is most like `word`, unless none is.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    const LIKENESS_MIN: f64 = 0.75;
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&word, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// One string, or a list of strings: for the schema.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is used; values are read by `Loose`")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A word, or a number: for the schema.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is used; values are read by `Loose`")]
enum WordOrNumber {
    Word(String),
    Number(i64),
}

/// A value that may be written in several ways.
enum Loose {
    Text(String),
    Number(i64),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose::Number(number))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Loose, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Loose::List(list))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match String::deserialize(deserializer)? {
        text if text.trim().is_empty() => {
            Err(de::Error::custom("the value is empty: leave the key out instead"))
        }
        text => Ok(Some(text)),
    }
}

pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Loose::deserialize(deserializer)? {
        Loose::Text(text) => Ok(vec![text]),
        Loose::List(list) => Ok(list),
        Loose::Number(_) => Err(de::Error::custom("expected a string or a list of strings")),
    }
}

/// As [`one_or_many`], of a key that may be left out.
pub(super) fn one_or_many_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    one_or_many(deserializer).map(Some)
}

fn one_or_many_paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    Ok(one_or_many(deserializer)?.into_iter().map(PathBuf::from).collect())
}

pub(super) fn word_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = match Loose::deserialize(deserializer)? {
        Loose::Text(text) => text,
        Loose::Number(number) => number.to_string(),
        Loose::List(_) => return Err(de::Error::custom("expected a word or a number")),
    };
    match text.parse::<crate::compress::Level>() {
        Ok(_) => Ok(Some(text)),
        Err(why) => Err(de::Error::custom(format_args!("compression {text:?}: {why}"))),
    }
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let words = match Loose::deserialize(deserializer)? {
        Loose::Text(text) => super::secrets::split_command(&text).map_err(de::Error::custom)?,
        Loose::List(list) => list,
        Loose::Number(_) => return Err(de::Error::custom("expected a string or a list of strings")),
    };
    if words.is_empty() { Err(de::Error::custom("the command is empty")) } else { Ok(Some(words)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../config.example.toml");

    #[test]
    fn the_example_loads_as_it_stands() {
        ConfigFile::parse(EXAMPLE, "config.example.toml").unwrap();
    }

    #[test]
    fn the_example_loads_with_every_key_uncommented_and_documents_all() {
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("#:").map_or(line, str::trim_start))
            .fold(String::new(), |text, line| text + line + "\n");
        ConfigFile::parse(&uncommented, "config.example.toml").unwrap();
        let message = toml::from_str::<ConfigFile>("nonsense = 1").unwrap_err().message().to_owned();
        for key in unknown_key(&message).unwrap().1 {
            let is_documented =
                [format!("\n{key} = "), format!("\n[[{key}]]"), format!("\n[{key}]"), format!("\n[{key}.")]
                    .iter()
                    .any(|form| uncommented.contains(form));
            assert!(is_documented, "{key} is not documented");
        }
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
        let error = ConfigFile::parse("host = \"a\"\nrepositry = \"/b\"\n", "c.toml").unwrap_err();
        assert_eq!(error.to_string(), "c.toml, line 2: unknown key `repositry`");
        assert_eq!(error.hint(), Some("Did you mean `repository`?"));
        let error = ConfigFile::parse("keyfile = \"/b\"\n", "c.toml").unwrap_err();
        assert_eq!(error.hint(), Some("Did you mean `key_file`?"));
        let error = ConfigFile::parse("zzz = 1", "c.toml").unwrap_err();
        assert!(
            error.hint().unwrap().starts_with("Known keys are: repository, destination, source, key_file,")
        );
    }

    #[test]
    fn one_value_or_a_list() {
        let text = "exclude = \"*.o\"\npassphrase_command = \"pass show 'my backup'\"\ncompression = 7";
        let file = ConfigFile::parse(text, "c").unwrap();
        assert_eq!(file.exclude, ["*.o"]);
        assert_eq!(file.passphrase_command.unwrap(), ["pass", "show", "my backup"]);
        assert_eq!(file.compression.as_deref(), Some("7"));
        assert!(ConfigFile::parse("compression = 20", "c").is_err());
        assert!(ConfigFile::parse("exclude = 7", "c").is_err());
        assert!(ConfigFile::parse("host = \"\"", "c").is_err());
        assert!(ConfigFile::parse("repository = \" \"", "c").is_err());
    }
}
