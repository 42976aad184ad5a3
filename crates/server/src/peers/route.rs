//! Which server answers a request: this one, or the one that has the agent that it is about.

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use skep_core::{Code, Workspace};
use skep_ingress::IngressError;
use tokio::time::Instant;

use super::forward::{Failed, MOST_HOPS, Sender, Sent, recognise};
use super::{Peer, Place, TAKEOVER, share};
use crate::dispatch::Body;
use crate::problem::ApiError;
use crate::state::State;

/// The largest body that is read to see which agent it is about: that of a deployment.
const MOST_BODY: usize = 2 << 20;

/// What became of a request.
pub(crate) enum Routed {
    /// Another server answered.
    Answered(Response<Incoming>),
    /// It is for this server.
    Here(Request<Sent>),
    /// The connection to this server broke when perhaps some of it was sent.
    Lost(Peer, String),
}

/// What a request is about.
enum About {
    /// An agent that there is.
    Agent(String),
    /// An agent that may be new.
    Deployment(String),
    /// Nothing that only one server knows.
    Anything,
}

/// Sends a request of the management API to the server that has its agent, when that is another.
pub(crate) async fn api(
    state: &State,
    sender: &Sender,
    request: Request<Incoming>,
) -> Result<Routed, ApiError> {
    let (about, request) = about(state, &sender.workspace, request).await?;
    let (agent, new) = match about {
        About::Agent(agent) => (agent, false),
        About::Deployment(agent) => (agent, true),
        About::Anything => return Ok(Routed::Here(request)),
    };
    match pass_on(state, sender, &agent, request, new).await? {
        Routed::Lost(_, reason) => Err(elsewhere(&agent, &reason)),
        routed => Ok(routed),
    }
}

fn elsewhere(agent: &str, why: &str) -> ApiError {
    let detail = format!("`{agent}` is on another server: {why}");
    ApiError::new(Code::AgentElsewhere, detail)
}

/// What became of a call whose server was lost: the answer that whoever took it over has, as soon as
/// there is one, or that it was accepted when that is all that the client wanted to know.
pub(crate) async fn follow(
    state: &State,
    sender: &Sender,
    agent: &str,
    asynchronous: bool,
    (lost, why): (Peer, String),
) -> Result<Response<Body>, ApiError> {
    let (workspace, id) = (&sender.workspace, sender.call);
    let until = Instant::now() + TAKEOVER;
    loop {
        // Looked at before the journal: what a server that is gone has not written it never does.
        let gone = !state.peers.lives(lost.epoch);
        match state.ingress.show(workspace, id).await {
            Ok(_) if asynchronous => {
                let receipt = state.ingress.receipt(workspace, id).await?;
                return Ok(receipt.map(Body::Door));
            }
            Ok(call)
                if call.state.is_final() || state.runtime.target(workspace, agent).is_some() =>
            {
                let answer = state.ingress.attach(workspace, id, None, true);
                return Ok(answer.await?.map(Body::Door));
            }
            Err(IngressError::CallNotFound) if gone => {
                return Err(elsewhere(
                    agent,
                    &format!("{why}; it did not accept the call"),
                ));
            }
            _ => {}
        }
        if Instant::now() >= until {
            let why = format!("{why}; if it accepted the call, it is {id}");
            return Err(elsewhere(agent, &why));
        }
        state.peers.looked().await;
    }
}

async fn about(
    state: &State,
    workspace: &Workspace,
    request: Request<Incoming>,
) -> Result<(About, Request<Sent>), ApiError> {
    let path = request.uri().path();
    let mut segments = path.split('/').skip(3);
    let kind = segments.next().unwrap_or_default();
    let (one, action) = (segments.next(), segments.next());
    let about = match (kind, one, action) {
        ("agents", Some(agent), _) => About::Agent(agent.to_owned()),
        ("agents", None, _) if request.method() == Method::POST => {
            return deployment(request).await;
        }
        ("calls", Some(id), Some("response" | "cancel" | "replay" | "redrive")) => {
            let call = match id.parse() {
                Ok(id) => state.ingress.show(workspace, id).await.ok(),
                Err(_) => None,
            };
            call.map_or(About::Anything, |call| About::Agent(call.agent))
        }
        ("runs", Some(id), Some("events" | "cancel" | "fork")) => {
            let run = match id.parse() {
                Ok(id) => state.runs().show(workspace, id).await.ok(),
                Err(_) => None,
            };
            run.map_or(About::Anything, |run| About::Agent(run.agent))
        }
        ("calls", Some("redrive"), None) => {
            let query = request.uri().query().unwrap_or_default();
            let agent = query
                .split('&')
                .find_map(|part| part.strip_prefix("agent="));
            agent.map_or(About::Anything, |agent| About::Agent(agent.to_owned()))
        }
        _ => About::Anything,
    };
    Ok((about, request.map(Either::Left)))
}

async fn deployment(request: Request<Incoming>) -> Result<(About, Request<Sent>), ApiError> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MOST_BODY).collect().await;
    let body = body.map_err(
        |error| match error.is::<http_body_util::LengthLimitError>() {
            true => ApiError::new(Code::BodyTooLarge, "the JSON body is over 2 MiB"),
            false => ApiError::new(Code::BadRequest, "the body broke off or is malformed"),
        },
    )?;
    let body = body.to_bytes();
    let document: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let name = document.and_then(|it| it.get("name")?.as_str().map(str::to_owned));
    // Without a name the handler says what is wrong.
    let about = name.map_or(About::Anything, About::Deployment);
    Ok((
        about,
        Request::from_parts(head, Either::Right(Full::new(body))),
    ))
}

/// Sends a request to the server that has the agent, when that is another. Waits while the agent is
/// on its way from a server that is gone. A `new` agent goes where there are the fewest.
pub(crate) async fn pass_on(
    state: &State,
    sender: &Sender,
    agent: &str,
    mut request: Request<Sent>,
    new: bool,
) -> Result<Routed, ApiError> {
    let workspace = &sender.workspace;
    let until = Instant::now() + TAKEOVER;
    let mut looked = false;
    let mut why = "its server is gone".to_owned();
    loop {
        if state.runtime.target(workspace, agent).is_some() {
            return Ok(here(request));
        }
        let mut place = state.peers.find(workspace, agent);
        let unsure = match &place {
            // It may have been deployed a moment ago.
            Place::Here => true,
            // It may have moved: servers that know it no better would send this to and fro.
            Place::There(_) => sender.hops > 0,
            Place::Soon => false,
        };
        if unsure && !looked {
            looked = true;
            share::look_again(state, workspace).await?;
            place = state.peers.find(workspace, agent);
        }
        if place == Place::Here && new && sender.hops == 0 {
            place = state.peers.emptiest(state.runtime.names(workspace).len());
        }
        match place {
            Place::Here => return Ok(here(request)),
            Place::There(_) if sender.hops >= MOST_HOPS => looked = false,
            Place::There(peer) => match send(state, &peer, sender, request).await {
                Ok(response) => return Ok(Routed::Answered(response)),
                Err(Failed::Unsent(again, reason)) => {
                    (request, why) = (*again, reason);
                }
                Err(Failed::Broken(reason)) => {
                    let why = format!("the connection to it broke ({reason})");
                    return Ok(Routed::Lost(peer, why));
                }
            },
            Place::Soon => {}
        }
        if Instant::now() >= until {
            break;
        }
        state.peers.looked().await;
    }
    Err(elsewhere(agent, &why))
}

async fn send(
    state: &State,
    peer: &Peer,
    sender: &Sender,
    request: Request<Sent>,
) -> Result<Response<Incoming>, Failed> {
    match &state.peers.wire {
        Some(wire) => wire.send(peer, sender, request).await,
        None => Err(Failed::Unsent(Box::new(request), String::new())),
    }
}

fn here(mut request: Request<Sent>) -> Routed {
    // What was put in for another server.
    let _ = recognise(request.headers_mut(), |_| false);
    Routed::Here(request)
}
