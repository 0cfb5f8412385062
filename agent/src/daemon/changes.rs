//! Sources that are backed up when they change: watched, and run after a pause, no more often than their minimum interval.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Level, Message};
use crate::config::source::SourceKind;
use crate::config::{Settings, Source};
use crate::source::paths::expand;
use crate::watch::{Signal, Watch};

/// The class of what is backed up because it changed.
pub const CLASS: &str = "on-change";

/// When a run that was not good is tried again.
const AGAIN_AFTER: TimeDelta = TimeDelta::minutes(5);

/// What is watched, and what is to be run because of it.
#[derive(Debug, Default)]
pub struct Changes {
    /// Stops watching when dropped.
    watches: Vec<Watch>,
    pending: BTreeMap<String, DateTime<Utc>>,
    started: HashMap<String, Started>,
}

#[derive(Debug)]
struct Started {
    at: DateTime<Utc>,
    /// What databases looked like then: reading one makes files beside it come and go.
    prints: Vec<Print>,
}

/// A database and its write-ahead log: sizes in bytes and modification times.
type Print = (PathBuf, Option<(u64, i64, i64)>);

impl Changes {
    /// Watches what a configuration says, in place of what was watched.
    pub fn watch(&mut self, settings: &Settings, sender: &Sender<Message>) {
        self.watches.clear();
        self.pending.retain(|name, _| settings.source(name).is_some_and(|source| source.on_change.is_some()));
        for source in &settings.sources {
            let Some(on_change) = &source.on_change else { continue };
            let paths = watched(source);
            if paths.is_empty() {
                continue;
            }
            let own = own_places(settings);
            let is_database = matches!(source.kind, SourceKind::Sqlite(_));
            let ignore = move |path: &Path| {
                own.iter().any(|own| path.starts_with(own)) || (is_database && is_shm(path))
            };
            let started = Watch::start(paths, on_change.debounce, Arc::new(ignore));
            match started {
                Ok(watch) => {
                    pass_on(&watch, source.name.clone(), sender.clone());
                    self.watches.push(watch);
                }
                Err(e) => {
                    let text = format!("{} is not watched for changes: {}", source.name, e.in_full());
                    let _ = sender.send(Message::Say(Level::Warning, text));
                }
            }
        }
    }

    /// A source changed: it is to be run, at once or when its minimum interval is over.
    pub fn changed(&mut self, settings: &Settings, name: &str, now: DateTime<Utc>) {
        let Some(source) = settings.source(name) else { return };
        let Some(on_change) = &source.on_change else { return };
        let interval = TimeDelta::from_std(on_change.minimum_interval).unwrap_or(TimeDelta::MAX);
        let at = match self.started.get(name) {
            Some(started) if !started.prints.is_empty() && started.prints == prints(source) => return,
            // A clock that was set back does not stop it for long.
            Some(started) if started.at <= now => now.max(started.at + interval),
            _ => now,
        };
        let pending = self.pending.entry(name.to_owned()).or_insert(at);
        *pending = (*pending).min(at);
    }

    /// A run because of a change was not good: it is tried again after a while, and after further changes not before the minimum interval is over.
    pub fn again(&mut self, name: &str, now: DateTime<Utc>) {
        if let Some(started) = self.started.get_mut(name) {
            // What it had seen is not stored.
            started.prints.clear();
        }
        let at = now + AGAIN_AFTER;
        let pending = self.pending.entry(name.to_owned()).or_insert(at);
        *pending = (*pending).min(at);
    }

    /// A run of a source begins: what changed until now is in it.
    pub fn started(&mut self, settings: &Settings, name: &str, now: DateTime<Utc>) {
        if let Some(source) = settings.source(name).filter(|source| source.on_change.is_some()) {
            self.started.insert(name.to_owned(), Started { at: now, prints: prints(source) });
        }
    }

    /// The sources that are to be run now; they are not pending any more.
    pub fn due(&mut self, now: DateTime<Utc>) -> Vec<String> {
        let due: Vec<String> =
            self.pending.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.pending.remove(name);
        }
        due
    }

    /// When the next one is to be run.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.pending.values().min().copied()
    }
}

fn pass_on(watch: &Watch, name: String, sender: Sender<Message>) {
    let signals = watch.signals().clone();
    let pass = move || {
        for signal in signals {
            let message = match signal {
                Signal::Changed => Message::Changed(name.clone()),
                Signal::Trouble(text) => Message::Say(Level::Warning, format!("{name}: {text}")),
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    };
    // Without a thread nothing is watched, and the schedule remains.
    let _ = thread::Builder::new().name("changes".to_owned()).spawn(pass);
}

/// The paths that a source's changes are seen at. A command's output has none.
fn watched(source: &Source) -> Vec<PathBuf> {
    let folder = |path: &PathBuf| path.parent().map(Path::to_path_buf);
    match &source.kind {
        // What a pattern will match is not known: its directory is, unless that is a pattern, too.
        SourceKind::Files(files) => {
            let of = |path: &PathBuf| match path.symlink_metadata().is_ok() {
                true => vec![path.clone()],
                false => folder(path)
                    .filter(|folder| folder.is_dir())
                    .map_or_else(|| expand(std::slice::from_ref(path)).paths, |folder| vec![folder]),
            };
            files.paths.iter().flat_map(of).collect()
        }
        // The write-ahead log lies beside the database.
        SourceKind::Sqlite(sqlite) => {
            let patterns = sqlite.paths.iter().filter_map(folder).filter(|folder| folder.is_dir());
            let mut folders: Vec<PathBuf> =
                expand(&sqlite.paths).paths.iter().filter_map(folder).chain(patterns).collect();
            folders.sort_unstable();
            folders.dedup();
            folders
        }
        SourceKind::Command(_) => Vec::new(),
    }
}

/// Places that lifeboat itself writes to.
fn own_places(settings: &Settings) -> Vec<PathBuf> {
    let local = settings.destinations.iter().filter_map(|destination| {
        let location = crate::repository::connect::Location::parse(&destination.location).ok()?;
        location.local_path().map(Path::to_path_buf)
    });
    let one = settings.repository.iter().filter_map(|place| {
        let location = crate::repository::connect::Location::parse(place).ok()?;
        location.local_path().map(Path::to_path_buf)
    });
    let own = [
        settings.default_repository.path.clone(),
        settings.directories.cache.clone(),
        settings.directories.state.clone(),
    ];
    local.chain(one).chain(own).collect()
}

fn is_shm(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"-shm")
}

fn prints(source: &Source) -> Vec<Print> {
    let SourceKind::Sqlite(sqlite) = &source.kind else { return Vec::new() };
    let both = expand(&sqlite.paths).paths.into_iter().flat_map(|path| {
        let mut wal = path.clone().into_os_string();
        wal.push("-wal");
        [path, wal.into()]
    });
    both.map(|path| {
        // An empty log is as good as none.
        let print = std::fs::metadata(&path).ok().filter(|metadata| metadata.len() > 0);
        let print = print.map(|metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        (path, print)
    })
    .collect()
}
