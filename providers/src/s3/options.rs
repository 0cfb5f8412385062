//! What an S3 store is opened with: from its URL, from the configuration, and where it differs from Amazon's.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::types::{ObjectLockMode, StorageClass};

use crate::address::Address;
use crate::http::check_endpoint;
use crate::{Key, Result};

/// Days in which one retention cannot be longer: beyond it is a slip, and a lock cannot be taken back.
const RETENTION_DAYS_MAX: u64 = 36_500;
const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// A bucket, a folder in it, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Address {
    /// The bucket's name.
    pub bucket: String,
    /// The folder without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// The server's URL; `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// The region; `None` for what the AWS configuration says.
    pub region: Option<String>,
    /// The bucket's name is in the path and not in the host's name.
    pub path_style: bool,
    /// What class data packs are of, if not the store's default.
    pub storage_class: Option<StorageClass>,
    /// Objects are locked against removal for some time.
    pub lock: Option<Lock>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
}

/// A retention of every object that is put (Object Lock).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Whether privileged users may remove it all the same (`governance`) or nobody may (`compliance`).
    pub mode: ObjectLockMode,
    /// For how long.
    pub period: Duration,
}

/// An access key that was configured, in place of the usual AWS chain.
#[derive(Clone)]
pub struct AccessKey {
    /// The key's id: no secret.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKey({}, …)", self.id)
    }
}

/// What else an S3 store is opened with.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Credentials; `None` for the usual AWS chain: environment, files, web identity, container, instance.
    pub access_key: Option<AccessKey>,
    /// Where this machine keeps what it found out about the store, and what it must clean up there; `None` for nowhere.
    pub state_dir: Option<PathBuf>,
    /// Objects up to this many bytes go in one request.
    pub single_put_bytes_max: u64,
    /// Bytes of each part of larger ones: 5 MiB at least, and 10,000 parts at most.
    pub part_bytes: usize,
}

impl Default for S3Options {
    fn default() -> Self {
        Self { access_key: None, state_dir: None, single_put_bytes_max: 256 << 20, part_bytes: 64 << 20 }
    }
}

impl S3Address {
    /// Understands `s3://bucket/folder?endpoint=…&region=…&path-style=yes&storage-class=…&lock=30d&lock-mode=…&profile=…`.
    ///
    /// # Errors
    /// `Misconfigured` for what it does not understand.
    pub fn parse(text: &str) -> Result<Self> {
        let mut address = Address::parse(text, "s3")?;
        if address.name.len() < 3
            || !address.name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c))
        {
            return Err(address.refuse("a bucket's name has 3 characters at least, of a-z 0-9 - and ."));
        }
        if !address.path.is_empty() && Key::new(address.path.to_ascii_lowercase()).is_err() {
            return Err(address.refuse("the folder may have letters, digits and - _ . between slashes"));
        }
        let endpoint = address.take("endpoint").filter(|endpoint| !endpoint.is_empty());
        let insecure = address.take_bool("insecure")?.unwrap_or(false);
        if let Some(endpoint) = &endpoint {
            check_endpoint(endpoint, insecure)?;
        }
        let parsed = Self {
            region: address.take("region"),
            // Stores that are not Amazon's rarely have a name in DNS for every bucket.
            path_style: address.take_bool("path-style")?.unwrap_or(endpoint.is_some()),
            storage_class: take_storage_class(&mut address)?,
            lock: take_lock(&mut address)?,
            profile: address.take("profile"),
            bucket: address.name.clone(),
            prefix: address.path.clone(),
            endpoint,
        };
        address.finish()?;
        Ok(parsed)
    }

    /// Whether it is Amazon's own S3, whose abilities are known.
    pub fn is_amazon(&self) -> bool {
        self.endpoint.as_deref().is_none_or(|endpoint| {
            let host = endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
            host.is_some_and(|host| host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
        })
    }

    /// The store's name of an object.
    pub fn object(&self, key: &Key) -> String {
        if self.prefix.is_empty() { key.to_string() } else { format!("{}/{key}", self.prefix) }
    }

    /// The object that has this name in the store; `None` if it is none of ours.
    pub fn key(&self, object: &str) -> Option<Key> {
        let rest = match self.prefix.as_str() {
            "" => object,
            prefix => object.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Key::new(rest).ok()
    }
}

impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        match self.endpoint.as_deref().and_then(|endpoint| endpoint.parse::<http::Uri>().ok()) {
            Some(uri) => write!(f, " at {}", uri.authority().map_or("", |authority| authority.as_str())),
            None => Ok(()),
        }
    }
}

/// Data packs are put into this class; all else stays in the store's default class, because every command reads it.
fn take_storage_class(address: &mut Address) -> Result<Option<StorageClass>> {
    let Some(class) = address.take("storage-class") else { return Ok(None) };
    match StorageClass::from(class.to_ascii_uppercase().as_str()) {
        StorageClass::Glacier | StorageClass::DeepArchive => Err(address.refuse(format_args!(
            "storage-class={class}: objects of that class must be thawed for hours before they can be read; GLACIER_IR can be read at once"
        ))),
        class => Ok(Some(class)),
    }
}

fn take_lock(address: &mut Address) -> Result<Option<Lock>> {
    let period = address.take("lock");
    let mode = match address.take("lock-mode").map(|mode| mode.to_ascii_lowercase()).as_deref() {
        None | Some("governance") => ObjectLockMode::Governance,
        Some("compliance") => ObjectLockMode::Compliance,
        Some(other) => {
            return Err(address.refuse(format_args!(
                "lock-mode={other}: write lock-mode=governance or lock-mode=compliance"
            )));
        }
    };
    let Some(text) = period else { return Ok(None) };
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days {
        Some(days @ 1..=RETENTION_DAYS_MAX) => {
            Ok(Some(Lock { mode, period: Duration::from_secs(days * SECONDS_A_DAY) }))
        }
        _ => Err(address.refuse(format_args!("lock={text}: write a number of days such as lock=30d"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_how() {
        let amazon = S3Address::parse("s3://my-bucket").unwrap();
        assert!(amazon.is_amazon() && !amazon.path_style && amazon.prefix.is_empty());
        assert_eq!(amazon.to_string(), "s3://my-bucket");
        let other = S3Address::parse(
            "s3://abc/Host_1/backup/?endpoint=http://127.0.0.1:3900&region=garage&storage-class=standard_ia&lock=30d",
        )
        .unwrap();
        assert!(!other.is_amazon() && other.path_style);
        assert_eq!(other.to_string(), "s3://abc/Host_1/backup at 127.0.0.1:3900");
        assert_eq!(other.storage_class, Some(StorageClass::StandardIa));
        let lock = other.lock.as_ref().unwrap();
        assert_eq!((lock.period.as_secs(), &lock.mode), (2_592_000, &ObjectLockMode::Governance));
        let key = Key::new("packs/00/ab").unwrap();
        assert_eq!(other.object(&key), "Host_1/backup/packs/00/ab");
        assert_eq!(other.key("Host_1/backup/packs/00/ab"), Some(key));
        for foreign in
            ["Host_1/backup-2/packs/00/ab", "Host_1/backup/Foreign File", "packs/00/ab", "Host_1/backup/"]
        {
            assert_eq!(other.key(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "s3://",
            "s3://ab",
            "s3://a b c",
            "s3://abc/a//b",
            "s3://abc/.hidden",
            "s3://abc?endpoint=http://example.org",
            "s3://abc?storage-class=deep_archive",
            "s3://abc?lock=forever",
            "s3://abc?lock=0d",
            "s3://abc?lock=30d&lock-mode=x",
            "s3://abc?regoin=x",
        ] {
            assert!(S3Address::parse(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let key =
            AccessKey { id: "AKIA".into(), secret: "hidden".into(), session_token: Some("hidden".into()) };
        assert!(!format!("{key:?}").contains("hidden"));
    }
}
