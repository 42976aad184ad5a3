//! Connections to who is asked: kept alive, checked against the system's certificates, to addresses that may be reached,
//! which were looked at when the name was resolved and are not asked for again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use skep_sources::{Reach, Reached, may_be_asked, out_of_reach};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tower_service::Service as _;

/// Time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is not used again.
pub(crate) const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept of one host that is asked often.
pub(crate) const MOST_IDLE: usize = 256;

/// Whatever went wrong.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;
/// Makes connections.
pub(crate) type Connector = HttpsConnector<HttpConnector<Reached>>;
type HttpClient<B> = Client<Connector, B>;

/// Why there is no answer.
pub(crate) enum Failed {
    /// Nobody may be asked there.
    OutOfReach(String),
    /// Nobody can be asked.
    NoClient(String),
    /// Whoever was asked.
    Asked(Error),
}

/// The way to hosts, for requests with such bodies. The client is made when somebody is asked for the first time.
pub(crate) struct Upstream<B> {
    client: OnceCell<HttpClient<B>>,
    reach: Reach,
    /// Certificates (PEM) that are believed beside the system's.
    ca: Option<PathBuf>,
    /// Idle connections that are kept of one host.
    most_idle: usize,
}

/// The system's certificates, which are many files, and those of a file, in PEM.
pub(crate) fn system(file: Option<&PathBuf>) -> Result<Vec<CertificateDer<'static>>, String> {
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

async fn trusting(ca: Option<PathBuf>) -> Result<ClientConfig, String> {
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
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What makes connections to what may be reached, and believes the system's certificates and those of a file.
pub(crate) async fn connector(reach: Reach, ca: Option<PathBuf>) -> Result<Connector, String> {
    let mut http = HttpConnector::new_with_resolver(Reached::within(reach));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(trusting(ca).await?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http))
}

impl<B> Upstream<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Fault>,
{
    /// A client that reaches what may be reached, and believes the system's certificates and those of a file.
    pub(crate) fn new(reach: Reach, ca: Option<PathBuf>, most_idle: usize) -> Self {
        Self {
            client: OnceCell::new(),
            reach,
            ca,
            most_idle,
        }
    }

    async fn client(&self) -> Result<HttpClient<B>, String> {
        let https = connector(self.reach.clone(), self.ca.clone()).await?;
        Ok(Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(self.most_idle)
            .pool_timer(TokioTimer::new())
            .build(https))
    }

    /// Sends a request, and gives the answer when that begins; or why there is none, and whether it may have been read.
    pub(crate) async fn ask(
        &self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, (String, bool)> {
        let asked = self.send(request).await;
        asked.map_err(|failed| match failed {
            Failed::OutOfReach(why) | Failed::NoClient(why) => (why, false),
            Failed::Asked(error) => (why(&error), !error.is_connect()),
        })
    }

    /// The same, for who has words of its own for what went wrong.
    pub(crate) async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, Failed> {
        may_be_asked(&self.reach, request.uri()).map_err(Failed::OutOfReach)?;
        let made = self.client.get_or_try_init(|| self.client());
        let client = made.await.map_err(Failed::NoClient)?;
        client.request(request).await.map_err(Failed::Asked)
    }

    /// A bare connection.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, String> {
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
pub(crate) fn why(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
