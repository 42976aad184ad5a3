//! The way out to the web, as clients know one: a forward proxy. What comes with `CONNECT`, or with a whole URL as its
//! target, is for it and for nobody else. Who asks shows a token or a key to the proxy; rules and policies decide.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{PROXY_AUTHORIZATION, UPGRADE};
use http::uri::Authority;
use http::{Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use skep_audit::Thing;
use skep_core::config::Settings;
use skep_core::{Code, ExchangeId, RequestId, Timestamp};
use skep_egress::ledger::Opened;
use skep_egress::llm::{Models, Who, Witness};
use skep_egress::web::{
    Asked, Lessee, May, Options, Rule, Scheme, Upgrade, Web, WebError, seen_path,
};
use skep_guard::Circumstances;
use skep_store::Db;
use zeroize::Zeroizing;

use crate::ServerError;
use crate::access::WEB_REQUEST;
use crate::act::Act;
use crate::budgets;
use crate::connection::Place;
use crate::credentials::Credentials;
use crate::dispatch::Body;
use crate::doors::Doors;
use crate::gate::{self, About, Asker};
use crate::outgoing;
use crate::problem::ApiError;
use crate::rates::Counted;
use crate::state::State;
use crate::tokens;

mod tunnel;
mod values;

use values::OfVault;

/// Opens the way out.
pub(crate) fn open(
    settings: &Settings,
    db: &Db,
    models: &Models,
    credentials: Arc<Credentials>,
) -> Result<Web, ServerError> {
    let values = OfVault(credentials);
    let options = Options {
        models: models.clone(),
        reach: outgoing::reach(&outgoing::guard(settings)?),
        ca: settings.web_ca.clone(),
        values: Arc::new(values),
        most_body: settings.limits_body,
        pause: settings.limits_body_timeout,
    };
    Ok(Web::new(db.clone(), options))
}

/// Where Skep itself is: a whole URL that names one of these is a request to Skep, as by its path.
pub(crate) struct Own(Vec<String>, Arc<Doors>);

impl Own {
    /// By the addresses that agents are told.
    pub(crate) fn of(url: &str, doors: Arc<Doors>) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority = rest.split('/').next().unwrap_or_default();
        let fallback = if scheme == "https" { "443" } else { "80" };
        let port = match authority.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|it| it.is_ascii_digit()) => port,
            _ => fallback,
        };
        let mut all: Vec<String> = ["127.0.0.1", "localhost", "[::1]"]
            .iter()
            .map(|host| format!("{host}:{port}"))
            .collect();
        all.push(authority.to_ascii_lowercase());
        Self(all, doors)
    }

    fn is(&self, authority: &Authority) -> bool {
        let text = authority.as_str();
        // Who it names before the host is not who asks.
        let host = text.rsplit('@').next().unwrap_or_default();
        self.0.iter().any(|own| own.eq_ignore_ascii_case(host)) || self.1.is(host)
    }
}

/// Whether a request is for the proxy. HTTP/2 names a host in every target: it is no proxy's client.
pub(crate) fn is_meant<B>(own: &Own, request: &Request<B>) -> bool {
    let uri = request.uri();
    if request.version() > Version::HTTP_11 {
        return false;
    }
    match (request.method() == Method::CONNECT, uri.authority()) {
        (true, Some(_)) => uri.scheme().is_none() && uri.path_and_query().is_none(),
        (false, Some(authority)) => uri.scheme().is_some() && !own.is(authority),
        (_, None) => false,
    }
}

/// Who asks, and what they show for it: looked at again as long as something of theirs goes on.
pub(crate) struct Client {
    asker: Asker,
    shown: Zeroizing<String>,
}

impl Client {
    /// Whether what they show counts still: the instance lives, the key was not revoked.
    fn counts(&self, state: &State) -> bool {
        let now = state.db.clock().now();
        match self.asker.token {
            Some(_) => tokens::find(&state.tokens, &state.runtime, &self.shown, now).is_some(),
            None => state.keys.find(&self.shown).is_some(),
        }
    }

    fn who(&self) -> Who {
        Who {
            workspace: self.asker.principal.workspace.clone(),
            kind: self.asker.principal.kind.word(),
            id: self.asker.principal.id.clone(),
        }
    }

    fn lessee(&self) -> Lessee {
        let token = self.asker.token.as_ref();
        Lessee {
            who: self.who(),
            instance: token.map(|it| format!("instance:{}", it.instance)),
        }
    }
}

/// What a request shows to a proxy: the password of `Basic`, whoever it says it is, or a `Bearer`.
fn shown<B>(request: &Request<B>) -> Option<Zeroizing<String>> {
    let value = request.headers().get(PROXY_AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Zeroizing::new(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
    let at = pair.iter().position(|it| *it == b':')?;
    let password = pair.get(at + 1..)?;
    Some(Zeroizing::new(
        std::str::from_utf8(password).ok()?.to_owned(),
    ))
}

/// Finds out who asks.
fn client(
    state: &State,
    remote: std::net::IpAddr,
    request: &mut Request<Incoming>,
    counted: &Counted,
) -> Result<Client, ApiError> {
    let text = shown(request);
    request.headers_mut().remove(PROXY_AUTHORIZATION);
    let nobody = |detail: &str| ApiError::new(Code::ProxyUnauthorized, detail);
    let Some(text) = text else {
        return Err(nobody("the request shows nobody to the proxy"));
    };
    let now = state.db.clock().now();
    let mut asker = match tokens::find(&state.tokens, &state.runtime, &text, now) {
        Some(token) => {
            let mut asker = Asker::plain(token.principal.clone(), remote);
            asker.token = Some(Arc::new(token));
            asker
        }
        None => {
            let Some((principal, rate)) = state.keys.find(&text) else {
                state.threats.failed(remote);
                return Err(nobody(
                    "neither a key nor a token that counts is shown to the proxy",
                ));
            };
            state.rates.key(counted, &principal, rate)?;
            Asker::plain(principal, remote)
        }
    };
    state.rates.principal(counted, &asker.principal)?;
    asker.counted = counted.clone();
    Ok(Client { asker, shown: text })
}

/// Answers what is for the proxy.
pub(crate) async fn answer(
    state: &Arc<State>,
    (remote, counted): (std::net::IpAddr, &Counted),
    id: RequestId,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    state.rates.address(counted, remote)?;
    let client = Arc::new(client(state, remote, &mut request, counted)?);
    crate::dispatch::see(state, &client.asker.principal, remote);
    if request.method() == Method::CONNECT {
        return tunnel::open(state, &client, id, request).await;
    }
    let asked = Asked::of(request.uri());
    let asked = asked
        .ok_or_else(|| WebError::Bad("the target names no host of http or https".to_owned()))?;
    forward(state, &client, &asked, id, request).await
}

/// Tells the audit log of an exchange.
struct Seen {
    act: Arc<Act>,
}

impl Witness for Seen {
    fn entry(&self, outcome: &str, opened: &Opened, now: Timestamp) -> Vec<u8> {
        let id = ExchangeId::from_bytes(opened.id);
        let what = format!("{id} {} by rule {}", opened.asked, opened.model);
        let resource = Thing::new(WEB_REQUEST.kind, &*opened.provider);
        self.act.exchanged(outcome, (resource, &what), now)
    }
}

/// Asks the policies whether a rule's request may go out.
async fn may(
    state: &State,
    (client, act): (&Client, &Act),
    (asked, rule): (&Asked, &Rule),
    (method, path): (&str, Option<&str>),
) -> Result<(), ApiError> {
    let name = asked.name();
    let circumstances = Circumstances {
        path,
        rule: Some(&rule.name),
        ..client.asker.circumstances(state, method, "")
    };
    gate::ask(
        state,
        act,
        &client.asker,
        About::Host(&name),
        &circumstances,
    )
    .await?;
    Ok(())
}

/// Writes down what came to nothing. What no rule lets out is a no like that of a policy.
async fn tell(state: &State, client: &Client, act: &Act, error: &ApiError) {
    budgets::look(state, &client.asker.principal.workspace, error).await;
    if act.is_told() {
        return;
    }
    match error {
        ApiError::Web(WebError::Denied { .. }) => {
            act.is_refused();
            state.audit.refuse(act).await;
            let Asker {
                principal, remote, ..
            } = &client.asker;
            state.threats.denied(principal, *remote);
        }
        other => state.audit.note(act, other.public().code().as_str()).await,
    }
}

/// The client's connection, when it wants to speak the WebSocket protocol on it: as long as what it shows counts, and the
/// server runs. It keeps its place among the server's connections.
fn upgrade(
    state: &Arc<State>,
    client: &Arc<Client>,
    request: &mut Request<Incoming>,
) -> Option<Upgrade> {
    let wanted = request.headers().get(UPGRADE)?;
    if !wanted.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return None;
    }
    let place = request.extensions().get::<Place>().cloned();
    let (state, of) = (state.clone(), client.clone());
    Some(Upgrade {
        client: hyper::upgrade::on(request),
        may: Arc::new(move || {
            let _ = &place;
            of.counts(&state) && !state.stop.is_cancelled()
        }),
    })
}

/// Sends a request on to whom it is for.
async fn forward(
    state: &Arc<State>,
    client: &Arc<Client>,
    asked: &Asked,
    id: RequestId,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let upgrade = upgrade(state, client, &mut request);
    let workspace = client.asker.principal.workspace.clone();
    let act = Arc::new(Act::new(
        &client.asker,
        workspace,
        WEB_REQUEST,
        &asked.name(),
        id,
    ));
    let sent = sent(state, (client, &act), asked, request, upgrade).await;
    if let Err(error) = &sent {
        tell(state, client, &act, error).await;
    }
    sent
}

async fn sent(
    state: &Arc<State>,
    (client, act): (&Arc<Client>, &Arc<Act>),
    asked: &Asked,
    request: Request<Incoming>,
    upgrade: Option<Upgrade>,
) -> Result<Response<Body>, ApiError> {
    let method = request.method().as_str().to_owned();
    let path = seen_path(request.uri().path())?;
    let workspace = &client.asker.principal.workspace;
    let rule = state.web.rule(workspace, asked, (&method, &path)).await?;
    may(state, (client, act), (asked, &rule), (&method, Some(&path))).await?;
    let witness = Arc::new(Seen { act: act.clone() });
    let open = state
        .web
        .begin((asked, &rule, &method), &client.who(), witness)
        .await?;
    let lessee = client.lessee();
    let (at, of) = (state.clone(), client.clone());
    let may: May = Arc::new(move || of.counts(&at));
    let sent = state
        .web
        .send((asked, &rule, &lessee), request, open, (upgrade, may));
    Ok(sent.await?.map(|body| Body::Web(Box::new(body))))
}

/// The host that a tunnel leads to.
fn led_to(uri: &Uri) -> Option<Asked> {
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        return None;
    }
    Asked::new(Scheme::Https, authority.host(), Some(authority.port_u16()?))
}

/// An answer that nothing follows.
fn nothing() -> Response<Body> {
    Response::new(Body::Api(axum::body::Body::empty()))
}

/// An error as one who asked through a tunnel reads it.
fn refused(error: &ApiError, id: RequestId) -> Result<Response<Body>, Infallible> {
    let rendered = crate::problem::render(error, id);
    Ok(rendered.map(|text| Body::Api(Bytes::from(text).into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::listen::Bounds;

    fn request(method: &str, uri: &str) -> Request<()> {
        Request::builder().method(method).uri(uri).body(()).unwrap()
    }

    #[test]
    fn what_is_for_the_proxy_is_known_by_its_target() {
        let bounds = Bounds {
            connections: Arc::new(tokio::sync::Semaphore::new(1)),
            header_bytes: 0,
            header_timeout: Duration::ZERO,
        };
        let address = ([192, 0, 2, 1], 7537).into();
        let stop = tokio_util::sync::CancellationToken::new();
        let (doors, _coming) = Doors::new(("http", address), None, (bounds, &stop));
        let own = Own::of("http://192.0.2.1:7537", doors);
        for (method, uri, meant) in [
            ("GET", "http://api.example.com/x", true),
            ("GET", "https://api.example.com/x", true),
            ("GET", "http://192.0.2.1:7538/x", true),
            ("GET", "http://192.0.2.1:7537@api.example.com/x", true),
            ("GET", "http://192.0.2.1:7537/agents/a/x", false),
            ("GET", "http://LOCALHOST:7537/agents/a/x", false),
            ("GET", "/agents/a/x", false),
            ("GET", "api.example.com:80", false),
            ("CONNECT", "api.example.com:443", true),
            ("CONNECT", "192.0.2.1:7537", true),
            ("CONNECT", "http://y/agents/a/x", false),
            ("CONNECT", "/agents/a/first", false),
        ] {
            assert_eq!(
                is_meant(&own, &request(method, uri)),
                meant,
                "{method} {uri}"
            );
        }
        let mut newer = request("GET", "http://api.example.com/x");
        *newer.version_mut() = Version::HTTP_2;
        assert!(!is_meant(&own, &newer));
    }

    #[test]
    fn a_password_is_what_counts() {
        for (value, expected) in [
            (
                format!("Basic {}", STANDARD.encode("agent:skep_token_a.b")),
                Some("skep_token_a.b"),
            ),
            (format!("basic {}", STANDARD.encode(":a:b")), Some("a:b")),
            ("Bearer skep_x".to_owned(), Some("skep_x")),
            ("Basic !".to_owned(), None),
            (format!("Basic {}", STANDARD.encode("nothing")), None),
            ("Digest a=b".to_owned(), None),
        ] {
            let mut asked = request("GET", "http://a/");
            asked
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, value.parse().unwrap());
            assert_eq!(
                shown(&asked).as_ref().map(|it| it.as_str()),
                expected,
                "{value}"
            );
        }
        assert_eq!(shown(&request("GET", "http://a/")), None);
    }

    #[test]
    fn a_tunnel_names_a_host_and_a_port() {
        let led = |uri: &str| led_to(&uri.parse().unwrap()).map(|it| it.name());
        assert_eq!(
            led("API.example.com:443").as_deref(),
            Some("api.example.com:443")
        );
        assert_eq!(led("[::1]:8443").as_deref(), Some("[::1]:8443"));
        assert_eq!(led("user@api.example.com:443"), None);
    }
}
