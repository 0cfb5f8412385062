//! promtool, Prometheus' own checker of figures and alert rules; and figures with everything in them that there can be.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::DateTime;
use lifeboat_agent::metrics::{BackupFigures, DestinationFigures, Figures, RunResult};

/// Whether there is a promtool; if not, says that the test is skipped, and under `CI=true` fails.
#[track_caller]
pub fn is_available() -> bool {
    crate::on_path("promtool", "prometheus")
}

/// Panics with what `promtool check metrics` has to say against the text.
#[track_caller]
pub fn check_metrics(text: &str) {
    if let Some(complaints) = complaints(text) {
        panic!("promtool: {complaints}\n{text}");
    }
}

/// What `promtool check metrics` has to say against the text, if anything.
pub fn complaints(text: &str) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (!output.status.success() || !said.trim().is_empty()).then_some(said)
}

/// Runs promtool in a directory and panics with its words unless it is content; returns them.
#[track_caller]
pub fn run(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("promtool").args(arguments).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// Figures in which every value is known, so that every metric is told.
pub fn figures() -> Figures {
    let at = |seconds| DateTime::from_timestamp(seconds, 0);
    let backup = BackupFigures {
        source: "app".into(),
        destination: "offsite".into(),
        last_success: at(1_700_000_000),
        last_attempt: at(1_700_000_000),
        last_result: Some(RunResult::Success),
        runs: BTreeMap::from([(RunResult::Success, 7)]),
        duration_seconds: Some(12.5),
        expected_interval_seconds: Some(3600),
        next_run: at(1_700_003_600),
        verify_last_success: at(1_699_990_000),
        drill_last_success: at(1_699_900_000),
        drill_duration_seconds: Some(99.0),
    };
    Figures {
        backups: vec![backup.clone(), BackupFigures { destination: "disk".into(), ..backup }],
        destinations: vec![DestinationFigures {
            destination: "offsite".into(),
            repository_bytes: BTreeMap::from([("data".into(), 1 << 40), ("index".into(), 5)]),
            quota_bytes: Some(2 << 40),
            snapshots: Some(41),
            damage_found: Some(false),
        }],
        notification_failures: BTreeMap::from([("ops".into(), 0)]),
        version: "0.1.0".into(),
    }
}
