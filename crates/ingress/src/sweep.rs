//! What happens by itself: recovery at start, retention in small steps, idle connections.

use std::collections::HashMap;
use std::time::Duration;

use skep_api::CallState;
use skep_core::{CallId, Timestamp, Workspace, Workspaces};
use skep_store::{By, Change, Scope, StoreError};

use crate::IngressError;
use crate::journal::{self, Brings};
use crate::lane::Waiting;
use crate::life::{End, Event};
use crate::router::Choice;
use crate::service::{Ingress, Inner, Retention};

/// Calls that one unit of recovery or retention touches.
const STEP: u32 = 200;
/// A call that ended more recently is not taken for its size: its client may be about to ask again
/// with the same key.
const FRESH: Duration = Duration::from_secs(300);
/// The wait before the store is asked again.
const STORE_WAIT: Duration = Duration::from_millis(500);
/// How often retention looks.
const EVERY: Duration = Duration::from_secs(5);

/// Where an agent is, as seen by who takes up calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// Here, and its calls are to be taken up.
    Here,
    /// Its calls are somebody else's affair.
    Elsewhere,
    /// There is no such agent any more.
    Gone,
}

impl Ingress {
    /// Takes up the calls that the last server of some agents left: leases of dead epochs are
    /// released, and what is open waits for its turn again. Tells how many calls that are.
    ///
    /// # Errors
    /// The store's own.
    pub async fn recover(
        &self,
        workspace: &Workspace,
        whereabouts: impl Fn(&str) -> Whereabouts,
    ) -> Result<u64, IngressError> {
        let dead = self.inner.release(workspace, &whereabouts).await?;
        let queued = self.inner.queue_accepted(workspace, &whereabouts).await?;
        Ok(dead + queued)
    }

    /// Keeps retention and connections in order until the door closes. Of several servers one keeps
    /// retention; `leads` tells whether that is this one.
    pub async fn maintain(&self, workspaces: Workspaces, leads: impl Fn() -> bool) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut doubts = 0;
        let mut added = tokio::time::Instant::now();
        loop {
            tick.tick().await;
            if added.elapsed() >= crate::hours::EVERY {
                self.flush_hours().await;
                added = tokio::time::Instant::now();
            }
            let workspaces = workspaces.all();
            self.inner.look_for_lost(&workspaces, &mut doubts).await;
            if self
                .inner
                .closing
                .load(std::sync::atomic::Ordering::Relaxed)
            {
                return;
            }
            for lane in self.inner.lanes.read().values().flat_map(HashMap::values) {
                lane.pool.prune();
            }
            for workspace in workspaces.iter().filter(|_| leads()) {
                if let Err(error) = self.inner.retain(workspace).await {
                    tracing::warn!(%workspace, %error, "retention was not done");
                }
            }
        }
    }
}

impl Inner {
    /// After a commit that is in doubt, queues what waits in the journal and perhaps not in its lane.
    async fn look_for_lost(self: &std::sync::Arc<Self>, workspaces: &[Workspace], seen: &mut u64) {
        let doubts = self.db.doubts();
        if doubts == *seen || !self.db.is_writable() {
            return;
        }
        for workspace in workspaces {
            let here = |agent: &str| match self.agents.find(workspace, agent) {
                Some(_) => Whereabouts::Here,
                None => Whereabouts::Elsewhere,
            };
            if let Err(error) = self.queue_accepted(workspace, &here).await {
                tracing::warn!(%workspace, %error, "calls in doubt were not looked for");
                return;
            }
        }
        *seen = doubts;
    }

    /// Takes back a call whose acceptance is in doubt: its client was told that it is refused. No
    /// attempt of it was made.
    pub(crate) async fn take_back(self: std::sync::Arc<Self>, workspace: Workspace, id: CallId) {
        loop {
            let (of, own) = (workspace.clone(), self.own.clone());
            let removed: Result<(), StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    let mut scope = unit.scope(&of);
                    journal::remove(&mut scope, id)?;
                    let change = Change {
                        action: Some("call:withdraw"),
                        resource: ("Call", &id.to_string()),
                        what: "its acceptance was in doubt",
                        hash: None,
                    };
                    own.did(&mut scope, &change, now)
                })
                .await;
            match removed {
                Ok(()) => break,
                Err(StoreError::Closed) => return,
                Err(_) => tokio::time::sleep(STORE_WAIT).await,
            }
        }
        self.refused.lock().remove(&id);
        // Who found it by its key meanwhile is told the same.
        let refused = StoreError::Unavailable("the call was not accepted".to_owned());
        let refused = IngressError::Store(refused);
        self.registry.finish(id, crate::live::Phase::Ended(refused));
    }

    /// Ends the attempts that servers of other epochs began. Tells how many ended their calls.
    async fn release(
        &self,
        workspace: &Workspace,
        whereabouts: &impl Fn(&str) -> Whereabouts,
    ) -> Result<u64, IngressError> {
        let epoch = self.db.epoch();
        let (mut after, mut dead) = (None, 0);
        loop {
            let of = workspace.clone();
            let running = self.db.read(move |reader| {
                journal::open_calls(&mut reader.scope(&of), CallState::Running, after, STEP)
            });
            let mut running: Vec<journal::Standing> = running.await.map_err(IngressError::Store)?;
            let Some(last) = running.last() else {
                return Ok(dead);
            };
            after = Some(last.id);
            running.retain(|call| whereabouts(&call.agent) != Whereabouts::Elsewhere);
            let policies: Vec<_> = running
                .iter()
                .map(|call| {
                    self.lane(workspace, &call.agent)
                        .map(|lane| lane.agent.policy())
                        .unwrap_or_default()
                })
                .collect();
            let (of, agents) = (workspace.clone(), self.agents.clone());
            let own = self.own.clone();
            let ended: Result<u64, StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    let mut scope = unit.scope(&of);
                    let mut dead = 0;
                    for (call, policy) in running.iter().zip(&policies) {
                        let release = Event::Release { epoch };
                        let Ok(life) = call.life.step(&release, policy, now, 0.0) else {
                            continue;
                        };
                        let end = End::Broken(life.reason.clone().unwrap_or_default());
                        let brings = Brings::End(&end);
                        journal::apply(&*agents, &mut scope, call, &life, &brings, (&own, now))?;
                        dead += u64::from(life.state == CallState::Dead);
                    }
                    Ok(dead)
                })
                .await;
            dead += ended?;
        }
    }

    /// Puts every accepted call into its lane's queue.
    async fn queue_accepted(
        self: &std::sync::Arc<Self>,
        workspace: &Workspace,
        whereabouts: &impl Fn(&str) -> Whereabouts,
    ) -> Result<u64, IngressError> {
        let (mut after, mut queued) = (None, 0);
        loop {
            let of = workspace.clone();
            let accepted = self.db.read(move |reader| {
                journal::open_calls(&mut reader.scope(&of), CallState::Accepted, after, STEP)
            });
            let accepted: Vec<journal::Standing> = accepted.await.map_err(IngressError::Store)?;
            let Some(last) = accepted.last() else {
                return Ok(queued);
            };
            after = Some(last.id);
            for call in &accepted {
                let whereabouts = whereabouts(&call.agent);
                match self.lane(workspace, &call.agent) {
                    _ if whereabouts == Whereabouts::Elsewhere => {}
                    _ if self.refused.lock().contains(&call.id) => {}
                    Ok(lane) => {
                        let choice = Choice {
                            avoid: call.instance,
                            key: None,
                        };
                        let waiting = Waiting::of(&call.life, choice);
                        self.enqueue(&lane, call.id, waiting, call.life.due);
                        queued += 1;
                    }
                    // A removal that the crash cut in two.
                    Err(_) if whereabouts == Whereabouts::Gone => {
                        self.orphaned(workspace, call.id).await?;
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// Cancels a call whose agent is gone.
    async fn orphaned(&self, workspace: &Workspace, id: CallId) -> Result<(), IngressError> {
        let (of, own) = (workspace.clone(), self.own.clone());
        let agents = self.agents.clone();
        let write: Result<(), StoreError> = self
            .db
            .write(move |unit| {
                let now = unit.now();
                let mut scope = unit.scope(&of);
                let Some(before) = journal::find(&mut scope, id)? else {
                    return Ok(());
                };
                let policy = crate::CallPolicy::default();
                let Ok(mut life) = before.life.step(&Event::Cancel, &policy, now, 0.0) else {
                    return Ok(());
                };
                life.reason = Some("the agent was removed".to_owned());
                let brings = Brings::Nothing;
                journal::apply(&*agents, &mut scope, &before, &life, &brings, (&own, now)).map(drop)
            })
            .await;
        Ok(write?)
    }

    /// Forgets ended calls that are too old, and the oldest while they hold too many bytes.
    async fn retain(&self, workspace: &Workspace) -> Result<(), StoreError> {
        loop {
            let (of, retention) = (workspace.clone(), self.retention.clone());
            let own = self.own.clone();
            let removed: usize = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    forget_some(&mut unit.scope(&of), &retention, (&own, now))
                })
                .await?;
            self.db.sweep_loose_blobs().await?;
            if removed < STEP as usize {
                return Ok(());
            }
        }
    }
}

/// One small step of retention; tells how many calls went.
fn forget_some(
    scope: &mut Scope<'_>,
    retention: &Retention,
    (own, now): (&By, Timestamp),
) -> Result<usize, StoreError> {
    let mut gone = journal::oldest_ended(scope, now.minus(retention.age), STEP)?;
    if gone.is_empty() {
        let mut excess = journal::ended_bytes(scope)?.saturating_sub(retention.bytes);
        if excess > 0 {
            gone = journal::oldest_ended(scope, now.minus(FRESH.min(retention.age)), STEP)?;
            gone.retain(|(_, held)| {
                let taken = excess > 0;
                excess = excess.saturating_sub(*held);
                taken
            });
        }
    }
    for (id, _) in &gone {
        journal::remove(scope, *id)?;
    }
    if !gone.is_empty() {
        let what = format!(
            "{} calls are older than `calls.retention`, or over its size",
            gone.len()
        );
        let workspace = scope.workspace().clone();
        let change = Change {
            action: Some("call:forget"),
            resource: ("Workspace", workspace.as_str()),
            what: &what,
            hash: None,
        };
        own.did(scope, &change, now)?;
    }
    scope.sweep_blobs(STEP)?;
    Ok(gone.len())
}
