//! The door to runs in AG-UI: `POST /agents/{agent}/agui`. A run is carried by a durable call; its events are shown as they are
//! recorded, whatever becomes of attempts, and to who comes back behind what they saw.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use skep_api::{AgentSpec, CallState};
use skep_core::{CallId, Code, PublicError, RunId, Timestamp};
use skep_ingress::{Begun, Context, Follow, IngressError, Order, Told, Visit};
use skep_protocols::adapt::{Protocol, ask};
use skep_protocols::agui::{End, RunAgentInput};
use skep_protocols::stream::frame;
use skep_protocols::{EventId, Shown, View};
use skep_runs::{New, Runs, RunsError};
use skep_store::{Hash, Scope, StoreError};
use tokio::sync::mpsc::{Sender, channel};

use crate::channel::CheckedBody;
use crate::dispatch::Body;
use crate::models::{self, Bounds};
use crate::problem::ApiError;
use crate::state::State;

/// The path of the door, behind an agent's.
const PATH: &str = "/agui";
/// Frames that wait for a client.
const QUEUE: usize = 16;
/// After so long without an event a comment is sent: what stands between does not close what is silent.
const ALIVE: Duration = Duration::from_secs(15);
/// The id of a run, on its answers.
const RUN: HeaderName = HeaderName::from_static(skep_api::HEADER_RUN_ID);
/// Behind which event a client goes on.
const SEEN: HeaderName = HeaderName::from_static("last-event-id");
/// Bytes of the ids that clients give.
const MOST_ID: usize = 200;

/// Whether a request to an agent is for this door.
pub(crate) fn is_meant(method: &Method, target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    *method == Method::POST && path == PATH
}

fn invalid(detail: impl Into<String>) -> ApiError {
    ApiError::new(Code::BadRequest, detail)
}

impl From<RunsError> for ApiError {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::NotFound => Self::new(Code::NotFound, error.to_string()),
            RunsError::Store(error) => error.into(),
        }
    }
}

/// Reads what a client asks.
fn read(bytes: &[u8]) -> Result<RunAgentInput, ApiError> {
    let value = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("the body is no JSON: {error}")))?;
    let input = RunAgentInput::read(value).map_err(|error| invalid(error.to_string()))?;
    for (name, id) in [("threadId", &input.thread_id), ("runId", &input.run_id)] {
        if id.is_empty() || id.len() > MOST_ID || id.chars().any(char::is_control) {
            return Err(invalid(format!(
                "`{name}` has 1 to {MOST_ID} bytes, none of which is a control character"
            )));
        }
    }
    Ok(input)
}

/// What an agent speaks, by its specification.
fn protocol(spec: &AgentSpec) -> (&'static str, Protocol) {
    let word = spec.protocol.as_deref().unwrap_or("http");
    let known = Protocol::ALL.into_iter().find(|(name, _)| *name == word);
    // It was checked when it was deployed.
    known.unwrap_or(("http", Protocol::Http))
}

/// The call that a run is carried by.
fn order(spec: &AgentSpec, new: New) -> Result<Order, ApiError> {
    let (_, protocol) = protocol(spec);
    let asked = ask(protocol, &new.input);
    let mut headers = HeaderMap::new();
    for (name, value) in asked.headers {
        let value = HeaderValue::try_from(value);
        headers.insert(name, value.map_err(|_| invalid("an id cannot be sent"))?);
    }
    let mut named = Sha256::new();
    for id in [&new.input.thread_id, &new.input.run_id] {
        named.update((id.len() as u64).to_be_bytes());
        named.update(id);
    }
    let named = Hash::from_bytes(named.finalize().into());
    let (id, target) = (new.id, spec.endpoint.as_deref().unwrap_or(asked.path));
    let write = move |scope: &mut Scope<'_>,
                      call: CallId,
                      now: Timestamp|
          -> Result<(), StoreError> { Runs::begin(scope, &new, (call, now)) };
    Ok(Order {
        method: Method::POST,
        target: target.to_owned(),
        headers,
        body: asked.body.into(),
        run: id,
        // Of a client that sends its request twice there is one run.
        key: Some(format!("agui:{named}")),
        also: Arc::new(write),
    })
}

/// Begins a run, or goes on with one that this client has begun, and shows it.
pub(crate) async fn answer(
    state: &State,
    (context, visit): (Context, Visit),
    agent: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let behind = head.headers.get(SEEN).map(|it| {
        let id = it.to_str().ok().and_then(|it| it.parse::<EventId>().ok());
        id.ok_or_else(|| invalid("`Last-Event-ID` is not the id of an event of a run"))
    });
    let behind = behind.transpose()?;
    let bounds: &Bounds = &state.model_bounds;
    let input = read(&models::read(body, bounds).await?)?;
    let runs = Runs::new(state.db.clone());
    let workspace = context.workspace.clone();
    let target = state.runtime.target(&workspace, agent);
    let spec = target.ok_or_else(|| {
        ApiError::new(Code::AgentNotFound, format!("there is no agent `{agent}`"))
    })?;
    let spec = spec.spec();
    let new = New {
        id: RunId::new(),
        agent: agent.to_owned(),
        parent: None,
        protocol: protocol(&spec).0,
        input,
    };
    let (mut run, mut asked) = (new.id, new.input.clone());
    let order = order(&spec, new)?;
    let begun = state.ingress.begin(&context, visit, order).await?;
    let call = match begun {
        Begun::New(call) => call,
        Begun::Before(call) => {
            run = runs.of_call(&workspace, call).await?.id;
            (asked, _) = runs.asked(&workspace, run).await?;
            call
        }
    };
    let follow = state.ingress.follow(&workspace, call).await?;
    let (sender, receiver) = channel(QUEUE);
    let view = View::new(asked, behind);
    tokio::spawn(show(call, (follow, view), sender));
    let mut response = Response::new(Body::Api(axum::body::Body::new(CheckedBody(receiver))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, id) in [
        (RUN, run.to_string()),
        (
            HeaderName::from_static(skep_api::HEADER_CALL_ID),
            call.to_string(),
        ),
    ] {
        if let Ok(id) = HeaderValue::try_from(id) {
            headers.insert(name, id);
        }
    }
    Ok(response)
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

/// The frames of what is shown.
fn frames(shown: &[Shown]) -> Bytes {
    let one = |it: &Shown| frame(&it.event, it.id.map(|id| id.to_string()).as_deref());
    shown.iter().flat_map(one).collect()
}

/// Shows a run until its end, or until who follows it has gone.
async fn show(
    call: CallId,
    (mut follow, mut view): (Follow, View),
    sender: Sender<io::Result<Frame<Bytes>>>,
) {
    let mut shown = Ok(view.begin());
    loop {
        let frame = match shown {
            Ok(shown) if shown.is_empty() => None,
            Ok(shown) => Some(Ok(Frame::data(frames(&shown)))),
            // Half a run must not look whole.
            Err(why) => Some(Err(io::Error::other(why))),
        };
        let is_cut = frame.as_ref().is_some_and(Result::is_err);
        if let Some(frame) = frame
            && (sender.send(frame).await.is_err() || is_cut)
        {
            return;
        }
        let told = tokio::select! {
            told = tokio::time::timeout(ALIVE, follow.next()) => told,
            () = sender.closed() => return,
        };
        let told = match told {
            Ok(None) => return,
            Ok(Some(told)) => told,
            Err(_) => {
                let alive = Frame::data(Bytes::from_static(b": alive\n\n"));
                if sender.send(Ok(alive)).await.is_err() {
                    return;
                }
                shown = Ok(Vec::new());
                continue;
            }
        };
        shown = next(&mut view, told).map_err(|why| {
            tracing::debug!(%call, why, "a run is not shown to its end");
            why
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_speak_is_what_is_deployed() {
        let known = Protocol::ALL.map(|(name, _)| name);
        assert_eq!(known, skep_runtime::PROTOCOLS);
    }

    #[test]
    fn the_door_is_one_path() {
        for (method, target, meant) in [
            (Method::POST, "/agui", true),
            (Method::POST, "/agui?x=1", true),
            (Method::GET, "/agui", false),
            (Method::POST, "/agui/x", false),
            (Method::POST, "/x/agui", false),
        ] {
            assert_eq!(is_meant(&method, target), meant, "{method} {target}");
        }
    }
}
