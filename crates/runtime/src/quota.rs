//! How much a workspace may have of agents and their instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_api::AgentSpec;
use skep_core::Workspace;
use tokio::sync::OwnedMutexGuard;

use crate::RuntimeError;
use crate::service::Runtime;
use crate::slot::Slot;
use crate::spec::Spec;

/// Says how much a workspace may have.
pub trait Allowance: std::fmt::Debug + Send + Sync {
    /// How much.
    fn of(&self, workspace: &Workspace) -> Quotas;
}

/// How much a workspace may have; `None`: as much as fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Agents.
    pub agents: Option<u32>,
    /// Instances of all its agents on this server, each agent at its most.
    pub instances: Option<u32>,
}

impl Runtime {
    /// Whether the workspace may have this specification too, instead of what the slot has. What it gives is held
    /// until that is there: two that come at once must not both take the last place.
    pub(crate) async fn within_quotas(
        &self,
        workspace: &Workspace,
        slot: Option<&Arc<Slot>>,
        spec: &AgentSpec,
    ) -> Result<Option<OwnedMutexGuard<()>>, RuntimeError> {
        let quotas = self.inner.quotas.as_ref();
        let quotas = quotas.map_or_else(Quotas::default, |quotas| quotas.of(workspace));
        if quotas == Quotas::default() {
            return Ok(None);
        }
        let turn = self
            .inner
            .turns
            .lock()
            .entry(workspace.clone())
            .or_default()
            .clone();
        let turn = turn.lock_owned().await;
        let Quotas { agents, instances } = quotas;
        if let (Some(most), None) = (agents, slot)
            && self.owners(workspace).await?.len() >= most as usize
        {
            let what = "agents";
            return Err(RuntimeError::Quota { what, most });
        }
        let Some(most) = instances else {
            return Ok(Some(turn));
        };
        let others = self.copies(workspace, Some(&spec.name));
        if others + self.copies_of(spec) > u64::from(most) {
            let what = "instances";
            return Err(RuntimeError::Quota { what, most });
        }
        Ok(Some(turn))
    }

    /// Instances that a specification asks for at its most.
    fn copies_of(&self, spec: &AgentSpec) -> u64 {
        let parsed = Spec::parse(spec, &self.inner.shared.kinds());
        parsed.map_or(0, |spec| u64::from(spec.scale.max))
    }

    /// Instances that the agents of a workspace on this server may have at their most, without those of one.
    #[must_use]
    pub fn copies(&self, workspace: &Workspace, without: Option<&str>) -> u64 {
        let slots = self.inner.slots.read();
        let of = slots.get(workspace).map(BTreeMap::values);
        let others = of
            .into_iter()
            .flatten()
            .filter(|one| Some(one.name()) != without);
        others.map(|one| self.copies_of(&one.target.spec())).sum()
    }
}
