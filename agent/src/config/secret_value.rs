//! A secret of the configuration: written there, or the place where it is.
//!
//! `"text"`, `{ file = "…" }`, `{ env = "…" }`, `{ command = ["…"] }` or `{ credential = "…" }` (a file in systemd's `$CREDENTIALS_DIRECTORY`).
//! A file with a secret written in it must not be readable by others, which [`super::ConfigFile::read`] checks.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use super::{environment, secret_program};
use crate::private_file::{self, Guard};
use crate::{Error, Result};

/// A secret as it is named in the configuration. Neither `Debug` nor [`SecretValue::masked`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// Written in the configuration.
    Written(Zeroizing<String>),
    /// In a file that only this user can read.
    File(PathBuf),
    /// In an environment variable.
    Environment(String),
    /// Printed by a program.
    Command(Vec<String>),
    /// In systemd's directory of credentials.
    Credential(String),
}

/// As it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Secret")]
#[expect(dead_code, reason = "the schema's; values are read by the visitor below, whose errors are better")]
enum Shape {
    /// The secret itself: then nobody else may be able to read the file.
    Text(String),
    /// Where it is.
    Place(Place),
}

/// Where a secret is; one of them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Place {
    /// A file that only this user can read.
    file: Option<PathBuf>,
    /// An environment variable.
    env: Option<String>,
    /// A program that prints it, with its arguments; no shell runs.
    command: Option<Vec<String>>,
    /// A file in systemd's `$CREDENTIALS_DIRECTORY`.
    credential: Option<String>,
}

impl SecretValue {
    /// Whether the secret itself is in the configuration.
    pub const fn is_written(&self) -> bool {
        matches!(self, Self::Written(_))
    }

    /// The same with its path made absolute by `resolve`.
    #[must_use]
    pub fn resolved(self, resolve: impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            Self::File(path) => Self::File(resolve(&path)),
            other => other,
        }
    }

    /// What may be shown of it.
    pub fn masked(&self) -> String {
        match self {
            Self::Written(_) => "********".to_owned(),
            Self::File(path) => format!("(the file {})", path.display()),
            Self::Environment(name) => format!("(the environment variable {name})"),
            Self::Command(words) => {
                format!("(the program {})", words.first().map_or("", String::as_str))
            }
            Self::Credential(name) => format!("(the credential {name})"),
        }
    }

    /// Reads the secret, without the end of its line. `what` says in messages what it is of, as `the URL of channel ops`.
    ///
    /// # Errors
    /// `Usage` if it is not there, empty, or readable by others.
    pub fn read(&self, what: &str) -> Result<Zeroizing<String>> {
        let text = match self {
            Self::Written(text) => text.clone(),
            Self::File(path) => private_file::read(path, &format!("file with {what},"), Guard::Mode)?,
            Self::Environment(name) => environment::variable(name)?.ok_or_else(|| {
                Error::usage(format_args!("{what}: the environment variable {name} is not set"))
            })?,
            Self::Command(words) => secret_program::printed(words, &format!("the program for {what}"))?,
            Self::Credential(name) => {
                let directory = environment::credentials_directory().ok_or_else(|| {
                    Error::usage(format_args!(
                        "{what}: there is no $CREDENTIALS_DIRECTORY to look for {name} in"
                    ))
                    .with_hint("systemd sets it: add LoadCredential= to the service, or name a file.")
                })?;
                private_file::read(&directory.join(name), &format!("credential with {what},"), Guard::System)?
            }
        };
        match text.trim_end_matches(['\n', '\r']) {
            "" => Err(Error::usage(format_args!("{what} is empty"))),
            trimmed => Ok(Zeroizing::new(trimmed.to_owned())),
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> de::Visitor<'de> for Any {
            type Value = SecretValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a table with `file`, `env`, `command` or `credential`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretValue, E> {
                match text {
                    "" => Err(E::custom("the value is empty: leave the key out instead")),
                    text => Ok(SecretValue::Written(Zeroizing::new(text.to_owned()))),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SecretValue, A::Error> {
                let place = Place::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match (place.file, place.env, place.command, place.credential) {
                    (Some(path), None, None, None) => Ok(SecretValue::File(path)),
                    (None, Some(name), None, None) => Ok(SecretValue::Environment(name)),
                    (None, None, Some(words), None) if words.iter().any(|word| !word.is_empty()) => {
                        Ok(SecretValue::Command(words))
                    }
                    (None, None, None, Some(name)) if !name.contains('/') && !name.is_empty() => {
                        Ok(SecretValue::Credential(name))
                    }
                    _ => Err(de::Error::custom(
                        "a secret has one of `file`, `env`, `command` (with a program) and `credential` (a name)",
                    )),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for SecretValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Shape::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Shape::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        secret: SecretValue,
    }

    fn parse(value: &str) -> Result<SecretValue, toml::de::Error> {
        toml::from_str::<Holder>(&format!("secret = {value}")).map(|holder| holder.secret)
    }

    #[test]
    fn every_form_is_read_and_none_is_shown() {
        let written = parse("\"hunter2\"").unwrap();
        assert_eq!(written.read("it").unwrap().as_str(), "hunter2");
        assert!(!format!("{written:?}").contains("hunter2"));
        let printed = parse("{ command = [\"echo\", \"hunter2\"] }").unwrap();
        assert_eq!(printed.read("it").unwrap().as_str(), "hunter2");
        assert!(!printed.is_written() && written.is_written());
        assert_eq!(parse("{ file = \"/a\" }").unwrap(), SecretValue::File("/a".into()));
        assert_eq!(parse("{ credential = \"a\" }").unwrap(), SecretValue::Credential("a".into()));
        let unset = parse("{ env = \"LIFEBOAT_NOT_SET_BY_ANYBODY\" }").unwrap();
        assert!(
            unset
                .read("the token")
                .unwrap_err()
                .to_string()
                .contains("LIFEBOAT_NOT_SET_BY_ANYBODY is not set")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("\"\"", "empty"),
            ("{}", "one of"),
            ("{ file = \"a\", env = \"b\" }", "one of"),
            ("{ fil = \"a\" }", "unknown field"),
            ("{ command = [] }", "one of"),
            ("{ credential = \"../x\" }", "one of"),
            ("7", "a string, or a table"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
