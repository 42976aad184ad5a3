//! A journaled request from the client's side: read, accepted, waited for, answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Request as HttpRequest, Response, StatusCode};
use http_body::Body as _;
use http_body::Frame;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use skep_api::{Call, CallState};
use skep_core::{CallId, InstanceId, RequestId, Timestamp, Workspace};
use skep_store::{By, Hash, PinnedBlob, Scope, StoreError, Unit};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::agents::Availability;
use crate::body::{Body, BodyError};
use crate::headers::toward_agent;
use crate::journal::{Answer, NewCall, Request, find_by_key, insert};
use crate::lane::{Admission, Entry, Lane, Slot, Waiting};
use crate::life::{Event, Life};
use crate::listing;
use crate::live::{Live, Phase};
use crate::payload::receive;
use crate::policy::CallPolicy;
use crate::prefer::Wishes;
use crate::quota::{self, CallQuota};
use crate::recording::{Progress, Recording};
use crate::router::Choice;
use crate::run::{Running, affinity};
use crate::service::Inner;
use crate::{Context, IngressError};

/// Whether the call is new, as the accepting unit found.
pub(crate) enum Accepted {
    New,
    Known { id: CallId, state: CallState },
}

/// What is asked of an agent, as it has come.
pub(crate) struct Wanted {
    pub(crate) request: Arc<Request>,
    /// Held until the call's row is committed.
    pub(crate) pin: Option<PinnedBlob>,
    /// The same key gets the same answer.
    pub(crate) key: Option<String>,
    /// What is written with its acceptance.
    pub(crate) also: Option<Also>,
}

/// What is written in the unit that accepts a call.
pub type Also =
    Arc<dyn Fn(&mut Scope<'_>, CallId, Timestamp) -> Result<(), StoreError> + Send + Sync>;

/// A call that was taken in, or that was there already.
pub(crate) struct Taken {
    pub(crate) id: CallId,
    pub(crate) accepted: Accepted,
    shown: Call,
    phase: watch::Receiver<Phase>,
}

/// A new call with all that its acceptance needs.
struct Offer {
    id: CallId,
    by: By,
    lane: Arc<Lane>,
    policy: Arc<CallPolicy>,
    request_id: RequestId,
    request: Arc<Request>,
    also: Option<Also>,
    body_hash: Hash,
    fingerprint: Hash,
    key: Option<String>,
    life: Life,
    choice: Choice,
    slot: Option<Slot>,
    quota: CallQuota,
}

/// What a call holds on to until it is accepted or refused.
struct Held {
    live: Arc<Live>,
    entered: Entered,
    _pin: Option<PinnedBlob>,
    _entry: Option<Entry>,
}

/// A call's entry in the registry, taken back unless the call is accepted.
struct Entered {
    inner: Arc<Inner>,
    id: CallId,
    accepted: bool,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.accepted {
            self.inner.registry.forget(self.id);
        }
    }
}

impl Offer {
    /// The call as it will be accepted. What is known is not read back: nothing may fail after the
    /// acceptance that the client must not take for a refusal.
    fn shown(&self) -> Call {
        let state = match self.slot {
            Some(_) => CallState::Running,
            None => CallState::Accepted,
        };
        let at = self.life.due.to_string();
        Call {
            id: self.id.to_string(),
            agent: self.lane.name.clone(),
            state,
            method: self.request.method.to_string(),
            target: self.request.target.clone(),
            attempts: u32::from(self.slot.is_some()),
            status: None,
            reason: None,
            idempotency_key: self.key.clone(),
            replay_of: None,
            request_bytes: self.request.body.size,
            response_bytes: None,
            accepted_at: at.clone(),
            due_at: None,
            deadline_at: self.life.deadline.to_string(),
            started_at: self.slot.as_ref().map(|_| at),
            finished_at: None,
            instance: self
                .slot
                .as_ref()
                .map(|slot| slot.place().instance.to_string()),
            history: Vec::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }

    /// The accepting unit: the call that holds the same key, or this one.
    fn write(
        &self,
        unit: &mut Unit<'_>,
        instance: Option<InstanceId>,
    ) -> Result<Accepted, IngressError> {
        let mut scope = unit.scope(&self.lane.workspace);
        if let Some(key) = &self.key
            && let Some(holder) = find_by_key(&mut scope, &self.lane.name, key)?
        {
            if holder.fingerprint != self.fingerprint {
                return Err(IngressError::IdempotencyKeyReused(holder.id));
            }
            return Ok(Accepted::Known {
                id: holder.id,
                state: holder.state,
            });
        }
        quota::count(
            &mut scope,
            &self.quota,
            self.request.body.size,
            self.life.due,
        )?;
        insert(
            &mut scope,
            &NewCall {
                by: &self.by,
                body_hash: self.body_hash,
                id: self.id,
                agent: &self.lane.name,
                life: &self.life,
                instance,
                request: &self.request,
                fingerprint: self.fingerprint,
                key: self.key.as_deref(),
                request_id: self.request_id,
                replay_of: None,
                now: self.life.due,
            },
        )?;
        if let Some(also) = &self.also {
            also(&mut scope, self.id, self.life.due)?;
        }
        Ok(Accepted::New)
    }
}

/// What makes two requests the same: method, target and body.
fn fingerprint(request: &Request, body: Hash) -> Hash {
    let mut hasher = Sha256::new();
    for part in [
        request.method.as_str().as_bytes(),
        request.target.as_bytes(),
    ] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.update(body.as_bytes());
    Hash::from_bytes(hasher.finalize().into())
}

impl Inner {
    /// Takes a call in and answers it as the client wishes.
    pub(crate) async fn call(
        self: &Arc<Self>,
        lane: Arc<Lane>,
        policy: Arc<CallPolicy>,
        context: Context,
        target: &str,
        request: HttpRequest<Incoming>,
    ) -> Result<Response<Body>, IngressError> {
        let wishes = Wishes::read(request.headers())?;
        self.must_be_able(lane.agent.as_ref(), wishes.asynchronous)?;
        if request.body().size_hint().lower() > self.limits.body {
            return Err(IngressError::BodyTooLarge(self.limits.body));
        }
        if lane.is_full(&policy) {
            return Err(IngressError::QueueFull(policy.queue));
        }
        let (request, pin) = self.receive(&context, target, request).await?;
        // While the body came in, the server may have begun to end, and the agent may have been
        // stopped, removed or deployed anew.
        self.must_be_open()?;
        let lane = self.lane(&context.workspace, &lane.name)?;
        let policy = lane.agent.policy();
        self.must_be_able(lane.agent.as_ref(), wishes.asynchronous)?;
        let wanted = Wanted {
            request,
            pin,
            key: wishes.key.clone(),
            also: None,
        };
        let taken = self.take((lane, policy), &context, wanted).await?;
        let (id, phase) = (taken.id, taken.phase);
        match taken.accepted {
            Accepted::New if wishes.asynchronous && wishes.wait.is_none() => {
                Ok(accepted(&taken.shown))
            }
            Accepted::New => {
                self.respond(&context.workspace, id, phase, &wishes, false)
                    .await
            }
            Accepted::Known { id, state } => {
                self.join(&context.workspace, id, state, &wishes).await
            }
        }
    }

    /// Takes a call in: when this returns, it is durable.
    pub(crate) async fn take(
        self: &Arc<Self>,
        (lane, policy): (Arc<Lane>, Arc<CallPolicy>),
        context: &Context,
        wanted: Wanted,
    ) -> Result<Taken, IngressError> {
        let Wanted {
            request,
            pin,
            key,
            also,
        } = wanted;
        // Here, and not on the thread that writes for all calls.
        let body_hash = request.body.hash();
        let fingerprint = key.as_ref().map(|_| fingerprint(&request, body_hash));
        let now = self.db.clock().now();
        let life = Life::accepted(now, now.plus(policy.deadline));
        let choice = Choice::by(affinity(&policy, &request.headers));
        let (slot, entry) = match lane.admit(&policy, choice, now) {
            Admission::Run(slot) => (Some(slot), None),
            Admission::Wait(entry) => (None, Some(entry)),
            Admission::Full => return Err(IngressError::QueueFull(policy.queue)),
        };
        let quota = self.allowed(&context.workspace, entry.is_some())?;
        let id = context.call.unwrap_or_else(CallId::new);
        let offer = Offer {
            id,
            by: context.by.clone(),
            lane,
            policy,
            request_id: context.request_id,
            request,
            also,
            body_hash,
            // Without a key nobody compares it.
            fingerprint: fingerprint.unwrap_or(Hash::from_bytes([0; 32])),
            key,
            life,
            choice,
            slot,
            quota,
        };
        let shown = offer.shown();
        let live = self.registry.enter(id);
        let phase = live.watch();
        let entered = Entered {
            inner: self.clone(),
            id,
            accepted: false,
        };
        let held = Held {
            live,
            entered,
            _pin: pin,
            _entry: entry,
        };
        let (told, outcome) = oneshot::channel();
        self.accept(offer, held, told).await?;
        // Without a word the store was closed before it came to this call.
        let accepted = outcome.await.unwrap_or(Err(StoreError::Closed.into()))?;
        Ok(Taken {
            id,
            accepted,
            shown,
            phase,
        })
    }

    async fn receive(
        &self,
        context: &Context,
        target: &str,
        request: HttpRequest<Incoming>,
    ) -> Result<(Arc<Request>, Option<PinnedBlob>), IngressError> {
        let (mut head, body) = request.into_parts();
        toward_agent(&mut head.headers, context);
        let blobs = self.db.blobs();
        let received = receive(
            blobs,
            &context.workspace,
            body,
            self.limits.body,
            self.limits.body_pause,
            &self.held,
        )
        .await?;
        let request = Request {
            method: head.method,
            target: target.to_owned(),
            headers: head.headers,
            body: received.payload,
            trailers: received.trailers,
            run: None,
        };
        Ok((Arc::new(request), received.pin))
    }

    /// Hands the call to the journal. What follows is done as soon as it is durable, whether the
    /// client still waits or not; `told` hears how it went.
    async fn accept(
        self: &Arc<Self>,
        mut offer: Offer,
        mut held: Held,
        told: oneshot::Sender<Result<Accepted, IngressError>>,
    ) -> Result<(), IngressError> {
        let slot = offer.slot.take();
        if slot.is_some() {
            let begin = Event::Begin {
                epoch: self.db.epoch(),
            };
            let begun = offer.life.step(&begin, &offer.policy, offer.life.due, 0.0);
            // An accepted call that is due may begin.
            offer.life = begun.map_err(|_| IngressError::Store(StoreError::Closed))?;
        }
        let instance = slot.as_ref().map(|slot| slot.place().instance);
        let offer = Arc::new(offer);
        let (written, inner) = (offer.clone(), self.clone());
        let runtime = Handle::current();
        let then = move |accepted: Result<Accepted, IngressError>| {
            // The writer's thread has no runtime of its own.
            let _runtime = runtime.enter();
            if matches!(accepted, Ok(Accepted::New)) {
                held.entered.accepted = true;
                inner.go_on(&offer, slot, held.live.clone());
            } else if let Err(IngressError::Store(StoreError::Doubtful(_))) = &accepted {
                let workspace = offer.lane.workspace.clone();
                inner.refused.lock().insert(offer.id);
                tokio::spawn(inner.take_back(workspace, offer.id));
            }
            drop(held);
            // The client may have left.
            let _ = told.send(accepted);
        };
        let submitted = self
            .db
            .submit(move |unit| written.write(unit, instance), then);
        Ok(submitted.await?)
    }

    /// What follows the acceptance: the call runs, or it waits.
    fn go_on(self: &Arc<Self>, offer: &Arc<Offer>, slot: Option<Slot>, live: Arc<Live>) {
        offer.lane.metrics.accepted.inc();
        match slot {
            Some(slot) => self.spawn_run(Running {
                id: offer.id,
                lane: offer.lane.clone(),
                policy: offer.policy.clone(),
                life: offer.life.clone(),
                slot,
                request: offer.request.clone(),
                live,
                accepted: offer.life.due,
                began: offer.life.due,
            }),
            None => {
                let waiting = Waiting::of(&offer.life, offer.choice);
                self.enqueue(&offer.lane, offer.id, waiting, offer.life.due);
            }
        }
        // The removal cancels what is accepted by then; this one came after it.
        if offer.lane.agent.availability() == Availability::Removed {
            let (inner, workspace) = (self.clone(), offer.lane.workspace.clone());
            let id = offer.id;
            self.tasks.spawn(async move {
                if let Err(error) = inner.step(&inner.own, &workspace, id, Event::Cancel).await {
                    tracing::warn!(call = %id, %error, "a call of a removed agent stays open");
                }
                let gone = Phase::Ended(IngressError::CallCancelled(id));
                inner.registry.finish(id, gone);
            });
        }
    }

    /// Puts an accepted call into its lane's queue.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        id: CallId,
        waiting: Waiting,
        due: Timestamp,
    ) {
        if lane.enqueue(id, due, waiting) {
            self.spawn_dispatcher(lane.clone());
        }
        if self.closing.load(Ordering::Relaxed) {
            self.registry.dismiss(id);
        }
    }

    /// Answers for a call that another request has begun.
    async fn join(
        self: &Arc<Self>,
        workspace: &Workspace,
        id: CallId,
        state: CallState,
        wishes: &Wishes,
    ) -> Result<Response<Body>, IngressError> {
        if !state.is_final()
            && wishes.wait.is_some_and(|wait| wait.is_zero())
            && !wishes.asynchronous
        {
            return Err(IngressError::CallInProgress(id));
        }
        let phase = self.watch(workspace, id).await?;
        self.respond(workspace, id, phase, wishes, true).await
    }

    /// What a call's client is told, from the live side or from the journal.
    pub(crate) async fn watch(
        &self,
        workspace: &Workspace,
        id: CallId,
    ) -> Result<watch::Receiver<Phase>, IngressError> {
        // Entered before the journal is read, so that an end in between is not missed.
        let live = self.registry.enter(id);
        let of = workspace.clone();
        let read: Result<_, StoreError> = self
            .db
            .read(move |reader| {
                let mut scope = reader.scope(&of);
                let standing = crate::journal::find(&mut scope, id)?;
                let answer = crate::journal::load_answer(&mut scope, id)?;
                Ok((standing, answer))
            })
            .await;
        let outcome = match read {
            Err(error) => Err(error.into()),
            Ok((None, _)) => Err(IngressError::CallNotFound),
            // It runs after the next start only.
            Ok((Some(standing), _))
                if standing.life.state == CallState::Accepted
                    && self.closing.load(Ordering::Relaxed) =>
            {
                Err(IngressError::ShuttingDown)
            }
            Ok((Some(standing), _)) if !standing.life.state.is_final() => {
                return Ok(live.watch());
            }
            Ok((Some(_), Some(answer))) => Ok(Phase::Answered(Arc::new(answer))),
            Ok((Some(standing), None)) => Ok(Phase::Ended(ended(id, &standing.life))),
        };
        self.registry.leave(id, live);
        Ok(watch::Sender::new(outcome?).subscribe())
    }

    /// Waits as the client wishes and answers.
    pub(crate) async fn respond(
        self: &Arc<Self>,
        workspace: &Workspace,
        id: CallId,
        mut phase: watch::Receiver<Phase>,
        wishes: &Wishes,
        replayed: bool,
    ) -> Result<Response<Body>, IngressError> {
        let patience = match (wishes.asynchronous, wishes.wait) {
            (true, None) => Some(std::time::Duration::ZERO),
            (true, Some(wait)) => Some(wait),
            (false, _) => None,
        };
        let enough = |phase: &Phase| match phase {
            Phase::Waiting => false,
            // Who does not want to wait does not want to listen either.
            Phase::Streaming(_) => !wishes.asynchronous,
            Phase::Answered(_) | Phase::Ended(_) => true,
        };
        let told = async {
            match phase.wait_for(enough).await {
                Ok(phase) => phase.clone(),
                Err(_) => Phase::Ended(IngressError::Store(StoreError::Closed)),
            }
        };
        let told = match patience {
            None => told.await,
            Some(patience) => match tokio::time::timeout(patience, told).await {
                Ok(told) => told,
                Err(_) => return self.accepted(workspace, id).await,
            },
        };
        let mut response = match told {
            Phase::Answered(answer) => self.answered(workspace, &answer).await?,
            Phase::Streaming(recording) => follow(&recording, 0),
            // Who did not mean to wait for the end knows where to look for it.
            Phase::Ended(IngressError::ShuttingDown) if wishes.asynchronous => {
                return self.accepted(workspace, id).await;
            }
            Phase::Ended(error) => return Err(error),
            Phase::Waiting => return Err(IngressError::Store(StoreError::Closed)),
        };
        mark(response.headers_mut(), id, replayed);
        Ok(response)
    }

    /// 202 with the call as it stands.
    pub(crate) async fn accepted(
        &self,
        workspace: &Workspace,
        id: CallId,
    ) -> Result<Response<Body>, IngressError> {
        let of = workspace.clone();
        let call = self
            .db
            .read(move |reader| -> Result<_, IngressError> {
                listing::detail(&mut reader.scope(&of), id)?.ok_or(IngressError::CallNotFound)
            })
            .await?;
        Ok(accepted(&call))
    }

    pub(crate) async fn answered(
        &self,
        workspace: &Workspace,
        answer: &Answer,
    ) -> Result<Response<Body>, IngressError> {
        let body = Body::stored(
            self.db.blobs(),
            workspace,
            &answer.body,
            answer.trailers.clone(),
        )
        .await?;
        Ok(response(answer.status, &answer.headers, body))
    }
}

/// 202 with a call as it stands.
fn accepted(call: &Call) -> Response<Body> {
    let mut response = Response::new(Body::full(skep_api::to_json(call).into()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        "preference-applied",
        HeaderValue::from_static("respond-async"),
    );
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/calls/{}", call.id)) {
        headers.insert(LOCATION, location);
    }
    if let Ok(id) = HeaderValue::try_from(&call.id) {
        headers.insert(skep_api::HEADER_CALL_ID, id);
    }
    response
}

fn mark(headers: &mut HeaderMap, id: CallId, replayed: bool) {
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        headers.insert(skep_api::HEADER_CALL_ID, value);
    }
    // An agent's own word on this does not count.
    headers.remove(skep_api::HEADER_REPLAYED);
    if replayed {
        headers.insert(skep_api::HEADER_REPLAYED, HeaderValue::from_static("true"));
    }
}

/// What the client of a call that ended without an answer is told.
pub(crate) fn ended(id: CallId, life: &Life) -> IngressError {
    match life.state {
        CallState::Cancelled => IngressError::CallCancelled(id),
        CallState::Expired => IngressError::CallExpired(id),
        CallState::Dead => IngressError::CallDead {
            call: id,
            reason: life.reason.clone().unwrap_or_default(),
        },
        other => IngressError::CallState {
            call: id,
            state: other.as_str(),
        },
    }
}

/// An agent's answer as it goes out. The length is the body's own affair.
pub(crate) fn response(status: u16, headers: &HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = headers.clone();
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

/// Shows a recording from a position on, while it grows.
pub(crate) fn follow(recording: &Arc<Recording>, from: u64) -> Response<Body> {
    let length = recording.length.map(|length| length.saturating_sub(from));
    let (sender, body) = Body::channel(length);
    let response = response(recording.status, &recording.headers, body);
    tokio::spawn(send_recording(recording.clone(), from, sender));
    response
}

async fn send_recording(
    recording: Arc<Recording>,
    mut position: u64,
    sender: mpsc::Sender<Result<Frame<Bytes>, BodyError>>,
) {
    let mut progress = recording.progress.subscribe();
    loop {
        let now = progress.borrow_and_update().clone();
        let end = match &now {
            // With the last byte of a known length the client has everything: that one waits until
            // it is on disk.
            Progress::Coming(end) => match recording.length {
                Some(length) => (*end).min(length.saturating_sub(1)),
                None => *end,
            },
            Progress::Whole(end, _) => *end,
            Progress::CutOff => {
                let _ = sender.send(Err(BodyError::CutOff)).await;
                return;
            }
        };
        while position < end {
            let read = recording.read(position, end).await;
            let is_cut = read.as_ref().map_or(true, Bytes::is_empty);
            position += read.as_ref().map_or(0, |bytes| bytes.len() as u64);
            let frame = read.map(Frame::data).map_err(BodyError::from);
            if sender.send(frame).await.is_err() || is_cut {
                return;
            }
        }
        if let Progress::Whole(_, trailers) = now {
            if let Some(trailers) = trailers {
                let _ = sender.send(Ok(Frame::trailers(trailers))).await;
            }
            return;
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

/// The moment that an accepted call began to wait, for its duration.
pub(crate) fn elapsed_s(now: Timestamp, since: Timestamp) -> f64 {
    now.since(since).as_secs_f64()
}
