//! `cargo xtask bench streams`: many runs at once, each a stream of events that is followed as it comes, and some that nobody reads.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::drive::{ask, deploy_spec, load};
use super::fleet::prepare_here;
use super::machine::{describe, percentile, usage};
use super::servers::{Skep, wait, wait_for};
use crate::shell::root;

/// Streams that are opened at once.
const DOORS: usize = 32;
/// Bytes that the system keeps for who does not read.
const SLOW_BUFFER: u32 = 4 << 10;
/// Time within which all streams must be open, and all events read after the last one was sent.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Streams that are read as they come.
    #[arg(long, default_value_t = 2000)]
    streams: usize,
    /// Streams besides whose clients read nothing.
    #[arg(long, default_value_t = 0)]
    slow: usize,
    /// Events of a stream in a second.
    #[arg(long, default_value_t = 10)]
    rate: u64,
    /// Bytes of an event besides.
    #[arg(long, default_value_t = 0)]
    bytes: usize,
    /// For how long, in seconds, when all are open.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-streams.json")]
    out: PathBuf,
}

/// What the streams tell.
#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    ended: AtomicUsize,
    /// When an event was sent, in microseconds since 1970, and how long it took.
    taken: Mutex<Vec<(u64, Duration)>>,
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let agent = prepare_here()?;
    let folder = root().join(crate::generate::target()).join("bench-streams");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let before = load();
    let skep = Skep::start(&folder)?;
    // All are open for as long as is measured, whoever is opened last.
    let count = options.rate * (options.seconds + PATIENCE.as_secs());
    let pause = 1000 / options.rate.max(1);
    let all = options.streams + options.slow;
    let endpoint = format!("/ticks?n={count}&ms={pause}&bytes={}", options.bytes);
    let calls = json!({ "concurrency": all, "queue": all });
    deploy_spec(
        &skep,
        &json!({ "name": "a", "command": [agent], "endpoint": endpoint, "calls": calls }),
    )?;
    wait("the agent", || {
        let agent = ask(&skep, "GET", "/api/v1/agents/a", "").ok()?.1;
        let agent: Value = serde_json::from_str(&agent).ok()?;
        (agent["state"] == "ready").then_some(())
    })?;
    let idle = usage(skep.process.0.id());
    let seen = Arc::new(Seen::default());
    // One thread reads all: what Skep needs is measured, and not how a machine changes between threads.
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (host, key) = (skep.url.clone(), skep.key.clone());
    let doors = Arc::new(Semaphore::new(DOORS));
    let mut readers = Vec::new();
    for number in 0..all {
        let (host, key, seen) = (host.clone(), key.clone(), seen.clone());
        let (doors, reads) = (doors.clone(), number < options.streams);
        let client = clients.spawn(async move {
            let door = doors.acquire_owned().await;
            match open((&host, &key), number, reads).await {
                Ok(stream) => follow(stream, reads, &seen, door).await,
                Err(error) => eprintln!("stream {number}: {error}"),
            }
        });
        readers.extend(reads.then_some(client));
    }
    let figures = measure(options, &skep, &seen)?;
    let all_read = async {
        for reader in readers {
            let _ = reader.await;
        }
    };
    let _ = clients.block_on(async { tokio::time::timeout(PATIENCE, all_read).await });
    tell(options, figures, &seen, (idle.memory, &before))
}

/// Tells the figures.
fn tell(
    options: &Options,
    (from, until, spent, memory): Figures,
    seen: &Seen,
    (idle, before): (u64, &str),
) -> Result<()> {
    let all = options.streams + options.slow;
    let taken = seen.taken.lock().unwrap_or_else(PoisonError::into_inner);
    let within = taken.iter().filter(|(at, _)| (from..until).contains(at));
    let mut taken: Vec<Duration> = within.map(|(_, taken)| *taken).collect();
    taken.sort_unstable();
    let ended = seen.ended.load(Ordering::Relaxed);
    ensure!(
        ended == options.streams,
        "{ended} streams came to their end"
    );
    let ms = |percent| percentile(&taken, percent).as_secs_f64() * 1e3;
    let (p50, p99, worst) = (ms(50), ms(99), ms(100));
    let seconds = Duration::from_micros(until - from).as_secs_f64();
    let each = memory.saturating_sub(idle) / 1024 / all.max(1) as u64;
    let (cores, rate) = (spent.as_secs_f64() / seconds, taken.len() as f64 / seconds);
    let machine = describe()?;
    let figures = json!({
        "machine": machine, "load": before, "streams": options.streams, "unread": options.slow, "rate": options.rate, "bytes": options.bytes,
        "seconds": seconds, "events": taken.len(), "p50_ms": p50, "p99_ms": p99, "worst_ms": worst, "cores": cores,
        "kib_per_stream": each,
    });
    println!("\n{machine}; load before: {before}\n");
    println!(
        "| streams | unread | events/s | p50 | p99 | worst | Skep's CPU | memory of a stream |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (streams, slow) = (options.streams, options.slow);
    println!(
        "| {streams} | {slow} | {rate:.0} | {p50:.1} ms | {p99:.1} ms | {worst:.0} ms | {cores:.2} cores | {each} KiB |"
    );
    let out = root().join(&options.out);
    fs::write(out, serde_json::to_string_pretty(&figures)?)?;
    Ok(())
}

type Figures = (u64, u64, Duration, u64);

/// Waits until all are open, and measures; tells from when and until when, what Skep spent and the memory it had.
fn measure(options: &Options, skep: &Skep, seen: &Seen) -> Result<Figures> {
    let pid = skep.process.0.id();
    let all = options.streams + options.slow;
    let opened = wait_for("the last stream", PATIENCE, || {
        (seen.open.load(Ordering::Relaxed) == all).then_some(())
    });
    let (from, began) = (now(), usage(pid));
    let until = from + options.seconds * 1_000_000;
    let _ = wait_for(
        "the end",
        PATIENCE + Duration::from_secs(options.seconds),
        || (now() >= until).then_some(()),
    );
    let ended = usage(pid);
    // Whatever is left ends, and nobody waits for it.
    let mut page = ask(skep, "GET", "/api/v1/runs?status=running&limit=1000", "")?;
    loop {
        let runs: Value = serde_json::from_str(&page.1)?;
        let runs = runs["items"].as_array().cloned().unwrap_or_default();
        if runs.is_empty() {
            break;
        }
        for run in runs {
            let id = run["id"].as_str().context("a run without an id")?;
            ask(skep, "POST", &format!("/api/v1/runs/{id}/cancel"), "")?;
        }
        page = ask(skep, "GET", "/api/v1/runs?status=running&limit=1000", "")?;
    }
    opened?;
    let spent = ended.cpu.saturating_sub(began.cpu);
    Ok((from, until, spent, ended.memory))
}

/// Asks for a run of its own.
async fn open((url, key): (&str, &str), number: usize, reads: bool) -> Result<TcpStream> {
    let host = url.strip_prefix("http://").context("plain HTTP")?;
    let socket = TcpSocket::new_v4()?;
    if !reads {
        // What the system would keep for who does not read is soon full.
        socket.set_recv_buffer_size(SLOW_BUFFER)?;
    }
    let mut stream = socket.connect(host.parse()?).await?;
    stream.set_nodelay(true)?;
    let body = json!({
        "threadId": format!("t{number}"), "runId": format!("r{number}"), "state": {}, "tools": [], "context": [],
        "messages": [{ "id": "q", "role": "user", "content": "Tick." }], "forwardedProps": {},
    });
    let body = body.to_string();
    let request = format!(
        "POST /agents/a/agui HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Reads a stream to its end; or only that it has begun. The next one is opened then.
async fn follow<D>(stream: TcpStream, reads: bool, seen: &Seen, door: D) {
    let mut lines = BufReader::with_capacity(16 << 10, stream);
    let (mut line, mut all, mut door) = (String::new(), Vec::new(), Some(door));
    while let Ok(1..) = lines.read_line(&mut line).await {
        if let Some(sent) = sent(&line) {
            let taken = Duration::from_micros(now().saturating_sub(sent));
            all.push((sent, taken));
            if door.take().is_some() {
                seen.open.fetch_add(1, Ordering::Relaxed);
            }
            if !reads {
                // It stays open, until the benchmark ends.
                std::future::pending::<()>().await;
            }
        }
        if line.contains("RUN_FINISHED") {
            seen.ended.fetch_add(1, Ordering::Relaxed);
        }
        line.clear();
    }
    let mut taken = seen.taken.lock().unwrap_or_else(PoisonError::into_inner);
    taken.extend(all);
}

/// When an event was sent that says so.
fn sent(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("\"delta\":\"")?;
    let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok()
}
