//! Runs, whatever door they are asked for by: how one begins, and how it is followed. A run is carried by a durable call; its
//! events are shown as they are recorded, whatever becomes of attempts, and to who comes back behind what they saw.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response};
use http_body::Frame;
use sha2::{Digest, Sha256};
use skep_api::{AgentSpec, CallState, RunStatus};
use skep_core::config::Settings;
use skep_core::{CallId, Code, PublicError, RunId, Timestamp, Workspace};
use skep_guard::{Principal, PrincipalKind};
use skep_ingress::{Begun, Context, Follow, IngressError, Order, Told, Visit};
use skep_protocols::adapt::{Protocol, ask};
use skep_protocols::agui::{End, Interrupt, Message, RunAgentInput};
use skep_protocols::stream::frame;
use skep_protocols::{EventId, Shown, View};
use skep_runs::{Kept, New, Push, Run, Runs, RunsError};
use skep_store::{Hash, Scope, StoreError};
use tokio::sync::mpsc::{Sender, channel};

use crate::channel::CheckedBody;
use crate::dispatch::Body;
use crate::problem::ApiError;
use crate::state::State;

/// Frames that wait for a client.
const QUEUE: usize = 16;
/// After so long without an event a comment is sent: what stands between does not close what is silent.
const ALIVE: Duration = Duration::from_secs(15);
/// How often is looked for runs that ended long ago.
const SWEEP: Duration = Duration::from_secs(60 * 60);
/// Behind which event a client goes on.
const SEEN: HeaderName = HeaderName::from_static("last-event-id");
/// The id of a run: on its answers; and on a request of an agent, in which of its runs it asks.
const RUN: HeaderName = HeaderName::from_static(skep_api::HEADER_RUN_ID);
const CALL: HeaderName = HeaderName::from_static(skep_api::HEADER_CALL_ID);
/// Bytes of the ids that clients give.
pub(crate) const MOST_ID: usize = 200;

/// What runs may take.
pub(crate) struct Bounds {
    /// Agents that may have asked one another when one more is asked.
    depth: usize,
    /// How long what they came to is kept.
    kept: Duration,
}

impl Bounds {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            depth: usize::try_from(settings.runs_depth).unwrap_or(usize::MAX),
            kept: settings.runs_retention,
        }
    }
}

fn invalid(detail: impl Into<String>) -> ApiError {
    ApiError::new(Code::BadRequest, detail)
}

impl From<RunsError> for ApiError {
    fn from(error: RunsError) -> Self {
        let code = match &error {
            RunsError::Store(_) => None,
            RunsError::NotFound("thread") => Some(Code::ThreadNotFound),
            RunsError::NotFound(_) => Some(Code::RunNotFound),
            RunsError::Taken(_) | RunsError::Busy => Some(Code::ThreadState),
        };
        match (code, error) {
            (Some(code), error) => Self::new(code, error.to_string()),
            (None, RunsError::Store(error)) => error.into(),
            (None, error) => Self::new(Code::Internal, error.to_string()),
        }
    }
}

/// A principal, as runs and threads name whose they are.
pub(crate) fn whose(principal: &Principal) -> String {
    format!("{}:{}", principal.kind.as_str(), principal.id)
}

/// An id that a client gives.
pub(crate) fn check_id(name: &str, id: &str) -> Result<(), ApiError> {
    if id.is_empty() || id.len() > MOST_ID || id.chars().any(char::is_control) {
        return Err(invalid(format!(
            "`{name}` has 1 to {MOST_ID} bytes, none of which is a control character"
        )));
    }
    Ok(())
}

/// One key of several texts.
pub(crate) fn key(door: &str, parts: &[&str]) -> String {
    let mut named = Sha256::new();
    for part in parts {
        named.update((part.len() as u64).to_be_bytes());
        named.update(part);
    }
    let named = Hash::from_bytes(named.finalize().into());
    format!("{door}:{named}")
}

/// The key of an answer to what a run waits for: whoever answers by whatever door, it is answered once.
pub(crate) fn answer_key(run: &Run) -> String {
    key("answer", &[&run.id.to_string()])
}

/// Behind which event a client wants to go on.
pub(crate) fn seen(headers: &HeaderMap) -> Result<Option<EventId>, ApiError> {
    let Some(value) = headers.get(SEEN) else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|it| it.parse().ok());
    let wrong = || invalid("`Last-Event-ID` is not the id of an event of a run");
    id.map(Some).ok_or_else(wrong)
}

/// What an agent speaks, by its specification.
fn protocol(spec: &AgentSpec) -> (&'static str, Protocol) {
    let word = spec.protocol.as_deref().unwrap_or("http");
    let known = Protocol::ALL.into_iter().find(|(name, _)| *name == word);
    // It was checked when it was deployed.
    known.unwrap_or(("http", Protocol::Http))
}

/// What somebody wants of an agent.
pub(crate) struct Wish<'a> {
    /// Who.
    pub(crate) asker: &'a Principal,
    /// Of which agent.
    pub(crate) agent: &'a str,
    /// What.
    pub(crate) input: RunAgentInput,
    /// The same of the same asker is one run.
    pub(crate) key: String,
    /// The first run of the task that it goes on with.
    pub(crate) task: Option<RunId>,
    /// Its id, where the door has given one.
    pub(crate) id: Option<RunId>,
    /// The headers of the request.
    pub(crate) headers: &'a HeaderMap,
    /// Where the asker is told what becomes of it.
    pub(crate) push: Option<Push>,
}

/// A run that was begun, now or before.
pub(crate) struct Started {
    pub(crate) run: RunId,
    pub(crate) call: CallId,
    /// What was asked when it began.
    pub(crate) input: RunAgentInput,
}

/// In which of its runs an agent asks another one.
///
/// # Errors
/// When it is no run of its own that is under way, when it would be in itself, or too deep.
async fn parent(state: &State, wish: &Wish<'_>) -> Result<Option<RunId>, ApiError> {
    let Some(value) = wish.headers.get(RUN) else {
        return Ok(None);
    };
    if wish.asker.kind != PrincipalKind::Agent {
        return Ok(None);
    }
    let refused = |why: String| ApiError::new(Code::DelegationRefused, why);
    let id = value.to_str().ok().and_then(|it| it.parse().ok());
    let id: RunId = id.ok_or_else(|| invalid("`Skep-Run-Id` is not the id of a run"))?;
    let most = state.run_bounds.depth;
    let chain = state.runs().chain(&wish.asker.workspace, id, most).await;
    let chain = match chain {
        Ok(chain) => chain,
        Err(RunsError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let own = |run: &Run| *run.agent == *wish.asker.id && run.status == RunStatus::Running;
    if !chain.first().is_some_and(own) {
        return Err(refused(format!(
            "{id} is no run of this agent that is under way"
        )));
    }
    if chain.iter().any(|run| run.agent == wish.agent) {
        let agents: Vec<&str> = chain.iter().rev().map(|run| run.agent.as_str()).collect();
        return Err(refused(format!(
            "`{}` is asked in a run of its own: {}",
            wish.agent,
            agents.join(" asked ")
        )));
    }
    if chain.len() >= most {
        return Err(refused(format!(
            "{most} agents have asked one another already"
        )));
    }
    Ok(Some(id))
}

/// Begins a run, or finds the one that the same asker has begun with the same key.
///
/// # Errors
/// As of any call, and where `parent` says no.
pub(crate) async fn begin(
    state: &State,
    (context, visit): (&Context, Visit),
    wish: Wish<'_>,
) -> Result<Started, ApiError> {
    let (workspace, agent) = (&context.workspace, wish.agent);
    let parent = parent(state, &wish).await?;
    let target = state.runtime.target(workspace, agent).ok_or_else(|| {
        ApiError::new(Code::AgentNotFound, format!("there is no agent `{agent}`"))
    })?;
    let spec = target.spec();
    let (word, protocol) = protocol(&spec);
    let asked = ask(protocol, &wish.input);
    let mut headers = HeaderMap::new();
    for (name, value) in asked.headers {
        let value = HeaderValue::try_from(value);
        headers.insert(name, value.map_err(|_| invalid("an id cannot be sent"))?);
    }
    let new = New {
        id: wish.id.unwrap_or_else(RunId::new),
        agent: agent.to_owned(),
        whose: whose(wish.asker),
        parent,
        task: wish.task,
        protocol: word,
        input: wish.input.clone(),
        push: wish.push,
    };
    let run = new.id;
    let write = move |scope: &mut Scope<'_>,
                      call: CallId,
                      now: Timestamp|
          -> Result<(), StoreError> { Runs::begin(scope, &new, (call, now)) };
    let order = Order {
        method: Method::POST,
        target: spec.endpoint.as_deref().unwrap_or(asked.path).to_owned(),
        headers,
        body: asked.body.into(),
        run,
        key: Some(wish.key),
        also: Arc::new(write),
    };
    match state.ingress.begin(context, visit, order).await? {
        Begun::New(call) => Ok(Started {
            run,
            call,
            input: wish.input,
        }),
        Begun::Before(call) => {
            let run = state.runs().of_call(workspace, call).await?.id;
            let (input, _) = state.runs().asked(workspace, run).await?;
            Ok(Started { run, call, input })
        }
    }
}

/// Follows one run, whatever carries it now.
pub(crate) struct Watch {
    call: CallId,
    view: View,
    from: Source,
    begun: bool,
}

/// Where what is shown comes from.
enum Source {
    Call(Follow),
    /// The call is not kept any more, and this is what is left.
    Kept(Vec<Shown>),
    Nothing,
}

/// What is kept as JSON; nothing where nothing is.
pub(crate) fn kept_json<T: serde::de::DeserializeOwned + Default>(
    bytes: Option<Vec<u8>>,
) -> Result<T, StoreError> {
    let Some(bytes) = bytes else {
        return Ok(T::default());
    };
    let wrong = |_| StoreError::Statement("what a run came to cannot be read".to_owned());
    serde_json::from_slice(&bytes).map_err(wrong)
}

/// What is shown of a run whose call is not kept any more.
fn left(view: &mut View, run: &Run, kept: Kept) -> Result<Vec<Shown>, ApiError> {
    let messages: Vec<Message> = kept_json(kept.messages)?;
    let end = match run.status {
        RunStatus::Running | RunStatus::Finished | RunStatus::Interrupted => End::Finished,
        RunStatus::Cancelled => End::Cancelled,
        RunStatus::Failed => {
            let (code, message) = run.error.clone().unwrap_or_default();
            End::Failed { code, message }
        }
    };
    let mut shown = view.begin();
    let interrupts: Vec<Interrupt> = run.interrupts.clone();
    let said = (messages, kept_json(kept.state)?);
    let rest = view.kept(said, (kept_json(kept.result)?, interrupts), end);
    shown.extend(rest.map_err(|why| ApiError::new(Code::Internal, why.to_string()))?);
    Ok(shown)
}

impl Watch {
    /// Follows a run from its beginning, or from behind an event that was seen.
    ///
    /// # Errors
    /// The store's own.
    pub(crate) async fn of(
        state: &State,
        workspace: &Workspace,
        started: &Started,
        behind: Option<EventId>,
    ) -> Result<Self, ApiError> {
        let mut view = View::new(started.input.clone(), behind);
        let from = match state.ingress.follow(workspace, started.call).await {
            Ok(follow) => Source::Call(follow),
            Err(IngressError::CallNotFound) => {
                let run = state.runs().show(workspace, started.run).await?;
                let kept = state.runs().kept(workspace, started.run).await?;
                Source::Kept(left(&mut view, &run, kept)?)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            call: started.call,
            view,
            from,
            begun: false,
        })
    }

    /// What is shown at once; nothing, the second time.
    pub(crate) fn begin(&mut self) -> Vec<Shown> {
        match &mut self.from {
            _ if std::mem::replace(&mut self.begun, true) => Vec::new(),
            Source::Call(_) => self.view.begin(),
            Source::Kept(shown) => std::mem::take(shown),
            Source::Nothing => Vec::new(),
        }
    }

    /// What is shown next, as soon as there is something; none when all was. It may be given up while it waits, and nothing is
    /// lost.
    ///
    /// # Errors
    /// Why nothing is shown any more, though the run has not ended.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<Shown>, String>> {
        self.shown(false).await
    }

    /// What is shown next of what there is already; none when nothing is left of that.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub(crate) async fn now(&mut self) -> Option<Result<Vec<Shown>, String>> {
        self.shown(true).await
    }

    async fn shown(&mut self, only_now: bool) -> Option<Result<Vec<Shown>, String>> {
        loop {
            let Source::Call(follow) = &mut self.from else {
                return None;
            };
            // That an attempt begins shows nothing: each time it is asked anew whether there is more.
            if only_now && !follow.is_behind() {
                return None;
            }
            let Some(told) = follow.next().await else {
                self.from = Source::Nothing;
                return None;
            };
            let shown = next(&mut self.view, told);
            if let Err(why) = &shown {
                tracing::debug!(call = %self.call, why, "a run is not shown to its end");
                self.from = Source::Nothing;
                return Some(shown);
            }
            if shown.as_ref().is_ok_and(|shown| !shown.is_empty()) {
                return Some(shown);
            }
        }
    }

    /// What the run has come to, as far as was shown.
    pub(crate) const fn view(&self) -> &View {
        &self.view
    }
}

/// How a run ends whose call ended without an answer.
fn end(error: &IngressError) -> Option<End> {
    match error {
        IngressError::CallCancelled(_) => Some(End::Cancelled),
        // It goes on, and the client comes again.
        IngressError::ShuttingDown | IngressError::Store(_) => None,
        other => Some(End::Failed {
            code: other.code().as_str().to_owned(),
            message: other.detail(),
        }),
    }
}

/// What is shown of what is told of a call; or why nothing is any more.
fn next(view: &mut View, told: Told) -> Result<Vec<Shown>, String> {
    let shown = match told {
        Told::Begins => Ok(view.attempt()),
        Told::Bytes(bytes) => view.push(&bytes),
        // Its recorder has ended it.
        Told::Whole => view.end(End::Finished),
        Told::Ended(error) => match end(&error) {
            Some(end) => view.end(end),
            None => return Err(error.detail()),
        },
    };
    shown.map_err(|why| why.to_string())
}

/// How the call of a run has ended, as runs are told.
pub(crate) fn ended<'a>(
    state: CallState,
    reason: Option<&'a str>,
    summary: Option<&'a [u8]>,
) -> skep_runs::Ended<'a> {
    use skep_runs::Ended;
    let without = |code: Code| Ended::Without {
        code: code.as_str(),
        message: reason.unwrap_or_default(),
    };
    match (state, summary) {
        (CallState::Accepted | CallState::Running, _) => Ended::Anew,
        (_, Some(summary)) => Ended::Said(summary),
        (CallState::Cancelled, None) => Ended::Cancelled,
        (CallState::Expired, None) => without(Code::CallExpired),
        (CallState::Dead | CallState::Succeeded | CallState::Failed, None) => {
            without(Code::CallDead)
        }
    }
}

/// The frames of what is shown in AG-UI.
fn events(shown: &[Shown]) -> Bytes {
    let one = |it: &Shown| frame(&it.event, it.id.map(|id| id.to_string()).as_deref());
    shown.iter().flat_map(one).collect()
}

/// How what is shown is written.
pub(crate) trait Write: Send + 'static {
    /// What is written of what is shown. Perhaps nothing.
    fn write(&mut self, shown: &[Shown], view: &View) -> Bytes;

    /// Whether nothing more is written, though the run may go on.
    fn is_over(&self) -> bool {
        false
    }
}

/// As AG-UI has it.
pub(crate) struct Agui;

impl Write for Agui {
    fn write(&mut self, shown: &[Shown], _: &View) -> Bytes {
        events(shown)
    }
}

/// A stream of server-sent events of a run: until its end, or until who follows it has gone.
pub(crate) fn stream(watch: Watch, write: impl Write) -> Response<Body> {
    let (sender, receiver) = channel(QUEUE);
    tokio::spawn(send(watch, write, sender));
    let mut response = Response::new(Body::Api(axum::body::Body::new(CheckedBody(receiver))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Leaves the ids of a run on an answer.
pub(crate) fn tell(headers: &mut HeaderMap, started: &Started) {
    for (name, id) in [
        (RUN, started.run.to_string()),
        (CALL, started.call.to_string()),
    ] {
        if let Ok(id) = HeaderValue::try_from(id) {
            headers.insert(name, id);
        }
    }
}

async fn send(mut watch: Watch, mut write: impl Write, sender: Sender<io::Result<Frame<Bytes>>>) {
    let mut shown = Some(Ok(watch.begin()));
    while let Some(now) = shown {
        let frame = match now {
            Ok(now) => Ok(write.write(&now, watch.view())),
            // Half a run must not look whole.
            Err(why) => Err(io::Error::other(why)),
        };
        let is_empty = frame.as_ref().is_ok_and(Bytes::is_empty);
        let is_cut = frame.is_err();
        if !is_empty && (sender.send(frame.map(Frame::data)).await.is_err() || is_cut) {
            return;
        }
        if write.is_over() {
            return;
        }
        shown = loop {
            let next = tokio::select! {
                next = tokio::time::timeout(ALIVE, watch.next()) => next,
                () = sender.closed() => return,
            };
            match next {
                Ok(next) => break next,
                Err(_) => {
                    let alive = Frame::data(Bytes::from_static(b": alive\n\n"));
                    if sender.send(Ok(alive)).await.is_err() {
                        return;
                    }
                }
            }
        };
    }
}

/// Forgets runs and threads that ended long ago, while this server leads the others.
pub(crate) async fn keep(state: Arc<State>) {
    let mut looks = tokio::time::interval(SWEEP);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = state.stop.cancelled() => return,
        }
        if !state.peers.leads() {
            continue;
        }
        let before = state.db.clock().now().minus(state.run_bounds.kept);
        for workspace in state.tenants.all().all().iter() {
            match state.runs().sweep(workspace, before).await {
                Ok(0) => {}
                Ok(gone) => tracing::debug!(%workspace, gone, "old runs are forgotten"),
                Err(error) => tracing::warn!(%workspace, %error, "old runs are not forgotten"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_speak_is_what_is_deployed() {
        let known = Protocol::ALL.map(|(name, _)| name);
        assert_eq!(known, skep_runtime::PROTOCOLS);
    }

    #[test]
    fn a_key_tells_its_parts_apart() {
        assert_ne!(key("a", &["x", "yz"]), key("a", &["xy", "z"]));
        assert_ne!(key("a", &["x"]), key("b", &["x"]));
        assert_eq!(key("a", &["x"]), key("a", &["x"]));
    }
}
