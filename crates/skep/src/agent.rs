//! The demo's agent: a small HTTP/1.1 agent as somebody could write one in any language. It knows
//! of Skep only what the contract says: `$PORT`, and the headers that a call comes with.
//!
//! Its one effect is a line in a log of its own (`$HOME/executed.log`). It
//! uses the idempotency key to write it once, however often the call is attempted.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Exit;

/// What `POST /crash` exits with.
const CRASH: i32 = 42;
/// Time for open requests to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);
/// Events of a stream that wait for a slow reader.
const QUEUE: usize = 16;

/// The body of a request; what is absent is zero.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ask {
    name: Option<String>,
    n: u64,
    ms: u64,
}

/// An answer that is whole, or whose pieces come by and by.
enum Answer {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces
                .poll_recv(cx)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }
}

/// `skep __agent`.
pub(crate) fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| {
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(serve()))
    });
    match served {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "agent: {error}");
            Exit::Failure.into()
        }
    }
}

async fn serve() -> io::Result<()> {
    let missing = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let port = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or_else(|| missing("PORT is not set"))?;
    let log = std::env::var_os("HOME").map(|home| Path::new(&home).join("executed.log"));
    let log: Rc<Path> = log.ok_or_else(|| missing("HOME is not set"))?.into();
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let mut stop = signal(SignalKind::terminate())?;
    let graceful = GracefulShutdown::new();
    writeln!(io::stderr(), "listening on port {port}")?;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = stop.recv() => break,
        };
        let log = log.clone();
        let service = service_fn(move |request| answer(request, log.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        // A client that goes away is no error of ours.
        tokio::task::spawn_local(async move { drop(watched.await) });
    }
    drop(listener);
    // What is not done by then is cut off.
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    Ok(())
}

fn whole(status: StatusCode, value: &Value) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(value.to_string().into())));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

async fn answer(
    request: Request<Incoming>,
    log: Rc<Path>,
) -> Result<Response<Answer>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let ask: Ask = serde_json::from_slice(&body).unwrap_or_default();
    let wait = Duration::from_millis(ask.ms);
    let ok = |value: Value| whole(StatusCode::OK, &value);
    Ok(match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/ping") => ok(json!({"status": "Healthy"})),
        (&Method::POST, "/greet") => {
            let name = ask.name.as_deref().unwrap_or("world");
            ok(json!({"greeting": format!("hello, {name}")}))
        }
        (&Method::POST, "/work") => {
            tokio::time::sleep(wait).await;
            match effect(&log, &parts.headers, ask.n) {
                Ok(first) => {
                    let (n, pid) = (ask.n, std::process::id());
                    ok(json!({"n": n, "square": n.wrapping_mul(n), "pid": pid, "first": first}))
                }
                Err(error) => {
                    let error = json!({"error": error.to_string()});
                    whole(StatusCode::INTERNAL_SERVER_ERROR, &error)
                }
            }
        }
        (_, "/slow") => {
            tokio::time::sleep(wait).await;
            ok(json!({"waited_ms": ask.ms}))
        }
        (_, "/stream") => stream(ask.n, wait),
        (&Method::POST, "/crash") => std::process::exit(CRASH),
        (_, "/echo") => {
            let text =
                |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| [name.to_string(), text(value)])
                .collect();
            ok(json!({
                "method": parts.method.as_str(),
                "target": parts.uri.to_string(),
                "headers": headers,
                "body": String::from_utf8_lossy(&body),
            }))
        }
        _ => whole(
            StatusCode::NOT_FOUND,
            &json!({"error": "there is nothing here"}),
        ),
    })
}

/// `count` server-sent events with a pause after each.
fn stream(count: u64, pause: Duration) -> Response<Answer> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_local(async move {
        for index in 1..=count {
            let event = format!("data: {{\"index\":{index},\"of\":{count}}}\n\n");
            if sender.send(event.into()).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    });
    let mut response = Response::new(Answer::Pieces(receiver));
    let kind = http::HeaderValue::from_static("text/event-stream");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Writes `CALL ATTEMPT N KEY` into the log, unless a line of this key stands there. Says whether
/// it did. The line is the effect and the memory of it at once: there is no moment in which one is
/// there without the other. The lock is for a predecessor that has not ended yet.
fn effect(log: &Path, headers: &HeaderMap, n: u64) -> io::Result<bool> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("-")
    };
    let call = text(skep_api::HEADER_CALL_ID);
    let key = match text(skep_api::HEADER_IDEMPOTENCY_KEY) {
        "-" => call,
        key => key,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(log)?;
    flock(&file, FlockOperation::LockExclusive)?;
    let mut lines = String::new();
    file.read_to_string(&mut lines)?;
    if key != "-"
        && lines
            .lines()
            .any(|line| line.rsplit(' ').next() == Some(key))
    {
        return Ok(false);
    }
    let attempt = text(skep_api::HEADER_ATTEMPT);
    file.write_all(format!("{call} {attempt} {n} {key}\n").as_bytes())?;
    file.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_happens_once_for_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("executed.log");
        let mut headers = HeaderMap::new();
        headers.insert("skep-call-id", "call_1".parse().unwrap());
        headers.insert("skep-attempt", "1".parse().unwrap());
        headers.insert("idempotency-key", "k".parse().unwrap());
        assert!(effect(&log, &headers, 3).unwrap());
        headers.insert("skep-attempt", "2".parse().unwrap());
        assert!(!effect(&log, &headers, 3).unwrap());
        headers.remove("idempotency-key");
        assert!(effect(&log, &headers, 3).unwrap());
        let lines = std::fs::read_to_string(&log).unwrap();
        assert_eq!(lines, "call_1 1 3 k\ncall_1 2 3 call_1\n");
    }
}
