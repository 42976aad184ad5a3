//! `cargo xtask bench store`: strict calls a second on the embedded SQLite and on a PostgreSQL of the
//! benchmark's own, on the same disk, in interleaved rounds.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::drive::load;
use super::ingress::{SCRIPT, Sample, Way, measure, median};
use super::machine::{describe, percentile, probe_fdatasync};
use super::servers::{Process, Skep, wait};
use crate::setup::{self, Purpose};
use crate::shell::{output, root, run as shell};

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
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    connections: Vec<u32>,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-store.json")]
    out: PathBuf,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(Purpose::Bench)?;
    if std::env::var_os("SKEP_BIN").is_none() {
        shell("cargo", &["build", "--release", "--package", "skep"])?;
    }
    // On the disk that matters, not in memory.
    let folder = root().join(crate::generate::target()).join("bench-store");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let script = folder.join("wrk.lua");
    fs::write(&script, SCRIPT)?;
    let before = load();
    let (_postgres, url) = postgres(&folder)?;
    let [one, two] = ["sqlite", "postgres"].map(|name| folder.join(name));
    let sqlite = Skep::start(&one)?;
    let postgres = Skep::start_with(&two, &["--store", &url])?;
    let mut ways = Vec::new();
    for (name, skep, folder) in [("SQLite", &sqlite, &one), ("PostgreSQL", &postgres, &two)] {
        skep.deploy(folder, "strict", "strict")?;
        let way = Way {
            name,
            method: "POST",
            url: format!("{}/agents/strict/x", skep.url),
            pid: Some(skep.process.0.id()),
        };
        ways.push((way, skep));
    }
    let mut syncs = probe_fdatasync(&folder)?;
    let empty = vec![Vec::new(); options.connections.len()];
    let mut samples: Vec<Vec<Vec<Sample>>> = vec![empty; ways.len()];
    for round in 1..=options.rounds {
        for ((way, skep), of_way) in ways.iter().zip(&mut samples) {
            for (&connections, of_both) in options.connections.iter().zip(of_way) {
                eprintln!("round {round}: {} with {connections} connections", way.name);
                let sample = measure(way, connections, options.seconds, &script, &skep.key)?;
                ensure!(sample.errors == 0, "{}: {} errors", way.name, sample.errors);
                of_both.push(sample);
            }
        }
        syncs.extend(probe_fdatasync(&folder)?);
    }
    syncs.sort_unstable();
    report(options, &ways, &samples, &syncs, &before)
}

fn report(
    options: &Options,
    ways: &[(Way, &Skep)],
    samples: &[Vec<Vec<Sample>>],
    syncs: &[Duration],
    before: &str,
) -> Result<()> {
    let machine = describe()?;
    let sync = percentile(syncs, 50);
    println!(
        "\n{machine}; load before: {before}, after: {}; fdatasync p50 {} µs\n",
        load(),
        sync.as_micros()
    );
    println!("| store | connections | strict calls/s | p50 µs | p99 µs | cores of Skep |");
    println!("|---|---|---|---|---|---|");
    let mut written = Vec::new();
    for ((way, _), of_way) in ways.iter().zip(samples) {
        for (connections, rounds) in options.connections.iter().zip(of_way) {
            println!(
                "| {} | {connections} | {:.0} | {:.0} | {:.0} | {:.2} |",
                way.name,
                median(rounds, |s| s.requests_per_s),
                median(rounds, |s| s.p50_us),
                median(rounds, |s| s.p99_us),
                median(rounds, |s| s.cpu_cores),
            );
            written.push(json!({
                "store": way.name, "connections": connections, "rounds": rounds,
            }));
        }
    }
    let document = json!({
        "machine": machine, "load": before, "seconds": options.seconds,
        "fdatasync_p50_us": sync.as_secs_f64() * 1e6, "measurements": written,
    });
    let out = root().join(&options.out);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, serde_json::to_string_pretty(&document)?)?;
    Ok(())
}

/// The folder of PostgreSQL's programs: the newest of Debian's, else of the path.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut debian: Vec<PathBuf> = versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = debian.into_iter().rev().chain(std::env::split_paths(&path));
    folders
        .find(|folder| folder.join("initdb").is_file())
        .context("PostgreSQL is not installed")
}

/// A new cluster with PostgreSQL's own settings, reached by a socket in the folder; its URL.
fn postgres(folder: &Path) -> Result<(Process, String)> {
    let programs = programs()?;
    // It does not run as root.
    let user = match output("id", &["-u"])?.trim() {
        "0" => {
            let id =
                |of| Ok::<u32, anyhow::Error>(output("id", &[of, "postgres"])?.trim().parse()?);
            Some((id("-u")?, id("-g")?))
        }
        _ => None,
    };
    // Its folder must be its own, and all folders above must let its user through.
    let cluster = folder.join("cluster");
    fs::create_dir_all(&cluster)?;
    let command = |program: &str| {
        let mut command = Command::new(programs.join(program));
        command.current_dir(&cluster).stdin(Stdio::null());
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    };
    if let Some((uid, gid)) = user {
        chown(&cluster, Some(uid), Some(gid))?;
    }
    let made = command("initdb")
        .args(["--auth=trust", "--username=skep", "--encoding=UTF8"])
        .args(["--no-locale", "--pgdata", "data"])
        .output()?;
    ensure!(
        made.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let log = fs::File::create(folder.join("postgres.log"))?;
    let child = command("postgres")
        .args(["-D", "data", "-c", "listen_addresses=", "-k"])
        .arg(&cluster)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let process = Process(child);
    wait("PostgreSQL", || {
        let mut ready = command("pg_isready");
        ready.arg("-q").arg("-h").arg(&cluster);
        ready.status().ok()?.success().then_some(())
    })?;
    let socket = cluster.display().to_string().replace('/', "%2F");
    Ok((process, format!("postgres://skep@{socket}/postgres")))
}
