//! The other destinations of a run: prepared before it, fed while it goes on, brought up to the first when it is done. Whatever goes wrong at
//! one of them is said, and ends nothing.

use lifeboat_providers::Proof;

use crate::events::{Context, Event};
use crate::ingest::{Mirror, mirror};
use crate::repository::Repository;
use crate::repository::state::LockedMemory;
use crate::snapshot::Snapshot;
use crate::snapshot::history::witness;
use crate::sync::{self, Prepared, SyncOptions};
use crate::{Error, Result};

/// Another destination.
pub struct Destination {
    /// What it is called.
    pub name: String,
    /// What its place is, for messages and the memory.
    pub place: String,
    /// The repository there, or why it cannot be used.
    pub repository: Result<Repository>,
}

/// What became of the snapshot at a destination.
#[derive(Debug)]
pub struct DestinationOutcome {
    /// What it is called.
    pub name: String,
    /// What its place is.
    pub place: String,
    /// How what is stored there is proved; `None` if the snapshot is not there.
    pub stored: Option<Proof>,
    /// Bytes that were stored there in this run.
    pub bytes_stored: u64,
    /// Earlier snapshots that were brought there too.
    pub snapshots_caught_up: u64,
    /// Why the snapshot is not there.
    pub error: Option<Error>,
}

impl DestinationOutcome {
    fn failed(name: String, place: String, error: Error) -> Self {
        Self { name, place, stored: None, bytes_stored: 0, snapshots_caught_up: 0, error: Some(error) }
    }
}

/// Prepares all that can be used; the outcomes are of the others.
pub(super) fn start(
    others: Vec<Destination>,
    host: &str,
    context: &Context,
) -> (Vec<Mirror>, Vec<DestinationOutcome>) {
    let (mut mirrors, mut outcomes) = (Vec::new(), Vec::new());
    // At once: each is some round trips away.
    let started: Vec<_> = std::thread::scope(|scope| {
        let start = |other: Destination| {
            let Destination { name, place, repository } = other;
            let mirror_name = name.clone();
            let start = move || repository.and_then(|there| Mirror::start(mirror_name, there, host, context));
            (name, place, scope.spawn(start))
        };
        let threads: Vec<_> = others.into_iter().map(start).collect();
        let ended = threads
            .into_iter()
            .map(|(name, place, thread)| (name, place, thread.join().unwrap_or_else(|_| Err(broke_down()))));
        ended.collect()
    });
    for (name, place, mirror) in started {
        match mirror {
            Ok(mirror) => mirrors.push(mirror),
            Err(error) => {
                warn(context, &name, &error);
                outcomes.push(DestinationOutcome::failed(name, place, error));
            }
        }
    }
    (mirrors, outcomes)
}

/// Ends the part of destinations in a run that came to nothing: what they have is indexed, the sessions are closed.
pub(super) fn abandon(others: Vec<mirror::Finished>) {
    for other in others {
        if let (Ok(()), Some(session)) = (other.outcome, other.session) {
            // One that stays makes the next run look for packs that are not indexed.
            let _ = session.close();
        }
    }
}

/// Brings all of them up to the first, which has the snapshot.
pub(super) fn catch_up(
    first: &Repository,
    others: Vec<mirror::Finished>,
    snapshot: &Snapshot,
    host: &str,
    context: &Context,
) -> Vec<DestinationOutcome> {
    let bring = |other: mirror::Finished| {
        let place = other.repository.store().location();
        let options = SyncOptions { host: host.to_owned(), source: None };
        let prepared = Prepared { index: other.index, session: other.session };
        let synced = other.outcome.and_then(|()| {
            let synced = sync::bring(first, &other.repository, &options, Some(prepared), context)?;
            if !synced.snapshots.contains(&snapshot.id) {
                synced.verdict()?;
            }
            Ok(synced)
        });
        match synced {
            Ok(synced) => DestinationOutcome {
                name: other.name,
                place,
                stored: Some(other.repository.store().capabilities().proof),
                bytes_stored: other.bytes_stored + synced.bytes,
                snapshots_caught_up: (synced.snapshots.len() as u64).saturating_sub(1),
                error: None,
            },
            Err(error) => {
                warn(context, &other.name, &error);
                DestinationOutcome::failed(other.name, place, error)
            }
        }
    };
    std::thread::scope(|scope| {
        let start = |other: mirror::Finished| {
            let (name, place) = (other.name.clone(), other.repository.store().location());
            (name, place, scope.spawn(|| bring(other)))
        };
        let threads: Vec<_> = others.into_iter().map(start).collect();
        let outcome = |(name, place, thread): (String, String, std::thread::ScopedJoinHandle<'_, _>)| {
            thread.join().unwrap_or_else(|_| DestinationOutcome::failed(name, place, broke_down()))
        };
        threads.into_iter().map(outcome).collect()
    })
}

fn broke_down() -> Error {
    Error::failed("a thread that served it broke down: this is a bug in lifeboat")
}

/// Remembers at which destinations the snapshot is missing, so that nobody takes it for removed there.
pub(super) fn remember(
    repository: &Repository,
    outcomes: &[DestinationOutcome],
    snapshot: &Snapshot,
    context: &Context,
) {
    let behind: Vec<_> = outcomes.iter().filter(|outcome| outcome.stored.is_none()).collect();
    if behind.is_empty() {
        return;
    }
    let remembered = LockedMemory::open(repository.directories()).and_then(|mut memory| {
        for outcome in &behind {
            memory.memory.owes(&outcome.place, witness(snapshot));
        }
        memory.save()
    });
    if let Err(error) = remembered {
        context.report(Event::Warning(format!("{error}: which destinations are behind is not remembered")));
    }
}

fn warn(context: &Context, name: &str, error: &Error) {
    context.report(Event::Warning(format!(
        "the destination {name} does not get this snapshot now: {error}. `lifeboat sync` brings it there later"
    )));
}

/// The store's words for how it proves what it holds.
pub const fn proof_words(proof: Proof) -> &'static str {
    match proof {
        Proof::Server => "verified by hash",
        Proof::ReadBack => "verified by reading back",
        Proof::Transport => "sent with a signed hash, not stated by the store",
    }
}

/// The same as one word, for programs.
pub const fn proof_word(proof: Proof) -> &'static str {
    match proof {
        Proof::Server => "server",
        Proof::ReadBack => "read-back",
        Proof::Transport => "transport",
    }
}

/// Whether the next destination is worth a try after this error of the first.
pub fn falls_over(error: &Error) -> bool {
    use crate::Kind::{Damaged, NoRepository, Quota, Store};
    matches!(error.kind(), Store | Quota | NoRepository | Damaged)
}
