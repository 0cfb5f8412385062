//! What is due, and when the next time is.
//!
//! Whoever runs a schedule stores [`Due::at`], the time of the schedule that was handled, and asks with it again; so
//!
//! - **nothing is forgotten**: a time that passed while the machine slept, was off, or its clock jumped forward is due when somebody asks again;
//! - **nothing piles up**: all that was missed is one run, and [`Due::missed`] says how much it stands for;
//! - **nothing runs twice** when the clock jumps back: what was handled is in the future of that clock, and nothing is due before it;
//! - **but not for long**: a clock that was wrong by years must not stop backups for years. What was handled more than [`AHEAD_MAX`] ahead of now was
//!   handled by a wrong clock, and counts as never handled: a run too many does no harm, one too few may.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Cron, Zone};

/// A clock that is put right by hand or by a time server jumps by hours (it was in another zone), and not by more than a day.
pub const AHEAD_MAX: TimeDelta = TimeDelta::days(1);
/// More is not counted: who missed so many knows enough.
pub const MISSED_MAX: u64 = 10_000;

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The time of the schedule that it is for, the latest if several were missed: to be stored as handled.
    pub at: DateTime<Utc>,
    /// Earlier ones that it stands for, too; at most [`MISSED_MAX`].
    pub missed: u64,
}

/// What is due at `now`, if anything is. `handled` is the [`Due::at`] that was handled last; where none ever was, the latest time before now is due.
/// Each time is due `delay` (see [`super::jitter`](mod@super::jitter)) after the schedule's.
pub fn due(
    cron: &Cron,
    zone: Zone,
    delay: Duration,
    handled: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<Due> {
    let until = now.checked_sub_signed(delta(delay))?;
    let Some(handled) = believed(handled, now) else {
        return Some(Due { at: cron.last_until(until, zone)?, missed: 0 });
    };
    let next = |at: &DateTime<Utc>| cron.next_after(*at, zone).filter(|next| *next <= until);
    let first = next(&handled)?;
    let (mut at, mut missed) = (first, 0);
    while let Some(later) = next(&at) {
        if missed == MISSED_MAX {
            at = cron.last_until(until, zone).unwrap_or(later);
            break;
        }
        (at, missed) = (later, missed + 1);
    }
    Some(Due { at, missed })
}

/// When the next run is due: now, if one is due already. `None` only past the year 4000. Recompute it each minute: timers stop while a machine sleeps.
pub fn next_due(
    cron: &Cron,
    zone: Zone,
    delay: Duration,
    handled: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if due(cron, zone, delay, handled, now).is_some() {
        return Some(now);
    }
    let after = match believed(handled, now) {
        Some(handled) => handled,
        None => now.checked_sub_signed(delta(delay))?,
    };
    cron.next_after(after, zone)?.checked_add_signed(delta(delay))
}

/// What was handled, unless a wrong clock said so.
fn believed(handled: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    handled.filter(|handled| handled.signed_duration_since(now) <= AHEAD_MAX)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::zero())
}
