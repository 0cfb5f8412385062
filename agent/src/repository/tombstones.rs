//! Tombstones: packs that a collector is about to delete. What they name is as good as absent for every writer. See RFC 4.
//!
//! They are named by the hash of their bytes and never changed. One that cannot be read is an error, not an empty one: nobody knows which
//! packs it means, and to rely on one of them would lose data in silence.

use std::collections::{BTreeMap, HashSet};

use lifeboat_providers::{Key, ObjectInfo, Sha256};
use serde::{Deserialize, Serialize};

use super::{Area, Repository, layout, store};
use crate::pack::directory::PackKind;
use crate::repository::versioned;
use crate::seal::header::ObjectKind;
use crate::{Error, Kind, Result};

/// Packs of one tombstone at most: its plain form stays far below the format's limit.
pub const TOMBSTONE_PACKS_MAX: usize = 100_000;

/// The packs that one collection is about to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstone {
    /// Data packs.
    pub data: Vec<Sha256>,
    /// Metadata packs.
    pub metadata: Vec<Sha256>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u16,
    packs: Vec<String>,
    meta: Vec<String>,
}

impl Tombstone {
    /// All packs with their kinds.
    pub fn packs(&self) -> impl Iterator<Item = (PackKind, &Sha256)> {
        let data = self.data.iter().map(|id| (PackKind::Data, id));
        data.chain(self.metadata.iter().map(|id| (PackKind::Metadata, id)))
    }

    /// The plain bytes that are sealed.
    ///
    /// # Errors
    /// If it names more packs than one may.
    pub fn encode(&self) -> Result<Vec<u8>> {
        if self.data.len() + self.metadata.len() > TOMBSTONE_PACKS_MAX {
            return Err(Error::failed(format_args!(
                "a tombstone names more than {TOMBSTONE_PACKS_MAX} packs: this is a bug in lifeboat"
            )));
        }
        let texts = |ids: &[Sha256]| ids.iter().map(ToString::to_string).collect();
        let stored = Stored { version: 1, packs: texts(&self.data), meta: texts(&self.metadata) };
        serde_json::to_vec(&stored).map_err(|e| Error::failed(e.to_string()))
    }

    /// Reads the opened bytes.
    ///
    /// # Errors
    /// `Damaged` if they are none; a failure that names it for another version.
    pub fn decode(json: &[u8]) -> Result<Self> {
        let stored: Stored = versioned::decode("tombstone", 1..=1, json)?;
        let ids = |texts: Vec<String>| -> Result<Vec<Sha256>> {
            let parse = |text: String| {
                text.parse().map_err(|_| Error::damaged("malformed tombstone: it names what is no pack"))
            };
            texts.into_iter().map(parse).collect()
        };
        Ok(Self { data: ids(stored.packs)?, metadata: ids(stored.meta)? })
    }
}

/// All tombstones of a repository at one moment.
#[derive(Debug, Clone, Default)]
pub struct Tombstones {
    /// Each by its name.
    pub by_name: BTreeMap<Sha256, Tombstone>,
    /// All packs that any of them names.
    pub packs: HashSet<Sha256>,
}

impl Tombstones {
    /// Lists and reads all tombstones, now.
    ///
    /// # Errors
    /// `Damaged` (or `Failed`, for one of a later version) if one cannot be read; errors of the store.
    pub fn load(repository: &Repository) -> Result<Self> {
        let listed = repository.store().list_now(&[Area::Tombstones])?;
        let (tombstones, mut errors) = Self::read(repository, &listed.concat())?;
        if errors.is_empty() { Ok(tombstones) } else { Err(errors.swap_remove(0).1) }
    }

    /// As [`Tombstones::load`]; those that cannot be read come beside, by their keys. For those who judge what is stored, and `repair index`.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn load_all(repository: &Repository) -> Result<(Self, Vec<(Key, Error)>)> {
        let listed = repository.store().list_now(&[Area::Tombstones])?;
        Self::read(repository, &listed.concat())
    }

    /// Reads what was listed. One that vanished meanwhile was swept to its end, and is left out.
    pub(crate) fn read(repository: &Repository, listed: &[ObjectInfo]) -> Result<(Self, Vec<(Key, Error)>)> {
        let (mut found, mut errors) = (Self::default(), Vec::new());
        for info in listed {
            let read = layout::sha256_of(&info.key).and_then(|id| Ok((id, read_one(repository, &info.key)?)));
            match read {
                Ok((id, tombstone)) => found.insert(id, tombstone),
                Err(e) if store::is_missing(&e) => {}
                Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Failed) => {
                    errors.push((info.key.clone(), unreadable(&info.key, e)));
                }
                Err(e) => return Err(e),
            }
        }
        Ok((found, errors))
    }

    fn insert(&mut self, id: Sha256, tombstone: Tombstone) {
        self.packs.extend(tombstone.packs().map(|(_, pack)| *pack));
        self.by_name.insert(id, tombstone);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &Sha256> {
        self.by_name.keys()
    }

    /// Stores a tombstone and returns its name. From now on no writer that begins relies on these packs.
    ///
    /// # Errors
    /// As [`Tombstone::encode`] and [`Repository::put_whole`].
    pub fn publish(repository: &Repository, tombstone: &Tombstone) -> Result<Sha256> {
        repository.put_whole(Area::Tombstones, ObjectKind::Tombstone, &tombstone.encode()?)
    }

    /// Removes a tombstone: only after all that it named is deleted or kept for good, and the index says so.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn remove(repository: &Repository, name: &Sha256) -> Result<()> {
        repository.store().delete(&layout::named_by_hash(Area::Tombstones, name)?)
    }
}

/// Reads one; by a second try, too, as it stops every writer when it cannot be read.
fn read_one(repository: &Repository, key: &Key) -> Result<Tombstone> {
    let read = || Tombstone::decode(&repository.get_whole(key, ObjectKind::Tombstone)?);
    match read() {
        Err(e) if e.kind() == Kind::Damaged && !store::is_missing(&e) => read(),
        other => other,
    }
}

fn unreadable(key: &Key, error: Error) -> Error {
    let hint = match error.kind() {
        Kind::Failed => "It was written by a newer lifeboat: use that version or a later one.",
        _ => {
            "Nobody knows which packs it means, so that nothing can be written safely. Restoring works. When no `prune` is at work, \
             `lifeboat repair index` makes the index from the packs that are there and removes it."
        }
    };
    error
        .context(format_args!("{key} names packs that are to be deleted, and cannot be read"))
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else() {
        let tombstone =
            Tombstone { data: vec![Sha256::of(b"a"), Sha256::of(b"b")], metadata: vec![Sha256::of(b"c")] };
        let json = tombstone.encode().unwrap();
        assert_eq!(Tombstone::decode(&json).unwrap(), tombstone);
        for cut in 0..json.len() {
            assert_eq!(Tombstone::decode(&json[..cut]).unwrap_err().kind(), Kind::Damaged);
        }
        let other = |json: &str| Tombstone::decode(json.as_bytes()).unwrap_err().kind();
        assert_eq!(other(r#"{"version":2,"packs":[],"meta":[]}"#), Kind::Failed);
        assert_eq!(other(r#"{"version":1,"packs":["ff"],"meta":[]}"#), Kind::Damaged);
        assert_eq!(other(r#"{"version":1,"packs":[]}"#), Kind::Damaged);
    }
}
