//! Sealing and opening one box with an object's key. See `docs/format.md`, "Sealed objects".

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use zeroize::Zeroize as _;

use super::keys::ObjectKey;
use super::second_opinion;
use crate::pack::directory::Codec;
use crate::{Error, Result};

/// Bytes a box is longer than what it seals.
pub const TAG_BYTES: usize = 16;

/// Which AEAD a repository uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Cipher {
    /// The default: fast everywhere, no tables, no hardware needed.
    #[default]
    #[serde(rename = "xchacha20-poly1305")]
    XChaCha20Poly1305,
    /// Faster where the processor has AES.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

impl Cipher {
    /// The stored code.
    pub const fn code(self) -> u8 {
        match self {
            Self::XChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    /// The cipher of a stored code.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::XChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::XChaCha20Poly1305 => "XChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
        })
    }
}

/// What a box holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A segment of chunks.
    Segment,
    /// The directory of a pack.
    Directory,
    /// A whole small object.
    Whole,
}

/// What a box says of its content besides the content: bound to it as associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxInfo {
    /// What it holds.
    pub role: Role,
    /// How the content is coded.
    pub codec: Codec,
    /// Bytes after decoding.
    pub plain_bytes: u32,
}

impl BoxInfo {
    /// Whether a box of so many coded bytes can be what this says: raw content is as long as it is, compressed content is shorter.
    const fn fits(&self, coded_bytes: usize) -> bool {
        match self.codec {
            Codec::Raw => coded_bytes == self.plain_bytes as usize,
            Codec::Zstd => coded_bytes < self.plain_bytes as usize,
        }
    }

    fn associated_data(&self, coded_bytes: usize) -> [u8; 12] {
        let mut data = [0; 12];
        data[0] = self.role as u8;
        data[1] = self.codec.code();
        data[4..8].copy_from_slice(&self.plain_bytes.to_le_bytes());
        data[8..].copy_from_slice(&(coded_bytes as u32).to_le_bytes());
        data
    }
}

/// The cipher of one object, with its key.
///
/// The work is done by *ring*, which is 1.6 times (XChaCha20-Poly1305) and 3 times (AES-256-GCM) as fast as the crates that
/// [`second_opinion`] uses; *ring* has no XChaCha20, so its part that extends the nonce is done here.
pub struct ObjectCipher {
    cipher: Cipher,
    key: ObjectKey,
    aes: Option<LessSafeKey>,
}

impl ObjectCipher {
    pub(super) fn new(cipher: Cipher, key: ObjectKey) -> Self {
        let aes = match cipher {
            Cipher::XChaCha20Poly1305 => None,
            Cipher::Aes256Gcm => ring_key(&AES_256_GCM, &key.0).ok(),
        };
        Self { cipher, key, aes }
    }

    /// Seals `coded[from..]` in place and appends the tag. `number` must never have been used with this object.
    ///
    /// # Errors
    /// If the content is longer than the cipher can take (it never is: boxes are below 64 MiB).
    pub fn seal(&self, number: u64, info: BoxInfo, coded: &mut Vec<u8>, from: usize) -> Result<()> {
        let content = coded.get_mut(from..).unwrap_or_default();
        let data = Aad::from(info.associated_data(content.len()));
        let tag = self
            .with_key(number, |key, nonce| key.seal_in_place_separate_tag(nonce, data, content))
            .map_err(|_| Error::failed("a box is too long to seal"))?;
        coded.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens a box in place: afterwards `sealed` holds the coded bytes.
    ///
    /// # Errors
    /// `Damaged` if the box was changed, moved, or sealed with another key.
    pub fn open(&self, number: u64, info: BoxInfo, sealed: &mut Vec<u8>) -> Result<()> {
        let damaged = || Error::damaged("authentication failed: the bytes are damaged or were exchanged");
        let coded_bytes = sealed.len().checked_sub(TAG_BYTES).ok_or_else(damaged)?;
        if !info.fits(coded_bytes) {
            return Err(Error::damaged("a box is not as long as its codec and plain length demand"));
        }
        let data = Aad::from(info.associated_data(coded_bytes));
        self.with_key(number, |key, nonce| key.open_in_place(nonce, data, sealed).map(|_| ()))
            .map_err(|_| damaged())?;
        sealed.truncate(coded_bytes);
        Ok(())
    }

    /// Whether the independent implementation opens the box and finds `coded` in it.
    pub fn second_opinion(&self, number: u64, info: BoxInfo, sealed: &[u8], coded: &[u8]) -> bool {
        let Some((content, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else { return false };
        let data = info.associated_data(content.len());
        let mut content = content.to_vec();
        second_opinion::opens(self.cipher, &self.key.0, number, &data, &mut content, tag) && content == coded
    }

    /// Calls `act` with the key and nonce of a box.
    fn with_key<T>(
        &self,
        number: u64,
        act: impl FnOnce(&LessSafeKey, Nonce) -> Result<T, Unspecified>,
    ) -> Result<T, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        if self.cipher == Cipher::Aes256Gcm {
            let key = self.aes.as_ref().ok_or(Unspecified)?;
            nonce[..8].copy_from_slice(&number.to_le_bytes());
            return act(key, Nonce::assume_unique_for_key(nonce));
        }
        // XChaCha20: the nonce's first 16 bytes make a key of their own, the last 8, which are zero here, are the inner nonce.
        let mut extended = [0; 16];
        extended[..8].copy_from_slice(&number.to_le_bytes());
        let mut own: [u8; 32] =
            chacha20::hchacha::<chacha20::R20>(&self.key.0.into(), &extended.into()).into();
        let key = ring_key(&CHACHA20_POLY1305, &own);
        own.zeroize();
        act(&key?, Nonce::assume_unique_for_key(nonce))
    }
}

fn ring_key(algorithm: &'static ring::aead::Algorithm, key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(algorithm, key).map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_implementations_agree() {
        for cipher in [Cipher::XChaCha20Poly1305, Cipher::Aes256Gcm] {
            let object = ObjectCipher::new(cipher, ObjectKey([9; 32]));
            for (number, length) in [(0, 0), (1, 1), (u64::MAX, 100_000), (1 << 40, 64)] {
                let coded: Vec<u8> = (0..length).map(|n: usize| n as u8).collect();
                let info = BoxInfo { role: Role::Segment, codec: Codec::Raw, plain_bytes: length as u32 };
                let mut sealed = coded.clone();
                object.seal(number, info, &mut sealed, 0).unwrap();
                assert!(object.second_opinion(number, info, &sealed, &coded), "{cipher} {number}");
                assert!(!object.second_opinion(number ^ 1, info, &sealed, &coded), "{cipher} {number}");
                let mut changed = sealed.clone();
                changed[length / 2] ^= 1;
                assert!(!object.second_opinion(number, info, &changed, &coded), "{cipher} {number}");
                assert!(object.open(number, info, &mut changed).is_err());
                object.open(number, info, &mut sealed).unwrap();
                assert_eq!(sealed, coded);
            }
        }
    }

    /// Authentic, and yet refused: a writer that is hostile or wrong.
    #[test]
    fn lengths_that_no_codec_gives_are_refused() {
        let key = ObjectKey([3; 32]);
        let cipher = ObjectCipher::new(Cipher::default(), key);
        for (codec, plain_bytes, fits) in [
            (Codec::Raw, 4, true),
            (Codec::Raw, 3, false),
            (Codec::Raw, 5, false),
            (Codec::Zstd, 5, true),
            (Codec::Zstd, 4, false),
            (Codec::Zstd, 0, false),
        ] {
            let info = BoxInfo { role: Role::Whole, codec, plain_bytes };
            let mut sealed = b"four".to_vec();
            cipher.seal(0, info, &mut sealed, 0).unwrap();
            assert_eq!(cipher.open(0, info, &mut sealed).is_ok(), fits, "{codec:?} {plain_bytes}");
        }
    }
}
