//! Skep's own abilities as tools, and topics that are followed: a request that Skep makes for somebody who is known, over a
//! connection that leads nowhere but to itself. It goes the way of any request of theirs: the same routes, the same policies, the
//! same entries of the audit log.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::response::Parts;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use skep_egress::mcp::Own;
use skep_mcp::Asked;
use tokio::task::JoinSet;

use crate::dispatch::Dispatcher;
use crate::gate::Asker;

/// Bytes that are on their way at once.
const PIPE: usize = 64 << 10;
/// The longest answer, in bytes.
const MOST: usize = 8 << 20;

fn request(asked: Asked) -> Option<Request<Full<Bytes>>> {
    let method = Method::from_bytes(asked.method.to_ascii_uppercase().as_bytes()).ok()?;
    let mut request = Request::builder().method(method).uri(asked.target);
    request = request.header(HOST, "skep");
    for (name, value) in asked.headers {
        request = request.header(name, value);
    }
    let (kind, body) = asked.body.unzip();
    if let Some(kind) = kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    request
        .body(Full::new(body.unwrap_or_default().into()))
        .ok()
}

/// An answer that comes. It ends with this.
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) body: Incoming,
    /// Both ends of its connection.
    _ends: JoinSet<()>,
}

/// Asks for somebody what they might ask by themselves, and gives the answer as it comes.
///
/// # Errors
/// Why there is no answer: not what the answer says.
pub(crate) async fn open(
    dispatcher: &Dispatcher,
    asker: &Asker,
    asked: Asked,
) -> Result<Answer, String> {
    let request = request(asked).ok_or_else(|| "it is no request".to_owned())?;
    let (near, far) = tokio::io::duplex(PIPE);
    let (dispatcher, asker) = (dispatcher.clone(), asker.clone());
    let mut ends = JoinSet::new();
    ends.spawn(async move {
        let answer = |request: Request<Incoming>| async {
            Ok::<_, Infallible>(dispatcher.within(&asker, request).await)
        };
        let server = hyper::server::conn::http1::Builder::new();
        let serving = server.serve_connection(TokioIo::new(far), service_fn(answer));
        // How it ends is what the other end is told.
        drop(serving.await);
    });
    let failed = |error: hyper::Error| format!("it does not answer: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .map_err(failed)?;
    ends.spawn(async move { drop(connection.await) });
    let (head, body) = sender
        .send_request(request)
        .await
        .map_err(failed)?
        .into_parts();
    Ok(Answer {
        head,
        body,
        _ends: ends,
    })
}

/// As [`open`], when the whole answer has come.
///
/// # Errors
/// As [`open`], and when it is too long.
pub(crate) async fn ask(
    dispatcher: &Dispatcher,
    asker: &Asker,
    asked: Asked,
) -> Result<Own, String> {
    let Answer { head, body, _ends } = open(dispatcher, asker, asked).await?;
    let whole = Limited::new(body, MOST).collect().await;
    let whole = whole.map_err(|_| "its answer was cut, or has more than 8 MiB".to_owned())?;
    Ok(Own {
        status: head.status,
        kind: head.headers.get(CONTENT_TYPE).cloned(),
        body: whole.to_bytes(),
    })
}
