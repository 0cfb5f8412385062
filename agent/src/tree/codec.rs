//! The primitives of all stored structures: fixed-width integers, varints and byte strings.
//!
//! [`Decoder`] never panics and never allocates more than its input holds, whatever bytes it is given.

/// The bytes cannot be what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {offset}: {reason}")]
pub struct Malformed {
    /// Where in the structure, in bytes from its beginning.
    pub offset: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// Appends `value` as a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` as a zigzag varint.
pub fn put_svarint(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads primitives from the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    whole_len: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the beginning of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole_len: bytes.len() }
    }

    /// Bytes read so far.
    pub const fn offset(&self) -> usize {
        self.whole_len - self.rest.len()
    }

    /// Bytes left.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// An error at this place.
    pub const fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { offset: self.offset(), reason }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.malformed("ends too early")),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.malformed("ends too early")),
        }
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A varint in its shortest form.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            let low = u64::from(byte & 0x7f);
            if i == 9 && byte > 1 {
                return Err(self.malformed("varint over 64 bits"));
            }
            value |= low << (7 * i);
            if byte & 0x80 == 0 {
                if byte == 0 && i > 0 {
                    return Err(self.malformed("varint not in its shortest form"));
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(self.malformed(if self.rest.len() < 10 { "ends too early" } else { "varint over 64 bits" }))
    }

    /// A zigzag varint.
    pub fn svarint(&mut self) -> Result<i64, Malformed> {
        let code = self.varint()?;
        Ok((code >> 1) as i64 ^ -((code & 1) as i64))
    }

    /// A varint that fits 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32, Malformed> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.malformed("number over 32 bits"))
    }

    /// A count of things of at least `item_bytes_min` bytes each: never more than the rest could hold, so that
    /// a hostile count cannot make the caller reserve memory for it.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let value = self.varint()?;
        let most = self.rest.len() / item_bytes_min.max(1);
        match usize::try_from(value) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(self.malformed("count larger than what follows")),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("trailing bytes")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_svarint(&mut bytes, signed);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.varint(), Ok(value));
            prop_assert_eq!(decoder.svarint(), Ok(signed));
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(&bytes);
            while decoder.bytes().is_ok() && decoder.remaining() > 0 {}
        }
    }

    #[test]
    fn refuses_long_forms_and_overflow() {
        assert!(Decoder::new(&[0x80, 0]).varint().is_err());
        assert!(Decoder::new(&[0xff; 9]).varint().is_err());
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(Decoder::new(&most).varint(), Ok(u64::MAX));
        most[9] = 2;
        assert!(Decoder::new(&most).varint().is_err());
    }
}
