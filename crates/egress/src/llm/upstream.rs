//! Connections to providers: kept alive, checked against the system's certificates, to addresses that may be reached.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use skep_sources::{Reach, Reached, out_of_reach};

use crate::EgressError;

const CONNECT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is not used again.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept of one provider.
const MOST_IDLE: usize = 256;

/// The client.
pub(super) struct Upstream {
    client: Client<HttpsConnector<HttpConnector<Reached>>, Full<Bytes>>,
    reach: Reach,
}

/// The certificates that are believed: the system's, or those of a file.
fn roots(file: Option<&[u8]>) -> RootCertStore {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut store = RootCertStore::empty();
    match file {
        Some(pem) => {
            store.add_parsable_certificates(
                CertificateDer::pem_slice_iter(pem).filter_map(Result::ok),
            );
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    store
}

impl Upstream {
    /// A client that reaches what may be reached, and believes the system's certificates or those of a file.
    pub(super) fn new(reach: Reach, ca: Option<&[u8]>) -> Result<Self, EgressError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| EgressError::Invalid(error.to_string()))?;
        let config = config
            .with_root_certificates(roots(ca))
            .with_no_client_auth();
        let mut http = HttpConnector::new_with_resolver(Reached::within(reach.clone()));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Ok(Self { client, reach })
    }

    /// Asks a provider, and gives its answer when that begins; or why there is none, and whether it may have been read.
    pub(super) async fn ask(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (String, bool)> {
        check(&self.reach, request.uri()).map_err(|why| (why, false))?;
        let asked = self.client.request(request).await;
        asked.map_err(|error| (why(&error), !error.is_connect()))
    }
}

/// No resolver sees an address that stands in a URL itself.
fn check(reach: &Reach, uri: &Uri) -> Result<(), String> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) if !reach(address) => Err(out_of_reach(host)),
        _ => Ok(()),
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
