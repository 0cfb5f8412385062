//! `[[destination]]` of the configuration file: the places that hold the repository, each with what it is opened with.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use lifeboat_providers::pace::{Limit, LimitConfig, Limits, WindowConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use super::retention::RetentionFile;
use super::{Places, SecretValue, name};
use crate::fs::size::parse_size;
use crate::private_file::{self, Guard};
use crate::repository::connect::Google;
use crate::space::WhenFull;
use crate::{Error, Result};

const NAME_BYTES_MAX: usize = 32;
/// Less than that is a mistake: 5 for 5GiB.
const QUOTA_MIN_BYTES: u64 = 1 << 20;

/// A destination as written.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationFile {
    /// What it is called on the command line and in messages.
    pub name: String,
    /// Path or URL.
    pub url: String,
    /// The id of an S3 access key.
    pub access_key_id: Option<String>,
    /// Its secret; written as text, nobody else may be able to read this file.
    pub secret_access_key: Option<SecretValue>,
    /// A file with its secret, that only this user can read.
    pub secret_access_key_file: Option<PathBuf>,
    /// The JSON of an app that was registered with Google.
    pub google_client: Option<PathBuf>,
    /// Where the grant of a person's Google account is.
    pub google_token: Option<PathBuf>,
    /// The JSON key of a service account.
    pub google_service_account: Option<PathBuf>,
    /// The person that the service account acts for.
    pub google_subject: Option<String>,
    /// Most bytes a second that are sent, as "2MiB/s", "10Mbit/s" or "off".
    #[schemars(with = "Option<String>")]
    pub limit_upload: Option<Limit>,
    /// Most bytes a second that are received, as above.
    #[schemars(with = "Option<String>")]
    pub limit_download: Option<Limit>,
    /// Most objects a second that are made.
    pub creates_per_second: Option<f64>,
    /// Other limits at some times of the week.
    #[serde(default)]
    #[schemars(with = "LimitShape")]
    pub limit: WindowConfig,
    /// Bytes that it may take up at most, as 5GiB.
    #[serde(default, deserialize_with = "quota")]
    #[schemars(with = "Option<String>")]
    pub quota: Option<u64>,
    /// What is done when that is reached, or the store is full: "fail", "prune" or "evict".
    #[serde(default, deserialize_with = "when_full")]
    #[schemars(with = "Option<String>")]
    pub when_full: Option<WhenFull>,
    /// What `forget` keeps there.
    pub retention: Option<RetentionFile>,
}

/// `WindowConfig` as it is written, for the schema: the crate of the stores has none.
#[derive(JsonSchema)]
#[schemars(rename = "Limit", deny_unknown_fields)]
#[expect(dead_code, reason = "only its shape is used")]
struct LimitShape {
    /// The first that matches counts.
    #[serde(default)]
    window: Vec<WindowShape>,
}

/// Limits at some times of the week.
#[derive(JsonSchema)]
#[schemars(rename = "Window", deny_unknown_fields)]
#[expect(dead_code, reason = "only its shape is used")]
struct WindowShape {
    /// Days such as "mon-fri"; all unless set.
    days: Option<super::file::OneOrMany>,
    /// When it begins, as "08:00".
    from: Option<String>,
    /// When it ends; past midnight if that is not later.
    to: Option<String>,
    /// As `limit_upload`.
    upload: Option<String>,
    /// As `limit_download`.
    download: Option<String>,
}

/// A destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// What it is called.
    pub name: String,
    /// Path or URL.
    pub location: OsString,
    /// An S3 access key, if one is configured.
    pub access_key: Option<ConfiguredKey>,
    /// Where the credentials of a Google account are.
    pub google: Google,
    /// Bytes a second and objects a second.
    pub limits: Limits,
    /// Bytes that it may take up at most.
    pub quota: Option<u64>,
    /// What is done when that is reached, or the store is full.
    pub when_full: WhenFull,
}

/// Where an access key's parts are.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfiguredKey {
    /// The key's id: no secret.
    pub id: String,
    secret: SecretPlace,
}

#[derive(Clone, PartialEq, Eq)]
enum SecretPlace {
    Named(SecretValue),
    File(PathBuf, Guard),
}

impl fmt::Debug for DestinationFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DestinationFile")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConfiguredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfiguredKey({}, …)", self.id)
    }
}

impl ConfiguredKey {
    /// The secret, if it is written in the configuration.
    pub fn written(&self) -> Option<&str> {
        match &self.secret {
            SecretPlace::Named(SecretValue::Written(secret)) => Some(secret),
            SecretPlace::Named(_) | SecretPlace::File(..) => None,
        }
    }

    /// The secret, read from its file if it is in one.
    ///
    /// # Errors
    /// `Usage` if the file cannot be read or is empty, or if others can read it.
    pub fn secret(&self) -> Result<Zeroizing<String>> {
        let (path, guard) = match &self.secret {
            SecretPlace::Named(secret) => return secret.read(&format!("secret of access key {}", self.id)),
            SecretPlace::File(path, guard) => (path, *guard),
        };
        let read = private_file::read(path, &format!("secret of access key {} in", self.id), guard)?;
        let secret = Zeroizing::new(read.trim().to_owned());
        if secret.is_empty() {
            return Err(Error::usage(format_args!(
                "the file {} is empty: it is to hold the secret of access key {}",
                path.display(),
                self.id
            )));
        }
        Ok(secret)
    }
}

/// Checks what was written. `credentials` is systemd's directory of credentials, where `NAME.access-key-id` and
/// `NAME.secret-access-key` stand for the keys of the same names.
///
/// # Errors
/// `Usage` that names the destination.
pub fn check(
    files: Vec<DestinationFile>,
    places: &Places,
    base: &Path,
    credentials: Option<&Path>,
) -> Result<Vec<Destination>> {
    let mut destinations: Vec<Destination> = Vec::new();
    for file in files {
        let name = file.name.clone();
        name::check("destination", &name, NAME_BYTES_MAX)?;
        if destinations.iter().any(|other| other.name == name) {
            return Err(Error::usage(format_args!("two destinations are called {name}"))
                .with_hint("Give each [[destination]] a name of its own."));
        }
        if file.url.trim().is_empty() {
            return Err(Error::usage(format_args!("destination {name}: `url` is empty")));
        }
        let access_key = access_key(&file, places, base, credentials)
            .map_err(|e| e.context(format_args!("destination {name}")))?;
        let limits = limits(&file).map_err(|e| e.context(format_args!("destination {name}")))?;
        let location = places.resolve_location(&file.url, base);
        let resolve = |path: &Option<PathBuf>| path.as_ref().map(|path| places.resolve(path, base));
        // A person's account that is named here is meant, whatever the environment says.
        let names_a_person = file.google_client.is_some() || file.google_token.is_some();
        let of_environment = places.google.service_account.clone().filter(|_| !names_a_person);
        let google = Google {
            client: resolve(&file.google_client).unwrap_or_else(|| places.google.client.clone()),
            token: resolve(&file.google_token).unwrap_or_else(|| places.google.token.clone()),
            service_account: resolve(&file.google_service_account).or(of_environment),
            subject: file.google_subject.clone(),
        };
        let (quota, when_full) = (file.quota, file.when_full.unwrap_or_default());
        destinations.push(Destination { name, location, access_key, google, limits, quota, when_full });
    }
    Ok(destinations)
}

fn quota<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match parse_size(&text).map_err(de::Error::custom)? {
        bytes if bytes < QUOTA_MIN_BYTES => Err(de::Error::custom(format_args!(
            "a quota of {text} has no room for a backup: write 1MiB or more"
        ))),
        bytes => Ok(Some(bytes)),
    }
}

fn when_full<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WhenFull>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

fn limits(file: &DestinationFile) -> Result<Limits> {
    if file.creates_per_second.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(Error::usage("`creates_per_second` must be a number above 0"));
    }
    let config = LimitConfig {
        limit_upload: file.limit_upload,
        limit_download: file.limit_download,
        creates_per_second: file.creates_per_second,
        limit: file.limit.clone(),
    };
    Ok(config.limits())
}

fn access_key(
    file: &DestinationFile,
    places: &Places,
    base: &Path,
    credentials: Option<&Path>,
) -> Result<Option<ConfiguredKey>> {
    let credential = |what: &str| {
        let path = credentials?.join(format!("{}.{what}", file.name));
        path.exists().then_some(path)
    };
    let id = match (&file.access_key_id, credential("access-key-id")) {
        (Some(id), _) => Some(id.clone()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path).map_err(|e| Error::io(path.display(), e))?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    };
    let secret = match (&file.secret_access_key, &file.secret_access_key_file) {
        (Some(_), Some(_)) => {
            return Err(Error::usage("`secret_access_key` and `secret_access_key_file` are both given")
                .with_hint("Keep one of them, better the file."));
        }
        (Some(secret), None) => {
            Some(SecretPlace::Named(secret.clone().resolved(|path| places.resolve(path, base))))
        }
        (None, Some(path)) => Some(SecretPlace::File(places.resolve(path, base), Guard::Mode)),
        (None, None) => credential("secret-access-key").map(|path| SecretPlace::File(path, Guard::System)),
    };
    match (id, secret) {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => Ok(Some(ConfiguredKey { id, secret })),
        (Some(_), None) => Err(Error::usage("`access_key_id` is given, and no secret")
            .with_hint("Add `secret_access_key_file`, a file that only this user can read.")),
        (None, Some(_)) => Err(Error::usage("the secret of an access key is given, and not `access_key_id`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Environment};

    fn read(text: &str) -> Result<Vec<Destination>> {
        let places = Places::of(&Environment { home: Some("/home/me".into()), ..Environment::default() })?;
        check(ConfigFile::parse(text, "c")?.destination, &places, Path::new("/etc/lifeboat"), None)
    }

    #[test]
    fn destinations_are_read_in_order() {
        let text = "[[destination]]\nname = \"disk\"\nurl = \"backup\"\n\
                    [[destination]]\nname = \"s3\"\nurl = \"s3://bucket/x\"\naccess_key_id = \"AK\"\nsecret_access_key_file = \"~/s\"\n";
        let found = read(text).unwrap();
        assert_eq!(found.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["disk", "s3"]);
        assert_eq!(found[0].location, "/etc/lifeboat/backup");
        assert_eq!(found[1].location, "s3://bucket/x");
        let key = found[1].access_key.as_ref().unwrap();
        assert!(key.secret == SecretPlace::File("/home/me/s".into(), Guard::Mode) && key.id == "AK");
    }

    #[test]
    fn mistakes_name_the_destination() {
        let one = |fields: &str| format!("[[destination]]\nname = \"one\"\nurl = \"/x\"\n{fields}\n");
        let two = one("") + &one("");
        let bad_name = one("").replace("\"one\"", "\"a b\"");
        for (text, word) in [
            (two, "two destinations"),
            (bad_name, "up to 32"),
            (one("").replace("/x", " "), "`url` is empty"),
            (one("access_key_id = \"x\""), "one: `access_key_id` is given, and no secret"),
            (one("secret_access_key = \"x\""), "not `access_key_id`"),
            (one("secret_access_key = \"x\"\nsecret_access_key_file = \"x\""), "both given"),
            (one("quota = \"5\""), "write 1MiB or more"),
            (one("quota = \"5 apples\""), "is not a size"),
            (one("when_full = \"delete\""), "write \"fail\", \"prune\" or \"evict\""),
            (one("acess_key_id = \"x\""), "acess_key_id"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn the_service_account_of_the_environment_is_used_unless_a_person_is_named() {
        let environment = Environment {
            home: Some("/home/me".into()),
            google_credentials: Some("/service.json".into()),
            ..Environment::default()
        };
        let places = Places::of(&environment).unwrap();
        let service_account = |fields: &str| {
            let text = format!("[[destination]]\nname = \"one\"\nurl = \"gdrive://x\"\n{fields}\n");
            let files = ConfigFile::parse(&text, "c").unwrap().destination;
            check(files, &places, Path::new("/etc"), None).unwrap().remove(0).google.service_account
        };
        assert_eq!(service_account(""), Some("/service.json".into()));
        assert_eq!(service_account("google_service_account = \"own.json\""), Some("/etc/own.json".into()));
        assert_eq!(service_account("google_token = \"token.json\""), None);
    }

    #[test]
    fn a_secret_may_be_somewhere_else() {
        let secret = |value: &str| {
            let text = format!(
                "[[destination]]\nname = \"one\"\nurl = \"/x\"\naccess_key_id = \"AK\"\nsecret_access_key = {value}\n"
            );
            read(&text).unwrap().remove(0).access_key.unwrap().secret()
        };
        assert_eq!(secret("\"written\"").unwrap().as_str(), "written");
        assert_eq!(secret("{ command = [\"echo\", \"printed\"] }").unwrap().as_str(), "printed");
        // A path begins at the directory of the file.
        let error = secret("{ file = \"not-there\" }").unwrap_err().to_string();
        assert!(error.contains("/etc/lifeboat/not-there") && error.contains("AK"), "{error}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[[destination]]\nname = \"one\"\nurl = \"/x\"\naccess_key_id = \"AK\"\nsecret_access_key = \"hidden\"\n";
        let file = ConfigFile::parse(text, "c").unwrap();
        assert!(!format!("{file:?}").contains("hidden"));
        assert!(!format!("{:?}", read(text).unwrap()).contains("hidden"));
    }
}
