//! Compression of one buffer at a time with zstd.
//!
//! A [`Compressor`] and a [`Decompressor`] keep their contexts, which cost more to make than a small segment to code.

use zstd::bulk;
use zstd::zstd_safe::CParameter;

use crate::pack::directory::Codec;
use crate::{Error, Result};

/// Coding that saves less than this share of the bytes is not worth the decoding: kept raw (3 %).
const SAVING_MIN_PERCENT: usize = 3;

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
            out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
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

    /// Replaces the content of `plain` by the decoded bytes, which must be exactly `plain_bytes` many.
    ///
    /// # Errors
    /// `Damaged` if the bytes cannot be decoded or are more or fewer.
    pub fn decompress(
        &mut self,
        codec: Codec,
        coded: &[u8],
        plain_bytes: usize,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        plain.clear();
        match codec {
            Codec::Raw => plain.extend_from_slice(coded),
            Codec::Zstd => {
                plain.reserve(plain_bytes);
                // A buffer with more capacity than asked for could take more bytes: the length below refuses them.
                self.context
                    .decompress_to_buffer(coded, plain)
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
