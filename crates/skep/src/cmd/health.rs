//! How the server is, and how the instances of one agent are.

use std::time::Duration;

use clap::Args;
use skep_api::{Agent, Health, Instance, InstanceState};
use skep_client::Client;
use skep_core::{Timestamp, units};

use super::wait::{Goal, duration, wait_for};
use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, age};
use crate::session::Session;

/// Flags of `health`.
#[derive(Debug, Args)]
#[command(after_help = "\
An agent is healthy when it takes calls, and when it rests: asleep, or stopped
by its owner. The exit code is 5 when it is not healthy.")]
pub(crate) struct HealthArgs {
    /// The agent; without it the server
    agent: Option<String>,
    /// Wait until it is ready
    #[arg(long, requires = "agent")]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = duration, requires = "wait")]
    timeout: Duration,
}

const fn word(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Degraded => "degraded",
        Health::Failed => "failed",
    }
}

pub(crate) async fn health(session: &Session, args: HealthArgs) -> Result {
    let client = session.client()?;
    match &args.agent {
        Some(agent) => of_agent(session, &client, agent, args.wait.then_some(args.timeout)).await,
        None => of_server(session, &client).await,
    }
}

async fn of_server(session: &Session, client: &Client) -> Result {
    let health = client.health_detailed().await?;
    let uptime = units::format_duration(Duration::from_secs(health.uptime_s));
    let lines = [
        ("Status", word(health.status).to_owned()),
        ("Version", health.version.clone()),
        ("Uptime", uptime),
    ];
    session.output.one(&health, word(health.status), &lines)?;
    let row = |kind: &str, name: &str, status, detail: &str| {
        [kind, name, word(status), detail]
            .map(str::to_owned)
            .to_vec()
    };
    let checks = health
        .checks
        .iter()
        .map(|it| row("check", &it.name, it.status, &it.detail));
    let agents = health
        .agents
        .iter()
        .map(|it| row("agent", &it.name, it.status, &it.detail));
    let rows: Vec<_> = checks.chain(agents).collect();
    if session.output.format == Format::Table && !rows.is_empty() {
        session.output.raw(b"\n")?;
        session
            .output
            .table(&["KIND", "NAME", "STATUS", "DETAIL"], &rows)?;
    }
    match health.status {
        Health::Failed => Err(Failure::quiet(Exit::Failure)),
        Health::Ok | Health::Degraded => Ok(()),
    }
}

/// Whether an agent does what its owner wants of it.
fn is_healthy(agent: &Agent) -> bool {
    match agent.state {
        InstanceState::Ready | InstanceState::Asleep => true,
        InstanceState::Stopped => agent.desired == "stopped",
        _ => false,
    }
}

/// What the last probe of an instance found, in words.
fn probe(instance: &Instance, now: Timestamp) -> String {
    let Some(probe) = &instance.probe else {
        return "not asked yet".to_owned();
    };
    let mut text = format!("{} ({} ms)", probe.detail, probe.took_ms);
    if probe.misses > 1 {
        text.push_str(&format!(", {} misses in a row", probe.misses));
    }
    format!("{text}, {} ago", age(&probe.at, now))
}

async fn of_agent(
    session: &Session,
    client: &Client,
    name: &str,
    wait: Option<Duration>,
) -> Result {
    let waited = match wait {
        Some(timeout) => {
            let goal = Goal::Ready { not: Vec::new() };
            wait_for(session, client, name, &goal, timeout).await.err()
        }
        None => None,
    };
    let agent = client.agent(name).await?;
    let healthy = is_healthy(&agent) && waited.is_none();
    let now = Timestamp::system_now();
    let mut lines = vec![
        ("Agent", agent.name.clone()),
        ("Healthy", if healthy { "yes" } else { "NO" }.to_owned()),
        ("State", agent.state.as_str().to_owned()),
        ("Reason", agent.reason.clone().unwrap_or_default()),
    ];
    for instance in &agent.instances {
        let up = age(&instance.started_at, now);
        let state = instance.state.as_str();
        lines.push(("Instance", format!("{}, {state}, up {up}", instance.id)));
        lines.push(("  Probe", probe(instance, now)));
        let reason = instance.reason.clone().unwrap_or_default();
        let told = instance.probe.as_ref().map(|probe| &probe.detail);
        if told != Some(&reason) {
            lines.push(("  Reason", reason));
        }
    }
    session.output.one(&agent, &agent.name, &lines)?;
    match (waited, healthy) {
        (Some(failure), _) => Err(failure),
        (None, true) => Ok(()),
        (None, false) => Err(Failure::quiet(Exit::Watched)),
    }
}
