//! Tunnels: what a client asks for with `CONNECT`. One whose rule looks into it is opened with the workspace's own CA, and
//! each request in it is decided on as any other; any other is carried as it is, when it is TLS to the host that it was
//! asked for.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use skep_core::{Code, RequestId};
use skep_egress::web::{Asked, Open, Scheme, WebError, carry};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::Instrument as _;

use super::{Client, Seen, forward, led_to, may, nothing, refused, tell};
use crate::access::WEB_REQUEST;
use crate::act::Act;
use crate::connection::Place;
use crate::dispatch::Body;
use crate::problem::{ApiError, REQUEST};
use crate::state::State;
use crate::strict;

/// How long a client may take until it says what it speaks.
const HELLO: Duration = Duration::from_secs(10);
/// Bytes of the first thing that a client of TLS says.
const MOST_HELLO: usize = 64 << 10;
/// How long a client may say nothing between requests.
const IDLE: Duration = Duration::from_secs(120);
/// What TLS begins with: a record of a handshake.
const TLS: u8 = 0x16;

/// Answers `CONNECT`.
pub(super) async fn open(
    state: &Arc<State>,
    client: &Arc<Client>,
    id: RequestId,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let headers = request.headers();
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        // What follows would be a body to one reader, and the tunnel to another.
        return Err(ApiError::new(
            Code::BadRequest,
            "a request for a tunnel has no body",
        ));
    }
    let asked = led_to(request.uri());
    let asked =
        asked.ok_or_else(|| WebError::Bad("a tunnel is asked for as `HOST:PORT`".to_owned()))?;
    let place = request.extensions().get::<Place>().cloned();
    let workspace = client.asker.principal.workspace.clone();
    let act = Act::new(&client.asker, workspace, WEB_REQUEST, &asked.name(), id);
    let act = Arc::new(act);
    let upgrade = hyper::upgrade::on(&mut request);
    let made = begin(state, (client, &act), asked, (upgrade, place)).await;
    if let Err(error) = &made {
        tell(state, client, &act, error).await;
    }
    made.map(|()| nothing())
}

/// Finds out what becomes of a tunnel, and leaves it to a task of its own.
async fn begin(
    state: &Arc<State>,
    (client, act): (&Arc<Client>, &Arc<Act>),
    asked: Asked,
    (upgrade, place): (OnUpgrade, Option<Place>),
) -> Result<(), ApiError> {
    let workspace = &client.asker.principal.workspace;
    let (rule, opened) = state.web.tunnel(workspace, &asked).await?;
    let (state, client) = (state.clone(), client.clone());
    if opened {
        let config = state.web.posing(workspace, &asked.host).await?;
        tokio::spawn(async move {
            let stop = state.stop.clone();
            let looked_into = look_into((state, client), asked, upgrade, config);
            tokio::select! {
                () = looked_into => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
        return Ok(());
    }
    may(&state, (&client, act), (&asked, &rule), ("CONNECT", None)).await?;
    let witness = Arc::new(Seen { act: act.clone() });
    let mut exchange = state
        .web
        .begin((&asked, &rule, "CONNECT"), &client.who(), witness)
        .await?;
    let host = state.web.connect(&asked, &mut exchange).await?;
    tokio::spawn(async move {
        let stop = state.stop.clone();
        let carried = pass((state, client), asked, upgrade, (host, exchange));
        tokio::select! {
            () = carried => {}
            () = stop.cancelled() => {}
        }
        drop(place);
    });
    Ok(())
}

/// What a client of TLS says first, and which host it names there. Nothing, when it is no TLS.
async fn hello(io: &mut (impl AsyncRead + Unpin)) -> Option<(Vec<u8>, Option<String>)> {
    let mut said = Vec::new();
    let mut acceptor = rustls::server::Acceptor::default();
    while said.len() < MOST_HELLO {
        let mut piece = [0; 4096];
        let count = io.read(&mut piece).await.ok()?;
        let mut new = piece.get(..count).filter(|it| !it.is_empty())?;
        said.extend_from_slice(new);
        while !new.is_empty() {
            acceptor.read_tls(&mut new).ok()?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Some((said, name));
            }
            Err(_) => return None,
        }
    }
    None
}

/// Carries a tunnel as it is.
async fn pass(
    (state, client): (Arc<State>, Arc<Client>),
    asked: Asked,
    upgrade: OnUpgrade,
    (host, exchange): (tokio::net::TcpStream, Open),
) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut io = TokioIo::new(upgraded);
    let Ok(Some((said, name))) = timeout(HELLO, hello(&mut io)).await else {
        exchange.ended("not-tls");
        return;
    };
    let is_address = asked.host.parse::<std::net::IpAddr>().is_ok();
    // Who names another one in there wants to be led elsewhere by whoever is behind the address.
    let is_meant = match name {
        Some(name) => name.trim_end_matches('.').eq_ignore_ascii_case(&asked.host),
        None => is_address,
    };
    if !is_meant {
        exchange.ended("other-host");
        return;
    }
    carry(io, host, &said, exchange, || client.counts(&state)).await;
}

/// Looks into a tunnel.
async fn look_into(
    (state, client): (Arc<State>, Arc<Client>),
    asked: Asked,
    upgrade: OnUpgrade,
    config: Arc<ServerConfig>,
) {
    let Ok(upgraded) = upgrade.await else { return };
    let (mut reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    let mut first = [0];
    if !matches!(
        timeout(HELLO, reader.read_exact(&mut first)).await,
        Ok(Ok(_))
    ) {
        return;
    }
    let is_tls = first == [TLS];
    let io = tokio::io::join(Cursor::new(first).chain(reader), writer);
    if !is_tls {
        let asked = Asked {
            scheme: Scheme::Http,
            ..asked
        };
        return serve((state, client), asked, io).await;
    }
    match timeout(HELLO, TlsAcceptor::from(config).accept(io)).await {
        Ok(Ok(stream)) => serve((state, client), asked, stream).await,
        Ok(Err(error)) => {
            let host = asked.name();
            tracing::debug!(host, %error, "a client does not believe the workspace's CA, or speaks no TLS");
        }
        Err(_) => {}
    }
}

/// Answers the requests in a tunnel.
async fn serve(
    (state, client): (Arc<State>, Arc<Client>),
    asked: Asked,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let asked = Arc::new(asked);
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, client, asked) = (state.clone(), client.clone(), asked.clone());
        async move {
            let id = RequestId::new();
            let span = tracing::info_span!("request", %id, method = %request.method(), path = asked.name());
            let answered = REQUEST.scope(id, inside(&state, &client, &asked, id, request));
            match answered.instrument(span).await {
                Ok(response) => Ok::<_, Infallible>(response),
                Err(error) => refused(&error, id),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a tunnel ended");
    }
}

/// One request in a tunnel.
async fn inside(
    state: &Arc<State>,
    client: &Arc<Client>,
    asked: &Asked,
    id: RequestId,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    if request.method() == Method::CONNECT {
        return Err(ApiError::new(
            Code::MethodNotAllowed,
            "a tunnel leads into no other",
        ));
    }
    strict::check(&mut request).map_err(|(_, error)| error)?;
    if !client.counts(state) {
        let detail = "what was shown to the proxy counts no more";
        return Err(ApiError::new(Code::ProxyUnauthorized, detail));
    }
    let counted = state.rates.begin();
    state.rates.principal(&counted, &client.asker.principal)?;
    let host = request.headers().get(HOST).and_then(|it| it.to_str().ok());
    let named = host.and_then(|it| it.parse::<http::uri::Authority>().ok());
    let named = named.and_then(|it| Asked::new(asked.scheme, it.host(), it.port_u16()));
    if named.as_ref() != Some(asked) {
        let detail = format!(
            "the tunnel leads to {}, and the request is for another host",
            asked.name()
        );
        return Err(WebError::Bad(detail).into());
    }
    forward(state, client, asked, id, request).await
}
