//! Byte paths as text: readable where they are UTF-8, reversible where they are not.
//!
//! `\` is written `\\` and each byte outside valid UTF-8 `\xNN`. For terminals, [`display`] also escapes
//! control characters, so that a hostile name cannot move the cursor or colour the screen.

/// The reversible form that is stored in JSON.
pub fn to_text(path: &[u8]) -> String {
    escape(path, false)
}

/// The form for people: as [`to_text`], with control characters escaped too.
pub fn display(path: &[u8]) -> String {
    escape(path, true)
}

/// The bytes behind the reversible form; `None` if it is malformed.
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                bytes.push(b'\\');
                tail
            }
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digit = |c: u8| char::from(c).to_digit(16);
                bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
                tail
            }
            (b'\\', _) => return None,
            (byte, tail) => {
                bytes.push(byte);
                tail
            }
        };
    }
    Some(bytes)
}

fn escape(path: &[u8], controls: bool) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if controls && c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing into a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips(path: Vec<u8>) {
            prop_assert_eq!(from_text(&to_text(&path)), Some(path));
        }
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(display(b"a\x1b[31m\nb\xff"), "a\\u{1b}[31m\\nb\\xff");
    }
}
