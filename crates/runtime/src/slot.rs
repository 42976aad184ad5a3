//! One deployed agent in memory: which supervisors it has, what they report, and what follows of
//! it for everybody else. A stopped agent is a slot and nothing more: no task, no buffers.
//!
//! A deployment starts a second supervisor beside the one that serves. When the new one's instance
//! is ready, the old one is retired; until then, and also when the new one fails, the old one goes
//! on serving.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use skep_api::{AgentSpec, InstanceState};
use skep_core::{AgentId, InstanceId, Timestamp, Workspace};
use tokio::sync::{Notify, watch};

use crate::agents::{AgentRow, Desired};
use crate::driver::{LogStream, Running};
use crate::logfile::{LogWriter, Rotation};
use crate::target::{Availability, Target};

/// How much of what the supervisor says is kept of each agent.
pub(crate) const EVENTS: Rotation = Rotation {
    file_bytes: 1 << 20,
    files: 2,
};

/// What a supervisor is told. The counts go up; it compares them with what it saw last, so nothing
/// queues and nothing is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    pub(crate) runs: u64,
    pub(crate) restarts: u64,
    pub(crate) stop: bool,
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
}

impl View {
    pub(crate) fn of(state: InstanceState) -> Self {
        Self {
            state,
            reason: None,
            live: None,
        }
    }

    fn ready(&self) -> Option<&Live> {
        self.live
            .as_ref()
            .filter(|_| self.state == InstanceState::Ready)
    }
}

struct Supervised {
    generation: u64,
    revision: u32,
    orders: watch::Sender<Orders>,
    view: View,
}

impl Supervised {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }
}

struct Inner {
    desired: Desired,
    revision: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
    generations: u64,
    removed: bool,
    /// Why no supervisor can be made of the current revision.
    broken: Option<String>,
    current: Option<Supervised>,
    /// The one that serves until the current one is ready.
    previous: Option<Supervised>,
    retiring: Vec<Supervised>,
    /// The last look at the CPU time, for a share of it.
    looked: Option<(InstanceId, Instant, u64)>,
}

/// One deployed agent.
pub(crate) struct Slot {
    pub(crate) workspace: Workspace,
    pub(crate) target: Arc<Target>,
    inner: Mutex<Inner>,
    restarts: AtomicU64,
    /// Told when a supervisor has ended.
    ended: Notify,
    events: PathBuf,
    events_writer: Mutex<Option<LogWriter>>,
}

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
    /// The instance that runs: the current revision's, else the one that still serves.
    pub instance: Option<InstanceInfo>,
    /// What the current revision's instance is doing.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Its identifier.
    pub id: InstanceId,
    /// The revision that it runs.
    pub revision: u32,
    /// Its process id, when it has one on this machine.
    pub pid: Option<u32>,
    /// Where it takes calls.
    pub address: SocketAddr,
    /// When it was started.
    pub started_at: Timestamp,
}

impl From<&AgentInfo> for skep_api::Agent {
    fn from(info: &AgentInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.name.clone(),
            desired: info.desired.as_str().to_owned(),
            revision: info.revision,
            instance: info.instance.as_ref().map(Into::into),
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
            pid: info.pid,
            port: info.address.port(),
            started_at: info.started_at.to_string(),
        }
    }
}

impl Slot {
    /// The slot of a stored agent; nothing runs yet. `events` is the file for what its supervisors
    /// say.
    pub(crate) fn new(workspace: Workspace, row: AgentRow, events: PathBuf) -> Self {
        let name = row.revision.spec.name.clone();
        let slot = Self {
            workspace,
            target: Arc::new(Target::new(row.id, name, row.revision.spec)),
            inner: Mutex::new(Inner {
                desired: row.desired,
                revision: row.revision.number,
                created_at: row.created_at,
                updated_at: row.revision.created_at,
                generations: 0,
                removed: false,
                broken: None,
                current: None,
                previous: None,
                retiring: Vec::new(),
                looked: None,
            }),
            restarts: AtomicU64::new(0),
            ended: Notify::new(),
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

    pub(crate) fn revision(&self) -> u32 {
        self.inner.lock().revision
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// The state of the current revision.
    pub(crate) fn state(&self) -> InstanceState {
        self.inner.lock().view().state
    }

    pub(crate) fn set_desired(&self, desired: Desired) {
        let mut inner = self.inner.lock();
        inner.desired = desired;
        inner.publish(&self.target);
    }

    /// Takes in a new revision. Its supervisor is made with [`Self::supervise`].
    pub(crate) fn set_revision(&self, number: u32, spec: Arc<AgentSpec>, now: Timestamp) {
        let mut inner = self.inner.lock();
        inner.desired = Desired::Running;
        inner.revision = number;
        inner.updated_at = now;
        self.target.set_spec(spec);
    }

    /// The current revision cannot be supervised; a serving one goes on.
    pub(crate) fn set_broken(&self, reason: String) {
        let mut inner = self.inner.lock();
        inner.replace(None);
        inner.broken = Some(reason);
        inner.publish(&self.target);
    }

    /// Makes room for a supervisor of the current revision. Tells its number and its orders.
    pub(crate) fn supervise(&self) -> (u64, watch::Receiver<Orders>) {
        let mut inner = self.inner.lock();
        inner.generations += 1;
        let (orders, receiver) = watch::channel(Orders::default());
        let generation = inner.generations;
        let next = Supervised {
            generation,
            revision: inner.revision,
            orders,
            view: View::of(InstanceState::Starting),
        };
        inner.broken = None;
        inner.replace(Some(next));
        inner.publish(&self.target);
        (generation, receiver)
    }

    /// Tells the current supervisor to run; false when there is none.
    pub(crate) fn order_run(&self) -> bool {
        self.order(|orders| orders.runs += 1)
    }

    /// Tells the current supervisor to restart; false when there is none.
    pub(crate) fn order_restart(&self) -> bool {
        self.order(|orders| orders.restarts += 1)
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) -> bool {
        let inner = self.inner.lock();
        let there = inner.current.is_some();
        if let Some(current) = &inner.current {
            current.order(change);
        }
        there
    }

    /// Tells all supervisors to end what they run.
    pub(crate) fn retire_all(&self) {
        let mut inner = self.inner.lock();
        let all = [inner.current.take(), inner.previous.take()];
        all.into_iter().flatten().for_each(|one| inner.retire(one));
        inner.broken = None;
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
            if self.inner.lock().retiring.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// A supervisor reports.
    pub(crate) fn report(&self, generation: u64, view: View) {
        let mut inner = self.inner.lock();
        let Some(one) = inner.find(generation) else {
            return;
        };
        one.view = view;
        let serves = |one: &Supervised| one.view.state == InstanceState::Ready;
        if inner.current.as_ref().is_some_and(serves)
            && let Some(previous) = inner.previous.take()
        {
            inner.retire(previous);
        }
        inner.publish(&self.target);
    }

    /// A supervisor has ended; nothing of it runs.
    pub(crate) fn report_end(&self, generation: u64) {
        let mut inner = self.inner.lock();
        inner.retiring.retain(|one| one.generation != generation);
        let Inner {
            current, previous, ..
        } = &mut *inner;
        for place in [current, previous] {
            place.take_if(|one| one.generation == generation);
        }
        inner.publish(&self.target);
        drop(inner);
        self.ended.notify_waiters();
    }

    /// The instances that run or are ending.
    pub(crate) fn live(&self) -> Vec<InstanceId> {
        let inner = self.inner.lock();
        inner
            .all()
            .filter_map(|one| one.view.live.as_ref())
            .map(|live| live.instance)
            .collect()
    }

    /// The instance that serves or will.
    pub(crate) fn running(&self) -> Option<Live> {
        self.inner.lock().main().map(|(live, _)| live.clone())
    }

    /// Notes a look at the CPU time and tells the one before, when it was of the same instance.
    pub(crate) fn looked(&self, instance: InstanceId, cpu_ms: u64) -> Option<(Instant, u64)> {
        let now = (instance, Instant::now(), cpu_ms);
        let before = self.inner.lock().looked.replace(now);
        before
            .filter(|(of, _, _)| *of == instance)
            .map(|(_, at, cpu_ms)| (at, cpu_ms))
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

    /// The file for what its supervisors say.
    pub(crate) fn events(&self) -> &std::path::Path {
        &self.events
    }

    /// The agent as it is now.
    pub(crate) fn info(&self) -> AgentInfo {
        let inner = self.inner.lock();
        let view = inner.view();
        let mut reason = view.reason.clone();
        let serving = inner
            .previous
            .as_ref()
            .filter(|one| one.view.ready().is_some());
        if let Some(previous) = serving {
            let serving = format!("revision {} serves meanwhile", previous.revision);
            reason = Some(reason.map_or(serving.clone(), |why| format!("{why}; {serving}")));
        }
        AgentInfo {
            id: self.target.id(),
            name: self.name().to_owned(),
            desired: inner.desired,
            revision: inner.revision,
            instance: inner.main().map(|(live, revision)| InstanceInfo {
                id: live.instance,
                revision,
                pid: live.running.pid(),
                address: live.running.address(),
                started_at: live.started_at,
            }),
            state: view.state,
            reason,
            restarts: self.restarts(),
            spec: self.target.spec(),
            created_at: inner.created_at,
            updated_at: inner.updated_at,
        }
    }
}

impl Inner {
    fn all(&self) -> impl Iterator<Item = &Supervised> {
        self.current
            .iter()
            .chain(&self.previous)
            .chain(&self.retiring)
    }

    fn find(&mut self, generation: u64) -> Option<&mut Supervised> {
        self.current
            .iter_mut()
            .chain(&mut self.previous)
            .chain(&mut self.retiring)
            .find(|one| one.generation == generation)
    }

    fn retire(&mut self, one: Supervised) {
        one.order(|orders| orders.stop = true);
        self.retiring.push(one);
    }

    /// Puts another supervisor in the current one's place. One that serves stays for the time
    /// being; one that does not is retired.
    fn replace(&mut self, next: Option<Supervised>) {
        let Some(before) = std::mem::replace(&mut self.current, next) else {
            return;
        };
        let serves = matches!(
            before.view.state,
            InstanceState::Ready | InstanceState::Unready
        );
        if !serves {
            self.retire(before);
        } else if let Some(older) = self.previous.replace(before) {
            self.retire(older);
        }
    }

    /// What the current revision does.
    fn view(&self) -> View {
        match (&self.current, &self.broken) {
            (Some(current), _) => current.view.clone(),
            (None, Some(reason)) => View {
                reason: Some(reason.clone()),
                ..View::of(InstanceState::CrashLoop)
            },
            (None, None) if self.retiring.is_empty() => View::of(InstanceState::Stopped),
            (None, None) => View::of(InstanceState::Stopping),
        }
    }

    /// The instance that serves, else the current one, else one that is ending.
    fn main(&self) -> Option<(&Live, u32)> {
        let ready = |one: &&Supervised| one.view.ready().is_some();
        self.all()
            .find(ready)
            .or_else(|| self.all().find(|one| one.view.live.is_some()))
            .and_then(|one| Some((one.view.live.as_ref()?, one.revision)))
    }

    /// Tells everybody who waits for it whether calls can be taken.
    fn publish(&self, target: &Target) {
        target.set_availability(self.availability());
    }

    fn availability(&self) -> Availability {
        if self.removed {
            return Availability::Removed;
        }
        if self.desired == Desired::Stopped {
            return Availability::Stopped;
        }
        let serving = self.current.iter().chain(&self.previous);
        let ready = serving
            .filter_map(|one| Some((one.view.ready()?, one.revision)))
            .next();
        if let Some((live, revision)) = ready {
            return Availability::Ready {
                instance: live.instance,
                address: live.running.address(),
                revision,
            };
        }
        let view = self.view();
        let comes_back = self
            .previous
            .as_ref()
            .is_some_and(|one| one.view.state != InstanceState::CrashLoop);
        match view.state {
            InstanceState::CrashLoop if !comes_back => Availability::CrashLoop {
                reason: view.reason.unwrap_or_default().into(),
            },
            _ => Availability::Waiting,
        }
    }
}
