//! Spans: what is recorded of requests and attempts, and how they come about. The attributes follow
//! OpenTelemetry's conventions for HTTP; what only Skep knows is named `skep.…`. How spans are
//! written down and sent is not decided here.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, Method, Request, Response};
use skep_core::RequestId;
use skep_ingress::{AttemptSpan, Beginning, Ending, Spans};

use super::export::Tracer;
use crate::trace::{TraceContext, state};

/// Bytes of a text that a span keeps: clients choose their paths.
const TEXT_BYTES: usize = 1024;
/// The methods that the conventions know; any other is `_OTHER`.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// On which side of a request a span stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Client,
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(bounded(text))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) context: TraceContext,
    /// The client's `tracestate`.
    pub(crate) state: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Since the epoch.
    pub(crate) began: Duration,
    pub(crate) took: Duration,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// What went wrong, if something did; may be empty.
    pub(crate) error: Option<String>,
}

/// A span that runs. It ends when it is dropped.
pub(crate) struct Open {
    tracer: Arc<Tracer>,
    /// Taken when it ends.
    span: Option<Span>,
    clock: Instant,
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES)].to_owned()
}

impl Open {
    fn new(
        tracer: Arc<Tracer>,
        context: TraceContext,
        headers: &HeaderMap,
        kind: Kind,
        method: &Method,
    ) -> Self {
        let known = METHODS.contains(method);
        let name = if known { method.as_str() } else { "HTTP" };
        let span = Span {
            context,
            // Half a state is none.
            state: state(headers).filter(|state| state.len() <= TEXT_BYTES),
            kind,
            name: name.to_owned(),
            // A clock before 1970 is the clock's fault.
            began: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            took: Duration::ZERO,
            attributes: Vec::with_capacity(10),
            error: None,
        };
        let mut open = Self {
            tracer,
            span: Some(span),
            clock: Instant::now(),
        };
        open.set("http.request.method", if known { name } else { "_OTHER" });
        if !known {
            open.set("http.request.method_original", method.as_str());
        }
        open
    }

    /// The span of a request that came in; none when its trace is not sampled.
    pub(crate) fn request<B>(
        tracer: &Arc<Tracer>,
        context: TraceContext,
        id: RequestId,
        scheme: &'static str,
        request: &Request<B>,
    ) -> Option<Self> {
        if !context.sampled {
            return None;
        }
        let (headers, method) = (request.headers(), request.method());
        let mut open = Self::new(tracer.clone(), context, headers, Kind::Server, method);
        open.set("url.scheme", scheme);
        open.set(
            "url.path",
            crate::dispatch::shown_path(request.uri().path()),
        );
        open.set("skep.request.id", id.to_string().as_str());
        Some(open)
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.attributes.push((name, value.into()));
        }
    }

    /// The pattern that the request's path fits, which is what spans are grouped by.
    pub(crate) fn route(&mut self, route: &str) {
        self.set("http.route", route);
        if let Some(span) = &mut self.span {
            span.name = format!("{} {route}", span.name);
        }
    }

    /// The request is answered; the body may still be on its way.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        let status = response.status();
        self.set("http.response.status_code", status.as_u16());
        let call = response.headers().get(skep_api::HEADER_CALL_ID);
        if let Some(call) = call.and_then(|call| call.to_str().ok()) {
            self.set("skep.call.id", call);
        }
        if status.is_server_error() {
            self.fail(status.as_str(), "");
        }
    }

    /// Something went wrong.
    pub(crate) fn fail(&mut self, kind: &str, message: &str) {
        self.set("error.type", kind);
        if let Some(span) = &mut self.span {
            span.error = Some(bounded(message));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.took = self.clock.elapsed();
            self.tracer.record(span);
        }
    }
}

impl Spans for Tracer {
    fn begin(self: Arc<Self>, attempt: &Beginning<'_>) -> Option<Box<dyn AttemptSpan>> {
        let context = TraceContext::below(attempt.headers)?;
        if !context.sampled {
            return None;
        }
        let (headers, method) = (attempt.headers, attempt.method);
        let mut open = Open::new(self, context, headers, Kind::Client, method);
        // Without the query, which may hold what is nobody's business.
        let path = attempt.target.split('?').next().unwrap_or_default();
        let address = attempt.address;
        open.set("url.full", format!("http://{address}{path}").as_str());
        open.set("server.address", address.ip().to_string().as_str());
        open.set("server.port", address.port());
        if attempt.number > 1 {
            open.set("http.request.resend_count", attempt.number - 1);
        }
        open.set("skep.call.id", attempt.call.to_string().as_str());
        open.set("skep.agent", attempt.agent);
        open.set("skep.instance", attempt.instance.to_string().as_str());
        open.set("skep.attempt", attempt.number);
        Some(Box::new(open))
    }
}

impl AttemptSpan for Open {
    fn traceparent(&self) -> Option<HeaderValue> {
        self.span.as_ref()?.context.header()
    }

    fn end(mut self: Box<Self>, ending: &Ending<'_>) {
        self.set("skep.attempt.end", ending.end);
        match ending.status {
            Some(status) => {
                self.set("http.response.status_code", status);
                if status >= 400 {
                    self.fail(&status.to_string(), "");
                }
            }
            // Who stopped it did not want it any more: nothing went wrong.
            None if ending.end == "stopped" => {}
            None => self.fail(ending.end, ending.reason.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::sync::mpsc;

    use super::*;

    fn tracer(room: usize) -> (Arc<Tracer>, mpsc::Receiver<Span>, Counter) {
        let dropped = Counter::default();
        let (tracer, spans) = Tracer::channel(room, dropped.clone());
        (Arc::new(tracer), spans, dropped)
    }

    fn request(method: &str, traceparent: &str) -> Request<()> {
        Request::builder()
            .method(method)
            .uri(format!("/agents/a/{}", "ä".repeat(TEXT_BYTES)))
            .header("traceparent", traceparent)
            .header("tracestate", "a=1")
            .header("tracestate", "b=2")
            .body(())
            .unwrap()
    }

    fn open(tracer: &Arc<Tracer>, request: &Request<()>) -> Option<Open> {
        let id = RequestId::new();
        let context = TraceContext::of(request.headers(), id);
        Open::request(tracer, context, id, "http", request)
    }

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn a_request_becomes_a_span_when_it_is_dropped() {
        let (tracer, mut spans, _) = tracer(1);
        let mut span = open(&tracer, &request("BREW", SAMPLED)).unwrap();
        span.route("/agents/{agent}");
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        span.answered(&response);
        assert!(spans.try_recv().is_err());
        drop(span);
        let span = spans.try_recv().unwrap();
        assert_eq!(span.name, "HTTP /agents/{agent}");
        assert_eq!(span.state.as_deref(), Some("a=1,b=2"));
        assert_eq!(span.error.as_deref(), Some(""));
        let of = |name| {
            let found = span.attributes.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(of("http.request.method"), Some("_OTHER".into()));
        assert_eq!(of("http.request.method_original"), Some("BREW".into()));
        assert_eq!(of("http.response.status_code"), Some(Value::Number(502)));
        assert_eq!(of("error.type"), Some("502".into()));
        let Some(Value::Text(path)) = of("url.path") else {
            panic!("no path");
        };
        assert!(path.len() <= TEXT_BYTES && path.starts_with("/agents/a/"));
    }

    #[test]
    fn what_is_not_sampled_is_not_recorded() {
        let (tracer, _, _) = tracer(1);
        assert!(open(&tracer, &request("GET", UNSAMPLED)).is_none());
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let (tracer, mut spans, dropped) = tracer(1);
        for _ in 0..3 {
            drop(open(&tracer, &request("GET", SAMPLED)));
        }
        assert_eq!(dropped.get(), 2);
        assert!(spans.try_recv().is_ok());
    }
}
