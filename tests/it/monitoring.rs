//! Alert rules and dashboard: as Prometheus' own checker sees them, and about metrics that the agent tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_agent::metrics::render;
use lifeboat_tests::promtool;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The names of all metrics that the agent tells.
fn told() -> BTreeSet<String> {
    let text = render(&promtool::figures()).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// All words of a text that look like one of our metrics.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("lifeboat_") && word.len() > 9).map(str::to_owned).collect()
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    if !promtool::is_available() {
        return;
    }
    let folder = root().join("deploy/monitoring");
    promtool::run(&folder, &["check", "rules", "alerts.yml"]);
    promtool::run(&folder, &["test", "rules", "alerts_test.yml", "alerts_days_test.yml"]);
}

#[test]
fn every_alert_has_a_case_in_which_it_fires() {
    let tests = read("deploy/monitoring/alerts_test.yml") + &read("deploy/monitoring/alerts_days_test.yml");
    let rules = read("deploy/monitoring/alerts.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        let cases: Vec<&str> =
            tests.split("- alertname: ").filter(|case| case.lines().next() == Some(alert)).collect();
        assert!(cases.iter().any(|case| case.contains("exp_alerts:")), "{alert} never fires in a test");
        assert!(cases.iter().any(|case| !case.contains("exp_alerts:")), "{alert} always fires in the tests");
    }
}

#[test]
fn the_rules_are_about_metrics_that_are_told() {
    let unknown: Vec<_> = named(&read("deploy/monitoring/alerts.yml")).difference(&told()).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_dashboard_shows_metrics_that_are_told_and_all_of_them() {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            shown.extend(named(target["expr"].as_str().unwrap()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        shown.extend(named(variable["definition"].as_str().unwrap_or_default()));
    }
    assert_eq!(shown, told());
}

#[test]
fn no_two_panels_cover_each_other() {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let mut covered = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{} is wider than the grid", panel["title"]);
        for y in at("y")..at("y") + at("h") {
            for x in at("x")..at("x") + at("w") {
                assert!(covered.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn the_page_on_monitoring_names_exactly_what_is_told() {
    assert_eq!(named(&read("docs/operations/monitoring.md")), told());
}

/// The pages on operation, by their names.
fn pages() -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join("docs/operations")).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.path().display().to_string(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

#[test]
fn links_between_the_pages_on_operation_lead_somewhere() {
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                PathBuf::from(&page)
            } else {
                Path::new(&page).parent().unwrap().join(file)
            };
            let Ok(linked) = fs::read_to_string(&file) else { panic!("{page}: {target} is not there") };
            let is_there = |line: &str| {
                line.starts_with('#')
                    && line.trim_matches(['#', ' ']).to_lowercase().replace(' ', "-") == heading
            };
            assert!(heading.is_empty() || linked.lines().any(is_there), "{page}: no heading for {target}");
        }
    }
}
