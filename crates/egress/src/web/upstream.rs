//! Connections to hosts: to addresses that may be reached, which were looked at when the name was resolved and are not
//! asked for again; checked against the system's certificates, and those of a file.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use skep_sources::{Reach, Reached, may_be_asked, out_of_reach};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tower_service::Service as _;

/// Time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is not used again.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept of one host.
const MOST_IDLE: usize = 16;

/// Whatever went wrong.
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request on its way out.
pub(super) type Sent = UnsyncBoxBody<Bytes, Fault>;
type HttpClient = Client<HttpsConnector<HttpConnector<Reached>>, Sent>;

/// The way to hosts.
pub(super) struct Upstream {
    client: OnceCell<HttpClient>,
    reach: Reach,
    ca: Option<PathBuf>,
}

/// The system's certificates, and those of a file, in PEM.
pub(super) fn system(file: Option<&PathBuf>) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut all = rustls_native_certs::load_native_certs().certs;
    if let Some(file) = file {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let own = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
        for certificate in own {
            all.push(certificate.map_err(|error| wrong(&error))?);
        }
    }
    Ok(all)
}

async fn client(reach: Reach, ca: Option<PathBuf>) -> Result<HttpClient, String> {
    let read = tokio::task::spawn_blocking(move || {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(system(ca.as_ref())?);
        Ok::<_, String>(store)
    });
    let roots = read.await.map_err(|error| error.to_string())??;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let mut http = HttpConnector::new_with_resolver(Reached::within(reach));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        .pool_timer(TokioTimer::new())
        .build(https))
}

impl Upstream {
    pub(super) fn new(reach: Reach, ca: Option<PathBuf>) -> Self {
        Self {
            client: OnceCell::new(),
            reach,
            ca,
        }
    }

    /// Sends a request, and gives the answer when that begins.
    pub(super) async fn ask(&self, request: Request<Sent>) -> Result<Response<Incoming>, String> {
        may_be_asked(&self.reach, request.uri())?;
        let made = self
            .client
            .get_or_try_init(|| client(self.reach.clone(), self.ca.clone()));
        let asked = made.await?.request(request).await;
        asked.map_err(|error| why(&error))
    }

    /// A bare connection.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) if !(self.reach)(address) => return Err(out_of_reach(host)),
            Ok(address) => vec![address],
            Err(_) => {
                let name = host.parse().map_err(|_| format!("{host} is no name"))?;
                let found = Reached::within(self.reach.clone()).call(name).await;
                let found = found.map_err(|error| error.to_string())?;
                found.map(|it| it.ip()).collect()
            }
        };
        let connected = tokio::time::timeout(CONNECT, async {
            let mut last = io::Error::from(io::ErrorKind::NotFound);
            for address in addresses {
                match TcpStream::connect(SocketAddr::new(address, port)).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        });
        let stream = connected
            .await
            .map_err(|_| "no connection comes about".to_owned())?;
        let stream = stream.map_err(|error| error.to_string())?;
        // Small pieces go out at once.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// The innermost reason, which says most.
fn why(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
