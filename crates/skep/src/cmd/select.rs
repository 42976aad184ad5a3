//! Which agents a verb is about: one by name, several, or all, and those with a label.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use skep_api::{Agent, InstanceState};
use skep_client::{Client, PageQuery};

use crate::failure::{Failure, Result};

/// The agents that a verb is about.
#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// The agents
    #[arg(value_name = "AGENT", required_unless_present_any = ["all", "selector"])]
    pub(crate) agents: Vec<String>,
    /// Every agent, after a question
    #[arg(long, conflicts_with = "agents")]
    pub(crate) all: bool,
    /// Every agent with these labels: `team=blue,tier`
    #[arg(long, value_name = "LABELS", conflicts_with = "agents")]
    pub(crate) selector: Option<Selector>,
}

impl Targets {
    /// The only agent that is meant, when its user named one and no more.
    pub(crate) fn single(&self) -> Option<&str> {
        match self.agents.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether the user named them; else they were found, and nobody has seen the list yet.
    pub(crate) fn is_named(&self) -> bool {
        !self.agents.is_empty()
    }

    /// Their names, each once.
    pub(crate) async fn names(&self, client: &Client) -> Result<Vec<String>> {
        if self.is_named() {
            let mut names = Vec::new();
            for name in &self.agents {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            return Ok(names);
        }
        let fits = |agent: &Agent| {
            let selector = self.selector.as_ref();
            selector.is_none_or(|selector| selector.fits(agent))
        };
        let agents = all(client).await?.into_iter().filter(fits);
        Ok(agents.map(|agent| agent.name).collect())
    }
}

/// Every agent, by name.
pub(crate) async fn all(client: &Client) -> Result<Vec<Agent>> {
    let mut rows = Vec::new();
    let mut page = PageQuery::default();
    loop {
        let found = client.agents(&page).await?;
        rows.extend(found.items);
        page.cursor = match found.next {
            Some(next) => Some(next),
            None => return Ok(rows),
        };
    }
}

/// Labels that an agent must have: by name, or by name and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Vec<(String, Option<String>)>);

impl Selector {
    pub(crate) fn fits(&self, agent: &Agent) -> bool {
        self.0.iter().all(|(name, wanted)| {
            let value = agent.spec.labels.get(name);
            value.is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        })
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| match part.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), Some(value.trim().to_owned())),
            None => (part.trim().to_owned(), None),
        };
        let parts: Vec<_> = text.split(',').map(part).collect();
        match parts.iter().any(|(name, _)| name.is_empty()) {
            true => Err("not of the form NAME=VALUE,NAME".to_owned()),
            false => Ok(Self(parts)),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

/// States that are asked for: the API's own words, `running` for what has an instance that is up,
/// and `failed` for what crashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status(Vec<InstanceState>);

impl Status {
    pub(crate) fn fits(&self, state: InstanceState) -> bool {
        self.0.contains(&state)
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use InstanceState::{Backoff, CrashLoop, Ready, Starting, Unready};
        let mut states = Vec::new();
        for word in text.split(',').map(str::trim) {
            let own = InstanceState::ALL
                .iter()
                .find(|it| it.as_str() == word.replace('-', "_"));
            match (own, word) {
                (Some(state), _) => states.push(*state),
                (None, "running") => states.extend([Starting, Ready, Unready]),
                (None, "failed") => states.extend([Backoff, CrashLoop]),
                _ => {
                    let words: Vec<_> = ["running", "failed"]
                        .into_iter()
                        .chain(InstanceState::ALL.iter().map(|state| state.as_str()))
                        .collect();
                    let meant = skep_core::similar(word, words.iter().copied());
                    let meant = meant.map_or(String::new(), |it| format!("did you mean `{it}`? "));
                    return Err(format!("{meant}there are: {}", words.join(", ")));
                }
            }
        }
        Ok(Self(states))
    }
}

/// What a confirmation names: how many, and which, as far as a line holds them.
pub(crate) fn counted(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut shown = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        shown.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    match names.len() {
        1 => format!("1 agent ({shown})"),
        count => format!("{count} agents ({shown})"),
    }
}

/// The failure of a verb some of whose agents failed.
pub(crate) fn some_failed(failed: usize, of: usize) -> Failure {
    Failure::plain(format!("{failed} of {of} agents failed"))
        .hint("Each is told above; the others are done.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(labels: &[(&str, &str)]) -> Agent {
        let labels: serde_json::Value = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        serde_json::from_value(serde_json::json!({
            "id": "agt_1", "name": "a", "desired": "running", "revision": 1, "state": "ready",
            "replicas": 1, "rollout": {"state": "done", "weight": 100}, "restarts": 0,
            "spec": {"name": "a", "command": ["x"], "labels": labels},
            "created_at": "2026-11-21T04:54:08Z", "updated_at": "2026-11-21T04:54:08Z",
        }))
        .unwrap()
    }

    #[test]
    fn labels_are_there_or_have_a_value() {
        let blue = agent(&[("team", "blue"), ("tier", "1")]);
        for (text, fits) in [
            ("team", true),
            ("team=blue", true),
            ("team=blue,tier", true),
            ("team=red", false),
            ("other", false),
            ("team=blue,other", false),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.fits(&blue), fits, "{text}");
            assert_eq!(selector.to_string(), text);
        }
        assert!("=x".parse::<Selector>().is_err() && "".parse::<Selector>().is_err());
    }

    #[test]
    fn states_have_their_own_words_and_two_more() {
        let status: Status = "running,crash-loop".parse().unwrap();
        assert!(status.fits(InstanceState::Ready) && status.fits(InstanceState::CrashLoop));
        assert!(!status.fits(InstanceState::Stopped));
        let why = "stoped".parse::<Status>().unwrap_err();
        assert!(why.contains("did you mean `stopped`?"), "{why}");
    }

    #[test]
    fn a_question_names_how_many_and_which() {
        let names = |count: usize| (0..count).map(|it| format!("a{it}")).collect::<Vec<_>>();
        assert_eq!(counted(&names(1)), "1 agent (a0)");
        assert_eq!(counted(&names(2)), "2 agents (a0, a1)");
        assert!(counted(&names(10)).ends_with("a7 and 2 more)"));
    }
}
