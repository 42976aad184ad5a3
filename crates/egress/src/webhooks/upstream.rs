//! Requests to endpoints: to addresses that may be reached, which were looked at when the name was resolved; no redirect is
//! followed, and what comes back is not kept.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use skep_sources::{Reach, Reached, may_be_asked};
use tokio::sync::OnceCell;

use super::life::Answer;

/// Time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is not used again.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept of one host.
const MOST_IDLE: usize = 4;
/// Bytes of an answer that are waited for, so that its connection can be used again.
const MOST_ANSWER: usize = 64 << 10;

/// How long is waited for it.
const REST: Duration = Duration::from_secs(2);

type HttpClient = Client<HttpsConnector<HttpConnector<Reached>>, Full<Bytes>>;

/// The way to endpoints.
pub(super) struct Upstream {
    client: OnceCell<HttpClient>,
    reach: Reach,
    ca: Option<PathBuf>,
}

fn roots(file: Option<PathBuf>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = file {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let own = CertificateDer::pem_file_iter(&file).map_err(|error| wrong(&error))?;
        for certificate in own {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            store.add(certificate).map_err(|error| wrong(&error))?;
        }
    }
    Ok(store)
}

async fn client(reach: Reach, ca: Option<PathBuf>) -> Result<HttpClient, String> {
    let roots = tokio::task::spawn_blocking(move || roots(ca)).await;
    let roots = roots.map_err(|error| error.to_string())??;
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

/// Why an endpoint could not be asked, in words that may be shown: nothing of where a name leads.
fn why(error: &Error) -> &'static str {
    let is_tls = |error: &(dyn std::error::Error + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        io.and_then(io::Error::get_ref)
            .is_some_and(|it| it.is::<rustls::Error>())
    };
    let (mut innermost, mut tls): (&(dyn std::error::Error + 'static), bool) = (error, false);
    while let Some(source) = innermost.source() {
        innermost = source;
        tls |= is_tls(source);
    }
    match error.is_connect() {
        _ if innermost.to_string().contains(NOWHERE) => OUT_OF_REACH,
        true if tls => "its certificate, or its TLS, is no good",
        true => "no connection comes about",
        false => "the connection broke off",
    }
}

/// What [`skep_sources::out_of_reach`] says.
const NOWHERE: &str = "is no address of the internet";
const OUT_OF_REACH: &str = "its address is none that Skep may ask (`outgoing.allow`)";

impl Upstream {
    pub(super) fn new(reach: Reach, ca: Option<PathBuf>) -> Self {
        Self {
            client: OnceCell::new(),
            reach,
            ca,
        }
    }

    /// Sends a message, and tells what became of it within this time.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, time: Duration) -> Answer {
        if may_be_asked(&self.reach, request.uri()).is_err() {
            return Answer::Failed(OUT_OF_REACH);
        }
        let made = self
            .client
            .get_or_try_init(|| client(self.reach.clone(), self.ca.clone()));
        let client = match made.await {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(error, "webhooks cannot be sent");
                return Answer::Failed("no request can be made: see the server's log");
            }
        };
        match tokio::time::timeout(time, client.request(request)).await {
            Ok(Ok(response)) => heard(response).await,
            Ok(Err(error)) => Answer::Failed(why(&error)),
            Err(_) => Answer::Failed("no answer in time"),
        }
    }
}

/// What an answer says. It counts as soon as its head is there; the rest is nobody's.
async fn heard(response: Response<Incoming>) -> Answer {
    let wish = response.headers().get(RETRY_AFTER);
    let wish = wish.and_then(|it| it.to_str().ok()?.trim().parse().ok());
    let answer = Answer::Status(response.status().as_u16(), wish.map(Duration::from_secs));
    let rest = Limited::new(response.into_body(), MOST_ANSWER).collect();
    let _ = tokio::time::timeout(REST, rest).await;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_reach_is_told_so() {
        assert!(skep_sources::out_of_reach("x").contains(NOWHERE));
    }
}
