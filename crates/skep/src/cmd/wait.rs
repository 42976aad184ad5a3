//! Waiting for an agent to get where it shall be, with a spinner for people.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};
use skep_api::{Agent, InstanceState, RolloutState};
use skep_client::{Client, LogsQuery};
use skep_core::units;

use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

/// How often an agent that is waited for is looked at.
const POLL: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(80);
/// Lines of the log that are shown of an agent that crashes again and again.
const LAST_LINES: u32 = 20;

/// Whether and how long to wait.
#[derive(Debug, Args)]
pub(crate) struct Patience {
    /// Return at once
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// A duration on the command line.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).ok_or_else(|| "not a duration such as 250ms, 30s or 1h30m".into())
}

/// What is waited for.
#[derive(Debug, Clone)]
pub(crate) enum Goal {
    /// It takes calls, with other instances than these.
    Ready {
        /// The instances that shall be gone.
        not: Vec<String>,
    },
    /// This revision has taken over, or waits for an order.
    Revision(u32),
    /// Nothing runs.
    Stopped,
}

impl Goal {
    fn is_reached(&self, agent: &Agent) -> bool {
        let ready = agent.state == InstanceState::Ready;
        match self {
            Self::Ready { not } => ready && !agent.instances.iter().any(|it| not.contains(&it.id)),
            Self::Revision(number) => {
                let stopped = agent.desired == "stopped" && agent.state == InstanceState::Stopped;
                let done = matches!(
                    agent.rollout.state,
                    RolloutState::Done | RolloutState::Paused
                );
                stopped || ready && done && agent.revision == *number
            }
            Self::Stopped => agent.state == InstanceState::Stopped,
        }
    }

    /// Why it will not be reached any more.
    fn is_lost(&self, agent: &Agent) -> Option<String> {
        match self {
            Self::Stopped => None,
            Self::Revision(number) if agent.revision != *number => {
                let why = agent.rollout.reason.as_deref();
                let instead = format!("revision {} serves instead of it", agent.revision);
                Some(why.map_or_else(|| instead.clone(), |why| format!("{why}; {instead}")))
            }
            _ if agent.state == InstanceState::CrashLoop => {
                let why = agent.reason.as_deref();
                Some(why.unwrap_or("it exits again and again").to_owned())
            }
            _ => None,
        }
    }
}

fn spinner(session: &Session, text: String) -> ProgressBar {
    let spinner = match session.output.quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner().with_message(text),
    };
    // Draws on a terminal only.
    spinner.set_draw_target(ProgressDrawTarget::stderr());
    spinner.enable_steady_tick(TICK);
    spinner
}

/// Waits until the agent is where it shall be. A crash loop ends the wait with what it wrote last.
pub(crate) async fn wait_for(
    session: &Session,
    client: &Client,
    name: &str,
    goal: &Goal,
    timeout: Duration,
) -> Result<Agent> {
    let word = match goal {
        Goal::Stopped => "stop",
        Goal::Ready { .. } | Goal::Revision(_) => "be ready",
    };
    let spinner = spinner(session, format!("waiting for {name} to {word}"));
    let watch = async {
        loop {
            let agent = client.agent(name).await?;
            spinner.set_message(format!("{name} is {}", agent.state.as_str()));
            if goal.is_reached(&agent) {
                return Ok(agent);
            }
            if let Some(why) = goal.is_lost(&agent) {
                return Err(crashed(client, name, &why, &spinner).await);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = tokio::time::timeout(timeout, watch).await;
    spinner.finish_and_clear();
    waited.unwrap_or_else(|_| {
        let after = units::format_duration(timeout);
        let detail = format!("{name} did not {word} within {after}");
        let hint = format!("It goes on by itself; look with `skep inspect {name}`.");
        Err(Failure::new(Exit::Timeout, detail).hint(hint))
    })
}

async fn crashed(client: &Client, name: &str, why: &str, spinner: &ProgressBar) -> Failure {
    let query = LogsQuery {
        tail: Some(LAST_LINES),
        ..LogsQuery::default()
    };
    let mut text = String::new();
    if let Ok(mut lines) = client.logs(name, &query).await {
        while let Ok(Some(line)) = lines.next().await {
            text.push_str(&format!("\n  {} {}", line.stream, line.text));
        }
    }
    spinner.finish_and_clear();
    let detail = match text.is_empty() {
        true => format!("{name} failed: {why}"),
        false => format!("{name} failed: {why}\nits last lines:{text}"),
    };
    Failure::new(Exit::Watched, detail).hint(format!(
        "Mend it and deploy again, or `skep restart {name}`."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn agent(desired: &str, state: &str, rollout: &str) -> Agent {
        serde_json::from_value(json!({
            "id": "agt_1", "name": "a", "desired": desired, "revision": 2, "state": state,
            "instances": [{
                "id": "ins_1", "revision": 2, "state": "ready", "port": 1,
                "started_at": "2026-11-21T04:54:08Z",
            }],
            "replicas": 1, "rollout": {"state": rollout, "weight": 100},
            "restarts": 0, "spec": {"name": "a", "command": ["x"]},
            "created_at": "2026-11-21T04:54:08Z", "updated_at": "2026-11-21T04:54:08Z",
        }))
        .unwrap()
    }

    #[test]
    fn an_old_instance_is_not_the_one_that_is_waited_for() {
        let ready = agent("running", "ready", "done");
        let not = |not: &[&str]| Goal::Ready {
            not: not.iter().map(|&id| id.to_owned()).collect(),
        };
        assert!(!not(&["ins_1"]).is_reached(&ready));
        assert!(not(&[]).is_reached(&ready));
        assert!(Goal::Stopped.is_reached(&agent("stopped", "stopped", "done")));
    }

    #[test]
    fn a_revision_has_taken_over_or_is_lost() {
        let second = Goal::Revision(2);
        assert!(!second.is_reached(&agent("running", "ready", "progressing")));
        assert!(second.is_reached(&agent("running", "ready", "done")));
        assert!(second.is_reached(&agent("running", "ready", "paused")));
        assert!(second.is_reached(&agent("stopped", "stopped", "progressing")));
        assert_eq!(
            second.is_lost(&agent("running", "starting", "progressing")),
            None
        );
        let rolled_back = agent("running", "ready", "rolled_back");
        let third = Goal::Revision(3);
        assert!(!third.is_reached(&rolled_back));
        assert!(
            third
                .is_lost(&rolled_back)
                .is_some_and(|why| why.contains("revision 2"))
        );
        assert!(
            second
                .is_lost(&agent("running", "crash_loop", "progressing"))
                .is_some()
        );
    }
}
