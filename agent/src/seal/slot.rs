//! Key slots: the master key wrapped under one secret. See `docs/format.md`, "Key slots".

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use zeroize::Zeroizing;

use super::header::RepositoryId;
use super::keys::{MasterKey, random_bytes};
use super::secret::SecretKey;
use crate::tree::codec::Decoder;
use crate::{Error, Kind, Result};

const MAGIC: &[u8; 4] = b"LBKY";
const VERSION: u8 = 1;
const CIPHER_XCHACHA: u8 = 1;
const LABEL_BYTES_MAX: usize = 128;
const CHECKSUM_BYTES: usize = 16;
const CONTEXT_WRAP: &str = "lifeboat 2026-11-21 v1 slot wrap";
const CONTEXT_COMMITMENT: &str = "lifeboat 2026-11-21 v1 slot commitment";

/// Argon2 costs a reader accepts at most, so that a hostile store cannot exhaust memory or time.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// What Argon2 needs for each lane at least.
const MEMORY_KIB_PER_LANE: u32 = 8;

/// The cost of guessing a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes. Fits the memory promise (150 MB).
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// For tests of everything but the cost.
    pub const LOWEST: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };
    const NONE: Self = Self { memory_kib: 0, passes: 0, lanes: 0 };

    /// Whether Argon2 knows such a cost, and a reader can bear it.
    fn is_possible(self) -> bool {
        (1..=PASSES_MAX).contains(&self.passes)
            && (1..=LANES_MAX).contains(&self.lanes)
            && (MEMORY_KIB_PER_LANE * self.lanes..=MEMORY_KIB_MAX).contains(&self.memory_kib)
    }
}

/// What unlocks a repository.
#[derive(Clone)]
pub enum Secret {
    /// A passphrase, as typed.
    Passphrase(Zeroizing<String>),
    /// A key file or recovery key.
    Key(SecretKey),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::Key(_) => "Key(…)",
        })
    }
}

/// What a slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A passphrase.
    Passphrase,
    /// A key in a file.
    KeyFile,
    /// A key on paper.
    Recovery,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key file",
            Self::Recovery => "recovery key",
        })
    }
}

/// Names a slot, for ever: random.
pub type SlotId = [u8; 8];

/// One way to unlock a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Names the slot; also in its object's key.
    pub id: SlotId,
    /// Which repository it unlocks.
    pub repository: RepositoryId,
    /// What it is for.
    pub purpose: Purpose,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// A name given by a person, in clear.
    pub label: String,
    cost: Cost,
    salt: [u8; 32],
    commitment: [u8; 32],
    wrapped: [u8; 48],
}

impl Slot {
    /// Wraps `master` under `secret` in a new slot.
    ///
    /// # Errors
    /// If the label is over 128 bytes or the purpose does not go with the secret.
    pub fn create(
        repository: RepositoryId,
        master: &MasterKey,
        secret: &Secret,
        purpose: Purpose,
        label: &str,
        created: u64,
        cost: Cost,
    ) -> Result<Self> {
        if label.len() > LABEL_BYTES_MAX {
            return Err(Error::usage(format_args!("the label is over {LABEL_BYTES_MAX} bytes long")));
        }
        if matches!(secret, Secret::Passphrase(_)) != (purpose == Purpose::Passphrase) {
            return Err(Error::usage("a passphrase slot needs a passphrase and no other does"));
        }
        if purpose == Purpose::Passphrase && !cost.is_possible() {
            // No reader would take the slot.
            return Err(Error::usage("impossible Argon2 cost: use at most 1 GiB, 16 passes and 16 lanes"));
        }
        let mut slot = Self {
            id: random_bytes()?,
            repository,
            purpose,
            created,
            label: label.to_owned(),
            cost: if purpose == Purpose::Passphrase { cost } else { Cost::NONE },
            salt: random_bytes()?,
            commitment: [0; 32],
            wrapped: [0; 48],
        };
        let head = slot.head();
        let (key, commitment) = slot.derive(secret)?;
        slot.commitment = commitment;
        let (wrapped, tag) = slot.wrapped.split_at_mut(32);
        wrapped.copy_from_slice(master.as_bytes());
        let made = XChaCha20Poly1305::new((&*key).into())
            .encrypt_inout_detached(&Default::default(), &head, wrapped.into())
            .map_err(|_| Error::failed("cannot wrap the master key"))?;
        tag.copy_from_slice(&made);
        Ok(slot)
    }

    /// The master key, if `secret` is this slot's.
    ///
    /// # Errors
    /// `WrongKey` if it is not; `Damaged` if it is but the wrapped key was changed.
    pub fn unlock(&self, secret: &Secret) -> Result<MasterKey> {
        let wrong = || Error::new(Kind::WrongKey, "this key does not open the slot");
        if matches!(secret, Secret::Passphrase(_)) != (self.purpose == Purpose::Passphrase) {
            return Err(wrong());
        }
        let (key, commitment) = self.derive(secret)?;
        // blake3::Hash compares in constant time.
        if blake3::Hash::from_bytes(commitment) != blake3::Hash::from_bytes(self.commitment) {
            return Err(wrong());
        }
        let mut master = Zeroizing::new([0_u8; 32]);
        let mut tag = [0; 16];
        master.copy_from_slice(&self.wrapped[..32]);
        tag.copy_from_slice(&self.wrapped[32..]);
        XChaCha20Poly1305::new((&*key).into())
            .decrypt_inout_detached(
                &Default::default(),
                &self.head(),
                master.as_mut_slice().into(),
                &tag.into(),
            )
            .map_err(|_| Error::damaged("the key slot is damaged: its wrapped key fails authentication"))?;
        Ok(MasterKey::from_bytes(*master))
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head();
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.wrapped);
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Damaged` if it is no slot or asks for impossible costs.
    pub fn parse(stored: &[u8]) -> Result<Self> {
        let damaged = || Error::damaged("not a key slot, or a damaged one: its checksum does not match");
        let end = stored.len().checked_sub(CHECKSUM_BYTES).ok_or_else(damaged)?;
        let (body, expected) = stored.split_at(end);
        if checksum(body) != *expected {
            return Err(damaged());
        }
        let mut d = Decoder::new(body);
        Self::decode(&mut d).map_err(|e| Error::damaged(format_args!("not a key slot: {e}")))
    }

    fn decode(d: &mut Decoder<'_>) -> Result<Self, crate::tree::codec::Malformed> {
        let [m0, m1, m2, m3, version, secret, cipher, purpose] = d.array::<8>()?;
        if [m0, m1, m2, m3] != *MAGIC || version != VERSION || cipher != CIPHER_XCHACHA {
            return Err(d.malformed("unknown magic, version or cipher"));
        }
        let purpose = match (secret, purpose) {
            (1, 0) => Purpose::Passphrase,
            (2, 1) => Purpose::KeyFile,
            (2, 2) => Purpose::Recovery,
            _ => return Err(d.malformed("unknown kind of secret")),
        };
        let repository = RepositoryId(d.array()?);
        let id = d.array()?;
        let created = d.u64()?;
        let cost = Cost { memory_kib: d.u32()?, passes: d.u32()?, lanes: d.u32()? };
        let possible = if purpose == Purpose::Passphrase { cost.is_possible() } else { cost == Cost::NONE };
        if !possible {
            return Err(d.malformed("impossible Argon2 cost"));
        }
        let salt = d.array()?;
        let label_bytes = usize::from(d.u8()?);
        if label_bytes > LABEL_BYTES_MAX {
            return Err(d.malformed("label too long"));
        }
        let label = match std::str::from_utf8(d.take(label_bytes)?) {
            Ok(label) => label.to_owned(),
            Err(_) => return Err(d.malformed("label is not UTF-8")),
        };
        let (commitment, wrapped) = (d.array()?, d.array()?);
        d.finish()?;
        Ok(Self { id, repository, purpose, created, label, cost, salt, commitment, wrapped })
    }

    fn head(&self) -> Vec<u8> {
        slot_head(self, self.label.as_bytes())
    }

    /// The wrapping key and the commitment for `secret`.
    fn derive(&self, secret: &Secret) -> Result<(Zeroizing<[u8; 32]>, [u8; 32])> {
        let head = self.head();
        let mut material = Zeroizing::new(vec![0_u8; 32]);
        match secret {
            Secret::Passphrase(text) => argon2id(text.as_bytes(), &self.salt, self.cost, &mut material)?,
            Secret::Key(key) => {
                material.copy_from_slice(blake3::keyed_hash(key.as_bytes(), &self.salt).as_bytes());
            }
        }
        material.extend_from_slice(&head);
        let key = Zeroizing::new(blake3::derive_key(CONTEXT_WRAP, &material));
        Ok((key, blake3::derive_key(CONTEXT_COMMITMENT, &material)))
    }
}

/// Shows damage without a secret; anybody can compute it, so it shows nothing else.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

fn slot_head(slot: &Slot, label: &[u8]) -> Vec<u8> {
    let (secret, purpose) = match slot.purpose {
        Purpose::Passphrase => (1, 0),
        Purpose::KeyFile => (2, 1),
        Purpose::Recovery => (2, 2),
    };
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, secret, CIPHER_XCHACHA, purpose]);
    out.extend_from_slice(&slot.repository.0);
    out.extend_from_slice(&slot.id);
    out.extend_from_slice(&slot.created.to_le_bytes());
    for number in [slot.cost.memory_kib, slot.cost.passes, slot.cost.lanes] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&slot.salt);
    out.push(label.len() as u8);
    out.extend_from_slice(label);
    out
}

fn argon2id(passphrase: &[u8], salt: &[u8], cost: Cost, out: &mut [u8]) -> Result<()> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(out.len()))
        .map_err(|e| Error::damaged(format_args!("impossible Argon2 cost in the key slot: {e}")))?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, out)
        .map_err(|e| Error::failed(format_args!("cannot derive a key from the passphrase: {e}")))
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
