//! `cargo xtask bench secrets`: values revealed over HTTP, through policies and the audit log, alone and while
//! all keys are replaced.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::drive::{ask, load};
use super::ingress::{Sample, Way, measure, median};
use super::machine::{describe, percentile, probe_fdatasync};
use super::servers::{Skep, wait_for};
use crate::setup::{self, Purpose};
use crate::shell::{root, run as shell};

/// Secrets of one order.
const BULK: usize = 1_000;
/// Time within which a rotation must be done.
const PATIENCE: Duration = Duration::from_secs(600);

/// What wrk does: it reveals secrets all over the workspace, one after the other.
const SCRIPT: &str = r#"
local count = tonumber(os.getenv("BENCH_SECRETS"))
local at = 0
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"reason":"a benchmark"}'
function request()
  at = (at + 7919) % count
  return wrk.format(nil, "/api/v1/secrets/bench%2F" .. at .. "/reveal")
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests_per_s":%f,"p50_us":%f,"p99_us":%f,"errors":%d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// How much and how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Secrets of the workspace.
    #[arg(long, default_value_t = 100_000)]
    secrets: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of the reads; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-secrets.json")]
    out: PathBuf,
}

/// A server with its secrets.
struct House<'a> {
    skep: Skep,
    script: PathBuf,
    options: &'a Options,
}

impl House<'_> {
    fn fill(&self) -> Result<Duration> {
        let started = Instant::now();
        let mut first = 0;
        while first < self.options.secrets {
            let end = (first + BULK).min(self.options.secrets);
            let all: Vec<Value> = (first..end)
                .map(|at| json!({ "name": format!("bench/{at}"), "generate": "token:40" }))
                .collect();
            let body = json!({ "secrets": all }).to_string();
            let (status, said) = ask(&self.skep, "POST", "/api/v1/secrets-bulk", &body)?;
            ensure!(status == 200, "bulk: {status} {said}");
            first = end;
        }
        Ok(started.elapsed())
    }

    fn read(&self, connections: u32, seconds: u64) -> Result<Sample> {
        let way = Way {
            name: "reveal",
            method: "POST",
            url: self.skep.url.clone(),
            pid: Some(self.skep.process.0.id()),
        };
        let sample = measure(&way, connections, seconds, &self.script, &self.skep.key)?;
        ensure!(sample.errors == 0, "{} errors", sample.errors);
        Ok(sample)
    }

    fn phase(&self, id: &str) -> Option<String> {
        let (_, all) = ask(&self.skep, "GET", "/api/v1/secret-rotations", "").ok()?;
        let all: Value = serde_json::from_str(&all).ok()?;
        let rotation = all["items"].as_array()?.iter().find(|it| it["id"] == id)?;
        Some(rotation["phase"].as_str()?.to_owned())
    }

    /// Time until the new keys count, time until the old ones are gone, and reads meanwhile.
    fn rotate(&self, level: &str) -> Result<(Duration, Duration, Sample)> {
        let wish = json!({ "level": level, "keep": "1h" }).to_string();
        let (status, begun) = ask(&self.skep, "POST", "/api/v1/secret-rotations", &wish)?;
        ensure!(status == 202, "{level}: {status} {begun}");
        let begun: Value = serde_json::from_str(&begun)?;
        let id = begun["id"].as_str().context("no id")?.to_owned();
        let started = Instant::now();
        let sample = self.read(1, self.options.seconds)?;
        let is = |wanted: &'static str| {
            wait_for(wanted, PATIENCE, || {
                (self.phase(&id)?.as_str() == wanted).then_some(())
            })
        };
        is("kept")?;
        let kept = started.elapsed();
        let finish = format!("/api/v1/secret-rotations/{id}/finish");
        let (status, said) = ask(&self.skep, "POST", &finish, "")?;
        ensure!(status == 200, "finish: {status} {said}");
        let started = Instant::now();
        is("done")?;
        Ok((kept, started.elapsed(), sample))
    }
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(Purpose::Bench)?;
    if std::env::var_os("SKEP_BIN").is_none() {
        shell("cargo", &["build", "--release", "--package", "skep"])?;
    }
    let folder = root().join(crate::generate::target()).join("bench-secrets");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let script = folder.join("wrk.lua");
    let count = options.secrets.to_string();
    fs::write(
        &script,
        SCRIPT.replace("os.getenv(\"BENCH_SECRETS\")", &format!("\"{count}\"")),
    )?;
    let before = load();
    let house = House {
        skep: Skep::start(&folder)?,
        script,
        options,
    };
    let mut syncs = probe_fdatasync(&folder)?;
    let filled = house.fill()?;
    let mut alone = vec![Vec::new(); 2];
    for _ in 0..options.rounds {
        for (connections, samples) in [1, 16].into_iter().zip(&mut alone) {
            samples.push(house.read(connections, options.seconds)?);
        }
    }
    let rotations = ["workspace", "data"].map(|level| house.rotate(level));
    syncs.extend(probe_fdatasync(&folder)?);
    syncs.sort_unstable();
    let filled = (filled, before, syncs);
    report(options, &filled, &alone, rotations)
}

fn report(
    options: &Options,
    (filled, before, syncs): &(Duration, String, Vec<Duration>),
    alone: &[Vec<Sample>],
    rotations: [Result<(Duration, Duration, Sample)>; 2],
) -> Result<()> {
    let count = options.secrets;
    let machine = describe()?;
    println!(
        "\n{machine}; load before: {before}, after: {}; fdatasync p50 {} µs, p99 {} µs; {count} secrets made in {:.1} s\n",
        load(),
        percentile(syncs, 50).as_micros(),
        percentile(syncs, 99).as_micros(),
        filled.as_secs_f64()
    );
    println!("| reveal | connections | per second | p50 µs | p99 µs | cores |");
    println!("|---|---|---|---|---|---|");
    let row = |what: &str, connections: u32, samples: &[Sample]| {
        println!(
            "| {what} | {connections} | {:.0} | {:.0} | {:.0} | {:.2} |",
            median(samples, |s| s.requests_per_s),
            median(samples, |s| s.p50_us),
            median(samples, |s| s.p99_us),
            median(samples, |s| s.cpu_cores),
        );
    };
    row("alone", 1, &alone[0]);
    row("alone", 16, &alone[1]);
    let mut written = Vec::new();
    for (level, rotation) in ["workspace", "data"].into_iter().zip(rotations) {
        let (kept, gone, sample) = rotation?;
        row(
            &format!("while {level} keys rotate"),
            1,
            std::slice::from_ref(&sample),
        );
        written.push(json!({
            "level": level, "kept_s": kept.as_secs_f64(), "gone_s": gone.as_secs_f64(), "reads": sample,
        }));
    }
    println!();
    for one in &written {
        println!(
            "{}: new keys count after {:.1} s, old ones gone {:.1} s after the order",
            one["level"].as_str().unwrap_or_default(),
            one["kept_s"].as_f64().unwrap_or_default(),
            one["gone_s"].as_f64().unwrap_or_default()
        );
    }
    let document = json!({
        "machine": machine, "load": before, "secrets": options.secrets,
        "filled_s": filled.as_secs_f64(), "alone": alone, "rotations": written,
    });
    let out = root().join(&options.out);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, serde_json::to_string_pretty(&document)?)?;
    Ok(())
}
