//! One agent's lane: how many calls run, which wait, and who may go next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use skep_core::{CallId, InstanceId, Timestamp, Workspace};
use tokio::sync::Notify;

use crate::agents::{Agent, Availability};
use crate::cache::Cache;
use crate::life::Life;
use crate::metrics::LaneMetrics;
use crate::policy::CallPolicy;
use crate::pool::{Place, Pool};
use crate::router::{Choice, Router, Verdict};
use crate::window::{Ended, Pace, Paces, Tally};

/// A call that was on this many attempts when the agent cut them off runs alone from then on: if
/// it is what kills the agent, nobody else's call dies with it.
const SUSPECT_AFTER: u32 = 2;

/// A call that waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) deadline: Timestamp,
    pub(crate) alone: bool,
    pub(crate) choice: Choice,
}

impl Waiting {
    pub(crate) fn of(life: &Life, choice: Choice) -> Self {
        Self {
            deadline: life.deadline,
            alone: life.crashes >= SUSPECT_AFTER,
            choice,
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
    pub(crate) cache: Cache,
    pub(crate) wake: Notify,
    /// Requests that are inside the door because of this agent.
    visitors: AtomicUsize,
    /// Whether the agent is about to go to another server: nobody new comes in.
    moving: AtomicBool,
    opened: Notify,
    state: Mutex<State>,
    router: Mutex<Router>,
    paces: Mutex<Paces>,
}

/// A request that is counted on an instance, from before it is sent until its answer has passed: as
/// long as this is there, the instance is not asked to end.
pub(crate) struct Held {
    pub(crate) lane: Arc<Lane>,
    pub(crate) place: Place,
    /// How it ended, as far as the instance is concerned.
    pub(crate) verdict: Verdict,
    /// Whether it was answered with a status of 5xx.
    pub(crate) bad: bool,
    began: Instant,
}

impl Drop for Held {
    fn drop(&mut self) {
        let instance = self.place.instance;
        let now = Instant::now();
        let mut router = self.lane.router.lock();
        let ejected = router.ended(instance, self.verdict, now);
        drop(router);
        if self.verdict != Verdict::Unknown {
            let request = Ended {
                instance,
                revision: self.place.revision,
                took: now.duration_since(self.began),
                failed: self.bad || self.verdict == Verdict::Failed,
            };
            self.lane.metrics.ended_on(&request);
            self.lane.paces.lock().add(&request, now);
        }
        if ejected {
            tracing::warn!(agent = self.lane.name, %instance, "failed again and again: it gets no calls for a while");
        }
        self.lane.agent.count(instance, -1);
    }
}

/// A request inside the door: as long as it is there, its agent stays on this server.
pub struct Visit(Arc<Lane>);

impl Visit {
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.0
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.visitors.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The right to run one call on the agent now.
pub(crate) struct Slot {
    pub(crate) held: Held,
    alone: bool,
}

impl Slot {
    /// Where it runs.
    pub(crate) fn place(&self) -> Place {
        self.held.place
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let lane = &self.held.lane;
        let mut state = lane.state.lock();
        state.running -= 1;
        if self.alone {
            state.alone = false;
        }
        if !state.queue.is_empty() {
            lane.wake.notify_one();
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
            cache: Cache::default(),
            wake: Notify::new(),
            visitors: AtomicUsize::new(0),
            moving: AtomicBool::new(false),
            opened: Notify::new(),
            state: Mutex::default(),
            router: Mutex::default(),
            paces: Mutex::new(Paces::new(Instant::now())),
        }
    }

    /// Lets a request in, unless the agent is about to go.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Visit> {
        let visit = Visit(self.clone());
        // Counted before looking: who closes the lane looks after closing.
        self.visitors.fetch_add(1, Ordering::SeqCst);
        (!self.is_moving()).then_some(visit)
    }

    fn is_moving(&self) -> bool {
        self.moving.load(Ordering::SeqCst)
    }

    /// Lets nobody in any more. False, and open again, when somebody is in or a call is there.
    pub(crate) fn shut(&self) -> bool {
        self.moving.store(true, Ordering::SeqCst);
        let state = self.state.lock();
        let busy = state.running > 0 || state.entering > 0 || !state.queue.is_empty();
        drop(state);
        let busy = busy || self.visitors.load(Ordering::SeqCst) > 0;
        if busy {
            self.open();
        }
        !busy
    }

    /// What began with [`Lane::shut`] is over.
    pub(crate) fn open(&self) {
        self.moving.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    /// Waits until the lane is open, or the agent has gone.
    pub(crate) async fn opened(&self) {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // Listening comes before looking.
            opened.as_mut().enable();
            if !self.is_moving() {
                return;
            }
            opened.await;
        }
    }

    /// Picks an instance and counts a request on it. `None`: no instance is ready.
    pub(crate) fn hold(self: &Arc<Self>, choice: Choice) -> Option<Held> {
        loop {
            let (endpoints, split) = match self.agent.availability() {
                Availability::Ready { endpoints, split } => (endpoints, split),
                Availability::Asleep => {
                    self.agent.wake();
                    return None;
                }
                _ => return None,
            };
            let (now, random) = (Instant::now(), fastrand::u64(..));
            let mut router = self.router.lock();
            let picked = router.pick(&endpoints, split, choice, now, random)?;
            drop(router);
            self.agent.count(picked.instance, 1);
            let held = Held {
                lane: self.clone(),
                place: Place {
                    instance: picked.instance,
                    address: picked.address,
                    revision: picked.revision,
                },
                verdict: Verdict::Unknown,
                bad: false,
                began: now,
            };
            // Looked at again after it was counted: an instance that is told to end meanwhile
            // waits for this one, or is not ready any more.
            if self.agent.is_ready(picked.instance) {
                return Some(held);
            }
        }
    }

    /// The revision that all instances run which take calls; `None` while there is more than one, or
    /// none at all. While the agent sleeps the last answers count.
    pub(crate) fn revision(&self) -> Option<u32> {
        match self.agent.availability() {
            Availability::Ready { endpoints, .. } => {
                let first = endpoints.first()?.revision;
                let same = endpoints.iter().all(|one| one.revision == first);
                same.then_some(first)
            }
            Availability::Asleep => Some(self.cache.revision()),
            _ => None,
        }
    }

    /// Instances that get no calls now because they failed again and again.
    pub(crate) fn ejected(&self) -> usize {
        self.router.lock().ejected(Instant::now())
    }

    /// Whether the queue has no room. Asked before a body is read; [`Lane::admit`] decides.
    pub(crate) fn is_full(&self, policy: &CallPolicy) -> bool {
        let state = self.state.lock();
        state.queue.len() as u64 + u64::from(state.entering) >= u64::from(policy.queue)
            && state.running >= policy.concurrency
    }

    /// Lets a new call run at once when nothing that is due waits before it, else keeps it a place.
    pub(crate) fn admit(
        self: &Arc<Self>,
        policy: &CallPolicy,
        choice: Choice,
        now: Timestamp,
    ) -> Admission {
        let held = self.hold(choice);
        let mut state = self.state.lock();
        let overtakes = state
            .queue
            .first_key_value()
            .is_some_and(|((due, _), _)| *due <= now);
        if let Some(held) = held
            && !overtakes
            && !state.alone
            && state.running < policy.concurrency
        {
            state.running += 1;
            return Admission::Run(Slot { held, alone: false });
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
        if !room {
            return Next::Sleep(state.next_deadline);
        }
        if due > now {
            return Next::Sleep(Some(state.next_deadline.map_or(due, |d| d.min(due))));
        }
        let Some(held) = self.hold(waiting.choice) else {
            return Next::Sleep(state.next_deadline);
        };
        state.queue.remove(&(due, id));
        state.running += 1;
        state.alone = waiting.alone;
        let alone = waiting.alone;
        Next::Run(id, waiting, Slot { held, alone })
    }

    /// How its requests went in the last minute: all, or those of one instance.
    pub(crate) fn pace(&self, instance: Option<InstanceId>) -> Pace {
        self.paces.lock().pace(instance, Instant::now())
    }

    /// How the requests of each revision went that had any in the last minute, oldest first.
    pub(crate) fn paces(&self) -> Vec<(u32, Pace)> {
        self.paces.lock().by_revision(Instant::now())
    }

    /// What ended since this was asked last, by revision.
    pub(crate) fn take_lately(&self) -> HashMap<u32, Tally> {
        self.paces.lock().take_lately()
    }

    /// What ended since it was taken.
    pub(crate) fn lately(&self) -> Vec<(u32, Tally)> {
        self.paces.lock().lately()
    }

    /// What was taken is to be taken again.
    pub(crate) fn give_back(&self, revision: u32, tally: &Tally) {
        self.paces.lock().give_back(revision, tally);
    }

    /// Requests that are counted on an instance now.
    pub(crate) fn in_flight_on(&self, instance: InstanceId) -> u64 {
        self.router.lock().in_flight(instance).into()
    }

    /// Calls that wait, and those that have a place and are not accepted yet.
    pub(crate) fn places(&self) -> u64 {
        let state = self.state.lock();
        state.queue.len() as u64 + u64::from(state.entering)
    }

    /// How many calls run and how many wait.
    pub(crate) fn load(&self) -> (u64, u64) {
        let state = self.state.lock();
        (u64::from(state.running), state.queue.len() as u64)
    }
}
