//! `cargo xtask bench sandbox`: what a sandbox costs at an instance's start, and on the way in and out
//! where the agent has a network of its own. `crates/runtime/examples/costs.rs` measures.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::drive::load;
use super::fleet::prepare;
use super::machine::{describe, percentile};
use super::servers::binary;
use crate::shell::{output, root, run as shell};

/// How often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Starts in each sandbox.
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-sandbox.json")]
    out: PathBuf,
}

/// What is measured, as it is called there and here.
const ROWS: [(&str, &str); 5] = [
    ("runs", "shim's start to the program's running"),
    ("ready", "shim's start to the first answer"),
    ("in, kept", "request in, on a connection that is there"),
    ("in, new", "request in, on a new connection"),
    ("out", "request in, and one from the agent to Skep"),
];
const SANDBOXES: [&str; 3] = ["off", "standard", "strict"];

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let agent = prepare()?;
    let costs = ["--package", "skep-runtime", "--example", "costs"];
    shell("cargo", &[&["build", "--release"], &costs[..]].concat())?;
    let program = root()
        .join(crate::generate::target())
        .join("release/examples/costs");
    let before = load();
    let said = output(
        &program.to_string_lossy(),
        &[
            binary().to_string_lossy().as_ref(),
            agent.to_string_lossy().as_ref(),
            &options.rounds.to_string(),
        ],
    )?;
    let taken: BTreeMap<String, BTreeMap<String, Vec<u64>>> = serde_json::from_str(&said)?;
    let machine = describe()?;
    println!("\n{machine}; load before: {before}, after: {}\n", load());
    println!(
        "| p50 (p95), µs | {} |\n|---|---|---|---|",
        SANDBOXES.join(" | ")
    );
    let mut written = Vec::new();
    for (what, words) in ROWS {
        let mut cells = Vec::new();
        for sandbox in SANDBOXES {
            let times = taken
                .get(sandbox)
                .and_then(|of| of.get(what))
                .with_context(|| format!("nothing of {what} in {sandbox}"))?;
            let mut times: Vec<_> = times.iter().copied().map(Duration::from_micros).collect();
            times.sort_unstable();
            let (p50, p95) = (percentile(&times, 50), percentile(&times, 95));
            cells.push(format!("{} ({})", p50.as_micros(), p95.as_micros()));
            written.push(json!({
                "what": what, "sandbox": sandbox, "times": times.len(),
                "p50_us": p50.as_secs_f64() * 1e6, "p95_us": p95.as_secs_f64() * 1e6,
            }));
        }
        println!("| {words} | {} |", cells.join(" | "));
    }
    let document = json!({ "machine": machine, "load": before, "costs": written });
    let out = root().join(&options.out);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, serde_json::to_string_pretty(&document)?)?;
    Ok(())
}
