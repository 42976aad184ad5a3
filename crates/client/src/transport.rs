//! Connections: HTTP/1.1 over TCP, or over TLS when the server's address says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

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
    pub(crate) fn new(
        base: &Uri,
        trust: Trust<'_>,
        shows: Option<&(PathBuf, PathBuf)>,
    ) -> Result<Self, ClientError> {
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
        let config = client_config(trust, shows)?;
        let https = HttpsConnectorBuilder::new().with_tls_config(config);
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

fn wrong(path: &Path, detail: String) -> ClientError {
    ClientError::Certificates {
        path: path.to_owned(),
        detail,
    }
}

/// What shakes hands: trusts, and shows a certificate when it has one.
fn client_config(
    trust: Trust<'_>,
    shows: Option<&(PathBuf, PathBuf)>,
) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(Path::new("TLS"), error.to_string()))?;
    let builder = match trust {
        Trust::File(path) => builder.with_root_certificates(roots(path)?),
        Trust::Certificate(pem) => {
            let of = Path::new("the server's own certificate");
            let pinned = pinned::trusting(pem, provider).map_err(|detail| wrong(of, detail))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(pinned))
        }
        Trust::System => builder.with_native_roots().map_err(|error| {
            let of = Path::new("the system's certificates");
            wrong(of, error.to_string())
        })?,
    };
    let Some((certificate, key)) = shows else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        let detail = "there is no certificate in it".to_owned();
        return Err(wrong(certificate, detail));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let config = builder.with_client_auth_cert(chain, secret);
    config.map_err(|error| wrong(key, error.to_string()))
}

/// The certificates of this file, and no others.
fn roots(path: &Path) -> Result<RootCertStore, ClientError> {
    let wrong = |detail: String| wrong(path, detail);
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(wrong("there is no certificate in it".to_owned())),
        false => Ok(roots),
    }
}
