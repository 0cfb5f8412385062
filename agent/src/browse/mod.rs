//! Looking into snapshots: every operation here reads and none changes anything.
//!
//! | module | job |
//! |---|---|
//! | [`directory`] | the nodes of one directory; an entry by its name |
//! | [`place`] | a path of a snapshot |
//! | [`walk`] | a tree, parents before children |
//! | [`pattern`] | patterns of names and paths |
//! | [`find`] | a pattern through all snapshots at once |
//! | [`diff`] | what differs between two trees |
//! | [`dump`] | a file's bytes, a directory as tar or zip |
//! | [`stats`] | bytes before and after deduplication and compression |
//! | `mount` | snapshots as a read-only file system (feature `mount`) |
//!
//! Damage in a directory is reported to the caller, who goes on or not; damage in a file's bytes is always an error.

pub mod diff;
pub mod directory;
pub mod dump;
pub mod find;
#[cfg(feature = "mount")]
pub mod mount;
pub mod pattern;
pub mod place;
pub mod stats;
pub mod walk;

pub use place::Place;
pub use walk::{Next, Seen};

/// Receives a directory that could not be read and why, and decides whether to go on.
pub type OnDamage<'a> = dyn FnMut(&[u8], crate::Error) -> crate::Result<()> + 'a;

#[cfg(test)]
mod tests;
