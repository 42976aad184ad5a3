//! `cargo xtask bench wake`: the first call to an agent that sleeps, against the agent's own start.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::drive::{ask, deploy_spec, load};
use super::fleet::{image, prepare};
use super::machine::{describe, percentile};
use super::servers::{Process, Skep, wait, wait_for};
use crate::shell::{root, run as shell};

/// The image of the container.
const IMAGE: &str = "skep-bench-agent:wake";
/// The shortest time after which an agent may sleep.
const IDLE: &str = "1s";
/// Time in which an agent must be asleep again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Wakes of each kind.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Leave containers out.
    #[arg(long)]
    no_containers: bool,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-wake.json")]
    out: PathBuf,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let agent = prepare()?;
    let folder = root().join(crate::generate::target()).join("bench-wake");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let load = load();
    let alone = (0..options.rounds).map(|_| alone(&agent, &folder));
    let alone = alone.collect::<Result<Vec<_>>>()?;
    let mut rows = vec![("the agent alone", alone)];
    let skep = Skep::start(&folder)?;
    let scaling = json!({ "min": 0, "max": 1, "idle": IDLE });
    let process = json!({ "name": "process", "command": [agent], "replicas": scaling });
    rows.push(("process, asleep", wakes(&skep, &process, options.rounds)?));
    if !options.no_containers {
        image(&agent, IMAGE)?;
        let container = json!({
            "name": "container", "driver": "docker", "image": IMAGE, "pull": "never",
            "replicas": scaling,
        });
        rows.push((
            "container, asleep",
            wakes(&skep, &container, options.rounds)?,
        ));
    }
    drop(skep);
    if !options.no_containers {
        shell("docker", &["rmi", IMAGE])?;
    }
    println!("\n{}; load before: {load}\n", describe()?);
    println!("| first call | times | p50 | p95 | worst |\n|---|---|---|---|---|");
    let mut written = Vec::new();
    for (what, mut taken) in rows {
        taken.sort_unstable();
        let ms = |percent| percentile(&taken, percent).as_secs_f64() * 1e3;
        let (p50, p95, worst) = (ms(50), ms(95), ms(100));
        println!(
            "| {what} | {} | {p50:.0} ms | {p95:.0} ms | {worst:.0} ms |",
            taken.len()
        );
        written.push(json!({ "what": what, "p50_ms": p50, "p95_ms": p95, "worst_ms": worst }));
    }
    let document = json!({ "machine": describe()?, "load": load, "first_calls": written });
    fs::write(
        root().join(&options.out),
        serde_json::to_string_pretty(&document)?,
    )?;
    Ok(())
}

/// From the start of the bare program to its first answer.
fn alone(agent: &Path, folder: &Path) -> Result<Duration> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let began = Instant::now();
    let child = Command::new(agent)
        .env("PORT", port.to_string())
        .env("HOME", folder)
        .stdin(Stdio::null())
        .spawn()?;
    let _process = Process(child);
    wait("the agent", || super::drive::get(port, "/ping").ok())?;
    Ok(began.elapsed())
}

/// How long the first call to a sleeping agent took, every time.
fn wakes(skep: &Skep, spec: &Value, rounds: usize) -> Result<Vec<Duration>> {
    deploy_spec(skep, spec)?;
    let name = spec["name"].as_str().unwrap_or_default();
    let (path, call) = (
        format!("/api/v1/agents/{name}"),
        format!("/agents/{name}/echo"),
    );
    let mut taken = Vec::with_capacity(rounds);
    for round in 1..=rounds {
        eprintln!("{name}: wake {round} of {rounds}");
        wait_for("the agent's sleep", PATIENCE, || {
            let agent: Value = serde_json::from_str(&ask(skep, "GET", &path, "").ok()?.1).ok()?;
            (agent["state"] == "asleep").then_some(())
        })?;
        let began = Instant::now();
        let (status, body) = ask(skep, "POST", &call, "{}")?;
        taken.push(began.elapsed());
        ensure!(status == 200, "{status} {body}");
    }
    Ok(taken)
}
