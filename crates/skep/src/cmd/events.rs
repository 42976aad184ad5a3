//! What happened, and what happens.

use std::time::Duration;

use clap::Args;
use skep_api::Event;
use skep_client::{Client, ClientError, EventsQuery, PageQuery};
use skep_core::{Timestamp, units};
use tokio::time::Instant;

use super::logs::since;
use crate::failure::{Failure, Result};
use crate::live::until_interrupted;
use crate::output::{Format, Row};
use crate::session::Session;

/// Events of a list that says nothing of them.
const LIMIT: u32 = 50;
/// The most events of a page.
const MOST: u32 = 1_000;
/// Time between two tries to reach a server that went away.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a server that went away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Flags of `events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Types begin with what they are about: agent.deployed, agent.started,
agent.stopped, agent.removed, agent.woke, agent.slept, agent.scaled,
agent.crash_loop; rollout.promoted, rollout.rolled_back, rollout.step, …;
instance.starting, instance.ready, instance.unready, instance.failed,
instance.ended; call.dead; exec.started, exec.ended; server.started,
server.stopping.

With --follow a lost connection and a restart of the server are waited out,
and nothing is left out or printed twice.

Examples:
  skep events --follow
  skep events --agent hello --since 1h --type instance")]
pub(crate) struct EventsArgs {
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    /// Events from this time on: `10m` back from now, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Only this agent's
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only this type, or what begins so: `instance`
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Without --since: the last so many
    #[arg(long, default_value_t = LIMIT, value_name = "N",
        value_parser = clap::value_parser!(u32).range(0..=1_000))]
    limit: u32,
}

impl Row for Event {
    const HEADERS: &'static [&'static str] = &["TIME", "TYPE", "AGENT", "DETAIL"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            moment(&self.time),
            self.kind.clone(),
            self.agent.clone().unwrap_or_default(),
            words(self),
        ]
    }
}

/// A time without the parts of seconds.
fn moment(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

/// What there is to say besides type and agent.
fn words(event: &Event) -> String {
    let revision = event.revision.map(|number| format!("revision {number}"));
    let by = event.by.as_ref().map(|by| format!("by {by}"));
    let detail = Some(event.detail.clone()).filter(|detail| !detail.is_empty());
    let parts = [
        event.call.clone(),
        detail,
        revision,
        event.instance.clone(),
        by,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// An event in a line: wide enough for most, and never cut.
fn line(event: &Event) -> String {
    let agent = event.agent.as_deref().unwrap_or("-");
    let text = format!(
        "{}  {:18}  {agent:12}  {}",
        moment(&event.time),
        event.kind,
        words(event)
    );
    crate::table::clean(text.trim_end()) + "\n"
}

pub(crate) async fn events(session: &Session, args: EventsArgs) -> Result {
    let client = session.client()?;
    let mut query = EventsQuery {
        agent: args.agent,
        kind: args.kind,
        since: args.since,
        page: PageQuery::default(),
    };
    query.page.limit = Some(match query.since {
        Some(_) => MOST,
        None => args.limit.max(1),
    });
    if args.follow && query.since.is_none() {
        // What was last is shown first, and the stream goes on behind it.
        let mut last = client.events(&query).await?.items;
        if args.limit == 0 {
            last.drain(..last.len().saturating_sub(1));
        }
        // Before the first there is nothing: what comes meanwhile is not to be missed.
        let cursor = last.last().map_or("0", |event| event.id.as_str());
        query.page.cursor = Some(cursor.to_owned());
        for event in last.iter().filter(|_| args.limit > 0) {
            print(session, event)?;
        }
    }
    if args.follow {
        return until_interrupted(follow(session, &client, query)).await;
    }
    let mut found = Vec::new();
    loop {
        let page = client.events(&query).await?;
        found.extend(page.items);
        match page.next {
            Some(next) => query.page.cursor = Some(next),
            None => break,
        }
    }
    let output = &session.output;
    match output.format {
        Format::Table if !output.is_terminal() => {
            output.raw(found.iter().map(line).collect::<String>().as_bytes())
        }
        _ => output.list(&found),
    }
}

fn print(session: &Session, event: &Event) -> Result {
    let output = &session.output;
    match output.format {
        Format::Table | Format::Html => output.raw(line(event).as_bytes()),
        Format::Json => output.raw((skep_api::to_json(event) + "\n").as_bytes()),
        Format::Name => output.raw(format!("{}\n", event.id).as_bytes()),
        Format::Yaml => {
            output.raw(b"---\n")?;
            output.document(event)
        }
    }
}

/// Prints events until Ctrl-C, over lost connections: each begins behind what was printed last.
async fn follow(session: &Session, client: &Client, mut query: EventsQuery) -> Result {
    let mut since = Instant::now();
    loop {
        let lost = match pass(session, client, &mut query, &mut since).await? {
            Some(lost) => lost,
            // The server ended the stream as it should.
            None => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if !lost.is_retryable() {
            return Err(lost.into());
        }
        if since.elapsed() > PATIENCE {
            let after = units::format_duration(PATIENCE);
            return Err(Failure::from(lost).hint(format!("It was waited for {after}.")));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Prints the events of one connection; tells how it was lost.
async fn pass(
    session: &Session,
    client: &Client,
    query: &mut EventsQuery,
    since: &mut Instant,
) -> Result<Option<ClientError>> {
    let mut stream = match client.event_stream(query).await {
        Ok(stream) => stream,
        Err(lost) => return Ok(Some(lost)),
    };
    *since = Instant::now();
    loop {
        match stream.next().await {
            Ok(Some(event)) => {
                print(session, &event)?;
                query.page.cursor = Some(event.id);
                // It stands before the cursor from now on.
                query.since = None;
            }
            Ok(None) => return Ok(None),
            Err(lost) => {
                *since = Instant::now();
                return Ok(Some(lost));
            }
        }
    }
}
