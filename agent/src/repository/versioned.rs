//! Reading JSON that states its version: later versions are told from damage.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The next step where something is of a later version.
pub const USE_ITS_VERSION: &str = "Use the version of lifeboat that made it, or a later one.";

/// What every version has.
#[derive(Deserialize)]
struct Stated {
    version: u16,
}

/// Reads the opened bytes of `what` (a singular without article: "tombstone") of one of `versions`.
///
/// The version counts before the rest is looked at: a later one may have other fields.
///
/// # Errors
/// `Damaged` if they are none; a failure that names the version for another one.
pub fn decode<T: DeserializeOwned>(what: &str, versions: RangeInclusive<u16>, json: &[u8]) -> Result<T> {
    let malformed = |e: serde_json::Error| Error::damaged(format_args!("malformed {what}: {e}"));
    let Stated { version } = serde_json::from_slice(json).map_err(malformed)?;
    if !versions.contains(&version) {
        return Err(other_version(what, version));
    }
    serde_json::from_slice(json).map_err(malformed)
}

/// The error for `what` of a version that this program does not know.
pub fn other_version(what: &str, version: impl Into<u64>) -> Error {
    Error::failed(format_args!("{what} of version {}", version.into())).with_hint(USE_ITS_VERSION)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::decode;
    use crate::{Kind, Result};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        #[expect(dead_code, reason = "read for its version only")]
        version: u16,
        size: u64,
    }

    fn thing(json: &str) -> Result<Thing> {
        decode("thing", 1..=2, json.as_bytes())
    }

    #[test]
    fn a_later_version_is_named_whatever_its_fields() {
        assert_eq!(thing(r#"{"version":2,"size":7}"#).unwrap().size, 7);
        let later = thing(r#"{"version":3,"bytes":"7"}"#).unwrap_err();
        assert_eq!((later.kind(), later.to_string().as_str()), (Kind::Failed, "thing of version 3"));
        assert!(later.hint().is_some());
        for malformed in ["", "{}", r#"{"version":65536}"#, r#"{"version":1}"#, r#"{"version":1,"size":7}x"#]
        {
            assert_eq!(thing(malformed).unwrap_err().kind(), Kind::Damaged, "{malformed}");
        }
    }
}
