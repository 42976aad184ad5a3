//! Where every request goes first: its id, who asks, and which room answers. Calls to agents go
//! straight to the call door; everything else goes through the API's router.

mod body;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::MatchedPath;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use skep_core::{CallId, Code, RequestId};
use skep_egress::llm::Door;
use skep_guard::Principal;
use skep_guard::certificates::Shown;
use skep_guard::threats::patterns::Pattern;
use skep_ingress::{Context, IngressError};
use skep_store::By;
use tower_service::Service;
use tracing::Instrument;

use crate::a2a;
use crate::access::CALL;
use crate::act::Act;
use crate::agui;
use crate::api::Caller;
use crate::budgets;
use crate::gate::{self, About, Asker};
use crate::headers::{Cors, is_named, secure};
use crate::live;
use crate::mcp;
use crate::models;
use crate::oauth;
use crate::openai;
use crate::peers;
use crate::peers::forward::{SECRET, Sender, Sent, Upgrade};
use crate::peers::gather::{TRIES, complete, gather, gathering};
use crate::peers::route::{self, Routed};
use crate::problem::{ApiError, REQUEST, render};
use crate::proxy;
use crate::rates::Counted;
use crate::state::State;
use crate::strict;
use crate::telemetry::Open;
use crate::trace::TraceContext;
use crate::who;

pub(crate) use body::{Body, Traced};

/// Headers that an answer gets from here at most: its table grows once, not step by step.
const OWN_HEADERS: usize = 16;
/// The trace context (W3C).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The path under which agents answer.
const AGENTS: &str = "/agents/";
/// The path under which they answer in A2A.
const A2A: &str = "/a2a/";

/// What needs no key: the public list. A trailing `*` stands for one more segment.
pub const PUBLIC: [(&str, &str); 12] = [
    ("GET", "/api/v1/health/basic"),
    ("POST", "/api/v1/sessions"),
    ("POST", "/api/v1/sessions/proven"),
    ("GET", "/api/v1/providers"),
    ("GET", "/api/v1/login/*"),
    ("GET", "/api/v1/callback/*"),
    ("POST", "/api/v1/invitations/accept"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/docs/errors/*"),
    ("GET", "/.well-known/oauth-protected-resource"),
    ("GET", "/.well-known/oauth-protected-resource/mcp"),
    ("GET", "/.well-known/oauth-protected-resource/mcp/*"),
];

/// Answers requests.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    state: Arc<State>,
    router: Router,
    cors: Cors,
    tls: bool,
    metrics_public: bool,
}

pub(crate) fn is_public(method: &Method, path: &str) -> bool {
    PUBLIC.iter().any(|(allowed, pattern)| {
        let fits = match pattern.strip_suffix('*') {
            Some(prefix) => path
                .strip_prefix(prefix)
                .is_some_and(|rest| !rest.contains('/')),
            None => *pattern == path,
        };
        fits && (method.as_str() == *allowed || (method == Method::HEAD && *allowed == "GET"))
    })
}

/// The agent and the target that a path asks for: what stands behind `/agents/{agent}`, byte for
/// byte, beginning with `/`.
fn split(uri: &http::Uri) -> Option<(&str, String)> {
    behind(uri, AGENTS)
}

/// The same behind another path.
fn behind<'a>(uri: &'a http::Uri, door: &str) -> Option<(&'a str, String)> {
    let whole = uri.path_and_query()?.as_str().strip_prefix(door)?;
    let end = whole.find(['/', '?']).unwrap_or(whole.len());
    let (agent, rest) = whole.split_at(end);
    let target = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    Some((agent, target))
}

/// Whether a path is that of a door that leads out.
fn leads_out(path: &str) -> bool {
    models::door(path).is_some() || mcp::door(path).is_some()
}

/// The SDK that reads what is answered at a path.
fn sdk(path: &str) -> Option<Door> {
    match openai::is_meant(path) {
        true => Some(Door::OpenAi),
        false => models::door(path).map(|(door, _)| door),
    }
}

/// Whether Skep itself says that what was asked for is not there. What an agent says is the agent's.
fn is_missing(answer: &Result<Response<Body>, ApiError>) -> bool {
    match answer {
        Ok(response) => {
            response.status() == StatusCode::NOT_FOUND && matches!(response.body(), Body::Api(_))
        }
        Err(error) => error.public().code().status() == StatusCode::NOT_FOUND.as_u16(),
    }
}

/// How a request to an agent ended, in a word.
fn outcome(answer: &Result<Response<Body>, ApiError>) -> String {
    match answer {
        Ok(response) => response.status().as_str().to_owned(),
        Err(error) => error.public().code().as_str().to_owned(),
    }
}

/// An answer without a body.
fn nothing(headers: http::HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Api(axum::body::Body::empty()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    response
}

/// Leaves the route that answers in the response, for the span's name.
async fn tell_route(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// A path as logs and traces have it: without the names of secrets, which lie nowhere in the open.
pub(crate) fn shown_path(path: &str) -> &str {
    const SECRETS: &str = "/api/v1/secrets/";
    match path.starts_with(SECRETS) {
        true => SECRETS,
        false => path,
    }
}

/// Somebody asks for something; a canary has no reason to.
pub(crate) fn see(state: &State, who: &Principal, remote: IpAddr) {
    state.threats.asked(who, remote);
    if who.scopes.is_canary() {
        let name = state.keys.name(who);
        state.threats.touched(who, remote, &name);
    }
}

impl Dispatcher {
    pub(crate) fn new(
        state: Arc<State>,
        router: Router,
        cors: Cors,
        tls: bool,
        metrics_public: bool,
    ) -> Self {
        let router = match &state.tracer {
            // Only the router knows which route a path fits.
            Some(_) => router.layer(axum::middleware::from_fn(tell_route)),
            None => router,
        };
        Self {
            state,
            router,
            cors,
            tls,
            metrics_public,
        }
    }

    /// A connection ended because of what was sent on it.
    pub(crate) fn unreadable(&self, remote: IpAddr, pattern: Pattern) {
        self.state.threats.refused(remote, pattern);
    }

    /// Answers one request. Errors are answers too.
    pub(crate) async fn answer(
        &self,
        remote: IpAddr,
        shown: Option<&Shown>,
        mut request: Request<Incoming>,
    ) -> Response<Traced> {
        if proxy::is_meant(&self.state.own, &request) {
            return Box::pin(self.proxied(remote, request)).await;
        }
        let peers = &self.state.peers;
        let shows = request.headers().contains_key(SECRET);
        let peer =
            peers::forward::recognise(request.headers_mut(), |shown| peers.is_own_secret(shown));
        // A server that knows this one's last start; its client did show a key there.
        let is_late = shows && peer.is_none();
        let id = peer.as_ref().map_or_else(RequestId::new, |peer| peer.id);
        let remote = peer.as_ref().map_or(remote, |peer| peer.remote);
        let origin = self.cors.allowed(request.headers());
        let of_agent = request.uri().path().starts_with(AGENTS);
        let door = sdk(request.uri().path());
        let challenge = oauth::challenge(&self.state, request.uri(), request.headers());
        let promises = self.tls && is_named(&request);
        let (strict, odd) = match strict::check(&mut request) {
            Ok(()) => (Ok(()), None),
            Err((pattern, error)) => (Err(error), Some(pattern)),
        };
        // What follows on the connection of such a request may be a part of it.
        let close = strict.is_err() && request.version() <= Version::HTTP_11;
        let trace = TraceContext::of(request.headers(), id);
        if trace.parent.is_none() {
            // It tells of a trace that is not this one (Trace Context, section 3.3).
            request.headers_mut().remove("tracestate");
        }
        let mut traced = self.traced(trace, id, &request);
        let span = tracing::info_span!("request", %id, method = %request.method(), path = shown_path(request.uri().path()));
        let counted = self.state.rates.begin();
        let watched = peer.is_none().then(|| self.watch(remote, &request, odd));
        let answer = match strict {
            Err(error) => Err(error),
            Ok(()) => {
                let from = (remote, shown, &counted);
                let route = self.route(from, id, trace, peer, request);
                REQUEST.scope(id, route).instrument(span).await
            }
        };
        if let Some(path) = watched
            && is_missing(&answer)
        {
            self.state.threats.missing(remote, path);
        }
        let mut response = answer.unwrap_or_else(|error| {
            models::rendered(door, render(&error, id)).map(|text| Body::Api(text.into()))
        });
        let (status, headers) = (response.status(), response.headers_mut());
        headers.reserve(OWN_HEADERS);
        secure(headers, of_agent, promises);
        counted.tell(headers);
        oauth::tell(challenge, status, headers);
        if is_late && status == StatusCode::UNAUTHORIZED {
            headers.insert(SECRET, HeaderValue::from_static("unknown"));
        }
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(origin) = origin {
            Cors::mark(headers, origin);
        }
        if let Ok(value) = HeaderValue::try_from(id.to_string()) {
            headers.insert(HeaderName::from_static(skep_api::HEADER_REQUEST_ID), value);
        }
        if let Some(span) = &mut traced {
            if let Some(route) = response.extensions().get::<MatchedPath>() {
                span.route(route.as_str());
            }
            span.answered(&response);
        }
        response.map(|body| Traced::new(body, traced))
    }

    /// Answers what is for the proxy, and for nobody else.
    async fn proxied(&self, remote: IpAddr, mut request: Request<Incoming>) -> Response<Traced> {
        let id = RequestId::new();
        let connects = request.method() == Method::CONNECT;
        let host = request.uri().authority().map(|it| it.host().to_owned());
        let trace = TraceContext::of(request.headers(), id);
        let mut traced = self.traced(trace, id, &request);
        let span = tracing::info_span!("request", %id, method = %request.method(), path = host.unwrap_or_default());
        let strict = match connects {
            true => Ok(()),
            false => strict::check(&mut request),
        };
        let counted = self.state.rates.begin();
        let answer = match strict {
            Err((pattern, error)) => {
                self.state.threats.refused(remote, pattern);
                Err(error)
            }
            Ok(()) => {
                let route = proxy::answer(&self.state, (remote, &counted), id, request);
                REQUEST.scope(id, route).instrument(span).await
            }
        };
        let mut response = answer.unwrap_or_else(|error| {
            let mut refusal = render(&error, id).map(|text| Body::Api(text.into()));
            // All that many clients tell of an answer to CONNECT.
            let said = error.public().detail();
            if let Ok(said) = hyper::ext::ReasonPhrase::try_from(said.into_bytes()) {
                refusal.extensions_mut().insert(said);
            }
            // What follows may be meant for the tunnel.
            let close = HeaderValue::from_static("close");
            refusal.headers_mut().insert(CONNECTION, close);
            refusal
        });
        if let Some(span) = &mut traced {
            span.answered(&response);
        }
        if !connects && let Ok(value) = HeaderValue::try_from(id.to_string()) {
            let name = HeaderName::from_static(skep_api::HEADER_REQUEST_ID);
            response.headers_mut().insert(name, value);
        }
        response.map(|body| Traced::new(body, traced))
    }

    /// Looks whether a request looks like a try; gives what its path is known by.
    fn watch(&self, remote: IpAddr, request: &Request<Incoming>, refused: Option<Pattern>) -> u64 {
        let threats = &self.state.threats;
        if let Some(pattern) = refused {
            threats.refused(remote, pattern);
        }
        let path = request.uri().path();
        let of_agent = path
            .strip_prefix(AGENTS)
            .and_then(|it| it.find('/').map(|at| &it[at..]));
        threats.look(remote, of_agent.unwrap_or(path), request);
        threats.path(request)
    }

    /// The request's span, when it is recorded.
    fn traced(
        &self,
        trace: TraceContext,
        id: RequestId,
        request: &Request<Incoming>,
    ) -> Option<Box<Open>> {
        let tracer = self.state.tracer.as_ref()?;
        let mut span = Open::request(tracer, trace, id, self.scheme(), request)?;
        if let Some((agent, _)) = split(request.uri()) {
            span.route("/agents/{agent}");
            span.set("skep.agent", agent);
        }
        Some(Box::new(span))
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Finds who asks, and the room that answers. What a room remembers of a request is large, and lies by itself: this is
    /// moved several times before it begins.
    async fn route(
        &self,
        (remote, shown, counted): (IpAddr, Option<&Shown>, &Counted),
        id: RequestId,
        trace: TraceContext,
        peer: Option<Sender>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, ApiError> {
        if let Some(headers) = self.cors.preflight(request.method(), request.headers()) {
            return Ok(nothing(headers));
        }
        live::check_query(&request)?;
        let again = who::Again::of(&request, (remote, shown));
        let asker = match &peer {
            // Who asks was found out there.
            Some(peer) => Some(Asker::plain(peer.by.clone(), remote)),
            None => {
                self.state.rates.address(counted, remote)?;
                who::asks(&self.state, (remote, shown), &mut request, counted).await?
            }
        };
        let path = request.uri().path();
        let public =
            is_public(request.method(), path) || (self.metrics_public && path == "/metrics");
        let Some(mut asker) = asker else {
            if public {
                return Ok(self.api(request.map(axum::body::Body::new)).await);
            }
            let (head, _) = request.into_parts();
            if let Some(card) = a2a::card::public(&self.state, &head) {
                return card;
            }
            self.state.threats.failed(remote);
            return Err(ApiError::new(
                Code::Unauthorized,
                "the request has no valid API key or token",
            ));
        };
        if peer.is_none() {
            self.state.rates.principal(counted, &asker.principal)?;
            // Where it came in it is seen, and once.
            see(&self.state, &asker.principal, remote);
        }
        asker.counted = counted.clone();
        if let Some(again) = again {
            request.extensions_mut().insert(again);
            request.extensions_mut().insert(self.clone());
        }
        self.known(asker, peer, (id, trace), request).await
    }

    /// Finds the room that answers who is known.
    async fn known(
        &self,
        asker: Asker,
        peer: Option<Sender>,
        (id, trace): (RequestId, TraceContext),
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, ApiError> {
        let remote = asker.remote;
        let workspace = asker.principal.workspace.clone();
        let sender = peer.unwrap_or(Sender {
            workspace: workspace.clone(),
            by: asker.principal.clone(),
            remote,
            id,
            call: CallId::new(),
            hops: 0,
        });
        if request.uri().path() == a2a::card::PATH
            && let Some(front) = a2a::card::front(&self.state, &workspace)
            && let Ok(uri) = format!("{A2A}{front}{}", a2a::card::PATH).parse()
        {
            *request.uri_mut() = uri;
        }
        if openai::is_meant(request.uri().path()) {
            let meant = openai::meant(&self.state, &workspace, request).await?;
            let (state, by) = (&self.state, (&asker, &sender));
            return match meant {
                openai::For::Agent(agent, request) => {
                    Box::pin(self.called(by, trace, (&agent, "/"), request)).await
                }
                openai::For::Model(request) => {
                    Box::pin(self.asked_model(&asker, id, request)).await
                }
                openai::For::Listing(wanted) => openai::listing(state, &asker, wanted).await,
            };
        }
        let of_agent = split(request.uri()).or_else(|| behind(request.uri(), A2A));
        if let Some((agent, target)) = of_agent {
            let (agent, by) = (agent.to_owned(), (&asker, &sender));
            let to = (agent.as_str(), target.as_str());
            let request = request.map(Either::Left);
            return Box::pin(self.called(by, trace, to, request)).await;
        }
        if leads_out(request.uri().path()) {
            return Box::pin(self.out(&asker, id, request)).await;
        }
        request.extensions_mut().insert(Caller(workspace));
        request.extensions_mut().insert(asker);
        if self.state.peers.is_shared() {
            return Box::pin(self.shared_api(&sender, request)).await;
        }
        Ok(self.api(request.map(axum::body::Body::new)).await)
    }

    /// A request of Skep's own for somebody who is known, as if they asked by themselves.
    pub(crate) async fn within(&self, asker: &Asker, request: Request<Incoming>) -> Response<Body> {
        let id = RequestId::new();
        let trace = TraceContext::of(request.headers(), id);
        // It counts as one that comes by itself.
        let counted = self.state.rates.begin();
        let asker = Asker {
            counted: counted.clone(),
            ..asker.clone()
        };
        let answer = match self.state.rates.principal(&counted, &asker.principal) {
            Ok(()) => {
                let known = self.known(asker, None, (id, trace), request);
                REQUEST.scope(id, Box::pin(known)).await
            }
            Err(error) => Err(error),
        };
        answer.unwrap_or_else(|error| render(&error, id).map(|text| Body::Api(text.into())))
    }

    /// A request to a door that leads out.
    async fn out(
        &self,
        asker: &Asker,
        id: RequestId,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, ApiError> {
        if models::door(request.uri().path()).is_some() {
            return self.asked_model(asker, id, request.map(Either::Left)).await;
        }
        let own = mcp::is_own_page(request.headers(), &self.cors);
        let to = (&*self.state, self);
        Box::pin(mcp::answer(to, asker, (id, own), request)).await
    }

    /// A request to a model.
    async fn asked_model(
        &self,
        asker: &Asker,
        id: RequestId,
        request: Request<Sent>,
    ) -> Result<Response<Body>, ApiError> {
        let answered = models::answer(&self.state, asker, id, request).await;
        if let Err(error) = &answered {
            budgets::look(&self.state, &asker.principal.workspace, error).await;
        }
        answered
    }

    /// A call of an agent: it is written down, whatever comes of it.
    async fn called(
        &self,
        (asker, sender): (&Asker, &Sender),
        trace: TraceContext,
        (agent, target): (&str, &str),
        request: Request<Sent>,
    ) -> Result<Response<Body>, ApiError> {
        let workspace = asker.principal.workspace.clone();
        let act = Act::new(asker, workspace.clone(), CALL, agent, sender.id);
        let act = Arc::new(act);
        let context = Context {
            workspace,
            request_id: sender.id,
            by: By::new(act.clone()),
            call: (sender.hops > 0).then_some(sender.call),
            remote: asker.remote,
            scheme: self.scheme(),
            traceparent: trace.header(),
        };
        let by = (&*act, asker, sender);
        let answer = self.agent(context, by, agent, target, request).await;
        // What another server answered it has written down.
        let here = !matches!(&answer, Ok(it) if matches!(it.body(), Body::Peer(_)));
        if here && !act.is_told() {
            self.state.audit.note(&act, &outcome(&answer)).await;
        }
        answer
    }

    /// A request to an agent, wherever it is.
    async fn agent(
        &self,
        context: Context,
        (act, asker, sender): (&Act, &Asker, &Sender),
        agent: &str,
        target: &str,
        mut request: Request<Sent>,
    ) -> Result<Response<Body>, ApiError> {
        let ingress = &self.state.ingress;
        let mut refused = false;
        loop {
            // Who has the agent asks: only there its labels are known. Of one that nobody has, this
            // server does.
            let here = self
                .state
                .runtime
                .target(&context.workspace, agent)
                .is_some();
            let mut asked = here || refused || !self.state.peers.is_shared();
            if asked {
                self.may_call(act, asker, agent, &request).await?;
            }
            match ingress.visit(&context.workspace, agent).await {
                Ok(visit) => {
                    if !std::mem::replace(&mut asked, true) {
                        self.may_call(act, asker, agent, &request).await?;
                    }
                    if request.uri().path().starts_with(A2A) {
                        let (who, by) = ((asker, agent), (context, visit));
                        return a2a::answer(&self.state, by, who, target, request).await;
                    }
                    if openai::is_meant(request.uri().path()) {
                        let (who, by) = ((asker, agent), (context, visit));
                        return openai::answer(&self.state, by, who, request).await;
                    }
                    if agui::is_meant(request.method(), target) {
                        let who = (asker, agent);
                        return agui::answer(&self.state, (context, visit), who, request).await;
                    }
                    let (head, Either::Left(body)) = request.into_parts() else {
                        return Err(ApiError::new(Code::Internal, "the body was lost"));
                    };
                    let request = Request::from_parts(head, body);
                    let handled = ingress.handle(context, visit, target, request).await?;
                    return Ok(handled.map(Body::Door));
                }
                Err(IngressError::AgentNotFound { .. })
                    if self.state.peers.is_shared() && !refused => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(parent) = &context.traceparent {
                request.headers_mut().insert(TRACEPARENT, parent.clone());
            }
            let upgrade = Upgrade::of(&mut request);
            let later = skep_ingress::wants_receipt(request.headers());
            match route::pass_on(&self.state, sender, agent, request, false).await? {
                Routed::Answered(response) => return Ok(upgrade.answered(response)),
                Routed::Lost(peer, why) => {
                    return route::follow(&self.state, sender, agent, later, (peer, why)).await;
                }
                Routed::Here(back) => {
                    request = back;
                    upgrade.give_back(&mut request);
                    // It came here meanwhile, or there is none.
                    refused = true;
                }
            }
        }
    }

    async fn may_call(
        &self,
        act: &Act,
        asker: &Asker,
        agent: &str,
        request: &Request<Sent>,
    ) -> Result<(), ApiError> {
        let (method, path) = (request.method().as_str(), request.uri().path());
        let circumstances = asker.circumstances(&self.state, method, path);
        gate::ask(&self.state, act, asker, About::Agent(agent), &circumstances).await?;
        Ok(())
    }

    /// A request to the management API when several servers share the database.
    async fn shared_api(
        &self,
        sender: &Sender,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, ApiError> {
        let upgrade = Upgrade::of(&mut request);
        let mut request = match route::api(&self.state, sender, request).await? {
            Routed::Answered(response) => return Ok(upgrade.answered(response)),
            Routed::Here(request) => request,
            Routed::Lost(_, why) => return Err(ApiError::new(Code::AgentElsewhere, why)),
        };
        upgrade.give_back(&mut request);
        let asked = (request.method().clone(), request.uri().clone());
        let how = gathering(&asked.0, asked.1.path()).filter(|_| sender.hops == 0);
        let Some(how) = how else {
            return Ok(self.api(request.map(axum::body::Body::new)).await);
        };
        // What each server has a part of has no body.
        let (head, _) = request.into_parts();
        let mut missed = None;
        for _ in 0..TRIES {
            let request = Request::from_parts(head.clone(), axum::body::Body::empty());
            let own = self.api(request).await.map(axum::body::Body::new);
            let (state, asked) = (&self.state, asked.clone());
            let uri = asked.1.clone();
            let whole = gather(state, sender, asked, how, own).await?;
            let (whole, missing) = complete(state, sender, &uri, how, whole).await?;
            if missing.is_none() {
                return Ok(whole.map(Body::Api));
            }
            missed = missing;
            state.peers.looked().await;
        }
        let name = missed.unwrap_or_default();
        let detail = format!("`{name}` is on its way from one server to another");
        Err(ApiError::new(Code::AgentElsewhere, detail))
    }

    async fn api(&self, request: Request<axum::body::Body>) -> Response<Body> {
        match self.router.clone().call(request).await {
            Ok(response) => response.map(Body::Api),
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_kept_byte_for_byte() {
        for (uri, agent, target) in [
            (
                "/agents/a/x/../%2e%2E//y?q=%20&q=+&",
                "a",
                "/x/../%2e%2E//y?q=%20&q=+&",
            ),
            ("/agents/a", "a", "/"),
            ("/agents/a?x=1", "a", "/?x=1"),
            ("/agents/a/", "a", "/"),
            ("http://host/agents/b/c", "b", "/c"),
        ] {
            let uri: http::Uri = uri.parse().unwrap();
            assert_eq!(split(&uri), Some((agent, target.to_owned())), "{uri}");
        }
        assert_eq!(split(&"/api/v1/agents/a".parse().unwrap()), None);
    }

    #[test]
    fn nothing_but_the_list_is_public() {
        assert!(is_public(&Method::GET, "/api/v1/health/basic"));
        assert!(is_public(&Method::HEAD, "/docs/errors/call-dead"));
        for (method, path) in [
            (Method::POST, "/api/v1/health/basic"),
            (Method::GET, "/api/v1/health/basic/"),
            (Method::GET, "/api/v1/health/detailed"),
            (Method::GET, "/docs/errors/a/b"),
            (Method::GET, "/metrics"),
            (Method::GET, "/agents/a/api/v1/openapi.json"),
        ] {
            assert!(!is_public(&method, path), "{method} {path}");
        }
    }
}
