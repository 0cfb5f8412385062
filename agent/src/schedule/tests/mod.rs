//! Schedules by example, and against a slow reference.

mod changes;
mod reading;
mod reference;
mod what_is_due;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{Cron, Zone};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn cron(text: &str) -> Cron {
    text.parse().unwrap()
}

/// The first times after an instant, as clocks in the zone show them.
fn next(text: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
    let cron = cron(text);
    let times = std::iter::successors(cron.next_after(at(after), Zone::Named(zone)), |at| {
        cron.next_after(*at, Zone::Named(zone))
    });
    times.take(count).map(|at| at.with_timezone(&zone).format("%F %H:%M %:z").to_string()).collect()
}
