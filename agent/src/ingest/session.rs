//! Tells others that a writer is at work, and finds the traces of one that was cut off.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::adopt;
use super::indexer::Indexer;
use crate::events::{Context, Event};
use crate::index::Index;
use crate::repository::{Area, Repository, layout};
use crate::seal::header::ObjectKind;
use crate::seal::keys::random_bytes;
use crate::{Error, Result};

#[derive(Debug, Serialize, Deserialize)]
struct Session {
    version: u16,
    host: String,
    boot: String,
    pid: u32,
    pid_start: u64,
    time: String,
}

/// Sessions that are open in this process: a daemon outlives its runs, so that its own id says nothing of them.
static OPEN: Mutex<BTreeSet<lifeboat_providers::Key>> = Mutex::new(BTreeSet::new());

/// A session of this process; removed by [`OpenSession::close`], left over if the process is killed.
pub struct OpenSession {
    repository: Repository,
    key: lifeboat_providers::Key,
}

/// Opens a session of the machine `host`. If one of it was left over, packs of it that no index names are taken into the index.
///
/// # Errors
/// Errors of the store.
pub fn open(
    repository: &Repository,
    host: &str,
    index: &Index,
    indexer: &Indexer,
    context: &Context,
) -> Result<OpenSession> {
    adopt_leftovers(repository, host, index, indexer, context)?;
    let pid = std::process::id();
    let session = Session {
        version: 1,
        host: host.to_owned(),
        boot: boot_id(),
        pid,
        pid_start: pid_start(pid).unwrap_or(0),
        time: chrono::Utc::now().to_rfc3339(),
    };
    let json = serde_json::to_vec(&session).map_err(|e| Error::failed(e.to_string()))?;
    let key = layout::session(u128::from_be_bytes(random_bytes()?))?;
    OPEN.lock().insert(key.clone());
    let open = OpenSession { repository: repository.clone(), key: key.clone() };
    // Nobody else has this random name: no look before the write is needed.
    repository.store().create_or_same(&key, &repository.seal(ObjectKind::Session, &json)?)?;
    Ok(open)
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        OPEN.lock().remove(&self.key);
    }
}

impl OpenSession {
    /// Removes the session: everything that was stored is indexed.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn close(self) -> Result<()> {
        self.repository.store().delete(&self.key)
    }
}

fn adopt_leftovers(
    repository: &Repository,
    host: &str,
    index: &Index,
    indexer: &Indexer,
    context: &Context,
) -> Result<()> {
    let mut stale = Vec::new();
    for info in repository.store().list(&Area::Sessions.prefix())? {
        let session = repository
            .store()
            .get(&info.key)
            .and_then(|stored| repository.open_object(ObjectKind::Session, &stored))
            .ok()
            .and_then(|json| serde_json::from_slice::<Session>(&json).ok());
        // One that cannot be read says nothing of a live process; it is left for `check`.
        if session.is_some_and(|session| session.host == host && is_over(&session, &info.key)) {
            stale.push(info.key);
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    context.report(Event::Phase("continuing an interrupted backup"));
    let adopted = adopt::adopt_orphans(repository, index, indexer, context)?;
    context.report(Event::Notice(match adopted as u64 {
        0 => "a backup was cut off before: all that it had stored was indexed already".to_owned(),
        packs => format!(
            "a backup was cut off before: what was stored and not indexed yet is used now ({})",
            crate::words::count(packs, "pack", "packs")
        ),
    }));
    for key in stale {
        match repository.store().delete(&key) {
            // A policy may forbid it: it is met again next time, which costs a listing.
            Err(e) if e.kind() == crate::Kind::Store => {
                context.report(Event::Warning(format!(
                    "the trace of a backup that was cut off cannot be removed: {e}"
                )));
            }
            removed => removed?,
        }
    }
    Ok(())
}

/// Whether the process that opened a session on this machine has ended.
fn is_over(session: &Session, key: &lifeboat_providers::Key) -> bool {
    let other_process = session.boot != boot_id() || pid_start(session.pid) != Some(session.pid_start);
    other_process || (session.pid == std::process::id() && !OPEN.lock().contains(key))
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When a process was started, in clock ticks since the boot: tells it from a later one with the same id.
fn pid_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; field 22 is what is wanted.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
