//! `cargo xtask bench egress`: chats with a model that answers at once, straight and through gateways: requests a second,
//! latencies, time to the first byte, and memory with a thousand open streams.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::drive::{Memory, load};
use super::gateways::{self, Gateway, Provider};
use super::ingress::{Sample, Way, measure, median};
use super::machine::{describe, percentile, probe_fdatasync};
use super::servers::wait_for;
use crate::setup::{self, Purpose};
use crate::shell::{output, root, run as shell};

/// Streams that curl opens at once, of one process.
const OF_ONE: usize = 250;
/// Time until all streams are open.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests whose first byte is waited for, one after the other.
const FIRSTS: usize = 2_000;
/// Of who takes milliseconds for each.
const FEW_FIRSTS: usize = 100;

/// What wrk does; `{body}` is JSON.
const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests_per_s":%f,"p50_us":%f,"p99_us":%f,"errors":%d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// How much and how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Rounds of every measurement; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    connections: Vec<u32>,
    /// Streams that are open at once.
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Leave the other gateways out.
    #[arg(long)]
    alone: bool,
    /// Where the results are written as JSON.
    #[arg(long, default_value = "target/bench-egress.json")]
    out: PathBuf,
}

/// What is asked: four sentences, and a dozen words as the answer.
fn body(model: &str, stream: bool) -> Value {
    json!({
        "model": model,
        "stream": stream,
        "messages": [
            { "role": "system", "content": "You are a helpful agent that plans journeys. You are brief, and you \
               say what you do not know. You never make anything up. You ask when something is missing." },
            { "role": "user", "content": "Which trains go from Basel to Hamburg tomorrow before noon, please?" },
        ],
    })
}

/// One thing that is measured, of one gateway.
struct Row {
    gateway: usize,
    stream: bool,
    connections: u32,
    samples: Vec<Sample>,
}

/// Time to the first byte, one request after the other.
struct Firsts {
    p50: Duration,
    p99: Duration,
}

struct Bench<'a> {
    options: &'a Options,
    folder: PathBuf,
    provider: Provider,
    gateways: Vec<Gateway>,
}

impl Bench<'_> {
    fn script(&self, gateway: &Gateway, stream: bool) -> Result<PathBuf> {
        let path = self
            .folder
            .join(format!("{}-{stream}.lua", gateway.name.replace(", ", "-")));
        let text = body(&gateway.model, stream).to_string();
        fs::write(&path, SCRIPT.replace("{body}", &text))?;
        Ok(path)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for stream in [false, true] {
            for connections in &self.options.connections {
                for gateway in 0..self.gateways.len() {
                    rows.push(Row {
                        gateway,
                        stream,
                        connections: *connections,
                        samples: Vec::new(),
                    });
                }
            }
        }
        rows
    }

    fn measure(&self, row: &Row) -> Result<Sample> {
        let gateway = &self.gateways[row.gateway];
        let way = Way {
            name: gateway.name,
            method: "POST",
            url: gateway.url.clone(),
            pid: gateway.pid,
        };
        let script = self.script(gateway, row.stream)?;
        let seconds = self.options.seconds;
        let sample = measure(&way, row.connections, seconds, &script, &gateway.key)?;
        ensure!(
            sample.errors == 0,
            "{}: {} errors",
            gateway.name,
            sample.errors
        );
        Ok(sample)
    }

    /// A file for curl: so many requests for streams, on one connection where they follow each other.
    fn requests(&self, gateway: &Gateway, model: &str, count: usize) -> Result<PathBuf> {
        let name = gateway.name.replace(", ", "-");
        let data = self.folder.join(format!("{name}.json"));
        fs::write(&data, body(model, true).to_string())?;
        let one = format!(
            "url = \"{}\"\nheader = \"Authorization: Bearer {}\"\nheader = \"Content-Type: application/json\"\n\
             data-binary = \"@{}\"\noutput = \"/dev/null\"\nsilent\nno-buffer\n\
             write-out = \"%{{http_code}} %{{time_pretransfer}} %{{time_starttransfer}}\\n\"\n",
            gateway.url,
            gateway.key,
            data.display()
        );
        let path = self.folder.join(format!("{name}.curl"));
        fs::write(&path, vec![one; count].join("next\n"))?;
        Ok(path)
    }

    fn firsts(&self, gateway: &Gateway) -> Result<Firsts> {
        let count = match gateway.name {
            "LiteLLM" => FEW_FIRSTS,
            _ => FIRSTS,
        };
        let file = self.requests(gateway, &gateway.model, count)?;
        let text = output("curl", &["--config", &file.to_string_lossy()])?;
        let mut times = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [status, before, first] = words[..] else {
                bail!("curl said {line}");
            };
            ensure!(status == "200", "{}: {status}", gateway.name);
            let taken = first.parse::<f64>()? - before.parse::<f64>()?;
            times.push(Duration::from_secs_f64(taken.max(0.0)));
        }
        ensure!(times.len() == count, "{} answers of {count}", times.len());
        times.sort_unstable();
        Ok(Firsts {
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
        })
    }

    /// Resident memory of a gateway before, and while so many streams are open, in MiB.
    fn open(&self, gateway: &Gateway) -> Result<(f64, f64)> {
        let pid = gateway.pid.context("a process")?;
        let before = Memory::of(pid).resident;
        // They begin, and say nothing more.
        let file = self.requests(gateway, gateways::STALLED, OF_ONE)?;
        let many = self.options.streams / OF_ONE;
        let children: Result<Vec<Running>> = (0..many)
            .map(|_| {
                let child = Command::new("curl")
                    .args(["--parallel", "--parallel-immediate", "--parallel-max"])
                    .arg(OF_ONE.to_string())
                    .arg("--config")
                    .arg(&file)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                Ok(Running(child))
            })
            .collect();
        let children = children?;
        let wanted = u64::try_from(many * OF_ONE)?;
        let counts = format!("{}/_counts", self.provider.url);
        wait_for("all streams", PATIENCE, || {
            let text = output("curl", &["--silent", &counts]).ok()?;
            let told: Value = serde_json::from_str(&text).ok()?;
            (told["open"].as_u64()? >= wanted).then_some(())
        })?;
        let during = Memory::of(pid).resident;
        drop(children);
        Ok((before, during))
    }
}

/// A program that is killed when it is no longer wanted.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(Purpose::Bench)?;
    if std::env::var_os("SKEP_BIN").is_none() {
        shell(
            "cargo",
            &["build", "--profile", "dist", "--package", "skep"],
        )?;
        let upstream = ["--package", "skep-tests", "--bin", "skep-upstream"];
        shell("cargo", &[&["build", "--release"][..], &upstream].concat())?;
    }
    let folder = root().join(crate::generate::target()).join("bench-egress");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let before = load();
    let bench = start(options, folder)?;
    let mut syncs = probe_fdatasync(&bench.folder)?;
    let mut rows = bench.rows();
    for round in 1..=options.rounds {
        for row in &mut rows {
            let (of, stream) = (bench.gateways[row.gateway].name, row.stream);
            let connections = row.connections;
            eprintln!("round {round}: {of}, {connections} connections, stream: {stream}");
            row.samples.push(bench.measure(row)?);
        }
        syncs.extend(probe_fdatasync(&bench.folder)?);
    }
    syncs.sort_unstable();
    let firsts: Result<Vec<Firsts>> = bench.gateways.iter().map(|it| bench.firsts(it)).collect();
    let firsts = firsts?;
    let of_skep = bench.gateways.iter().find(|it| it.name == "Skep");
    let open = bench.open(of_skep.context("Skep")?)?;
    println!(
        "\n{}; load before: {before}, after: {}; fdatasync p50 {} µs, p99 {} µs\n",
        describe()?,
        load(),
        percentile(&syncs, 50).as_micros(),
        percentile(&syncs, 99).as_micros(),
    );
    print(&bench, &rows, &firsts, open);
    write(&bench, &rows, &firsts, open, &before)
}

fn start(options: &Options, folder: PathBuf) -> Result<Bench<'_>> {
    let provider = gateways::provider(&folder)?;
    let mut all = vec![gateways::direct(&provider)];
    if !options.alone {
        all.push(gateways::litellm(&folder, &provider)?);
        all.push(gateways::tensorzero(&folder, &provider)?);
    }
    for strict in [false, true] {
        all.push(gateways::skep(&folder, &provider, strict)?);
    }
    Ok(Bench {
        options,
        folder,
        provider,
        gateways: all,
    })
}

fn kind(stream: bool) -> &'static str {
    if stream { "stream" } else { "whole" }
}

fn print(bench: &Bench<'_>, rows: &[Row], firsts: &[Firsts], (before, during): (f64, f64)) {
    println!("| answer | connections | by way of | requests/s | p50 µs | p99 µs | cores |");
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        let value = |of: fn(&Sample) -> f64| median(&row.samples, of);
        println!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.2} |",
            kind(row.stream),
            row.connections,
            bench.gateways[row.gateway].name,
            value(|s| s.requests_per_s),
            value(|s| s.p50_us),
            value(|s| s.p99_us),
            value(|s| s.cpu_cores),
        );
    }
    println!("\n| first byte of a stream | p50 µs | p99 µs |");
    println!("|---|---|---|");
    for (gateway, first) in bench.gateways.iter().zip(firsts) {
        let (p50, p99) = (first.p50.as_micros(), first.p99.as_micros());
        println!("| {} | {p50} | {p99} |", gateway.name);
    }
    println!(
        "\n{} open streams through Skep: {during:.0} MiB, {before:.0} before",
        bench.options.streams
    );
    goals(bench, rows, firsts);
}

/// What is wanted, and what was measured.
fn goals(bench: &Bench<'_>, rows: &[Row], firsts: &[Firsts]) {
    let place = |name: &str| bench.gateways.iter().position(|it| it.name == name);
    let of = |name: &str, connections: u32, value: fn(&Sample) -> f64| {
        let place = place(name);
        let row = rows.iter().find(|row| {
            Some(row.gateway) == place && row.connections == connections && !row.stream
        });
        row.map_or(f64::NAN, |row| median(&row.samples, value))
    };
    let added = of("Skep", 1, |s| s.p50_us) - of("direct", 1, |s| s.p50_us);
    println!("\nadded p50 at one connection: {added:.0} µs (goal ≤ 150)");
    for (other, wanted) in [("TensorZero", 2), ("LiteLLM", 100)] {
        let best = |name: &str| {
            let rates = bench.options.connections.iter();
            rates
                .map(|it| of(name, *it, |s| s.requests_per_s))
                .fold(f64::NAN, f64::max)
        };
        let times = best("Skep") / best(other);
        println!("throughput, each at its best: {times:.1} × {other} (goal ≥ {wanted})");
    }
    if let (Some(direct), Some(skep)) = (place("direct"), place("Skep")) {
        let added = firsts[skep].p99.as_secs_f64() - firsts[direct].p99.as_secs_f64();
        println!(
            "first byte, added at p99: {:.0} µs (goal < 1000)",
            added * 1e6
        );
    }
}

fn write(
    bench: &Bench<'_>,
    rows: &[Row],
    firsts: &[Firsts],
    (before, during): (f64, f64),
    load: &str,
) -> Result<()> {
    let name = |place: usize| bench.gateways[place].name;
    let measured: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({ "of": name(row.gateway), "answer": kind(row.stream), "connections": row.connections,
                "rounds": row.samples })
        })
        .collect();
    let firsts: Vec<Value> = firsts
        .iter()
        .enumerate()
        .map(|(place, it)| {
            json!({ "of": name(place), "p50_us": it.p50.as_micros(), "p99_us": it.p99.as_micros() })
        })
        .collect();
    let document = json!({
        "machine": describe()?, "load": load, "measured": measured, "first_byte": firsts,
        "streams": { "open": bench.options.streams, "before_mib": before, "during_mib": during },
    });
    save(&root().join(&bench.options.out), &document)
}

fn save(path: &Path, document: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, serde_json::to_string_pretty(document)?)?)
}
