//! Requests that are not journaled: passed through as they come, and protocol upgrades
//! (WebSocket) as a pair of byte streams.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::agents::Availability;
use crate::body::{Body, BodyError, Passing};
use crate::cache::{self, After, Asked, Found, Stale};
use crate::headers::{mark_chunked, settle_length, strip_hop_by_hop, toward_agent, wants_upgrade};
use crate::lane::{Held, Lane};
use crate::policy::{CacheRules, CallPolicy};
use crate::pool::{Link, connect};
use crate::router::{Choice, Verdict};
use crate::run::affinity;
use crate::{Context, IngressError, Limits};

/// The client's place among the server's connections, which the server leaves in the extensions of
/// a request; an upgraded connection holds it on.
type ClientPlace = Arc<dyn Any + Send + Sync>;

/// Bytes that are held for each direction of an upgraded connection.
const UPGRADED_BUFFER: usize = 16 << 10;

/// The longest that a request waits for an agent that sleeps.
const WAKING: Duration = Duration::from_secs(60);

/// Takes an instance for a request; one that sleeps is woken and waited for.
async fn hold(lane: &Arc<Lane>, choice: Choice) -> Result<Held, IngressError> {
    let until = Instant::now() + WAKING;
    let mut asleep = false;
    loop {
        let changed = lane.agent.changed();
        if let Some(held) = lane.hold(choice) {
            return Ok(held);
        }
        match lane.agent.availability() {
            Availability::Ready { .. } => continue,
            Availability::Asleep => asleep = true,
            Availability::Waiting if asleep => {}
            Availability::Waiting => return Err(IngressError::AgentNotReady),
            Availability::Stopped | Availability::Removed => {
                return Err(IngressError::AgentStopped);
            }
            Availability::CrashLoop(reason) => {
                return Err(IngressError::AgentCrashLoop(reason.to_string()));
            }
        }
        if tokio::time::timeout_at(until, changed).await.is_err() {
            return Err(IngressError::AgentNotReady);
        }
    }
}

/// Passes one request through.
pub(crate) async fn pass(
    lane: Arc<Lane>,
    context: &Context,
    limits: &Limits,
    target: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, IngressError> {
    let policy = lane.agent.policy();
    let idle = policy.idle_timeout;
    let choice = Choice::by(affinity(&policy, request.headers()));
    lane.metrics.passed.inc();
    let mut kept = match &policy.cache {
        Some(rules) => Kept::look(&lane, (&policy, rules), target, &request),
        None => Kept::default(),
    };
    if let Some(response) = kept.answer() {
        return Ok(response);
    }
    let held = hold(&lane, choice).await?;
    if wants_upgrade(request.version(), request.headers()) {
        return upgrade(held, context, target, request, idle).await;
    }
    if request.body().size_hint().lower() > limits.body {
        return Err(IngressError::BodyTooLarge(limits.body));
    }
    let mut headers = std::mem::take(request.headers_mut());
    if let Some(stale) = &mut kept.stale {
        headers = std::mem::take(&mut stale.headers);
    }
    strip_ours(&mut headers);
    toward_agent(&mut headers, context);
    let method = request.method().clone();
    let body = match request.body().is_end_stream() {
        true => Body::empty(),
        false => Body::passing(Passing::new(
            request.into_body(),
            limits.body,
            limits.body_pause,
        )),
    };
    let message = message(method, target, headers, body)?;
    let (response, held, link) = send(held, choice, message, idle, limits).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // The link is dropped: nobody knows what it speaks now.
        return Err(IngressError::AgentUnreachable(
            "the agent changed the protocol unasked".to_owned(),
        ));
    }
    let (mut head, body) = response.into_parts();
    toward_client(&mut head.headers)?;
    let mut recorder = None;
    if let (Some(rules), Some(asked)) = (&policy.cache, kept.asked) {
        match cache::after(&lane, rules, asked, kept.stale, &mut head) {
            After::Pass(keeps) => {
                lane.metrics.cached("miss");
                recorder = keeps;
            }
            After::Confirmed(head, content) => {
                lane.metrics.cached("confirmed");
                if body.is_end_stream() {
                    lane.pool.keep(held.place, link);
                }
                return Ok(respond(*head, Body::full(content)));
            }
        }
    }
    if body.is_end_stream() {
        lane.pool.keep(held.place, link);
        if let Some(recorder) = recorder {
            recorder.finish();
        }
        return Ok(respond(head, Body::empty()));
    }
    let body = Passing::from_agent(body, idle, (held, link), recorder);
    Ok(respond(head, Body::passing(body)))
}

/// What the cache has for a request.
#[derive(Default)]
struct Kept {
    /// The request, when its answer may come from there or go there.
    asked: Option<Asked>,
    fresh: Option<(http::response::Parts, bytes::Bytes)>,
    stale: Option<Stale>,
    /// The client wants nothing else.
    only: bool,
}

impl Kept {
    /// The answer, when no agent is to be asked.
    fn answer(&mut self) -> Option<Response<Body>> {
        if let Some((head, body)) = self.fresh.take() {
            return Some(respond(head, Body::full(body)));
        }
        if self.asked.is_none() || !self.only {
            return None;
        }
        // The client wants a kept answer or none (RFC 9111 section 5.2.1.7).
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        Some(response)
    }

    fn look(
        lane: &Lane,
        rules: (&Arc<CallPolicy>, &CacheRules),
        target: &str,
        request: &Request<Incoming>,
    ) -> Self {
        let plain =
            request.body().is_end_stream() && !wants_upgrade(request.version(), request.headers());
        let asked = plain.then(|| {
            Asked::new(
                rules,
                lane.revision(),
                request.method(),
                target,
                request.headers(),
            )
        });
        let Some(mut asked) = asked.flatten() else {
            return Self::default();
        };
        let (mut fresh, mut stale) = (None, None);
        match lane.cache.look(&mut asked) {
            Found::Fresh(head, body) => {
                lane.metrics.cached("hit");
                fresh = Some((*head, body));
            }
            Found::Stale(found) => stale = Some(*found),
            Found::Nothing => {}
        }
        Self {
            asked: Some(asked),
            fresh,
            stale,
            only: cache::says(request.headers(), "only-if-cached"),
        }
    }
}

/// Removes what only Skep says to agents. None of it is said of a request that is not a call.
fn strip_ours(headers: &mut HeaderMap) {
    let ours = |name: &&HeaderName| name.as_str().starts_with("skep-");
    let ours: Vec<HeaderName> = headers.keys().filter(ours).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Turns an agent's headers into those of the answer, without what only Skep says.
fn toward_client(headers: &mut HeaderMap) -> Result<(), IngressError> {
    settle_length(headers).map_err(|reason| IngressError::AgentUnreachable(reason.to_owned()))?;
    strip_hop_by_hop(headers);
    for name in [
        skep_api::HEADER_CALL_ID,
        skep_api::HEADER_REQUEST_ID,
        skep_api::HEADER_REPLAYED,
    ] {
        headers.remove(name);
    }
    Ok(())
}

fn respond(head: http::response::Parts, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn message(
    method: http::Method,
    target: &str,
    mut headers: HeaderMap,
    body: Body,
) -> Result<Request<Body>, IngressError> {
    mark_chunked(&mut headers, &body);
    let mut message = Request::new(body);
    *message.method_mut() = method;
    *message.uri_mut() = target
        .parse()
        .map_err(|_| IngressError::BadRequest("the path or query cannot be sent on".to_owned()))?;
    *message.headers_mut() = headers;
    Ok(message)
}

/// Sends a request to the instance that it holds. When nothing of it could be sent there, another
/// instance is tried.
async fn send(
    mut held: Held,
    mut choice: Choice,
    mut message: Request<Body>,
    idle: Duration,
    limits: &Limits,
) -> Result<(Response<Incoming>, Held, Link), IngressError> {
    let mut reused = held.lane.pool.reuse(held.place).await;
    loop {
        let fresh = reused.is_none();
        let opened = match reused.take() {
            Some(link) => Ok(link),
            None => Link::open(held.lane.agent.connect(held.place.instance)).await,
        };
        let mut link = match opened {
            Ok(link) => link,
            Err(reason) => {
                held =
                    elsewhere(held, &mut choice).ok_or(IngressError::AgentUnreachable(reason))?;
                reused = held.lane.pool.reuse(held.place).await;
                continue;
            }
        };
        match tokio::time::timeout(idle, link.send(message)).await {
            Err(_) => {
                held.verdict = Verdict::Failed;
                return Err(IngressError::AgentTimeout);
            }
            Ok(Ok(response)) => {
                held.verdict = Verdict::Well;
                held.bad = response.status().is_server_error();
                return Ok((response, held, link));
            }
            Ok(Err(mut error)) => match error.take_message() {
                // Closed while it was idle: nothing was sent.
                Some(unsent) if !fresh => message = unsent,
                _ => {
                    if let Some(fault) = of_body(error.error(), limits) {
                        return Err(fault);
                    }
                    fail(&mut held);
                    return Err(IngressError::AgentUnreachable(
                        "the connection broke".to_owned(),
                    ));
                }
            },
        }
    }
}

fn fail(held: &mut Held) {
    held.verdict = Verdict::Failed;
    held.lane.agent.suspect(held.place.instance);
}

/// Another instance than the one that cannot be reached, once.
fn elsewhere(mut held: Held, choice: &mut Choice) -> Option<Held> {
    fail(&mut held);
    let (lane, failed) = (held.lane.clone(), held.place.instance);
    drop(held);
    if choice.avoid.replace(failed).is_some() {
        return None;
    }
    let other = lane.hold(*choice)?;
    (other.place.instance != failed).then_some(other)
}

/// What was wrong with the client's body, when it is that which broke the connection.
fn of_body(error: &hyper::Error, limits: &Limits) -> Option<IngressError> {
    let cause = std::error::Error::source(error)?.downcast_ref()?;
    Some(match cause {
        BodyError::TooLarge => IngressError::BodyTooLarge(limits.body),
        BodyError::Silent => IngressError::RequestTimeout,
        _ => IngressError::BadRequest("the body broke off or is malformed".to_owned()),
    })
}

async fn upgrade(
    mut held: Held,
    context: &Context,
    target: &str,
    mut request: Request<Incoming>,
    idle: Duration,
) -> Result<Response<Body>, IngressError> {
    let protocol = request.headers().get(http::header::UPGRADE).cloned();
    let mut headers = request.headers().clone();
    strip_ours(&mut headers);
    toward_agent(&mut headers, context);
    if let Some(protocol) = protocol {
        headers.insert(http::header::UPGRADE, protocol);
        headers.insert(
            http::header::CONNECTION,
            http::HeaderValue::from_static("upgrade"),
        );
    }
    let client = hyper::upgrade::on(&mut request);
    let message = message(request.method().clone(), target, headers, Body::empty())?;
    let (mut sender, connection) = match connect(held.lane.agent.connect(held.place.instance)).await
    {
        Ok(connected) => connected,
        Err(reason) => {
            fail(&mut held);
            return Err(IngressError::AgentUnreachable(reason));
        }
    };
    // It ends with its connection; what went wrong shows at the request.
    tokio::spawn(connection.with_upgrades());
    let sending = tokio::time::timeout(idle, sender.send_request(message));
    let mut response = match sending.await {
        Err(_) => return Err(IngressError::AgentTimeout),
        Ok(Err(_)) => {
            return Err(IngressError::AgentUnreachable(
                "the connection broke".to_owned(),
            ));
        }
        Ok(Ok(response)) => response,
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = response.into_parts();
        toward_client(&mut head.headers)?;
        return Ok(respond(
            head,
            Body::passing(Passing::new(body, u64::MAX, idle)),
        ));
    }
    held.verdict = Verdict::Well;
    let agent = hyper::upgrade::on(&mut response);
    let place = request.extensions().get::<ClientPlace>().cloned();
    tokio::spawn(async move {
        let (_place, _held) = (place, held);
        if let (Ok(client), Ok(agent)) = tokio::join!(client, agent) {
            join(TokioIo::new(client), TokioIo::new(agent), idle).await;
        }
    });
    let (mut head, _) = response.into_parts();
    // Connection and Upgrade stay: they are the answer.
    strip_ours(&mut head.headers);
    Ok(respond(head, Body::empty()))
}

/// Copies both ways until each side has ended, one breaks or takes nothing, or both are silent for
/// too long.
async fn join(
    client: impl AsyncRead + AsyncWrite + Unpin,
    agent: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_agent, to_agent) = tokio::io::split(agent);
    let last = Mutex::new(Instant::now());
    // However it ended: both streams are dropped now.
    let _ = tokio::try_join!(
        copy(from_client, to_agent, &last, idle),
        copy(from_agent, to_client, &last, idle)
    );
}

/// Copies to the end of one direction, which the other may outlive.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Mutex<Instant>,
    idle: Duration,
) -> std::io::Result<()> {
    let mut buffer = vec![0; UPGRADED_BUFFER];
    loop {
        let quiet_until = *last.lock() + idle;
        let count = match tokio::time::timeout_at(quiet_until, from.read(&mut buffer)).await {
            Err(_) if last.lock().elapsed() < idle => continue,
            read => read??,
        };
        *last.lock() = Instant::now();
        if count == 0 {
            return tokio::time::timeout(idle, to.shutdown()).await?;
        }
        tokio::time::timeout(idle, to.write_all(&buffer[..count])).await??;
    }
}
