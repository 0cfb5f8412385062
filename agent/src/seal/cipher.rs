//! Sealing and opening one box with an object's key. See `docs/format.md`, "Sealed objects".

use aes_gcm::Aes256Gcm;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit, Nonce, Tag};

use super::keys::ObjectKey;
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
pub struct ObjectCipher {
    cipher: Aead,
}

enum Aead {
    XChaCha(Box<XChaCha20Poly1305>),
    Aes(Box<Aes256Gcm>),
}

impl ObjectCipher {
    pub(super) fn new(cipher: Cipher, key: &ObjectKey) -> Self {
        let cipher = match cipher {
            Cipher::XChaCha20Poly1305 => Aead::XChaCha(Box::new(XChaCha20Poly1305::new(&key.0.into()))),
            Cipher::Aes256Gcm => Aead::Aes(Box::new(Aes256Gcm::new(&key.0.into()))),
        };
        Self { cipher }
    }

    /// Seals `coded[from..]` in place and appends the tag. `number` must never have been used with this object.
    ///
    /// # Errors
    /// If the content is longer than the cipher can take (it never is: boxes are below 64 MiB).
    pub fn seal(&self, number: u64, info: BoxInfo, coded: &mut Vec<u8>, from: usize) -> Result<()> {
        let content = coded.get_mut(from..).unwrap_or_default();
        let data = info.associated_data(content.len());
        let tag: [u8; TAG_BYTES] = match &self.cipher {
            Aead::XChaCha(cipher) => seal_with(&**cipher, number, &data, content)?.into(),
            Aead::Aes(cipher) => seal_with(&**cipher, number, &data, content)?.into(),
        };
        coded.extend_from_slice(&tag);
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
        let data = info.associated_data(coded_bytes);
        let (content, tag) = sealed.split_at_mut(coded_bytes);
        let tag: [u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| damaged())?;
        match &self.cipher {
            Aead::XChaCha(cipher) => open_with(&**cipher, number, &data, content, &tag.into()),
            Aead::Aes(cipher) => open_with(&**cipher, number, &data, content, &tag.into()),
        }
        .map_err(|_| damaged())?;
        sealed.truncate(coded_bytes);
        Ok(())
    }
}

fn nonce<A: AeadInOut>(number: u64) -> Nonce<A> {
    let mut nonce = Nonce::<A>::default();
    for (to, from) in nonce.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    nonce
}

fn seal_with<A: AeadInOut>(cipher: &A, number: u64, data: &[u8], content: &mut [u8]) -> Result<Tag<A>> {
    cipher
        .encrypt_inout_detached(&nonce::<A>(number), data, content.into())
        .map_err(|_| Error::failed("a box is too long to seal"))
}

fn open_with<A: AeadInOut>(
    cipher: &A,
    number: u64,
    data: &[u8],
    content: &mut [u8],
    tag: &Tag<A>,
) -> Result<(), chacha20poly1305::aead::Error> {
    cipher.decrypt_inout_detached(&nonce::<A>(number), data, content.into(), tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Authentic, and yet refused: a writer that is hostile or wrong.
    #[test]
    fn lengths_that_no_codec_gives_are_refused() {
        let key = ObjectKey([3; 32]);
        let cipher = ObjectCipher::new(Cipher::default(), &key);
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
