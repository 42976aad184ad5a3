//! `cargo xtask bench scale`: the load of an agent goes up and down in steps; copies, queue and latency
//! are written down over time, as CSV and as a drawing.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::drive::{ask, deploy_spec, load, ok};
use super::fleet::prepare;
use super::machine::{describe, percentile};
use super::servers::{Skep, wait};
use crate::shell::root;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// What one call takes on a copy, which carries out one at a time.
const WORK_MS: u64 = 50;
/// A step's backlog is gone when no more calls than this wait or run.
const DRAINED: u64 = 6;
/// The drawing.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 150.0;

/// The load.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Steps of the load, as `SECONDSxCALLS_A_SECOND`.
    #[arg(long, value_delimiter = ',', default_value = "10x5,40x60,40x5,5x0")]
    steps: Vec<String>,
    /// Most copies.
    #[arg(long, default_value_t = 8)]
    max: u32,
    /// Calls in flight for each copy: the agent carries out one at a time.
    #[arg(long, default_value_t = 1)]
    target: u32,
    /// The window over which calls in flight are averaged.
    #[arg(long, default_value = "10s")]
    window: String,
    /// Where the series is written.
    #[arg(long, default_value = "docs/benchmarks/scale.csv")]
    csv: PathBuf,
    /// Where the drawing is written.
    #[arg(long, default_value = "docs/benchmarks/scale.svg")]
    svg: PathBuf,
}

/// One look.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: f64,
    rate: u64,
    wanted: u64,
    ready: u64,
    waiting: u64,
    p50_ms: f64,
}

type Ended = Arc<Mutex<Vec<(Instant, Duration)>>>;

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let steps = options
        .steps
        .iter()
        .map(|text| step(text))
        .collect::<Result<Vec<_>>>()?;
    let agent = prepare()?;
    let folder = root().join(crate::generate::target()).join("bench-scale");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let load = load();
    let skep = Skep::start(&folder)?;
    deploy_spec(
        &skep,
        &json!({
            "name": "a", "command": [agent],
            "replicas": { "min": 1, "max": options.max, "target": options.target, "window": options.window },
        }),
    )?;
    wait("the agent", || {
        let agent: Value =
            serde_json::from_str(&ask(&skep, "GET", "/api/v1/agents/a", "").ok()?.1).ok()?;
        (agent["state"] == "ready").then_some(())
    })?;
    let (looks, failed) = drive(&skep, &steps)?;
    for (path, text) in [(&options.csv, csv(&looks)), (&options.svg, svg(&looks))] {
        let path = root().join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, text)?;
    }
    println!(
        "\n{}; load before: {load}; calls that failed: {failed}\n",
        describe()?
    );
    println!(
        "| from | calls/s | most copies | first new copy after | most that wait | backlog gone after | at the fewest copies after | p50 at its worst | p50 at the end |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut from = 0.0;
    for (seconds, rate) in steps {
        println!("{}", row(&looks, from, from + seconds.as_secs_f64(), rate));
        from += seconds.as_secs_f64();
    }
    ensure!(failed == 0, "{failed} calls failed");
    Ok(())
}

fn step(text: &str) -> Result<(Duration, u64)> {
    let parts = text.split_once('x').and_then(|(seconds, rate)| {
        Some((
            Duration::from_secs(seconds.parse().ok()?),
            rate.parse().ok()?,
        ))
    });
    parts.ok_or_else(|| anyhow::anyhow!("`{text}` is no step; write 30x60"))
}

/// Sends calls at the steps' rates, whether earlier ones have ended or not, and looks meanwhile. Tells
/// how many failed.
fn drive(skep: &Skep, steps: &[(Duration, u64)]) -> Result<(Vec<Look>, usize)> {
    let (ended, failed) = (Ended::default(), AtomicUsize::new(0));
    let mut looks = Vec::new();
    std::thread::scope(|scope| {
        let began = Instant::now();
        let (mut until, mut next_look) = (began, began);
        for (seconds, rate) in steps {
            let pause = match rate {
                0 => *seconds,
                rate => Duration::from_secs(1) / u32::try_from(*rate).unwrap_or(u32::MAX),
            };
            let mut next_call = until;
            until += *seconds;
            while Instant::now() < until {
                if *rate > 0 && Instant::now() >= next_call {
                    next_call += pause;
                    let (ended, failed) = (ended.clone(), &failed);
                    scope.spawn(move || one(skep, &ended, failed));
                }
                if Instant::now() >= next_look {
                    next_look += LOOK;
                    looks.push(look(skep, began, *rate, &ended)?);
                }
                let next = next_look.min(until);
                let next = if *rate > 0 { next.min(next_call) } else { next };
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        }
        Ok((looks, ()))
    })
    .map(|(looks, ())| (looks, failed.into_inner()))
}

fn one(skep: &Skep, ended: &Ended, failed: &AtomicUsize) {
    let began = Instant::now();
    match ask(
        skep,
        "POST",
        &format!("/agents/a/serial?ms={WORK_MS}"),
        "{}",
    )
    .and_then(ok)
    {
        Ok(()) => {
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.push((Instant::now(), began.elapsed()));
        }
        Err(error) => {
            eprintln!("{error}");
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn look(skep: &Skep, began: Instant, rate: u64, ended: &Ended) -> Result<Look> {
    let read =
        |path: &str| -> Result<Value> { Ok(serde_json::from_str(&ask(skep, "GET", path, "")?.1)?) };
    let (agent, stats) = (read("/api/v1/agents/a")?, read("/api/v1/agents/a/stats")?);
    let instances = agent["instances"].as_array().map_or(0, |all| {
        all.iter().filter(|one| one["state"] == "ready").count()
    });
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut recent: Vec<Duration> = {
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Instant::now().checked_sub(2 * LOOK).unwrap_or(began);
        let recent = ended.iter().rev().take_while(|(at, _)| *at >= since);
        recent.map(|(_, taken)| *taken).collect()
    };
    recent.sort_unstable();
    Ok(Look {
        at: began.elapsed().as_secs_f64(),
        rate,
        wanted: number(&agent["replicas"]),
        ready: instances as u64,
        waiting: number(&stats["in_flight"]) + number(&stats["queued"]),
        p50_ms: percentile(&recent, 50).as_secs_f64() * 1e3,
    })
}

fn csv(looks: &[Look]) -> String {
    let mut text =
        "second,calls_per_second,copies_wanted,copies_ready,calls_running_and_waiting,p50_ms\n"
            .to_owned();
    for one in looks {
        let Look {
            at,
            rate,
            wanted,
            ready,
            waiting,
            p50_ms,
        } = one;
        let _ = writeln!(
            text,
            "{at:.1},{rate},{wanted},{ready},{waiting},{p50_ms:.0}"
        );
    }
    text
}

/// What became of one step of the load.
fn row(looks: &[Look], from: f64, to: f64, rate: u64) -> String {
    let within: Vec<&Look> = looks
        .iter()
        .filter(|one| (from..to).contains(&one.at))
        .collect();
    let most = |of: fn(&Look) -> u64| within.iter().map(|one| of(one)).max().unwrap_or(0);
    let before = looks
        .iter()
        .rev()
        .find(|one| one.at < from)
        .map_or(1, |one| one.ready);
    let seconds =
        |found: Option<f64>| found.map_or("–".to_owned(), |at| format!("{:.1} s", at - from));
    let least = within.iter().map(|one| one.ready).min().unwrap_or(0);
    let grown = within
        .iter()
        .find(|one| one.ready > before)
        .map(|one| one.at);
    // From the fullest look on.
    let fullest = within
        .iter()
        .enumerate()
        .max_by_key(|(index, one)| (one.waiting, *index));
    let full = fullest
        .filter(|(_, one)| one.waiting > DRAINED)
        .map(|(index, _)| index);
    let drained = full.and_then(|from| within[from..].iter().find(|one| one.waiting <= DRAINED));
    let drained = drained.map(|one| one.at);
    let shrunk = within
        .iter()
        .find(|one| one.ready < before && one.ready == least);
    let shrunk = shrunk.map(|one| one.at);
    let worst = within.iter().map(|one| one.p50_ms).fold(0.0, f64::max);
    let end = within
        .iter()
        .rev()
        .map(|one| one.p50_ms)
        .next()
        .unwrap_or(0.0);
    format!(
        "| {from:.0} s | {rate} | {} | {} | {} | {} | {} | {worst:.0} ms | {end:.0} ms |",
        most(|one| one.ready),
        seconds(grown),
        most(|one| one.waiting),
        seconds(drained),
        seconds(shrunk),
    )
}

/// The series as three curves, one below the other.
fn svg(looks: &[Look]) -> String {
    type Value = fn(&Look) -> f64;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let curves: [(&str, &str, Value); 4] = [
        ("calls per second", "#888888", |one| one.rate as f64),
        ("copies ready", "#1f6feb", |one| one.ready as f64),
        ("calls that run and wait", "#d1242f", |one| {
            one.waiting as f64
        }),
        ("latency p50, ms", "#9a6700", |one| one.p50_ms),
    ];
    let end = looks.last().map_or(1.0, |one| one.at);
    let height = HEIGHT * 4.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-10 0 {} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect x=\"-10\" width=\"{}\" height=\"{height}\" fill=\"white\"/>\n",
        WIDTH + 20.0,
        WIDTH + 20.0,
    );
    for (index, (name, color, value)) in curves.iter().enumerate() {
        let most = looks.iter().map(value).fold(1.0, f64::max);
        #[expect(clippy::cast_precision_loss, reason = "four of them")]
        let top = HEIGHT * index as f64;
        let points: Vec<String> = looks
            .iter()
            .map(|one| {
                let x = one.at / end * WIDTH;
                let y = top + HEIGHT - 10.0 - value(one) / most * (HEIGHT - 35.0);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = writeln!(
            text,
            "<text x=\"0\" y=\"{}\" fill=\"{color}\">{name} (most: {most:.0})</text>\n<polyline \
             fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" points=\"{}\"/>",
            top + 15.0,
            points.join(" ")
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end:.0} s</text>\n</svg>",
        WIDTH,
        height - 1.0
    );
    text
}
