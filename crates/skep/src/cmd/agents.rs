//! Agents: list, inspect, start, stop, restart, remove.

use clap::Args;
use skep_api::{Agent, Revision};
use skep_client::{Client, PageQuery};
use skep_core::Timestamp;

use super::wait::{Goal, Patience, wait_for};
use crate::failure::Result;
use crate::output::{Row, age};
use crate::session::Session;

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The agent
    agent: String,
    /// List its revisions instead, newest first
    #[arg(long)]
    revisions: bool,
}

/// Flags of `start`, `stop` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The agent
    agent: String,
    #[command(flatten)]
    patience: Patience,
}

/// Flags of `remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The agent
    agent: String,
    /// Also when it has open calls, which are cancelled
    #[arg(long)]
    force: bool,
}

fn count(agent: &Agent, state: &str) -> u64 {
    agent.calls.get(state).copied().unwrap_or(0)
}

impl Row for Agent {
    const HEADERS: &'static [&'static str] = &[
        "NAME", "STATE", "REVISION", "RESTARTS", "WAITING", "RUNNING", "DEAD", "AGE",
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.as_str().to_owned(),
            self.revision.to_string(),
            self.restarts.to_string(),
            count(self, "accepted").to_string(),
            count(self, "running").to_string(),
            count(self, "dead").to_string(),
            age(&self.created_at, now),
        ]
    }
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

pub(crate) async fn list(session: &Session) -> Result {
    let client = session.client()?;
    let mut rows = Vec::new();
    let mut page = PageQuery::default();
    loop {
        let found = client.agents(&page).await?;
        rows.extend(found.items);
        page.cursor = match found.next {
            Some(next) => Some(next),
            None => break,
        };
    }
    if rows.is_empty() {
        session
            .output
            .note("There is no agent yet; deploy one with `skep deploy`.");
    }
    session.output.list(&rows)
}

pub(crate) async fn inspect(session: &Session, args: InspectArgs) -> Result {
    let client = session.client()?;
    if args.revisions {
        return revisions(session, &client, &args.agent).await;
    }
    let agent = client.agent(&args.agent).await?;
    let now = Timestamp::system_now();
    let since = |time: &str| format!("{time} ({} ago)", age(time, now));
    let calls: Vec<_> = agent
        .calls
        .iter()
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    let env: Vec<_> = agent.spec.env.keys().map(String::as_str).collect();
    let instance = agent.instance.as_ref();
    let process = instance.map(|it| {
        let pid = it
            .pid
            .map_or_else(|| "none".to_owned(), |pid| pid.to_string());
        format!(
            "{} (pid {pid}, port {}, revision {})",
            it.id, it.port, it.revision
        )
    });
    let started = instance.map(|it| since(&it.started_at));
    let lines = [
        ("Name", agent.name.clone()),
        ("Id", agent.id.clone()),
        ("State", agent.state.as_str().to_owned()),
        ("Reason", agent.reason.clone().unwrap_or_default()),
        ("Desired", agent.desired.clone()),
        ("Revision", agent.revision.to_string()),
        ("Instance", process.unwrap_or_default()),
        ("Started", started.unwrap_or_default()),
        ("Restarts", agent.restarts.to_string()),
        ("Calls", calls.join(", ")),
        ("Driver", agent.spec.driver.clone()),
        ("Command", agent.spec.command.join(" ")),
        ("Folder", agent.spec.workdir.clone().unwrap_or_default()),
        ("Variables", env.join(", ")),
        ("Created", since(&agent.created_at)),
        ("Deployed", since(&agent.updated_at)),
    ];
    session.output.one(&agent, &agent.name, &lines)
}

async fn revisions(session: &Session, client: &Client, name: &str) -> Result {
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

/// Waits, unless that is not wanted, and tells how it ended.
async fn settle(
    session: &Session,
    client: &Client,
    agent: Agent,
    goal: &Goal,
    patience: &Patience,
) -> Result {
    let agent = match patience.no_wait {
        true => agent,
        false => wait_for(session, client, &agent.name, goal, patience.timeout).await?,
    };
    let said = format!("{} is {}.", agent.name, agent.state.as_str());
    session.output.done(&agent, &agent.name, &said)
}

pub(crate) async fn start(session: &Session, args: WaitArgs) -> Result {
    let client = session.client()?;
    let agent = client.start(&args.agent).await?;
    let goal = Goal::Ready { not: None };
    settle(session, &client, agent, &goal, &args.patience).await
}

pub(crate) async fn stop(session: &Session, args: WaitArgs) -> Result {
    let client = session.client()?;
    let agent = client.stop(&args.agent).await?;
    settle(session, &client, agent, &Goal::Stopped, &args.patience).await
}

pub(crate) async fn restart(session: &Session, args: WaitArgs) -> Result {
    let client = session.client()?;
    let before = client.agent(&args.agent).await?;
    let agent = client.restart(&args.agent).await?;
    let not = before.instance.map(|instance| instance.id);
    settle(
        session,
        &client,
        agent,
        &Goal::Ready { not },
        &args.patience,
    )
    .await
}

pub(crate) async fn remove(session: &Session, args: RemoveArgs) -> Result {
    let client = session.client()?;
    let agent = client.agent(&args.agent).await?;
    session.confirm(&format!("Remove the agent {}?", agent.name))?;
    client.remove_agent(&agent.name, args.force).await?;
    let said = format!("{} is removed.", agent.name);
    session.output.done(&agent, &agent.name, &said)
}
