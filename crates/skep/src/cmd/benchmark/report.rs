//! What a benchmark found: kept as JSON, shown as a table, compared with an earlier one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skep_core::units;

use super::load::Measured;
use crate::failure::{Failure, Result};
use crate::output::human_bytes;

/// The format of the JSON; one that is not known is refused.
const VERSION: u32 = 1;

/// A whole benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) version: u32,
    /// When it was made, RFC 3339.
    pub(super) at: String,
    /// How the load was, in words.
    pub(super) load: String,
    pub(super) agents: Vec<Found>,
}

/// What was found of one agent. Times are in milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) agent: String,
    pub(super) revision: u32,
    pub(super) requests: u64,
    pub(super) succeeded: u64,
    /// Share of the requests that were answered well, in percent.
    pub(super) success: f64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) seconds: f64,
    /// Good answers a second.
    pub(super) throughput: f64,
    pub(super) latency: Latency,
    /// Open loop: how late requests were sent, p99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sent_late_p99: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cold: Option<Cold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Usage>,
    /// Latencies: the least of a bucket, and how many are in it.
    pub(super) histogram: Vec<(f64, u64)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// From the order to start until the first answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Cold {
    pub(super) starts: u64,
    pub(super) p50: f64,
    pub(super) max: f64,
}

/// What the agent used while it was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Usage {
    /// Share of one core, in percent.
    pub(super) cpu_percent: f64,
    /// CPU time for each request, in milliseconds.
    pub(super) cpu_ms_per_request: f64,
    /// The most resident memory that was seen.
    pub(super) memory_bytes: u64,
}

impl Found {
    pub(super) fn new(agent: &str, revision: u32, measured: &Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        let latency = &measured.latency;
        Self {
            agent: agent.to_owned(),
            revision,
            requests: measured.sent,
            succeeded: measured.succeeded,
            success: 100.0 * measured.succeeded as f64 / measured.sent.max(1) as f64,
            errors: measured.errors.clone(),
            seconds,
            throughput: measured.succeeded as f64 / seconds.max(f64::MIN_POSITIVE),
            latency: Latency {
                min: latency.least(),
                mean: latency.mean(),
                p50: latency.quantile(0.5),
                p90: latency.quantile(0.9),
                p95: latency.quantile(0.95),
                p99: latency.quantile(0.99),
                p999: latency.quantile(0.999),
                max: latency.most(),
            },
            sent_late_p99: (measured.lag.count() > 0).then(|| measured.lag.quantile(0.99)),
            cold: None,
            usage: None,
            histogram: latency.buckets(),
        }
    }
}

impl Found {
    /// A latency, when there is any.
    fn timed(&self, latency: f64) -> Option<f64> {
        (!self.histogram.is_empty()).then_some(latency)
    }
}

/// A line of the table: its label, how a value is written, and where it is.
type Line = (&'static str, fn(f64) -> String, fn(&Found) -> Option<f64>);

const LINES: [Line; 17] = [
    ("Requests", count, |it| Some(it.requests as f64)),
    ("Success", percent, |it| Some(it.success)),
    ("Throughput", rate, |it| Some(it.throughput)),
    ("p50", millis, |it| it.timed(it.latency.p50)),
    ("p90", millis, |it| it.timed(it.latency.p90)),
    ("p95", millis, |it| it.timed(it.latency.p95)),
    ("p99", millis, |it| it.timed(it.latency.p99)),
    ("p99.9", millis, |it| it.timed(it.latency.p999)),
    ("Worst", millis, |it| it.timed(it.latency.max)),
    ("Mean", millis, |it| it.timed(it.latency.mean)),
    ("Sent late, p99", millis, |it| it.sent_late_p99),
    ("Cold, p50", millis, |it| Some(it.cold.as_ref()?.p50)),
    ("Cold, worst", millis, |it| Some(it.cold.as_ref()?.max)),
    ("Cold to warm", times, |it| {
        Some(it.cold.as_ref()?.p50 / it.latency.p50).filter(|ratio| ratio.is_finite())
    }),
    ("CPU", percent, |it| Some(it.usage.as_ref()?.cpu_percent)),
    ("CPU, each", millis, |it| {
        Some(it.usage.as_ref()?.cpu_ms_per_request)
    }),
    ("Memory", bytes, |it| {
        Some(it.usage.as_ref()?.memory_bytes as f64)
    }),
];

fn count(value: f64) -> String {
    format!("{value:.0}")
}

fn percent(value: f64) -> String {
    // 99.99 must not look like all.
    match value {
        100.0 => "100%".to_owned(),
        _ => format!("{:.2}%", (value * 100.0).floor() / 100.0),
    }
}

fn rate(value: f64) -> String {
    format!("{value:.1}/s")
}

fn times(value: f64) -> String {
    format!("{value:.1} times")
}

fn bytes(value: f64) -> String {
    human_bytes(value as u64)
}

/// Milliseconds with three digits that say something.
fn millis(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2} ms"),
        10.0..100.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    }
}

impl Report {
    pub(super) fn new(load: String, agents: Vec<Found>) -> Self {
        Self {
            version: VERSION,
            at: skep_core::Timestamp::system_now().to_string(),
            load,
            agents,
        }
    }

    /// An earlier one.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let wrong = |why: String| {
            Failure::usage(format!("{}: {why}", path.display()))
                .hint("It is made by `skep benchmark … -o json > FILE`.")
        };
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let report: Self =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        match report.version {
            VERSION => Ok(report),
            other => Err(wrong(format!(
                "its version is {other}, and {VERSION} is read"
            ))),
        }
    }

    /// Headers and rows: an agent to a column, with how it differs from an earlier one.
    pub(super) fn table(&self, earlier: Option<&Self>) -> (Vec<String>, Vec<Vec<String>>) {
        let mut headers = vec![String::new()];
        headers.extend(self.agents.iter().map(|found| found.agent.clone()));
        let mut rows = Vec::new();
        for (label, written, value) in LINES {
            if self.agents.iter().all(|found| value(found).is_none()) {
                continue;
            }
            let mut row = vec![label.to_owned()];
            for found in &self.agents {
                let now = value(found);
                let then = earlier.and_then(|it| it.of(&found.agent)).and_then(value);
                row.push(match (now, then) {
                    (None, _) => "-".to_owned(),
                    (Some(now), None) => written(now),
                    (Some(now), Some(then)) => format!("{} ({})", written(now), change(then, now)),
                });
            }
            rows.push(row);
        }
        (headers, rows)
    }

    fn of(&self, agent: &str) -> Option<&Found> {
        self.agents.iter().find(|found| found.agent == agent)
    }

    /// What went wrong, a line to a kind.
    pub(super) fn errors(&self) -> Vec<String> {
        let of = |found: &Found| {
            let lines = found.errors.iter();
            let lines = lines.map(|(kind, count)| format!("{}: {count} times {kind}", found.agent));
            lines.collect::<Vec<_>>()
        };
        self.agents.iter().flat_map(of).collect()
    }

    /// What is over its bounds.
    pub(super) fn misses(
        &self,
        min_success: Option<f64>,
        max_p99: Option<std::time::Duration>,
    ) -> Vec<String> {
        let mut misses = Vec::new();
        for found in &self.agents {
            let (agent, success, p99) = (&found.agent, found.success, found.latency.p99);
            if let Some(least) = min_success.filter(|least| success < *least) {
                misses.push(format!(
                    "{agent} answered {} well, not {least}%",
                    percent(success)
                ));
            } else if found.succeeded == 0 {
                misses.push(format!("{agent} answered nothing well"));
            }
            if let Some(most) = max_p99.filter(|most| p99 > most.as_secs_f64() * 1_000.0) {
                let most = units::format_duration(most);
                misses.push(format!("{agent} has a p99 of {}, over {most}", millis(p99)));
            }
        }
        misses
    }
}

fn change(then: f64, now: f64) -> String {
    match then {
        0.0 if now == 0.0 => "±0%".to_owned(),
        0.0 => "new".to_owned(),
        _ => match format!("{:+.0}%", 100.0 * (now - then) / then) {
            same if same == "+0%" || same == "-0%" => "±0%".to_owned(),
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn measured(ms: &[u64], errors: u64) -> Measured {
        let mut measured = Measured {
            sent: ms.len() as u64 + errors,
            succeeded: ms.len() as u64,
            elapsed: Duration::from_secs(2),
            ..Measured::default()
        };
        ms.iter()
            .for_each(|ms| measured.latency.record(Duration::from_millis(*ms)));
        if errors > 0 {
            measured.errors.insert("queue-full".into(), errors);
        }
        measured
    }

    fn report(ms: &[u64], errors: u64) -> Report {
        Report::new("x".into(), vec![Found::new("a", 1, &measured(ms, errors))])
    }

    #[test]
    fn a_report_survives_its_file_and_is_compared() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let earlier = report(&[10, 10, 20], 0);
        std::fs::write(file.path(), serde_json::to_vec(&earlier).unwrap()).unwrap();
        let earlier = Report::read(file.path()).unwrap();
        let (headers, rows) = report(&[20, 20, 20], 1).table(Some(&earlier));
        assert_eq!(headers, ["", "a"]);
        let row = |label: &str| {
            rows.iter()
                .find(|row| row[0] == label)
                .map(|row| row[1].clone())
        };
        assert_eq!(row("p50").as_deref(), Some("20.0 ms (+100%)"));
        assert_eq!(row("Worst").as_deref(), Some("20.0 ms (±0%)"));
        assert_eq!(row("Success").as_deref(), Some("75.00% (-25%)"));
        assert_eq!(row("Throughput").as_deref(), Some("1.5/s (±0%)"));
        assert_eq!(row("Cold, p50"), None);
        std::fs::write(file.path(), "{}").unwrap();
        assert_eq!(
            Report::read(file.path()).unwrap_err().exit,
            crate::failure::Exit::Usage
        );
    }

    #[test]
    fn what_misses_its_bounds_is_told() {
        let found = report(&[10, 200], 1);
        assert_eq!(found.errors(), ["a: 1 times queue-full"]);
        assert!(
            found
                .misses(Some(60.0), Some(Duration::from_secs(1)))
                .is_empty()
        );
        let misses = found.misses(Some(99.9), Some(Duration::from_millis(100)));
        assert_eq!(
            misses,
            [
                "a answered 66.66% well, not 99.9%",
                "a has a p99 of 200 ms, over 100ms"
            ]
        );
        assert_eq!(
            report(&[], 3).misses(None, None),
            ["a answered nothing well"]
        );
        assert_eq!(percent(99.999), "99.99%");
    }
}
