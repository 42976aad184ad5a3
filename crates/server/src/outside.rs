//! Who comes with a token of another issuer: the file of issuers, fetching their keys, and what is
//! counted. What is wrong with a token is told in one word, here and in the metrics, and never to who
//! shows it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, RootCertStore};
use skep_core::Workspaces;
use skep_core::config::Settings;
use skep_guard::Principal;
use skep_guard::jwt::{self, Condition, Fetch, Fetched, Jwt, MOST_KEY_SET, Refusal};
use skep_guard::outgoing::Outgoing;
use skep_store::Db;

use crate::ServerError;
use crate::outgoing::{self, Guarded};
use crate::problem::chain;

/// Bytes of the file of issuers.
const MOST_FILE: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// Who comes from outside.
pub(crate) struct Outside {
    jwt: Jwt,
    db: Db,
    refused: Family<ByReason, Counter>,
}

impl Outside {
    pub(crate) fn open(
        settings: &Settings,
        db: &Db,
        registry: &mut Registry,
    ) -> Result<Self, ServerError> {
        let issuers = match &settings.auth_issuers {
            None => Vec::new(),
            Some(path) => read(path).map_err(|reason| ServerError::Issuers {
                path: path.clone(),
                reason,
            })?,
        };
        let refused = Family::default();
        if !issuers.is_empty() {
            for reason in Refusal::ALL.map(Refusal::as_str) {
                drop(refused.get_or_create(&ByReason { reason }));
            }
            registry.register(
                "skep_tokens_refused",
                "Tokens of outside issuers that were refused, by why",
                refused.clone(),
            );
        }
        Ok(Self {
            jwt: Jwt::new(
                issuers,
                &(Arc::new(Http(outgoing::guard(settings)?)) as Arc<dyn Fetch>),
            ),
            db: db.clone(),
            refused,
        })
    }

    /// Whether a credential may be a token: then it is asked about.
    pub(crate) fn takes(&self, text: &str) -> bool {
        !self.jwt.is_empty() && jwt::has_shape(text)
    }

    /// Whether a text is a token that was made for Skep.
    pub(crate) fn is_ours(&self, text: &str) -> bool {
        self.takes(text) && self.jwt.is_for_us(text)
    }

    /// Who bears a token, in one of these workspaces.
    pub(crate) async fn find(&self, token: &str, there: &Workspaces) -> Option<Principal> {
        let now = self.db.clock().now();
        let found = self.jwt.find(token, now, |it| there.has(it));
        match found.await {
            Ok(principal) => Some(principal),
            Err(refusal) => {
                let reason = refusal.as_str();
                tracing::debug!(reason, "a token was refused");
                self.refused.get_or_create(&ByReason { reason }).inc();
                None
            }
        }
    }

    /// Keeps the keys of issuers fresh. Never ends.
    pub(crate) async fn keep_fresh(&self) {
        self.jwt.keep_fresh().await;
    }

    pub(crate) fn conditions(&self) -> Vec<(String, Condition)> {
        self.jwt.conditions()
    }
}

fn read(path: &Path) -> Result<Vec<jwt::Issuer>, String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if about.permissions().mode() & 0o022 != 0 {
        return Err("others may write to it; `chmod go-w` it".to_owned());
    }
    if about.len() > MOST_FILE {
        return Err(format!("it has more than {MOST_FILE} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let folder = path.parent().unwrap_or(Path::new("."));
    jwt::read_file(&text, |secret| {
        let secret = folder.join(secret);
        let about = std::fs::metadata(&secret).map_err(|error| error.to_string())?;
        if about.permissions().mode() & 0o077 != 0 {
            return Err("others may read it; `chmod 600` it".to_owned());
        }
        if about.len() > MOST_FILE {
            return Err(format!("it has more than {MOST_FILE} bytes"));
        }
        std::fs::read(secret).map_err(|error| error.to_string())
    })
}

type Connector = HttpsConnector<HttpConnector<Guarded>>;

/// Gets keys over HTTP, from the internet and where it is allowed. A connection for each fetch: they are
/// minutes apart. Redirects are not followed.
struct Http(Arc<Outgoing>);

impl Http {
    fn client(&self, tls: bool) -> Result<Client<Connector, Empty<Bytes>>, String> {
        let mut http = HttpConnector::new_with_resolver(Guarded(self.0.clone()));
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
}

impl Fetch for Http {
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a> {
        Box::pin(async move {
            let uri: Uri = url.parse().map_err(|_| "not a URL".to_owned())?;
            let tls = uri.scheme_str() == Some("https");
            if tls {
                outgoing::check(&self.0, &uri)?;
            }
            let client = self.client(tls)?;
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = uri;
            let json = HeaderValue::from_static("application/jwk-set+json, application/json");
            request.headers_mut().insert(ACCEPT, json);
            let response = client.request(request).await;
            let response = response.map_err(|error| chain(&error))?;
            if response.status() != StatusCode::OK {
                return Err(format!("it answered {}", response.status()));
            }
            let body = Limited::new(response.into_body(), MOST_KEY_SET).collect();
            let body = body.await.map_err(|error| chain(&*error))?;
            Ok(body.to_bytes().to_vec())
        })
    }
}
