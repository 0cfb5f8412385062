//! Whether something is told, to whom, and when: pure code over what is known and the time.
//!
//! Two questions, one after the other. [`judge`]: is it news? What lasts is told when it begins, when it becomes worse or has another reason, and
//! by reminders that become rarer. [`decide`]: does this channel want to know, and now, or later?

use chrono::{DateTime, TimeDelta, Utc};

use super::event::{Event, EventKind, Level};
use super::quiet::next_daily;
use super::settings::Channel;

/// Something that lasts, and what was told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it was last told.
    pub told_last: DateTime<Utc>,
    /// How many times it was told.
    pub told_count: u32,
    /// How many times it was reported.
    pub reports: u64,
    /// The last report of it.
    pub event: Event,
}

/// Whether it is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It begins, became worse, or has another reason.
    Changed,
    /// It lasts, and it is time to say so again: for the how-manieth time.
    Reminder(u32),
    /// It was told.
    Known,
}

/// Whether a report of something that lasts is news. `known` is what is known of it.
pub fn judge(known: Option<&Condition>, event: &Event, reminders: &[TimeDelta], now: DateTime<Utc>) -> News {
    let Some(known) = known else { return News::Changed };
    let has_changed = event.level > known.event.level || event.code != known.event.code;
    if has_changed {
        return News::Changed;
    }
    match next_reminder(known, reminders) {
        Some(due) if due <= now => News::Reminder(known.told_count),
        // It was told in the future: the clock was put back, and nobody knows when it was really told.
        Some(_) if known.told_last > now + CLOCK_TOLERANCE => News::Reminder(known.told_count),
        _ => News::Known,
    }
}

/// Clocks of one machine may differ by that between two processes' readings, or be put right by that.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// When something that lasts is told again; `None` for never.
pub fn next_reminder(known: &Condition, reminders: &[TimeDelta]) -> Option<DateTime<Utc>> {
    let told = usize::try_from(known.told_count).unwrap_or(usize::MAX).saturating_sub(1);
    let wait = reminders.get(told).or(reminders.last())?;
    known.told_last.checked_add_signed(*wait)
}

/// What is done with a message for a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is sent now.
    Send,
    /// It waits for the end of the quiet hours.
    Hold(DateTime<Utc>),
    /// It waits for the digest of that time.
    Digest(DateTime<Utc>),
    /// This channel does not want it.
    Drop,
}

/// What is done with `event`. `successes` is the number of good runs of its source so far, with this one, as this channel counts them.
pub fn decide(channel: &Channel, event: &Event, successes: u64, now: DateTime<Utc>) -> Decision {
    if matches!(event.kind, EventKind::Test | EventKind::Digest) {
        return Decision::Send;
    }
    if !is_of_interest(channel, event) {
        return Decision::Drop;
    }
    if channel.service.is_ping() {
        let is_told = matches!(
            event.kind,
            EventKind::Started | EventKind::Success | EventKind::Incomplete | EventKind::Failure
        );
        // What is late is wrong: a ping says what is true now.
        return if is_told && event.destination.is_none() { Decision::Send } else { Decision::Drop };
    }
    if !is_wanted(channel, event, successes) {
        return Decision::Drop;
    }
    if let Some(digest) = channel.digest
        && severity(event) < Level::Error
        && let Some(at) = next_daily(digest.at, digest.zone, now)
    {
        return Decision::Digest(at);
    }
    match quiet_until(channel, event, now) {
        Some(end) => Decision::Hold(end),
        None => Decision::Send,
    }
}

/// The end of the quiet hours that this event has to wait for; `None` if it need not wait.
pub fn quiet_until(channel: &Channel, event: &Event, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let quiet = channel.quiet_hours.filter(|_| !channel.service.is_ping())?;
    let is_free = matches!(event.kind, EventKind::Test | EventKind::Digest)
        // Good news wakes nobody, whatever it is that ended.
        || quiet.except.is_some_and(|level| event.level >= level);
    if is_free { None } else { quiet.end(now) }
}

/// Whether it is of a source and a destination that the channel is for. What is of none is for all.
fn is_of_interest(channel: &Channel, event: &Event) -> bool {
    let fits = |wanted: &[String], is: &Option<String>| {
        wanted.is_empty() || is.as_ref().is_none_or(|is| wanted.contains(is))
    };
    fits(&channel.sources, &event.source) && fits(&channel.destinations, &event.destination)
}

fn is_wanted(channel: &Channel, event: &Event, successes: u64) -> bool {
    match event.kind {
        EventKind::Started => false,
        EventKind::Success => {
            let nth = channel.every_nth_success;
            nth > 0 && channel.events.contains(&EventKind::Success) && successes.is_multiple_of(nth)
        }
        // Who was told that something is wrong is told that it is over.
        EventKind::Recovered => {
            let was_told = event.ended_kind.is_none_or(|kind| channel.events.contains(&kind));
            was_told
                && channel.events.contains(&EventKind::Recovered)
                && severity(event) >= channel.minimum_level
        }
        kind => channel.events.contains(&kind) && event.level >= channel.minimum_level,
    }
}

/// How bad it is, or was.
fn severity(event: &Event) -> Level {
    event.ended_level.unwrap_or(event.level).max(event.level)
}

#[cfg(test)]
mod tests;
