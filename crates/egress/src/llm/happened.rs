//! What happened in a workspace, where that ends the time of answers that are kept: as its events tell it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use skep_core::{Timestamp, Workspace};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number; later ones have higher numbers.
    pub number: u64,
    /// What, such as `agent.deployed`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
}

/// Knows what happened.
#[async_trait]
pub trait Happened: Send + Sync {
    /// What happened in a workspace behind a number, some of it at once and the first of it first; nothing, if nothing did.
    async fn behind(&self, workspace: &Workspace, number: u64) -> Result<Vec<Event>, String>;
}

/// What was read of a workspace's events.
#[derive(Debug, Clone, Default)]
struct Seen {
    number: u64,
    last: BTreeMap<String, Timestamp>,
}

impl Seen {
    fn add(&mut self, event: Event) {
        self.number = self.number.max(event.number);
        let last = self.last.entry(event.kind).or_insert(event.at);
        *last = event.at.max(*last);
    }

    /// When something of these kinds happened last: of one, or of all that begin so.
    fn last(&self, kinds: &[String]) -> Option<Timestamp> {
        let is_one = |kind: &str| {
            kinds.iter().any(|wanted| {
                let rest = kind.strip_prefix(wanted.as_str());
                rest.is_some_and(|it| it.is_empty() || it.starts_with('.'))
            })
        };
        let those = self.last.iter().filter(|(kind, _)| is_one(kind));
        those.map(|(_, at)| *at).max()
    }
}

/// When what happened last. Each question reads what is new.
pub(super) struct Last {
    happened: Arc<dyn Happened>,
    seen: Mutex<HashMap<Workspace, Seen>>,
}

impl Last {
    pub(super) fn new(happened: Arc<dyn Happened>) -> Self {
        Self {
            happened,
            seen: Mutex::default(),
        }
    }

    /// When something of these kinds happened last in a workspace.
    pub(super) async fn of(
        &self,
        workspace: &Workspace,
        kinds: &[String],
    ) -> Result<Option<Timestamp>, String> {
        let mut seen = self.seen.lock().get(workspace).cloned().unwrap_or_default();
        let from = seen.number;
        loop {
            let events = self.happened.behind(workspace, seen.number).await?;
            if events.is_empty() {
                break;
            }
            for event in events {
                seen.add(event);
            }
        }
        let last = seen.last(kinds);
        if seen.number > from {
            let mut all = self.seen.lock();
            let known = all.entry(workspace.clone()).or_default();
            // Another may have read further meanwhile.
            if known.number < seen.number {
                *known = seen;
            }
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Events(Mutex<Vec<Event>>);

    #[async_trait]
    impl Happened for Events {
        async fn behind(&self, _: &Workspace, number: u64) -> Result<Vec<Event>, String> {
            let all = self.0.lock();
            let new = all.iter().filter(|it| it.number > number).take(2);
            Ok(new.cloned().collect())
        }
    }

    fn event(number: u64, kind: &str) -> Event {
        Event {
            number,
            kind: kind.to_owned(),
            at: Timestamp::from_micros(i64::try_from(number).unwrap()),
        }
    }

    #[tokio::test]
    async fn the_last_of_each_kind_is_known_however_much_happened() {
        let kinds = ["agent.deployed", "agent.stopped", "agents.odd", "call.dead"];
        let all = (1..=7).zip(kinds.into_iter().cycle());
        let events = Arc::new(Events(Mutex::new(
            all.map(|(nth, kind)| event(nth, kind)).collect(),
        )));
        let last = Last::new(events.clone());
        let workspace = Workspace::default();
        let of = async |kinds: &[&str]| {
            let kinds: Vec<String> = kinds.iter().map(|it| (*it).to_owned()).collect();
            let at = last.of(&workspace, &kinds).await.unwrap();
            at.map(Timestamp::as_micros)
        };
        assert_eq!(of(&["agent.deployed"]).await, Some(5));
        assert_eq!(of(&["agent"]).await, Some(6));
        assert_eq!(of(&["agent.deployed", "call"]).await, Some(5));
        assert_eq!(of(&["age", "rollout"]).await, None);
        events.0.lock().push(event(8, "rollout.step"));
        assert_eq!(of(&["age", "rollout"]).await, Some(8));
    }
}
