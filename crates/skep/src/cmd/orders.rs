//! Orders to agents, one or many: start, stop, restart, remove.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;
use skep_api::{Agent, Instance};
use skep_client::{Client, ClientError};
use tokio::task::JoinSet;

use super::agents::settle;
use super::select::{Targets, counted, some_failed};
use super::wait::{Goal, Patience, wait_for};
use crate::failure::{Failure, Result};
use crate::output::Format;
use crate::session::Session;

/// Orders that are given at the same time.
const AT_ONCE: usize = 16;

/// Flags of `start`, `stop` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    patience: Patience,
}

/// Flags of `remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    targets: Targets,
    /// Also when they have open calls, which are cancelled
    #[arg(long)]
    force: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Start,
    Stop,
    Restart,
    Remove { force: bool },
}

impl Order {
    const fn word(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Restart => "Restart",
            Self::Remove { .. } => "Remove",
        }
    }

    /// Gives it. An agent that was removed is told as it was.
    async fn give(self, client: &Client, name: &str) -> Result<(Agent, Goal), ClientError> {
        match self {
            Self::Start => Ok((client.start(name).await?, Goal::Ready { not: Vec::new() })),
            Self::Stop => Ok((client.stop(name).await?, Goal::Stopped)),
            Self::Restart => {
                let before = client.agent(name).await?.instances;
                let not = before.into_iter().map(|it: Instance| it.id).collect();
                Ok((client.restart(name).await?, Goal::Ready { not }))
            }
            Self::Remove { force } => {
                let agent = client.agent(name).await?;
                client.remove_agent(name, force).await?;
                Ok((agent, Goal::Stopped))
            }
        }
    }
}

pub(crate) async fn start(session: &Session, args: OrderArgs) -> Result {
    order(session, &args.targets, Order::Start, Some(&args.patience)).await
}

pub(crate) async fn stop(session: &Session, args: OrderArgs) -> Result {
    order(session, &args.targets, Order::Stop, Some(&args.patience)).await
}

pub(crate) async fn restart(session: &Session, args: OrderArgs) -> Result {
    order(session, &args.targets, Order::Restart, Some(&args.patience)).await
}

pub(crate) async fn remove(session: &Session, args: RemoveArgs) -> Result {
    let order_of = Order::Remove { force: args.force };
    if let Some(name) = args.targets.single() {
        let client = session.client()?;
        let agent = client.agent(name).await?;
        session.confirm(&format!("Remove the agent {}?", agent.name))?;
        client.remove_agent(&agent.name, args.force).await?;
        let said = format!("{} is removed.", agent.name);
        return session.output.done(&agent, &agent.name, &said);
    }
    order(session, &args.targets, order_of, None).await
}

async fn order(
    session: &Session,
    targets: &Targets,
    order: Order,
    patience: Option<&Patience>,
) -> Result {
    let client = session.client()?;
    if let (Some(name), Some(patience)) = (targets.single(), patience) {
        let (agent, goal) = order.give(&client, name).await?;
        return settle(session, &client, agent, &goal, patience).await;
    }
    let names = targets.names(&client).await?;
    if names.is_empty() {
        session
            .output
            .note("No agent is like that; nothing was done.");
        return match session.output.format {
            Format::Json | Format::Yaml => session.output.document(&json!([])),
            _ => Ok(()),
        };
    }
    if !targets.is_named() || matches!(order, Order::Remove { .. }) {
        session.confirm(&format!("{} {}?", order.word(), counted(&names)))?;
    }
    let waits = patience.filter(|patience| !patience.no_wait);
    let given = give_all(&client, order, names.clone()).await;
    let mut outcomes = Vec::new();
    for name in names {
        // A task that broke gave no outcome.
        let outcome = match given.get(&name) {
            Some(Ok((agent, goal))) => match waits {
                Some(patience) => {
                    wait_for(session, &client, &agent.name, goal, patience.timeout).await
                }
                None => Ok(agent.clone()),
            },
            Some(Err(error)) => Err(Failure::plain(error.clone())),
            None => Err(Failure::plain("the order was not given")),
        };
        outcomes.push((name, outcome));
    }
    tell(session, order, &outcomes)
}

type Given = BTreeMap<String, Result<(Agent, Goal), String>>;

/// Gives the order to every agent; what fails for one does not hold up the others.
async fn give_all(client: &Client, order: Order, names: Vec<String>) -> Given {
    let mut given = Given::new();
    let mut under_way = JoinSet::new();
    let mut left = names.into_iter();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(name) = left.next()
        {
            let client = client.clone();
            under_way.spawn(async move {
                let outcome = order.give(&client, &name).await;
                (name, outcome.map_err(|error| Failure::from(error).told()))
            });
        }
        match under_way.join_next().await {
            Some(Ok((name, outcome))) => drop(given.insert(name, outcome)),
            Some(Err(_)) => {}
            None => return given,
        }
    }
}

/// A line for each agent, or a document of all; the failure when one failed.
fn tell(session: &Session, order: Order, outcomes: &[(String, Result<Agent>)]) -> Result {
    let output = &session.output;
    let removed = matches!(order, Order::Remove { .. });
    let word = |agent: &Agent| match removed {
        true => "removed".to_owned(),
        false => agent.state.as_str().to_owned(),
    };
    match output.format {
        Format::Json | Format::Yaml => {
            let documents = outcomes.iter().map(|(name, outcome)| match outcome {
                Ok(agent) => json!({ "name": name, "ok": true, "state": word(agent) }),
                Err(error) => json!({ "name": name, "ok": false, "error": error.told() }),
            });
            output.document(&documents.collect::<Vec<_>>())?;
        }
        Format::Name => {
            let done = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
            let names: String = done.map(|(name, _)| format!("{name}\n")).collect();
            output.raw(names.as_bytes())?;
        }
        Format::Table | Format::Html => {
            for (name, outcome) in outcomes {
                match outcome {
                    Ok(agent) => output.say(&format!("{name} is {}.", word(agent)))?,
                    Err(error) => {
                        let line = format!("{name} failed: {}", error.told());
                        output.complain(&line);
                    }
                }
            }
        }
    }
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err());
    match failed.count() {
        0 => Ok(()),
        failed => Err(some_failed(failed, outcomes.len())),
    }
}
