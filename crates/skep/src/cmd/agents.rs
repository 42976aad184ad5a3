//! One agent: how it is shown, and waited for.

use clap::Args;
use skep_api::{Agent, InstanceState};
use skep_client::Client;
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
}

pub(crate) fn count(agent: &Agent, state: &str) -> u64 {
    agent.calls.get(state).copied().unwrap_or(0)
}

/// Instances that take calls.
pub(crate) fn ready(agent: &Agent) -> usize {
    let ready = |it: &&skep_api::Instance| it.state == InstanceState::Ready;
    agent.instances.iter().filter(ready).count()
}

/// How far the current revision is, in words.
pub(crate) fn rollout(agent: &Agent) -> String {
    let rollout = &agent.rollout;
    let mut text = rollout.state.as_str().replace('_', " ");
    if rollout.weight < 100 {
        text.push_str(&format!(", {} % of the calls", rollout.weight));
    }
    if let Some(stable) = rollout.stable.filter(|stable| *stable != agent.revision) {
        text.push_str(&format!(", revision {stable} is the stable one"));
    }
    if let Some(reason) = &rollout.reason {
        text.push_str(&format!(": {reason}"));
    }
    text
}

impl Row for Agent {
    const HEADERS: &'static [&'static str] = &[
        "NAME", "STATE", "READY", "REVISION", "RESTARTS", "WAITING", "RUNNING", "DEAD", "AGE",
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.as_str().to_owned(),
            format!("{}/{}", ready(self), self.replicas),
            self.revision.to_string(),
            self.restarts.to_string(),
            count(self, "accepted").to_string(),
            count(self, "running").to_string(),
            count(self, "dead").to_string(),
            age(&self.created_at, now),
        ]
    }
}

/// The names of all agents.
pub(crate) async fn names(client: &Client) -> Result<Vec<String>> {
    let agents = super::select::all(client).await?;
    Ok(agents.into_iter().map(|agent| agent.name).collect())
}

pub(crate) async fn inspect(session: &Session, args: InspectArgs) -> Result {
    let client = session.client()?;
    let agent = client.agent(&args.agent).await?;
    let now = Timestamp::system_now();
    let since = |time: &str| format!("{time} ({} ago)", age(time, now));
    let calls: Vec<_> = agent
        .calls
        .iter()
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    let env: Vec<_> = agent.spec.env.keys().map(String::as_str).collect();
    let mut lines = vec![
        ("Name", agent.name.clone()),
        ("Id", agent.id.clone()),
        ("State", agent.state.as_str().to_owned()),
        ("Reason", agent.reason.clone().unwrap_or_default()),
        ("Desired", agent.desired.clone()),
        ("Revision", agent.revision.to_string()),
        ("Rollout", rollout(&agent)),
        (
            "Copies",
            format!("{} ready of {}", ready(&agent), agent.replicas),
        ),
    ];
    lines.extend(agent.instances.iter().map(|it| {
        let pid = it
            .pid
            .map_or_else(String::new, |pid| format!("pid {pid}, "));
        let what = format!(
            "{} {} ({pid}port {}, revision {}, {})",
            it.id,
            it.state.as_str(),
            it.port,
            it.revision,
            age(&it.started_at, now)
        );
        ("Instance", what)
    }));
    if let Some(shown) = agent.instance.as_ref() {
        lines.extend(
            shown
                .protections
                .iter()
                .map(|it| ("Sandbox", protection(it))),
        );
    }
    lines.extend([
        ("Restarts", agent.restarts.to_string()),
        ("Calls", calls.join(", ")),
        ("Driver", agent.spec.driver.clone()),
        ("Command", agent.spec.command.join(" ")),
        ("Folder", agent.spec.workdir.clone().unwrap_or_default()),
        ("Variables", env.join(", ")),
        ("Created", since(&agent.created_at)),
        ("Deployed", since(&agent.updated_at)),
    ]);
    session.output.one(&agent, &agent.name, &lines)
}

/// One protection in a line.
fn protection(it: &skep_api::Protection) -> String {
    let word = if it.in_force { "" } else { "NOT IN FORCE: " };
    format!("{}: {word}{}", it.name, it.detail)
}

/// Waits, unless that is not wanted, and tells how it ended.
pub(crate) async fn settle(
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
