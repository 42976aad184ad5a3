//! What agents use and how their calls go, live.

use clap::Args;
use skep_api::{Stats, Traffic, Usage};
use skep_client::{Client, PageQuery};

use crate::failure::Result;
use crate::live::{EVERY, Picture, until_interrupted};
use crate::output::{Format, human_bytes};
use crate::session::Session;

/// Flags of `stats`.
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal it goes on until Ctrl-C; else, and with --once, it looks once.
With --stream it goes on there too: a JSON object a line and agent with
-o json.

CPU is of one core. Memory is that of all processes. CALLS/S, ERR and the
times are of the last minute. `—` stands for what this machine cannot tell:
a local process has no network of its own.")]
pub(crate) struct StatsArgs {
    /// Only these agents
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// Every agent, as without a name
    #[arg(long, conflicts_with = "agents")]
    all: bool,
    /// A line for each instance too
    #[arg(short, long)]
    instances: bool,
    /// Look once, also on a terminal
    #[arg(long, visible_alias = "no-stream", conflicts_with = "stream")]
    once: bool,
    /// Go on, also without a terminal
    #[arg(long)]
    stream: bool,
}

/// What stands for a figure that is not known.
pub(crate) const UNKNOWN: &str = "—";
const HEADERS: [&str; 11] = [
    "AGENT", "STATE", "READY", "CPU", "MEM", "NET I/O", "RUN", "WAIT", "CALLS/S", "P50/P99", "ERR",
];
/// The column of [`HEADERS`] that a full screen leaves out.
pub(crate) const NETWORK: usize = 5;

fn or_unknown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// A size in as few columns as can be.
pub(crate) fn short_bytes(bytes: u64) -> String {
    let text = human_bytes(bytes);
    text.replace("iB", "")
}

pub(crate) fn cpu(usage: &Usage) -> String {
    or_unknown(usage.cpu_percent, |percent| format!("{percent:.1}%"))
}

pub(crate) fn memory(usage: &Usage) -> String {
    or_unknown(usage.memory_bytes, short_bytes)
}

fn network(usage: &Usage) -> String {
    let both = usage.received_bytes.zip(usage.sent_bytes);
    or_unknown(both, |(received, sent)| {
        format!("{}/{}", short_bytes(received), short_bytes(sent))
    })
}

/// A time in as few columns as can be.
pub(crate) fn short_ms(ms: f64) -> String {
    match ms {
        ..9.95 => format!("{ms:.1}ms"),
        ..999.5 => format!("{ms:.0}ms"),
        ..99_500.0 => format!("{:.1}s", ms / 1_000.0),
        _ => format!("{:.0}m", ms / 60_000.0),
    }
}

pub(crate) fn times(traffic: &Traffic) -> String {
    let both = traffic.p50_ms.zip(traffic.p99_ms);
    or_unknown(both, |(p50, p99)| {
        format!("{}/{}", short_ms(p50), short_ms(p99))
    })
}

/// The lines of a table with [`HEADERS`].
pub(crate) fn rows<'a>(
    stats: impl IntoIterator<Item = &'a Stats>,
    instances: bool,
) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for agent in stats {
        rows.push(vec![
            agent.agent.clone(),
            agent.state.as_str().to_owned(),
            format!("{}/{}", agent.ready, agent.replicas),
            cpu(&agent.usage),
            memory(&agent.usage),
            network(&agent.usage),
            agent.traffic.in_flight.to_string(),
            agent.queued.to_string(),
            format!("{:.1}", agent.traffic.calls_per_second),
            times(&agent.traffic),
            agent.traffic.errors.to_string(),
        ]);
        for one in agent.instances.iter().filter(|_| instances) {
            // The end of an id tells it from others; its beginning is the time.
            let tail = one.instance.len().saturating_sub(6);
            rows.push(vec![
                format!(" …{}", one.instance.get(tail..).unwrap_or_default()),
                one.state.as_str().to_owned(),
                format!("r{}", one.revision),
                cpu(&one.usage),
                memory(&one.usage),
                network(&one.usage),
                one.traffic.in_flight.to_string(),
                String::new(),
                format!("{:.1}", one.traffic.calls_per_second),
                times(&one.traffic),
                one.traffic.errors.to_string(),
            ]);
        }
    }
    rows
}

/// The figures of these agents, or of all.
pub(crate) async fn look(client: &Client, agents: &[String]) -> Result<Vec<Stats>> {
    let mut found = Vec::new();
    if !agents.is_empty() {
        for agent in agents {
            found.push(client.agent_stats(agent).await?);
        }
        return Ok(found);
    }
    let mut page = PageQuery::default();
    loop {
        let more = client.stats(&page).await?;
        found.extend(more.items);
        page.cursor = match more.next {
            Some(next) => Some(next),
            None => return Ok(found),
        };
    }
}

pub(crate) async fn stats(session: &Session, args: StatsArgs) -> Result {
    let client = session.client()?;
    let live = session.output.is_terminal() && session.output.format == Format::Table;
    if args.stream || live && !args.once {
        return until_interrupted(stream(session, &client, &args)).await;
    }
    let found = look(&client, &args.agents).await?;
    print(session, &args, &found)
}

/// All figures of one look.
fn print(session: &Session, args: &StatsArgs, found: &[Stats]) -> Result {
    let output = &session.output;
    match output.format {
        Format::Table | Format::Html => output.table(&HEADERS, &rows(found, args.instances)),
        Format::Json | Format::Yaml => output.document(found),
        Format::Name => {
            let names: String = found.iter().map(|it| format!("{}\n", it.agent)).collect();
            output.raw(names.as_bytes())
        }
    }
}

async fn stream(session: &Session, client: &Client, args: &StatsArgs) -> Result {
    let output = &session.output;
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut picture = Picture::default();
    loop {
        looks.tick().await;
        let found = look(client, &args.agents).await?;
        match output.format {
            Format::Table if output.is_terminal() => {
                let text = output.rendered(&HEADERS, &rows(&found, args.instances));
                picture.draw(output, &text)?;
            }
            // An object a line, and never half of one.
            Format::Json => {
                let line = |stats: &Stats| skep_api::to_json(stats) + "\n";
                output.raw(found.iter().map(line).collect::<String>().as_bytes())?;
            }
            Format::Yaml => {
                for stats in &found {
                    output.raw(b"---\n")?;
                    output.document(stats)?;
                }
            }
            Format::Table | Format::Name | Format::Html => print(session, args, &found)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_no_zero() {
        let nothing = Usage::default();
        assert_eq!(cpu(&nothing), UNKNOWN);
        assert_eq!(memory(&nothing), UNKNOWN);
        assert_eq!(network(&nothing), UNKNOWN);
        assert_eq!(times(&Traffic::default()), UNKNOWN);
        let idle = Usage {
            received_bytes: Some(0),
            sent_bytes: Some(2_048),
            ..nothing
        };
        assert_eq!(network(&idle), "0B/2.0K");
    }

    #[test]
    fn times_are_short() {
        let short = [0.1, 9.9, 12.3, 2_500.0, 600_000.0].map(short_ms);
        assert_eq!(short, ["0.1ms", "9.9ms", "12ms", "2.5s", "10m"]);
    }
}
