//! What runs of this machine left that were cut off: their sessions are ended, snapshots in their last step completed, and packs that no index
//! names taken into the index, so that nothing is uploaded again that was acknowledged.

use super::OpenSession;
use super::over::{self, Listed};
use crate::Result;
use crate::events::{Context, Event};
use crate::index::Index;
use crate::ingest::adopt;
use crate::ingest::indexer::Indexer;
use crate::repository::Area;
use crate::words::count;

/// What was left.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Sessions that were fenced.
    over: Vec<Listed>,
    /// Sessions of a machine of this name that may have been started anew since, or be another one.
    doubtful: usize,
}

/// Looks for sessions that were left by this machine, and ends those that are over. Call it before snapshots are read.
///
/// # Errors
/// Errors of the store; if the state directory cannot be used.
pub fn settle(session: &OpenSession, host: &str, context: &Context) -> Result<Leftovers> {
    let repository = &session.repository;
    let keys = match &session.others {
        Some(keys) => keys.clone(),
        None => {
            let infos = repository.store().list_now(&[Area::Sessions])?.concat();
            infos.into_iter().map(|info| info.key).collect()
        }
    };
    let mut listed = over::read_listed(repository, keys.into_iter())?;
    let own = &repository.timing().process;
    // One that cannot be read says nothing of a process; it is left for `check` and the collector.
    listed.retain(|listed| {
        listed.id != session.id
            && listed.session.as_ref().is_ok_and(|said| {
                over::is_known_dead(listed, own) || (said.host == host && said.boot != own.boot)
            })
    });
    if listed.is_empty() {
        return Ok(Leftovers::default());
    }
    let settled = over::settle_listed(repository, listed, Some(session.id), context)?;
    if !settled.helped.is_empty() {
        // What was listed does not have them.
        repository.store().forget_ahead();
    }
    Ok(Leftovers { over: settled.over, doubtful: settled.at_work.len() })
}

impl Leftovers {
    /// Takes packs into the index that no index names, then removes the sessions that are over.
    ///
    /// # Errors
    /// Errors of the store; `Fenced`.
    pub fn adopt(
        self,
        session: &OpenSession,
        index: &Index,
        indexer: &Indexer,
        context: &Context,
    ) -> Result<()> {
        if self.over.is_empty() && self.doubtful == 0 {
            return Ok(());
        }
        let repository = &session.repository;
        context.report(Event::Phase("continuing an interrupted backup"));
        let adopted = adopt::adopt_orphans(session, repository, index, indexer, context)?;
        if !self.over.is_empty() || adopted > 0 {
            context.report(Event::Notice(match adopted as u64 {
                0 => "a backup was cut off before: all that it had stored was indexed already".to_owned(),
                packs => format!(
                    "a backup was cut off before: what was stored and not indexed yet is used now ({})",
                    count(packs, "pack", "packs")
                ),
            }));
        }
        // What they wrote is this run's now, should it be cut off as well.
        let shards = self.over.iter().filter_map(|listed| listed.session.as_ref().ok());
        let shards: Vec<String> = shards.flat_map(|said| said.shards.clone()).collect();
        if !shards.is_empty() {
            session.beats.wrote(shards, false);
            session.beats.put()?;
        }
        for e in over::remove(repository, &self.over) {
            // A policy may forbid it: it is met again next time, which costs a listing.
            context.report(Event::Warning(format!(
                "the trace of a backup that was cut off cannot be removed: {e}"
            )));
        }
        Ok(())
    }
}
