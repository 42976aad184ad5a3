//! A provider of models for the tests: speaks as OpenAI, Anthropic and Google do, and does what the model's name says.
//!
//! A model is named `NAME+option=value+option=value`; NAME alone answers with the last text of the user.
//!
//! | option | what it does |
//! |---|---|
//! | `say=TEXT` | answers this, with `%20` and the like decoded |
//! | `tokens=N` | answers so many words, repeating those it has |
//! | `prompt=N` | tells so many input tokens, those of the cache included |
//! | `cached=N`, `written=N` | so many of them were read from the cache, written into it |
//! | `lie=N` | tells so many output tokens, whatever is sent |
//! | `nousage` | tells no usage |
//! | `think=N` | thinks so many words before; told as tokens where the dialect does not show them |
//! | `tool=NAME` | calls this tool with `{"city":"Paris"}`, unless the last word is a tool's |
//! | `delay=MS`, `pace=MS` | waits before the answer, between deltas |
//! | `fail=STATUS`, `fail=STATUSxN` | fails always, or the first so many times that this very name is asked |
//! | `after=SECONDS` | what a failure says of when to come back |
//! | `error=N` | tells an error in the stream after so many deltas |
//! | `cut=N` | cuts the connection after so many deltas; before the answer when it is no stream |
//! | `cutbody` | tells a length that is more than what comes, and cuts the connection |
//! | `stall` | opens the stream, or takes the request, and says nothing until the client goes |
//! | `huge=BYTES` | answers so many bytes in one delta |
//! | `as=ANYTHING` | nothing: tells apart tests that use the same options |
//!
//! How tokens are counted is told in `plan`. `GET /_seen?model=NAME` tells what came for a model with options (`-` for
//! requests that name none), `GET /_counts` how much came and is open. Keys that it takes are in `UPSTREAM_KEYS`, with
//! commas between; without them any key will do.

#[path = "upstream/anthropic.rs"]
mod anthropic;
#[path = "upstream/book.rs"]
mod book;
#[path = "upstream/flow.rs"]
mod flow;
#[path = "upstream/google.rs"]
mod google;
#[path = "upstream/openai.rs"]
mod openai;
#[path = "upstream/plan.rs"]
mod plan;
#[path = "upstream/reply.rs"]
mod reply;
#[path = "upstream/responses.rs"]
mod responses;
#[path = "upstream/route.rs"]
mod route;
#[path = "upstream/script.rs"]
mod script;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use book::{Book, Going};
use flow::{End, Flow, Frame, Frames};
use reply::{Ask, Refusal, Reply, Said};
use route::{Dialect, Route};
use script::{Script, decode};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a length that is not true is too long by.
const LIE: usize = 100;

/// The upstream.
struct Upstream {
    book: Arc<Book>,
    keys: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let port: u16 = std::env::var("PORT").map_or(Ok(0), |port| port.parse())?;
    let keys = std::env::var("UPSTREAM_KEYS").unwrap_or_default();
    let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
    let upstream = Arc::new(Upstream {
        book: Arc::default(),
        keys: keys.map(str::to_owned).collect(),
    });
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let mut stdout = io::stdout();
    writeln!(
        stdout,
        "listening on http://127.0.0.1:{}",
        listener.local_addr()?.port()
    )?;
    stdout.flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let upstream = Arc::clone(&upstream);
        tokio::spawn(async move {
            let service = service_fn(|request| upstream.answer(request));
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// What a query says under a name.
fn query(request: &http::request::Parts, name: &str) -> Option<String> {
    let mut pairs = request.uri.query()?.split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.map(decode)
}

fn json(status: StatusCode, kind: &'static str, text: String) -> Response<Flow> {
    let mut response = Response::new(Flow::Whole(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl Upstream {
    /// An error cuts the connection.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Flow>, Error> {
        let (head, body) = request.into_parts();
        let told = match head.uri.path() {
            "/_seen" => Some(self.book.seen(&query(&head, "model").unwrap_or_default())),
            "/_counts" => Some(self.book.counts()),
            _ => None,
        };
        if let Some(told) = told {
            return Ok(json(StatusCode::OK, "application/json", told.to_string()));
        }
        let id = self.book.number();
        let body = body.collect().await?.to_bytes();
        let (dialect, route) = route::find(&head);
        let (value, wrong) = match serde_json::from_slice(&body) {
            Ok(value) => (value, false),
            Err(_) => (Value::Null, !body.is_empty()),
        };
        let named = value["model"].as_str().filter(|_| route.names_in_body());
        let model = route.model().or(named);
        let going = self.book.enter(model, &head, &body, &value);
        match self.reply(&head, dialect, &route, &value, wrong, id).await {
            Ok(reply) => send(reply, dialect, &route, id, going).await,
            Err(refusal) => {
                going.end();
                let array = route.is_array();
                Ok(refuse(&refusal, dialect, array, id))
            }
        }
    }

    fn check(&self, head: &http::request::Parts, dialect: Dialect) -> Result<(), Refusal> {
        let given = |name: &str| {
            let value = head.headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let bearer = || {
            let value = given("authorization")?;
            let (scheme, key) = value.split_once(' ')?;
            (scheme.eq_ignore_ascii_case("bearer")).then(|| key.trim().to_owned())
        };
        let key = match dialect {
            // Azure has a header of its own.
            Dialect::OpenAi => bearer().or_else(|| given("api-key")),
            Dialect::Anthropic => given("x-api-key").or_else(bearer),
            Dialect::Google => given("x-goog-api-key").or_else(|| query(head, "key")),
        };
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            let mut refusal = Refusal::new(401, "No API key was provided.");
            refusal.missing = true;
            return Err(refusal);
        };
        match self.keys.is_empty() || self.keys.contains(&key) {
            true => Ok(()),
            false => Err(Refusal::new(401, "The API key is not valid.")),
        }
    }

    async fn reply(
        &self,
        head: &http::request::Parts,
        dialect: Dialect,
        route: &Route,
        json: &Value,
        wrong: bool,
        id: u64,
    ) -> Result<Reply, Refusal> {
        self.check(head, dialect)?;
        if matches!(route, Route::Unknown) {
            return Err(Refusal::new(404, "There is nothing at this URL."));
        }
        if wrong || (head.method == http::Method::POST && !json.is_object()) {
            return Err(Refusal::new(400, "The body is no JSON object."));
        }
        if dialect == Dialect::Anthropic && !head.headers.contains_key("anthropic-version") {
            return Err(Refusal::new(400, "anthropic-version: the header is needed"));
        }
        let model = route.model().or(json["model"].as_str());
        if model.is_none() && head.method == http::Method::POST {
            return Err(Refusal::new(400, "A model is needed."));
        }
        let model = model.unwrap_or_default();
        let script = Script::read(model).map_err(|error| Refusal::new(400, error))?;
        if !script.delay.is_zero() {
            tokio::time::sleep(script.delay).await;
        }
        if let Some((status, times)) = script.fail
            && self.book.fails(model, times)
        {
            let mut refusal = Refusal::new(status, failure(status, &script.base));
            refusal.after = script.after;
            return Err(refusal);
        }
        let ask = Ask { json, script, id };
        match route {
            Route::Chat => openai::chat(ask),
            Route::Responses => responses::responses(ask),
            Route::Embeddings => openai::embeddings(ask),
            Route::Messages => anthropic::messages(ask),
            Route::CountTokens => anthropic::count(ask),
            Route::Generate(_) => google::generate(ask),
            Route::Stream { array, .. } => google::stream(ask, *array),
            Route::Count(_) => google::count(ask),
            Route::Embed { batch, .. } => google::embed(ask, *batch),
            Route::Models(one) => Ok(match dialect {
                Dialect::OpenAi => openai::models(ask, one.is_some()),
                Dialect::Anthropic => anthropic::models(ask, one.is_some()),
                Dialect::Google => google::models(ask, one.is_some()),
            }),
            Route::Unknown => Err(Refusal::new(404, "There is nothing at this URL.")),
        }
    }
}

fn failure(status: u16, model: &str) -> String {
    match status {
        401 => "The API key is not valid.".to_owned(),
        403 => "This key may not use this.".to_owned(),
        404 => format!("The model {model} does not exist or you may not use it."),
        429 => format!("The limit of requests for {model} is reached."),
        400..=499 => "The request is not valid.".to_owned(),
        _ => "The server had an error.".to_owned(),
    }
}

/// Says what a dialect's answers say of themselves.
fn headers(response: &mut Response<Flow>, dialect: Dialect, id: u64) {
    let own = std::mem::take(response.headers_mut());
    *response.headers_mut() = match dialect {
        Dialect::OpenAi => openai::headers(id),
        Dialect::Anthropic => anthropic::headers(id),
        Dialect::Google => google::HEADERS.clone(),
    };
    response.headers_mut().extend(own);
}

fn refuse(refusal: &Refusal, dialect: Dialect, array: bool, id: u64) -> Response<Flow> {
    let mut status = refusal.status;
    let body = match dialect {
        Dialect::OpenAi => openai::error(refusal),
        Dialect::Anthropic => anthropic::error(refusal, id),
        Dialect::Google => {
            let error = google::error(refusal);
            let code = error["error"]["code"].as_u64();
            status = code.and_then(|it| u16::try_from(it).ok()).unwrap_or(status);
            match array {
                true => Value::Array(vec![error]),
                false => error,
            }
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, dialect.json(), body.to_string());
    headers(&mut response, dialect, id);
    if let Some(after) = refusal.after {
        response.headers_mut().insert(RETRY_AFTER, after.into());
    }
    if dialect == Dialect::Anthropic {
        let again = matches!(refusal.status, 408 | 409 | 429 | 500..);
        let again = HeaderValue::from_static(if again { "true" } else { "false" });
        response.headers_mut().insert("x-should-retry", again);
    }
    response
}

/// Puts a reply on its way, as its script has it.
async fn send(
    reply: Reply,
    dialect: Dialect,
    route: &Route,
    id: u64,
    mut going: Going,
) -> Result<Response<Flow>, Error> {
    let Reply { kind, said, script } = reply;
    let kind = kind.unwrap_or(dialect.json());
    let (mut frames, mut end) = match said {
        Said::Whole(_) if script.stall => std::future::pending().await,
        Said::Whole(_) if script.cut.is_some() => {
            going.end();
            return Err("cut".into());
        }
        Said::Whole(text) if !script.cutbody => {
            going.end();
            let mut response = json(StatusCode::OK, kind, text);
            headers(&mut response, dialect, id);
            return Ok(response);
        }
        Said::Whole(text) => (vec![Frame::event(text)], End::Cut),
        Said::Frames(_) if script.stall => (Vec::new(), End::Never),
        Said::Frames(frames) => (frames, End::Whole),
    };
    if let Some(deltas) = script.error {
        flow::shorten(&mut frames, deltas);
        frames.push(match (dialect, route) {
            (Dialect::Anthropic, _) => anthropic::broken(),
            (Dialect::Google, route) => google::broken(route.is_array(), frames.is_empty()),
            (Dialect::OpenAi, Route::Responses) => responses::broken(),
            (Dialect::OpenAi, _) => openai::broken(),
        });
    }
    if let Some(deltas) = script.cut {
        flow::shorten(&mut frames, deltas);
        end = End::Cut;
    }
    let length: usize = frames.iter().map(Frame::len).sum();
    going.opens();
    let end = if script.cutbody { End::Cut } else { end };
    let frames = Frames::new(frames, script.pace, end, going);
    let mut response = Response::new(Flow::Frames(Box::new(frames)));
    let told = response.headers_mut();
    told.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    told.insert("cache-control", HeaderValue::from_static("no-cache"));
    if script.cutbody {
        told.insert(CONTENT_LENGTH, (length + LIE).into());
    }
    headers(&mut response, dialect, id);
    Ok(response)
}
