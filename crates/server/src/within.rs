//! Skep's own abilities as tools: a request that Skep makes for somebody who is known, over a connection that leads nowhere but
//! to itself. It goes the way of any request of theirs: the same routes, the same policies, the same entries of the audit log.

use std::convert::Infallible;
use std::future::pending;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use skep_egress::mcp::Own;
use skep_mcp::Asked;

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

/// Asks for somebody what they might ask by themselves.
///
/// # Errors
/// Why there is no answer: not what the answer says.
pub(crate) async fn ask(
    dispatcher: &Dispatcher,
    asker: &Asker,
    asked: Asked,
) -> Result<Own, String> {
    let request = request(asked).ok_or_else(|| "it is no request".to_owned())?;
    let (near, far) = tokio::io::duplex(PIPE);
    let answer = |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(dispatcher.within(asker, request).await)
    };
    let server = hyper::server::conn::http1::Builder::new();
    let serving = server.serve_connection(TokioIo::new(far), service_fn(answer));
    let asking = async {
        let failed = |error: hyper::Error| format!("it does not answer: {error}");
        let near = TokioIo::new(near);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(near)
            .await
            .map_err(failed)?;
        let taking = async {
            let answer = sender.send_request(request).await.map_err(failed)?;
            let (head, body) = answer.into_parts();
            let whole = Limited::new(body, MOST).collect().await;
            let whole =
                whole.map_err(|_| "its answer was cut, or has more than 8 MiB".to_owned())?;
            Ok(Own {
                status: head.status,
                kind: head.headers.get(CONTENT_TYPE).cloned(),
                body: whole.to_bytes(),
            })
        };
        tokio::select! {
            biased;
            taken = taking => taken,
            // It ends when the answer has come.
            never = async { drop(connection.await); pending().await } => never,
        }
    };
    tokio::select! {
        biased;
        asked = asking => asked,
        never = async { drop(serving.await); pending().await } => never,
    }
}
