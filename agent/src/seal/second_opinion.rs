//! The AEADs once more, by other hands: a box that both implementations open is not the work of a fault in one of them.
//!
//! Each pack's first box is opened by this one before the pack is handed over.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit, Nonce};

use super::cipher::{Cipher, TAG_BYTES};

/// Opens `content` in place; `false` if it does not belong to the tag.
pub(super) fn opens(
    cipher: Cipher,
    key: &[u8; 32],
    number: u64,
    data: &[u8],
    content: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> bool {
    match cipher {
        Cipher::XChaCha20Poly1305 => {
            opens_with(&XChaCha20Poly1305::new(&(*key).into()), number, data, content, tag)
        }
        Cipher::Aes256Gcm => opens_with(&Aes256Gcm::new(&(*key).into()), number, data, content, tag),
    }
}

fn opens_with<A: AeadInOut>(
    cipher: &A,
    number: u64,
    data: &[u8],
    content: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> bool {
    let mut nonce = Nonce::<A>::default();
    for (to, from) in nonce.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    let Ok(tag) = tag.as_slice().try_into() else { return false };
    cipher.decrypt_inout_detached(&nonce, data, content.into(), tag).is_ok()
}
