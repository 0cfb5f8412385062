//! `[[source]]` as it is written.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::compress::Level;
use crate::config::duration;
use crate::fs::size::parse_size;

/// A source as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// What it is called: letters, digits, - and _.
    pub name: String,
    /// "files", "sqlite" or "command".
    #[serde(default)]
    pub kind: KindFile,
    /// Names of the destinations it goes to; without it to all.
    #[serde(default, deserialize_with = "crate::config::file::one_or_many")]
    pub to: Vec<String>,
    /// Names of the classes it is backed up for; without it for all.
    #[serde(default, deserialize_with = "crate::config::file::one_or_many")]
    pub classes: Vec<String>,
    /// Tags of its snapshots.
    #[serde(default, deserialize_with = "crate::config::file::one_or_many")]
    pub tags: Vec<String>,
    /// "off", "fast", "default", "high", or a level from 1 to 19, in place of the general one.
    #[serde(default, deserialize_with = "level")]
    #[schemars(with = "Option<String>")]
    pub compression: Option<Level>,
    /// Less than this, as "1MiB", is no backup but an error.
    #[serde(default, deserialize_with = "size")]
    #[schemars(with = "Option<String>")]
    pub minimum_size: Option<u64>,
    /// It may be smaller than last time by this share, as "50%"; more is an error and no backup.
    #[serde(default, deserialize_with = "percent")]
    #[schemars(with = "Option<String>")]
    pub maximum_shrink: Option<f64>,
    /// A database that a pattern matched last time may be gone, and a directory of `paths` that was full may be empty: else that is an error of the
    /// snapshot until it is accepted.
    #[serde(default)]
    pub may_vanish: bool,
    /// Of jobs that wait, those with the higher number run first; 0 unless set.
    #[serde(default)]
    pub priority: i32,
    /// Back up soon after something changed: true, or a table.
    #[serde(default)]
    pub on_change: OnChangeFile,
    /// Programs that run before and after.
    #[serde(default)]
    pub hooks: HooksFile,
    /// Files and directories, or databases; with `*`, `?` and `[…]`.
    #[serde(default, deserialize_with = "crate::config::file::one_or_many_or_none")]
    pub paths: Option<Vec<String>>,
    /// Patterns of what is left out, besides the general ones.
    #[serde(default, deserialize_with = "crate::config::file::one_or_many_or_none")]
    pub exclude: Option<Vec<String>>,
    /// Files of such patterns.
    #[serde(default, deserialize_with = "crate::config::file::one_or_many_or_none")]
    pub exclude_file: Option<Vec<String>>,
    /// Leave out the contents of caches that are tagged as such.
    pub exclude_caches: Option<bool>,
    /// Do not go into other file systems.
    pub one_file_system: Option<bool>,
    /// A program whose output is backed up, with its arguments; no shell runs.
    pub command: Option<Vec<String>>,
    /// A program that takes that output in again, with its arguments.
    pub restore: Option<Vec<String>>,
    /// Where the output appears in the snapshot.
    pub file: Option<PathBuf>,
    /// It may take this long: the program, or the copy of a database.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
}

/// What kind of source it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KindFile {
    /// Files and directories.
    #[default]
    Files,
    /// Live SQLite databases.
    Sqlite,
    /// The output of a program.
    Command,
}

impl fmt::Display for KindFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Sqlite => "sqlite",
            Self::Command => "command",
        })
    }
}

/// `on_change` as written.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum OnChangeFile {
    /// Not at all.
    #[default]
    #[schemars(skip)]
    Off,
    /// With the defaults.
    Switch(bool),
    /// With times.
    Table(OnChangeTable),
}

/// The table `on_change`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnChangeTable {
    /// Wait until nothing changed for so long; 10s unless set.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub debounce: Option<Duration>,
    /// Not more often than this; 5m unless set.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub minimum_interval: Option<Duration>,
}

/// `[source.hooks]` as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HooksFile {
    /// Before the source is opened.
    pub before: Vec<HookFile>,
    /// After a backup that was good.
    pub after: Vec<HookFile>,
    /// After one that was not.
    pub failed: Vec<HookFile>,
    /// In any case, at the end.
    pub finally: Vec<HookFile>,
}

/// One hook: a program with its arguments, or a table.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum HookFile {
    /// A program with its arguments.
    Command(Vec<String>),
    /// With more said.
    Table(HookTable),
}

/// A hook as a table.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookTable {
    /// A program with its arguments; no shell runs.
    pub command: Vec<String>,
    /// It may take this long; 5m unless set.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// What its failure is: "error", "warn" or "ignore"; of `before` "error" unless set, of all others "warn".
    pub on_failure: Option<OnFailure>,
}

/// What it means that a hook failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The run failed.
    Error,
    /// A warning.
    Warn,
    /// Nothing.
    Ignore,
}

impl<'de> Deserialize<'de> for OnChangeFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = OnChangeFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a table with `debounce` and `minimum_interval`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<OnChangeFile, E> {
                Ok(OnChangeFile::Switch(on))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnChangeFile, A::Error> {
                OnChangeTable::deserialize(MapAccessDeserializer::new(map)).map(OnChangeFile::Table)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl<'de> Deserialize<'de> for HookFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = HookFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of words, as [[\"systemctl\", \"stop\", \"bot\"]], or a table with `command`",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<HookFile, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(HookFile::Command)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HookFile, A::Error> {
                HookTable::deserialize(MapAccessDeserializer::new(map)).map(HookFile::Table)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Level>, D::Error> {
    let text = crate::config::file::word_or_number(deserializer)?;
    text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    parse_size(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

/// A share of the whole, from 0 to 1.
fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match number.filter(|number| (0.0..=100.0).contains(number)) {
        Some(number) => Ok(Some(number / 100.0)),
        None => Err(de::Error::custom(format_args!("{text:?} is no share: write \"50%\""))),
    }
}
