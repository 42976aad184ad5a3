//! Who lives and who leads, by etcd instead of by beats in the database: for those who run etcd and
//! trust its leases more than a timer. A server holds a key under a lease that it keeps alive; when the
//! key is gone, so is the server. What keeps an ended server from committing stays in the database.
//!
//! etcd's own JSON gateway is spoken (`/v3/…`, etcd 3.4 and later): five calls need no library.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::forward::connector;
use crate::ServerError;

/// How long a server's key outlives its last word; etcd takes no less than its election needs.
const TTL_S: u64 = 4;
/// Time for one call.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer.
const MOST_BODY: usize = 1 << 20;

/// What etcd says of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The epochs of those that live.
    pub(crate) living: BTreeSet<i64>,
    /// The one that leads: whose key is the oldest.
    pub(crate) leader: Option<i64>,
}

/// This server's place in etcd.
pub(crate) struct Etcd {
    endpoints: Vec<String>,
    prefix: String,
    epoch: i64,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The lease under which the key is held, once there is one.
    lease: Mutex<Option<String>>,
}

fn text(bytes: &str) -> String {
    STANDARD.encode(bytes)
}

impl Etcd {
    pub(crate) fn new(
        endpoints: &[String],
        prefix: &str,
        epoch: i64,
        certificate: Option<&Path>,
    ) -> Result<Self, ServerError> {
        let http = Client::builder(TokioExecutor::new()).build(connector(certificate, None)?);
        Ok(Self {
            endpoints: endpoints
                .iter()
                .map(|url| url.trim_end_matches('/').to_owned())
                .collect(),
            prefix: format!("{}/servers/", prefix.trim_end_matches('/')),
            epoch,
            http,
            lease: Mutex::new(None),
        })
    }

    /// Asks one endpoint after the other.
    async fn ask(&self, path: &str, question: &Value) -> Result<Value, String> {
        let mut why = "no endpoint is named".to_owned();
        for endpoint in &self.endpoints {
            let asking = self.ask_one(endpoint, path, question);
            match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(reason)) => why = format!("{endpoint}: {reason}"),
                Err(_) => why = format!("{endpoint}: no answer in time"),
            }
        }
        Err(why)
    }

    async fn ask_one(&self, endpoint: &str, path: &str, question: &Value) -> Result<Value, String> {
        let mut request = Request::new(Full::new(Bytes::from(question.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{endpoint}/v3/{path}")
            .parse()
            .map_err(|_| "no URL".to_owned())?;
        let kind = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let response = self.http.request(request).await;
        let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
        let body = Limited::new(body, MOST_BODY).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        // A stream of answers has one a line; the first is what was asked for.
        let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let answer: Value = serde_json::from_slice(first).unwrap_or_default();
        match head.status.is_success() {
            true => Ok(answer),
            false => {
                let reason = answer["error"].as_str().unwrap_or_default();
                Err(format!("{} {reason}", head.status))
            }
        }
    }

    /// Keeps this server's key alive, and puts it there when it is not.
    async fn keep(&self) -> Result<(), String> {
        let held = self.lease.lock().clone();
        if let Some(lease) = held {
            let kept = self.ask("lease/keepalive", &json!({ "ID": lease })).await?;
            // A lease that is gone has no time left, and says nothing of it.
            if kept["result"]["TTL"].as_str().is_some_and(|ttl| ttl != "0") {
                return Ok(());
            }
            *self.lease.lock() = None;
        }
        let granted = self.ask("lease/grant", &json!({ "TTL": TTL_S })).await?;
        let lease = granted["ID"].as_str().unwrap_or_default().to_owned();
        let key = format!("{}{:020}", self.prefix, self.epoch);
        let put =
            json!({ "key": text(&key), "value": text(&self.epoch.to_string()), "lease": lease });
        self.ask("kv/put", &put).await?;
        *self.lease.lock() = Some(lease);
        Ok(())
    }

    /// Says that this server lives, and looks who else does.
    ///
    /// # Errors
    /// Why no endpoint answered. It says nothing of the servers.
    pub(crate) async fn look(&self) -> Result<Standing, String> {
        self.keep().await?;
        // Everything that begins with the prefix: up to the prefix with its last byte one higher.
        let end = format!("{}0", self.prefix.trim_end_matches('/'));
        let range = json!({ "key": text(&self.prefix), "range_end": text(&end) });
        Ok(read(&self.ask("kv/range", &range).await?))
    }

    /// Gives the key up.
    pub(crate) async fn leave(&self) {
        let held = self.lease.lock().take();
        if let Some(lease) = held
            && let Err(reason) = self.ask("lease/revoke", &json!({ "ID": lease })).await
        {
            tracing::debug!(reason, "the lease in etcd ends by itself");
        }
    }
}

fn read(range: &Value) -> Standing {
    let found = range["kvs"].as_array().map_or(&[][..], Vec::as_slice);
    let servers: Vec<(u64, i64)> = found
        .iter()
        .filter_map(|one| {
            let created = one["create_revision"].as_str()?.parse().ok()?;
            let value = STANDARD.decode(one["value"].as_str()?).ok()?;
            Some((created, std::str::from_utf8(&value).ok()?.parse().ok()?))
        })
        .collect();
    Standing {
        living: servers.iter().map(|(_, epoch)| *epoch).collect(),
        leader: servers.iter().min().map(|(_, epoch)| *epoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_key_leads() {
        // As etcd 3.4 answers.
        let range = json!({ "kvs": [
            { "key": "L3NrZXA=", "value": text("7"), "create_revision": "12", "lease": "1" },
            { "key": "L3NrZXA=", "value": text("9"), "create_revision": "4", "lease": "2" },
            { "key": "L3NrZXA=", "value": "?", "create_revision": "1" },
        ], "count": "3" });
        let standing = read(&range);
        assert_eq!(standing.living, BTreeSet::from([7, 9]));
        assert_eq!(standing.leader, Some(9));
        let nobody = read(&json!({ "header": {} }));
        assert_eq!((nobody.living.len(), nobody.leader), (0, None));
    }
}
