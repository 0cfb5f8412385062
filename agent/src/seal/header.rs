//! The clear header of every sealed object. See `docs/format.md`, "Sealed objects".

use std::fmt;

use super::cipher::{Cipher, ObjectCipher};
use super::keys::{SealKey, random_bytes};
use crate::tree::codec::Decoder;
use crate::{Error, Result};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 56;
/// The format version this program writes and reads.
pub const FORMAT_VERSION: u8 = 1;

const MAGIC: &[u8; 4] = b"LBOX";
const ENVELOPE_SYMMETRIC: u8 = 0;

/// What a sealed object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A pack of file content.
    DataPack = 1,
    /// A pack of tree nodes and lists.
    MetadataPack = 2,
    /// A part of the index.
    IndexShard = 3,
    /// A snapshot.
    Snapshot = 4,
    /// A record of forgotten snapshots.
    Forgotten = 5,
    /// A writer at work.
    Session = 6,
    /// The repository's parameters.
    Config = 7,
    /// How a writer's session ended.
    Outcome = 8,
    /// Packs that are about to be deleted.
    Tombstone = 9,
    /// Pins and later tags of a snapshot.
    Label = 10,
    /// A record that a key slot was removed.
    SlotRemoval = 11,
}

impl ObjectKind {
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::DataPack,
            2 => Self::MetadataPack,
            3 => Self::IndexShard,
            4 => Self::Snapshot,
            5 => Self::Forgotten,
            6 => Self::Session,
            7 => Self::Config,
            8 => Self::Outcome,
            9 => Self::Tombstone,
            10 => Self::Label,
            11 => Self::SlotRemoval,
            _ => return None,
        })
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DataPack => "data pack",
            Self::MetadataPack => "metadata pack",
            Self::IndexShard => "index shard",
            Self::Snapshot => "snapshot",
            Self::Forgotten => "record of forgotten snapshots",
            Self::Session => "session",
            Self::Config => "config",
            Self::Outcome => "outcome of a session",
            Self::Tombstone => "tombstone",
            Self::Label => "record of labels",
            Self::SlotRemoval => "record of a removed key slot",
        })
    }
}

/// Which repository an object belongs to: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RepositoryId(pub [u8; 16]);

impl RepositoryId {
    /// A new random id.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self> {
        random_bytes().map(Self)
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryId({self})")
    }
}

/// The header of a sealed object: decides, with the seal key, the object's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// How its boxes are sealed.
    pub cipher: Cipher,
    /// Which repository it belongs to.
    pub repository: RepositoryId,
    /// Random, new for each object.
    pub salt: [u8; 32],
}

impl Header {
    /// A header for a new object, with a new salt.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate(kind: ObjectKind, cipher: Cipher, repository: RepositoryId) -> Result<Self> {
        Ok(Self { kind, cipher, repository, salt: random_bytes()? })
    }

    /// The stored form.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = FORMAT_VERSION;
        bytes[5] = self.kind as u8;
        bytes[6] = ENVELOPE_SYMMETRIC;
        bytes[7] = self.cipher.code();
        bytes[8..24].copy_from_slice(&self.repository.0);
        bytes[24..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads the stored form from the front of an object.
    ///
    /// # Errors
    /// `Damaged` if it is no header; a failure that names it for a newer version or unknown envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: &str| Error::damaged(format_args!("not a Lifeboat object: {reason}"));
        let mut decoder = Decoder::new(bytes);
        let fixed: [u8; 8] = decoder.array().map_err(|_| damaged("too short"))?;
        let [m0, m1, m2, m3, version, kind, envelope, cipher] = fixed;
        if [m0, m1, m2, m3] != *MAGIC {
            return Err(damaged("the magic bytes are missing"));
        }
        if version != FORMAT_VERSION {
            return Err(Error::failed(format_args!("object of format version {version}"))
                .with_hint("It was written by a newer lifeboat: use that version or a later one."));
        }
        let kind = ObjectKind::from_code(kind).ok_or_else(|| damaged("unknown kind"))?;
        if envelope != ENVELOPE_SYMMETRIC {
            return Err(damaged("unknown envelope"));
        }
        let cipher = Cipher::from_code(cipher).ok_or_else(|| damaged("unknown cipher"))?;
        let repository = RepositoryId(decoder.array().map_err(|_| damaged("too short"))?);
        let salt = decoder.array().map_err(|_| damaged("too short"))?;
        Ok(Self { kind, cipher, repository, salt })
    }

    /// The cipher with the key of the object that has this header.
    pub fn object_cipher(&self, seal: &SealKey) -> ObjectCipher {
        ObjectCipher::new(self.cipher, seal.object_key(&self.encode()))
    }
}
