//! Snapshots as the rules see them, and the groups in which they compete.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use lifeboat_providers::Sha256;

use crate::snapshot::{History, Snapshot};
use crate::tree::path_text;

/// A snapshot as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: Sha256,
    /// When it was made.
    pub time: DateTime<Utc>,
    /// Decides which of two snapshots of one instant is the newer: writer and place in its chain.
    pub order: (String, u64),
    /// Which history it belongs to.
    pub class: String,
    /// Those it was made with, and those it was given or lost since.
    pub tags: Vec<String>,
    /// Snapshots of other groups take no place of this one's.
    pub group: Group,
    /// Its source's name.
    pub source: Option<String>,
    /// Nobody but a person who names it may forget it.
    pub pinned: bool,
    /// Nothing is known to be lost of it, and it was not saved from one of which something was.
    pub whole: bool,
    /// Everything could be read when it was made.
    pub without_errors: bool,
}

/// What the snapshots of one group have in common. Empty fields are not compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Group {
    host: Option<String>,
    source: Option<String>,
    paths: Option<Vec<String>>,
    class: Option<String>,
}

/// What makes snapshots compete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The machine.
    pub host: bool,
    /// The source's name; the paths where it has none.
    pub source: bool,
    /// The paths.
    pub paths: bool,
    /// The class.
    pub class: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, source: true, paths: false, class: false }
    }
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut by = Self { host: false, source: false, paths: false, class: false };
        for word in text.split(',').map(str::trim) {
            match word {
                "host" => by.host = true,
                "source" => by.source = true,
                "paths" => by.paths = true,
                "class" => by.class = true,
                "none" if text.trim() == "none" => {}
                _ => {
                    return Err(format!(
                        "{word:?}: write some of host, source, paths, class with commas, or none"
                    ));
                }
            }
        }
        Ok(by)
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words =
            [(self.host, "host"), (self.source, "source"), (self.paths, "paths"), (self.class, "class")];
        let words: Vec<&str> =
            words.into_iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word).collect();
        f.write_str(if words.is_empty() { "none".to_owned() } else { words.join(",") }.as_str())
    }
}

#[cfg(test)]
impl Group {
    pub(super) fn of_source(source: Option<String>) -> Self {
        Self { source, ..Self::default() }
    }
}

impl GroupBy {
    fn group(self, snapshot: &Snapshot) -> Group {
        let manifest = &snapshot.manifest;
        let by_paths = self.paths || (self.source && manifest.source.is_none());
        Group {
            host: self.host.then(|| manifest.host.clone()),
            source: manifest.source.clone().filter(|_| self.source),
            paths: by_paths.then(|| {
                let mut paths = manifest.paths.clone();
                paths.sort_unstable();
                paths
            }),
            class: self.class.then(|| manifest.class.clone()),
        }
    }
}

impl Candidate {
    /// All snapshots of a history.
    pub fn all(history: &History, by: GroupBy) -> Vec<Self> {
        let repaired: HashSet<&str> =
            history.snapshots.iter().filter_map(|s| s.manifest.repaired_from.as_deref()).collect();
        let candidate = |snapshot: &Snapshot| {
            let manifest = &snapshot.manifest;
            Self {
                id: snapshot.id,
                time: manifest.time.with_timezone(&Utc),
                order: (manifest.writer.clone(), manifest.sequence),
                class: manifest.class.clone(),
                tags: snapshot.tags.clone(),
                group: by.group(snapshot),
                source: manifest.source.clone(),
                pinned: snapshot.pinned,
                whole: manifest.lost_total == 0
                    && manifest.repaired_from.is_none()
                    && !repaired.contains(snapshot.id.to_string().as_str()),
                without_errors: manifest.errors_total == 0,
            }
        };
        history.snapshots.iter().map(candidate).collect()
    }
}

/// What is backed up there: the source's name, or the paths.
pub fn what_of(snapshot: &Snapshot) -> String {
    match &snapshot.manifest.source {
        Some(source) => path_text::display(source.as_bytes()),
        None => {
            let paths = snapshot.manifest.path_bytes();
            paths.iter().map(|path| path_text::display(path)).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_as_people_write_them() {
        assert_eq!("host,source".parse(), Ok(GroupBy::default()));
        assert_eq!(GroupBy::default().to_string(), "host,source");
        for text in ["none", "paths", "host,source,paths,class"] {
            assert_eq!(text.parse::<GroupBy>().unwrap().to_string(), text);
        }
        for wrong in ["", "hosts", "host,", "none,host"] {
            assert!(wrong.parse::<GroupBy>().is_err(), "{wrong}");
        }
    }
}
