//! `cargo xtask bench fleet`: hundreds of processes and of containers at once, all called while all
//! run, and the memory that each takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::drive::{
    Memory, available, call_all, deploy_spec, each, in_state, load, name, rest, shims_of,
    with_children,
};
use super::machine::describe;
use super::servers::{Skep, wait_for};
use crate::shell::{output, root, run as shell};

/// Time in which a whole fleet must be ready.
const PATIENCE: Duration = Duration::from_secs(300);
/// The image of the containers.
const IMAGE: &str = "skep-bench-agent:fleet";
/// For this the agent needs no library.
const STATIC: &str = "x86_64-unknown-linux-musl";

/// How many.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Processes at once.
    #[arg(long, default_value_t = 300)]
    processes: usize,
    /// Containers at once.
    #[arg(long, default_value_t = 100)]
    containers: usize,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-fleet.json")]
    out: PathBuf,
}

/// What came of one fleet; memory in MiB.
struct Fleet {
    kind: &'static str,
    count: usize,
    ready: Duration,
    answered: usize,
    called: Duration,
    server: f64,
    agents: f64,
    keepers: f64,
    machine: f64,
}

/// Builds what is measured: the server, and an agent that needs no library. Tells where the agent is.
pub(super) fn prepare() -> Result<PathBuf> {
    if std::env::var_os("SKEP_BIN").is_none() {
        shell("cargo", &["build", "--release", "--package", "skep"])?;
    }
    let agent = ["--package", "skep-tests", "--bin", "skep-test-agent"];
    shell(
        "cargo",
        &[&["build", "--release", "--target", STATIC], &agent[..]].concat(),
    )?;
    let target = root().join(crate::generate::target());
    Ok(target.join(STATIC).join("release/skep-test-agent"))
}

/// The same, with the agent as it runs on this machine.
pub(super) fn prepare_here() -> Result<PathBuf> {
    if std::env::var_os("SKEP_BIN").is_none() {
        shell("cargo", &["build", "--release", "--package", "skep"])?;
    }
    let agent = ["--package", "skep-tests", "--bin", "skep-test-agent"];
    shell("cargo", &[&["build", "--release"], &agent[..]].concat())?;
    let target = root().join(crate::generate::target());
    Ok(target.join("release/skep-test-agent"))
}

/// Makes an image of the agent alone, by `skep build`.
pub(super) fn image(agent: &Path, reference: &str) -> Result<()> {
    let skep = super::servers::binary();
    let (skep, agent) = (skep.to_string_lossy(), agent.to_string_lossy());
    shell(&skep, &["build", "-q", "--binary", &agent, "-t", reference])
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let agent = prepare()?;
    let folder = root().join(crate::generate::target()).join("bench-fleet");
    let _ = fs::remove_dir_all(&folder);
    let load = load();
    let command = agent.display().to_string();
    let process = |number| json!({ "name": name(number), "command": [command] });
    let mut all = vec![fleet(&folder, "processes", options.processes, &process)?];
    if options.containers > 0 {
        image(&agent, IMAGE)?;
        let container = |number| json!({ "name": name(number), "driver": "docker", "image": IMAGE, "pull": "never" });
        all.push(fleet(
            &folder,
            "containers",
            options.containers,
            &container,
        )?);
        shell("docker", &["rmi", IMAGE])?;
    }
    println!("\n{}; load before: {load}\n", describe()?);
    println!(
        "| at once | ready after | answered, all called at once | last answer | server, RSS | agents, PSS each \
         | with its keeper, each | of the machine, each |\n|---|---|---|---|---|---|---|---|"
    );
    for one in &all {
        println!("{}", one.row());
    }
    let fleets: Vec<Value> = all.iter().map(Fleet::document).collect();
    let document = json!({ "machine": describe()?, "load": load, "fleets": fleets });
    fs::write(
        root().join(&options.out),
        serde_json::to_string_pretty(&document)?,
    )?;
    Ok(())
}

/// Deploys many agents, waits until all are ready, and calls all in one moment.
fn fleet(
    folder: &Path,
    kind: &'static str,
    count: usize,
    spec: &(dyn Fn(usize) -> Value + Sync),
) -> Result<Fleet> {
    let place = folder.join(kind);
    fs::create_dir_all(&place)?;
    let skep = Skep::start(&place)?;
    eprintln!("{count} {kind}");
    let (before, began) = (available(), Instant::now());
    each(count, |number| deploy_spec(&skep, &spec(number)))?;
    wait_for("all being ready", PATIENCE, || {
        (in_state(&skep, "ready").ok()? == count).then_some(())
    })?;
    let ready = began.elapsed();
    let (answered, called) = call_all(&skep, count);
    rest();
    ensure!(
        in_state(&skep, "ready")? == count,
        "agents ended when they were called"
    );
    let machine = before - available();
    let keepers = match kind {
        "processes" => shims_of(&place),
        _ => container_keepers(&place)?,
    };
    let everyone = with_children(&keepers);
    let server = Memory::of(skep.process.0.id());
    let sum =
        |pids: &mut dyn Iterator<Item = u32>| pids.map(|pid| Memory::of(pid).proportional).sum();
    Ok(Fleet {
        kind,
        count,
        ready,
        answered,
        called,
        server: server.resident,
        keepers: sum(&mut keepers.iter().copied()),
        agents: sum(&mut everyone.into_iter().filter(|pid| !keepers.contains(pid))),
        machine,
    })
}

/// The processes of containerd that keep the containers of this data folder.
fn container_keepers(place: &Path) -> Result<Vec<u32>> {
    let id = fs::read_to_string(place.join("data/docker.id"))?;
    let label = format!("label=skep.data-folder={}", id.trim());
    let containers = output("docker", &["ps", "-q", "--no-trunc", "--filter", &label])?;
    let containers: Vec<&str> = containers.split_whitespace().collect();
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids
        .filter(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            words.contains("containerd-shim") && containers.iter().any(|id| words.contains(id))
        })
        .collect())
}

impl Fleet {
    fn each(&self, sum: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let count = self.count.max(1) as f64;
        sum / count
    }

    fn row(&self) -> String {
        format!(
            "| {} {} | {:.1} s | {} | {:.0} ms | {:.1} MiB | {:.2} MiB | {:.2} MiB | {:.2} MiB |",
            self.count,
            self.kind,
            self.ready.as_secs_f64(),
            self.answered,
            self.called.as_secs_f64() * 1e3,
            self.server,
            self.each(self.agents),
            self.each(self.agents + self.keepers),
            self.each(self.machine),
        )
    }

    fn document(&self) -> Value {
        json!({
            "kind": self.kind, "count": self.count, "ready_s": self.ready.as_secs_f64(),
            "answered": self.answered, "last_answer_ms": self.called.as_secs_f64() * 1e3,
            "server_rss_mib": self.server, "agent_pss_mib": self.each(self.agents),
            "agent_and_keeper_pss_mib": self.each(self.agents + self.keepers),
            "machine_mib": self.each(self.machine),
        })
    }
}
