//! The agent of the end-to-end tests: does what its paths say, and writes down what it did.
//!
//! It keeps `executed.log` in `$LEDGER`, or else in `$HOME`: one line for each request to `/work` and `/once` that it
//! carried out, written before it answers.

#[path = "agent/attempts.rs"]
mod attempts;

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Error = Box<dyn std::error::Error + Send + Sync>;
type Shared = Rc<RefCell<Ledger>>;

/// Held by the request to `/serial` that is carried out.
static SERIAL: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::main(flavor = "local")]
async fn main() -> Result<(), Error> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    // On every address: in a container it is reached from outside.
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
    let ledger: Shared = Rc::new(RefCell::new(Ledger::open()?));
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let ledger = ledger.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| async {
                Ok::<_, Infallible>(answer(&ledger, request).await.unwrap_or_else(|error| {
                    text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
                }))
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Where the ledger is: its home, or where all servers have it.
fn folder() -> PathBuf {
    let named = std::env::var_os("LEDGER").or_else(|| std::env::var_os("HOME"));
    PathBuf::from(named.unwrap_or_default())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("-")
}

/// `executed.log`, which all instances of the agent share: whoever reads or writes it holds its
/// lock.
struct Ledger {
    file: File,
    /// As far as it was read.
    read: u64,
    /// What is there, by the first column of its lines.
    done: HashMap<String, String>,
}

impl Ledger {
    fn open() -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(folder().join("executed.log"))?;
        Ok(Self {
            file,
            read: 0,
            done: HashMap::new(),
        })
    }

    /// Takes the lock and reads what others wrote. The half line that a kill may have left is taken
    /// away, so that the next one stands alone.
    fn lock(&mut self) -> Result<(), Error> {
        self.file.lock()?;
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.read))?;
        self.file.read_to_end(&mut bytes)?;
        let last = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = last.map_or(0, |at| at + 1);
        self.read += u64::try_from(whole)?;
        if whole < bytes.len() {
            self.file.set_len(self.read)?;
        }
        let text = String::from_utf8_lossy(&bytes[..whole]);
        for (key, body) in text.lines().filter_map(|line| line.split_once('\t')) {
            self.done.insert(key.to_owned(), body.to_owned());
        }
        Ok(())
    }

    fn append(&mut self, key: &str, body: &str) -> Result<(), Error> {
        self.lock()?;
        self.file.write_all(format!("{key}\t{body}\n").as_bytes())?;
        Ok(self.file.unlock()?)
    }

    /// Appends it unless the key is there; what the key has then.
    fn append_once(&mut self, key: &str, body: &str) -> Result<String, Error> {
        self.lock()?;
        if !self.done.contains_key(key) {
            self.file.write_all(format!("{key}\t{body}\n").as_bytes())?;
        }
        self.file.unlock()?;
        Ok(self.done.get(key).map_or(body, String::as_str).to_owned())
    }
}

fn number(query: &str, name: &str) -> u64 {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

async fn answer(ledger: &Shared, mut request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let pause = Duration::from_millis(number(&query, "ms"));
    match path.as_str() {
        "/ping" => return Ok(text(StatusCode::OK, "pong")),
        // Answers without looking at the body.
        "/early" => return Ok(text(StatusCode::OK, "early")),
        "/hang" => std::future::pending().await,
        "/upgrade" => return Ok(upgrade(&mut request)),
        _ => {}
    }
    let (head, body) = request.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    let body = collected.to_bytes();
    match path.as_str() {
        "/events" => {}
        // One after the other, as an agent that can do one thing at a time.
        "/serial" => {
            let _alone = SERIAL.lock().await;
            tokio::time::sleep(pause).await;
        }
        _ => tokio::time::sleep(pause).await,
    }
    match path.as_str() {
        "/cut" | "/events" | "/steps" | "/ticks" => Ok(streaming(&path, &query, &head.headers)),
        _ => work(ledger, &path, &query, &head, body, trailers.as_ref()),
    }
}

/// Answers that come at once.
fn work(
    ledger: &Shared,
    path: &str,
    query: &str,
    head: &http::request::Parts,
    body: Bytes,
    trailers: Option<&HeaderMap>,
) -> Result<Response<Body>, Error> {
    match path {
        "/work" => {
            let call = header(&head.headers, "skep-call-id");
            let mut ledger = ledger.borrow_mut();
            ledger.append(call, &String::from_utf8_lossy(&body))?;
            Ok(text(StatusCode::OK, body))
        }
        "/once" => once(ledger, &head.headers, &body),
        "/poison" if body.starts_with(b"poison") => std::process::exit(42),
        "/poison" => Ok(text(StatusCode::OK, body)),
        "/flaky" => {
            let attempt: u64 = header(&head.headers, "skep-attempt").parse().unwrap_or(0);
            let status = if attempt <= number(query, "fails") {
                503
            } else {
                200
            };
            Ok(text(
                StatusCode::from_u16(status)?,
                format!("attempt {attempt}"),
            ))
        }
        "/status" => {
            let code = u16::try_from(number(query, "code"))?;
            Ok(text(StatusCode::from_u16(code)?, "said so"))
        }
        _ if path.starts_with("/try/") => Ok(text(StatusCode::OK, attempts::attempt(path, query))),
        "/large" => Ok(text(
            StatusCode::OK,
            vec![b'x'; usize::try_from(number(query, "bytes"))?],
        )),
        // What a test deploys each revision with.
        "/env" => {
            let all: std::collections::BTreeMap<String, String> = std::env::vars().collect();
            Ok(text(StatusCode::OK, serde_json::to_string(&all)?))
        }
        "/number" => Ok(text(StatusCode::OK, std::env::var("NUMBER")?)),
        _ => Ok(echo(head, &body, trailers)),
    }
}

/// Answers that come in parts.
fn streaming(path: &str, query: &str, headers: &HeaderMap) -> Response<Body> {
    let pause = Duration::from_millis(number(query, "ms"));
    let attempt = header(headers, "skep-attempt").to_owned();
    let count = number(query, "n");
    let steps: Vec<Step> = match path {
        "/cut" => {
            let file = folder().join("step-1");
            vec![
                Step::Send("data: one\n\n".to_owned()),
                Step::File(file),
                Step::Exit,
            ]
        }
        "/events" => (1..=count)
            .flat_map(|n| {
                [
                    Step::Send(format!("data: {n} of {attempt}\n\n")),
                    Step::Wait(pause),
                ]
            })
            .collect(),
        // When each is sent, in microseconds since 1970, and bytes besides.
        "/ticks" => {
            let bytes = usize::try_from(number(query, "bytes")).unwrap_or_default();
            let one = |_| [Step::Now(bytes), Step::Wait(pause)];
            (1..=count).flat_map(one).collect()
        }
        // Sends an event whenever the test makes the next of these files.
        _ => (1..=count)
            .flat_map(|n| {
                let file = folder().join(format!("step-{n}"));
                [Step::File(file), Step::Send(format!("data: step {n}\n\n"))]
            })
            .collect(),
    };
    stream(steps, "text/event-stream")
}

/// Does its work at most once for each key, however often it is asked. The line in the ledger *is*
/// the work: there is no moment at which the one is done and the other is not.
fn once(ledger: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<Response<Body>, Error> {
    let key = header(headers, "idempotency-key");
    let mut ledger = ledger.borrow_mut();
    let result = ledger.append_once(key, &String::from_utf8_lossy(body))?;
    Ok(text(StatusCode::OK, result))
}

fn echo(head: &http::request::Parts, body: &Bytes, trailers: Option<&HeaderMap>) -> Response<Body> {
    let pairs = |headers: &HeaderMap| -> Vec<(String, String)> {
        let pair = |(name, value): (&http::HeaderName, &HeaderValue)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        headers.iter().map(pair).collect()
    };
    let seen = json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": pairs(&head.headers),
        "body": String::from_utf8_lossy(body),
        "trailers": trailers.map(pairs),
        "pid": std::process::id(),
    });
    let mut sent = HeaderMap::new();
    sent.insert("x-checksum", HeaderValue::from_static("abc"));
    let frames = [
        Ok::<_, Infallible>(Frame::data(Bytes::from(seen.to_string()))),
        Ok(Frame::trailers(sent)),
    ];
    let with_trailers = header(&head.headers, "te") == "trailers";
    let mut response = match with_trailers {
        true => {
            let (sender, receiver) = mpsc::channel(2);
            for frame in frames {
                let _ = sender.try_send(frame);
            }
            Response::new(BodyExt::boxed_unsync(StreamBody::new(Receiver(receiver))))
        }
        false => Response::new(Full::new(Bytes::from(seen.to_string())).boxed_unsync()),
    };
    if with_trailers {
        response
            .headers_mut()
            .insert("trailer", HeaderValue::from_static("x-checksum"));
    }
    let headers = response.headers_mut();
    headers.append("set-cookie", HeaderValue::from_static("a=1"));
    headers.append("set-cookie", HeaderValue::from_static("b=2"));
    headers.insert("connection", HeaderValue::from_static("keep-alive, x-hop"));
    headers.insert("x-hop", HeaderValue::from_static("not for the client"));
    response
}

/// One step of a stream.
enum Step {
    Send(String),
    /// Sends when it is.
    Now(usize),
    Wait(Duration),
    File(PathBuf),
    Exit,
}

struct Receiver(mpsc::Receiver<Result<Frame<Bytes>, Infallible>>);

impl futures_core::Stream for Receiver {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

fn stream(steps: Vec<Step>, kind: &'static str) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for step in steps {
            let text = match step {
                Step::Send(text) => text,
                Step::Now(bytes) => {
                    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                    let now = now.unwrap_or_default().as_micros();
                    format!("data: {now} {}\n\n", "x".repeat(bytes))
                }
                Step::Wait(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Step::Exit => std::process::exit(43),
                Step::File(path) => {
                    let mut look = tokio::time::interval(Duration::from_millis(2));
                    while !path.exists() {
                        look.tick().await;
                    }
                    continue;
                }
            };
            let sent = sender.send(Ok(Frame::data(Bytes::from(text)))).await;
            if sent.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(Receiver(receiver))));
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static(kind));
    response
}

/// Speaks another protocol from here on: gives every byte back.
fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    response
        .headers_mut()
        .insert("upgrade", HeaderValue::from_static("websocket"));
    response
        .headers_mut()
        .insert("connection", HeaderValue::from_static("upgrade"));
    response
}
