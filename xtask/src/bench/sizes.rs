//! `cargo xtask bench sizes`: time to start, and memory idle, with many stopped agents, and with
//! many running ones that are all called at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::drive::{Memory, ask, call_all, deploy, each, in_state, name, ok, rest, shims_of};
use super::machine::{describe, percentile};
use super::servers::{Skep, binary, wait};
use crate::shell::{root, run as shell};

/// How much of everything.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Starts on a new and on an existing data folder; the medians count.
    #[arg(long, default_value_t = 10)]
    starts: usize,
    /// Agents that are deployed and stopped.
    #[arg(long, default_value_t = 1000)]
    stopped: usize,
    /// Agents that run and are called at once.
    #[arg(long, default_value_t = 100)]
    running: usize,
    /// The agent that runs, as a command; default: the binary's own `__agent`.
    #[arg(long)]
    agent: Option<String>,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-sizes.json")]
    out: PathBuf,
}

/// One line of the table.
struct Line {
    what: String,
    measured: f64,
    unit: &'static str,
    /// The bound that it must stay below, or reach.
    goal: Option<Goal>,
}

enum Goal {
    Below(f64),
    All(f64),
}

impl Goal {
    fn text(&self) -> String {
        match self {
            Self::Below(bound) => format!("< {bound:.0}"),
            Self::All(count) => format!("= {count:.0}"),
        }
    }

    fn met(&self, measured: f64) -> bool {
        match self {
            Self::Below(bound) => measured < *bound,
            Self::All(count) => measured >= *count,
        }
    }
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    if std::env::var_os("SKEP_BIN").is_none() {
        shell("cargo", &["build", "--release", "--package", "skep"])?;
    }
    // On the disk that matters, not in memory.
    let folder = root().join(crate::generate::target()).join("bench-sizes");
    let _ = fs::remove_dir_all(&folder);
    let mut lines = starts(&folder, options.starts)?;
    eprintln!("{} stopped agents", options.stopped);
    lines.extend(stopped(&folder.join("stopped"), options.stopped)?);
    eprintln!("{} running agents", options.running);
    lines.extend(running(&folder.join("running"), options)?);
    print(&lines)?;
    let out = root().join(&options.out);
    fs::write(&out, serde_json::to_string_pretty(&document(&lines)?)?)?;
    println!("\nwritten to {}", options.out.display());
    Ok(())
}

/// Starts a server; tells when its health said that it takes calls.
fn start(folder: &Path) -> Result<(Skep, Duration)> {
    let started = Instant::now();
    let skep = Skep::start(folder)?;
    wait("health", || {
        matches!(ask(&skep, "GET", "/api/v1/health/basic", ""), Ok((200, _))).then_some(())
    })?;
    Ok((skep, started.elapsed()))
}

/// Time to start, and memory when nothing was done yet.
fn starts(folder: &Path, count: usize) -> Result<Vec<Line>> {
    let median = |mut taken: Vec<Duration>| {
        taken.sort_unstable();
        percentile(&taken, 50).as_secs_f64() * 1e3
    };
    let (mut new, mut existing) = (Vec::new(), Vec::new());
    for number in 1..=count {
        eprintln!("start {number} of {count}");
        let place = folder.join(format!("start-{number}"));
        new.push(start(&place)?.1);
        existing.push(start(&place)?.1);
    }
    let line = |what: &str, measured| Line {
        what: what.to_owned(),
        measured,
        unit: "ms",
        goal: Some(Goal::Below(300.0)),
    };
    let (skep, _) = start(&folder.join("idle"))?;
    rest();
    let idle = Memory::of(skep.process.0.id());
    let mut lines = vec![
        line("ready, new data folder, median", median(new)),
        line("ready, existing data folder, median", median(existing)),
    ];
    lines.extend(lines_of(idle, "idle server", Some(40.0)));
    Ok(lines)
}

/// Deploys agents and stops them; tells the server's memory then, and after a new start.
fn stopped(folder: &Path, count: usize) -> Result<Vec<Line>> {
    let (skep, _) = start(folder)?;
    let began = Instant::now();
    each(count, |number| {
        deploy(&skep, number, "sleep 100000")?;
        let path = format!("/api/v1/agents/{}/stop", name(number));
        ok(ask(&skep, "POST", &path, "")?)
    })?;
    wait("all being stopped", || {
        (in_state(&skep, "stopped").ok()? == count).then_some(())
    })?;
    let taken = began.elapsed().as_secs_f64();
    rest();
    let before = Memory::of(skep.process.0.id());
    drop(skep);
    let (skep, ready) = start(folder)?;
    ensure!(
        in_state(&skep, "stopped")? == count,
        "agents did not stay stopped"
    );
    rest();
    let after = Memory::of(skep.process.0.id());
    let mut lines = vec![Line {
        what: format!("{count} agents deployed and stopped"),
        measured: taken,
        unit: "s",
        goal: None,
    }];
    lines.extend(lines_of(
        before,
        &format!("server with {count} stopped"),
        Some(80.0),
    ));
    lines.push(Line {
        what: format!("ready with {count} stopped"),
        measured: ready.as_secs_f64() * 1e3,
        unit: "ms",
        goal: Some(Goal::Below(300.0)),
    });
    lines.extend(lines_of(after, "… after its new start", Some(80.0)));
    Ok(lines)
}

/// Runs agents and calls all of them in one moment.
fn running(folder: &Path, options: &Options) -> Result<Vec<Line>> {
    let count = options.running;
    let (skep, _) = start(folder)?;
    let own = format!("{} __agent", binary().display());
    let command = options.agent.as_deref().unwrap_or(&own);
    let began = Instant::now();
    each(count, |number| deploy(&skep, number, command))?;
    wait("all being ready", || {
        (in_state(&skep, "ready").ok()? == count).then_some(())
    })?;
    let ready = began.elapsed().as_secs_f64() * 1e3;
    rest();
    let at_rest = Memory::of(skep.process.0.id());
    let (answered, taken) = call_all(&skep, count);
    let called = Memory::of(skep.process.0.id());
    let mut shims = Memory::default();
    for pid in shims_of(folder) {
        shims.add(&Memory::of(pid));
    }
    let mut lines = vec![
        Line {
            what: format!("{count} agents deployed and ready"),
            measured: ready,
            unit: "ms",
            goal: None,
        },
        Line {
            what: format!("{count} called at once: answered"),
            measured: answered as f64,
            unit: "",
            goal: Some(Goal::All(count as f64)),
        },
        Line {
            what: format!("{count} called at once: the last after"),
            measured: taken.as_secs_f64() * 1e3,
            unit: "ms",
            goal: None,
        },
    ];
    lines.extend(lines_of(
        at_rest,
        &format!("server with {count} running"),
        None,
    ));
    lines.extend(lines_of(called, "… after these calls", None));
    lines.extend(lines_of(
        shims,
        &format!("shims of {count} agents, together"),
        None,
    ));
    Ok(lines)
}

/// Two lines of the table.
fn lines_of(memory: Memory, what: &str, bound: Option<f64>) -> [Line; 2] {
    let line = |kind, measured, goal| Line {
        what: format!("{what}, {kind}"),
        measured,
        unit: "MiB",
        goal,
    };
    [
        line("RSS", memory.resident, bound.map(Goal::Below)),
        line("PSS", memory.proportional, None),
    ]
}
fn print(lines: &[Line]) -> Result<()> {
    println!("\n{}", describe()?);
    println!(
        "\n{:<44} {:>10} {:<4} {:>7}",
        "what", "measured", "", "goal"
    );
    for line in lines {
        let (goal, verdict) = match &line.goal {
            Some(goal) if goal.met(line.measured) => (goal.text(), "met"),
            Some(goal) => (goal.text(), "MISSED"),
            None => (String::new(), ""),
        };
        let text = format!(
            "{:<44} {:>10.1} {:<4} {goal:>7} {verdict}",
            line.what, line.measured, line.unit
        );
        println!("{}", text.trim_end());
    }
    Ok(())
}

fn document(lines: &[Line]) -> Result<Value> {
    let measurements: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "what": line.what,
                "measured": line.measured,
                "unit": line.unit,
                "goal": line.goal.as_ref().map(Goal::text),
                "met": line.goal.as_ref().map(|goal| goal.met(line.measured)),
            })
        })
        .collect();
    Ok(json!({ "machine": describe()?, "measurements": measurements }))
}
