//! Revisions that take over: rollback, and `rollout` with its orders.

use clap::{Args, Subcommand};
use skep_api::{Agent, Revision, Rollback};
use skep_client::{Client, PageQuery};
use skep_core::Timestamp;

use super::agents::{ready, rollout, settle};
use super::stats::times;
use super::wait::{Goal, Patience};
use crate::failure::Result;
use crate::output::{Format, Row, age};
use crate::session::Session;

/// Flags of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  skep rollback hello
  skep rollback hello --to 3 --reason \"4 answers worse\"")]
pub(crate) struct RollbackArgs {
    /// The agent
    agent: String,
    /// The revision to go to [default: the one before the current]
    #[arg(long, value_name = "REVISION")]
    to: Option<u32>,
    /// Why, for the agent's log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    patience: Patience,
}

/// Verbs of `rollout`.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// How far the current revision is
    Status(Of),
    /// Hold the revision that is taking over
    Pause(Of),
    /// Let a held revision go on, or leave a step behind that waits for this order
    Resume(Of),
    /// Leave all steps behind: give the revision all calls
    Promote(Of),
    /// The revisions, newest first
    History(Of),
}

/// Whose rollout.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The agent
    agent: String,
}

impl Row for Revision {
    const HEADERS: &'static [&'static str] = &["REVISION", "AGE", "COMMAND"];

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.number.to_string(),
            age(&self.created_at, now),
            self.spec.command.join(" "),
        ]
    }
}

pub(crate) async fn rollback(session: &Session, args: RollbackArgs) -> Result {
    let client = session.client()?;
    let wish = Rollback {
        to: args.to,
        reason: args.reason,
    };
    let agent = client.rollback(&args.agent, &wish).await?;
    let goal = Goal::Revision(agent.revision);
    settle(session, &client, agent, &goal, &args.patience).await
}

pub(crate) async fn run(session: &Session, verb: RolloutVerb) -> Result {
    let client = session.client()?;
    let agent = match verb {
        RolloutVerb::History(of) => return history(session, &of.agent).await,
        RolloutVerb::Status(of) => return status(session, &client, &of.agent).await,
        RolloutVerb::Pause(of) => client.order_rollout(&of.agent, "pause").await?,
        RolloutVerb::Resume(of) => client.order_rollout(&of.agent, "resume").await?,
        RolloutVerb::Promote(of) => client.order_rollout(&of.agent, "promote").await?,
    };
    session.output.one(&agent, &agent.name, &lines(&agent))
}

fn lines(agent: &Agent) -> Vec<(&'static str, String)> {
    vec![
        ("Agent", agent.name.clone()),
        ("Revision", agent.revision.to_string()),
        ("Rollout", rollout(agent)),
        (
            "Copies",
            format!("{} ready of {}", ready(agent), agent.replicas),
        ),
    ]
}

/// How far it is, and how the calls of its revisions went: what one compares before it goes on.
async fn status(session: &Session, client: &Client, name: &str) -> Result {
    let agent = client.agent(name).await?;
    let mut lines = lines(&agent);
    if session.output.format == Format::Table {
        let stats = client.agent_stats(name).await?;
        lines.extend(stats.revisions.iter().map(|one| {
            let traffic = &one.traffic;
            let text = format!(
                "revision {}: {} ready, {:.1} calls/s, {} errors, p50/p99 {}",
                one.revision,
                one.ready,
                traffic.calls_per_second,
                traffic.errors,
                times(traffic),
            );
            ("Last minute", text)
        }));
    }
    session.output.one(&agent, &agent.name, &lines)
}

async fn history(session: &Session, name: &str) -> Result {
    let client = session.client()?;
    let mut rows = Vec::new();
    let mut page = PageQuery::default();
    loop {
        let found = client.revisions(name, &page).await?;
        rows.extend(found.items);
        page.cursor = match found.next {
            Some(next) => Some(next),
            None => return session.output.list(&rows),
        };
    }
}
