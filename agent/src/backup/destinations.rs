//! The other destinations of a run: prepared before it, fed while it goes on, brought up to the first when it is done. Whatever goes wrong at
//! one of them is said, and ends nothing.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use lifeboat_providers::Proof;

use crate::events::{Context, Event};
use crate::ingest::{Mirror, mirror};
use crate::repository::lost::Look;
use crate::repository::{Repository, state};
use crate::snapshot::Snapshot;
use crate::sync::{self, Prepared, SyncOptions, Synced};
use crate::words::count;
use crate::{Error, Kind, Result, space, threads};

/// The run waits for so long at most until destinations are ready to be fed.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// Another destination.
pub struct Destination {
    /// What it is called.
    pub name: String,
    /// What its place is, for messages and the memory.
    pub place: String,
    /// Opens the repository there.
    pub open: Box<dyn FnOnce() -> Result<Repository> + Send>,
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

/// Destinations that are being prepared, and those that are.
pub(super) struct Preparing {
    waiting: Vec<Waiting>,
    results: Receiver<(usize, Result<Mirror>)>,
}

struct Waiting {
    name: String,
    place: String,
    /// Once it is known.
    outcome: Option<Result<()>>,
}

/// Prepares all of them at once. Those that are ready within a moment are fed while the run goes on; nobody waits for the rest, which are brought up when
/// it is done.
pub(super) fn start(
    others: Vec<Destination>,
    host: &str,
    look: Look,
    context: &Context,
) -> (Vec<Mirror>, Preparing) {
    let (sender, results) = std::sync::mpsc::channel();
    let mut waiting = Vec::new();
    for (number, other) in others.into_iter().enumerate() {
        let Destination { name, place, open } = other;
        waiting.push(Waiting { name: name.clone(), place, outcome: None });
        let (sender, host, context) = (sender.clone(), host.to_owned(), context.clone());
        let prepare = move || {
            let mirror = open().and_then(|repository| Mirror::start(name, repository, &host, look, &context));
            // The run may be over.
            let _ = sender.send((number, mirror));
        };
        if let Err(e) = std::thread::Builder::new().name("prepare".to_owned()).spawn(prepare)
            && let Some(waiting) = waiting.last_mut()
        {
            waiting.outcome = Some(Err(Error::io("cannot start a thread", e)));
        }
    }
    let mut preparing = Preparing { waiting, results };
    let mirrors = preparing.wait(Some(Instant::now() + READY_WITHIN));
    (mirrors, preparing)
}

impl Preparing {
    /// Those that get ready until then, or ever.
    fn wait(&mut self, until: Option<Instant>) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        while self.waiting.iter().any(|waiting| waiting.outcome.is_none()) {
            let result = match until {
                Some(until) => {
                    self.results.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
                }
                None => self.results.recv().ok(),
            };
            let Some((number, mirror)) = result else { break };
            let Some(waiting) = self.waiting.get_mut(number) else { continue };
            waiting.outcome = Some(mirror.map(|mirror| mirrors.push(mirror)));
        }
        mirrors
    }

    /// Waits for those that were not ready in time, and says of the others why they are not.
    pub(super) fn finish(mut self, context: &Context) -> (Vec<mirror::Finished>, Vec<DestinationOutcome>) {
        let late = self.wait(None).iter().map(Mirror::finish).collect();
        let mut failed = Vec::new();
        for waiting in self.waiting {
            let broke = || Err(threads::broke_down());
            if let Err(error) = waiting.outcome.unwrap_or_else(broke) {
                warn(context, &waiting.name, &error);
                failed.push(DestinationOutcome::failed(waiting.name, waiting.place, error));
            }
        }
        (late, failed)
    }
}

/// Ends the part of destinations in a run that came to nothing: what they have is indexed, the sessions are closed.
pub(super) fn abandon(others: Vec<mirror::Finished>, mut preparing: Preparing) {
    let late = preparing.wait(None);
    for other in others.into_iter().chain(late.iter().map(Mirror::finish)) {
        if let (Ok(()), Some(session)) = (other.outcome, other.session) {
            // One that stays makes the next run look for packs that are not indexed.
            let _ = session.close();
        }
    }
}

/// Brings all of them up to the first, which has the snapshot; and the first up to one of them that has what was made while the first was away.
pub(super) fn catch_up(
    first: &Repository,
    others: Vec<mirror::Finished>,
    snapshot: &Snapshot,
    host: &str,
    context: &Context,
) -> Vec<DestinationOutcome> {
    let options = SyncOptions { made: vec![snapshot.clone()], ..SyncOptions::new(host) };
    let holders = || space::with_siblings(first);
    let names: Vec<_> =
        others.iter().map(|other| (other.name.clone(), other.repository.store().location())).collect();
    let brought = threads::at_once(others, |other| {
        // What was prepared is good for once.
        let mut prepared = Some((other.outcome, other.session, other.index));
        let mut synced = space::with_room(&other.repository, &holders, host, context, || {
            let Some((outcome, session, index)) = prepared.take() else {
                return sync::run(first, &other.repository, &options, context);
            };
            outcome?;
            let session = session.ok_or_else(|| Error::failed("a destination without a session"))?;
            let prepared = Prepared { index, session, has_lost: other.has_lost };
            match sync::bring(first, &other.repository, &options, Some(prepared), context) {
                // What it has already is not brought again.
                Err(e) if e.kind() == Kind::Fenced => sync::run(first, &other.repository, &options, context),
                synced => synced,
            }
        })?;
        if synced.is_partial {
            synced.add(sync::run(first, &other.repository, &options, context)?);
        }
        if !synced.snapshots.contains(&snapshot.id) && !synced.present.contains(&snapshot.id) {
            synced.verdict()?;
            return Err(Error::failed("the snapshot did not come there"));
        }
        space::room::make_ahead(&other.repository, &holders, host, context)?;
        Ok((other.repository, other.bytes_stored, synced))
    });
    let back: Vec<&Repository> = brought.iter().flatten().map(|(repository, ..)| repository).collect();
    bring_back(first, &back, host, context);
    let outcome = |(name, place): (String, String), brought: Result<(Repository, u64, Synced)>| match brought
    {
        Ok((repository, bytes_stored, synced)) => DestinationOutcome {
            name,
            place,
            stored: Some(repository.store().capabilities().proof),
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

/// Brings to the first what it is known to lack: snapshots that were made while it was away.
fn bring_back(first: &Repository, others: &[&Repository], host: &str, context: &Context) {
    let is_owed = || {
        let memory = state::peek(first.directories());
        memory.is_some_and(|memory| !memory.owed_at(&first.directories().place).is_empty())
    };
    let options = SyncOptions::new(host);
    for other in others {
        if !is_owed() {
            return;
        }
        let place = first.store().location();
        match sync::run(other, first, &options, context) {
            Ok(synced) if synced.snapshots.is_empty() => {}
            Ok(synced) => context.report(Event::Notice(format!(
                "{place} now has {} that {} made while it was away",
                count(synced.snapshots.len() as u64, "snapshot", "snapshots"),
                if synced.snapshots.len() == 1 { "was" } else { "were" },
            ))),
            Err(e) => context.report(Event::Warning(format!(
                "{place} lacks what was stored elsewhere while it was away, and that could not be brought: {e}. `lifeboat sync` tries again"
            ))),
        }
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
