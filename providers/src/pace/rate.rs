//! Rates as people write them: `2MiB/s`, `500 KB/s`, `1.5 MB/s`, `10Mbit/s`, `off`.
//!
//! Bits and bytes are never guessed: `Mb/s`, which some read as one and some as the other, is refused.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Below this no connection survives: a handshake alone would take minutes.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;

/// Above this a limit is a slip of the pen.
const BYTES_PER_SECOND_MAX: u64 = 1 << 50;

/// Bytes per second, at least 1 KiB/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(NonZeroU64);

/// A rate, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// As fast as it goes.
    Off,
    /// Not faster than this.
    Rate(Rate),
}

/// The text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a rate: {reason}. Write for example 2MiB/s, 500KB/s, 10Mbit/s or off")]
pub struct InvalidRate {
    /// The text that was refused.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Rate {
    /// A rate of so many bytes per second.
    ///
    /// # Errors
    /// [`InvalidRate`] below 1 KiB/s and above 1 PiB/s.
    pub fn new(bytes_per_second: u64) -> Result<Self, InvalidRate> {
        let refused = |reason: &str| {
            Err(InvalidRate { text: format!("{bytes_per_second}B/s"), reason: reason.to_owned() })
        };
        match NonZeroU64::new(bytes_per_second) {
            Some(rate) if (BYTES_PER_SECOND_MIN..=BYTES_PER_SECOND_MAX).contains(&bytes_per_second) => {
                Ok(Self(rate))
            }
            None => refused("nothing would ever arrive"),
            Some(_) if bytes_per_second < BYTES_PER_SECOND_MIN => refused("the least is 1KiB/s"),
            Some(_) => refused("the most is 1024TiB/s"),
        }
    }

    /// Bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

impl Limit {
    /// The rate, if there is one.
    pub const fn rate(self) -> Option<Rate> {
        match self {
            Self::Off => None,
            Self::Rate(rate) => Some(rate),
        }
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let refused = |reason: &str| InvalidRate { text: text.to_owned(), reason: reason.to_owned() };
        let trimmed = text.trim();
        let digits_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits_end);
        if unit.starts_with(',') {
            return Err(refused("decimals are written with a point"));
        }
        let number: f64 = number.parse().map_err(|_| refused("it does not begin with a number"))?;
        let unit = unit.trim();
        if unit.is_empty() {
            return Err(refused("it has no unit"));
        }
        let per_unit = bytes_per_unit(unit).map_err(|reason| refused(&reason))?;
        let bytes_per_second = number * per_unit;
        // What is too large for a u64 becomes its largest value, which is refused.
        Self::new(bytes_per_second.round() as u64).map_err(|error| refused(&error.reason))
    }
}

/// Bytes per second of one `MiB/s`, `Mbit/s` and so on.
fn bytes_per_unit(unit: &str) -> Result<f64, String> {
    let per_second = unit.strip_suffix("/s").or_else(|| unit.strip_suffix("ps"));
    let Some(amount) = per_second.map(str::trim_end) else {
        return Err(match bytes_per_unit(&format!("{unit}/s")) {
            Ok(_) => format!("that is an amount, the rate is {unit}/s"),
            Err(reason) => reason,
        });
    };
    // `Mbps` is always megabits; `Mb/s` is not.
    let is_abbreviated = unit.ends_with("ps");
    Ok(match amount {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "kiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "bit" => 0.125,
        "kbit" | "Kbit" => 125.0,
        "Mbit" => 125e3,
        "Gbit" => 125e6,
        "kb" | "Kb" if is_abbreviated => 125.0,
        "Mb" if is_abbreviated => 125e3,
        "Gb" if is_abbreviated => 125e6,
        "b" | "kb" | "Kb" | "mb" | "Mb" | "mB" | "gb" | "Gb" | "gB" => {
            return Err(format!("{amount} may mean bits or bytes: write MB/s or Mbit/s"));
        }
        _ => return Err(format!("the unit {unit:?} is unknown")),
    })
}

impl fmt::Display for Rate {
    /// In the largest binary unit that leaves at least one of it, to one decimal, such as `1.5MiB/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes_per_second() as f64;
        let units = [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1024.0)];
        let (unit, size) = units.into_iter().find(|(_, size)| bytes >= *size).unwrap_or(("B", 1.0));
        let amount = (bytes / size * 10.0).round() / 10.0;
        write!(f, "{amount}{unit}/s")
    }
}

impl FromStr for Limit {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        if text.trim().eq_ignore_ascii_case("off") { Ok(Self::Off) } else { text.parse().map(Self::Rate) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LimitVisitor)
    }
}

struct LimitVisitor;

impl LimitVisitor {
    fn number<E: de::Error>(number: impl fmt::Display) -> Result<Limit, E> {
        let reason = "it has no unit".to_owned();
        Err(E::custom(InvalidRate { text: number.to_string(), reason }))
    }
}

impl Visitor<'_> for LimitVisitor {
    type Value = Limit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate such as \"2MiB/s\", or \"off\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Limit, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Limit, E> {
        Self::number(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Limit, E> {
        Self::number(number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Limit, E> {
        Self::number(number)
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Rate};

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("2MiB/s", 2 << 20),
            ("500 KB/s", 500_000),
            ("500kB/s", 500_000),
            ("1.5 MB/s", 1_500_000),
            (" 1GiB/s ", 1 << 30),
            ("10Mbit/s", 1_250_000),
            ("10Mbps", 1_250_000),
            ("10 MBps", 10_000_000),
            ("64 KiB /s", 64 << 10),
            ("2048B/s", 2048),
            ("0.5MiB/s", 512 << 10),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().bytes_per_second(), bytes, "{text}");
        }
        assert_eq!(" OFF".parse::<Limit>().unwrap(), Limit::Off);
    }

    #[test]
    fn what_is_no_rate_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "does not begin with a number"),
            ("fast", "does not begin with a number"),
            ("-1MiB/s", "does not begin with a number"),
            (".MiB/s", "does not begin with a number"),
            ("1.2.3MiB/s", "does not begin with a number"),
            ("1,5MiB/s", "written with a point"),
            ("500", "no unit"),
            ("2MiB", "the rate is MiB/s"),
            ("2Mb/s", "bits or bytes"),
            ("2mb", "bits or bytes"),
            ("2parsecs/s", "unknown"),
            ("2 µs", "unknown"),
            ("0MiB/s", "nothing would ever arrive"),
            ("0.0001KiB/s", "nothing would ever arrive"),
            ("1000B/s", "the least is 1KiB/s"),
            ("99999999999999999999999999GiB/s", "the most"),
        ] {
            let error = text.parse::<Limit>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("2MiB/s"), "{text:?}: {error}");
        }
    }

    #[test]
    fn rates_are_shown_as_they_are_written() {
        for text in ["2MiB/s", "1.5MiB/s", "500KiB/s", "1KiB/s", "3GiB/s", "off"] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), text);
        }
    }
}
