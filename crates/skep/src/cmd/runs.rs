//! `runs`: what agents were asked and what came of it, and the conversations that it belongs to.

mod tail;

use clap::{Args, Subcommand};
use serde_json::json;
use skep_api::{NewFork, Run, RunStatus, Thread};
use skep_client::{Client, PageQuery, RunsQuery};
use skep_core::Timestamp;

use crate::failure::Result;
use crate::live::until_interrupted;
use crate::output::{Format, Row, age};
use crate::session::Session;
use crate::table::{clean, clean_lines};

/// Rows of a list that says nothing of them.
const LIMIT: usize = 50;

/// What comes behind `runs`.
#[derive(Debug, Args)]
#[command(after_help = "Without a command it lists runs, as `skep runs list` does.")]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    verb: Option<RunsVerb>,
}

/// What to do with runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsVerb {
    /// List runs, newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a run
    Show(OneArgs),
    /// Print what an agent says in a run, as it comes
    Tail(TailArgs),
    /// Print all of a run: what was asked and its events
    Export(OneArgs),
    /// End a run that is not wanted any more
    Cancel(OneArgs),
    /// Begin a conversation with what a run had come to
    Fork(ForkArgs),
    /// List conversations, newest first
    Threads(ThreadsArgs),
    /// Show what was said in a conversation
    Thread(ThreadArgs),
    /// Forget a conversation with its runs
    Forget(ThreadArgs),
}

/// Flags of `runs list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this agent's
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only those of this conversation, `thr_…`
    #[arg(long, value_name = "THREAD")]
    thread: Option<String>,
    /// Only those that stand so
    #[arg(long, value_parser = status, value_name = "STATUS")]
    status: Option<RunStatus>,
    /// Only those in which an agent was asked by the one of this run
    #[arg(long, value_name = "RUN")]
    parent: Option<String>,
    /// At most so many; 0 is all
    #[arg(long, default_value_t = LIMIT, value_name = "N")]
    limit: usize,
}

/// One run.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The run, `run_…`
    run: String,
}

/// Flags of `runs tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
A lost connection and a restart of the server are waited out, and nothing is
printed twice. With -o json each event is a line, as AG-UI has it; behind a lost
connection there is a snapshot of what the run had come to.")]
pub(crate) struct TailArgs {
    /// The run, `run_…`
    run: String,
    /// Begin behind this event
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
}

/// Flags of `runs fork`.
#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// The run, `run_…`
    run: String,
    /// What the conversation is called; else by its id
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Behind this event of the run; else behind its end
    #[arg(long, value_name = "ID")]
    behind: Option<String>,
}

/// Flags of `runs threads`.
#[derive(Debug, Args)]
pub(crate) struct ThreadsArgs {
    /// Only those with this agent
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// At most so many; 0 is all
    #[arg(long, default_value_t = LIMIT, value_name = "N")]
    limit: usize,
}

/// One conversation.
#[derive(Debug, Args)]
pub(crate) struct ThreadArgs {
    /// The conversation, `thr_…`
    thread: String,
}

fn status(word: &str) -> Result<RunStatus, String> {
    RunStatus::parse(word).ok_or_else(|| {
        let all: Vec<_> = RunStatus::ALL.iter().map(|it| it.as_str()).collect();
        format!("there are: {}", all.join(", "))
    })
}

impl Row for Run {
    const HEADERS: &'static [&'static str] = &["ID", "AGENT", "STATUS", "AGE", "THREAD"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.agent.clone(),
            self.status.as_str().to_owned(),
            age(&self.created_at, now),
            self.thread.clone(),
        ]
    }
}

impl Row for Thread {
    const HEADERS: &'static [&'static str] = &["ID", "AGENT", "CHANGED", "NAME"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.agent.clone(),
            age(&self.changed_at, now),
            self.name.clone(),
        ]
    }
}

pub(crate) async fn run(session: &Session, args: RunsArgs) -> Result {
    let client = session.client()?;
    let verb = args.verb.unwrap_or(RunsVerb::List(ListArgs {
        agent: None,
        thread: None,
        status: None,
        parent: None,
        limit: LIMIT,
    }));
    match verb {
        RunsVerb::List(args) => list(session, &client, args).await,
        RunsVerb::Show(args) => show(session, &client.show_run(&args.run).await?),
        RunsVerb::Tail(args) => {
            until_interrupted(tail::tail(session, &client, &args.run, args.last_event_id)).await
        }
        RunsVerb::Export(args) => export(session, &client, &args.run).await,
        RunsVerb::Cancel(args) => {
            let run = client.cancel_run(&args.run).await?;
            let said = format!("{} is {}.", run.id, run.status.as_str());
            session.output.done(&run, &run.id, &said)
        }
        RunsVerb::Fork(args) => {
            let order = NewFork {
                name: args.name,
                behind: args.behind,
            };
            let thread = client.fork_run(&args.run, &order).await?;
            let said = format!("{} with {} is begun.", thread.id, thread.agent);
            session.output.done(&thread, &thread.id, &said)
        }
        RunsVerb::Threads(args) => threads(session, &client, args).await,
        RunsVerb::Thread(args) => thread(session, &client, &args.thread).await,
        RunsVerb::Forget(args) => {
            session.confirm(&format!("Forget {} with its runs?", args.thread))?;
            client.forget_thread(&args.thread).await?;
            let said = format!("{} is forgotten.", args.thread);
            let gone = json!({ "id": args.thread });
            session.output.done(&gone, &args.thread, &said)
        }
    }
}

fn noted(session: &Session, limit: usize, found: usize) {
    if limit > 0 && found == limit {
        let said = format!("The newest {limit}; `--limit 0` lists all.");
        session.output.note(&said);
    }
}

/// Rows that the next page is to have.
fn wanted(limit: usize, had: usize) -> Option<u32> {
    const MOST: usize = 1_000;
    let limit = if limit == 0 { usize::MAX } else { limit };
    u32::try_from((limit - had).min(MOST)).ok()
}

async fn list(session: &Session, client: &Client, args: ListArgs) -> Result {
    let mut query = RunsQuery {
        agent: args.agent,
        thread: args.thread,
        status: args.status,
        parent: args.parent,
        page: PageQuery::default(),
    };
    let mut rows = Vec::new();
    loop {
        query.page.limit = wanted(args.limit, rows.len());
        let found = client.runs(&query).await?;
        rows.extend(found.items);
        query.page.cursor = found.next;
        if query.page.cursor.is_none() || (args.limit > 0 && rows.len() >= args.limit) {
            break;
        }
    }
    noted(session, args.limit, rows.len());
    session.output.list(&rows)
}

async fn threads(session: &Session, client: &Client, args: ThreadsArgs) -> Result {
    let mut page = PageQuery::default();
    let mut rows = Vec::new();
    loop {
        page.limit = wanted(args.limit, rows.len());
        let found = client.threads(args.agent.as_deref(), &page).await?;
        rows.extend(found.items);
        page.cursor = found.next;
        if page.cursor.is_none() || (args.limit > 0 && rows.len() >= args.limit) {
            break;
        }
    }
    noted(session, args.limit, rows.len());
    session.output.list(&rows)
}

fn show(session: &Session, run: &Run) -> Result {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let error = run.error.as_ref();
    let waits: Vec<_> = run
        .interrupts
        .iter()
        .map(|it| it["message"].as_str().or(it["reason"].as_str()))
        .map(|it| it.unwrap_or_default().to_owned())
        .collect();
    let lines = [
        ("Id", run.id.clone()),
        ("Agent", run.agent.clone()),
        ("Status", run.status.as_str().to_owned()),
        (
            "Error",
            error.map_or_else(String::new, |it| format!("{}: {}", it.code, it.message)),
        ),
        ("Waits for", waits.join("; ")),
        ("Thread", run.thread.clone()),
        ("Name", run.name.clone()),
        ("By", run.by.clone()),
        ("Within", text(&run.parent)),
        ("Call", run.call.clone()),
        ("Protocol", run.protocol.clone()),
        ("Begun", run.created_at.clone()),
        ("Ended", text(&run.ended_at)),
    ];
    session.output.one(run, &run.id, &lines)
}

/// All of a run, as one document.
async fn export(session: &Session, client: &Client, id: &str) -> Result {
    let run = client.show_run(id).await?;
    let input = client.run_input(id).await?;
    let events = tail::all(client, id).await?;
    let all = json!({ "run": run, "input": input, "events": events });
    match session.output.format {
        Format::Table | Format::Name | Format::Html => {
            let text = skep_api::to_json(&all);
            session.output.raw(format!("{text}\n").as_bytes())
        }
        Format::Json | Format::Yaml => session.output.document(&all),
    }
}

/// What was said, as people read it.
async fn thread(session: &Session, client: &Client, id: &str) -> Result {
    let found = client.show_thread(id).await?;
    let output = &session.output;
    if output.format != Format::Table {
        return output.one(&found, &found.thread.id, &[]);
    }
    let mut text = String::new();
    for message in &found.messages {
        let who = clean(message["role"].as_str().unwrap_or("?"));
        let said = tail::said(message);
        if !said.is_empty() {
            text.push_str(&format!("{who}: {}\n", clean_lines(&said)));
        }
        for call in message["toolCalls"].as_array().into_iter().flatten() {
            let of = &call["function"];
            let (name, with) = (of["name"].as_str(), of["arguments"].as_str());
            let line = tail::call(name.unwrap_or("?"), with.unwrap_or_default());
            text.push_str(&format!("{who}: {line}\n"));
        }
    }
    if let Some(state) = &found.state {
        text.push_str(&format!("state: {}\n", clean(&state.to_string())));
    }
    output.raw(text.as_bytes())
}
