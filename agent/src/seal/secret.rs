//! Secret keys: 32 random bytes in a key file or on paper, and their text.
//!
//! The text is Crockford base 32 with a checksum, so that a person can copy it by hand and a mistyped digit is
//! noticed as such and not taken for a wrong key.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::keys::random_bytes;
use crate::{Error, Kind, Result};

const PREFIX: &str = "LB1";
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHECKSUM_BYTES: usize = 3;
const TEXT_BYTES: usize = 32 + CHECKSUM_BYTES;
const GROUP_DIGITS: usize = 4;

/// A secret that unlocks a repository by itself.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A new random secret.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self> {
        random_bytes().map(Self)
    }

    /// Wraps 32 secret bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text to print or to keep in a file: `LB1-XXXX-…`.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0_u8; TEXT_BYTES]);
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&blake3::hash(&self.0).as_bytes()[..CHECKSUM_BYTES]);
        let mut text = Zeroizing::new(String::with_capacity(96));
        text.push_str(PREFIX);
        for (i, digit) in base32_digits(&bytes).enumerate() {
            if i % GROUP_DIGITS == 0 {
                text.push('-');
            }
            text.push(char::from(digit));
        }
        text
    }

    /// Reads the text of a key, or of a key file: lines that begin with `#` are comments.
    ///
    /// # Errors
    /// `WrongKey` with words on what is wrong with the text, which is never repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Err(Error::new(Kind::WrongKey, format_args!("not a Lifeboat key: {reason}"))
                .with_hint("A key is one line `LB1-` and 56 letters and digits in groups of four."))
        };
        let mut digits = Zeroizing::new(String::with_capacity(96));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            digits.extend(line.chars().filter(|c| !c.is_whitespace() && *c != '-'));
        }
        digits.make_ascii_uppercase();
        let Some(digits) = digits.strip_prefix(PREFIX) else {
            return wrong("it does not begin with LB1-");
        };
        if digits.len() != TEXT_BYTES * 8 / 5 {
            return wrong("it has more or fewer than 56 letters and digits");
        }
        let Some(bytes) = base32_bytes(digits.as_bytes()) else {
            return wrong("it has a letter that occurs in no key");
        };
        let mut secret = Self([0; 32]);
        secret.0.copy_from_slice(&bytes[..32]);
        if blake3::hash(&secret.0).as_bytes()[..CHECKSUM_BYTES] != bytes[32..] {
            return wrong("its checksum does not match, so a letter or digit is mistyped");
        }
        Ok(secret)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

fn base32_digits(bytes: &[u8; TEXT_BYTES]) -> impl Iterator<Item = u8> {
    (0..TEXT_BYTES * 8 / 5).map(|i| {
        let value = (0..5).fold(0, |value, bit| {
            let at = i * 5 + bit;
            value << 1 | (bytes[at / 8] >> (7 - at % 8) & 1)
        });
        DIGITS[usize::from(value)]
    })
}

fn base32_bytes(digits: &[u8]) -> Option<Zeroizing<[u8; TEXT_BYTES]>> {
    let mut bytes = Zeroizing::new([0_u8; TEXT_BYTES]);
    for (i, digit) in digits.iter().enumerate() {
        let digit = match digit {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => *other,
        };
        let value = DIGITS.iter().position(|d| *d == digit)?;
        for bit in 0..5 {
            let at = i * 5 + bit;
            if value >> (4 - bit) & 1 == 1 {
                *bytes.get_mut(at / 8)? |= 0x80 >> (at % 8);
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 32]) {
            let key = SecretKey::from_bytes(bytes);
            let text = key.to_text();
            prop_assert_eq!(SecretKey::parse(&text).unwrap().0, bytes);
            let sloppy = format!("# my key\n  {} \n", text.to_lowercase().replace('-', " ").replace('0', "o"));
            prop_assert_eq!(SecretKey::parse(&sloppy).unwrap().0, bytes);
        }

        #[test]
        fn a_mistyped_digit_is_noticed(bytes: [u8; 32], at in 0_usize..56, other in 0_usize..32) {
            let text = SecretKey::from_bytes(bytes).to_text();
            let position = 4 + at + at / 4;
            let mut typed = text.as_bytes().to_vec();
            prop_assume!(typed[position] != DIGITS[other]);
            typed[position] = DIGITS[other];
            prop_assert!(SecretKey::parse(std::str::from_utf8(&typed).unwrap()).is_err());
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = SecretKey::parse(&text);
        }
    }

    #[test]
    fn golden_text() {
        let text = SecretKey::from_bytes([0xA5; 32]).to_text();
        assert!(text.starts_with("LB1-MPJT-"), "{}", *text);
    }
}
