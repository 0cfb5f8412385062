//! What people write for a schedule.

use proptest::prelude::*;

use super::cron;
use crate::schedule::Cron;

#[test]
fn names_are_the_fields_that_they_stand_for() {
    for (name, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 jan *"),
    ] {
        let after = super::at("2026-11-22T00:30:00Z");
        let zone = crate::schedule::Zone::Named(chrono_tz::UTC);
        assert_eq!(cron(name).next_after(after, zone), cron(fields).next_after(after, zone), "{name}");
        assert_eq!(cron(name).to_string(), name);
    }
    assert_eq!(cron("  0   2 * * * ").to_string(), "0 2 * * *");
}

#[test]
fn mistakes_are_named() {
    for (text, words) in [
        ("", "it has 0 fields"),
        ("0 2 * *", "it has 4 fields, and not five"),
        ("0 0 2 * * *", "it has 6 fields"),
        ("@reboot", "write @hourly"),
        ("60 2 * * *", "60"),
        ("0 25 * * *", "25"),
        ("0 2 * * MOO", "unexpected character 'M'"),
        ("0 2 30 2 *", "never comes"),
        ("0 2 31 4,6,9,11 *", "never comes"),
        ("*/0 * * * *", "*/0 * * * *"),
        ("0 5-2 * * *", "0 5-2 * * *"),
    ] {
        let error = text.parse::<Cron>().unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
        assert!(!error.contains("CronPattern") && !error.contains("Component error"), "{text}: {error}");
    }
    assert!("0".repeat(1000).parse::<Cron>().unwrap_err().contains("too long"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[-0-9*,/LW#?@+A-Zé \t]{0,30}", fields in prop::collection::vec("[-0-9*,/LW#?+]{1,6}", 5)) {
        for text in [text, fields.join(" ")] {
            if let Ok(cron) = text.parse::<Cron>() {
                let shown = cron.to_string();
                prop_assert_eq!(shown.parse::<Cron>().unwrap(), cron.clone());
                // One that is accepted has a next time: on a cycle of the calendar it comes.
                prop_assert!(cron.next_after(super::at("2026-01-01T00:00:00Z"), crate::schedule::Zone::Named(chrono_tz::UTC)).is_some(), "{}", shown);
            }
        }
    }
}
