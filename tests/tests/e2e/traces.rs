//! Traces: what a collector gets, what the agent sees of it, and that nobody waits for either.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skep_tests::{Answer, Server, Setup, eventually};
use tokio::net::TcpListener;

/// The example of the Trace Context recommendation.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A span as the collector got it.
#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    failed: bool,
    raw: Value,
    attributes: BTreeMap<String, String>,
}

impl Span {
    fn read(raw: &Value) -> Self {
        let text = |name: &str| raw[name].as_str().unwrap_or_default().to_owned();
        let attributes = raw["attributes"].as_array().into_iter().flatten();
        let attribute = |pair: &Value| {
            let (key, value) = (pair["key"].as_str()?, pair["value"].as_object()?);
            let value = value.values().next()?.as_str()?;
            Some((key.to_owned(), value.to_owned()))
        };
        Self {
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            name: text("name"),
            kind: raw["kind"].as_u64().unwrap_or_default(),
            failed: raw["status"]["code"] == 2,
            raw: raw.clone(),
            attributes: attributes.filter_map(attribute).collect(),
        }
    }

    fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// A collector that keeps what it gets.
#[derive(Clone)]
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start(status: StatusCode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let collector = Self {
            url: format!("http://{address}"),
            spans: Arc::default(),
        };
        let spans = collector.spans.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let spans = spans.clone();
                let service = service_fn(move |request| take(spans.clone(), status, request));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        collector
    }

    fn setup(&self) -> Setup {
        Setup {
            env: vec![("SKEP_OTLP_ENDPOINT".to_owned(), self.url.clone())],
            ..Setup::default()
        }
    }

    fn of(&self, call: &str) -> Vec<Span> {
        let spans = self.spans.lock().expect("spans");
        let of_call = spans.iter().filter(|span| span.get("skep.call.id") == call);
        of_call.cloned().collect()
    }

    /// The server span of a call and its attempts, in order, when there are so many.
    async fn call(&self, call: &str, attempts: usize) -> (Span, Vec<Span>) {
        eventually("the spans of a call", async || {
            let (server, mut rest): (Vec<_>, Vec<_>) =
                self.of(call).into_iter().partition(|span| span.kind == 2);
            rest.sort_by_key(|span| span.get("skep.attempt").to_owned());
            (server.len() == 1 && rest.len() == attempts).then(|| (server[0].clone(), rest))
        })
        .await
    }
}

async fn take(
    spans: Arc<Mutex<Vec<Span>>>,
    status: StatusCode,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/traces");
    assert_eq!(request.headers()["content-type"], "application/json");
    let body = request.into_body().collect().await.expect("a body");
    let export: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    let of = &export["resourceSpans"][0];
    assert_eq!(
        of["resource"]["attributes"][0]["value"]["stringValue"],
        "skep"
    );
    let got = of["scopeSpans"][0]["spans"].as_array().expect("spans");
    spans
        .lock()
        .expect("spans")
        .extend(got.iter().map(Span::read));
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    *response.status_mut() = status;
    Ok(response)
}

fn seen(answer: &Answer, name: &str) -> String {
    let seen = answer.json();
    let pairs = seen["headers"].as_array().cloned().unwrap_or_default();
    let found = pairs.iter().find(|pair| pair[0] == name);
    found
        .and_then(|pair| pair[1].as_str())
        .unwrap_or_default()
        .to_owned()
}

async fn send(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = server.client.request(Method::POST, path, "hello");
    for (name, value) in headers {
        let value = HeaderValue::try_from(*value).expect("a value");
        request.headers_mut().insert(*name, value);
    }
    server.client.send(request).await.expect("an answer")
}

#[tokio::test]
async fn a_call_goes_on_with_the_clients_trace() {
    let collector = Collector::start(StatusCode::OK).await;
    let server = Server::start_with(collector.setup()).await;
    server.deploy("a", json!({})).await;
    let sent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [
        ("traceparent", sent.as_str()),
        ("tracestate", "vendor=opaque,other=1"),
    ];
    let answer = send(&server, "/agents/a/x?secret=1", &headers).await;
    assert_eq!(answer.status, 200);
    let (request, attempts) = collector.call(&answer.call(), 1).await;
    assert_eq!(
        (request.trace.as_str(), request.parent.as_str()),
        (TRACE, PARENT)
    );
    assert_eq!(request.name, "POST /agents/{agent}");
    assert_eq!(request.get("skep.agent"), "a");
    assert_eq!(request.get("url.path"), "/agents/a/x");
    assert_eq!(request.get("http.response.status_code"), "200");
    assert_eq!(
        request.get("skep.request.id"),
        answer.header("skep-request-id")
    );
    assert_eq!(request.raw["traceState"], "vendor=opaque,other=1");
    let attempt = &attempts[0];
    assert_eq!((attempt.kind, attempt.name.as_str()), (3, "POST"));
    assert_eq!(
        (attempt.trace.as_str(), &attempt.parent),
        (TRACE, &request.id)
    );
    let instance = server.agent("a").await["instance"]["id"].clone();
    assert_eq!(attempt.get("skep.instance"), instance);
    assert_eq!(attempt.get("skep.attempt.end"), "answered");
    assert!(attempt.get("url.full").ends_with("/x"), "{attempt:?}");
    assert!(!request.failed && !attempt.failed);
    assert_eq!(
        seen(&answer, "traceparent"),
        format!("00-{TRACE}-{}-01", attempt.id)
    );
    assert_eq!(seen(&answer, "tracestate"), "vendor=opaque,other=1");
}

#[tokio::test]
async fn each_attempt_has_a_span_and_each_request_a_trace() {
    let collector = Collector::start(StatusCode::OK).await;
    let server = Server::start_with(collector.setup()).await;
    server
        .deploy("a", json!({ "backoff": "1ms", "attempts": 2 }))
        .await;
    let flaky = server.post("a", "/flaky?fails=1", "").await.call();
    let (request, attempts) = collector.call(&flaky, 2).await;
    assert_eq!((request.parent.as_str(), request.failed), ("", false));
    assert!(attempts.iter().all(|span| span.parent == request.id));
    assert!(attempts.iter().all(|span| span.trace == request.trace));
    assert_eq!(attempts[0].get("error.type"), "503");
    assert!(attempts[0].failed && !attempts[1].failed);
    assert_eq!(attempts[1].get("http.request.resend_count"), "1");

    let dead = server.post("a", "/flaky?fails=9", "").await;
    let (request, _) = collector.call(&dead.call(), 2).await;
    assert_eq!(dead.status, 502);
    assert!(request.failed);
    assert_eq!(request.get("error.type"), "502");

    let plain = server.client.get("/agents/a/x").await;
    let id = plain.header("skep-request-id").to_owned();
    let passed = eventually("the span of a request that passed", async || {
        let spans = collector.spans.lock().expect("spans");
        let found = spans.iter().find(|span| span.get("skep.request.id") == id);
        found.cloned()
    })
    .await;
    assert_eq!(passed.name, "GET /agents/{agent}");
    assert_eq!(
        seen(&plain, "traceparent"),
        format!("00-{}-{}-01", passed.trace, passed.id)
    );
    let spans = collector.spans.lock().expect("spans");
    let deployed = spans.iter().find(|span| span.name == "POST /api/v1/agents");
    assert!(deployed.is_some(), "requests to the API have their routes");
}

#[tokio::test]
async fn what_the_client_did_not_sample_is_not_recorded() {
    let collector = Collector::start(StatusCode::OK).await;
    let server = Server::start_with(collector.setup()).await;
    server.deploy("a", json!({})).await;
    let sent = format!("00-{TRACE}-{PARENT}-00");
    let answer = send(&server, "/agents/a/x", &[("traceparent", &sent)]).await;
    let header = seen(&answer, "traceparent");
    assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"));
    let later = server.post("a", "/x", "").await;
    collector.call(&later.call(), 1).await;
    assert!(collector.of(&answer.call()).is_empty());
    assert_eq!(
        seen(
            &send(&server, "/agents/a/x", &[("tracestate", "a=1")]).await,
            "tracestate"
        ),
        "",
        "a state without its trace goes no further"
    );
}

#[tokio::test]
async fn a_restart_of_the_server_keeps_the_trace() {
    let collector = Collector::start(StatusCode::OK).await;
    let mut server = Server::start_with(collector.setup()).await;
    server.deploy("a", json!({})).await;
    let sent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [("traceparent", sent.as_str()), ("prefer", "respond-async")];
    let call = send(&server, "/agents/a/steps?n=1", &headers).await.call();
    let request = eventually("the span of the request", async || {
        collector.of(&call).into_iter().next()
    })
    .await;
    assert_eq!(request.get("http.response.status_code"), "202");
    server.kill();
    server.restart_with(collector.setup()).await;
    std::fs::write(server.home("a").join("step-1"), "").expect("a step");
    server.wait_call(&call, "succeeded").await;
    let (_, attempts) = collector.call(&call, 1).await;
    assert_eq!(
        (attempts[0].trace.as_str(), &attempts[0].parent),
        (TRACE, &request.id)
    );
    assert_eq!(attempts[0].get("skep.attempt"), "2");
}

// The collector must answer while the end of the server is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_work_without_the_collector_and_a_good_end_sends_the_rest() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", gone.local_addr().expect("an address"));
    drop(gone);
    let env = vec![("SKEP_OTLP_ENDPOINT".to_owned(), url)];
    let mut server = Server::start_with(Setup {
        env,
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    for _ in 0..50 {
        assert_eq!(server.post("a", "/x", "").await.status, 200);
    }
    assert!(server.terminate(), "a collector that is away holds nobody");

    let collector = Collector::start(StatusCode::OK).await;
    server.restart_with(collector.setup()).await;
    server.wait_state("a", "ready").await;
    let last = server.post("a", "/x", "").await.call();
    assert!(server.terminate());
    assert_eq!(collector.of(&last).len(), 2);
}

#[tokio::test]
async fn what_the_collector_refuses_is_counted() {
    let collector = Collector::start(StatusCode::BAD_REQUEST).await;
    let server = Server::start_with(collector.setup()).await;
    server.deploy("a", json!({})).await;
    assert_eq!(server.post("a", "/x", "").await.status, 200);
    eventually("the count of dropped spans", async || {
        let metrics = server.client.get("/metrics").await.text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("skep_traces_dropped_total "))?;
        (line != "0").then_some(())
    })
    .await;
    assert!(server.log().contains("traces are not exported"));
}
