//! Where an agent's calls can go now: what the call door sees of an agent. Cheap to look at.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use skep_api::AgentSpec;
use skep_core::{AgentId, InstanceId};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use crate::driver::Door;

/// Instances that are remembered as ended by us.
const MOST_ENDED: usize = 16;
/// Instances whose calls are counted, before those without any are forgotten.
const MOST_LOADS: usize = 4_096;
/// A call that ended so shortly before its agent did may have been the cause: the connection's end
/// is seen before the process's.
const AFTERMATH: Duration = Duration::from_secs(2);

/// One place that takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The instance.
    pub instance: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// The revision that it runs.
    pub revision: u32,
}

/// How calls are shared between a revision and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The revision.
    pub revision: u32,
    /// Its share in percent.
    pub weight: u8,
}

/// Whether an agent takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Ready {
        /// Where; never empty.
        endpoints: Arc<[Endpoint]>,
        /// How calls are shared; `None` is evenly.
        split: Option<Split>,
    },
    /// It will: it is starting, waits for its restart, or its probes fail.
    Waiting,
    /// It sleeps because nobody called for a while; [`Target::wake`] wakes it.
    Asleep,
    /// Its owner stopped it.
    Stopped,
    /// It failed too often; somebody must act.
    CrashLoop {
        /// Why.
        reason: Arc<str>,
    },
    /// There is no such agent any more.
    Removed,
}

/// The calls of one instance.
#[derive(Debug, Clone, Copy)]
struct Load {
    instance: InstanceId,
    in_flight: u64,
    last_end: Option<Instant>,
}

/// An agent as calls see it. It stays the same over revisions, restarts and stops.
#[derive(Debug)]
pub struct Target {
    id: AgentId,
    name: String,
    spec: RwLock<Arc<AgentSpec>>,
    availability: watch::Sender<Availability>,
    suspects: watch::Sender<Option<InstanceId>>,
    loads: Mutex<Vec<Load>>,
    /// The ways to the instances that run.
    doors: RwLock<Vec<(InstanceId, Door)>>,
    /// Told when an instance has no call any more.
    idle: Notify,
    /// Told when a call waits for an agent that sleeps.
    woken: Notify,
    /// The instances that were ended last, newest last.
    ended: RwLock<VecDeque<InstanceId>>,
}

impl Target {
    pub(crate) fn new(id: AgentId, name: String, spec: Arc<AgentSpec>) -> Self {
        Self {
            id,
            name,
            spec: RwLock::new(spec),
            availability: watch::Sender::new(Availability::Stopped),
            suspects: watch::Sender::new(None),
            loads: Mutex::default(),
            doors: RwLock::default(),
            idle: Notify::new(),
            woken: Notify::new(),
            ended: RwLock::default(),
        }
    }

    /// The agent's identifier.
    #[must_use]
    pub const fn id(&self) -> AgentId {
        self.id
    }

    /// The agent's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The specification of the current revision; the same `Arc` until the next deployment.
    #[must_use]
    pub fn spec(&self) -> Arc<AgentSpec> {
        self.spec.read().clone()
    }

    /// Whether the agent takes calls now, and how that changes.
    #[must_use]
    pub fn availability(&self) -> watch::Receiver<Availability> {
        self.availability.subscribe()
    }

    /// Whether the agent takes calls now.
    #[must_use]
    pub fn available(&self) -> Availability {
        self.availability.borrow().clone()
    }

    /// Whether this instance takes calls now.
    #[must_use]
    pub fn is_ready(&self, instance: InstanceId) -> bool {
        match &*self.availability.borrow() {
            Availability::Ready { endpoints, .. } => {
                endpoints.iter().any(|one| one.instance == instance)
            }
            _ => false,
        }
    }

    /// A call begins to run on this instance.
    pub fn call_begins(&self, instance: InstanceId) {
        let mut loads = self.loads.lock();
        match loads.iter_mut().find(|load| load.instance == instance) {
            Some(load) => load.in_flight += 1,
            None => {
                if loads.len() >= MOST_LOADS {
                    loads.retain(|load| load.in_flight > 0);
                }
                loads.push(Load {
                    instance,
                    in_flight: 1,
                    last_end: None,
                });
            }
        }
    }

    /// A call that began on this instance has ended, in whatever way.
    pub fn call_ends(&self, instance: InstanceId) {
        let mut loads = self.loads.lock();
        let Some(at) = loads.iter().position(|load| load.instance == instance) else {
            return;
        };
        let load = &mut loads[at];
        load.in_flight = load.in_flight.saturating_sub(1);
        load.last_end = Some(Instant::now());
        let idle = load.in_flight == 0;
        drop(loads);
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Calls that run on the agent now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.loads.lock().iter().map(|load| load.in_flight).sum()
    }

    /// Calls that run on this instance now.
    #[must_use]
    pub fn in_flight_on(&self, instance: InstanceId) -> u64 {
        self.load(instance).map_or(0, |load| load.in_flight)
    }

    fn load(&self, instance: InstanceId) -> Option<Load> {
        let loads = self.loads.lock();
        loads.iter().find(|load| load.instance == instance).copied()
    }

    /// Waits until no call runs on this instance.
    pub(crate) async fn drained(&self, instance: InstanceId) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            // Listening comes before looking, so that an end in between is heard.
            idle.as_mut().enable();
            if self.in_flight_on(instance) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// A call waits for the agent: one that sleeps is started.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits until a call asks for the agent.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// A connection to this instance was refused or cut: the supervisor probes at once.
    pub fn report_unreachable(&self, instance: InstanceId) {
        self.suspects.send_replace(Some(instance));
    }

    /// Whether this instance was ended by us: a stop, a restart, a deployment. What that does to a
    /// call is not the call's fault.
    #[must_use]
    pub fn was_ended(&self, instance: InstanceId) -> bool {
        self.ended.read().contains(&instance)
    }

    pub(crate) fn note_ended(&self, instance: InstanceId) {
        let mut ended = self.ended.write();
        if ended.len() >= MOST_ENDED {
            ended.pop_front();
        }
        ended.push_back(instance);
    }

    pub(crate) fn suspects(&self) -> watch::Receiver<Option<InstanceId>> {
        self.suspects.subscribe()
    }

    /// Whether a call may have had to do with an end of this instance that is seen now.
    pub(crate) fn was_busy(&self, instance: InstanceId) -> bool {
        self.load(instance).is_some_and(|load| {
            load.in_flight > 0 || load.last_end.is_some_and(|at| at.elapsed() < AFTERMATH)
        })
    }

    /// An instance runs, and this is the way to it.
    pub(crate) fn opened(&self, instance: InstanceId, door: Door) {
        self.doors.write().push((instance, door));
    }

    /// A new connection to an instance.
    ///
    /// # Errors
    /// Those of connecting; also when it has ended.
    pub async fn connect(&self, instance: InstanceId) -> io::Result<TcpStream> {
        let door = {
            let doors = self.doors.read();
            let found = doors.iter().find(|(one, _)| *one == instance);
            found.map(|(_, door)| door.clone())
        };
        match door {
            Some(door) => door.connect().await,
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the instance has ended",
            )),
        }
    }

    /// Forgets an instance that has ended. Calls that still say so of theirs find nothing.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.loads.lock().retain(|load| load.instance != instance);
        self.doors.write().retain(|(one, _)| *one != instance);
        self.idle.notify_waiters();
    }

    pub(crate) fn set_spec(&self, spec: Arc<AgentSpec>) {
        *self.spec.write() = spec;
    }

    pub(crate) fn set_availability(&self, now: Availability) {
        self.availability.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
