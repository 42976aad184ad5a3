//! Sends spans to a collector: OTLP over HTTP, in batches. Whoever records a span never waits: what
//! there is no room for, or no collector, is dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::otlp;
use super::span::Span;
use crate::ServerError;
use crate::problem::chain;

/// Spans that wait to be sent.
const WAITING: usize = 4096;
/// Spans of one export.
const BATCH: usize = 512;
/// The longest that a span waits for others before it is sent.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Time that one export may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often an export is tried.
const TRIES: u32 = 5;
/// The wait after the first failed try; it doubles with each.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Time that the last spans get when the server stops.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a collector's answer that are read.
const ANSWER_BYTES: usize = 64 << 10;
/// What the specification adds to an endpoint for traces.
const PATH: &str = "/v1/traces";

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Where spans go when they end.
pub(crate) struct Tracer {
    spans: mpsc::Sender<Span>,
    dropped: Counter,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Tracer {
    /// Begins to export to this endpoint.
    pub(crate) fn start(endpoint: &str, registry: &mut Registry) -> Result<Arc<Self>, ServerError> {
        let url = url(endpoint)?;
        let client = client(url.scheme_str() == Some("https"))?;
        let dropped = Counter::default();
        registry.register(
            "skep_traces_dropped",
            "Spans that were not exported",
            dropped.clone(),
        );
        let (tracer, spans) = Self::channel(WAITING, dropped.clone());
        let worker = Worker {
            spans,
            client,
            url,
            dropped,
            stop: tracer.stop.clone(),
            away: false,
        };
        tracer.tasks.spawn(worker.run());
        tracer.tasks.close();
        Ok(Arc::new(tracer))
    }

    /// A tracer whose spans come out at the other end, which has room for so many.
    pub(super) fn channel(room: usize, dropped: Counter) -> (Self, mpsc::Receiver<Span>) {
        let (spans, receiver) = mpsc::channel(room);
        let tracer = Self {
            spans,
            dropped,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        (tracer, receiver)
    }

    /// Takes a span that has ended.
    pub(crate) fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    /// Sends what there is, if the collector takes it soon.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        if tokio::time::timeout(LAST_WAIT, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("the last traces were not exported in time");
        }
    }
}

/// The address that exports go to.
fn url(endpoint: &str) -> Result<Uri, ServerError> {
    let wrong = |reason: &str| ServerError::Otlp(format!("{endpoint}: {reason}"));
    let parts = endpoint
        .parse::<Uri>()
        .map_err(|error| wrong(&error.to_string()))?
        .into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(wrong("not a URL with a host"));
    };
    if authority.as_str().contains('@') {
        return Err(ServerError::Otlp(
            "a user or password in the URL is not sent".to_owned(),
        ));
    }
    let base = parts.path_and_query.as_ref().map_or("", |path| path.path());
    let path = format!("{}{PATH}", base.trim_end_matches('/'));
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| wrong(&error.to_string()))
}

fn client(tls: bool) -> Result<Http, ServerError> {
    let failed = |reason: String| ServerError::Otlp(format!("TLS cannot be used: {reason}"));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let builder = if tls {
        builder
            .with_provider_and_native_roots(provider)
            .map_err(|error| failed(error.to_string()))?
    } else {
        // The system's certificates are many files; over plain HTTP nobody asks for them.
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?;
        let trusted = config.with_root_certificates(RootCertStore::empty());
        builder.with_tls_config(trusted.with_no_client_auth())
    };
    let connector = builder.https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector))
}

/// Why an export was not taken.
struct Refused {
    reason: String,
    again: bool,
}

struct Worker {
    spans: mpsc::Receiver<Span>,
    client: Http,
    url: Uri,
    dropped: Counter,
    stop: CancellationToken,
    /// The last export failed, and the log says so.
    away: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.gather(&mut batch).await {
            self.deliver(&mut batch).await;
        }
        self.spans.close();
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.deliver(&mut batch).await;
        }
    }

    /// Fills a batch until it is full or its first span has waited for long enough. False when the
    /// server stops or nobody is left to record.
    async fn gather(&mut self, batch: &mut Vec<Span>) -> bool {
        let spans = &mut self.spans;
        let filled = async {
            if spans.recv_many(batch, BATCH).await == 0 {
                return false;
            }
            let more = async {
                while batch.len() < BATCH && spans.recv_many(batch, BATCH - batch.len()).await > 0 {
                }
            };
            // Late is as good as full.
            let _ = tokio::time::timeout(BATCH_WAIT, more).await;
            true
        };
        tokio::select! {
            filled = filled => filled,
            () = self.stop.cancelled() => false,
        }
    }

    /// Sends a batch, more than once if that can help, and empties it.
    async fn deliver(&mut self, batch: &mut Vec<Span>) {
        let body = Bytes::from(otlp::encode(batch));
        let count = batch.len() as u64;
        batch.clear();
        let mut wait = RETRY_WAIT;
        for number in 1..=TRIES {
            let refused = match self.post(body.clone()).await {
                Ok(rejected) => {
                    self.dropped.inc_by(rejected.min(count));
                    self.is_away(None);
                    return;
                }
                Err(refused) => refused,
            };
            self.is_away(Some(&refused.reason));
            if !refused.again || number == TRIES || self.stop.is_cancelled() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait *= 2,
                () = self.stop.cancelled() => {}
            }
        }
        self.dropped.inc_by(count);
    }

    /// Says once that the collector is away, and once that it is there again.
    fn is_away(&mut self, reason: Option<&str>) {
        match (self.away, reason) {
            (false, Some(reason)) => {
                tracing::warn!(url = %self.url, reason, "traces are not exported");
            }
            (true, None) => tracing::info!(url = %self.url, "traces are exported again"),
            _ => {}
        }
        self.away = reason.is_some();
    }

    /// Sends an export once. Tells how many of its spans the collector rejected.
    async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        let again = |reason: String| Refused {
            reason,
            again: true,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| again(chain(&error)))?;
            let status = response.status();
            // Read in any case: the connection is used again.
            let answer = Limited::new(response.into_body(), ANSWER_BYTES).collect();
            let answer = answer
                .await
                .map(|answer| answer.to_bytes())
                .unwrap_or_default();
            if status.is_success() {
                return Ok(otlp::rejected(&answer));
            }
            Err(Refused {
                reason: format!("the collector answered {status}"),
                again: matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                ),
            })
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(again("the collector is silent".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_is_added_to_the_endpoint() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://otel:4318/", "http://otel:4318/v1/traces"),
            ("https://otel/base/", "https://otel/base/v1/traces"),
        ] {
            assert_eq!(url(endpoint).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_cannot_be_an_endpoint_is_refused() {
        for endpoint in ["", "/v1", "otel:4318", "http://a:secret@otel", "http://a b"] {
            let error = url(endpoint).unwrap_err().to_string();
            assert!(error.starts_with("otlp.endpoint: "), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
