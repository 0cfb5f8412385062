//! The other destinations of a run: prepared before it, fed while it goes on, brought up to the first when it is done. Whatever goes wrong at
//! one of them is said, and ends nothing.

use lifeboat_providers::Proof;

use crate::events::{Context, Event};
use crate::ingest::{Mirror, mirror};
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::sync::{self, Prepared, SyncOptions, Synced};
use crate::{Error, Kind, Result, threads};

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
    let names: Vec<_> = others.iter().map(|other| (other.name.clone(), other.place.clone())).collect();
    // At once: each is some round trips away.
    let started =
        threads::at_once(others, |other| Mirror::start(other.name, other.repository?, host, context));
    for ((name, place), mirror) in names.into_iter().zip(started) {
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
    let options = SyncOptions { host: host.to_owned(), source: None };
    let names: Vec<_> =
        others.iter().map(|other| (other.name.clone(), other.repository.store().location())).collect();
    let brought = threads::at_once(others, |other| {
        other.outcome?;
        let session = other.session.ok_or_else(|| Error::failed("a destination without a session"))?;
        let prepared = Prepared { index: other.index, session };
        let mut synced = match sync::bring(first, &other.repository, &options, Some(prepared), context) {
            // What it has already is not brought again.
            Err(e) if e.kind() == Kind::Fenced => sync::run(first, &other.repository, &options, context)?,
            synced => synced?,
        };
        if synced.is_partial {
            synced.add(sync::run(first, &other.repository, &options, context)?);
        }
        if !synced.snapshots.contains(&snapshot.id) {
            synced.verdict()?;
        }
        Ok((other.repository.store().capabilities().proof, other.bytes_stored, synced))
    });
    let outcome = |(name, place): (String, String), brought: Result<(Proof, u64, Synced)>| match brought {
        Ok((proof, bytes_stored, synced)) => DestinationOutcome {
            name,
            place,
            stored: Some(proof),
            bytes_stored: bytes_stored + synced.bytes,
            snapshots_caught_up: (synced.snapshots.len() as u64).saturating_sub(1),
            error: None,
        },
        Err(error) => {
            warn(context, &name, &error);
            DestinationOutcome::failed(name, place, error)
        }
    };
    names.into_iter().zip(brought).map(|(name, brought)| outcome(name, brought)).collect()
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
