//! `Runtime`: the service that others talk to. It holds the agents, changes them one at a time,
//! and makes and retires their supervisors.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex as SyncMutex, RwLock};
use skep_api::{AgentSpec, InstanceState};
use skep_core::{AgentId, Workspace, Workspaces};

use skep_store::{By, Change, Db, Hash, MigrationSet, StoreError, Unit};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use crate::RuntimeError;
use crate::agents::{self, AgentRow, Desired, Revision, RolloutRow};
use crate::driver::{Driver, DriverError, LogLine};
use crate::events::{self, Event, Keep};
use crate::find::AgentQuery;
use crate::lend::Lender;
use crate::logs::{self, LogQuery};
use crate::mint::Mint;
use crate::quota::Allowance;
use crate::slot::{AgentInfo, Ending, Slot};
use crate::spec::Spec;
use crate::supervise::Shared;
use crate::target::Target;

/// Locks of agents that nobody changes any more are thrown away when there are so many.
const IDLE_LANES: usize = 64;
/// Rows of one page.
const MOST_ROWS: u32 = 1_000;
/// The wait before the store is asked again.
pub(crate) const STORE_WAIT: Duration = Duration::from_millis(500);
/// Characters of a reason that are kept.
const MOST_REASON: usize = 500;

/// How the runtime works.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The server's own address, which agents are given as `SKEP_URL`.
    pub url: Option<String>,
    /// What makes the tokens that agents are given as `SKEP_TOKEN`.
    pub mint: Option<Arc<dyn Mint>>,
    /// What lends agents the secrets that their specifications name.
    pub lender: Option<Arc<dyn Lender>>,
    /// How long events are kept.
    pub events: Keep,
    /// How much a workspace may have; without it as much as fits.
    pub quotas: Option<Arc<dyn Allowance>>,
}

/// What a deployment did.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The agent as it is now.
    pub agent: AgentInfo,
    /// Whether there was none of this name.
    pub created: bool,
    /// Whether there is a new revision.
    pub changed: bool,
}

/// What is to become of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutOrder {
    /// It waits.
    Pause,
    /// It goes on; a step that waits for an order is behind it.
    Resume,
    /// It leaves all its steps behind.
    Promote,
}

/// An agent in numbers, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSnapshot {
    /// Its workspace.
    pub workspace: Workspace,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: InstanceState,
    /// Restarts since the server started.
    pub restarts: u64,
    /// Calls that run on it.
    pub in_flight: u64,
}

/// One lock for each agent that is being changed.
type Lanes = HashMap<(Workspace, String), Arc<Mutex<()>>>;
pub(crate) type Slots = HashMap<Workspace, BTreeMap<String, Arc<Slot>>>;

/// The runtime. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) quotas: Option<Arc<dyn Allowance>>,
    /// Held by who takes what their workspace may have so and so much of.
    pub(crate) turns: SyncMutex<HashMap<Workspace, Arc<Mutex<()>>>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) slots: RwLock<Slots>,
    lanes: SyncMutex<Lanes>,
}

/// Leaves the entry of a change of an agent.
pub(crate) fn did(
    unit: &mut Unit<'_>,
    by: &By,
    workspace: &Workspace,
    agent: &str,
    what: &str,
) -> Result<(), StoreError> {
    let (now, hash) = (unit.now(), None);
    let resource = ("Agent", agent);
    let change = Change {
        action: None,
        resource,
        what,
        hash,
    };
    by.did(&mut unit.scope(workspace), &change, now)
}

/// Leaves the entry of a new revision.
fn deployed(
    unit: &mut Unit<'_>,
    by: &By,
    workspace: &Workspace,
    revision: &Revision,
) -> Result<(), StoreError> {
    let spec = skep_api::to_json(revision.spec.as_ref());
    let change = Change {
        action: None,
        resource: ("Agent", &revision.spec.name),
        what: &format!("revision {}", revision.number),
        hash: Some(Hash::of(spec.as_bytes())),
    };
    let now = unit.now();
    by.did(&mut unit.scope(workspace), &change, now)
}

impl Runtime {
    /// The runtime's tables, to be given to `Db::open`.
    pub const MIGRATIONS: MigrationSet = agents::MIGRATIONS;

    /// Takes the agents of these workspaces that no other server has: adopts what outlived the last
    /// start and starts what should run.
    ///
    /// # Errors
    /// [`RuntimeError::Store`] when the agents cannot be read.
    pub async fn open(
        db: Db,
        options: Options,
        drivers: Vec<Arc<dyn Driver>>,
        workspaces: &Workspaces,
    ) -> Result<Self, RuntimeError> {
        let events = events::Log::open(db.clone(), options.events, workspaces.clone());
        let runtime = Self {
            inner: Arc::new(Inner {
                quotas: options.quotas.clone(),
                turns: SyncMutex::default(),
                shared: Arc::new(Shared::new(db, options, drivers, events)),
                slots: RwLock::default(),
                lanes: SyncMutex::default(),
            }),
        };
        for workspace in workspaces.all().iter() {
            runtime.claim(workspace).await?;
        }
        runtime.sweep_held(workspaces).await?;
        Ok(runtime)
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.shared.db
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn insert(&self, workspace: &Workspace, row: AgentRow) -> Arc<Slot> {
        let name = row.name.clone();
        let events = self.agent_folder(workspace, &name).join("events");
        let shared = self.inner.shared.clone();
        let slot = Arc::new(Slot::new(shared, workspace.clone(), row, events));
        let mut slots = self.inner.slots.write();
        slots
            .entry(workspace.clone())
            .or_default()
            .insert(name, slot.clone());
        slot
    }

    fn agent_folder(&self, workspace: &Workspace, name: &str) -> std::path::PathBuf {
        self.db()
            .folder()
            .join("agents")
            .join(workspace.as_str())
            .join(name)
    }

    pub(crate) fn find(&self, workspace: &Workspace, name: &str) -> Option<Arc<Slot>> {
        self.inner.slots.read().get(workspace)?.get(name).cloned()
    }

    pub(crate) fn slot(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Arc<Slot>, RuntimeError> {
        self.find(workspace, name)
            .ok_or_else(|| RuntimeError::AgentNotFound {
                name: name.chars().take(80).collect(),
                similar: self.similar(workspace, name),
            })
    }

    /// The lane of an agent: held while it is changed, refused when the runtime is ending.
    pub(crate) async fn lane(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<OwnedMutexGuard<()>, RuntimeError> {
        let lane = {
            let mut lanes = self.inner.lanes.lock();
            if lanes.len() >= IDLE_LANES {
                lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            }
            let of = (workspace.clone(), name.to_owned());
            lanes.entry(of).or_default().clone()
        };
        let guard = lane.lock_owned().await;
        if self.inner.shared.is_closing() {
            return Err(RuntimeError::ShuttingDown);
        }
        Ok(guard)
    }

    /// Changes an agent in a task of its own: a change that began is carried through also when
    /// who asked for it has gone, so that memory and store stay the same.
    pub(crate) async fn change<T, F>(
        &self,
        workspace: &Workspace,
        name: &str,
        work: impl FnOnce(Self, Workspace, String) -> F + Send + 'static,
    ) -> Result<T, RuntimeError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RuntimeError>> + Send + 'static,
    {
        let (this, workspace, name) = (self.clone(), workspace.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            let _lane = this.lane(&workspace, &name).await?;
            work(this.clone(), workspace, name).await
        });
        task.await
            .unwrap_or_else(|error| Err(DriverError::Failed(error.to_string()).into()))
    }

    /// Whether a specification can be deployed here.
    ///
    /// # Errors
    /// [`RuntimeError::InvalidSpec`], and what its driver says.
    pub async fn check(&self, workspace: &Workspace, spec: &AgentSpec) -> Result<(), RuntimeError> {
        let parsed = Spec::parse(spec, &self.inner.shared.kinds())?;
        match self.inner.shared.driver(&spec.driver) {
            Some(driver) => driver.check(workspace, &parsed).await,
            None => Ok(()),
        }
    }

    /// Deploys a specification. The same as the current one makes no new revision, but runs an
    /// agent that was stopped or had crashed too often. A new one takes over when it is ready;
    /// what served before serves until then.
    ///
    /// # Errors
    /// [`RuntimeError::InvalidSpec`], [`RuntimeError::Store`], [`RuntimeError::ShuttingDown`].
    pub async fn deploy(
        &self,
        by: &By,
        workspace: &Workspace,
        spec: AgentSpec,
    ) -> Result<Deployed, RuntimeError> {
        self.check(workspace, &spec).await?;
        let (name, by) = (spec.name.clone(), by.clone());
        self.change(workspace, &name, |this, workspace, _| async move {
            this.deploy_checked(&by, &workspace, spec).await
        })
        .await
    }

    async fn deploy_checked(
        &self,
        by: &By,
        workspace: &Workspace,
        spec: AgentSpec,
    ) -> Result<Deployed, RuntimeError> {
        let slot = self.find(workspace, &spec.name);
        if let Some(slot) = slot.as_ref().filter(|slot| *slot.target.spec() == spec) {
            self.run(by, slot).await?;
            return Ok(Deployed {
                agent: slot.info(),
                created: false,
                changed: false,
            });
        }
        let turn = self.within_quotas(workspace, slot.as_ref(), &spec).await?;
        let number = slot.as_ref().map_or(1, |slot| slot.newest() + 1);
        let id = slot
            .as_ref()
            .map_or_else(AgentId::new, |slot| slot.target.id());
        let revision = Revision {
            number,
            created_at: self.db().clock().now(),
            spec: Arc::new(spec),
        };
        let created = slot.is_none();
        // What else is to be written of the agent waits, so that it is not older than this.
        let storing = match &slot {
            Some(slot) => Some(slot.storing.lock().await),
            None => None,
        };
        self.put(by, workspace, id, &revision, Desired::Running)
            .await?;
        if let Some(slot) = &slot {
            slot.set_revision(&revision);
        }
        drop(storing);
        let slot = slot.unwrap_or_else(|| {
            let slot = self.insert(workspace, AgentRow::new(self.db(), id, revision));
            slot.reconcile();
            slot
        });
        drop(turn);
        Ok(Deployed {
            agent: slot.info(),
            created,
            changed: true,
        })
    }

    /// Stores a deployment; one that is in doubt again, so that memory and store stay the same.
    pub(crate) async fn put(
        &self,
        by: &By,
        workspace: &Workspace,
        id: AgentId,
        revision: &Revision,
        desired: Desired,
    ) -> Result<(), RuntimeError> {
        let owner = (self.db().epoch(), self.db().server());
        let mut doubtful = false;
        loop {
            let (of, stored, by) = (workspace.clone(), revision.clone(), by.clone());
            let put = self
                .db()
                .write(move |unit| -> Result<_, RuntimeError> {
                    if agents::put_revision(unit, &of, id, &stored, owner)? {
                        events::deployed(unit, &of, &stored)?;
                        deployed(unit, &by, &of, &stored)?;
                        if desired == Desired::Stopped {
                            agents::set_desired(unit, &of, &stored.spec.name, desired)?;
                        }
                    }
                    Ok(())
                })
                .await;
            match put {
                Err(RuntimeError::Store(error))
                    if error.is_retryable() && (doubtful || error.is_doubtful()) =>
                {
                    doubtful = true;
                    tokio::time::sleep(STORE_WAIT).await;
                }
                put => return put,
            }
        }
    }

    /// Goes back to an earlier revision, or on to a later one: it takes over when it is ready, and
    /// what serves now serves until then. Without a number the one before the current is meant.
    ///
    /// # Errors
    /// As [`Self::deploy`], and [`RuntimeError::RevisionNotFound`].
    pub async fn roll_to(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
        number: Option<u32>,
        reason: Option<String>,
    ) -> Result<AgentInfo, RuntimeError> {
        let by = by.clone();
        self.change(workspace, name, move |this, workspace, name| async move {
            let slot = this.slot(&workspace, &name)?;
            let current = slot.rollout().revision;
            let number = number.unwrap_or(current.saturating_sub(1));
            let (of, agent) = (workspace.clone(), name.clone());
            let revision = this
                .db()
                .read(move |reader| agents::revision(reader, &of, &agent, number))
                .await?
                .ok_or(RuntimeError::RevisionNotFound {
                    agent: name,
                    number,
                })?;
            if number == current {
                this.run(&by, &slot).await?;
                return Ok(slot.info());
            }
            this.check(&workspace, &revision.spec).await?;
            let turn = this
                .within_quotas(&workspace, Some(&slot), &revision.spec)
                .await?;
            let storing = slot.storing.lock().await;
            let (of, agent) = (workspace.clone(), slot.name().to_owned());
            let why: String = reason
                .iter()
                .flat_map(|why| why.chars())
                .take(MOST_REASON)
                .collect();
            let event = Event::of(&agent, "rollout.ordered", &why).revision(number);
            let row = RolloutRow {
                revision: number,
                stable: slot.rollout().stable,
                ..RolloutRow::default()
            };
            let epoch = this.db().epoch();
            this.db()
                .write(move |unit| {
                    agents::set_rollout(unit, &of, &agent, &row, epoch)?;
                    agents::set_desired(unit, &of, &agent, Desired::Running)?;
                    let now = unit.now();
                    event.record(&mut unit.scope(&of), now)?;
                    did(unit, &by, &of, &agent, &format!("revision {number}"))
                })
                .await?;
            slot.set_revision(&revision);
            drop(storing);
            drop(turn);
            let why = reason.map_or(String::new(), |_| format!(": {why}"));
            slot.note_any(&format!("going to revision {number} by order{why}"));
            Ok(slot.info())
        })
        .await
    }

    /// Holds an agent's rollout, or lets it go on. Answers at once.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn order_rollout(
        &self,
        workspace: &Workspace,
        name: &str,
        order: RolloutOrder,
    ) -> Result<AgentInfo, RuntimeError> {
        self.change(workspace, name, move |this, workspace, name| async move {
            let slot = this.slot(&workspace, &name)?;
            match order {
                RolloutOrder::Pause => slot.set_paused(true),
                RolloutOrder::Resume => slot.set_paused(false),
                RolloutOrder::Promote => slot.promote(),
            }
            Ok(slot.info())
        })
        .await
    }

    async fn set_desired(
        &self,
        by: &By,
        slot: &Arc<Slot>,
        desired: Desired,
    ) -> Result<(), RuntimeError> {
        let _storing = slot.storing.lock().await;
        if slot.desired() != desired {
            let (of, name) = (slot.workspace.clone(), slot.name().to_owned());
            let by = by.clone();
            self.db()
                .write(move |unit| {
                    agents::set_desired(unit, &of, &name, desired)?;
                    events::ordered(unit, &of, &name, desired)?;
                    did(unit, &by, &of, &name, desired.as_str())
                })
                .await?;
            slot.set_desired(desired);
        }
        Ok(())
    }

    async fn run(&self, by: &By, slot: &Arc<Slot>) -> Result<(), RuntimeError> {
        self.set_desired(by, slot, Desired::Running).await?;
        slot.order_run();
        Ok(())
    }

    /// Runs an agent that was stopped or had crashed too often. Answers at once.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`], [`RuntimeError::Store`], [`RuntimeError::ShuttingDown`].
    pub async fn start(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<AgentInfo, RuntimeError> {
        let by = by.clone();
        self.change(workspace, name, |this, workspace, name| async move {
            let slot = this.slot(&workspace, &name)?;
            this.run(&by, &slot).await?;
            Ok(slot.info())
        })
        .await
    }

    /// Stops an agent. Answers when that is stored; calls in flight have their time, and then its
    /// instances their grace.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn stop(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<AgentInfo, RuntimeError> {
        let by = by.clone();
        self.change(workspace, name, |this, workspace, name| async move {
            let slot = this.slot(&workspace, &name)?;
            this.set_desired(&by, &slot, Desired::Stopped).await?;
            Ok(slot.info())
        })
        .await
    }

    /// Replaces every instance of the agent: the new ones are ready before the old ones end. One
    /// that was stopped or had crashed too often is started. Answers at once.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<AgentInfo, RuntimeError> {
        let by = by.clone();
        self.change(workspace, name, |this, workspace, name| async move {
            let slot = this.slot(&workspace, &name)?;
            this.set_desired(&by, &slot, Desired::Running).await?;
            slot.restart();
            Ok(slot.info())
        })
        .await
    }

    /// Removes an agent: ends its instance with its grace, then removes its folder with its logs
    /// and home, then its rows. Answers when nothing of it is left.
    ///
    /// # Errors
    /// As [`Self::start`], and [`RuntimeError::Driver`] when its folder cannot be removed.
    pub async fn remove(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), RuntimeError> {
        let by = by.clone();
        self.change(workspace, name, |this, workspace, name| async move {
            let slot = this.slot(&workspace, &name)?;
            // Stored first: a server that is killed half-way does not run it without its home.
            this.set_desired(&by, &slot, Desired::Stopped).await?;
            slot.set_removed(true);
            let removed = this.remove_rest(&by, &workspace, &slot).await;
            if removed.is_err() {
                slot.set_removed(false);
            }
            removed
        })
        .await
    }

    async fn remove_rest(
        &self,
        by: &By,
        workspace: &Workspace,
        slot: &Slot,
    ) -> Result<(), RuntimeError> {
        slot.retire_all(Ending::AtOnce);
        slot.retired().await;
        let name = slot.name().to_owned();
        for driver in &self.inner.shared.drivers {
            driver.discard_agent(workspace, &name).await?;
        }
        let (of, gone, by) = (workspace.clone(), name.clone(), by.clone());
        self.db()
            .write(move |unit| {
                agents::remove(unit, &of, &gone)?;
                events::removed(unit, &of, &gone)?;
                did(unit, &by, &of, &gone, "gone")
            })
            .await?;
        if let Some(slots) = self.inner.slots.write().get_mut(workspace) {
            slots.remove(&name);
        }
        // Drivers that keep nothing of their own leave the folder with our events.
        let folder = self.agent_folder(workspace, &name);
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
        Ok(())
    }

    /// An agent as it is now.
    #[must_use]
    pub fn get(&self, workspace: &Workspace, name: &str) -> Option<AgentInfo> {
        self.find(workspace, name).map(|slot| slot.info())
    }

    /// As [`Self::get`], with an error that knows similar names.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`].
    pub fn info(&self, workspace: &Workspace, name: &str) -> Result<AgentInfo, RuntimeError> {
        self.slot(workspace, name).map(|slot| slot.info())
    }

    /// Up to `limit` agents by name, those after `after` only.
    #[must_use]
    pub fn list(&self, workspace: &Workspace, after: Option<&str>, limit: usize) -> Vec<AgentInfo> {
        self.search(workspace, &AgentQuery::default(), (after, limit))
    }

    /// The same of those that fit.
    #[must_use]
    pub fn search(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        (after, limit): (Option<&str>, usize),
    ) -> Vec<AgentInfo> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots: Vec<_> = {
            let slots = self.inner.slots.read();
            let of = slots
                .get(workspace)
                .map(|of| of.range::<str, _>((from, Bound::Unbounded)));
            let fits = of.into_iter().flatten().map(|(_, slot)| slot);
            let fits = fits.filter(|slot| query.fits(&slot.target.spec()));
            let most = match query.state {
                None => limit,
                Some(_) => usize::MAX,
            };
            fits.take(most).cloned().collect()
        };
        let all = slots.iter().map(|slot| slot.info());
        let fits = all.filter(|it| query.state.is_none_or(|state| it.state == state));
        fits.take(limit).collect()
    }

    /// The names of all agents, in order.
    #[must_use]
    pub fn names(&self, workspace: &Workspace) -> Vec<String> {
        let slots = self.inner.slots.read();
        let of = slots.get(workspace).map(BTreeMap::keys);
        of.into_iter().flatten().cloned().collect()
    }

    /// The deployed agent's name that is closest to this one, if one is close.
    #[must_use]
    pub fn similar(&self, workspace: &Workspace, name: &str) -> Option<String> {
        let slots = self.inner.slots.read();
        let of = slots.get(workspace).map(BTreeMap::keys);
        let names = of.into_iter().flatten().map(String::as_str);
        skep_core::similar(name, names).map(str::to_owned)
    }

    /// Up to `limit` revisions of an agent, newest first, those before `before` only.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`], [`RuntimeError::Store`].
    pub async fn revisions(
        &self,
        workspace: &Workspace,
        name: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Revision>, RuntimeError> {
        self.slot(workspace, name)?;
        let (of, name) = (workspace.clone(), name.to_owned());
        let limit = limit.min(MOST_ROWS);
        let rows = self
            .db()
            .read(move |reader| agents::revisions(reader, &of, &name, before, limit))
            .await;
        Ok(rows?)
    }

    /// The agent's log over its instances, oldest first.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`].
    pub fn logs(
        &self,
        workspace: &Workspace,
        name: &str,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, RuntimeError> {
        let slot = self.slot(workspace, name)?;
        Ok(logs::read(slot, self.inner.shared.drivers.clone(), query))
    }

    /// Where the agent's calls go. Cheap; the target stays valid when the agent changes.
    #[must_use]
    pub fn target(&self, workspace: &Workspace, name: &str) -> Option<Arc<Target>> {
        let slots = self.inner.slots.read();
        slots
            .get(workspace)?
            .get(name)
            .map(|slot| slot.target.clone())
    }

    /// All agents in numbers.
    #[must_use]
    pub fn snapshot(&self) -> Vec<AgentSnapshot> {
        let slots = self.inner.slots.read();
        slots
            .iter()
            .flat_map(|(workspace, of)| of.values().map(move |slot| (workspace, slot)))
            .map(|(workspace, slot)| AgentSnapshot {
                workspace: workspace.clone(),
                name: slot.name().to_owned(),
                state: slot.state(),
                restarts: slot.restarts(),
                in_flight: slot.target.in_flight(),
            })
            .collect()
    }

    /// Lets time pass for all agents: steps of rollouts, and copies that come and go with the calls.
    /// To be called every second; `demand` tells how many calls of an agent run or wait.
    pub fn tick(&self, demand: impl Fn(&Workspace, &str) -> u64) {
        let slots: Vec<_> = {
            let slots = self.inner.slots.read();
            slots.values().flat_map(BTreeMap::values).cloned().collect()
        };
        for slot in slots {
            slot.tick(|| demand(&slot.workspace, slot.name()));
        }
    }

    /// Ends all instances with their grace, at the same time, and refuses changes. What should run
    /// is started again by the next server.
    pub async fn shutdown(&self) {
        self.inner.shared.close();
        // Whoever is in a lane may not have seen that: wait until they are through.
        let lanes: Vec<_> = self.inner.lanes.lock().values().cloned().collect();
        for lane in lanes {
            drop(lane.lock().await);
        }
        let slots: Vec<_> = {
            let slots = self.inner.slots.read();
            slots.values().flat_map(BTreeMap::values).cloned().collect()
        };
        slots
            .iter()
            .for_each(|slot| slot.retire_all(Ending::AtOnce));
        for slot in slots {
            slot.retired().await;
        }
    }
}
