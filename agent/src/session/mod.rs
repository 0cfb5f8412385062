//! Writers at work: who they are, how they end, and who is taken for dead. The protocol is RFC 4; nobody waits for anybody.
//!
//! | module | job |
//! |---|---|
//! | [`object`] | `sessions/<id>`: what a writer says of itself |
//! | [`process`] | this process and others of the machine |
//! | [`clock`] | how long something took, also while the machine slept |
//! | [`timing`] | how often a writer is heard of, and when it is taken for dead |
//! | [`outcome`] | `outcomes/<id>`: committed or fenced, whoever is first |
//! | [`observed`] | since when this machine sees something unchanged |
//! | [`over`] | which sessions are over; ending them |
//! | [`open`](mod@open) | a session of this process: opening and closing it |
//! | [`beat`] | putting it again every few minutes |
//! | [`commit`] | making snapshots count |
//! | [`leftovers`] | what a run of this machine left that was cut off |
//!
//! A writer is whoever writes index shards or snapshots. It opens a session **before** it reads what it relies on.

pub mod beat;
pub mod clock;
mod commit;
pub mod leftovers;
pub mod object;
pub mod observed;
pub mod open;
pub mod outcome;
pub mod over;
pub mod process;
pub mod timing;

#[cfg(test)]
mod tests;

pub use object::{Role, SessionObject};
pub use observed::Observations;
pub use open::{OpenSession, open, open_holding_back, open_with_index};
pub use outcome::{Outcome, fence};
pub use over::{Listed, Settled, State, list, settle};
pub use timing::Timing;
