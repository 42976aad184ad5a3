//! The service: what it is made of, how it starts and ends, and where a request goes first.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use parking_lot::{Mutex, RwLock};
use skep_core::{AgentId, CallId, InstanceId, RequestId, Workspace};
use skep_store::{By, Db, StoreError};
use tokio_util::task::TaskTracker;

use crate::agents::{Agent, Agents, Availability};
use crate::lane::{Lane, Visit};
use crate::live::Registry;
use crate::metrics::Metrics;
use crate::quota::{self, CallQuotas};
use crate::spans::Spans;
use crate::window::Pace;
use crate::{Body, IngressError, pass};

/// Bounds of the door.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: u64,
    /// Bytes of an answer that is recorded.
    pub answer: u64,
    /// Longest pause within a request's body.
    pub body_pause: Duration,
    /// How many calls a workspace may make; without it as many as fit.
    pub quotas: Option<Arc<dyn CallQuotas>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 64 << 20,
            answer: 1 << 30,
            body_pause: Duration::from_secs(30),
            quotas: None,
        }
    }
}

/// How long ended calls are kept.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Those accepted longer ago go.
    pub age: Duration,
    /// While all calls hold more bytes, the oldest ended ones go.
    pub bytes: u64,
    /// How long it is kept how calls went, hour by hour.
    pub hours: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(7 * 24 * 3600),
            bytes: 1 << 30,
            hours: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// Who sends a request, as the composition root found out.
#[derive(Debug, Clone)]
pub struct Context {
    /// The tenant.
    pub workspace: Workspace,
    /// The request's id.
    pub request_id: RequestId,
    /// Who makes the call that it becomes.
    pub by: By,
    /// The client's address.
    pub remote: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The id that the call gets if it becomes one, when another server gave it one.
    pub call: Option<CallId>,
    /// The trace context that the agent gets (W3C).
    pub traceparent: Option<HeaderValue>,
}

/// How much an agent has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Calls that run.
    pub running: u64,
    /// Calls that wait.
    pub waiting: u64,
}

/// The call door. Cheap to clone.
#[derive(Clone)]
pub struct Ingress {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// The server, which ends calls.
    pub(crate) own: By,
    pub(crate) db: Db,
    pub(crate) agents: Arc<dyn Agents>,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) metrics: Metrics,
    /// Who traces attempts, when somebody does.
    pub(crate) spans: Option<Arc<dyn Spans>>,
    pub(crate) registry: Registry,
    /// Calls whose acceptance is in doubt and which are being taken back.
    pub(crate) refused: Mutex<HashSet<CallId>>,
    pub(crate) lanes: RwLock<HashMap<Workspace, HashMap<String, Arc<Lane>>>>,
    pub(crate) closing: AtomicBool,
    /// Free bytes under which nothing is accepted; set while the disk is that full.
    pub(crate) disk_floor: AtomicU64,
    pub(crate) tasks: TaskTracker,
    /// Bytes of all bodies that are being received in memory.
    pub(crate) held: AtomicU64,
}

impl Ingress {
    /// The door over a store. Nothing runs before [`Ingress::recover`].
    #[must_use]
    pub fn new(
        db: Db,
        agents: Arc<dyn Agents>,
        limits: Limits,
        retention: Retention,
        metrics: Metrics,
        spans: Option<Arc<dyn Spans>>,
        own: By,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                db,
                agents,
                limits,
                retention,
                metrics,
                spans,
                own,
                registry: Registry::default(),
                refused: Mutex::default(),
                lanes: RwLock::default(),
                closing: AtomicBool::new(false),
                disk_floor: AtomicU64::new(0),
                tasks: TaskTracker::new(),
                held: AtomicU64::new(0),
            }),
        }
    }

    /// Comes in because of an agent, which stays on this server until the visit ends. Waits while
    /// the agent is about to go.
    ///
    /// # Errors
    /// [`IngressError::AgentNotFound`], also when it has gone.
    pub async fn visit(&self, workspace: &Workspace, agent: &str) -> Result<Visit, IngressError> {
        loop {
            let lane = self.inner.lane(workspace, agent)?;
            match lane.enter() {
                Some(visit) => return Ok(visit),
                None => lane.opened().await,
            }
        }
    }

    /// Lets nobody in because of an agent that is to go to another server. False when a request or
    /// a call of its is there. [`Ingress::moved`] ends it.
    #[must_use]
    pub fn shut(&self, workspace: &Workspace, agent: &str) -> bool {
        // Without a lane nobody ever came; with one, nobody comes in between.
        let lane = self.inner.lane(workspace, agent);
        lane.is_ok_and(|lane| lane.shut())
    }

    /// The agent has gone, or stays.
    pub fn moved(&self, workspace: &Workspace, agent: &str) {
        let gone = self.inner.agents.find(workspace, agent).is_none();
        let mut lanes = self.inner.lanes.write();
        let Some(of_workspace) = lanes.get_mut(workspace) else {
            return;
        };
        let lane = match gone {
            true => of_workspace.remove(agent),
            false => of_workspace.get(agent).cloned(),
        };
        drop(lanes);
        if let Some(lane) = lane {
            if gone {
                lane.metrics.forget();
            }
            lane.open();
        }
    }

    /// Answers a request to an agent. `target` is the path and query that the agent sees.
    ///
    /// # Errors
    /// [`IngressError`], as what the client is told; an accepted call goes on without the client.
    pub async fn handle(
        &self,
        context: Context,
        visit: Visit,
        target: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, IngressError> {
        let lane = visit.lane().clone();
        let policy = lane.agent.policy();
        self.inner.must_be_open()?;
        if policy.journals(request.method()) {
            self.inner
                .call(lane, policy, context, target, request)
                .await
        } else {
            pass::pass(lane, &context, &self.inner.limits, target, request).await
        }
    }

    /// How much an agent has to do now.
    #[must_use]
    pub fn load(&self, workspace: &Workspace, agent: &str) -> Load {
        let lanes = self.inner.lanes.read();
        let lane = lanes.get(workspace).and_then(|lanes| lanes.get(agent));
        let (running, waiting) = lane.map_or((0, 0), |lane| lane.load());
        Load { running, waiting }
    }

    /// Calls of a workspace that wait here.
    #[must_use]
    pub fn waiting(&self, workspace: &Workspace) -> u64 {
        self.inner.waiting(workspace)
    }

    /// Calls of a workspace that were accepted today (UTC), when it has a quota of them.
    ///
    /// # Errors
    /// The store's own.
    pub async fn today(&self, workspace: &Workspace) -> Result<Option<u64>, StoreError> {
        quota::today(&self.inner.db, workspace).await
    }

    /// Bytes that ended calls of a workspace hold.
    ///
    /// # Errors
    /// The store's own.
    pub async fn ended_bytes(&self, workspace: &Workspace) -> Result<u64, StoreError> {
        let of = workspace.clone();
        let db = &self.inner.db;
        db.read(move |reader| crate::journal::ended_bytes(&mut reader.scope(&of)))
            .await
    }

    /// How the requests to an agent, or to one of its instances, went in the last minute; and how
    /// many run now.
    #[must_use]
    pub fn pace(
        &self,
        workspace: &Workspace,
        agent: &str,
        instance: Option<InstanceId>,
    ) -> (Pace, u64) {
        let lanes = self.inner.lanes.read();
        let lane = lanes.get(workspace).and_then(|lanes| lanes.get(agent));
        let Some(lane) = lane else {
            return (Pace::default(), 0);
        };
        let running = match instance {
            Some(instance) => lane.in_flight_on(instance),
            None => lane.load().0,
        };
        (lane.pace(instance), running)
    }

    /// How the requests to each revision of an agent went in the last minute, oldest first; without
    /// those that had none.
    #[must_use]
    pub fn paces(&self, workspace: &Workspace, agent: &str) -> Vec<(u32, Pace)> {
        let lanes = self.inner.lanes.read();
        let lane = lanes.get(workspace).and_then(|lanes| lanes.get(agent));
        lane.map_or_else(Vec::new, |lane| lane.paces())
    }

    /// Brings the gauges up to date, before they are read.
    pub fn refresh_metrics(&self) {
        for lane in self.inner.lanes.read().values().flat_map(HashMap::values) {
            let (running, waiting) = lane.load();
            lane.metrics
                .running
                .set(i64::try_from(running).unwrap_or(i64::MAX));
            lane.metrics
                .waiting
                .set(i64::try_from(waiting).unwrap_or(i64::MAX));
            let ejected = i64::try_from(lane.ejected()).unwrap_or(i64::MAX);
            lane.metrics.ejected.set(ejected);
        }
    }

    /// Refuses new calls while the disk has less than this many bytes free; `None` takes them again.
    pub fn set_disk_low(&self, floor: Option<u64>) {
        self.inner
            .disk_floor
            .store(floor.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes no more calls.
    pub fn refuse(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
    }

    /// Takes no more calls and waits for those that run. What still runs after `patience` is left
    /// to the next start, which tries it again.
    pub async fn close(&self, patience: Duration) {
        self.refuse();
        self.inner.tasks.close();
        for lane in self.inner.lanes.read().values().flat_map(HashMap::values) {
            lane.wake.notify_one();
            // They are durable; nobody who waits for them may hold up the end.
            for id in lane.waiting() {
                self.inner.registry.dismiss(id);
            }
        }
        if tokio::time::timeout(patience, self.inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.inner.tasks.len(),
                "calls still run; the next start takes them up"
            );
        }
        // Before the agents are ended: what that does to an attempt is not the call's fault.
        self.inner.registry.abandon();
    }
}

impl Inner {
    /// The lane of an agent that is deployed.
    pub(crate) fn lane(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Arc<Lane>, IngressError> {
        let Some(agent) = self.agents.find(workspace, name) else {
            let similar = self.agents.similar(workspace, name);
            return Err(IngressError::AgentNotFound {
                name: name.chars().take(64).collect(),
                similar,
            });
        };
        let id = agent.id();
        if let Some(lane) = self.known_lane(workspace, name, id) {
            return Ok(lane);
        }
        let mut lanes = self.lanes.write();
        let of_workspace = lanes.entry(workspace.clone()).or_default();
        if let Some(lane) = of_workspace.get(name).filter(|lane| lane.agent.id() == id) {
            return Ok(lane.clone());
        }
        // It went away since it was found: a lane made now would stay, and refuse the calls of the
        // agent when that comes back from another server.
        if agent.availability() == Availability::Removed {
            return Err(IngressError::AgentMoves);
        }
        let metrics = self.metrics.lane(workspace.as_str(), name);
        let lane = Arc::new(Lane::new(
            workspace.clone(),
            name.to_owned(),
            agent,
            metrics,
        ));
        of_workspace.insert(name.to_owned(), lane.clone());
        Ok(lane)
    }

    fn known_lane(&self, workspace: &Workspace, name: &str, id: AgentId) -> Option<Arc<Lane>> {
        let lanes = self.lanes.read();
        lanes
            .get(workspace)?
            .get(name)
            .filter(|lane| lane.agent.id() == id)
            .cloned()
    }

    /// Refuses what comes while the server ends.
    pub(crate) fn must_be_open(&self) -> Result<(), IngressError> {
        match self.closing.load(Ordering::Relaxed) {
            true => Err(IngressError::ShuttingDown),
            false => Ok(()),
        }
    }

    /// Whether a call that somebody waits for can be taken at all.
    pub(crate) fn must_be_able(
        &self,
        agent: &dyn Agent,
        asynchronous: bool,
    ) -> Result<(), IngressError> {
        let floor = self.disk_floor.load(Ordering::Relaxed);
        if floor > 0 {
            return Err(IngressError::DiskFull(floor));
        }
        match agent.availability() {
            Availability::Stopped if !asynchronous => Err(IngressError::AgentStopped),
            Availability::CrashLoop(reason) if !asynchronous => {
                Err(IngressError::AgentCrashLoop(reason.to_string()))
            }
            Availability::Removed => Err(IngressError::AgentStopped),
            _ => Ok(()),
        }
    }
}
