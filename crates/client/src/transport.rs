//! Connections: HTTP/1.1 over TCP, or over TLS when the server's address says so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::ClientError;
use crate::body::Sending;
use crate::pinned;

/// Time for a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that an idle connection is kept; below what servers keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which the system asks whether the other side is still there. An answer may take
/// hours, and a machine that lost its power says nothing.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Questions without an answer after which the connection is lost.
const KEEPALIVE_RETRIES: u32 = 3;

/// Which certificates are trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Those that the system trusts.
    System,
    /// Those that the certificates of this file sign.
    File(&'a Path),
    /// This one.
    Certificate(&'a str),
}

/// Plain servers cost no TLS set-up, which reads every root certificate of the system.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    Plain(Client<HttpConnector, Sending>),
    Tls(Client<HttpsConnector<HttpConnector>, Sending>),
}

impl Transport {
    pub(crate) fn new(base: &Uri, trust: Trust<'_>) -> Result<Self, ClientError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT);
        if base.scheme() != Some(&Scheme::HTTPS) {
            return Ok(Self::Plain(builder.build(tcp)));
        }
        tcp.enforce_http(false);
        let https = match trust {
            Trust::File(path) => HttpsConnectorBuilder::new().with_tls_config(trusting(path)?),
            Trust::Certificate(pem) => {
                let config = pinned::trusting(pem).map_err(|detail| ClientError::Certificates {
                    path: PathBuf::from("the server's own certificate"),
                    detail,
                })?;
                HttpsConnectorBuilder::new().with_tls_config(config)
            }
            Trust::System => {
                let provider = rustls::crypto::aws_lc_rs::default_provider();
                HttpsConnectorBuilder::new()
                    .with_provider_and_native_roots(provider)
                    .map_err(|error| ClientError::Certificates {
                        path: PathBuf::from("the system's certificates"),
                        detail: error.to_string(),
                    })?
            }
        };
        let https = https.https_only().enable_http1().wrap_connector(tcp);
        Ok(Self::Tls(builder.build(https)))
    }

    pub(crate) async fn send(
        &self,
        request: Request<Sending>,
    ) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        }
    }
}

/// Trusts the certificates of this file and no others.
fn trusting(path: &Path) -> Result<rustls::ClientConfig, ClientError> {
    let wrong = |detail: String| ClientError::Certificates {
        path: path.to_owned(),
        detail,
    };
    let mut roots = rustls::RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
