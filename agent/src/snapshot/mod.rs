//! Snapshots: one sealed manifest of a source at an instant, and the chain they form.
//!
//! | module | job |
//! |---|---|
//! | [`manifest`] | what a snapshot says |
//! | `records` | reading records that replace one another |
//! | [`history`] | all snapshots of a repository, and records of forgotten ones |
//! | [`forget`](mod@forget) | forgetting snapshots on purpose |
//! | [`labels`] | pins, and tags that came later |
//! | [`chain`] | whether any was removed behind the owner's back |
//! | [`append`] | the next snapshot of a chain |
//! | [`by_policy`] | what a policy makes of a history |
//! | [`select`] | the snapshot a person means |

pub mod append;
pub mod by_policy;
pub mod chain;
pub mod forget;
pub mod history;
pub mod labels;
pub mod manifest;
mod records;
pub mod select;

pub use history::{History, Snapshot};
pub use manifest::{FileError, Manifest, Summary};
