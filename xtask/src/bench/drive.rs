//! Requests of a benchmark to its server, and what is read of processes: what the benchmarks of whole
//! fleets share.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::servers::Skep;

/// Requests of set-up that are on their way at once.
const HANDS: usize = 16;
/// What one request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for a server to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);
/// Rows of a page of agents.
const PAGE: usize = 1000;

/// Calls every agent in the same moment; tells how many answered well, and when the last did.
pub(super) fn call_all(skep: &Skep, count: usize) -> (usize, Duration) {
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
pub(super) fn each(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
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

pub(super) fn name(number: usize) -> String {
    format!("agent-{number}")
}

/// Deploys one of many as a local process.
pub(super) fn deploy(skep: &Skep, number: usize, command: &str) -> Result<()> {
    deploy_spec(skep, &json!({ "name": name(number), "command": [command] }))
}

/// Deploys an agent; does not wait for it.
pub(super) fn deploy_spec(skep: &Skep, spec: &Value) -> Result<()> {
    ok(ask(skep, "POST", "/api/v1/agents", &spec.to_string())?)
}

/// Whether an answer is a good one.
pub(super) fn ok((status, body): (u16, String)) -> Result<()> {
    ensure!((200..300).contains(&status), "{status} {body}");
    Ok(())
}

/// How many agents are in a state.
pub(super) fn in_state(skep: &Skep, state: &str) -> Result<usize> {
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
pub(super) fn ask(skep: &Skep, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
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

/// One request to a port of this machine, which must be answered well.
pub(super) fn get(port: u16, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 200 "),
        "no good answer to {path}"
    );
    Ok(())
}

/// Lets a process come to rest.
pub(super) fn rest() {
    let until = Instant::now() + REST;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// The processes of instances below a data folder.
pub(super) fn shims_of(folder: &Path) -> Vec<u32> {
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

/// These processes, and all that descend from them.
pub(super) fn with_children(roots: &[u32]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect();
    let mut found = roots.to_vec();
    let mut at = 0;
    while let Some(of) = found.get(at).copied() {
        let children = parents.iter().filter(|(_, parent)| *parent == of);
        found.extend(children.map(|(pid, _)| pid));
        at += 1;
    }
    found
}

/// Memory of the machine that programs could have now, in MiB.
pub(super) fn available() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    number.unwrap_or(f64::NAN) / 1024.0
}

/// How busy the machine was before.
pub(super) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Resident memory of processes, in MiB.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) resident: f64,
    /// What is shared counts in part for each that shares it.
    pub(super) proportional: f64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Self {
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

    pub(super) fn add(&mut self, other: &Self) {
        self.resident += other.resident;
        self.proportional += other.proportional;
    }
}
