//! One request on its way to another server of the same database. It says for whom it is sent, and
//! shows the secret of the server that gets it.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use skep_core::{CallId, RequestId, Workspace};
use skep_guard::{Principal, Role, Scopes};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::Peer;
use crate::ServerError;
use crate::dispatch::Body;
use crate::tls::Tls;

/// Time for a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections to one server that are kept.
const IDLE: usize = 64;
/// How often a request may be passed on: its agent may move meanwhile.
pub(crate) const MOST_HOPS: u8 = 3;

/// The secret of the server that gets the request. In an answer: that it has another one.
pub(crate) const SECRET: &str = "skep-peer";
const WORKSPACE: &str = "skep-peer-workspace";
const BY: &str = "skep-peer-by";
const REMOTE: &str = "skep-peer-remote";
const REQUEST: &str = "skep-peer-request";
const CALL: &str = "skep-peer-call";
const HOPS: &str = "skep-peer-hops";

/// What a request carries.
pub(crate) type Sent = Either<Incoming, Full<Bytes>>;

/// For whom a request is sent on.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) workspace: Workspace,
    /// Who asks, as the server found out to which they came.
    pub(crate) by: Principal,
    pub(crate) remote: IpAddr,
    pub(crate) id: RequestId,
    /// The id of the call that it becomes, if it becomes one: so it is found when the server that
    /// took it is gone.
    pub(crate) call: CallId,
    pub(crate) hops: u8,
}

/// Why a request did not come through.
pub(crate) enum Failed {
    /// Nothing of it was sent; here it is again.
    Unsent(Box<Request<Sent>>, String),
    /// Perhaps some of it was.
    Broken(String),
}

/// The connections to other servers.
pub(crate) struct Wire {
    connector: HttpsConnector<HttpConnector>,
    links: Mutex<HashMap<i64, Links>>,
}

/// The connections to one server.
#[derive(Default)]
struct Links {
    idle: Vec<SendRequest<Sent>>,
    /// Ends all of them, also those in use: a server that stands still says nothing.
    gone: CancellationToken,
}

impl Wire {
    pub(crate) fn new(
        certificate: Option<&Path>,
        tls: Option<&Arc<Tls>>,
    ) -> Result<Self, ServerError> {
        let connector = connector(certificate, tls)?;
        Ok(Self {
            connector,
            links: Mutex::default(),
        })
    }

    fn reuse(&self, peer: &Peer) -> Option<SendRequest<Sent>> {
        let mut links = self.links.lock();
        let kept = &mut links.get_mut(&peer.epoch)?.idle;
        kept.retain(|link| !link.is_closed());
        let at = kept.iter().position(SendRequest::is_ready)?;
        Some(kept.swap_remove(at))
    }

    /// A connection may still be busy with the body of its last answer; it is used when it is not.
    fn keep(&self, peer: &Peer, link: SendRequest<Sent>) {
        let mut links = self.links.lock();
        let kept = &mut links.entry(peer.epoch).or_default().idle;
        if kept.len() < IDLE {
            kept.push(link);
        }
    }

    /// Ends the connections to servers that are gone.
    pub(crate) fn prune(&self, living: &[Peer]) {
        self.links.lock().retain(|epoch, links| {
            let lives = living.iter().any(|peer| peer.epoch == *epoch);
            if !lives {
                links.gone.cancel();
            }
            lives
        });
    }

    async fn connect(&self, peer: &Peer) -> Result<SendRequest<Sent>, String> {
        let url: Uri = peer.url.parse().map_err(|_| "no URL".to_owned())?;
        let mut connector = self.connector.clone();
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connector.call(url));
        let stream = match connecting.await {
            Err(_) => return Err("no connection in time".to_owned()),
            Ok(stream) => stream.map_err(|error| error.to_string())?,
        };
        let handshake = http1::handshake(stream).await;
        let (link, connection) = handshake.map_err(|error| error.to_string())?;
        let gone = self
            .links
            .lock()
            .entry(peer.epoch)
            .or_default()
            .gone
            .clone();
        // It ends with its last answer; what went wrong shows there.
        tokio::spawn(async move {
            let connection = connection.with_upgrades();
            gone.run_until_cancelled(connection).await;
        });
        Ok(link)
    }

    /// Sends a request on and hands over the answer as it comes.
    pub(crate) async fn send(
        &self,
        peer: &Peer,
        sender: &Sender,
        mut request: Request<Sent>,
    ) -> Result<Response<Incoming>, Failed> {
        mark(request.headers_mut(), peer, sender);
        *request.version_mut() = Version::HTTP_11;
        loop {
            let (mut link, fresh) = match self.reuse(peer) {
                Some(link) => (link, false),
                None => match self.connect(peer).await {
                    Ok(link) => (link, true),
                    Err(reason) => return Err(Failed::Unsent(Box::new(request), reason)),
                },
            };
            match link.try_send_request(request).await {
                Ok(response) if response.headers().contains_key(SECRET) => {
                    return Err(Failed::Broken("it was started again".to_owned()));
                }
                Ok(response) => {
                    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                        self.keep(peer, link);
                    }
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    Some(unsent) => {
                        let reason = error.error().to_string();
                        return Err(Failed::Unsent(Box::new(unsent), reason));
                    }
                    None => return Err(Failed::Broken(error.error().to_string())),
                },
            }
        }
    }
}

/// Connections with TLS or without, that trust the certificates of this machine and this one's. They
/// show this server's own to who asks for one.
pub(crate) fn connector(
    certificate: Option<&Path>,
    tls: Option<&Arc<Tls>>,
) -> Result<HttpsConnector<HttpConnector>, ServerError> {
    let failed = |reason: String| ServerError::Tls {
        path: certificate.unwrap_or(Path::new("")).to_owned(),
        reason,
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = certificate {
        // Servers of one database often have certificates of one issuer, or the same one.
        let all = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
        roots.add_parsable_certificates(all.flatten());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots);
    let tls = match tls {
        Some(own) => builder.with_client_cert_resolver(own.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.enforce_http(false);
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

fn mark(headers: &mut HeaderMap, peer: &Peer, sender: &Sender) {
    let upgrade = skep_ingress::wants_upgrade(Version::HTTP_11, headers)
        .then(|| headers.get(UPGRADE).cloned())
        .flatten();
    skep_ingress::strip_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // Answered here already.
    headers.remove(EXPECT);
    let hex: String = peer
        .secret
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let values = [
        (SECRET, hex),
        (WORKSPACE, sender.workspace.to_string()),
        (BY, written(&sender.by)),
        (REMOTE, sender.remote.to_string()),
        (REQUEST, sender.id.to_string()),
        (CALL, sender.call.to_string()),
        (HOPS, (sender.hops + 1).to_string()),
    ];
    for (name, value) in values {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(name == SECRET);
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::try_from(peer.url.split("://").last().unwrap_or_default())
    {
        headers.insert(HOST, host);
    }
}

/// A principal in a header: kind, id, role and scopes.
fn written(by: &Principal) -> String {
    let role = by.role.map_or("-", Role::as_str);
    let scopes: Vec<&str> = by.scopes.iter().collect();
    format!("{} {} {role} {}", by.kind, by.id, scopes.join(","))
}

fn read(text: &str, workspace: &Workspace) -> Option<Principal> {
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, id, role, scopes] = words[..] else {
        return None;
    };
    let role = match role {
        "-" => None,
        role => Some(role.parse().ok()?),
    };
    Some(Principal {
        kind: kind.parse().ok()?,
        id: id.into(),
        workspace: workspace.clone(),
        role,
        scopes: Scopes::new(scopes.split(',').map(str::to_owned)),
    })
}

/// For whom another server sends this, when it is one: `is_own` says whether the secret is right.
/// Takes out of the headers what servers tell each other, whoever sent it.
pub(crate) fn recognise(headers: &mut HeaderMap, is_own: impl Fn(&[u8]) -> bool) -> Option<Sender> {
    let secret = headers.remove(SECRET);
    let text = |headers: &mut HeaderMap, name: &str| {
        let value = headers.remove(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let workspace = text(headers, WORKSPACE);
    let by = text(headers, BY);
    let remote = text(headers, REMOTE);
    let id = text(headers, REQUEST);
    let call = text(headers, CALL);
    let hops = text(headers, HOPS);
    let shown = secret?;
    let bytes: Option<Vec<u8>> = shown
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    if !is_own(&bytes?) {
        return None;
    }
    let workspace: Workspace = workspace?.parse().ok()?;
    Some(Sender {
        by: read(&by?, &workspace)?,
        workspace,
        remote: remote?.parse().ok()?,
        id: id?.parse().ok()?,
        call: call?.parse().ok()?,
        hops: hops?.parse().ok()?,
    })
}

/// A client's wish to change the protocol, kept while its request is answered elsewhere.
pub(crate) struct Upgrade {
    client: Option<OnUpgrade>,
    /// The client's place among the server's connections.
    place: Option<Arc<dyn Any + Send + Sync>>,
}

impl Upgrade {
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        let wanted = skep_ingress::wants_upgrade(request.version(), request.headers());
        Self {
            client: wanted.then(|| hyper::upgrade::on(&mut *request)),
            place: request.extensions().get().cloned(),
        }
    }

    /// The request is answered here after all.
    pub(crate) fn give_back<B>(self, request: &mut Request<B>) {
        if let Some(client) = self.client {
            request.extensions_mut().insert(client);
        }
    }

    /// The other server's answer as the client gets it. When both have changed the protocol, their
    /// connections become one.
    pub(crate) fn answered(self, mut response: Response<Incoming>) -> Response<Body> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            skep_ingress::strip_hop_by_hop(response.headers_mut());
            return response.map(Body::Peer);
        }
        let peer = hyper::upgrade::on(&mut response);
        if let Some(client) = self.client {
            tokio::spawn(join(client, peer, self.place));
        }
        response.map(Body::Peer)
    }
}

/// Copies both ways until one side has ended. The server that has the agent ends what is silent for
/// too long.
async fn join(client: OnUpgrade, peer: OnUpgrade, _place: Option<Arc<dyn Any + Send + Sync>>) {
    if let (Ok(client), Ok(peer)) = tokio::join!(client, peer) {
        let (mut client, mut peer) = (TokioIo::new(client), TokioIo::new(peer));
        // However it ended: both are dropped now.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut peer).await;
    }
}
