//! Figures in Prometheus' text format (version 0.0.4), which Prometheus and node_exporter's textfile collector read.
//!
//! The names are a promise to alert rules and dashboards (`docs/operations/monitoring.md`): they are only ever added to.

use std::fmt;

use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::figures::{BackupFigures, Figures, RunResult};
use crate::{Error, Result};

/// The text's media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels with their values.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// The figures as text.
///
/// # Errors
/// None in practice: the text is written to memory.
pub fn render(figures: &Figures) -> Result<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Told(figures.clone())));
    let mut text = String::new();
    encode_registry(&mut text, &registry)
        .map_err(|e| Error::failed("cannot write the figures as text").with_source(e))?;
    Ok(with_whole_names(&text))
}

/// OpenMetrics, which the library writes, leaves `_total` out of a counter's name in its `HELP` and `TYPE`; the older format, which everybody
/// reads, has the name of the sample there.
fn with_whole_names(text: &str) -> String {
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut whole = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest))
                if counters.contains(&name) =>
            {
                whole.push_str(&format!("# {what} {name}_total {rest}"));
            }
            _ => whole.push_str(line),
        }
        whole.push('\n');
    }
    whole
}

#[derive(Debug)]
struct Told(Figures);

impl Collector for Told {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.backups(&self.0.backups)?;
        page.verification(&self.0.backups)?;
        page.destinations(&self.0)?;
        page.agent(&self.0)
    }
}

/// The text as far as it is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn backups(&mut self, all: &[BackupFigures]) -> fmt::Result {
        self.of_each(
            "lifeboat_backup_last_success_timestamp_seconds",
            "When the newest good snapshot of the source at the destination was finished",
            all,
            |each| time(each.last_success),
        )?;
        self.of_each(
            "lifeboat_backup_last_attempt_timestamp_seconds",
            "When the last run was, whatever came of it",
            all,
            |each| time(each.last_attempt),
        )?;
        let results = all.iter().flat_map(|each| {
            let last = each.last_result;
            last.into_iter().flat_map(move |last| {
                RunResult::ALL.map(|one| (with(labels(each), "result", one.label()), u64::from(one == last)))
            })
        });
        self.gauges(
            "lifeboat_backup_last_result",
            "1 for what came of the last run, 0 for all else",
            results,
        )?;
        let runs = all.iter().flat_map(|each| {
            let number = |one| each.runs.get(&one).copied().unwrap_or_default();
            RunResult::ALL.map(|one| (with(labels(each), "result", one.label()), number(one)))
        });
        self.counters("lifeboat_backup_runs", "Runs by what came of them", runs)?;
        self.of_each("lifeboat_backup_duration_seconds", "How long the last run took", all, |each| {
            each.duration_seconds
        })?;
        self.of_each(
            "lifeboat_backup_expected_interval_seconds",
            "The time between two runs that the schedule promises",
            all,
            |each| each.expected_interval_seconds,
        )?;
        self.of_each("lifeboat_next_run_timestamp_seconds", "When the schedule runs it next", all, |each| {
            time(each.next_run)
        })
    }

    fn verification(&mut self, all: &[BackupFigures]) -> fmt::Result {
        self.of_each(
            "lifeboat_verify_last_success_timestamp_seconds",
            "When the data of the source was last proved to be whole at the destination",
            all,
            |each| time(each.verify_last_success),
        )?;
        self.of_each(
            "lifeboat_drill_last_success_timestamp_seconds",
            "When a restore was last rehearsed with success",
            all,
            |each| time(each.drill_last_success),
        )?;
        self.of_each(
            "lifeboat_drill_duration_seconds",
            "How long the last rehearsed restore took",
            all,
            |each| each.drill_duration_seconds,
        )
    }

    fn destinations(&mut self, figures: &Figures) -> fmt::Result {
        let all = &figures.destinations;
        let kinds = all.iter().flat_map(|each| {
            let own = vec![("destination", each.destination.as_str())];
            each.repository_bytes.iter().map(move |(kind, bytes)| (with(own.clone(), "kind", kind), *bytes))
        });
        self.gauges("lifeboat_repository_bytes", "Bytes stored at the destination", kinds)?;
        let of = |name, value: Option<u64>| value.map(|value| (vec![("destination", name)], value));
        let quotas = all.iter().filter_map(|each| of(each.destination.as_str(), each.quota_bytes));
        self.gauges("lifeboat_quota_bytes", "Bytes that may be stored at the destination at most", quotas)?;
        let snapshots = all.iter().filter_map(|each| of(each.destination.as_str(), each.snapshots));
        self.gauges("lifeboat_snapshots", "Snapshots at the destination", snapshots)?;
        let damage =
            all.iter().filter_map(|each| of(each.destination.as_str(), each.damage_found.map(u64::from)));
        self.gauges(
            "lifeboat_damage_found",
            "1 if the last check or drill found damage at the destination, 0 if it found none",
            damage,
        )
    }

    fn agent(&mut self, figures: &Figures) -> fmt::Result {
        let channels = figures.notification_failures.iter();
        self.counters(
            "lifeboat_notification_failures",
            "Notifications that could not be delivered",
            channels.map(|(channel, failures)| (vec![("channel", channel.as_str())], *failures)),
        )?;
        self.gauges(
            "lifeboat_build_info",
            "1, with the version of the program that tells these figures",
            [(vec![("version", figures.version.as_str())], 1_u64)],
        )
    }

    /// A gauge of each source and destination of which the value is known.
    fn of_each<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        all: &[BackupFigures],
        value: impl Fn(&BackupFigures) -> Option<N>,
    ) -> fmt::Result {
        self.gauges(name, help, all.iter().filter_map(|each| Some((labels(each), value(each)?))))
    }

    fn gauges<'a, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, N)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, values, |value, encoder| {
            ConstGauge::new(value).encode(encoder)
        })
    }

    /// `name` is without its `_total`.
    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, values, |value, encoder| {
            ConstCounter::new(value).encode(encoder)
        })
    }

    fn family<'a, N>(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        values: impl IntoIterator<Item = (Labels<'a>, N)>,
        encode: impl Fn(N, MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, metric_type)?;
        for (labels, value) in values {
            encode(value, metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn labels(each: &BackupFigures) -> Labels<'_> {
    vec![("source", &each.source), ("destination", &each.destination)]
}

fn with<'a>(mut labels: Labels<'a>, name: &'static str, value: &'a str) -> Labels<'a> {
    labels.push((name, value));
    labels
}

fn time(at: Option<DateTime<Utc>>) -> Option<i64> {
    at.map(|at| at.timestamp())
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
