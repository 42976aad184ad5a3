//! Requests: over TLS, bounded in size and time. Those with credentials are never redirected, since that would carry
//! them elsewhere.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Method, Request, Response, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tower_service::Service;

use crate::{Reach, SourceError};

/// Time for a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const MOST_ANSWER: usize = 8 << 20;
/// Letters of what a store says of an error.
const MOST_SAID: usize = 300;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body, when the store did as it was asked.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, SourceError> {
        if !(200..300).contains(&self.status) {
            return Err(self.refused());
        }
        serde_json::from_slice(&self.body).map_err(|_| SourceError::Answer("it is no such JSON"))
    }

    /// What the store says of an error, of the fields that stores use for that.
    pub(crate) fn refused(&self) -> SourceError {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let texts = [
            body.pointer("/errors/0"),
            body.pointer("/error/message"),
            body.get("error_description"),
            body.get("message"),
            body.get("Message"),
            body.get("__type"),
        ];
        let said = texts.into_iter().flatten().find_map(|it| it.as_str());
        let said = said.unwrap_or_default().chars().filter(|c| !c.is_control());
        SourceError::Refused {
            status: self.status,
            said: said.take(MOST_SAID).collect(),
        }
    }
}

/// Resolves names to the addresses that may be reached: who connects connects to one of those, and does not ask for
/// the name again.
#[derive(Clone)]
pub struct Reached(Option<Reach>);

impl Reached {
    /// Of these addresses alone.
    #[must_use]
    pub const fn within(reach: Reach) -> Self {
        Self(Some(reach))
    }
}

impl Service<Name> for Reached {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut all: Vec<SocketAddr> = found.collect();
            let some = !all.is_empty();
            all.retain(|it| reach.as_ref().is_none_or(|reach| reach(it.ip())));
            match some && all.is_empty() {
                true => {
                    let kind = io::ErrorKind::PermissionDenied;
                    Err(io::Error::new(kind, out_of_reach(name.as_str())))
                }
                false => Ok(all.into_iter()),
            }
        })
    }
}

/// That an address, or a name that leads to such, may not be reached.
#[must_use]
pub fn out_of_reach(what: &str) -> String {
    format!("{what} is no address of the internet; allow it with `outgoing.allow` if it is meant")
}

/// Whether a URL may be asked whose host is an address: no resolver sees it.
///
/// # Errors
/// [`out_of_reach`].
pub fn may_be_asked(reach: &Reach, uri: &Uri) -> Result<(), String> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) if !reach(address) => Err(out_of_reach(host)),
        _ => Ok(()),
    }
}

/// What is at a path.
pub(crate) enum Got {
    /// These bytes.
    Here(Bytes),
    /// Nothing; it is said to be at another address.
    Elsewhere(String),
}

/// A client of one store.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector<Reached>>, Full<Bytes>>,
    base: String,
}

fn roots(path: &str) -> Result<RootCertStore, SourceError> {
    let wrong = |detail: String| SourceError::File {
        path: path.to_owned(),
        detail,
    };
    let mut store = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(Path::new(path));
    for certificate in found.map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    match store.is_empty() {
        true => Err(wrong("it has no certificate".to_owned())),
        false => Ok(store),
    }
}

impl Http {
    /// A client of the store at this address; its certificate is checked against the system's, or against those
    /// of a file. Only what is in reach is connected to.
    pub(crate) fn new(
        base: &str,
        ca: Option<&str>,
        reach: Option<&Reach>,
    ) -> Result<Self, SourceError> {
        let base = base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| wrong_address(base))?;
        let host = uri.host().ok_or_else(|| wrong_address(base))?;
        // A password in an address would be shown wherever that is.
        if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err(SourceError::Address(
                "…@…".to_owned(),
                "a name or a password stands in it",
            ));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = bare.parse().ok();
        let local = host == "localhost" || address.is_some_and(|it| it.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if local => {}
            Some("http") => return Err(SourceError::Open(base.to_owned())),
            _ => return Err(wrong_address(base)),
        }
        let network = |detail: String| SourceError::Network {
            host: host.to_owned(),
            detail,
        };
        // No resolver sees what is an address already.
        if address.is_some_and(|it| reach.is_some_and(|reach| !reach(it))) {
            return Err(network(out_of_reach("it")));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| network(error.to_string()))?;
        let builder = match ca {
            Some(path) => builder.with_root_certificates(roots(path)?),
            // Reading them takes a while, and nobody is asked for one here.
            None if uri.scheme_str() == Some("http") => {
                builder.with_root_certificates(RootCertStore::empty())
            }
            None => builder
                .with_native_roots()
                .map_err(|error| network(error.to_string()))?,
        };
        let mut tcp = HttpConnector::new_with_resolver(Reached(reach.cloned()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new().with_tls_config(builder.with_no_client_auth());
        let connector = connector.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base: base.to_owned(),
        })
    }

    /// Where it is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Gets what anybody may read at a path with its query, of at most so many bytes. An answer that sends elsewhere
    /// comes back as such, with where.
    pub(crate) async fn get(&self, path: &str, most: usize) -> Result<Got, SourceError> {
        let whole = async {
            let answer = self.send(Method::GET, path, &[], Vec::new()).await?;
            let status = answer.status().as_u16();
            if (300..400).contains(&status) {
                let to = answer.headers().get("location");
                let to = to.and_then(|it| it.to_str().ok());
                return Ok(Got::Elsewhere(to.unwrap_or_default().to_owned()));
            }
            let body = Limited::new(answer.into_body(), most).collect().await;
            let body = body.map_err(|error| self.network(error.to_string()))?;
            let body = body.to_bytes();
            match status {
                200 => Ok(Got::Here(body)),
                _ => Err(Answer { status, body }.refused()),
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, whole).await;
        answer.map_err(|_| SourceError::Late(self.base.clone()))?
    }

    fn network(&self, detail: String) -> SourceError {
        SourceError::Network {
            host: self.base.clone(),
            detail,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, SourceError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("user-agent", "skep");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| self.network(error.to_string()))?;
        let answer = self.client.request(request).await;
        answer.map_err(|error| {
            let first: &dyn std::error::Error = &error;
            let causes = std::iter::successors(Some(first), |it| it.source());
            let causes: Vec<String> = causes.skip(1).map(ToString::to_string).collect();
            self.network(match causes.is_empty() {
                true => error.to_string(),
                false => causes.join(": "),
            })
        })
    }

    /// Asks for a path with its query, which are escaped.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, SourceError> {
        let whole = async {
            let answer = self.send(method, path, headers, body).await?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), MOST_ANSWER)
                .collect()
                .await;
            let body = body.map_err(|error| self.network(error.to_string()))?;
            let body = body.to_bytes();
            Ok(Answer { status, body })
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, whole).await;
        let answer = answer.map_err(|_| SourceError::Late(self.base.clone()))??;
        match answer.status {
            300..400 => Err(self.network(
                "it sends its callers elsewhere, where credentials do not go by themselves"
                    .to_owned(),
            )),
            _ => Ok(answer),
        }
    }
}

fn wrong_address(base: &str) -> SourceError {
    SourceError::Address(base.to_owned(), "it is no URL such as https://host:8200")
}
