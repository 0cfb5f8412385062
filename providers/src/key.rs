//! Object keys and prefixes, validated once so that no provider has to defend itself against odd names.
//!
//! A key is 1 to 16 segments joined by `/`, 512 characters at most; a segment is 1 to 128 characters of
//! `a-z 0-9 - _ .` and does not begin with a dot. That is safe on every file system and object store, needs no escaping in a URL, and
//! leaves names that begin with a dot to a provider's own bookkeeping (temporary files).

use std::fmt;

const SEGMENT_CHARS_MAX: usize = 128;
const SEGMENTS_MAX: usize = 16;

/// S3 allows 1,024 bytes; half of that is left to the prefix a repository is kept under.
const KEY_CHARS_MAX: usize = 512;

/// The name of one object, such as `packs/3f/3fa9…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

/// The text cannot be an object key or prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an object key: segments of a-z 0-9 - _ . joined by '/', none beginning with '.'")]
pub struct InvalidKey {
    /// The text that was refused.
    pub text: String,
}

impl Key {
    /// Checks `text` and makes it a key.
    ///
    /// # Errors
    /// [`InvalidKey`] if the text breaks the rules in the module's documentation.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidKey> {
        let text = text.into();
        let segments = text.split('/').count();
        if text.len() <= KEY_CHARS_MAX && segments <= SEGMENTS_MAX && text.split('/').all(is_segment) {
            Ok(Self(text.into_boxed_str()))
        } else {
            Err(InvalidKey { text })
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment: for `packs/3f/3fa9…` that is `3fa9…`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

/// What a listing is narrowed to: nothing (all objects) or a folder with its trailing `/` left out.
///
/// A prefix matches whole segments: `packs` lists `packs/3f/…` and never `packs-old/…`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Matches every object.
    pub fn all() -> Self {
        Self::default()
    }

    /// A folder, such as `packs` or `packs/3f`.
    ///
    /// # Errors
    /// [`InvalidKey`] if the text could not be the beginning of a key.
    pub fn folder(text: impl Into<String>) -> Result<Self, InvalidKey> {
        Key::new(text).map(|key| Self(key.0))
    }

    /// The folder's name without trailing `/`; empty for [`Prefix::all`].
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an object of this key lies in the folder.
    pub fn matches(&self, key: &Key) -> bool {
        self.0.is_empty() || key.as_str().strip_prefix(&*self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.0)
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    (1..=SEGMENT_CHARS_MAX).contains(&segment.len())
        && !segment.starts_with('.')
        && segment.bytes().all(allowed)
}

#[cfg(test)]
mod tests {

    use super::{Key, Prefix};

    #[test]
    fn keys_are_what_every_store_can_spell() {
        let longest = ["x".repeat(128), "y".repeat(128), "z".repeat(128), "w".repeat(125)].join("/");
        let deepest = ["d"; 16].join("/");
        for good in ["a", "0", "config", "packs/3f/3fa9", "a.b", "-", "_", "a..b", "a.", &longest, &deepest] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        let (too_long, long_segment, too_deep) =
            (format!("{longest}a"), "x".repeat(129), format!("{deepest}/d"));
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".tmp", "a/.b", "A", "ä", "a b", "a\0b",
            "a\nb", "a\\b",
        ] {
            assert!(Key::new(bad).is_err(), "{bad:?} was taken");
        }
        for bad in [too_long, long_segment, too_deep] {
            assert!(Key::new(bad.clone()).is_err(), "{} characters were taken", bad.len());
        }
    }

    #[test]
    fn prefixes_match_whole_segments() {
        let packs = Prefix::folder("packs").unwrap();
        let matches = |text: &str| packs.matches(&Key::new(text).unwrap());
        assert!(matches("packs/a") && matches("packs/3f/a"));
        assert!(!matches("packs") && !matches("packs-old/a") && !matches("pack/a") && !matches("a/packs/b"));
        assert!(Prefix::all().matches(&Key::new("a").unwrap()));
        assert!(Prefix::folder("").is_err() && Prefix::folder("packs/").is_err());
    }

    #[test]
    fn file_name_is_the_last_segment() {
        assert_eq!(Key::new("packs/3f/3fa9").unwrap().file_name(), "3fa9");
        assert_eq!(Key::new("config").unwrap().file_name(), "config");
    }
}
