//! Running a call: attempts under their leases, and what becomes of the call after each.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use skep_api::CallState;
use skep_core::{CallId, Timestamp};
use skep_store::{StoreError, Unit};
use tokio::sync::oneshot;

use crate::attempt::{Attempt, Complete};
use crate::call::{elapsed_s, ended};
use crate::journal::{self, Brings, Request, Standing};
use crate::lane::{Lane, Next, Slot, Waiting};
use crate::life::{End, Event, Lease, Life};
use crate::live::{Live, Phase};
use crate::policy::{CallPolicy, Durability};
use crate::recording::{CutOffOnDrop, Progress};
use crate::router::{Choice, Verdict};
use crate::service::Inner;
use crate::spans::{AttemptSpan, Beginning, Ending};

/// The wait before a result that the store did not take is offered again.
const STORE_WAIT: Duration = Duration::from_millis(500);

/// A call whose attempt holds the lease.
pub(crate) struct Running {
    pub(crate) id: CallId,
    pub(crate) lane: Arc<Lane>,
    pub(crate) policy: Arc<CallPolicy>,
    pub(crate) life: Life,
    pub(crate) slot: Slot,
    pub(crate) request: Arc<Request>,
    pub(crate) live: Arc<Live>,
    pub(crate) accepted: Timestamp,
    pub(crate) began: Timestamp,
}

impl Running {
    fn standing(&self) -> Standing {
        Standing {
            id: self.id,
            agent: self.lane.name.clone(),
            life: self.life.clone(),
            instance: Some(self.slot.place().instance),
            started: Some(self.began),
            run: self.request.run,
        }
    }
}

/// How an attempt's task ended.
enum Outcome {
    Complete(Box<Complete>),
    Failed(End),
    /// Somebody ended the call meanwhile and told its clients.
    Stopped,
    Late,
}

impl Outcome {
    /// The word for it in metrics and traces.
    const fn word(&self) -> &'static str {
        match self {
            Self::Complete(_) | Self::Failed(End::Answered { .. }) => "answered",
            Self::Failed(End::Undelivered(_)) => "undelivered",
            Self::Failed(End::Cut(_)) => "cut",
            Self::Failed(End::Broken(_)) => "broken",
            Self::Failed(End::Unrecorded(_)) => "unrecorded",
            Self::Failed(End::Ordered(_)) => "ordered",
            Self::Stopped => "stopped",
            Self::Late => "expired",
        }
    }

    /// What it says of the instance.
    const fn verdict(&self) -> Verdict {
        match self {
            Self::Complete(_) | Self::Failed(End::Answered { .. }) => Verdict::Well,
            Self::Failed(End::Undelivered(_) | End::Cut(_) | End::Broken(_)) => Verdict::Failed,
            Self::Failed(End::Unrecorded(_) | End::Ordered(_)) | Self::Stopped | Self::Late => {
                Verdict::Unknown
            }
        }
    }

    fn ending(&self) -> Ending<'_> {
        let (status, reason) = match self {
            Self::Complete(complete) => (Some(complete.answer.status), None),
            Self::Failed(End::Answered { status, .. }) => (Some(*status), None),
            Self::Failed(
                End::Undelivered(reason)
                | End::Cut(reason)
                | End::Broken(reason)
                | End::Unrecorded(reason)
                | End::Ordered(reason),
            ) => (None, Some(reason.as_str())),
            Self::Stopped | Self::Late => (None, None),
        };
        Ending {
            end: self.word(),
            status,
            reason,
        }
    }
}

impl Inner {
    pub(crate) fn spawn_run(self: &Arc<Self>, running: Running) {
        let inner = self.clone();
        self.tasks.spawn(async move { inner.run(running).await });
    }

    async fn run(self: Arc<Self>, mut running: Running) {
        let outcome = self.attempt(&running).await;
        running.slot.held.verdict = outcome.verdict();
        running.slot.held.bad = outcome.ending().status.is_some_and(|status| status >= 500);
        let word = outcome.word();
        let lane = running.lane.clone();
        let now = self.db.clock().now();
        lane.metrics
            .attempt_seconds
            .observe(elapsed_s(now, running.began));
        match outcome {
            Outcome::Stopped => lane.metrics.attempt(word),
            Outcome::Late => {
                lane.metrics.attempt(word);
                let id = running.id;
                drop(running);
                self.expire(&lane, id).await;
            }
            Outcome::Complete(complete) => {
                self.complete(running, *complete).await;
            }
            Outcome::Failed(end) => {
                lane.metrics.attempt(word);
                self.failed(running, end).await;
            }
        }
    }

    fn begin_span(&self, running: &Running) -> Option<Box<dyn AttemptSpan>> {
        let place = running.slot.place();
        self.spans.clone()?.begin(&Beginning {
            call: running.id,
            agent: &running.lane.name,
            number: running.life.attempt,
            instance: place.instance,
            address: place.address,
            method: &running.request.method,
            target: &running.request.target,
            headers: &running.request.headers,
        })
    }

    async fn attempt(&self, running: &Running) -> Outcome {
        let span = self.begin_span(running);
        let attempt = Attempt {
            lane: &running.lane,
            blobs: self.db.blobs(),
            id: running.id,
            number: running.life.attempt,
            place: running.slot.place(),
            live: &running.live,
            agents: &*self.agents,
            idle: running.policy.idle_timeout,
            answer_limit: self.limits.answer,
            traceparent: span.as_ref().and_then(|span| span.traceparent()),
        };
        let left = running.life.deadline.since(self.db.clock().now());
        let work = async {
            tokio::select! {
                () = running.live.stop.cancelled() => Outcome::Stopped,
                done = attempt.run(&running.request) => match done {
                    Ok(complete) => Outcome::Complete(Box::new(complete)),
                    Err(End::Cut(_)) if running.lane.agent.was_ended(running.slot.place().instance) => {
                        Outcome::Failed(End::Ordered("the instance was ended".to_owned()))
                    }
                    Err(end) => Outcome::Failed(end),
                },
            }
        };
        let outcome = tokio::time::timeout(left, work)
            .await
            .unwrap_or(Outcome::Late);
        if let Some(span) = span {
            span.end(&outcome.ending());
        }
        outcome
    }

    /// The agent answered: the machine says whether that ends the call.
    async fn complete(self: &Arc<Self>, running: Running, complete: Complete) {
        let status = complete.answer.status;
        let end = End::Answered {
            status,
            retry_after: complete.retry_after,
        };
        let after = self.after(&running, &end);
        if !matches!(after.state, CallState::Succeeded | CallState::Failed) {
            drop(CutOffOnDrop(complete.recording));
            running.lane.metrics.attempt("retry_status");
            self.moved(running, after, end).await;
            return;
        }
        running.lane.metrics.attempt("answered");
        if running.policy.cache.is_some() && (200..400).contains(&status) {
            running.lane.cache.changed(&running.request.target);
        }
        let Complete {
            answer,
            pin,
            recording,
            summary,
            ..
        } = complete;
        let answer = Arc::new(answer);
        let whole = Progress::Whole(answer.body.size, answer.trailers.clone());
        if running.policy.durability == Durability::Relaxed {
            if let Some(recording) = &recording {
                recording.progress.send_replace(whole.clone());
            }
            running.live.tell(Phase::Answered(answer.clone()));
        }
        let (row, accepted, lane, id) = (
            running.standing(),
            running.accepted,
            running.lane.clone(),
            running.id,
        );
        // The agent is free for the next call while the disk takes the result.
        drop(running.slot);
        let (settled, next) = (answer.clone(), after.clone());
        let (inner, of, shown) = (self.clone(), lane.clone(), recording.clone());
        let tell = move || {
            of.metrics.ended(after.state.as_str());
            let took = elapsed_s(inner.db.clock().now(), accepted);
            of.metrics.call_seconds.observe(took);
            if let Some(recording) = &shown {
                recording.progress.send_replace(whole.clone());
            }
            inner.registry.finish(id, Phase::Answered(answer.clone()));
        };
        // Here, and not on the thread that writes for all calls.
        let (own, hash) = (self.own.clone(), settled.body.hash());
        let agents = self.agents.clone();
        let took = self
            .persist(
                move |scope, now| {
                    let brings = Brings::Answer(&settled, hash, summary.as_deref());
                    journal::apply(&*agents, scope, &row, &next, &brings, (&own, now))
                },
                tell,
                &lane,
            )
            .await;
        drop(pin);
        if took != Some(true) {
            drop(CutOffOnDrop(recording));
            self.overtaken(&lane, id).await;
        }
    }

    async fn failed(self: &Arc<Self>, running: Running, end: End) {
        tracing::debug!(call = %running.id, agent = running.lane.name, attempt = running.life.attempt, ?end, "attempt ended");
        let after = self.after(&running, &end);
        self.moved(running, after, end).await;
    }

    fn after(&self, running: &Running, end: &End) -> Life {
        let lease = Lease {
            attempt: running.life.attempt,
            epoch: running.life.epoch,
        };
        let event = Event::End {
            lease,
            end: end.clone(),
        };
        let now = self.db.clock().now();
        let step = running
            .life
            .step(&event, &running.policy, now, fastrand::f64());
        // The machine refuses an end only to who does not hold the lease, and this holds it.
        step.unwrap_or_else(|_| running.life.clone())
    }

    /// The attempt did not end the call with an answer: it goes on later, or it is dead.
    async fn moved(self: &Arc<Self>, running: Running, after: Life, end: End) {
        let (row, accepted, lane, id) = (
            running.standing(),
            running.accepted,
            running.lane.clone(),
            running.id,
        );
        running.live.tell(Phase::Waiting);
        // Who waits keeps the call's live side; without anybody it is made again when it runs.
        let live = running.live.clone();
        let choice = Choice {
            avoid: Some(running.slot.place().instance),
            key: affinity(&running.policy, &running.request.headers),
        };
        drop(running);
        let next = after.clone();
        let (agents, own) = (self.agents.clone(), self.own.clone());
        let took = self
            .persist(
                move |scope, now| {
                    let brings = Brings::End(&end);
                    journal::apply(&*agents, scope, &row, &next, &brings, (&own, now))
                },
                || (),
                &lane,
            )
            .await;
        match took {
            Some(true) if after.state == CallState::Accepted => {
                self.registry.leave(id, live);
                self.enqueue(&lane, id, Waiting::of(&after, choice), after.due);
            }
            Some(true) => {
                lane.metrics.ended(after.state.as_str());
                lane.metrics
                    .call_seconds
                    .observe(elapsed_s(self.db.clock().now(), accepted));
                tracing::warn!(call = %id, agent = lane.name, reason = after.reason, "call is dead");
                self.registry.finish(id, Phase::Ended(ended(id, &after)));
            }
            _ => self.overtaken(&lane, id).await,
        }
    }

    /// Somebody else was first: what the journal says is what the clients are told.
    async fn overtaken(&self, lane: &Lane, id: CallId) {
        match self.watch(&lane.workspace, id).await {
            Ok(phase) => {
                let phase = phase.borrow().clone();
                if !matches!(phase, Phase::Waiting) {
                    self.registry.finish(id, phase);
                }
            }
            Err(error) => self.registry.finish(id, Phase::Ended(error)),
        }
    }

    /// Writes until the store takes it. `None`: the store is closed, and the next start decides.
    /// `done` is called on the writer's thread as soon as the change is durable.
    async fn persist<F, D>(&self, change: F, done: D, lane: &Lane) -> Option<bool>
    where
        F: Fn(&mut skep_store::Scope<'_>, Timestamp) -> Result<bool, StoreError>
            + Clone
            + Send
            + 'static,
        D: FnOnce() + Clone + Send + 'static,
    {
        loop {
            let (change, done) = (change.clone(), done.clone());
            let workspace = lane.workspace.clone();
            let work = move |unit: &mut Unit<'_>| {
                let now = unit.now();
                change(&mut unit.scope(&workspace), now)
            };
            let (told, outcome) = oneshot::channel();
            let then = move |took: Result<bool, StoreError>| {
                if matches!(took, Ok(true)) {
                    done();
                }
                let _ = told.send(took);
            };
            let written = match self.db.submit(work, then).await {
                Ok(()) => outcome.await.unwrap_or(Err(StoreError::Closed)),
                Err(error) => Err(error),
            };
            match written {
                Ok(took) => return Some(took),
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    if !error.is_retryable() {
                        tracing::error!(agent = lane.name, %error, "a call's change was not written");
                    }
                    tokio::time::sleep(STORE_WAIT).await;
                }
            }
        }
    }

    /// Ends a call whose deadline passed.
    pub(crate) async fn expire(self: &Arc<Self>, lane: &Arc<Lane>, id: CallId) {
        let workspace = lane.workspace.clone();
        let policy = lane.agent.policy();
        let done = loop {
            let (workspace, policy) = (workspace.clone(), policy.clone());
            let (own, agents) = (self.own.clone(), self.agents.clone());
            let result: Result<_, StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    let mut scope = unit.scope(&workspace);
                    let expire = Event::Expire;
                    let happened = journal::happen(
                        &*agents,
                        &mut scope,
                        id,
                        &expire,
                        &policy,
                        &Brings::Nothing,
                        (&own, now),
                    )?;
                    Ok(happened.and_then(Result::ok))
                })
                .await;
            match result {
                Ok(done) => break done,
                Err(StoreError::Closed) => return,
                Err(_) => tokio::time::sleep(STORE_WAIT).await,
            }
        };
        match done {
            Some(after) => {
                lane.metrics.ended(after.state.as_str());
                self.registry.finish(id, Phase::Ended(ended(id, &after)));
            }
            None => self.overtaken(lane, id).await,
        }
    }

    /// Starts the task that lets waiting calls go when they may. It ends when none waits.
    pub(crate) fn spawn_dispatcher(self: &Arc<Self>, lane: Arc<Lane>) {
        let inner = self.clone();
        tokio::spawn(async move { inner.dispatch(lane).await });
    }

    async fn dispatch(self: Arc<Self>, lane: Arc<Lane>) {
        loop {
            if self.closing.load(std::sync::atomic::Ordering::Relaxed) {
                // Those that wait are durable; the next start takes them up.
                return;
            }
            let changed = lane.agent.changed();
            let now = self.db.clock().now();
            match lane.next(&lane.agent.policy(), now) {
                Next::Run(id, waiting, slot) => {
                    let (inner, lane) = (self.clone(), lane.clone());
                    self.tasks
                        .spawn(async move { inner.begin(lane, id, waiting, slot).await });
                }
                Next::Expire(id) => {
                    let (inner, lane) = (self.clone(), lane.clone());
                    self.tasks
                        .spawn(async move { inner.expire(&lane, id).await });
                }
                Next::Idle => return,
                Next::Sleep(until) => {
                    let pause = until.map(|until| until.since(now));
                    tokio::select! {
                        () = lane.wake.notified() => {}
                        () = changed => {}
                        () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
                    }
                }
            }
        }
    }

    /// Takes the lease of a call that waited, and runs it.
    async fn begin(self: Arc<Self>, lane: Arc<Lane>, id: CallId, waiting: Waiting, slot: Slot) {
        let policy = lane.agent.policy();
        let (epoch, instance) = (self.db.epoch(), slot.place().instance);
        let mut doubtful = false;
        let begun = loop {
            let (workspace, rules) = (lane.workspace.clone(), policy.clone());
            let (own, agents) = (self.own.clone(), self.agents.clone());
            let begun: Result<_, StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    let mut scope = unit.scope(&workspace);
                    let (begin, brings) = (Event::Begin { epoch }, Brings::Begin(instance));
                    let by = (&own, now);
                    let happened =
                        journal::happen(&*agents, &mut scope, id, &begin, &rules, &brings, by)?;
                    let life = match happened {
                        Some(Ok(life)) => life,
                        // Nobody else begins it: this is what was written when it was in doubt.
                        Some(Err(CallState::Running)) if doubtful => {
                            match journal::find(&mut scope, id)? {
                                Some(found) if found.life.epoch == epoch => found.life,
                                _ => return Ok(None),
                            }
                        }
                        _ => return Ok(None),
                    };
                    let request = journal::load_request(&mut scope, id)?;
                    Ok(request.map(|request| (life, request, now)))
                })
                .await;
            doubtful |= begun.as_ref().is_err_and(StoreError::is_doubtful);
            match begun {
                Err(error) if doubtful && error.is_retryable() => {
                    tokio::time::sleep(STORE_WAIT).await;
                }
                begun => break begun,
            }
        };
        match begun {
            Ok(Some((life, request, now))) => {
                let live = self.registry.enter(id);
                let request = Arc::new(request);
                let accepted = created(id);
                self.run(Running {
                    id,
                    lane,
                    policy,
                    life,
                    slot,
                    request,
                    live,
                    accepted,
                    began: now,
                })
                .await;
            }
            // It was cancelled or purged while it waited.
            Ok(None) => {}
            Err(StoreError::Closed) => {}
            Err(error) => {
                tracing::warn!(call = %id, %error, "the lease was not written");
                let due = self.db.clock().now().plus(STORE_WAIT);
                if lane.enqueue(id, due, waiting) {
                    self.spawn_dispatcher(lane.clone());
                }
            }
        }
    }
}

/// The number by which a request finds its instance again, when the agent's calls do so.
pub(crate) fn affinity(policy: &CallPolicy, headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(policy.affinity.as_ref()?)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(value.as_bytes());
    Some(hasher.finish())
}

/// The millisecond in which a call's identifier was made, which is that of its acceptance.
fn created(id: CallId) -> Timestamp {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.as_bytes()[..6]);
    Timestamp::from_micros(
        i64::try_from(u64::from_be_bytes(millis))
            .unwrap_or(0)
            .saturating_mul(1000),
    )
}
