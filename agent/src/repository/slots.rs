//! Key slots of a repository: several ways to unlock one master key.
//!
//! A slot that is removed leaves a record, so that a copy of it at another destination is known for what it is: see `sync/slots.rs`.

use bytes::Bytes;
use lifeboat_providers::Key;
use serde::{Deserialize, Serialize};

use super::{Area, Repository, Store, layout};
use crate::repository::versioned;
use crate::seal::header::{ObjectKind, RepositoryId};
use crate::seal::keys::MasterKey;
use crate::seal::object::SealedObject;
use crate::seal::slot::{Cost, Purpose, Secret, Slot, SlotId};
use crate::{Error, Kind, Result};

/// A record that a key slot was removed on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRemoval {
    /// 1.
    pub version: u16,
    /// The slot's id, 16 hex digits.
    pub slot: String,
    /// When, RFC 3339.
    pub time: String,
}

impl SlotRemoval {
    /// Reads the opened bytes of a record.
    ///
    /// # Errors
    /// `Damaged` if they are none; a failure that names it for another version.
    pub fn decode(json: &[u8]) -> Result<Self> {
        versioned::decode("record of a removed key slot", 1..=1, json)
    }
}

/// The stored bytes of a slot that can be read and is of this repository.
///
/// # Errors
/// `Damaged` if it is not; errors of the store.
pub fn read(repository: &Repository, id: SlotId) -> Result<Bytes> {
    let key = layout::slot(id)?;
    let stored = repository.store().get(&key)?;
    let slot = Slot::parse(&stored).map_err(|e| e.context(&key))?;
    if slot.repository != repository.id() || slot.id != id {
        return Err(Error::damaged(format_args!("{key} is another slot than its name says")));
    }
    Ok(stored)
}

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

/// Puts a key slot, or the record that one was removed, as another destination has it.
///
/// # Errors
/// Errors of the store.
pub fn put_copy(store: &Store, key: &Key, stored: &Bytes) -> Result<()> {
    store.create_or_same(key, &SealedObject::from_stored(stored.to_vec()))
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
    // A slot that could not be had now may be the one: neither is the key wrong, nor is anything known to be damaged.
    let (mut unasked, errors): (Vec<Error>, Vec<Error>) =
        errors.into_iter().partition(|e| e.kind() != Kind::Damaged);
    if let Some(e) = unasked.pop() {
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

    /// Removes a slot, but never the last. The record that it was removed is written before.
    ///
    /// # Errors
    /// `Usage` for the last slot or an id that is not there; errors of the store.
    pub fn remove_slot(&self, id: SlotId) -> Result<()> {
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
        let key = layout::slot_removal(id)?;
        if self.store.head(&key)?.is_none() {
            let record = SlotRemoval {
                version: 1,
                slot: format!("{:016x}", u64::from_be_bytes(id)),
                time: chrono::Utc::now().to_rfc3339(),
            };
            let json = serde_json::to_vec(&record)
                .map_err(|e| Error::failed(format_args!("cannot write the record of a key slot: {e}")))?;
            self.store.create_or_same(&key, &self.seal(ObjectKind::SlotRemoval, &json)?)?;
        }
        self.store.delete(&layout::slot(id)?)
    }

    /// The stored bytes of the record that a slot was removed, after they were authenticated.
    ///
    /// # Errors
    /// `Damaged` if it is missing, of another slot, or not what it should be.
    pub fn slot_removal(&self, id: SlotId) -> Result<Bytes> {
        let key = layout::slot_removal(id)?;
        let stored = self.store.get(&key)?;
        let opened = self.open_object(ObjectKind::SlotRemoval, &stored);
        let record = opened.and_then(|json| SlotRemoval::decode(&json)).map_err(|e| e.context(&key))?;
        if u64::from_str_radix(&record.slot, 16).ok() != Some(u64::from_be_bytes(id)) {
            return Err(Error::damaged(format_args!("{key} is of another slot than its name says")));
        }
        Ok(stored)
    }
}
