//! Freeing what no snapshot needs any more, while others write. The protocol is RFC 4.
//!
//! | module | job |
//! |---|---|
//! | `survey` | what is there, and what of it is in use |
//! | `mark` | what snapshots reach |
//! | [`plan`] | what becomes of each pack: decided, shown, then done |
//! | `repack` | what is in use of some packs, to new ones |
//! | [`sweep`] | deleting what tombstones name, once nobody may need it |
//! | [`alone`] | what would come free without some snapshots |
//! | `shards` | the index without what goes |
//!
//! Nothing is deleted while there is a snapshot that cannot be read in full. A run that is cut off anywhere leaves a repository that checks
//! clean, and the next one goes on from there.

mod alone;
mod mark;
pub mod plan;
mod repack;
mod shards;
mod survey;
pub mod sweep;

use crate::events::{Context, Counters, Event};
use crate::ingest::packer::full_pack_bytes;
use crate::repository::Repository;
use crate::session::{self, OpenSession, Role};
use crate::{Error, Result};

pub use alone::alone_bytes;
pub use plan::{Action, MaxUnused, Plan, Reason, Tally};
pub use sweep::{Denied, HeldBack};

/// How space is freed.
#[derive(Debug, Clone, Default)]
pub struct CollectOptions {
    /// How much that nothing uses may stay.
    pub max_unused: MaxUnused,
    /// Also what runs that were cut off have stored: their next run does not go on from there.
    pub drop_interrupted: bool,
    /// Change nothing: only plan.
    pub dry_run: bool,
    /// The machine's name, for others who ask who is at work.
    pub host: String,
}

/// What a collection came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was decided.
    pub plan: Plan,
    /// It was only decided.
    pub dry_run: bool,
    /// Packs of which all that is in use was copied.
    pub packs_repacked: u64,
    /// Bytes of new packs.
    pub bytes_written: u64,
    /// Segments that were copied as they are.
    pub segments_copied: u64,
    /// Segments of which some chunks were packed anew.
    pub segments_repacked: u64,
    /// Packs that were deleted.
    pub packs_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Packs that may be deleted by a later run only, and whom they wait for.
    pub held_back: Vec<HeldBack>,
    /// What the store did not let go.
    pub denied: Denied,
    /// Packs that were to go, and that a snapshot made meanwhile needs: they stay.
    pub packs_needed: u64,
    /// Index shards written anew.
    pub shards_written: u64,
    /// Packs that are damaged, so that what is in use of them could not be copied: they stay.
    pub damage: Vec<String>,
}

impl Outcome {
    /// Bytes by which the repository is smaller now; negative if more was copied than could be deleted yet.
    pub fn bytes_freed(&self) -> i64 {
        i64::try_from(self.bytes_deleted).unwrap_or(i64::MAX)
            - i64::try_from(self.bytes_written).unwrap_or(i64::MAX)
    }

    /// `Damaged` if packs are.
    ///
    /// # Errors
    /// The error that the outcome deserves.
    pub fn verdict(&self) -> Result<()> {
        match self.damage.first() {
            None => Ok(()),
            Some(first) => Err(Error::damaged(format_args!(
                "{} damaged, so that what is in use of them could not be copied ({first})",
                crate::words::count(self.damage.len() as u64, "pack is", "packs are")
            ))
            .with_hint(
                "They stay as they are; all others were dealt with. `lifeboat check --read-data` says what that touches, \
                 `lifeboat check --read-data --repair` heals them from another destination.",
            )),
        }
    }
}

/// Frees what no snapshot needs.
///
/// # Errors
/// `Damaged` if a snapshot cannot be read in full, a part of the index or a tombstone cannot be read: nothing is deleted then. `Locked` if another
/// collection is at work; `Fenced` if this one was taken for dead; `Interrupted`: what was copied is used by the next run; errors of the store.
pub fn run(repository: &Repository, options: &CollectOptions, context: &Context) -> Result<Outcome> {
    let repository = &repository.to_free_space();
    if options.dry_run {
        let survey = survey::survey(repository, None, options, context)?;
        return Ok(Outcome {
            plan: decide(repository, &survey, options)?,
            dry_run: true,
            ..Outcome::default()
        });
    }
    let session = session::open(repository, &options.host, Role::Collector)?;
    let collected = collect(repository, &session, options, context);
    // What is left of it holds back a sweep for a while, and nothing else.
    if let Err(e) = session.close()
        && collected.is_ok()
    {
        context.report(Event::Warning(format!("{e}. The next prune looks for traces of this one.")));
    }
    collected
}

fn decide(repository: &Repository, survey: &survey::Survey, options: &CollectOptions) -> Result<Plan> {
    let full_bytes = |kind| full_pack_bytes(repository, kind) as u64;
    let plan = Plan::new(survey.packs.clone(), options.max_unused, full_bytes);
    match repository.measure_space()?.left(true) {
        Some(room) => Ok(plan.within(room)),
        None => Ok(plan),
    }
}

fn collect(
    repository: &Repository,
    session: &OpenSession,
    options: &CollectOptions,
    context: &Context,
) -> Result<Outcome> {
    let survey = survey::survey(repository, Some(session), options, context)?;
    tidy(repository, &survey, context)?;
    let plan = decide(repository, &survey, options)?;
    let sources: Vec<_> = plan.of(Action::Repack).copied().collect();
    if !sources.is_empty() {
        context.report(Event::Phase("copying what is used"));
    }
    let copied = repack::repack(repository, session, &survey.index, &survey.live, &sources, context)
        .map_err(|e| interrupted(e, context))?;
    let is_new = |pack: &&plan::PackUse| !survey.tombstones.packs.contains(&pack.id);
    let goes = plan.of(Action::Delete).chain(&copied.packs).filter(is_new);
    let published = sweep::publish(repository, goes)?;
    let swept = match survey.tombstones.is_empty() && published.is_empty() {
        true => sweep::Swept::default(),
        false => sweep::sweep(repository, session, &survey, &published, &copied.packs, context)?,
    };
    session::over::expire(repository, context)?;
    Ok(Outcome {
        plan,
        dry_run: false,
        packs_repacked: copied.packs.len() as u64,
        bytes_written: copied.stored_bytes,
        segments_copied: copied.whole,
        segments_repacked: copied.anew,
        packs_deleted: swept.packs,
        bytes_deleted: swept.bytes,
        held_back: swept.held_back,
        denied: swept.denied,
        packs_needed: swept.needed,
        shards_written: swept.shards_written,
        damage: copied.damage,
    })
}

/// Removes what is left of snapshots that were forgotten and of sessions that are done with. A store may refuse both: then it is tried again.
fn tidy(repository: &Repository, survey: &survey::Survey, context: &Context) -> Result<()> {
    for e in session::over::remove(repository, &survey.done_with) {
        context.report(Event::Warning(format!("the trace of a run that was cut off cannot be removed: {e}")));
    }
    if !survey.history.lingering.is_empty()
        && let Err(e) = repository.remove_lingering()
    {
        context.report(Event::Warning(format!("a snapshot that was forgotten cannot be removed: {e}")));
    }
    context.check_stop()
}

fn interrupted(error: Error, context: &Context) -> Error {
    if error.kind() != crate::Kind::Interrupted {
        return error;
    }
    let stored = Counters::get(&context.counters.bytes_stored);
    error.with_hint(format_args!(
        "Nothing was deleted. {} that were copied are kept: the same command goes on from there.",
        crate::fs::size::human(stored)
    ))
}
