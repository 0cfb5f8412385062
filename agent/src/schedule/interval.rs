//! How long a schedule leaves one waiting at most: what is older than twice that is overdue.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::{Cron, Zone};

/// So many days before and after are looked at: a year of either, with its longest month and its holidays.
const DAYS_AROUND: u64 = 366;
/// Longer than February 29th on a given weekday leaves one waiting.
const DAYS_MAX: u64 = 366 * 45;

/// The longest time between two following times of a schedule, of those within a year before and after `at`; of rarer schedules, between those around
/// it. In days of 24 hours: changes of clocks are not counted in. At least a minute.
pub fn expected_interval(cron: &Cron, zone: Zone, at: DateTime<Utc>) -> Duration {
    let times: Vec<NaiveTime> = cron.times().collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Duration::from_secs(60) };
    let within_a_day =
        times.iter().zip(times.iter().skip(1)).map(|(one, next)| *next - *one).max().unwrap_or_default();
    // From the last time of a day to the first of the next.
    let overnight = TimeDelta::days(1) - (*last - *first);
    let days_between = longest_between_days(cron, zone.wall(at).date());
    let over_days = overnight + TimeDelta::days(days_between - 1);
    over_days.max(within_a_day).max(TimeDelta::minutes(1)).to_std().unwrap_or_default()
}

/// The most days from one day of the schedule to the next; 1 if it is on all days.
fn longest_between_days(cron: &Cron, day: NaiveDate) -> i64 {
    let back = |limit: u64| (0..limit).filter_map(|n| day.checked_sub_days(Days::new(n)));
    let begin = back(DAYS_AROUND).rfind(|day| cron.is_on(*day));
    let begin = begin.or_else(|| back(DAYS_MAX).find(|day| cron.is_on(*day)));
    let (mut last, mut longest) = (begin, 0);
    for n in 0..DAYS_MAX {
        let from = begin.unwrap_or(day);
        let Some(next) = from.checked_add_days(Days::new(n)) else { break };
        if (next - day).num_days() > DAYS_AROUND as i64 && longest > 0 {
            break;
        }
        if cron.is_on(next) {
            longest = longest.max(last.map_or(0, |last| (next - last).num_days()));
            last = Some(next);
        }
    }
    longest.max(1)
}
