//! Making room at a full destination: what the policy does not keep, what nothing needs, and, where that is allowed, what another destination holds.

use super::{WhenFull, evict};
use crate::collect::{self, CollectOptions};
use crate::events::{Context, Event};
use crate::fs::size::human;
use crate::repository::Repository;
use crate::session;
use crate::snapshot::History;
use crate::words::count;
use crate::{Error, Kind, Result};

/// This part of a quota is made free at least, so that not every run has to make room …
const WANTED_PART: u64 = 10;
/// … and room for so many packs.
const WANTED_PACKS: u64 = 2;
/// A run makes room so often at most.
const TIMES_MAX: usize = 3;
/// So many rounds of copying what is used, each in the room that the one before made.
const ROUNDS_MAX: usize = 16;

/// What making room came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Snapshots that the policy did not keep.
    pub forgotten: usize,
    /// Snapshots that another destination holds.
    pub evicted: usize,
    /// Bytes by which the destination is smaller.
    pub bytes_freed: u64,
    /// Bytes that nothing needs any more and that cannot be deleted yet.
    pub bytes_waiting: u64,
}

/// The other destinations of a repository, opened when they are needed.
pub type Others<'a> = dyn Fn() -> Vec<Repository> + 'a;

/// A repository and the other destinations that it knows.
pub fn with_siblings(repository: &Repository) -> Vec<Repository> {
    let others = repository.siblings().open_all(repository);
    std::iter::once(repository.clone()).chain(others.into_iter().map(|(_, other)| other)).collect()
}

/// Runs something that writes to `repository`. If that is full, makes room as its policy says and runs it again: what was stored is not stored again.
///
/// # Errors
/// Those of `run`: `Quota` if no room could be made.
pub fn with_room<T>(
    repository: &Repository,
    others: &Others<'_>,
    host: &str,
    context: &Context,
    run: impl FnMut() -> Result<T>,
) -> Result<T> {
    run_with_room(run, |full| make_after(full, repository, others, host, context))
}

/// Runs something again as long as `make_room` makes room after it did not fit, some times.
///
/// # Errors
/// Those of `run` and of `make_room`.
pub fn run_with_room<T>(
    mut run: impl FnMut() -> Result<T>,
    mut make_room: impl FnMut(Error) -> Result<()>,
) -> Result<T> {
    for _ in 0..TIMES_MAX {
        match run() {
            Err(full) if full.kind() == Kind::Quota => make_room(full)?,
            done => return done,
        }
    }
    run()
}

/// Makes room after something did not fit.
///
/// # Errors
/// `full`, if there is no room for that now; `Interrupted`.
pub fn make_after(
    full: Error,
    repository: &Repository,
    others: &Others<'_>,
    host: &str,
    context: &Context,
) -> Result<()> {
    if repository.space().policy().when_full == WhenFull::Fail {
        return Err(full);
    }
    context.report(Event::Notice(format!("{full}. Making room")));
    match make(repository, others, host, context) {
        Ok(room) => {
            context.report(Event::Notice(room.words(&repository.store().location())));
            // Where the store itself has refused it, it may have more to say than what is known here.
            let left = repository.known_space().and_then(|standing| standing.left(false));
            let fits = left.is_none_or(|left| left >= repository.refused_bytes());
            if fits && room.bytes_freed > 0 { Ok(()) } else { Err(full) }
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            let hint = e.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
            context.report(Event::Warning(format!("no room could be made: {e}{hint}")));
            Err(full)
        }
    }
}

/// Makes room before something does not fit, where a pack is deleted only some time after nothing needs it any more: a run that is refused could not
/// wait for that. What goes wrong is a warning.
///
/// # Errors
/// `Interrupted`.
pub fn make_ahead(repository: &Repository, others: &Others<'_>, host: &str, context: &Context) -> Result<()> {
    if !is_made_ahead(repository) {
        return Ok(());
    }
    let made = repository.measure_space().and_then(|_| match missing(repository, 0) {
        0 => Ok(None),
        _ => make(repository, others, host, context).map(Some),
    });
    match made {
        Ok(None) => {}
        Ok(Some(room)) => context.report(Event::Notice(room.words(&repository.store().location()))),
        Err(e) if e.kind() == Kind::Interrupted => return Err(e),
        Err(e) => context.report(Event::Warning(format!("no room could be made for the next run: {e}"))),
    }
    Ok(())
}

/// Whether room has to be made before it is needed, and may be.
pub fn is_made_ahead(repository: &Repository) -> bool {
    let policy = repository.space().policy();
    let has_a_way = match policy.when_full {
        WhenFull::Fail => false,
        WhenFull::Prune => policy.keep.is_some(),
        WhenFull::Evict => true,
    };
    policy.quota.is_some() && has_a_way && !session::outcome::can_fence(repository)
}

/// Makes room as the policy of `repository` says.
///
/// # Errors
/// `Damaged` if a snapshot cannot be read in full, or it is not known what is pinned; `Locked` if somebody else prunes; `Interrupted`; errors of
/// the store.
pub fn make(repository: &Repository, others: &Others<'_>, host: &str, context: &Context) -> Result<Room> {
    let policy = repository.space().policy();
    let mut room = Room::default();
    if policy.when_full == WhenFull::Fail {
        return Ok(room);
    }
    let others =
        if policy.keep.is_some() || policy.when_full == WhenFull::Evict { others() } else { Vec::new() };
    room.forgotten = forget(repository, &others, host, context)?;
    room.pruned(prune(repository, false, host, context)?);
    if policy.when_full == WhenFull::Evict {
        // What is only waiting to be deleted is as good as free: more must not go for it.
        while let missing @ 1.. = missing(repository, room.bytes_waiting) {
            match evict::evict(repository, &others, missing, host, context)? {
                0 => break,
                evicted => room.evicted += evicted,
            }
            room.pruned(prune(repository, false, host, context)?);
        }
    }
    let left = repository.known_space().and_then(|standing| standing.left(false));
    if left.is_some_and(|left| left + room.bytes_waiting < repository.refused_bytes()) {
        // What runs that did not fit have left behind is dear only as long as there is room.
        room.pruned(prune(repository, true, host, context)?);
    }
    Ok(room)
}

/// Forgets what the policy does not keep.
fn forget(repository: &Repository, others: &[Repository], host: &str, context: &Context) -> Result<usize> {
    let policy = repository.space().policy();
    if policy.keep.is_none() {
        return Ok(0);
    }
    let history = with_pins_of(repository, others, context)?;
    let doomed = policy.lets_go(&history)?;
    repository.forget(&doomed, host)?;
    Ok(doomed.len())
}

/// All snapshots, with what is pinned anywhere.
///
/// # Errors
/// `Damaged` if it is not known what is pinned here; errors of the store.
pub(super) fn with_pins_of(
    repository: &Repository,
    others: &[Repository],
    context: &Context,
) -> Result<History> {
    let mut history = repository.load_history()?;
    repository.require_pins(&history)?;
    for other in others {
        match other.load_history() {
            Ok(there) => history.labels.unite(&there.labels),
            Err(e) => context.report(Event::Warning(format!(
                "{} cannot be asked what is pinned: {e}",
                other.store().location()
            ))),
        }
    }
    history.apply_labels();
    Ok(history)
}

/// Collects until nothing more can be had; returns by how many bytes the destination is smaller, and how many wait to be deleted.
fn prune(
    repository: &Repository,
    drop_interrupted: bool,
    host: &str,
    context: &Context,
) -> Result<(u64, u64)> {
    let options = CollectOptions { drop_interrupted, host: host.to_owned(), ..CollectOptions::default() };
    let (mut freed, mut waiting) = (0_i64, 0);
    for _ in 0..ROUNDS_MAX {
        let outcome = collect::run(repository, &options, context)?;
        freed += outcome.bytes_freed();
        waiting = outcome.held_back.iter().map(|held_back| held_back.bytes).sum();
        for held_back in &outcome.held_back {
            context.report(Event::Notice(held_back.words()));
        }
        // Only where copies found no room is there anything left for another round.
        if !outcome.plan.lacks_room() || outcome.bytes_freed() <= 0 {
            break;
        }
    }
    repository.measure_space()?;
    Ok((u64::try_from(freed).unwrap_or(0), waiting))
}

/// Bytes that should be free besides what is, as it was measured, and besides `waiting` ones that will be.
fn missing(repository: &Repository, waiting: u64) -> u64 {
    let Some(standing) = repository.known_space() else { return 0 };
    let packs = (WANTED_PACKS * repository.config().pack_bytes as u64).max(repository.refused_bytes());
    let wanted = standing.quota.map_or(packs, |quota| packs.min(quota / 2).max(quota / WANTED_PART));
    standing.left(false).map_or(0, |left| wanted.saturating_sub(left).saturating_sub(waiting))
}

impl Room {
    fn pruned(&mut self, (freed, waiting): (u64, u64)) {
        self.bytes_freed += freed;
        self.bytes_waiting = waiting;
    }

    fn words(&self, place: &str) -> String {
        let mut done = Vec::new();
        if self.forgotten > 0 {
            let forgotten = count(
                self.forgotten as u64,
                "snapshot that the policy does not keep",
                "snapshots that the policy does not keep",
            );
            done.push(format!("{forgotten} forgotten"));
        }
        if self.evicted > 0 {
            let evicted = count(
                self.evicted as u64,
                "snapshot that another destination holds",
                "snapshots that other destinations hold",
            );
            done.push(format!("{evicted} evicted"));
        }
        done.push(match self.bytes_freed {
            0 => "nothing came free".to_owned(),
            bytes => format!("{} came free", human(bytes)),
        });
        if self.bytes_waiting > 0 {
            done.push(format!("{} wait to be deleted by a later run", human(self.bytes_waiting)));
        }
        format!("at {place}: {}", done.join(", "))
    }
}
