//! `benchmark`: how fast agents answer, and what that costs.

mod histogram;
mod load;
mod page;
mod report;
mod scenario;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use skep_api::Stats;
use skep_client::Client;
use skep_core::units;

use self::histogram::Histogram;
use self::load::{Load, Measured, Pace, Until};
use self::report::{Cold, Found, Report, Usage};
use self::scenario::{Kind, Scenario};
use super::wait::{Goal, duration, wait_for};
use crate::failure::{Exit, Failure, Result};
use crate::output::Format;
use crate::session::Session;

/// Requests when neither their number nor a time is given.
const REQUESTS: u64 = 1_000;
/// Clients of a closed loop.
const CLIENTS: usize = 16;
/// Requests of an open loop without an answer at once.
const MOST_OPEN: usize = 1_000;
/// How often the agent's use is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Time for an agent to stop or start.
const CHANGE: Duration = Duration::from_secs(90);

/// Flags of `benchmark`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --rate each client waits for its answer before it asks again (closed
loop): a slow agent is asked less often, and what others would have waited does
not show. With --rate requests are sent at set times (open loop), and latency
counts from the time at which a request was due, not from when it got out.

Latencies are of good answers, and of requests given up after --timeout. Agents
are measured one after the other. Calls are real: they are recorded, and agents
do what they do.

-o html writes a page with a drawing. Exit code 5: a bound was missed.

Examples:
  skep benchmark hello --path /greet -d '{\"name\":\"you\"}' -n 5000
  skep benchmark hello hello-next --rate 200 --duration 1m -o html > page.html
  skep benchmark hello -o json > before.json
  skep benchmark hello --compare before.json --max-p99 50ms")]
pub(crate) struct BenchmarkArgs {
    /// The agents
    #[arg(required = true)]
    agents: Vec<String>,
    /// How many requests to each [default: 1000, or no end with --duration]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How long to send requests to each
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Requests at once [default: 16; at most 1000 with --rate]
    #[arg(short = 'c', long, value_name = "N", value_parser = places)]
    concurrent: Option<usize>,
    /// Requests a second, whatever becomes of them (open loop)
    #[arg(short, long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Requests before those that count
    #[arg(long, value_name = "N", default_value_t = 20)]
    warmup: u64,
    /// Stop and start the agent so many times first, and measure its first answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    cold: u64,
    /// Path and query
    #[arg(long, default_value = "/", conflicts_with = "scenario")]
    path: String,
    /// The HTTP method [default: POST with a body, else GET]
    #[arg(short = 'X', long, value_name = "METHOD", conflicts_with = "scenario")]
    method: Option<String>,
    /// The body; `@FILE` sends a file, `-` standard input (up to 64 MiB)
    #[arg(
        short = 'd',
        long,
        value_name = "BODY",
        allow_hyphen_values = true,
        conflicts_with = "scenario"
    )]
    body: Option<String>,
    /// A header, as `Name: value`
    #[arg(short = 'H', long, value_name = "HEADER", conflicts_with = "scenario")]
    header: Vec<String>,
    /// A YAML file with several kinds of requests
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Show the changes since an earlier one, which `-o json` wrote
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Fail when fewer are answered well, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    min_success: Option<f64>,
    /// Fail when the p99 is longer
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_p99: Option<Duration>,
}

fn places(text: &str) -> Result<usize, String> {
    const MOST: usize = 10_000;
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("not a number from 1 to {MOST}"))
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|rate| (0.001..=100_000.0).contains(rate));
    number.ok_or_else(|| "not a number from 0.001 to 100000".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    let number = number.filter(|percent| (0.0..=100.0).contains(percent));
    number.ok_or_else(|| "not a number from 0 to 100".to_owned())
}

pub(crate) async fn benchmark(session: &Session, args: BenchmarkArgs) -> Result {
    let earlier = args.compare.as_deref().map(Report::read).transpose()?;
    let scenario = scenario(&args)?;
    if args.rate.is_some() && scenario.thinks() {
        return Err(
            Failure::usage("with --rate nobody waits, so there is no `think`")
                .hint("Leave --rate out, or `think` in the scenario."),
        );
    }
    let client = session.client()?;
    let measuring = async {
        let mut found = Vec::new();
        for name in &args.agents {
            found.push(measure(session, &client, name, &scenario, &args).await?);
        }
        Ok::<_, Failure>(Report::new(words(&args), found))
    };
    let measured = tokio::select! {
        measured = measuring => measured,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Failure::quiet(Exit::Interrupted))
        }
    };
    if measured.is_err() && args.cold > 0 {
        for name in &args.agents {
            // It was stopped for its cold starts and must not stay so; the failure says more.
            let _ = client.start(name).await;
        }
    }
    let report = measured?;
    show(session, &report, earlier.as_ref())?;
    let misses = report.misses(args.min_success, args.max_p99);
    match misses.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Watched, misses.join("; "))),
    }
}

fn scenario(args: &BenchmarkArgs) -> Result<Scenario> {
    if let Some(path) = &args.scenario {
        return Scenario::read(path);
    }
    let body = args.body.as_deref().map(super::call::body).transpose()?;
    let (method, headers) = super::call::head(args.method.as_deref(), &args.header, body.as_ref())?;
    Ok(Scenario::single(Kind {
        weight: 1,
        method,
        path: args.path.clone(),
        headers,
        body: body.unwrap_or_default(),
        think: None,
    }))
}

fn pace(args: &BenchmarkArgs) -> Pace {
    match args.rate {
        Some(rate) => Pace::Open {
            rate,
            most: args.concurrent.unwrap_or(MOST_OPEN),
        },
        None => Pace::Closed {
            clients: args.concurrent.unwrap_or(CLIENTS),
        },
    }
}

fn until(args: &BenchmarkArgs) -> Until {
    let requests = match args.duration {
        Some(_) => args.requests,
        None => Some(args.requests.unwrap_or(REQUESTS)),
    };
    Until {
        requests,
        duration: args.duration,
    }
}

/// The load in words.
fn words(args: &BenchmarkArgs) -> String {
    let pace = match pace(args) {
        Pace::Closed { clients } => format!("{clients} at once, closed loop"),
        Pace::Open { rate, most } => format!("{rate} a second, open loop, up to {most} at once"),
    };
    let until = until(args);
    let requests = until.requests.map(|number| format!("{number} requests"));
    let time = until.duration.map(units::format_duration);
    let ends: Vec<_> = requests.into_iter().chain(time).collect();
    let what = match &args.scenario {
        Some(path) => format!("requests of {}", path.display()),
        None => args.path.clone(),
    };
    format!("{what}, {}, {pace}", ends.join(" or "))
}

async fn measure(
    session: &Session,
    client: &Client,
    name: &str,
    scenario: &Scenario,
    args: &BenchmarkArgs,
) -> Result<Found> {
    let agent = client.agent(name).await?;
    let load = Load {
        client: client.clone(),
        agent: name.to_owned(),
        scenario: scenario.clone(),
        pace: pace(args),
        until: until(args),
        timeout: args.timeout,
    };
    let cold = match args.cold {
        0 => None,
        starts => Some(cold(session, &load, starts).await?),
    };
    if args.warmup > 0 {
        let warming = Load {
            pace: Pace::Closed {
                clients: CLIENTS.min(args.concurrent.unwrap_or(CLIENTS)),
            },
            until: Until {
                requests: Some(args.warmup),
                duration: None,
            },
            ..load.clone()
        };
        session.output.note(&format!("{name}: warming up …"));
        warming.run().await;
    }
    session.output.note(&format!("{name}: {} …", words(args)));
    let (measured, usage) = watched(&load).await?;
    Ok(Found {
        cold,
        usage,
        ..Found::new(name, agent.revision, &measured)
    })
}

/// First answers of an agent that did not run.
async fn cold(session: &Session, load: &Load, starts: u64) -> Result<Cold> {
    let (client, name) = (&load.client, load.agent.as_str());
    session
        .output
        .note(&format!("{name}: {starts} cold starts …"));
    let first = Load {
        pace: Pace::Closed { clients: 1 },
        until: Until {
            requests: Some(1),
            duration: None,
        },
        ..load.clone()
    };
    let mut times = Histogram::default();
    for _ in 0..starts {
        client.stop(name).await?;
        wait_for(session, client, name, &Goal::Stopped, CHANGE).await?;
        let began = Instant::now();
        client.start(name).await?;
        let measured = first.run().await;
        if measured.succeeded == 0 {
            let kind = measured.errors.into_keys().next().unwrap_or_default();
            return Err(Failure::plain(format!(
                "{name} gave no good answer after its start: {kind}"
            ))
            .hint(format!("Look at what it wrote with `skep logs {name}`.")));
        }
        times.record(began.elapsed());
    }
    Ok(Cold {
        starts,
        p50: times.quantile(0.5),
        max: times.most(),
    })
}

/// The load, and what the agent used meanwhile.
async fn watched(load: &Load) -> Result<(Measured, Option<Usage>)> {
    let stats = async || load.client.agent_stats(&load.agent).await;
    let before = stats().await?;
    let mut memory_bytes = before.usage.memory_bytes;
    let running = load.run();
    tokio::pin!(running);
    let measured = loop {
        tokio::select! {
            measured = &mut running => break measured,
            () = tokio::time::sleep(LOOK) => {
                // What is not seen now is seen the next time.
                if let Ok(now) = stats().await {
                    memory_bytes = memory_bytes.max(now.usage.memory_bytes);
                }
            }
        }
    };
    let usage = stats()
        .await
        .ok()
        .and_then(|after| usage(&before, &after, &measured, memory_bytes));
    Ok((measured, usage))
}

/// Nothing where the driver cannot tell.
fn usage(
    before: &Stats,
    after: &Stats,
    measured: &Measured,
    memory_bytes: Option<u64>,
) -> Option<Usage> {
    let now = after.usage.cpu_ms?;
    // Less than before is an instance that is younger: all of it counts.
    let cpu_ms = now.checked_sub(before.usage.cpu_ms.unwrap_or(0));
    let cpu_ms = cpu_ms.unwrap_or(now) as f64;
    Some(Usage {
        cpu_percent: cpu_ms / measured.elapsed.as_secs_f64().max(f64::MIN_POSITIVE) / 10.0,
        cpu_ms_per_request: cpu_ms / measured.sent.max(1) as f64,
        memory_bytes: memory_bytes.max(after.usage.memory_bytes)?,
    })
}

fn show(session: &Session, report: &Report, earlier: Option<&Report>) -> Result {
    let output = &session.output;
    match output.format {
        Format::Json | Format::Yaml => return output.document(report),
        Format::Html => return output.raw(page::page(report, earlier).as_bytes()),
        Format::Name | Format::Table => {}
    }
    let (headers, rows) = report.table(earlier);
    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
    output.table(&headers, &rows)?;
    let errors = report.errors();
    if !errors.is_empty() {
        output.raw(format!("\n{}\n", errors.join("\n")).as_bytes())?;
    }
    Ok(())
}
