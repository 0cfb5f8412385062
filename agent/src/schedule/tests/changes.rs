//! What happens where clocks change, and on days that are not in every year.

use chrono_tz::Africa::Cairo;
use chrono_tz::America::{New_York, St_Johns};
use chrono_tz::Australia::Lord_Howe;
use chrono_tz::Europe::Berlin;
use chrono_tz::Pacific::Apia;
use chrono_tz::UTC;

use super::{at, cron, next};
use crate::schedule::Zone;

#[test]
fn a_time_that_is_left_out_runs_once_right_after() {
    let night = "2026-03-28T12:00:00Z";
    assert_eq!(next("30 2 * * *", Berlin, night, 2), ["2026-03-29 03:00 +02:00", "2026-03-30 02:30 +02:00"]);
    // Several that are left out, and one that is there anyway, are one run.
    assert_eq!(
        next("*/20 2,3 * * *", Berlin, night, 3),
        ["2026-03-29 03:00 +02:00", "2026-03-29 03:20 +02:00", "2026-03-29 03:40 +02:00"]
    );
    assert_eq!(next("15 2 * * *", Lord_Howe, "2026-10-03T12:00:00Z", 1), ["2026-10-04 02:30 +11:00"]);
    // Midnight itself is left out.
    assert_eq!(next("0 0 * * *", Cairo, "2026-04-23T12:00:00Z", 1), ["2026-04-24 01:00 +03:00"]);
    // And so was a whole day.
    assert_eq!(
        next("0 12 * * *", Apia, "2011-12-29T12:00:00Z", 3),
        ["2011-12-29 12:00 -10:00", "2011-12-31 00:00 +14:00", "2011-12-31 12:00 +14:00"]
    );
}

#[test]
fn a_time_that_comes_twice_runs_the_first_time() {
    assert_eq!(
        next("30 2 * * *", Berlin, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]
    );
    assert_eq!(
        next("*/30 1 * * *", New_York, "2026-11-01T00:00:00Z", 3),
        ["2026-11-01 01:00 -04:00", "2026-11-01 01:30 -04:00", "2026-11-02 01:00 -05:00"]
    );
}

#[test]
fn every_hour_is_every_real_hour() {
    assert_eq!(
        next("0 * * * *", Berlin, "2026-10-24T23:30:00Z", 4),
        [
            "2026-10-25 02:00 +02:00",
            "2026-10-25 02:00 +01:00",
            "2026-10-25 03:00 +01:00",
            "2026-10-25 04:00 +01:00"
        ]
    );
    assert_eq!(
        next("30 * * * *", Berlin, "2026-03-29T00:00:00Z", 3),
        ["2026-03-29 01:30 +01:00", "2026-03-29 03:30 +02:00", "2026-03-29 04:30 +02:00"]
    );
    // With a step, what is left out is made up: the next would be two hours away.
    assert_eq!(
        next("30 */2 * * *", Berlin, "2026-03-29T00:00:00Z", 2),
        ["2026-03-29 03:00 +02:00", "2026-03-29 04:30 +02:00"]
    );
    assert_eq!(next("0 0-23 * * *", Berlin, "2026-10-25T00:00:00Z", 1), ["2026-10-25 02:00 +01:00"]);
}

/// Newfoundland's clocks went from 00:01 back to 23:01 of the day before: the first minute of the new day came before the last hour of the old one.
#[test]
fn clocks_that_go_back_over_midnight_keep_the_order() {
    assert_eq!(
        next("0,30 * * * *", St_Johns, "2010-11-07T02:15:00Z", 4),
        [
            "2010-11-07 00:00 -02:30",
            "2010-11-06 23:30 -03:30",
            "2010-11-07 00:00 -03:30",
            "2010-11-07 00:30 -03:30"
        ]
    );
    assert_eq!(
        next("30 23 * * *", St_Johns, "2010-11-06T20:00:00Z", 2),
        ["2010-11-06 23:30 -02:30", "2010-11-07 23:30 -03:30"]
    );
}

#[test]
fn days_that_are_not_in_every_month_or_year() {
    assert_eq!(
        next("0 3 31 * *", UTC, "2026-01-31T03:00:00Z", 2),
        ["2026-03-31 03:00 +00:00", "2026-05-31 03:00 +00:00"]
    );
    assert_eq!(
        next("0 0 29 2 *", UTC, "2026-01-01T00:00:00Z", 2),
        ["2028-02-29 00:00 +00:00", "2032-02-29 00:00 +00:00"]
    );
    // 2100 has none.
    assert_eq!(next("0 0 29 2 *", UTC, "2096-02-29T00:00:00Z", 1), ["2104-02-29 00:00 +00:00"]);
    assert_eq!(next("0 4 L * *", UTC, "2028-02-01T00:00:00Z", 1), ["2028-02-29 04:00 +00:00"]);
    // Either day is enough.
    assert_eq!(
        next("0 0 13 * 5", UTC, "2026-02-07T00:00:00Z", 3),
        ["2026-02-13 00:00 +00:00", "2026-02-20 00:00 +00:00", "2026-02-27 00:00 +00:00"]
    );
}

#[test]
fn clocks_beyond_all_sense_end_nothing() {
    let daily = cron("0 2 * * *");
    let zone = Zone::Named(Berlin);
    assert_eq!(
        daily.next_after(chrono::DateTime::<chrono::Utc>::MIN_UTC, zone),
        Some(at("1970-01-01T01:00:00Z"))
    );
    assert_eq!(daily.next_after(chrono::DateTime::<chrono::Utc>::MAX_UTC, zone), None);
    assert_eq!(daily.last_until(at("1969-01-01T00:00:00Z"), zone), None);
    // The system's zone, whichever it is, has a next day, too.
    let now = at("2026-11-22T12:00:00Z");
    let next = daily.next_after(now, Zone::System).unwrap();
    assert!(next > now && next - now <= chrono::TimeDelta::hours(26), "{next}");
    assert_eq!(daily.last_until(next, Zone::System), Some(next));
}
