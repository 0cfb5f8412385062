//! Lengths of time as they are written: `30s`, `5m`, `2h`, `1d`, `1h30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Longer ones are mistakes.
const DAYS_MAX: u64 = 3650;

/// Reads a length of time.
///
/// # Errors
/// What was expected, with the text.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time: write 30s, 5m, 2h or 1d");
    let mut seconds = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let mut tail = tail.chars();
        let unit_seconds = match tail.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(wrong()),
        };
        rest = tail.as_str();
        let sum = number.checked_mul(unit_seconds).and_then(|part| seconds.checked_add(part));
        seconds = sum
            .filter(|sum| *sum <= DAYS_MAX * 86_400)
            .ok_or_else(|| format!("{text:?} is more than ten years"))?;
    }
    Ok(Duration::from_secs(seconds))
}

/// One of a configuration, of a key that may be left out.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parse(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let seconds = |text| parse(text).map(|length| length.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("0s"), Ok(0));
        for text in ["", "5", "m", "5 m", "1w", "-1s", "99999999999999999999d", "9999d", "1.5h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
