//! `cargo xtask bench sizes`: time to start, and memory idle, with many stopped agents, and with
//! many running ones that are all called at once.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::machine::{describe, percentile};
use super::servers::{Skep, binary, wait};
use crate::shell::{root, run as shell};

/// Requests of set-up that are on their way at once.
const HANDS: usize = 16;
/// What one request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for a server to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);
/// Rows of a page of agents.
const PAGE: usize = 1000;

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
    lines.extend(idle.lines("idle server", Some(40.0)));
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
    lines.extend(before.lines(&format!("server with {count} stopped"), Some(80.0)));
    lines.push(Line {
        what: format!("ready with {count} stopped"),
        measured: ready.as_secs_f64() * 1e3,
        unit: "ms",
        goal: Some(Goal::Below(300.0)),
    });
    lines.extend(after.lines("… after its new start", Some(80.0)));
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
    lines.extend(at_rest.lines(&format!("server with {count} running"), None));
    lines.extend(called.lines("… after these calls", None));
    lines.extend(shims.lines(&format!("shims of {count} agents, together"), None));
    Ok(lines)
}

/// Calls every agent in the same moment; tells how many answered well, and when the last did.
fn call_all(skep: &Skep, count: usize) -> (usize, Duration) {
    let (barrier, answered) = (Barrier::new(count + 1), AtomicUsize::new(0));
    let began = std::thread::scope(|scope| {
        for number in 0..count {
            let (barrier, answered) = (&barrier, &answered);
            scope.spawn(move || {
                let path = format!("/agents/{}/echo", name(number));
                barrier.wait();
                match ask(skep, "POST", &path, "{}") {
                    Ok((200, _)) => {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    other => eprintln!("{path}: {other:?}"),
                }
            });
        }
        barrier.wait();
        Instant::now()
    });
    (answered.into_inner(), began.elapsed())
}

/// Does something for every number, several at a time.
fn each(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Err(error) = work(number) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        next.store(count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}

fn name(number: usize) -> String {
    format!("agent-{number}")
}

fn deploy(skep: &Skep, number: usize, command: &str) -> Result<()> {
    let spec = json!({ "name": name(number), "command": [command] });
    ok(ask(skep, "POST", "/api/v1/agents", &spec.to_string())?)
}

fn ok((status, body): (u16, String)) -> Result<()> {
    ensure!((200..300).contains(&status), "{status} {body}");
    Ok(())
}

/// How many agents are in a state.
fn in_state(skep: &Skep, state: &str) -> Result<usize> {
    let (mut found, mut cursor) = (0, String::new());
    loop {
        let path = format!("/api/v1/agents?limit={PAGE}{cursor}");
        let page: Value = serde_json::from_str(&ask(skep, "GET", &path, "")?.1)?;
        let items = page["items"].as_array().context("no page of agents")?;
        found += items.iter().filter(|agent| agent["state"] == state).count();
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(found),
        }
    }
}

/// One request on a connection of its own: the status and the body. The answer must not be chunked.
fn ask(skep: &Skep, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let host = skep.url.strip_prefix("http://").context("plain HTTP")?;
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        skep.key,
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("no answer to {method} {path}");
    };
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Lets a process come to rest.
fn rest() {
    let until = Instant::now() + REST;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// The processes of instances below a data folder.
fn shims_of(folder: &Path) -> Vec<u32> {
    let folder = folder.display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("\0__shim\0") && words.contains(&folder)
    })
    .collect()
}

/// Resident memory of processes, in MiB.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    resident: f64,
    /// What is shared counts in part for each that shares it.
    proportional: f64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            number.unwrap_or(f64::NAN) / 1024.0
        };
        Self {
            resident: field("Rss:"),
            proportional: field("Pss:"),
        }
    }

    fn add(&mut self, other: &Self) {
        self.resident += other.resident;
        self.proportional += other.proportional;
    }

    fn lines(self, what: &str, bound: Option<f64>) -> [Line; 2] {
        let line = |kind, measured, goal| Line {
            what: format!("{what}, {kind}"),
            measured,
            unit: "MiB",
            goal,
        };
        [
            line("RSS", self.resident, bound.map(Goal::Below)),
            line("PSS", self.proportional, None),
        ]
    }
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
