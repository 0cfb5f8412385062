//! `sessions/<id>`: what a writer says of itself. See `docs/format.md`, "Sessions".

use lifeboat_providers::Sha256;
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::repository::versioned;
use crate::{Error, Result};

/// What the session is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Writes index shards or snapshots.
    #[default]
    Writer,
    /// Frees space.
    Collector,
}

impl Role {
    /// For messages.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Writer => "a backup, sync or repair",
            Self::Collector => "a prune",
        }
    }
}

/// A session as it is stored. Version 1, which knew neither beats nor fences, has none of the fields with defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionObject {
    /// 1 or 2.
    pub version: u16,
    /// The machine's name, for messages.
    pub host: String,
    /// The boot id of its kernel.
    pub boot: String,
    /// The namespace in which `pid` counts.
    #[serde(default)]
    pub pid_namespace: String,
    /// The process.
    pub pid: u32,
    /// When it was started, in clock ticks since the boot.
    pub pid_start: u64,
    /// When the session began, RFC 3339: for people.
    pub time: String,
    /// What it is of.
    #[serde(default)]
    pub role: Role,
    /// Tombstones that it knew before it read anything it relies on: 64 hex digits each.
    #[serde(default)]
    pub seen: Vec<String>,
    /// Grows each time it is put.
    #[serde(default)]
    pub beat: u64,
    /// Index shards that it wrote: 64 hex digits each.
    #[serde(default)]
    pub shards: Vec<String>,
}

/// The version that is written.
pub const SESSION_VERSION: u16 = 2;

impl SessionObject {
    /// A new session of a process.
    pub fn new(host: &str, role: Role, process: &Process) -> Self {
        let Process { boot, pid_namespace, pid, start } = process.clone();
        Self {
            version: SESSION_VERSION,
            host: host.to_owned(),
            boot,
            pid_namespace,
            pid,
            pid_start: start,
            time: chrono::Utc::now().to_rfc3339(),
            role,
            seen: Vec::new(),
            beat: 0,
            shards: Vec::new(),
        }
    }

    /// The plain bytes that are sealed.
    ///
    /// # Errors
    /// None that can be met.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::failed(e.to_string()))
    }

    /// Reads the opened bytes.
    ///
    /// # Errors
    /// `Damaged` if they are none; a failure that names it for a later version.
    pub fn decode(json: &[u8]) -> Result<Self> {
        versioned::decode("session", 1..=SESSION_VERSION, json)
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process {
            boot: self.boot.clone(),
            pid_namespace: self.pid_namespace.clone(),
            pid: self.pid,
            start: self.pid_start,
        }
    }

    /// Whether it knew a tombstone before it read what it relies on.
    pub fn has_seen(&self, tombstone: &Sha256) -> bool {
        let name = tombstone.to_string();
        self.seen.contains(&name)
    }

    /// Whether it beats and meets fences.
    pub const fn is_heard_of(&self) -> bool {
        self.version >= 2
    }

    /// Who it is, for messages: `a backup, sync or repair of the machine nas (process 4711, since 2026-11-21T20:00:00+00:00)`.
    pub fn words(&self) -> String {
        format!(
            "{} of the machine {} (process {}, since {})",
            self.role.words(),
            self.host,
            self.pid,
            self.time
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn version_1_is_read_and_a_later_one_refused_by_name() {
        let old =
            br#"{"version":1,"host":"h","boot":"b","pid":7,"pid_start":9,"time":"t","writer":"ignored"}"#;
        let old = SessionObject::decode(old).unwrap();
        assert!(!old.is_heard_of() && old.role == Role::Writer && old.seen.is_empty());
        let own = SessionObject {
            seen: vec![Sha256::of(b"t").to_string()],
            ..SessionObject::new("h", Role::Collector, &Process::own())
        };
        let read = SessionObject::decode(&own.encode().unwrap()).unwrap();
        assert_eq!(read, own);
        assert!(read.has_seen(&Sha256::of(b"t")) && !read.has_seen(&Sha256::of(b"u")) && read.is_heard_of());
        let later = SessionObject { version: 3, ..own };
        let error = SessionObject::decode(&later.encode().unwrap()).unwrap_err();
        assert!(error.kind() == Kind::Failed && error.to_string().contains("version 3"), "{error:?}");
        assert_eq!(SessionObject::decode(b"{}").unwrap_err().kind(), Kind::Damaged);
    }
}
