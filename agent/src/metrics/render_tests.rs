//! The text as Prometheus gets it.

use std::collections::BTreeMap;

use chrono::DateTime;

use super::*;
use crate::metrics::DestinationFigures;

fn at(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 999_000_000)
}

fn figures() -> Figures {
    let backup = BackupFigures {
        source: "app".into(),
        destination: "offsite".into(),
        last_success: at(1_700_000_000),
        last_attempt: at(1_700_003_600),
        last_result: Some(RunResult::Failure),
        runs: BTreeMap::from([(RunResult::Success, 7), (RunResult::Failure, 1)]),
        duration_seconds: Some(12.5),
        expected_interval_seconds: Some(3600),
        next_run: at(1_700_007_200),
        ..BackupFigures::default()
    };
    Figures {
        backups: vec![backup],
        destinations: vec![DestinationFigures {
            destination: "offsite".into(),
            repository_bytes: BTreeMap::from([("data".into(), u64::MAX), ("index".into(), 5)]),
            quota_bytes: Some(10),
            damage_found: Some(false),
            ..DestinationFigures::default()
        }],
        notification_failures: BTreeMap::from([("ops".into(), 3)]),
        version: "0.1.0".into(),
    }
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(text.lines().any(|each| each == line), "no line {line:?} in:\n{text}");
}

#[test]
fn what_is_known_is_told_and_nothing_else() {
    let text = render(&figures()).unwrap();
    let own = "source=\"app\",destination=\"offsite\"";
    has(&text, &format!("lifeboat_backup_last_success_timestamp_seconds{{{own}}} 1700000000"));
    has(&text, &format!("lifeboat_backup_last_attempt_timestamp_seconds{{{own}}} 1700003600"));
    has(&text, &format!("lifeboat_backup_last_result{{{own},result=\"failure\"}} 1"));
    has(&text, &format!("lifeboat_backup_last_result{{{own},result=\"success\"}} 0"));
    has(&text, &format!("lifeboat_backup_runs_total{{{own},result=\"success\"}} 7"));
    has(&text, &format!("lifeboat_backup_runs_total{{{own},result=\"skipped\"}} 0"));
    has(&text, &format!("lifeboat_backup_duration_seconds{{{own}}} 12.5"));
    has(&text, &format!("lifeboat_backup_expected_interval_seconds{{{own}}} 3600"));
    has(&text, &format!("lifeboat_next_run_timestamp_seconds{{{own}}} 1700007200"));
    has(&text, &format!("lifeboat_repository_bytes{{destination=\"offsite\",kind=\"data\"}} {}", u64::MAX));
    has(&text, "lifeboat_quota_bytes{destination=\"offsite\"} 10");
    has(&text, "lifeboat_damage_found{destination=\"offsite\"} 0");
    has(&text, "lifeboat_notification_failures_total{channel=\"ops\"} 3");
    has(&text, "lifeboat_build_info{version=\"0.1.0\"} 1");
    // Never verified is no time at all, least of all 1970.
    for unknown in ["lifeboat_verify_last_success", "lifeboat_drill", "lifeboat_snapshots"] {
        assert!(!text.lines().any(|line| line.starts_with(unknown)), "{unknown} in:\n{text}");
    }
}

#[test]
fn every_sample_has_help_and_type_of_its_own_name() {
    let text = render(&figures()).unwrap();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let name = &sample[..sample.find('{').unwrap()];
        let metric_type = if name.ends_with("_total") { "counter" } else { "gauge" };
        has(&text, &format!("# TYPE {name} {metric_type}"));
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
}

#[test]
fn names_cannot_break_out_of_their_labels() {
    let mut figures = figures();
    figures.backups[0].source = "a\"} 1\nlifeboat_up 1\\".into();
    let text = render(&figures).unwrap();
    has(
        &text,
        "lifeboat_backup_duration_seconds{source=\"a\\\"} 1\\nlifeboat_up 1\\\\\",destination=\"offsite\"} 12.5",
    );
}

#[test]
fn nothing_configured_is_still_an_agent_that_is_there() {
    let text = render(&Figures { version: "0.1.0".into(), ..Figures::default() }).unwrap();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(samples, ["lifeboat_build_info{version=\"0.1.0\"} 1"]);
}
