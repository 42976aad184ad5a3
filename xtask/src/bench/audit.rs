//! `cargo xtask bench audit`: audited entries a second, and what the log, the policies and the detections take
//! from calls: this binary and an older one, each with its own server, in interleaved rounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::drive::{ask, load};
use super::ingress::{SCRIPT, Sample, Way, measure, median};
use super::machine::{describe, percentile, probe_fdatasync};
use super::servers::{Skep, binary};
use crate::setup::{self, Purpose};
use crate::shell::{root, run as shell};

/// How long and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// A binary from before there was a log, to compare with.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Rounds of every measurement; the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    connections: Vec<u32>,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-audit.json")]
    out: PathBuf,
}

/// One server and what was measured of it.
struct Side {
    name: &'static str,
    skep: Skep,
    ways: Vec<Way>,
    /// Of each way and number of connections, each round.
    samples: Vec<Vec<Sample>>,
}

impl Side {
    fn start(name: &'static str, binary: &Path, folder: &Path) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let skep = Skep::start_as(binary, &folder, &[])?;
        skep.deploy(&folder, "strict", "strict")?;
        let way = |name, method| Way {
            name,
            method,
            url: format!("{}/agents/strict/x", skep.url),
            pid: Some(skep.process.0.id()),
        };
        let ways = vec![way("strict POST", "POST"), way("pass-through GET", "GET")];
        Ok(Self {
            name,
            skep,
            ways,
            samples: Vec::new(),
        })
    }

    /// Entries of the log.
    fn entries(&self) -> Result<u64> {
        let (status, body) = ask(&self.skep, "GET", "/api/v1/audit/checkpoint", "")?;
        ensure!(status == 200, "no checkpoint: {status}");
        let head: Value = serde_json::from_str(&body)?;
        let note = head["checkpoint"].as_str().context("no checkpoint")?;
        let size = note.lines().nth(1).context("no size")?;
        Ok(size.parse()?)
    }
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(Purpose::Bench)?;
    if std::env::var_os("SKEP_BIN").is_none() {
        shell("cargo", &["build", "--release", "--package", "skep"])?;
    }
    let folder = root().join(crate::generate::target()).join("bench-audit");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let script = folder.join("wrk.lua");
    fs::write(&script, SCRIPT)?;
    let before = load();
    let mut sides = vec![Side::start("audited", &binary(), &folder)?];
    if let Some(other) = &options.against {
        sides.push(Side::start("before", other, &folder)?);
    }
    let mut syncs = probe_fdatasync(&folder)?;
    let mut rates = Vec::new();
    for side in &mut sides {
        side.samples = vec![Vec::new(); side.ways.len() * options.connections.len()];
    }
    for round in 1..=options.rounds {
        for side in &mut sides {
            let mut place = 0;
            for way in &side.ways {
                for &connections in &options.connections {
                    eprintln!(
                        "round {round}: {}, {} with {connections}",
                        side.name, way.name
                    );
                    let counted = side.name == "audited" && way.method == "POST";
                    let (entries, started) = if counted {
                        (side.entries()?, Instant::now())
                    } else {
                        (0, Instant::now())
                    };
                    let sample =
                        measure(way, connections, options.seconds, &script, &side.skep.key)?;
                    ensure!(sample.errors == 0, "{}: {} errors", way.name, sample.errors);
                    if counted && connections > 1 {
                        let took = started.elapsed().as_secs_f64();
                        // What a checkpoint has is on the disk, and at most a second old.
                        rates.push((side.entries()?.saturating_sub(entries)) as f64 / took);
                    }
                    side.samples[place].push(sample);
                    place += 1;
                }
            }
        }
        syncs.extend(probe_fdatasync(&folder)?);
    }
    syncs.sort_unstable();
    rates.sort_by(f64::total_cmp);
    report(options, &sides, &rates, &syncs, &before)
}

fn report(
    options: &Options,
    sides: &[Side],
    rates: &[f64],
    syncs: &[Duration],
    before: &str,
) -> Result<()> {
    let machine = describe()?;
    println!(
        "\n{machine}; load before: {before}, after: {}; fdatasync p50 {} µs\n",
        load(),
        percentile(syncs, 50).as_micros()
    );
    println!("| way | connections | server | requests/s | p50 µs | p99 µs | cores | of before |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut written = Vec::new();
    let mut place = 0;
    for way in &sides[0].ways {
        for connections in &options.connections {
            let rate = |side: &Side| median(&side.samples[place], |s| s.requests_per_s);
            for side in sides {
                let rounds = &side.samples[place];
                let share = match sides.get(1) {
                    Some(other) if side.name == "audited" => {
                        format!("{:.2}", rate(side) / rate(other))
                    }
                    _ => String::new(),
                };
                println!(
                    "| {} | {connections} | {} | {:.0} | {:.0} | {:.0} | {:.2} | {share} |",
                    way.name,
                    side.name,
                    rate(side),
                    median(rounds, |s| s.p50_us),
                    median(rounds, |s| s.p99_us),
                    median(rounds, |s| s.cpu_cores),
                );
                written.push(json!({
                    "way": way.name, "connections": connections, "server": side.name, "rounds": rounds,
                }));
            }
            place += 1;
        }
    }
    let median = rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN);
    println!("\nEntries of the log that are on the disk: {median:.0}/s (median of {rates:.0?})");
    let document = json!({
        "machine": machine, "load": before, "seconds": options.seconds,
        "measurements": written, "entries_per_s": rates,
    });
    let out = root().join(&options.out);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, serde_json::to_string_pretty(&document)?)?;
    Ok(())
}
