//! An agent and its instances as others see them.

use std::net::SocketAddr;
use std::sync::Arc;

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
    /// How it is locked in.
    pub protections: Vec<Protection>,
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
            protections: info.protections.iter().map(Into::into).collect(),
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
