//! Which agents this server has, when several share a database: each agent has one server at a
//! time, its *owner*, by epoch. It runs the agent's instances and its calls; its row says so, and
//! an epoch whose server has ended owns nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_core::Workspace;
use skep_store::StoreError;

use crate::agents::{self, AgentRow, InstanceRow};
use crate::events::Event;
use crate::service::{Runtime, STORE_WAIT};
use crate::slot::{Ending, Slot};
use crate::{RuntimeError, adopt};

impl Runtime {
    /// Takes the agents that no server has, and those that another server gave to this one: adopts
    /// what outlived this server's last start, and starts what should run. Agents whose files lie
    /// on another server wait for that one. Tells the names of those that are new here.
    ///
    /// # Errors
    /// [`RuntimeError::Store`] when the agents cannot be read, [`RuntimeError::ShuttingDown`].
    pub async fn claim(&self, workspace: &Workspace) -> Result<Vec<String>, RuntimeError> {
        let (of, epoch) = (workspace.clone(), self.db().epoch());
        let found: Result<_, StoreError> = self
            .db()
            .read(move |reader| agents::load(reader, &of, epoch))
            .await;
        let names: BTreeSet<String> = found?.into_iter().map(|row| row.name).collect();
        // Nobody changes them meanwhile. In order, as everybody who holds several.
        let mut lanes = Vec::with_capacity(names.len());
        for name in &names {
            if self.find(workspace, name).is_none() {
                lanes.push(self.lane(workspace, name).await?);
            }
        }
        // Looked at before: what fails after they are taken leaves them without instances and calls.
        let open = self.open_instances(workspace).await?;
        let taken = self.take(workspace, &names).await?;
        let slots: Vec<_> = taken
            .into_iter()
            .map(|row| self.insert(workspace, row))
            .collect();
        self.adopt(workspace, &slots, open).await;
        Ok(slots.iter().map(|slot| slot.name().to_owned()).collect())
    }

    /// Makes this server the owner of those agents of these that it may have and has not yet.
    async fn take(
        &self,
        workspace: &Workspace,
        names: &BTreeSet<String>,
    ) -> Result<Vec<AgentRow>, RuntimeError> {
        let (epoch, server) = (self.db().epoch(), self.db().server());
        let of = workspace.clone();
        let found: Result<Vec<AgentRow>, StoreError> = self
            .db()
            .read(move |reader| agents::load(reader, &of, epoch))
            .await;
        let mut rows = found?;
        rows.retain(|row| {
            let stays = self.db().is_shared() && has_files(row) && row.server != server;
            !stays && names.contains(&row.name) && self.find(workspace, &row.name).is_none()
        });
        if rows.is_empty() {
            return Ok(rows);
        }
        let of = workspace.clone();
        let taken: Result<_, StoreError> = self
            .db()
            .write(move |unit| {
                let mut taken = Vec::with_capacity(rows.len());
                for row in rows {
                    if !agents::claim(unit, &of, &row, epoch, server)? {
                        continue;
                    }
                    // A server that starts again on its own says nothing of it.
                    if row.server != server {
                        let detail = format!("by {server} from {}", row.server);
                        let event = Event::of(&row.name, "agent.taken", detail);
                        let now = unit.now();
                        event.record(&mut unit.scope(&of), now)?;
                    }
                    taken.push(row);
                }
                Ok(taken)
            })
            .await;
        Ok(taken?)
    }

    async fn open_instances(
        &self,
        workspace: &Workspace,
    ) -> Result<Vec<InstanceRow>, RuntimeError> {
        let of = workspace.clone();
        let server = self.db().is_shared().then(|| self.db().server());
        let open: Result<Vec<_>, StoreError> = self
            .db()
            .read(move |reader| agents::open_instances(reader, &of, server))
            .await;
        Ok(open?)
    }

    async fn adopt(&self, workspace: &Workspace, slots: &[Arc<Slot>], mut open: Vec<InstanceRow>) {
        // What belongs to agents that are here already is theirs.
        open.retain(|row| {
            let here = self.find(workspace, &row.agent).is_some();
            !here || slots.iter().any(|slot| slot.name() == row.agent)
        });
        let shared = &self.inner.shared;
        let mut adopted = adopt::adopt(self.db(), &shared.drivers, workspace, slots, open).await;
        for slot in slots {
            let found = adopted.remove(slot.name()).unwrap_or_default();
            let addresses = found.iter().map(|(_, live)| live.running.address());
            for address in addresses.filter(|address| address.ip().is_loopback()) {
                shared.ports.keep(address.port());
            }
            slot.adopt(found);
            slot.reconcile();
        }
    }

    /// Every agent of a workspace with the epoch of its owner.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn owners(
        &self,
        workspace: &Workspace,
    ) -> Result<BTreeMap<String, i64>, RuntimeError> {
        let of = workspace.clone();
        let owners: Result<Vec<_>, StoreError> = self
            .db()
            .read(move |reader| agents::owners(reader, &of))
            .await;
        Ok(owners?.into_iter().collect())
    }

    /// Whether an agent can go to another server: none of its files would stay behind.
    #[must_use]
    pub fn can_move(&self, workspace: &Workspace, name: &str) -> bool {
        let slot = self.find(workspace, name);
        // While a revision is on its way, one with volumes may be the other.
        slot.is_some_and(|slot| {
            !slot.rollout().is_rolling() && slot.target.spec().volumes.is_empty()
        })
    }

    /// Gives an agent to the server of another epoch: ends its instances here first. No call may be
    /// on its way to it; who calls this sees to it. False when that server has ended meanwhile.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`], [`RuntimeError::Store`], [`RuntimeError::ShuttingDown`].
    pub async fn hand_over(
        &self,
        workspace: &Workspace,
        name: &str,
        to: i64,
    ) -> Result<bool, RuntimeError> {
        self.change(workspace, name, move |this, workspace, name| async move {
            let Some(slot) = this.find(&workspace, &name) else {
                return Err(RuntimeError::Elsewhere(name));
            };
            slot.set_removed(true);
            slot.retire_all(Ending::AtOnce);
            slot.retired().await;
            let storing = slot.storing.lock().await;
            let given = this.give(&workspace, &name, to).await;
            drop(storing);
            if !matches!(given, Ok(true)) {
                slot.set_removed(false);
                slot.reconcile();
                return given;
            }
            if let Some(slots) = this.inner.slots.write().get_mut(&workspace) {
                slots.remove(&name);
            }
            Ok(true)
        })
        .await
    }

    /// Writes who has an agent now, until it is known: two servers must not have it.
    async fn give(&self, workspace: &Workspace, name: &str, to: i64) -> Result<bool, RuntimeError> {
        let from = self.db().epoch();
        loop {
            let (of, agent) = (workspace.clone(), name.to_owned());
            let given: Result<bool, StoreError> = self
                .db()
                .write(move |unit| agents::give(unit, &of, &agent, from, to))
                .await;
            match given {
                Err(error) if error.is_retryable() => tokio::time::sleep(STORE_WAIT).await,
                given => return Ok(given?),
            }
        }
    }
}

/// Whether files of the agent lie on the server that has it.
fn has_files(row: &AgentRow) -> bool {
    let current = !row.current.spec.volumes.is_empty();
    current
        || row
            .stable
            .as_ref()
            .is_some_and(|stable| !stable.spec.volumes.is_empty())
}
