//! Which packs a check reads whole.

use lifeboat_providers::Sha256;

use crate::fs::size::parse_size;
use crate::seal::keys::random_bytes;
use crate::{Error, Result};

/// How much stored data is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// None: names, sizes and everything about structure.
    #[default]
    Nothing,
    /// All.
    All,
    /// A random share, in percent.
    Percent(f64),
    /// Part `part` of `parts`, by the packs' names: all parts together read everything once.
    Part {
        /// From 1.
        part: u64,
        /// How many there are.
        parts: u64,
    },
    /// Random packs of about so many bytes.
    Bytes(u64),
}

impl std::str::FromStr for ReadData {
    type Err = Error;

    /// Reads `10%`, `1/7`, or a size such as `500M`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::usage(format_args!("{text:?} is no part of the data"))
                .with_hint("Write a share as 10%, a part as 1/7, or a size as 500M.")
        };
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.trim().parse().map_err(|_| bad())?;
            return if percent > 0.0 && percent <= 100.0 { Ok(Self::Percent(percent)) } else { Err(bad()) };
        }
        if let Some((part, parts)) = text.split_once('/') {
            let (part, parts) = (part.parse().map_err(|_| bad())?, parts.parse().map_err(|_| bad())?);
            return if part >= 1 && part <= parts { Ok(Self::Part { part, parts }) } else { Err(bad()) };
        }
        parse_size(text).map(Self::Bytes).map_err(|_| bad())
    }
}

impl ReadData {
    /// The packs to read out of all, which are given with their sizes.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn pick<T>(
        self,
        mut packs: Vec<T>,
        id: impl Fn(&T) -> Sha256,
        size: impl Fn(&T) -> u64,
    ) -> Result<Vec<T>> {
        match self {
            Self::Nothing => packs.clear(),
            Self::All => {}
            Self::Part { part, parts } => packs.retain(|pack| {
                let [a, b, c, d, e, f, g, h, ..] = *id(pack).as_bytes();
                u64::from_be_bytes([a, b, c, d, e, f, g, h]) % parts == part - 1
            }),
            Self::Percent(percent) => {
                shuffle(&mut packs, &id)?;
                let count = (packs.len() as f64 * percent / 100.0).ceil();
                packs.truncate(count as usize);
            }
            Self::Bytes(bytes) => {
                shuffle(&mut packs, &id)?;
                let mut sum = 0;
                packs.retain(|pack| {
                    let wanted = sum < bytes;
                    sum += size(pack);
                    wanted
                });
            }
        }
        Ok(packs)
    }
}

/// An order that nobody can foresee: a store cannot know which packs will be read.
fn shuffle<T>(packs: &mut [T], id: &impl Fn(&T) -> Sha256) -> Result<()> {
    let key = random_bytes()?;
    packs.sort_by_cached_key(|pack| *blake3::keyed_hash(&key, id(pack).as_bytes()).as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        let packs: Vec<Sha256> = (0..100_u8).map(|i| Sha256::of(&[i])).collect();
        let mut all: Vec<Sha256> = (1..=7)
            .flat_map(|part| ReadData::Part { part, parts: 7 }.pick(packs.clone(), |id| *id, |_| 1).unwrap())
            .collect();
        all.sort_unstable();
        let mut expected = packs;
        expected.sort_unstable();
        assert_eq!(all, expected);
    }

    #[test]
    fn texts_are_understood_or_refused() {
        assert_eq!("1/7".parse::<ReadData>().unwrap(), ReadData::Part { part: 1, parts: 7 });
        assert_eq!("10%".parse::<ReadData>().unwrap(), ReadData::Percent(10.0));
        assert_eq!("500M".parse::<ReadData>().unwrap(), ReadData::Bytes(500 << 20));
        for bad in ["0/7", "8/7", "1/0", "0%", "101%", "-1%", "NaN%", "x", "", "/"] {
            assert!(bad.parse::<ReadData>().is_err(), "{bad}");
        }
    }
}
