//! Connections to providers: kept alive, checked against the system's certificates, to addresses that may be reached.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use skep_sources::{Reach, Reached, may_be_asked};
use tokio::sync::OnceCell;

const CONNECT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is not used again.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept of one provider.
const MOST_IDLE: usize = 256;

type HttpClient = Client<HttpsConnector<HttpConnector<Reached>>, Full<Bytes>>;

/// The client, made when somebody is asked for the first time.
pub(super) struct Upstream {
    client: OnceCell<HttpClient>,
    reach: Reach,
}

/// The system's certificates: many files.
async fn roots() -> RootCertStore {
    let read = tokio::task::spawn_blocking(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        store
    });
    read.await.unwrap_or_else(|_| RootCertStore::empty())
}

async fn client(reach: Reach) -> Result<HttpClient, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    let config = config
        .with_root_certificates(roots().await)
        .with_no_client_auth();
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
    /// A client that reaches what may be reached, and believes the system's certificates.
    pub(super) fn new(reach: Reach) -> Self {
        Self {
            client: OnceCell::new(),
            reach,
        }
    }

    /// Asks a provider, and gives its answer when that begins; or why there is none, and whether it may have been read.
    pub(super) async fn ask(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (String, bool)> {
        let unread = |why| (why, false);
        may_be_asked(&self.reach, request.uri()).map_err(unread)?;
        let made = self.client.get_or_try_init(|| client(self.reach.clone()));
        let asked = made.await.map_err(unread)?.request(request).await;
        asked.map_err(|error| (why(&error), !error.is_connect()))
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
