//! `cargo xtask bench ingress`: requests a second and latencies, direct, through nginx, and
//! through Skep unjournaled, relaxed and strict, in interleaved rounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::machine::{describe, percentile, probe_fdatasync, usage};
use super::servers::{Process, Skep, nginx_proxy};
use crate::setup::{self, Purpose};
use crate::shell::{root, run as shell};

/// How long and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Rounds of every measurement; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    connections: Vec<u32>,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-ingress.json")]
    out: PathBuf,
}

/// One way to the same upstream.
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) url: String,
    /// The process whose CPU time and memory count.
    pub(super) pid: Option<u32>,
}

/// What one measurement gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) requests_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) errors: u64,
    #[serde(default)]
    pub(super) cpu_cores: f64,
    #[serde(default)]
    memory_mib: u64,
}

/// What wrk does.
pub(super) const SCRIPT: &str = r#"
wrk.method = os.getenv("BENCH_METHOD")
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
if wrk.method == "POST" then
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = '{"name":"world","text":"a short request, as an agent gets many of"}'
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests_per_s":%f,"p50_us":%f,"p99_us":%f,"errors":%d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(Purpose::Bench)?;
    shell("cargo", &["build", "--release", "--package", "skep"])?;
    // On the disk that matters, not in memory.
    let folder = root().join(crate::generate::target()).join("bench-ingress");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let script = folder.join("wrk.lua");
    fs::write(&script, SCRIPT)?;
    let skep = Skep::start(&folder)?;
    let upstream = skep.deploy(&folder, "strict", "strict")?;
    skep.deploy(&folder, "relaxed", "relaxed")?;
    let (proxy, proxy_port) = nginx_proxy(&folder, upstream)?;
    let ways = ways(&skep, &proxy, upstream, proxy_port);
    let mut syncs = probe_fdatasync(&folder)?;
    let mut samples: Vec<Vec<Vec<Sample>>> =
        vec![vec![Vec::new(); options.connections.len()]; ways.len()];
    for round in 1..=options.rounds {
        for (way, of_way) in ways.iter().zip(&mut samples) {
            for (connections, of_both) in options.connections.iter().zip(of_way) {
                eprintln!("round {round}: {} with {connections} connections", way.name);
                of_both.push(measure(
                    way,
                    *connections,
                    options.seconds,
                    &script,
                    &skep.key,
                )?);
            }
        }
        syncs.extend(probe_fdatasync(&folder)?);
    }
    syncs.sort_unstable();
    let report = Report {
        options,
        ways: &ways,
        samples: &samples,
        syncs: &syncs,
        ready: skep.ready_after,
    };
    report.print()?;
    let out = root().join(&options.out);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&out, serde_json::to_string_pretty(&report.json()?)?)?;
    println!("\nwritten to {}", options.out.display());
    Ok(())
}

fn ways(skep: &Skep, proxy: &Process, upstream: u64, proxy_port: u16) -> Vec<Way> {
    let server = Some(skep.process.0.id());
    let nginx = Some(proxy.0.id());
    let direct = format!("http://127.0.0.1:{upstream}/x");
    let proxied = format!("http://127.0.0.1:{proxy_port}/x");
    let through = |agent: &str| format!("{}/agents/{agent}/x", skep.url);
    vec![
        Way {
            name: "direct GET",
            method: "GET",
            url: direct.clone(),
            pid: None,
        },
        Way {
            name: "nginx GET",
            method: "GET",
            url: proxied.clone(),
            pid: nginx,
        },
        Way {
            name: "skep pass-through GET",
            method: "GET",
            url: through("strict"),
            pid: server,
        },
        Way {
            name: "direct POST",
            method: "POST",
            url: direct,
            pid: None,
        },
        Way {
            name: "nginx POST",
            method: "POST",
            url: proxied,
            pid: nginx,
        },
        Way {
            name: "skep relaxed POST",
            method: "POST",
            url: through("relaxed"),
            pid: server,
        },
        Way {
            name: "skep strict POST",
            method: "POST",
            url: through("strict"),
            pid: server,
        },
    ]
}

pub(super) fn measure(
    way: &Way,
    connections: u32,
    seconds: u64,
    script: &Path,
    key: &str,
) -> Result<Sample> {
    let before = way.pid.map(usage).unwrap_or_default();
    let output = Command::new("wrk")
        .args([
            "-t1",
            "-c",
            &connections.to_string(),
            "-d",
            &format!("{seconds}s"),
            "--timeout",
            "30s",
            "-s",
        ])
        .arg(script)
        .arg(&way.url)
        .env("BENCH_METHOD", way.method)
        .env("BENCH_KEY", key)
        .output()
        .context("wrk does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("RESULT ")) else {
        bail!(
            "wrk gave no result: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let mut sample: Sample = serde_json::from_str(line)?;
    let after = way.pid.map(usage).unwrap_or_default();
    sample.cpu_cores = after.cpu.saturating_sub(before.cpu).as_secs_f64()
        / Duration::from_secs(seconds).as_secs_f64();
    sample.memory_mib = after.memory >> 20;
    Ok(sample)
}

/// All that was measured.
struct Report<'a> {
    options: &'a Options,
    ways: &'a [Way],
    samples: &'a [Vec<Vec<Sample>>],
    syncs: &'a [Duration],
    ready: Duration,
}

pub(super) fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Report<'_> {
    fn rate(&self, way: &str, connections: u32) -> f64 {
        self.of(way, connections, |sample| sample.requests_per_s)
    }

    fn of(&self, way: &str, connections: u32, of: impl Fn(&Sample) -> f64) -> f64 {
        let way = self.ways.iter().position(|known| known.name == way);
        let column = self
            .options
            .connections
            .iter()
            .position(|known| *known == connections);
        match (way, column) {
            (Some(way), Some(column)) => median(&self.samples[way][column], of),
            _ => f64::NAN,
        }
    }

    fn fdatasync_us(&self, percent: usize) -> f64 {
        percentile(self.syncs, percent).as_secs_f64() * 1e6
    }

    fn print(&self) -> Result<()> {
        println!("\n{}", describe()?);
        println!(
            "fdatasync of 4 KiB: p50 {:.0} µs, p99 {:.0} µs; server ready after {:.0} ms",
            self.fdatasync_us(50),
            self.fdatasync_us(99),
            self.ready.as_secs_f64() * 1e3,
        );
        println!(
            "\n{:<22} {:>5} {:>9} {:>10} {:>10} {:>6} {:>7} {:>6}",
            "way", "conns", "req/s", "p50 µs", "p99 µs", "cores", "MiB", "errors"
        );
        for way in self.ways {
            for &connections in &self.options.connections {
                let value = |of: fn(&Sample) -> f64| self.of(way.name, connections, of);
                println!(
                    "{:<22} {connections:>5} {:>9.0} {:>10.0} {:>10.0} {:>6.2} {:>7.0} {:>6.0}",
                    way.name,
                    value(|s| s.requests_per_s),
                    value(|s| s.p50_us),
                    value(|s| s.p99_us),
                    value(|s| s.cpu_cores),
                    value(|s| s.memory_mib as f64),
                    value(|s| s.errors as f64),
                );
            }
        }
        println!();
        for (goal, measured, wanted) in self.goals() {
            println!("{goal}: {measured:.2} (goal {wanted})");
        }
        Ok(())
    }

    /// What the issue wants, and what was measured.
    fn goals(&self) -> Vec<(&'static str, f64, String)> {
        let p50 = |way| self.of(way, 1, |sample| sample.p50_us);
        let sync = self.fdatasync_us(50);
        let limit = (64.0 / (2.0 * sync / 1e6)).min(self.rate("skep relaxed POST", 64));
        let strict = self.rate("skep strict POST", 64);
        let nginx = self.rate("nginx GET", 64);
        vec![
            (
                "pass-through ÷ nginx, 64 connections",
                self.rate("skep pass-through GET", 64) / nginx,
                "≥ 0.80".to_owned(),
            ),
            (
                "pass-through, added p50 at one connection, µs",
                p50("skep pass-through GET") - p50("direct GET"),
                "≤ 100".to_owned(),
            ),
            (
                "strict ÷ its limit, 64 connections",
                strict / limit,
                "≥ 0.70".to_owned(),
            ),
            (
                "strict calls/s where nginx gives 17,000, 64 connections",
                strict * 17_000.0 / nginx,
                "≥ 3000".to_owned(),
            ),
            (
                "strict, added p50 at one connection ÷ (2 × fdatasync p50)",
                (p50("skep strict POST") - p50("direct POST")) / (2.0 * sync),
                "≤ 1.50".to_owned(),
            ),
        ]
    }

    fn json(&self) -> Result<serde_json::Value> {
        let measurements: Vec<_> = self
            .ways
            .iter()
            .zip(self.samples)
            .flat_map(|(way, of_way)| {
                self.options.connections.iter().zip(of_way).map(move |(connections, rounds)| {
                    json!({ "way": way.name, "connections": connections, "rounds": rounds })
                })
            })
            .collect();
        let goals: Vec<_> = self
            .goals()
            .into_iter()
            .map(|(goal, measured, wanted)| json!({ "goal": goal, "measured": measured, "wanted": wanted }))
            .collect();
        Ok(json!({
            "machine": describe()?,
            "seconds": self.options.seconds,
            "fdatasync_us": { "p50": self.fdatasync_us(50), "p99": self.fdatasync_us(99) },
            "ready_ms": self.ready.as_secs_f64() * 1e3,
            "measurements": measurements,
            "goals": goals,
        }))
    }
}
