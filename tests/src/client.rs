//! A plain HTTP client: no retries, no opinions.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Nothing in a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A body to send.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The problem document's code; empty when it is none.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's value; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The call that it belongs to.
    #[must_use]
    pub fn call(&self) -> String {
        self.header("skep-call-id").to_owned()
    }
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    legacy: Legacy<HttpConnector, Body>,
    /// The server's address.
    pub url: String,
    /// The key that is sent.
    pub key: String,
}

impl Client {
    /// A client with a key.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let legacy = Legacy::builder(TokioExecutor::new()).build(connector);
        Self {
            legacy,
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// A request with the key, to be changed before it is sent.
    ///
    /// # Panics
    /// When the path is not one.
    #[must_use]
    pub fn request(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::new(body.into()).boxed_unsync())
            .expect("a request")
    }

    /// Sends a request; the body is still to come.
    ///
    /// # Errors
    /// Whatever happens on the way, as text.
    pub async fn open(&self, request: Request<Body>) -> Result<http::Response<Incoming>, String> {
        let sending = tokio::time::timeout(PATIENCE, self.legacy.request(request));
        sending
            .await
            .map_err(|_| "took too long".to_owned())?
            .map_err(|error| format!("{error:?}"))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Whatever happens on the way, as text.
    pub async fn send(&self, request: Request<Body>) -> Result<Answer, String> {
        let (head, body) = self.open(request).await?.into_parts();
        let collecting = tokio::time::timeout(PATIENCE, body.collect());
        let collected = collecting.await.map_err(|_| "took too long".to_owned())?;
        let collected = collected.map_err(|error| format!("{error:?}"))?;
        let trailers = collected.trailers().cloned();
        let body = collected.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            trailers,
        })
    }

    /// POST, with the whole answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.request(Method::POST, path, body))
            .await
            .expect("an answer")
    }

    /// GET, with the whole answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path, ""))
            .await
            .expect("an answer")
    }

    /// POST of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post_json(&self, path: &str, value: &Value) -> Answer {
        let mut request = self.request(Method::POST, path, value.to_string());
        request.headers_mut().insert(
            "content-type",
            http::HeaderValue::from_static("application/json"),
        );
        self.send(request).await.expect("an answer")
    }
}
