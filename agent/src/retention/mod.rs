//! Which snapshots are kept. Pure code: no clock, no store, no environment; what is decided is a value that can be shown before it is applied.
//!
//! | module | job |
//! |---|---|
//! | [`period`] | hours, days, weeks, months, years of a zone |
//! | [`span`] | `7d`, `36h`, `2w`, `3m`, `1y` |
//! | [`policy`] | what is kept |
//! | [`candidate`] | snapshots as the rules see them, and their groups |
//! | [`rule`] | one rule over a list of snapshots |
//! | [`plan`](mod@plan) | for each snapshot whether it is kept, and why |
//!
//! # What a flood can do
//! Somebody may make many snapshots that are worth nothing: a script gone wild, or a thief who wants the good ones to be pushed out.
//!
//! - **The future takes no place.** What is dated later than now (and [`plan::TOLERANCE`]) is kept, reported, and counts nowhere.
//! - **What lacks data takes no place** of what is whole: rules look at whole snapshots alone first.
//! - **Periods cannot be filled up.** A rule that counts periods loses at most one snapshot for each period that the flood touches: a flood of two
//!   hours takes at most three places of 24 hourly ones, and two of 7 daily ones, however many snapshots it is made of.
//! - **Counts are spread.** A rule that keeps the newest N (`keep_last`, and classes like `manual`) also keeps the newest of each of the last N hours
//!   and of the last N days that have any. So it loses at most one of those for each hour and each day that the flood touches, and only those go
//!   at once that share their hour with a newer one. `keep_last = 3` keeps exactly three of one hour, and at most seven of a dense history.
//! - `keep_within`, tags and pins lose nothing by a flood.
//!
//! A flood with dates all over the past cannot be told from a history; against that, `keep_within`, pins, and stores that refuse to delete help.

pub mod candidate;
pub mod period;
pub mod plan;
pub mod policy;
pub mod rule;
pub mod span;
#[cfg(test)]
mod tests;

pub use candidate::{Candidate, Group, GroupBy};
pub use period::Period;
pub use plan::{Decision, floor, plan};
pub use policy::{Policies, Policy};
pub use rule::Reason;
pub use span::Span;
