//! What instances use now. All are asked at the same time, so that many agents take no longer than
//! one; one that cannot be asked has no figures, and the others have theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_api::InstanceState;
use skep_core::{InstanceId, Workspace};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::driver::Inspection;
use crate::service::Runtime;
use crate::slot::{AgentInfo, Live};

/// Between two looks at the CPU time lies at least so much: it is counted in hundredths of a second.
const WINDOW: Duration = Duration::from_millis(200);
/// Looks at instances that nobody asked about for so long are forgotten.
const FORGET: Duration = Duration::from_secs(120);
/// Instances that are asked at the same time.
const AT_ONCE: usize = 32;

/// What an agent's instances use now.
#[derive(Debug, Clone)]
pub struct AgentUsage {
    /// The agent.
    pub agent: AgentInfo,
    /// Calls that run on it.
    pub in_flight: u64,
    /// Those of its instances that run, oldest first.
    pub instances: Vec<InstanceUsage>,
}

/// What an instance uses now.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceUsage {
    /// The instance.
    pub instance: InstanceId,
    /// The revision that it runs.
    pub revision: u32,
    /// Its state.
    pub state: InstanceState,
    /// What it uses; `None` when that could not be found out.
    pub usage: Option<Inspection>,
    /// Share of one core since the last look, or over a short moment, in percent.
    pub cpu_percent: Option<f64>,
}

/// The last look at each instance's CPU time.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<HashMap<InstanceId, Look>>);

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    cpu_ms: u64,
    percent: Option<f64>,
}

impl Looks {
    /// Notes a look and tells the share of a core since the one before. Several who look at the
    /// same time do not shorten each other's window.
    fn note(&self, instance: InstanceId, cpu_ms: u64, now: Instant) -> Option<f64> {
        let mut looks = self.0.lock();
        looks.retain(|_, look| now.duration_since(look.at) < FORGET);
        let Some(look) = looks.get_mut(&instance) else {
            let first = Look {
                at: now,
                cpu_ms,
                percent: None,
            };
            looks.insert(instance, first);
            return None;
        };
        let passed = now.duration_since(look.at);
        if passed >= WINDOW {
            let used = Duration::from_millis(cpu_ms.saturating_sub(look.cpu_ms));
            *look = Look {
                at: now,
                cpu_ms,
                percent: Some(used.as_secs_f64() / passed.as_secs_f64() * 100.0),
            };
        }
        look.percent
    }
}

/// Asks instances, some at the same time.
async fn inspect(live: &[Live]) -> HashMap<InstanceId, Inspection> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut looks = JoinSet::new();
    for live in live {
        let (permits, running, instance) = (permits.clone(), live.running.clone(), live.instance);
        looks.spawn(async move {
            let _permit = permits.acquire().await;
            (instance, running.inspect().await)
        });
    }
    let mut found = HashMap::new();
    while let Some(look) = looks.join_next().await {
        match look {
            Ok((instance, Ok(usage))) if usage.alive => drop(found.insert(instance, usage)),
            Ok((instance, Err(error))) => {
                tracing::debug!(%instance, %error, "what an instance uses is not known");
            }
            // It ended meanwhile.
            Ok(_) | Err(_) => {}
        }
    }
    found
}

impl Runtime {
    /// What the instances of these agents use now. Agents that are gone are left out.
    pub async fn usage(&self, workspace: &Workspace, names: &[String]) -> Vec<AgentUsage> {
        let slots = names.iter().filter_map(|name| self.find(workspace, name));
        let found: Vec<_> = slots
            .map(|slot| (slot.info(), slot.running(), slot))
            .collect();
        let live: Vec<Live> = found
            .iter()
            .flat_map(|(_, running, _)| running.iter().map(|(live, ..)| live.clone()))
            .collect();
        let looks = &self.shared().looks;
        let mut usage = inspect(&live).await;
        let mut shares = HashMap::new();
        let mut fresh = Vec::new();
        for live in live {
            let instance = live.instance;
            let Some(used) = usage.get(&instance) else {
                continue;
            };
            match looks.note(instance, used.cpu_ms, Instant::now()) {
                Some(percent) => drop(shares.insert(instance, percent)),
                None => fresh.push(live),
            }
        }
        if !fresh.is_empty() {
            // A share of nothing is none: a second look, for all of them together.
            tokio::time::sleep(WINDOW).await;
            for (instance, used) in inspect(&fresh).await {
                let percent = looks.note(instance, used.cpu_ms, Instant::now());
                shares.extend(percent.map(|percent| (instance, percent)));
                usage.insert(instance, used);
            }
        }
        found
            .into_iter()
            .map(|(agent, running, slot)| AgentUsage {
                agent,
                in_flight: slot.target.in_flight(),
                instances: running
                    .into_iter()
                    .map(|(live, revision, state)| InstanceUsage {
                        instance: live.instance,
                        revision,
                        state,
                        usage: usage.get(&live.instance).copied(),
                        cpu_percent: shares.get(&live.instance).copied(),
                    })
                    .collect(),
            })
            .collect()
    }
}

impl From<&InstanceUsage> for skep_api::Usage {
    fn from(one: &InstanceUsage) -> Self {
        let usage = one.usage;
        let network = usage.and_then(|usage| usage.network);
        Self {
            cpu_ms: usage.map(|usage| usage.cpu_ms),
            cpu_percent: one.cpu_percent,
            memory_bytes: usage.map(|usage| usage.memory_bytes),
            processes: usage.map(|usage| usage.processes),
            received_bytes: network.map(|network| network.received),
            sent_bytes: network.map(|network| network.sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_time_between_two_looks() {
        let (looks, instance, start) = (Looks::default(), InstanceId::new(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(looks.note(instance, 1_000, at(0)), None);
        assert_eq!(looks.note(instance, 1_050, at(100)), None, "too soon");
        assert_eq!(looks.note(instance, 1_500, at(1_000)), Some(50.0));
        // Another who looks right after gets the same, and does not spoil the next window.
        assert_eq!(looks.note(instance, 1_500, at(1_001)), Some(50.0));
        assert_eq!(looks.note(instance, 3_500, at(2_000)), Some(200.0));
        // Processes that ended took their time with them.
        assert_eq!(looks.note(instance, 10, at(3_000)), Some(0.0));
        assert_eq!(looks.note(instance, 20, at(3_000) + FORGET), None);
    }
}
