//! The names of all objects. No other module builds object keys (checked by `tests/it/tidy.rs`).

use bytes::Bytes;
use lifeboat_providers::{Key, Prefix, Sha256};

use crate::pack::directory::PackKind;
use crate::seal::slot::SlotId;
use crate::{Error, Result};

/// Where the objects of one kind lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Key slots.
    Keys,
    /// Records of removed key slots.
    Removed,
    /// Data packs.
    Packs,
    /// Metadata packs.
    Meta,
    /// Index shards.
    Index,
    /// Snapshots.
    Snapshots,
    /// Records of forgotten snapshots.
    Forgotten,
    /// Pins and later tags of snapshots.
    Labels,
    /// Writers at work.
    Sessions,
    /// How sessions ended.
    Outcomes,
    /// Packs that are about to be deleted.
    Tombstones,
}

impl Area {
    /// All areas, in the order in which a check reads them.
    pub const ALL: [Self; 11] = [
        Self::Keys,
        Self::Removed,
        Self::Snapshots,
        Self::Forgotten,
        Self::Labels,
        Self::Index,
        Self::Meta,
        Self::Packs,
        Self::Sessions,
        Self::Outcomes,
        Self::Tombstones,
    ];

    /// The folder's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Removed => "removed",
            Self::Packs => "packs",
            Self::Meta => "meta",
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Forgotten => "forgotten",
            Self::Labels => "labels",
            Self::Sessions => "sessions",
            Self::Outcomes => "outcomes",
            Self::Tombstones => "tombstones",
        }
    }

    /// The area of packs of this kind.
    pub const fn of_packs(kind: PackKind) -> Self {
        match kind {
            PackKind::Data => Self::Packs,
            PackKind::Metadata => Self::Meta,
        }
    }

    /// What a listing of the area is narrowed to.
    pub fn prefix(self) -> Prefix {
        Prefix::folder(self.name()).unwrap_or_default()
    }
}

/// The object that a text names, as messages and reports name it; `None` if it names none.
pub fn parse(text: &str) -> Option<Key> {
    Key::new(text).ok()
}

/// The key of the `config` object.
pub fn config() -> Result<Key> {
    key("config".to_owned())
}

/// The key of a key slot.
pub fn slot(id: SlotId) -> Result<Key> {
    key(format!("keys/{:016x}", u64::from_be_bytes(id)))
}

/// The key of the record that a key slot was removed.
pub fn slot_removal(id: SlotId) -> Result<Key> {
    key(format!("removed/{:016x}", u64::from_be_bytes(id)))
}

/// The key slot that a key of either area is of; `None` for a foreign name.
pub fn slot_id(key: &Key) -> Option<SlotId> {
    let name = key.file_name();
    let id = u64::from_str_radix(name, 16).ok()?;
    (format!("{id:016x}") == name).then_some(id.to_be_bytes())
}

/// The key of a session.
pub fn session(id: u128) -> Result<Key> {
    key(format!("sessions/{id:032x}"))
}

/// The key of a session's outcome.
pub fn outcome(id: u128) -> Result<Key> {
    key(format!("outcomes/{id:032x}"))
}

/// The number by which a session and its outcome are named; `None` for a foreign file.
pub fn session_id(key: &Key) -> Option<u128> {
    let name = key.file_name();
    let id = u128::from_str_radix(name, 16).ok()?;
    (name == format!("{id:032x}")).then_some(id)
}

/// The key of a pack.
pub fn pack(kind: PackKind, id: &Sha256) -> Result<Key> {
    key(format!("{}/{:02x}/{id}", Area::of_packs(kind).name(), id.as_bytes()[0]))
}

/// The key of an index shard, snapshot, record of forgotten snapshots, record of labels or tombstone.
pub fn named_by_hash(area: Area, id: &Sha256) -> Result<Key> {
    key(format!("{}/{id}", area.name()))
}

/// The digest that a key of an area named by hash states.
///
/// # Errors
/// `Damaged` if the name is not one: somebody put a foreign file there.
pub fn sha256_of(key: &Key) -> Result<Sha256> {
    key.file_name().parse().map_err(|_| {
        Error::damaged(format_args!("{key} does not belong here: its name is not a SHA-256"))
            .with_hint("If you put it there, remove it.")
    })
}

/// The bytes of an object that is named by their hash, if they have it.
///
/// # Errors
/// `Damaged` if they have another.
pub fn prove(key: &Key, bytes: Bytes) -> Result<Bytes> {
    if Sha256::of(&bytes) == sha256_of(key)? {
        return Ok(bytes);
    }
    Err(Error::damaged(format_args!("{key} is damaged: its bytes do not have the hash it is named by")))
}

fn key(text: String) -> Result<Key> {
    Key::new(text).map_err(|e| Error::failed(e.to_string()))
}
