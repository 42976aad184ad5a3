//! How the bucket's client reaches the network: by the same HTTP client and TLS as the rest of
//! Skep, so that no second one comes along.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};

/// Time for a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the head of an answer: a part has to be sent and stored in it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Makes clients.
#[derive(Debug)]
pub(crate) struct Connector;

#[derive(Debug)]
struct Service(Client<HttpsConnector<Tcp>, HttpRequestBody>);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        let tls = tls.map_err(|source| object_store::Error::Generic {
            store: "S3",
            source: source.into(),
        })?;
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(HttpClient::new(Service(client)))
    }
}

/// It did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within 300 s")]
struct Late;

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, self.0.request(request));
        let answer = sent
            .await
            .map_err(|_| HttpError::new(HttpErrorKind::Timeout, Late))?
            .map_err(|error| match error.is_connect() {
                true => HttpError::new(HttpErrorKind::Connect, error),
                false => HttpError::new(HttpErrorKind::Request, error),
            })?;
        let broken = |error: hyper::Error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken))))
    }
}
