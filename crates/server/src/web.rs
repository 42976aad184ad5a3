//! Asks others over HTTP: issuers for keys, providers for who somebody is, hooks for values. On the internet, and where it is
//! allowed; bounded in time and size; redirects are not followed. A connection for each question: they are
//! minutes apart.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use skep_guard::jwt::{Fetch, Fetched, MOST_KEY_SET};
use skep_guard::outgoing::Outgoing;
use skep_sources::{Reached, may_be_asked};

use crate::outgoing;
use crate::problem::chain;

/// Time for a whole answer, usually.
pub(crate) const TIME: Duration = Duration::from_secs(5);
const KEY_SET: &str = "application/jwk-set+json, application/json";

type Connector = HttpsConnector<HttpConnector<Reached>>;

/// Who asks.
pub(crate) struct Web(pub(crate) Arc<Outgoing>);

/// A question.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) url: &'a str,
    /// What is sent, with its type; without it nothing is.
    pub(crate) body: Option<(&'static str, &'a str)>,
    /// Headers besides.
    pub(crate) headers: &'a [(HeaderName, String)],
    /// How long the whole answer may take.
    pub(crate) time: Duration,
    /// Bytes of an answer.
    pub(crate) most: usize,
}

impl Web {
    fn client(&self, tls: bool) -> Result<Client<Connector, Full<Bytes>>, String> {
        let mut http = HttpConnector::new_with_resolver(Reached::within(outgoing::reach(&self.0)));
        http.enforce_http(false);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let connector = if tls {
            let builder = builder.with_provider_and_native_roots(provider);
            let builder = builder.map_err(|error| format!("TLS cannot be used: {error}"))?;
            builder.https_only().enable_http1().wrap_connector(http)
        } else {
            let config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?;
            let trusted = config.with_root_certificates(RootCertStore::empty());
            let builder = builder.with_tls_config(trusted.with_no_client_auth());
            // Plain HTTP is for this machine alone: its file says so.
            builder.https_or_http().enable_http1().wrap_connector(http)
        };
        Ok(Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector))
    }

    /// Status and body of the answer.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<(StatusCode, Bytes), String> {
        let answer = tokio::time::timeout(question.time, self.answer(question, "application/json"));
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    async fn answer(
        &self,
        question: Question<'_>,
        accept: &'static str,
    ) -> Result<(StatusCode, Bytes), String> {
        let uri: Uri = question.url.parse().map_err(|_| "not a URL".to_owned())?;
        let tls = uri.scheme_str() == Some("https");
        if tls {
            may_be_asked(&outgoing::reach(&self.0), &uri)?;
        }
        let client = self.client(tls)?;
        let body = question.body.map_or("", |(_, body)| body);
        let body = Bytes::from(body.to_owned());
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        for (name, value) in question.headers {
            let value = HeaderValue::try_from(value).map_err(|_| "no header".to_owned())?;
            headers.insert(name, value);
        }
        if let Some((kind, _)) = question.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            *request.method_mut() = Method::POST;
        }
        let response = client.request(request).await;
        let response = response.map_err(|error| chain(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), question.most).collect();
        let body = body.await.map_err(|error| chain(&*error))?;
        Ok((status, body.to_bytes()))
    }
}

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a> {
        let question = Question {
            url,
            body: None,
            headers: &[],
            time: TIME,
            most: MOST_KEY_SET,
        };
        Box::pin(async move {
            match self.answer(question, KEY_SET).await? {
                (StatusCode::OK, body) => Ok(body.to_vec()),
                (status, _) => Err(format!("it answered {status}")),
            }
        })
    }
}
