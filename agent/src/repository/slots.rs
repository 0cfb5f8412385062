//! Key slots of a repository: several ways to unlock one master key.

use super::{Area, Repository, Store, layout};
use crate::seal::header::RepositoryId;
use crate::seal::keys::MasterKey;
use crate::seal::object::SealedObject;
use crate::seal::slot::{Cost, Purpose, Secret, Slot};
use crate::{Error, Kind, Result};

/// All slots of a repository that can be read, and errors for those that cannot.
///
/// # Errors
/// If the store cannot be listed.
pub fn list(store: &Store, repository: RepositoryId) -> Result<(Vec<Slot>, Vec<Error>)> {
    let (mut slots, mut errors) = (Vec::new(), Vec::new());
    let listed: Vec<_> = store.list(&Area::Keys.prefix())?.into_iter().map(|info| info.key).collect();
    for (key, stored) in listed.iter().zip(store.get_each(listed.clone())) {
        let slot = stored.and_then(|stored| Slot::parse(&stored));
        match slot {
            Ok(slot) if slot.repository != repository => {
                errors.push(Error::damaged(format_args!("{key} belongs to another repository")));
            }
            Ok(slot) if layout::slot(slot.id)? != *key => {
                errors.push(Error::damaged(format_args!("{key} is another slot than its name says")));
            }
            Ok(slot) => slots.push(slot),
            Err(e) => errors.push(e.context(key)),
        }
    }
    slots.sort_by_key(|slot| (slot.created, slot.id));
    Ok((slots, errors))
}

/// Tries every slot until one opens.
pub(super) fn unlock(store: &Store, repository: RepositoryId, secret: &Secret) -> Result<MasterKey> {
    let (slots, errors) = list(store, repository)?;
    let mut trouble = None;
    for slot in &slots {
        match slot.unlock(secret) {
            Ok(master) => return Ok(master),
            Err(e) if e.kind() == Kind::WrongKey => {}
            // One bad slot must not keep the others from being tried.
            Err(e) => trouble = trouble.or(Some(e)),
        }
    }
    if let Some(e) = trouble {
        return Err(e);
    }
    if slots.is_empty() {
        let what = format_args!("no readable key slot at {}", store.location()).to_string();
        let reason = errors.first().map_or_else(String::new, |e| format!(" ({e})"));
        return Err(Error::damaged(format_args!("{what}{reason}"))
            .with_hint("Copy the folder `keys` from another copy of the repository."));
    }
    let kinds: Vec<String> = slots.iter().map(|slot| slot.purpose.to_string()).collect();
    Err(Error::new(Kind::WrongKey, format_args!("wrong key for the repository at {}", store.location()))
        .with_hint(format_args!("It has these key slots: {}.", kinds.join(", "))))
}

impl Repository {
    /// Adds a slot for another secret.
    ///
    /// # Errors
    /// As [`Slot::create`]; errors of the store.
    pub fn add_slot(&self, secret: &Secret, purpose: Purpose, label: &str, cost: Cost) -> Result<Slot> {
        let now = u64::try_from(chrono::Utc::now().timestamp()).unwrap_or(0);
        let slot = Slot::create(self.id, self.master(), secret, purpose, label, now, cost)?;
        self.store.create(&layout::slot(slot.id)?, &SealedObject::from_stored(slot.encode()))?;
        Ok(slot)
    }

    /// Removes a slot, but never the last.
    ///
    /// # Errors
    /// `Usage` for the last slot or an id that is not there.
    pub fn remove_slot(&self, id: [u8; 8]) -> Result<()> {
        let (slots, _) = list(&self.store, self.id)?;
        if !slots.iter().any(|slot| slot.id == id) {
            return Err(Error::usage("there is no key slot with that id")
                .with_hint("`lifeboat key list` shows them."));
        }
        if slots.len() == 1 {
            return Err(Error::usage(
                "this is the last key slot: without it nobody could open the repository",
            )
            .with_hint("Add another with `lifeboat key add` first."));
        }
        self.store.delete(&layout::slot(id)?)
    }
}
