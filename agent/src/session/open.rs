//! A session of this process: opened before anything is read that it relies on, closed when all that it stored counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use lifeboat_providers::{Key, ObjectInfo};
use parking_lot::Mutex;

use super::beat::Beats;
use super::leftovers::{self, Leftovers};
use super::object::{Role, SessionObject};
use crate::events::Context;
use crate::repository::lost::{Look, Sound};
use crate::repository::{Area, Repository, Tombstones, layout};
use crate::seal::keys::random_bytes;
use crate::{Error, Kind, Result};

/// Sessions that are open in this process: a daemon outlives its runs, so that its own id says nothing of them.
static OPEN: Mutex<BTreeSet<u128>> = Mutex::new(BTreeSet::new());

/// Whether this process has a session open.
pub(super) fn is_open_here(id: u128) -> bool {
    OPEN.lock().contains(&id)
}

/// A session of this process; removed by [`OpenSession::close`], left over if the process is killed or the session only dropped.
pub struct OpenSession {
    pub(super) repository: Repository,
    pub(super) id: u128,
    key: Key,
    tombstones: Arc<Tombstones>,
    pub(super) beats: Arc<Beats>,
    thread: Option<JoinHandle<()>>,
    pub(super) has_outcome: Mutex<bool>,
    /// Sessions that were there shortly before, if that is known.
    pub(super) others: Option<Vec<Key>>,
}

/// Opens a session of the machine `host`, and learns the tombstones. What was listed before counts no more, unless it is as it was: read
/// snapshots, then the index, after this.
///
/// # Errors
/// Errors of the store; `Damaged` if a tombstone cannot be read: nobody can write safely then.
pub fn open(repository: &Repository, host: &str, role: Role) -> Result<OpenSession> {
    // To name those that are known already spares saying so again.
    let known = repository.store().take_ahead(Area::Tombstones);
    let others = repository.store().take_ahead(Area::Sessions);
    let names = known.iter().flatten().filter_map(|info| layout::sha256_of(&info.key).ok());
    let object = SessionObject {
        seen: names.map(|name| name.to_string()).collect(),
        ..SessionObject::new(host, role, &repository.timing().process)
    };
    let mut session = begin(repository, object)?;
    session.others = others.map(|infos| infos.into_iter().map(|info| info.key).collect());
    match learn(repository, known) {
        Ok(tombstones) => Ok(session.with_tombstones(tombstones)),
        Err(e) => {
            // What stays only holds back a sweep for a while.
            let _ = session.close();
            Err(e)
        }
    }
}

/// Opens a session of a writer, ends what runs of this machine left, and loads the index of what is there.
///
/// # Errors
/// As [`open`], [`leftovers::settle`] and [`Repository::load_sound_index`]. The session is left over then.
pub fn open_with_index(
    repository: &Repository,
    host: &str,
    look: Look,
    context: &Context,
) -> Result<(OpenSession, Leftovers, Sound)> {
    let session = open(repository, host, Role::Writer)?;
    let left = leftovers::settle(&session, host, context)?;
    let sound = session.load_sound_index(look, context)?;
    Ok((session, left, sound))
}

/// As [`open`], but names no tombstone as seen, so that no sweep begins while it is open; with the tombstones that cannot be read.
///
/// # Errors
/// Errors of the store; `Locked` while a collector is at work.
pub fn open_holding_back(
    repository: &Repository,
    host: &str,
    context: &Context,
) -> Result<(OpenSession, Vec<(Key, Error)>)> {
    let mut session =
        begin(repository, SessionObject::new(host, Role::Writer, &repository.timing().process))?;
    repository.store().forget_ahead();
    let looked = || {
        let settled = super::settle(repository, Some(session.id), context)?;
        if let Some(collector) = settled.at_work.iter().find(|listed| listed.is_collector()) {
            return Err(Error::new(Kind::Locked, format_args!("{} is at work", collector.words()))
                .with_hint("Run this command again when it has ended. If it was killed, it is over an hour after it was last heard of."));
        }
        Tombstones::load_all(repository)
    };
    match looked() {
        Ok((tombstones, unreadable)) => {
            session.tombstones = Arc::new(tombstones);
            Ok((session, unreadable))
        }
        Err(e) => {
            let _ = session.close();
            Err(e)
        }
    }
}

fn begin(repository: &Repository, object: SessionObject) -> Result<OpenSession> {
    let id = u128::from_be_bytes(random_bytes()?);
    let key = layout::session(id)?;
    // Before it is stored: another thread of this process must not take it for left over.
    OPEN.lock().insert(id);
    let begun = Beats::begin(repository, key.clone(), object).and_then(|beats| Ok((beats.start()?, beats)));
    let (thread, beats) = match begun {
        Ok(begun) => begun,
        Err(e) => {
            OPEN.lock().remove(&id);
            return Err(e);
        }
    };
    Ok(OpenSession {
        repository: repository.clone(),
        id,
        key,
        tombstones: Arc::default(),
        beats,
        thread: Some(thread),
        has_outcome: Mutex::new(false),
        others: None,
    })
}

/// The tombstones, listed after the session was put, and what may be relied on of listings that were asked for before.
///
/// All are listed again, at once: a tombstone that is published after that waits for this session; what was there before or is there now counts
/// as seen. (One that was known before and is gone now was removed after the index had lost its packs, which a listing that was asked for at the
/// same moment may not show: then everything is listed once more.) The index must also have been listed after the snapshots, so those must be
/// the ones that were known before.
fn learn(repository: &Repository, known: Option<Vec<ObjectInfo>>) -> Result<Tombstones> {
    let store = repository.store();
    let before = store.take_ahead(Area::Snapshots);
    store.forget_ahead();
    let (Some(known), Some(before)) = (known, before) else {
        return Tombstones::load(repository);
    };
    let areas = [Area::Tombstones, Area::Snapshots, Area::Forgotten, Area::Labels, Area::Index];
    let listed = store.list_now(&areas)?;
    let [tombstones, snapshots, forgotten, labels, index]: [Vec<ObjectInfo>; 5] =
        listed.try_into().map_err(|_| Error::failed("a listing is missing: this is a bug in lifeboat"))?;
    let (found, unreadable) = Tombstones::read(repository, &tombstones)?;
    if let Some((_, e)) = unreadable.into_iter().next() {
        return Err(e);
    }
    let is_gone =
        |info: &ObjectInfo| !layout::sha256_of(&info.key).is_ok_and(|id| found.by_name.contains_key(&id));
    if known.iter().chain(&tombstones).any(is_gone) {
        return Tombstones::load(repository);
    }
    if keys(&before) == keys(&snapshots) {
        store.put_ahead(Area::Snapshots, snapshots);
        store.put_ahead(Area::Forgotten, forgotten);
        store.put_ahead(Area::Labels, labels);
        store.put_ahead(Area::Index, index);
    }
    Ok(found)
}

fn keys(infos: &[ObjectInfo]) -> BTreeSet<&Key> {
    infos.iter().map(|info| &info.key).collect()
}

impl OpenSession {
    fn with_tombstones(mut self, tombstones: Tombstones) -> Self {
        self.beats.saw(tombstones.names());
        self.tombstones = Arc::new(tombstones);
        self
    }

    /// The index of what is there, without what is about to be deleted.
    ///
    /// # Errors
    /// As [`Repository::load_sound_index`]; `Fenced` where packs are missing because this writer slept while others went on without it.
    pub fn load_sound_index(&self, look: Look, context: &Context) -> Result<Sound> {
        let sound = self.repository.load_sound_index(&self.tombstones, look, context);
        match sound {
            Err(e) if e.kind() == Kind::Damaged => Err(self.beats.assure().err().unwrap_or(e)),
            sound => sound,
        }
    }

    /// Its number: the name of its objects.
    pub const fn id(&self) -> u128 {
        self.id
    }

    /// What was about to be deleted when it began: as good as absent for this writer.
    pub const fn tombstones(&self) -> &Arc<Tombstones> {
        &self.tombstones
    }

    /// Where what it writes is noted.
    pub const fn beats(&self) -> &Arc<Beats> {
        &self.beats
    }

    /// Removes the session and its outcome: all that it stored counts, or nobody needs to look for it.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn close(mut self) -> Result<()> {
        self.beats.stop();
        // A beat that is under way would bring it back.
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| crate::threads::broke_down())?;
        }
        let mut keys = Vec::new();
        if *self.has_outcome.lock() {
            // First: one without its session would be found by nobody who may judge it.
            keys.push(layout::outcome(self.id)?);
        }
        keys.push(self.key.clone());
        self.repository.store().delete_many(&keys).into_iter().collect()
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.beats.stop();
        OPEN.lock().remove(&self.id);
    }
}
