//! When things are due. Pure code: whoever asks says what time it is.
//!
//! | module | job |
//! |---|---|
//! | [`zone`] | what clocks on the wall show, and when they show it |
//! | [`cron`] | `0 2 * * *`: the times of a schedule |
//! | [`due`](mod@due) | what is due now, what was missed, when the next time is |
//! | [`interval`] | how long a schedule leaves one waiting at most |
//! | [`jitter`](mod@jitter) | many machines with one schedule do not begin at once |
//!
//! # Where clocks change
//! - A time that clocks leave out (02:30 of a night in March) runs once, at the first instant after what is left out; several of them make one run.
//! - A time that clocks show twice (02:30 of a night in October) runs the first time only.
//! - But a schedule of every hour (`*` or `*/2` for the hour, or all 24 of them) is one of real time: it runs whenever clocks show its minute, also
//!   twice for the same wall time, and what is left out is made up only if no time of its own follows within the hour.
//! - No instant is ever given out twice, and a schedule never ends: [`Cron::next_after`] is strictly later than what it is asked for.

pub mod cron;
pub mod due;
pub mod interval;
pub mod jitter;
#[cfg(test)]
mod tests;
pub mod zone;

pub use cron::Cron;
pub use due::{Due, due, next_due};
pub use interval::expected_interval;
pub use jitter::jitter;
pub use zone::Zone;
