//! One agent's lane: how many calls run, which wait, and who may go next.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skep_core::{CallId, Timestamp, Workspace};
use tokio::sync::Notify;

use crate::agents::{Agent, Availability};
use crate::life::Life;
use crate::metrics::LaneMetrics;
use crate::policy::CallPolicy;
use crate::pool::{Place, Pool};

/// A call that was on this many attempts when the agent cut them off runs alone from then on: if
/// it is what kills the agent, nobody else's call dies with it.
const SUSPECT_AFTER: u32 = 2;

/// A call that waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) deadline: Timestamp,
    pub(crate) alone: bool,
}

impl Waiting {
    pub(crate) fn of(life: &Life) -> Self {
        Self {
            deadline: life.deadline,
            alone: life.crashes >= SUSPECT_AFTER,
        }
    }
}

#[derive(Default)]
struct State {
    running: u32,
    /// A call runs alone.
    alone: bool,
    /// Calls that are about to be accepted into the queue.
    entering: u32,
    queue: BTreeMap<(Timestamp, CallId), Waiting>,
    /// The earliest deadline of the queue, or earlier.
    next_deadline: Option<Timestamp>,
    dispatching: bool,
}

/// One agent's lane.
pub(crate) struct Lane {
    pub(crate) workspace: Workspace,
    pub(crate) name: String,
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) pool: Pool,
    pub(crate) metrics: LaneMetrics,
    pub(crate) wake: Notify,
    state: Mutex<State>,
}

/// The right to run one call on the agent now.
pub(crate) struct Slot {
    lane: Arc<Lane>,
    pub(crate) place: Place,
    alone: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lane.agent.count(-1);
        let mut state = self.lane.state.lock();
        state.running -= 1;
        if self.alone {
            state.alone = false;
        }
        if !state.queue.is_empty() {
            self.lane.wake.notify_one();
        }
    }
}

/// A place in the queue that is kept until its call is accepted.
pub(crate) struct Entry {
    lane: Arc<Lane>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.lane.state.lock().entering -= 1;
    }
}

/// What a new call gets.
pub(crate) enum Admission {
    /// It may run at once.
    Run(Slot),
    /// It waits.
    Wait(Entry),
    /// There is no room.
    Full,
}

/// What the lane's dispatcher does next.
pub(crate) enum Next {
    /// Run this call, which waited so.
    Run(CallId, Waiting, Slot),
    /// This call's deadline passed.
    Expire(CallId),
    /// Nothing until then, or until something changes.
    Sleep(Option<Timestamp>),
    /// Nothing waits; the dispatcher ends.
    Idle,
}

impl Lane {
    pub(crate) fn new(
        workspace: Workspace,
        name: String,
        agent: Arc<dyn Agent>,
        metrics: LaneMetrics,
    ) -> Self {
        Self {
            workspace,
            name,
            agent,
            metrics,
            pool: Pool::default(),
            wake: Notify::new(),
            state: Mutex::default(),
        }
    }

    fn place(&self) -> Option<Place> {
        match self.agent.availability() {
            Availability::Ready { instance, address } => Some(Place { instance, address }),
            _ => None,
        }
    }

    /// Whether the queue has no room. Asked before a body is read; [`Lane::admit`] decides.
    pub(crate) fn is_full(&self, policy: &CallPolicy) -> bool {
        let state = self.state.lock();
        state.queue.len() as u64 + u64::from(state.entering) >= u64::from(policy.queue)
            && state.running >= policy.concurrency
    }

    /// Lets a new call run at once when nothing that is due waits before it, else keeps it a place.
    pub(crate) fn admit(self: &Arc<Self>, policy: &CallPolicy, now: Timestamp) -> Admission {
        let place = self.place();
        let mut state = self.state.lock();
        let overtakes = state
            .queue
            .first_key_value()
            .is_some_and(|((due, _), _)| *due <= now);
        if let Some(place) = place
            && !overtakes
            && !state.alone
            && state.running < policy.concurrency
        {
            state.running += 1;
            drop(state);
            self.agent.count(1);
            return Admission::Run(Slot {
                lane: self.clone(),
                place,
                alone: false,
            });
        }
        if state.queue.len() as u64 + u64::from(state.entering) >= u64::from(policy.queue) {
            return Admission::Full;
        }
        state.entering += 1;
        Admission::Wait(Entry { lane: self.clone() })
    }

    /// Puts an accepted call into the queue. True when a dispatcher must be started.
    pub(crate) fn enqueue(&self, id: CallId, due: Timestamp, waiting: Waiting) -> bool {
        let mut state = self.state.lock();
        state.queue.insert((due, id), waiting);
        let deadline = state
            .next_deadline
            .map_or(waiting.deadline, |next| next.min(waiting.deadline));
        state.next_deadline = Some(deadline);
        self.wake.notify_one();
        !std::mem::replace(&mut state.dispatching, true)
    }

    /// The calls that wait.
    pub(crate) fn waiting(&self) -> Vec<CallId> {
        self.state.lock().queue.keys().map(|(_, id)| *id).collect()
    }

    /// Takes a call out of the queue.
    pub(crate) fn withdraw(&self, id: CallId) {
        self.state
            .lock()
            .queue
            .retain(|(_, waiting), _| *waiting != id);
    }

    /// What to do next.
    pub(crate) fn next(self: &Arc<Self>, policy: &CallPolicy, now: Timestamp) -> Next {
        let place = self.place();
        let mut state = self.state.lock();
        if state.next_deadline.is_some_and(|deadline| deadline <= now) {
            let late = state
                .queue
                .iter()
                .find(|(_, waiting)| waiting.deadline <= now)
                .map(|(key, _)| *key);
            if let Some(key) = late {
                state.queue.remove(&key);
                return Next::Expire(key.1);
            }
            state.next_deadline = state.queue.values().map(|waiting| waiting.deadline).min();
        }
        let Some((&(due, id), &waiting)) = state.queue.first_key_value() else {
            state.dispatching = false;
            state.next_deadline = None;
            return Next::Idle;
        };
        let room = match waiting.alone {
            true => state.running == 0,
            false => state.running < policy.concurrency && !state.alone,
        };
        match place {
            Some(place) if room && due <= now => {
                state.queue.remove(&(due, id));
                state.running += 1;
                state.alone = waiting.alone;
                drop(state);
                self.agent.count(1);
                Next::Run(
                    id,
                    waiting,
                    Slot {
                        lane: self.clone(),
                        place,
                        alone: waiting.alone,
                    },
                )
            }
            Some(_) if room => Next::Sleep(Some(state.next_deadline.map_or(due, |d| d.min(due)))),
            _ => Next::Sleep(state.next_deadline),
        }
    }

    /// How many calls run and how many wait.
    pub(crate) fn load(&self) -> (u64, u64) {
        let state = self.state.lock();
        (u64::from(state.running), state.queue.len() as u64)
    }
}
