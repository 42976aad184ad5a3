//! Where every request goes first: its id, who asks, and which room answers. Calls to agents go
//! straight to the call door; everything else goes through the API's router.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use axum::Router;
use axum::extract::MatchedPath;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use skep_core::{Code, RequestId};
use skep_ingress::Context;
use tower_service::Service;
use tracing::Instrument;

use crate::api::{Caller, KeyName};
use crate::headers::{Cors, secure};
use crate::keys::Principal;
use crate::problem::{ApiError, REQUEST, render};
use crate::state::State;
use crate::strict;
use crate::telemetry::Open;
use crate::trace::TraceContext;

/// Headers that an answer gets from here at most: its table grows once, not step by step.
const OWN_HEADERS: usize = 16;
/// The path under which agents answer.
const AGENTS: &str = "/agents/";

/// What needs no key: the public list. A trailing `*` stands for one more segment.
pub const PUBLIC: [(&str, &str); 3] = [
    ("GET", "/api/v1/health/basic"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/docs/errors/*"),
];

/// A body of any of the rooms.
pub(crate) enum Body {
    /// From the call door.
    Door(skep_ingress::Body),
    /// From the API's router.
    Api(axum::body::Body),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Door(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Api(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Door(body) => body.is_end_stream(),
            Self::Api(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Door(body) => body.size_hint(),
            Self::Api(body) => body.size_hint(),
        }
    }
}

/// A body on its way to the client. The request's span, if it has one, lasts as long as it does.
pub(crate) struct Traced {
    body: Body,
    span: Option<Box<Open>>,
}

impl http_body::Body for Traced {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Err(error))), Some(span)) = (&polled, &mut self.span) {
            span.fail("cut_off", &error.to_string());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers requests.
pub(crate) struct Dispatcher {
    state: Arc<State>,
    router: Router,
    cors: Cors,
    tls: bool,
    metrics_public: bool,
}

fn is_public(method: &Method, path: &str) -> bool {
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
    let whole = uri.path_and_query()?.as_str().strip_prefix(AGENTS)?;
    let end = whole.find(['/', '?']).unwrap_or(whole.len());
    let (agent, rest) = whole.split_at(end);
    let target = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    Some((agent, target))
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

    /// Answers one request. Errors are answers too.
    pub(crate) async fn answer(
        &self,
        remote: IpAddr,
        mut request: Request<Incoming>,
    ) -> Response<Traced> {
        let id = RequestId::new();
        let origin = self.cors.allowed(request.headers());
        let of_agent = request.uri().path().starts_with(AGENTS);
        let strict = strict::check(&mut request);
        // What follows on the connection of such a request may be a part of it.
        let close = strict.is_err() && request.version() <= Version::HTTP_11;
        let trace = TraceContext::of(request.headers(), id);
        if trace.parent.is_none() {
            // It tells of a trace that is not this one (Trace Context, section 3.3).
            request.headers_mut().remove("tracestate");
        }
        let mut traced = self.traced(trace, id, &request);
        let span = tracing::info_span!("request", %id, method = %request.method(), path = request.uri().path());
        let answer = match strict {
            Err(error) => Err(error),
            Ok(()) => {
                REQUEST
                    .scope(id, self.route(remote, id, trace, request))
                    .instrument(span)
                    .await
            }
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => render(&error, id).map(|text| Body::Api(text.into())),
        };
        let headers = response.headers_mut();
        headers.reserve(OWN_HEADERS);
        secure(headers, of_agent, self.tls);
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
        response.map(|body| Traced { body, span: traced })
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

    async fn route(
        &self,
        remote: IpAddr,
        id: RequestId,
        trace: TraceContext,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, ApiError> {
        if let Some(headers) = self.cors.preflight(request.method(), request.headers()) {
            let mut response = Response::new(Body::Api(axum::body::Body::empty()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = headers;
            return Ok(response);
        }
        let principal = self.state.keys.authenticate(request.headers_mut());
        let path = request.uri().path();
        let public =
            is_public(request.method(), path) || (self.metrics_public && path == "/metrics");
        let Some(Principal { workspace, name }) = principal else {
            if public {
                return Ok(self.api(request).await);
            }
            return Err(ApiError::new(
                Code::Unauthorized,
                "the request has no valid API key",
            ));
        };
        if let Some((agent, target)) = split(request.uri()) {
            let agent = agent.to_owned();
            let scheme = self.scheme();
            let traceparent = trace.header();
            let context = Context {
                workspace,
                request_id: id,
                remote,
                scheme,
                traceparent,
            };
            let response = self
                .state
                .ingress
                .handle(context, &agent, &target, request)
                .await?;
            return Ok(response.map(Body::Door));
        }
        request.extensions_mut().insert(Caller(workspace));
        request.extensions_mut().insert(KeyName(name));
        Ok(self.api(request).await)
    }

    async fn api(&self, request: Request<Incoming>) -> Response<Body> {
        let request = request.map(axum::body::Body::new);
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
