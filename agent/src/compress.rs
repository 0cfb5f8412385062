//! Compression of one buffer at a time with zstd.
//!
//! A [`Compressor`] and a [`Decompressor`] keep their contexts, which cost more to make than a small segment to code.

use zstd::bulk;
use zstd::zstd_safe::{self, CParameter};

use crate::pack::directory::Codec;
use crate::{Error, Result};

/// Coding that saves less than this share of the bytes is not worth the decoding: kept raw (3 %).
const SAVING_MIN_PERCENT: usize = 3;
/// How a zstd frame begins; skippable frames and those of older versions begin otherwise.
const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Not at all.
    Off,
    /// A zstd level, 1 to 19 (negative levels are faster still).
    Zstd(i32),
}

impl Level {
    /// For machines short of CPU.
    pub const FAST: Self = Self::Zstd(1);
    /// What is used unless something else is asked for.
    pub const DEFAULT: Self = Self::Zstd(3);
    /// For slow lines.
    pub const HIGH: Self = Self::Zstd(9);
}

impl Default for Level {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "fast" => Ok(Self::FAST),
            "default" => Ok(Self::DEFAULT),
            "high" => Ok(Self::HIGH),
            number => match number.parse() {
                Ok(level @ 1..=19) => Ok(Self::Zstd(level)),
                _ => Err("expected off, fast, default, high or a level from 1 to 19".to_owned()),
            },
        }
    }
}

/// Compresses buffers at one level.
pub struct Compressor {
    context: Option<bulk::Compressor<'static>>,
}

impl Compressor {
    /// A compressor for `level`.
    ///
    /// # Errors
    /// If zstd has no memory for its context.
    pub fn new(level: Level) -> Result<Self> {
        let context = match level {
            Level::Off => None,
            Level::Zstd(level) => {
                let mut context =
                    bulk::Compressor::new(level).map_err(|e| Error::io("cannot set up compression", e))?;
                // The plain length and the AEAD say all that these would.
                for off in [CParameter::ChecksumFlag(false), CParameter::ContentSizeFlag(true)] {
                    context.set_parameter(off).map_err(|e| Error::io("cannot set up compression", e))?;
                }
                Some(context)
            }
        };
        Ok(Self { context })
    }

    /// Replaces the content of `out` by `plain` in the better of its forms, and says which that is.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<Codec> {
        if self.shrink(plain, out)? {
            return Ok(Codec::Zstd);
        }
        out.clear();
        out.extend_from_slice(plain);
        Ok(Codec::Raw)
    }

    /// Replaces the content of `out` by `plain` compressed, and returns whether that is worth keeping.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn shrink(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        if let Some(context) = &mut self.context {
            out.reserve(zstd_safe::compress_bound(plain.len()));
            let coded = context
                .compress_to_buffer(plain, out)
                .map_err(|e| Error::io("cannot compress a segment", e))?;
            return Ok(coded < plain.len() - plain.len() * SAVING_MIN_PERCENT / 100);
        }
        Ok(false)
    }
}

/// Decodes buffers.
pub struct Decompressor {
    context: bulk::Decompressor<'static>,
}

impl Decompressor {
    /// A decompressor.
    ///
    /// # Errors
    /// If zstd has no memory for its context.
    pub fn new() -> Result<Self> {
        let context = bulk::Decompressor::new().map_err(|e| Error::io("cannot set up decompression", e))?;
        Ok(Self { context })
    }

    /// Replaces the content of `plain` by the decoded bytes, which must be exactly `plain_bytes` many. What `coded` holds afterwards
    /// is undefined: raw bytes are not copied, the two buffers change places.
    ///
    /// # Errors
    /// `Damaged` if the bytes cannot be decoded or are more or fewer.
    pub fn decompress(
        &mut self,
        codec: Codec,
        coded: &mut Vec<u8>,
        plain_bytes: usize,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        plain.clear();
        match codec {
            Codec::Raw => std::mem::swap(plain, coded),
            Codec::Zstd => {
                check_frame(coded, plain_bytes).map_err(|reason| {
                    Error::damaged(format_args!("cannot decode compressed bytes: {reason}"))
                })?;
                plain.reserve(plain_bytes);
                // A buffer with more capacity than asked for could take more bytes: the length below refuses them.
                self.context
                    .decompress_to_buffer(coded.as_slice(), plain)
                    .map_err(|e| Error::damaged(format_args!("cannot decode compressed bytes: {e}")))?;
            }
        }
        if plain.len() == plain_bytes {
            Ok(())
        } else {
            Err(Error::damaged(format_args!("decoded to {} bytes instead of {plain_bytes}", plain.len())))
        }
    }
}

/// Whether `coded` is exactly one frame: the library itself would also take frames behind it, and pass over skippable ones, so that
/// other bytes than those that were written decoded to the same.
fn check_frame(coded: &[u8], plain_bytes: usize) -> Result<(), &'static str> {
    if !coded.starts_with(&FRAME_MAGIC) {
        return Err("they are no zstd frame");
    }
    match zstd_safe::find_frame_compressed_size(coded) {
        Ok(bytes) if bytes == coded.len() => {}
        Ok(_) => return Err("bytes follow the zstd frame"),
        Err(_) => return Err("the zstd frame is malformed or cut off"),
    }
    match zstd_safe::get_frame_content_size(coded) {
        Ok(Some(bytes)) if bytes != plain_bytes as u64 => Err("the zstd frame states another length"),
        Ok(_) => Ok(()),
        Err(_) => Err("the zstd frame's header is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 3000] = [b'a'; 3000];

    fn frame() -> Vec<u8> {
        let mut coded = Vec::new();
        assert_eq!(
            Compressor::new(Level::DEFAULT).unwrap().compress(&PLAIN, &mut coded).unwrap(),
            Codec::Zstd
        );
        coded
    }

    fn decoded(coded: &[u8], plain_bytes: usize) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        Decompressor::new()?
            .decompress(Codec::Zstd, &mut coded.to_vec(), plain_bytes, &mut plain)
            .map(|()| plain)
    }

    #[test]
    fn exactly_one_frame_is_decoded() {
        // 8 bytes that zstd passes over: magic and a length of 0.
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        let empty = zstd::bulk::compress(b"", 3).unwrap();
        let frame = frame();
        assert_eq!(decoded(&frame, PLAIN.len()).unwrap(), PLAIN);
        for (what, coded) in [
            ("a byte behind it", [&frame[..], &[0]].concat()),
            ("a skippable frame behind it", [&frame[..], &skippable].concat()),
            ("a skippable frame before it", [&skippable, &frame[..]].concat()),
            ("an empty frame behind it", [&frame[..], &empty].concat()),
            ("an empty frame before it", [&empty, &frame[..]].concat()),
            ("a byte missing", frame[..frame.len() - 1].to_vec()),
            ("nothing", Vec::new()),
        ] {
            assert_eq!(decoded(&coded, PLAIN.len()).unwrap_err().kind(), crate::Kind::Damaged, "{what}");
        }
    }

    #[test]
    fn a_frame_of_another_length_is_refused_before_it_is_decoded() {
        for plain_bytes in [0, 1, PLAIN.len() - 1, PLAIN.len() + 1] {
            let error = decoded(&frame(), plain_bytes).unwrap_err();
            assert!(error.to_string().contains("another length"), "{error}");
        }
    }

    /// Two halves in two frames decode to the right bytes, and are not what was written.
    #[test]
    fn two_frames_are_refused() {
        let half = zstd::bulk::compress(&PLAIN[..1500], 3).unwrap();
        assert!(decoded(&[half.clone(), half].concat(), PLAIN.len()).is_err());
    }
}
