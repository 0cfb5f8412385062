//! The master key and the keys derived from it, one context string for each purpose.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::chunk::Gear;
use crate::chunk::id::IdKey;
use crate::{Error, Result};

const CONTEXT_DATA_ID: &str = "lifeboat 2026-11-21 v1 data chunk id";
const CONTEXT_METADATA_ID: &str = "lifeboat 2026-11-21 v1 metadata chunk id";
const CONTEXT_SEAL: &str = "lifeboat 2026-11-21 v1 seal";
const CONTEXT_GEAR: &str = "lifeboat 2026-11-21 v1 gear table";

/// 32 random bytes from which all keys of a repository are derived.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A new random key.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self> {
        random_bytes().map(Self)
    }

    /// Wraps key bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key bytes: only for wrapping them.
    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// The key from which each object's own key is derived.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// The key for the object with this header.
    pub(super) fn object_key(&self, header: &[u8]) -> ObjectKey {
        ObjectKey(*blake3::keyed_hash(&self.0, header).as_bytes())
    }
}

/// The key of one object.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct ObjectKey(pub(super) [u8; 32]);

/// All keys of a repository, derived once when it is opened.
#[derive(Clone)]
pub struct Keys {
    /// Names chunks of file content.
    pub data_id: IdKey,
    /// Names tree nodes and lists.
    pub metadata_id: IdKey,
    /// Seals objects.
    pub seal: SealKey,
    /// Cuts files.
    pub gear: Gear,
}

impl Keys {
    /// Derives all keys.
    pub fn derive(master: &MasterKey) -> Self {
        let derive = |context| blake3::derive_key(context, master.as_bytes());
        let mut gear_key = derive(CONTEXT_GEAR);
        let gear = Gear::new(&gear_key);
        gear_key.zeroize();
        Self {
            data_id: IdKey::from_bytes(derive(CONTEXT_DATA_ID)),
            metadata_id: IdKey::from_bytes(derive(CONTEXT_METADATA_ID)),
            seal: SealKey(derive(CONTEXT_SEAL)),
            gear,
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// `N` random bytes from the system.
///
/// # Errors
/// If the system gives none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::failed(format_args!("no randomness from the system: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These values must never change for format version 1: chunks stored before would not be found again. A Python program written from
    /// `docs/format.md` computed them.
    #[test]
    fn golden_ids() {
        let keys = Keys::derive(&MasterKey::from_bytes([1; 32]));
        let ids = [keys.data_id.id(b"").to_string(), keys.data_id.id(b"lifeboat").to_string()];
        assert_eq!(ids, ["84fbcea2641019ae3cb39a524083bbe0", "c16e23d2f7eeecaaa379dd020bdecb2e"]);
        assert_eq!(keys.metadata_id.id(b"lifeboat").to_string(), "780da8d953fc45f2edef10e6e38688a0");
        let object = keys.seal.object_key(&[7; 56]).0;
        assert_eq!(object[..4], [10, 244, 150, 136]);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let master = MasterKey::from_bytes([0xAB; 32]);
        let text = format!("{master:?} {:?}", Keys::derive(&master));
        assert_eq!(text, "MasterKey(…) Keys(…)");
    }
}
