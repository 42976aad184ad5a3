//! Where an agent's calls can go now: what the call door sees of an agent. Cheap to look at.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use skep_api::AgentSpec;
use skep_core::{AgentId, InstanceId};
use tokio::sync::watch;

/// Instances that are remembered as ended by us.
const MOST_ENDED: usize = 16;
/// A call that ended so shortly before its agent did may have been the cause: the connection's end
/// is seen before the process's.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Whether an agent takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It does, here.
    Ready {
        /// The instance.
        instance: InstanceId,
        /// Where it listens.
        address: SocketAddr,
        /// The revision that it runs.
        revision: u32,
    },
    /// It will: it is starting, waits for its restart, or its probes fail.
    Waiting,
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

/// An agent as calls see it. It stays the same over revisions, restarts and stops.
#[derive(Debug)]
pub struct Target {
    id: AgentId,
    name: String,
    spec: RwLock<Arc<AgentSpec>>,
    availability: watch::Sender<Availability>,
    suspects: watch::Sender<Option<InstanceId>>,
    in_flight: AtomicU64,
    /// The instances that were ended last, newest last.
    ended: RwLock<VecDeque<InstanceId>>,
    /// Milliseconds after `began` at which a call last ended, plus one; 0 for never.
    last_end: AtomicU64,
    began: Instant,
}

impl Target {
    pub(crate) fn new(id: AgentId, name: String, spec: Arc<AgentSpec>) -> Self {
        Self {
            id,
            name,
            spec: RwLock::new(spec),
            availability: watch::Sender::new(Availability::Stopped),
            suspects: watch::Sender::new(None),
            in_flight: AtomicU64::new(0),
            ended: RwLock::default(),
            last_end: AtomicU64::new(0),
            began: Instant::now(),
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

    /// A call begins to run on the agent.
    pub fn call_begins(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// A call that began has ended, in whatever way.
    pub fn call_ends(&self) {
        // Before the count goes down, so that nobody sees neither.
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last_end.store(now + 1, Ordering::Release);
        let less = |count: u64| count.checked_sub(1);
        let _ = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Calls that run on the agent now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
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

    /// Whether a call may have had to do with an end that is seen now.
    pub(crate) fn was_busy(&self) -> bool {
        if self.in_flight() > 0 {
            return true;
        }
        let Some(last) = self.last_end.load(Ordering::Acquire).checked_sub(1) else {
            return false;
        };
        self.began
            .elapsed()
            .saturating_sub(Duration::from_millis(last))
            < AFTERMATH
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
