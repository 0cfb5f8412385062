//! Names of destinations, sources and notification channels, as they are written.

use crate::{Error, Result};

/// Refuses what is no name. `what` says what it is of, as `destination`; no name is longer than `bytes_max`.
///
/// # Errors
/// `Usage`.
pub(super) fn check(what: &str, name: &str, bytes_max: usize) -> Result<()> {
    let is_name = !name.is_empty()
        && name.len() <= bytes_max
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
    match is_name {
        true => Ok(()),
        false => Err(Error::usage(format_args!(
            "{what} {name:?}: a name has up to {bytes_max} letters, digits, - and _"
        ))),
    }
}

/// The error for a name that none of the configuration's `[[what]]` has; `known` are those that are there.
pub fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Error {
    let known: Vec<&str> = known.collect();
    Error::usage(format_args!("there is no {what} {name}")).with_hint(match known.as_slice() {
        [] => format!("The configuration has no [[{what}]]."),
        known => format!("The configuration has these: {}.", known.join(", ")),
    })
}
