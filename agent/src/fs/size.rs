//! Sizes as people write and read them.
//!
//! `K`, `M`, `G`, `T`, `P` and `KiB` … count in 1024, `KB` … in 1000, as with `dd` and `truncate`. Case does not matter.

const UNITS: [char; 5] = ['k', 'm', 'g', 't', 'p'];

/// Reads a size in bytes: `500M`, `1.5GiB`, `10k`, `4096`.
///
/// # Errors
/// A message that names the text and says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let expected = || format!("`{text}` is not a size (expected a number such as 500M, 1.5GiB or 10k)");
    let too_large = || format!("size `{text}` is too large");
    let digits_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits_end);
    let scale = unit_bytes(unit.trim()).ok_or_else(expected)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.contains('.') {
        return Err(expected());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    // Digits beyond the 18th are below a byte in the largest unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = match fraction {
        "" => 0,
        _ => {
            let value: u128 = fraction.parse().map_err(|_| expected())?;
            (value * u128::from(scale) / 10_u128.pow(fraction.len() as u32)) as u64
        }
    };
    whole.checked_mul(scale).and_then(|bytes| bytes.checked_add(part)).ok_or_else(too_large)
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let Some(first) = letters.next() else { return Some(1) };
    let rest = letters.as_str();
    if first == 'b' && rest.is_empty() {
        return Some(1);
    }
    let power = UNITS.iter().position(|letter| *letter == first)? as u32 + 1;
    match rest {
        "" | "i" | "ib" => Some(1024_u64.pow(power)),
        "b" => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// A size for people: `0 B`, `1023 B`, `1.4 GiB`.
pub fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    for unit in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        // What would be printed as 1024.0 is one of the next unit.
        if value < 1023.95 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} EiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("10k", 10 << 10),
            ("10K", 10 << 10),
            ("10KB", 10_000),
            ("10 KiB", 10 << 10),
            ("500M", 500 << 20),
            ("1.5GiB", 3 << 29),
            ("1.5gb", 1_500_000_000),
            ("0.1k", 102),
            ("2T", 2 << 40),
            ("16383P", 16383 << 50),
            ("1.0000000000000000000000001k", 1024),
            (" 7 ", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in
            ["", "k", ".", ".5k", "1.", "1..5", "1.2.3", "-1", "+1", "1x", "1kk", "1 k b", "١", "0x10", "1e9"]
        {
            let message = parse_size(text).err();
            assert!(message.as_ref().is_some_and(|m| m.contains("500M")), "{text}: {message:?}");
        }
        assert!(parse_size("16384P").is_err_and(|message| message.contains("too large")));
        assert!(parse_size("99999999999999999999").is_err_and(|message| message.contains("too large")));
    }

    #[test]
    fn sizes_as_people_read_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1_503_238_553, "1.4 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
