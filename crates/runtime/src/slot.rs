//! One deployed agent in memory: its revisions in play, its members with what they report, and what
//! follows of it for everybody else. A stopped agent is a slot and nothing more: no task, no
//! buffers.
//!
//! Whatever changes, [`Slot::reconcile`] asks [`crate::fleet`] what is to be done and does it.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use skep_api::InstanceState;
use skep_core::{InstanceId, Timestamp, Workspace};
use tokio::sync::Notify;

use crate::agents::{self, AgentRow, Desired, Revision, RolloutRow};
use crate::driver::{LogStream, Running};
use crate::events::{self, Event};
use crate::exec::Room;
use crate::logfile::{LogWriter, Rotation};
use crate::scale::Scaler;
use crate::supervise::{Charge, Shared};
use crate::target::Target;

use inner::{Inner, Part, Supervised};

mod info;
mod inner;

pub use info::{AgentInfo, InstanceInfo, Probed};

/// How much of what the supervisors say is kept of each agent.
pub(crate) const EVENTS: Rotation = Rotation {
    file_bytes: 1 << 20,
    files: 2,
};

/// How a supervisor is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// When the calls in flight have ended, or have had their time.
    Drained,
    /// Whatever runs.
    AtOnce,
}

/// What a supervisor is told. It compares it with what it saw last, so nothing queues and nothing
/// is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Goes up with each order to run.
    pub(crate) runs: u64,
    pub(crate) end: Option<Ending>,
}

/// The instance of a supervisor.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) instance: InstanceId,
    pub(crate) started_at: Timestamp,
    pub(crate) running: Arc<dyn Running>,
}

/// What a supervisor reports.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) state: InstanceState,
    pub(crate) reason: Option<String>,
    pub(crate) live: Option<Live>,
    /// It says itself that it works, whether calls run or not.
    pub(crate) busy: bool,
    /// What the last probe of the instance found.
    pub(crate) probe: Option<Probed>,
}

/// One deployed agent.
pub(crate) struct Slot {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workspace: Workspace,
    pub(crate) target: Arc<Target>,
    inner: Mutex<Inner>,
    /// Held while the agent's row is written.
    pub(crate) storing: tokio::sync::Mutex<()>,
    restarts: AtomicU64,
    /// Told when a supervisor has ended.
    ended: Notify,
    began: Instant,
    events: PathBuf,
    events_writer: Mutex<Option<LogWriter>>,
}

impl Slot {
    /// The slot of a stored agent; nothing runs yet. `events` is the file for what its supervisors
    /// say.
    pub(crate) fn new(
        shared: Arc<Shared>,
        workspace: Workspace,
        row: AgentRow,
        events: PathBuf,
    ) -> Self {
        let spec = row.current.spec.clone();
        let parts = [Some(row.current), row.stable]
            .into_iter()
            .flatten()
            .map(|revision| (revision.number, Part::of(&shared, &revision)))
            .collect();
        let mut inner = Inner {
            desired: row.desired,
            removed: false,
            created_at: row.created_at,
            newest: row.newest,
            rollout: row.rollout,
            step_since: None,
            parts,
            replicas: 1,
            told: None,
            scaler: Scaler::default(),
            waker: false,
            generations: 0,
            members: Vec::new(),
        };
        inner.bound();
        let slot = Self {
            shared,
            workspace,
            target: Arc::new(Target::new(row.id, row.name, spec)),
            inner: Mutex::new(inner),
            storing: tokio::sync::Mutex::new(()),
            restarts: AtomicU64::new(0),
            ended: Notify::new(),
            began: Instant::now(),
            events,
            events_writer: Mutex::new(None),
        };
        slot.inner.lock().publish(&slot.target);
        slot
    }

    pub(crate) fn name(&self) -> &str {
        self.target.name()
    }

    pub(crate) fn desired(&self) -> Desired {
        self.inner.lock().desired
    }

    /// The highest number that a revision has.
    pub(crate) fn newest(&self) -> u32 {
        self.inner.lock().newest
    }

    /// How far the current revision is.
    pub(crate) fn rollout(&self) -> RolloutRow {
        self.inner.lock().rollout.clone()
    }

    /// Whether instances of this revision are in play, and how many may be.
    pub(crate) fn wants(&self, revision: u32) -> u32 {
        let inner = self.inner.lock();
        let in_play = inner.desired == Desired::Running
            && (inner.rollout.revision == revision || inner.rollout.stable == Some(revision));
        if in_play { inner.bounds().1 } else { 0 }
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// The state of the current revision.
    pub(crate) fn state(&self) -> InstanceState {
        self.inner.lock().state().0
    }

    /// Takes up instances that outlived the last server, each with its revision.
    pub(crate) fn adopt(self: &Arc<Self>, found: Vec<(u32, Live)>) {
        let mut inner = self.inner.lock();
        let (least, most) = inner.bounds();
        let number = u32::try_from(found.len()).unwrap_or(most);
        inner.replicas = number.clamp(least, most);
        for (revision, live) in found {
            inner.start(self, revision, Some(live));
        }
    }

    /// What the owner wants.
    pub(crate) fn set_desired(self: &Arc<Self>, desired: Desired) {
        self.inner.lock().desired = desired;
        self.reconcile();
    }

    /// Takes in a revision that is stored as the current one: a new one, or one from before.
    pub(crate) fn set_revision(self: &Arc<Self>, revision: &Revision) {
        let mut inner = self.inner.lock();
        let part = Part::of(&self.shared, revision);
        self.target.set_spec(part.spec.clone());
        inner.parts.insert(revision.number, part);
        inner.desired = Desired::Running;
        inner.newest = inner.newest.max(revision.number);
        inner.rollout = RolloutRow {
            revision: revision.number,
            stable: inner.rollout.stable,
            ..RolloutRow::default()
        };
        inner.step_since = None;
        inner.bound();
        // It must show that it works, also when nobody calls.
        self.stay_awake(&mut inner);
        drop(inner);
        self.reconcile();
    }

    /// Runs what has given up, and what sleeps.
    pub(crate) fn order_run(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        self.stay_awake(&mut inner);
        for member in inner.members.iter().filter(|member| !member.is_retiring()) {
            member.orders.send_modify(|orders| orders.runs += 1);
        }
        drop(inner);
        self.reconcile();
    }

    /// Replaces every instance by a new one.
    pub(crate) fn restart(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        self.stay_awake(&mut inner);
        inner.members.iter_mut().for_each(|one| one.stale = true);
        drop(inner);
        self.reconcile();
    }

    /// Holds the rollout, or lets it go on; then a step that waits for an order is behind it.
    pub(crate) fn set_paused(self: &Arc<Self>, paused: bool) {
        let mut inner = self.inner.lock();
        let waited = !paused && !inner.rollout.paused && inner.waits_for_order();
        inner.rollout.paused = paused;
        if waited {
            inner.rollout.step += 1;
            inner.step_since = None;
        }
        drop(inner);
        self.reconcile();
    }

    /// Leaves all steps of the rollout behind.
    pub(crate) fn promote(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.rollout.paused = false;
        inner.rollout.step = u32::try_from(inner.steps().len()).unwrap_or(u32::MAX);
        drop(inner);
        self.reconcile();
    }

    /// Time passes: a step of a rollout may be over, and copies may come or go with the calls.
    /// `demand` is asked for those that run or wait, and only when it matters.
    pub(crate) fn tick(self: &Arc<Self>, demand: impl FnOnce() -> u64) {
        let mut inner = self.inner.lock();
        if inner.desired == Desired::Stopped || inner.removed {
            return;
        }
        let mut changed = inner.step_since.is_some();
        let scale = inner.spec().map(|spec| spec.scale.clone());
        // What is being rolled out stays awake until it has proven itself.
        let awake = !inner.rollout.is_rolling() && inner.rollout.stable.is_some();
        if let Some(scale) = scale.filter(|scale| awake && scale.min < scale.max) {
            let holds = inner.members.iter().any(|one| one.view.busy);
            let (copies, now) = (inner.replicas, self.began.elapsed());
            let wanted = inner.scaler.wanted(&scale, copies, demand(), holds, now);
            inner.replicas = wanted;
            changed |= wanted != copies;
        }
        drop(inner);
        if changed {
            self.reconcile();
        }
    }

    /// There is at least one copy from now on, until nobody called for long enough.
    fn stay_awake(&self, inner: &mut Inner) {
        inner.replicas = inner.replicas.max(1);
        inner.scaler.wake(self.began.elapsed());
    }

    /// Waits for a call, and then wakes the agent.
    async fn sleep(self: Arc<Self>) {
        self.target.woken().await;
        let mut inner = self.inner.lock();
        inner.waker = false;
        self.stay_awake(&mut inner);
        drop(inner);
        self.reconcile();
    }

    /// Tells all supervisors to end what they run.
    pub(crate) fn retire_all(&self, ending: Ending) {
        let mut inner = self.inner.lock();
        let all = inner.members.iter_mut();
        all.for_each(|one| one.retiring = Some(ending));
        inner.publish(&self.target);
    }

    /// The agent is being removed: calls are told so from now on.
    pub(crate) fn set_removed(&self, removed: bool) {
        let mut inner = self.inner.lock();
        inner.removed = removed;
        inner.publish(&self.target);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.inner.lock().removed
    }

    /// Waits until every supervisor that was told to end has ended.
    pub(crate) async fn retired(&self) {
        loop {
            let ended = self.ended.notified();
            let mut ended = std::pin::pin!(ended);
            // Listening comes before looking, so that an end in between is heard.
            ended.as_mut().enable();
            if !self
                .inner
                .lock()
                .members
                .iter()
                .any(Supervised::is_retiring)
            {
                return;
            }
            ended.await;
        }
    }

    /// A supervisor reports.
    pub(crate) fn report(self: &Arc<Self>, generation: u64, view: View) {
        let mut inner = self.inner.lock();
        let members = &mut inner.members;
        let Some(one) = members.iter_mut().find(|one| one.generation == generation) else {
            return;
        };
        one.view = view;
        drop(inner);
        self.reconcile();
    }

    /// A supervisor has ended; nothing of it runs.
    pub(crate) fn report_end(self: &Arc<Self>, generation: u64) {
        let mut inner = self.inner.lock();
        inner.members.retain(|one| one.generation != generation);
        drop(inner);
        self.reconcile();
        self.ended.notify_waiters();
    }

    /// Does what is to be done, as of now, and tells everybody whether calls can be taken.
    pub(crate) fn reconcile(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        let before = inner.rollout.clone();
        if inner.desired == Desired::Stopped || inner.removed {
            inner.members.iter_mut().for_each(|one| {
                one.retiring.get_or_insert(Ending::Drained);
            });
        } else if !self.shared.is_closing() {
            inner.pass_step();
            while inner.take_steps(self) {}
            inner.forget_parts();
        }
        if inner.replicas == 0 && !std::mem::replace(&mut inner.waker, true) {
            tokio::spawn(self.clone().sleep());
        }
        inner.publish(&self.target);
        let changed = inner.rollout != before;
        let events = events::of_rollout(self.name(), &before, &inner.rollout);
        let scaled = inner.scaled(self.name());
        drop(inner);
        scaled.into_iter().for_each(|event| self.tell(event));
        if changed {
            tokio::spawn(self.clone().store(events));
        }
    }

    /// Adds an event that is no part of a change that is stored.
    fn tell(&self, event: Event) {
        self.shared.events.add(&self.workspace, event);
    }

    /// Writes down how far the rollout is. What fails here is written with the next change, and a
    /// server that starts meanwhile takes the same steps again.
    async fn store(self: Arc<Self>, events: Vec<Event>) {
        let _storing = self.storing.lock().await;
        let (workspace, name, row) = (
            self.workspace.clone(),
            self.name().to_owned(),
            self.rollout(),
        );
        let told = events.clone();
        let db = &self.shared.db;
        let epoch = db.epoch();
        let stored = db
            .write(move |unit| {
                agents::set_rollout(unit, &workspace, &name, &row, epoch)?;
                let (now, mut scope) = (unit.now(), unit.scope(&workspace));
                told.iter()
                    .try_for_each(|event| event.record(&mut scope, now))
            })
            .await;
        if let Err(error) = stored {
            events.into_iter().for_each(|event| self.tell(event));
            tracing::warn!(agent = self.name(), %error, "how far a rollout is was not written");
        }
    }

    /// The instances that run or are ending, and how many supervisors there are.
    pub(crate) fn live(&self) -> (Vec<InstanceId>, usize) {
        let inner = self.inner.lock();
        let live = inner
            .members
            .iter()
            .filter_map(|one| one.view.live.as_ref());
        (
            live.map(|live| live.instance).collect(),
            inner.members.len(),
        )
    }

    /// All instances that run, each with its revision and state.
    pub(crate) fn running(&self) -> Vec<(Live, u32, InstanceState)> {
        let inner = self.inner.lock();
        let live = inner.members.iter().filter_map(|one| {
            let live = one.view.live.clone()?;
            Some((live, one.revision, one.view.state))
        });
        live.collect()
    }

    /// The box of this instance, else of the best that runs.
    pub(crate) fn room(self: &Arc<Self>, instance: Option<InstanceId>) -> Option<Room> {
        let inner = self.inner.lock();
        let live = inner.members.iter().filter_map(|one| {
            let live = one.view.live.clone()?;
            Some((one.view.state != InstanceState::Ready, one.revision, live))
        });
        let (_, revision, live) = live
            .filter(|(_, _, live)| instance.is_none_or(|wanted| wanted == live.instance))
            .min_by_key(|(rests, ..)| *rests)?;
        let (spec, driver) = inner.parts.get(&revision)?.made.as_ref().ok()?;
        let charge = Charge {
            slot: self.clone(),
            driver: driver.clone(),
            spec: spec.clone(),
            revision,
        };
        Some(Room { charge, live })
    }

    /// Writes a line of Skep's own into the agent's log.
    pub(crate) fn note(&self, now: Timestamp, instance: InstanceId, text: &str) {
        tracing::info!(workspace = %self.workspace, agent = self.name(), %instance, "{text}");
        let mut writer = self.events_writer.lock();
        let writer = writer.get_or_insert_with(|| {
            if let Some(folder) = self.events.parent() {
                let mut make = std::fs::DirBuilder::new();
                // When it cannot be made, the writer finds that it cannot write.
                let _ = make.recursive(true).mode(0o700).create(folder);
            }
            LogWriter::new(self.events.clone(), EVENTS)
        });
        let line = format!("{instance} {text}");
        for line in line.lines().filter(|line| !line.is_empty()) {
            writer.add(now, LogStream::Skep, true, line.as_bytes());
        }
        writer.flush();
    }

    /// Writes a line about the whole agent into its log.
    pub(crate) fn note_any(&self, text: &str) {
        let instance = self.inner.lock().any_instance();
        self.note(self.shared.db.clock().now(), instance, text);
    }

    /// The file for what its supervisors say.
    pub(crate) fn events(&self) -> &std::path::Path {
        &self.events
    }

    /// The agent as it is now.
    pub(crate) fn info(&self) -> AgentInfo {
        let inner = self.inner.lock();
        let (state, mut reason) = inner.state();
        let current = inner.rollout.revision;
        let old = inner
            .members
            .iter()
            .find(|one| one.revision != current && one.endpoint().is_some());
        if let Some(old) = old {
            let serving = format!("revision {} serves meanwhile", old.revision);
            reason = Some(reason.map_or(serving.clone(), |why| format!("{why}; {serving}")));
        }
        let part = inner.parts.get(&current);
        AgentInfo {
            id: self.target.id(),
            name: self.name().to_owned(),
            desired: inner.desired,
            revision: current,
            instances: inner.members.iter().filter_map(Supervised::info).collect(),
            replicas: match inner.desired {
                Desired::Running => inner.replicas,
                Desired::Stopped => 0,
            },
            rollout: inner.shown_rollout(),
            state,
            reason,
            restarts: self.restarts(),
            spec: self.target.spec(),
            created_at: inner.created_at,
            updated_at: part.map_or(inner.created_at, |part| part.created_at),
        }
    }
}
