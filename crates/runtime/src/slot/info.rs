//! An agent and its instances as others see them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use skep_api::{AgentSpec, InstanceState, Rollout};
use skep_core::{AgentId, InstanceId, Timestamp};

use crate::agents::Desired;
use crate::driver::Protection;

/// An agent as it is now.
#[derive(Debug, Clone)]
pub struct AgentInfo {
    /// Its identifier.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// What its owner wants.
    pub desired: Desired,
    /// The current revision's number.
    pub revision: u32,
    /// Its instances, those that are ending included, oldest first.
    pub instances: Vec<InstanceInfo>,
    /// Copies that are wanted now.
    pub replicas: u32,
    /// How far the current revision is.
    pub rollout: Rollout,
    /// What the current revision's instances are doing: the best of it.
    pub state: InstanceState,
    /// Why, when there is more to say.
    pub reason: Option<String>,
    /// Restarts since the server started.
    pub restarts: u64,
    /// The current revision's specification.
    pub spec: Arc<AgentSpec>,
    /// When it was first deployed.
    pub created_at: Timestamp,
    /// When it was last deployed.
    pub updated_at: Timestamp,
}

/// An instance as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Its identifier.
    pub id: InstanceId,
    /// The revision that it runs.
    pub revision: u32,
    /// What it is doing.
    pub state: InstanceState,
    /// Its process id, when it has one on this machine.
    pub pid: Option<u32>,
    /// Where it takes calls.
    pub address: SocketAddr,
    /// When it was started.
    pub started_at: Timestamp,
    /// Why it is in this state, when there is more to say.
    pub reason: Option<String>,
    /// What the last probe found.
    pub probe: Option<Probed>,
    /// How it is locked in.
    pub protections: Vec<Protection>,
}

/// What a probe of an instance found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// When it came back.
    pub at: Timestamp,
    /// Whether the instance is well.
    pub ok: bool,
    /// What was asked and answered, in words.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
    /// Misses in a row, this one included.
    pub misses: u32,
}

impl AgentInfo {
    /// The instance that serves, else one that will, else one that is ending.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceInfo> {
        self.instances.iter().min_by_key(|one| {
            let order = [
                InstanceState::Ready,
                InstanceState::Unready,
                InstanceState::Starting,
            ];
            let place = order.iter().position(|state| *state == one.state);
            (
                place.unwrap_or(order.len()),
                one.revision != self.revision,
                one.id,
            )
        })
    }
}

impl From<&AgentInfo> for skep_api::Agent {
    fn from(info: &AgentInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.name.clone(),
            desired: info.desired.as_str().to_owned(),
            revision: info.revision,
            instance: info.instance().map(Into::into),
            instances: info.instances.iter().map(Into::into).collect(),
            replicas: info.replicas,
            rollout: info.rollout.clone(),
            state: info.state,
            reason: info.reason.clone(),
            restarts: info.restarts,
            calls: skep_api::call::StateCounts::default(),
            spec: AgentSpec::clone(&info.spec),
            created_at: info.created_at.to_string(),
            updated_at: info.updated_at.to_string(),
        }
    }
}

impl From<&InstanceInfo> for skep_api::Instance {
    fn from(info: &InstanceInfo) -> Self {
        Self {
            id: info.id.to_string(),
            revision: info.revision,
            state: info.state,
            pid: info.pid,
            port: info.address.port(),
            started_at: info.started_at.to_string(),
            reason: info.reason.clone(),
            probe: info.probe.as_ref().map(Into::into),
            protections: info.protections.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Probed> for skep_api::Probe {
    fn from(probed: &Probed) -> Self {
        Self {
            at: probed.at.to_string(),
            ok: probed.ok,
            detail: probed.detail.clone(),
            took_ms: u64::try_from(probed.took.as_millis()).unwrap_or(u64::MAX),
            misses: probed.misses,
        }
    }
}

impl From<&Protection> for skep_api::Protection {
    fn from(protection: &Protection) -> Self {
        Self {
            name: protection.name.clone(),
            in_force: protection.in_force,
            detail: protection.detail.clone(),
        }
    }
}
