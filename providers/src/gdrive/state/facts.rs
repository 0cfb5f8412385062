//! The facts in memory, and how each line changes them.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Entry, Plan, SESSION_LIFE};
use crate::gdrive::file::is_id;

/// How many removed files are remembered while the file is open, so that a listing that lags does not show them.
const REMOVED_MAX: usize = 100_000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fact")]
pub(super) enum Fact {
    /// The file is the object of that name.
    Stored { name: String, id: String },
    /// A create under this id was begun at `at` (seconds since 1970).
    Planned { name: String, id: String, size: u64, sha256: String, at: u64 },
    /// The file is not (or no longer) the object of that name.
    Forgotten { name: String, id: String },
    /// The file was removed, by us.
    Removed { name: String, id: String },
    /// An upload into the file was begun at `at`, at this address.
    Session { id: String, url: String, size: u64, sha256: String, at: u64 },
    /// It ended.
    SessionOver { id: String },
    /// The folder takes objects of an area.
    Folder { area: String, id: String },
    /// It does not any more.
    FolderGone { area: String, id: String },
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Facts {
    names: HashMap<String, Known>,
    sessions: HashMap<String, Session>,
    folders: BTreeMap<String, Vec<String>>,
    removed: HashSet<String>,
}

#[derive(Debug)]
enum Known {
    Stored(String),
    Planned { plan: Plan, at: u64 },
}

#[derive(Debug)]
struct Session {
    url: String,
    plan: Plan,
    at: u64,
}

impl Known {
    fn id(&self) -> &str {
        match self {
            Self::Stored(id) => id,
            Self::Planned { plan, .. } => &plan.id,
        }
    }
}

fn is_young(at: u64, now: u64) -> bool {
    now.saturating_sub(at) < SESSION_LIFE.as_secs()
}

impl Facts {
    /// Takes a line in; one that makes no sense is passed over.
    pub(super) fn apply_line(&mut self, line: &str) {
        if let Ok(fact) = serde_json::from_str::<Fact>(line) {
            self.apply(fact);
        }
    }

    fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Stored { name, id } if is_id(&id) => {
                self.sessions.remove(&id);
                self.names.insert(name, Known::Stored(id));
            }
            Fact::Planned { name, id, size, sha256, at } => {
                if let Some(plan) = plan(id, size, &sha256) {
                    self.names.insert(name, Known::Planned { plan, at });
                }
            }
            Fact::Forgotten { name, id } => self.forget(&name, &id),
            Fact::Removed { name, id } => {
                self.forget(&name, &id);
                if self.removed.len() >= REMOVED_MAX {
                    self.removed.clear();
                }
                self.removed.insert(id);
            }
            Fact::Session { id, url, size, sha256, at } => {
                if let Some(plan) = plan(id, size, &sha256) {
                    self.sessions.insert(plan.id.clone(), Session { url, plan, at });
                }
            }
            Fact::SessionOver { id } => {
                self.sessions.remove(&id);
            }
            Fact::Folder { area, id } if is_id(&id) => {
                let folders = self.folders.entry(area).or_default();
                if !folders.contains(&id) {
                    folders.push(id);
                }
            }
            Fact::FolderGone { area, id } => {
                if let Some(folders) = self.folders.get_mut(&area) {
                    folders.retain(|known| *known != id);
                }
            }
            Fact::Stored { .. } | Fact::Folder { .. } => {}
        }
    }

    fn forget(&mut self, name: &str, id: &str) {
        if self.names.get(name).is_some_and(|known| known.id() == id) {
            self.names.remove(name);
        }
        self.sessions.remove(id);
    }

    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        Some(match self.names.get(name)? {
            Known::Stored(id) => Entry::Stored(id.clone()),
            Known::Planned { plan, .. } => Entry::Planned(plan.clone()),
        })
    }

    /// Names and ids of all files that were seen.
    pub(super) fn stored(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names.iter().filter_map(|(name, known)| match known {
            Known::Stored(id) => Some((name.as_str(), id.as_str())),
            Known::Planned { .. } => None,
        })
    }

    pub(super) fn was_removed(&self, id: &str) -> bool {
        self.removed.contains(id)
    }

    pub(super) fn session(&self, plan: &Plan, now: u64) -> Option<String> {
        let session = self.sessions.get(&plan.id)?;
        (session.plan == *plan && is_young(session.at, now)).then(|| session.url.clone())
    }

    pub(super) fn folders(&self, area: &str) -> Vec<String> {
        self.folders.get(area).cloned().unwrap_or_default()
    }

    /// The lines that say the same, without what is out of date.
    pub(super) fn compact(&self, now: u64) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (area, ids) in &self.folders {
            facts.extend(ids.iter().map(|id| Fact::Folder { area: area.clone(), id: id.clone() }));
        }
        for (name, known) in &self.names {
            match known {
                Known::Stored(id) => facts.push(Fact::Stored { name: name.clone(), id: id.clone() }),
                // A create that was begun so long ago cannot come true any more.
                Known::Planned { at, .. } if !is_young(*at, now) => {}
                Known::Planned { plan, at } => facts.push(Fact::Planned {
                    name: name.clone(),
                    id: plan.id.clone(),
                    size: plan.size,
                    sha256: plan.sha256.to_string(),
                    at: *at,
                }),
            }
        }
        for session in self.sessions.values().filter(|session| is_young(session.at, now)) {
            facts.push(Fact::Session {
                id: session.plan.id.clone(),
                url: session.url.clone(),
                size: session.plan.size,
                sha256: session.plan.sha256.to_string(),
                at: session.at,
            });
        }
        facts
    }
}

fn plan(id: String, size: u64, sha256: &str) -> Option<Plan> {
    let sha256 = sha256.parse().ok()?;
    is_id(&id).then_some(Plan { id, size, sha256 })
}
