//! `calls`: look at calls, wait for their answers, and mend what is dead.

use std::time::Duration;

use clap::{Args, Subcommand};
use skep_api::{Call, CallState, Redriven};
use skep_client::{CallsQuery, Client, PageQuery};
use skep_core::Timestamp;

use super::call::{late, patience, print};
use super::wait::duration;
use crate::failure::{Failure, Result};
use crate::output::{Format, Row, age};
use crate::session::Session;

/// What comes behind `calls`.
#[derive(Debug, Args)]
#[command(after_help = "Without a command it lists calls, as `skep calls list` does.")]
pub(crate) struct CallsArgs {
    #[command(subcommand)]
    verb: Option<CallsVerb>,
}

/// What to do with calls.
#[derive(Debug, Subcommand)]
pub(crate) enum CallsVerb {
    /// List calls, newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a call with its attempts
    Show(ShowArgs),
    /// Print a call's answer, as it comes when it still runs
    Attach(AttachArgs),
    /// End a call that is not wanted any more
    Cancel(OneArgs),
    /// Make a new call of the same request
    Replay(OneArgs),
    /// List the calls that used up their attempts
    Dead(DeadArgs),
    /// Give dead calls another round of attempts
    Redrive(RedriveArgs),
    /// Forget ended calls
    Purge(PurgeArgs),
}

/// Rows of a list that says nothing of them.
const LIMIT: usize = 50;

/// Flags of `calls list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this agent's
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only those in this state
    #[arg(long, value_parser = state, value_name = "STATE")]
    state: Option<CallState>,
    /// At most so many; 0 is all
    #[arg(long, default_value_t = LIMIT, value_name = "N")]
    limit: usize,
}

/// Flags of `calls dead`.
#[derive(Debug, Args)]
pub(crate) struct DeadArgs {
    /// Only this agent's
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// At most so many; 0 is all
    #[arg(long, default_value_t = LIMIT, value_name = "N")]
    limit: usize,
}

/// Flags of `calls show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The call, `call_…`
    call: String,
    /// Print the request's body instead
    #[arg(long)]
    request: bool,
}

/// Flags of `calls attach`.
#[derive(Debug, Args)]
#[command(after_help = "\
A lost connection and a restart of the server are waited out: for --timeout,
else for a minute without progress. Nothing is printed twice.")]
pub(crate) struct AttachArgs {
    /// The call, `call_…`
    call: String,
    /// Fail when there is no answer yet
    #[arg(long)]
    no_wait: bool,
    /// Go on behind this event of a stream
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print status and headers too
    #[arg(short, long)]
    include: bool,
}

/// One call.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The call, `call_…`
    call: String,
}

/// Flags of `calls redrive`.
#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    /// The call, `call_…`
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    call: Option<String>,
    /// Every dead call
    #[arg(long)]
    all: bool,
    /// With --all: only this agent's
    #[arg(long, value_name = "AGENT", requires = "all")]
    agent: Option<String>,
}

/// Flags of `calls purge`.
#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// The call, `call_…`
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    call: Option<String>,
    /// Every call in the state
    #[arg(long)]
    all: bool,
    /// With --all: only this agent's
    #[arg(long, value_name = "AGENT", requires = "all")]
    agent: Option<String>,
    /// With --all: the state in which they ended
    #[arg(long, value_parser = state, default_value = "dead", value_name = "STATE")]
    state: CallState,
}

fn state(word: &str) -> Result<CallState, String> {
    CallState::parse(word).ok_or_else(|| {
        let all: Vec<_> = CallState::ALL.iter().map(|state| state.as_str()).collect();
        format!("there are: {}", all.join(", "))
    })
}

impl Row for Call {
    // The widths add up to 80 columns, with the ids whole.
    const HEADERS: &'static [&'static str] =
        &["ID", "AGENT", "STATE", "STATUS", "TRIES", "AGE", "REQUEST"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.agent.clone(),
            self.state.as_str().to_owned(),
            self.status
                .map_or_else(|| "-".to_owned(), |status| status.to_string()),
            self.attempts.to_string(),
            age(&self.accepted_at, now),
            format!("{} {}", self.method, self.target),
        ]
    }
}

pub(crate) async fn run(session: &Session, args: CallsArgs) -> Result {
    let client = session.client()?;
    let verb = args.verb.unwrap_or(CallsVerb::List(ListArgs {
        agent: None,
        state: None,
        limit: LIMIT,
    }));
    match verb {
        CallsVerb::List(args) => list(session, &client, args.agent, args.state, args.limit).await,
        CallsVerb::Dead(args) => {
            list(
                session,
                &client,
                args.agent,
                Some(CallState::Dead),
                args.limit,
            )
            .await
        }
        CallsVerb::Show(args) => show(session, &client, &args).await,
        CallsVerb::Attach(args) => attach(session, &client, &args).await,
        CallsVerb::Cancel(args) => {
            let call = client.cancel_call(&args.call).await?;
            told(session, &call)
        }
        CallsVerb::Replay(args) => {
            let call = client.replay_call(&args.call).await?;
            told(session, &call)
        }
        CallsVerb::Redrive(args) => redrive(session, &client, &args).await,
        CallsVerb::Purge(args) => purge(session, &client, args).await,
    }
}

fn told(session: &Session, call: &Call) -> Result {
    let said = format!("{} is {}.", call.id, call.state.as_str());
    session.output.done(call, &call.id, &said)
}

/// The calls that a query finds, page by page, up to a limit (0 is none).
pub(crate) async fn all(client: &Client, mut query: CallsQuery, limit: usize) -> Result<Vec<Call>> {
    const MOST: usize = 1_000;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut rows = Vec::new();
    loop {
        let wanted = (limit - rows.len()).min(MOST);
        query.page.limit = u32::try_from(wanted).ok();
        let found = client.calls(&query).await?;
        rows.extend(found.items);
        query.page.cursor = found.next;
        if query.page.cursor.is_none() || rows.len() >= limit {
            return Ok(rows);
        }
    }
}

async fn list(
    session: &Session,
    client: &Client,
    agent: Option<String>,
    state: Option<CallState>,
    limit: usize,
) -> Result {
    let page = PageQuery::default();
    let rows = all(client, CallsQuery { agent, state, page }, limit).await?;
    if limit > 0 && rows.len() == limit {
        session
            .output
            .note(&format!("The newest {limit}; `--limit 0` lists all."));
    }
    session.output.list(&rows)
}

async fn show(session: &Session, client: &Client, args: &ShowArgs) -> Result {
    let output = &session.output;
    if args.request {
        let mut body = client.call_request(&args.call).await?;
        while let Some(piece) = body.chunk().await? {
            output.raw(&piece)?;
        }
        return Ok(());
    }
    let call = client.show_call(&args.call).await?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let lines = [
        ("Id", call.id.clone()),
        ("Agent", call.agent.clone()),
        ("State", call.state.as_str().to_owned()),
        ("Reason", text(&call.reason)),
        ("Request", format!("{} {}", call.method, call.target)),
        ("Body", format!("{} bytes", call.request_bytes)),
        (
            "Status",
            call.status
                .map(|status| status.to_string())
                .unwrap_or_default(),
        ),
        (
            "Answer",
            call.response_bytes
                .map(|n| format!("{n} bytes"))
                .unwrap_or_default(),
        ),
        ("Attempts", call.attempts.to_string()),
        ("Key", text(&call.idempotency_key)),
        ("Replays", text(&call.replay_of)),
        ("Accepted", call.accepted_at.clone()),
        ("Due", text(&call.due_at)),
        ("Started", text(&call.started_at)),
        ("Finished", text(&call.finished_at)),
        ("Deadline", call.deadline_at.clone()),
        ("Instance", text(&call.instance)),
    ];
    output.one(&call, &call.id, &lines)?;
    if output.format != Format::Table || call.history.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = call
        .history
        .iter()
        .map(|attempt| {
            let status = attempt
                .status
                .map_or_else(|| "-".to_owned(), |it| it.to_string());
            let (number, reason) = (attempt.number.to_string(), attempt.reason.clone());
            vec![
                number,
                attempt.started_at.clone(),
                attempt.ended_at.clone(),
                status,
                reason,
            ]
        })
        .collect();
    output.raw(b"\n")?;
    output.table(&["ATTEMPT", "STARTED", "ENDED", "STATUS", "REASON"], &rows)
}

/// Attaches to a call as one does who says nothing more.
pub(crate) async fn attach_to(session: &Session, call: String) -> Result {
    let args = AttachArgs {
        call,
        no_wait: false,
        last_event_id: None,
        timeout: None,
        include: false,
    };
    attach(session, &session.client()?, &args).await
}

async fn attach(session: &Session, client: &Client, args: &AttachArgs) -> Result {
    let seen = args.last_event_id.as_deref();
    let patience = patience(session, args.timeout);
    let work = async {
        let answer = client
            .response_through(&args.call, !args.no_wait, seen, &patience)
            .await?;
        print(session, answer, args.include).await
    };
    match args.timeout {
        None => work.await,
        Some(timeout) => match tokio::time::timeout(timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(late(timeout, Some(&args.call))),
        },
    }
}

fn counted(session: &Session, changed: Redriven, what: &str) -> Result {
    let calls = if changed.calls == 1 { "call" } else { "calls" };
    let said = format!("{} {calls} {what}.", changed.calls);
    session
        .output
        .done(&changed, &changed.calls.to_string(), &said)
}

async fn redrive(session: &Session, client: &Client, args: &RedriveArgs) -> Result {
    match &args.call {
        Some(id) => told(session, &client.redrive_call(id).await?),
        None => {
            let changed = client.redrive_calls(args.agent.as_deref()).await?;
            counted(session, changed, "redriven")
        }
    }
}

async fn purge(session: &Session, client: &Client, args: PurgeArgs) -> Result {
    if !args.state.is_final() {
        return Err(
            Failure::usage(format!("{} calls have not ended", args.state.as_str()))
                .hint("End them first with `skep calls cancel`."),
        );
    }
    if let Some(id) = &args.call {
        session.confirm(&format!("Forget {id}?"))?;
        client.purge_call(id).await?;
        return counted(session, Redriven { calls: 1 }, "purged");
    }
    let word = args.state.as_str();
    let whose = args
        .agent
        .as_ref()
        .map(|agent| format!(" of {agent}"))
        .unwrap_or_default();
    session.confirm(&format!("Forget every {word} call{whose}?"))?;
    let query = CallsQuery {
        agent: args.agent,
        state: Some(args.state),
        page: PageQuery::default(),
    };
    counted(session, client.purge_calls(&query).await?, "purged")
}
