//! Skep itself as a client of a server: which era it speaks, what it is, and what it has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;
use skep_core::Workspace;
use skep_mcp::{
    Era, Events, HEADER_METHOD, HEADER_NAME, HEADER_SESSION, HEADER_VERSION, Kind, LEGACY,
    META_CAPABILITIES, META_CLIENT, META_VERSION, MODERN, Message, Object, Settings, code, encoded,
    is_same_id, mirrored, request,
};

use super::link::{Coming, Flow, LATE, Sending};
use super::process::Process;
use super::service::Inner;
use crate::EgressError;
use crate::scrub::Scrub;

/// Bytes of an answer to Skep itself.
pub(super) const MOST_ANSWER: usize = 8 << 20;
/// How often a stream that ended is gone on with for one answer.
const MOST_RETURNS: usize = 8;
/// How long a server is left alone until then, when it says nothing.
const RETRY: Duration = Duration::from_secs(1);

/// An error that a server answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: i64,
    /// Its words, which are not ours.
    pub(super) message: String,
    /// With a status by which a server says that it forgot the session.
    pub(super) gone: bool,
    /// The revisions that it speaks, when it was asked in another one.
    speaks: Vec<String>,
}

impl Said {
    /// Whether the server does not know the session any more.
    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }
}

/// An answer: a result, raw, or an error.
pub(super) type Answer = Result<String, Said>;

/// How it is reached.
enum Way {
    Http(Option<String>),
    Program(Arc<Process>),
}

/// A talk with a server.
pub(super) struct Talk {
    inner: Arc<Inner>,
    workspace: Workspace,
    settings: Arc<Settings>,
    way: Way,
    pub(super) era: Era,
    version: String,
    /// What it says of itself, raw.
    pub(super) hello: String,
    next: std::sync::atomic::AtomicU64,
}

fn me() -> serde_json::Value {
    json!({ "name": "skep", "version": env!("CARGO_PKG_VERSION") })
}

/// The parameters of a request without a session.
pub(super) fn with_meta(params: &str) -> String {
    let meta = json!({ META_VERSION: MODERN[0], META_CLIENT: me(), META_CAPABILITIES: {} });
    let fields = Object::parse(params);
    let fields = fields.map(|it| it.with(&[("_meta", Some(&meta.to_string()))]));
    fields.unwrap_or_else(|| json!({ "_meta": meta }).to_string())
}

fn read_answer(text: &str, id: &str) -> Option<Answer> {
    let message = Message::read(text).ok()?;
    let Kind::Answer { id: its, result } = &message.kind else {
        return None;
    };
    let is_own = its.as_ref().is_none_or(|its| is_same_id(its.get(), id));
    match result {
        _ if !is_own => None,
        Some(result) => Some(Ok(result.get().to_owned())),
        None => {
            let error = message.fields.object("error");
            let code = error.as_ref().and_then(|it| it.get("code"));
            let code = code.and_then(|it| serde_json::from_str(it.get()).ok());
            let text = error.as_ref().and_then(|it| it.text("message"));
            let data = error.and_then(|it| it.object("data"));
            let speaks = data.and_then(|it| it.get("supported"));
            let speaks = speaks.and_then(|it| serde_json::from_str(it.get()).ok());
            Some(Err(Said {
                code: code.unwrap_or(code::INTERNAL),
                message: text.unwrap_or_default(),
                gone: false,
                speaks: speaks.unwrap_or_default(),
            }))
        }
    }
}

/// Whether a server says that it speaks without a session.
fn is_modern(hello: &str) -> bool {
    let spoken = Object::parse(hello).and_then(|it| it.get("supportedVersions"));
    let spoken = spoken.and_then(|it| serde_json::from_str::<Vec<String>>(it.get()).ok());
    spoken.is_some_and(|all| all.iter().any(|it| MODERN.contains(&it.as_str())))
}

/// The pieces of a stream, as they come.
enum Pieces {
    Lines(tokio::sync::mpsc::Receiver<Bytes>),
    Http(hyper::body::Incoming),
}

impl Pieces {
    async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Lines(lines) => lines.recv().await,
            Self::Http(body) => loop {
                let frame = body.frame().await?.ok()?;
                if let Ok(data) = frame.into_data() {
                    return Some(data);
                }
            },
        }
    }
}

/// Where a stream of events ended.
#[derive(Default)]
struct Left {
    /// The last event that has a name.
    last: Option<String>,
    /// How long the server wants to be left alone.
    retry: Option<Duration>,
}

/// Reads events until the answer to `id` comes.
async fn of_events(
    mut pieces: Pieces,
    mut scrub: Scrub,
    id: &str,
    left: &mut Left,
) -> Option<Answer> {
    let (mut events, mut size) = (Events::default(), 0);
    while let Some(piece) = pieces.next().await {
        size += piece.len();
        if size > MOST_ANSWER {
            return None;
        }
        for event in events.push(&scrub.push(&piece)).ok()? {
            if let Some(last) = event.id() {
                left.last = Some(last.to_owned());
            }
            left.retry = event.retry().or(left.retry);
            let answer = event.data.as_deref().and_then(|it| read_answer(it, id));
            if answer.is_some() {
                return answer;
            }
        }
    }
    None
}

/// The answer to `id` in what comes.
async fn answer(coming: Coming, id: &str, left: &mut Left) -> Option<Answer> {
    let kind = coming.headers.get(CONTENT_TYPE);
    let streams = kind.is_some_and(|it| it.as_bytes().starts_with(b"text/event-stream"));
    let scrub = Scrub::new(coming.forms.clone());
    match coming.flow {
        Flow::Lines(lines) => of_events(Pieces::Lines(lines), scrub, id, left).await,
        Flow::Http(body) if streams => of_events(Pieces::Http(body), scrub, id, left).await,
        Flow::Http(body) => {
            let whole = Limited::new(body, MOST_ANSWER).collect().await.ok()?;
            let whole = coming.forms.masked(&whole.to_bytes());
            read_answer(std::str::from_utf8(&whole).ok()?, id)
        }
        Flow::Whole(bytes) => read_answer(std::str::from_utf8(&bytes?).ok()?, id),
    }
}

impl Talk {
    /// Finds out which era a server speaks, and greets it.
    pub(super) async fn begin(
        inner: &Arc<Inner>,
        workspace: &Workspace,
        settings: &Arc<Settings>,
    ) -> Result<Self, EgressError> {
        let way = match settings.transport.is_program() {
            false => Way::Http(None),
            true => Way::Program(inner.launch(workspace, settings).await?),
        };
        let mut talk = Self {
            inner: inner.clone(),
            workspace: workspace.clone(),
            settings: settings.clone(),
            way,
            era: Era::Modern,
            version: MODERN[0].to_owned(),
            hello: "{}".to_owned(),
            next: std::sync::atomic::AtomicU64::new(1),
        };
        for is_last in [false, true] {
            match talk.ask("server/discover", "{}").await? {
                // Some servers of the other era answer whatever they are asked.
                Ok(hello) if is_modern(&hello) => {
                    talk.hello = hello;
                    return Ok(talk);
                }
                Ok(_) => break,
                Err(said) if said.code == code::VERSION => {
                    let speaks = |one: &[&str]| said.speaks.iter().any(|it| one.contains(&&**it));
                    if speaks(&MODERN) && !is_last {
                        continue;
                    }
                    if !speaks(&LEGACY) {
                        let why = "it speaks no revision of the protocol that is spoken here";
                        return Err(Inner::unreachable(settings, why));
                    }
                    break;
                }
                Err(_) => break,
            }
        }
        talk.era = Era::Legacy;
        talk.version = LEGACY[0].to_owned();
        talk.greet().await?;
        Ok(talk)
    }

    /// The handshake.
    async fn greet(&mut self) -> Result<(), EgressError> {
        let failed = |why: String| Inner::unreachable(&self.settings, why);
        let params =
            json!({ "protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": me() });
        let id = "0";
        let text = request(id, "initialize", &params.to_string());
        let coming = self.in_time(self.send("initialize", &[], &text)).await??;
        let session = coming.headers.get(HEADER_SESSION);
        let session = session.and_then(|it| it.to_str().ok()).map(str::to_owned);
        let status = coming.status;
        let mut left = Left::default();
        let said = self.in_time(answer(coming, id, &mut left));
        let hello = match said.await? {
            Some(Ok(hello)) => hello,
            // Its words may have the key in them that it was shown.
            Some(Err(said)) => {
                return Err(failed(format!("it does not greet (code {})", said.code)));
            }
            None => return Err(failed(format!("it does not greet (status {status})"))),
        };
        let version = Object::parse(&hello).and_then(|it| it.text("protocolVersion"));
        let version = version.unwrap_or_default();
        if !LEGACY.contains(&version.as_str()) && version != "2024-11-05" {
            return Err(failed(
                "it speaks no revision that is spoken here".to_owned(),
            ));
        }
        self.version = version;
        self.hello = hello;
        if let Way::Http(own) = &mut self.way {
            *own = session;
        }
        let text = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        self.in_time(self.send("notifications/initialized", &[], text))
            .await?
            .map(drop)
    }

    /// The answer to `id`. Where a stream ends before it came, it is asked for where the stream ended, after the time that
    /// the server wants; whoever asks bounds the whole.
    async fn answered(&self, coming: Coming, id: &str) -> Option<Answer> {
        let mut left = Left::default();
        let mut said = answer(coming, id, &mut left).await;
        for _ in 0..MOST_RETURNS {
            let Some(last) = left.last.take().filter(|_| said.is_none()) else {
                return said;
            };
            tokio::time::sleep(left.retry.unwrap_or(RETRY)).await;
            let coming = self.resumed(&last).await?;
            left.last = Some(last);
            said = answer(coming, id, &mut left).await;
        }
        said
    }

    /// A stream from where another one ended; nothing, when the server gives none.
    async fn resumed(&self, last: &str) -> Option<Coming> {
        let Way::Http(session) = &self.way else {
            return None;
        };
        if self.era == Era::Modern {
            return None;
        }
        let mut headers = HeaderMap::new();
        let events = HeaderValue::from_static("text/event-stream");
        headers.insert(ACCEPT, events);
        headers.insert(HEADER_VERSION, HeaderValue::try_from(&self.version).ok()?);
        headers.insert("last-event-id", HeaderValue::try_from(last).ok()?);
        let sending = Sending {
            workspace: &self.workspace,
            settings: &self.settings,
            method: Method::GET,
            headers,
            session: session.as_deref(),
            body: Bytes::new(),
            own: None,
        };
        let coming = self.inner.ask_http(sending).await.ok()?;
        coming.status.is_success().then_some(coming)
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, EgressError> {
        let late = |_| Inner::failed(&self.settings, LATE, "no answer in time");
        tokio::time::timeout(self.settings.timeout, work)
            .await
            .map_err(late)
    }

    async fn send(
        &self,
        method: &str,
        said_again: &[(String, String)],
        text: &str,
    ) -> Result<Coming, EgressError> {
        let session = match &self.way {
            Way::Http(session) => session.as_deref(),
            Way::Program(process) => {
                let is_request = Message::read(text).is_ok_and(|it| it.id().is_some());
                if is_request {
                    return process.ask(text).await.map(Coming::events);
                }
                return process.tell(text).await.map(|()| Coming::accepted());
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut put = |header: &str, value: &str| {
            let pair = (HeaderName::try_from(header), HeaderValue::try_from(value));
            if let (Ok(header), Ok(value)) = pair {
                headers.insert(header, value);
            }
        };
        if method != "initialize" {
            put(HEADER_VERSION, &self.version);
        }
        if self.era == Era::Modern {
            put(HEADER_METHOD, method);
            for (header, value) in said_again {
                put(header, value);
            }
        }
        let sending = Sending {
            workspace: &self.workspace,
            settings: &self.settings,
            method: Method::POST,
            headers,
            session,
            body: Bytes::copy_from_slice(text.as_bytes()),
            own: None,
        };
        self.inner.ask_http(sending).await
    }

    /// Calls a tool, as its definition asks for, or asks for something else that has a name; parameters are raw JSON.
    pub(super) async fn call(
        &self,
        method: &str,
        params: &str,
        definition: &str,
    ) -> Result<Answer, EgressError> {
        let fields = Object::parse(params);
        let text = |field| fields.as_ref().and_then(|it| it.text(field));
        let name = text("name").or_else(|| text("uri"));
        let mut said_again = mirrored(
            definition,
            fields.and_then(|it| it.object("arguments")).as_ref(),
        );
        said_again.extend(name.map(|it| (HEADER_NAME.to_owned(), encoded(&it))));
        self.say(method, params, &said_again).await
    }

    /// Asks it, with parameters as raw JSON.
    pub(super) async fn ask(&self, method: &str, params: &str) -> Result<Answer, EgressError> {
        self.say(method, params, &[]).await
    }

    async fn say(
        &self,
        method: &str,
        params: &str,
        said_again: &[(String, String)],
    ) -> Result<Answer, EgressError> {
        let id = self
            .next
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            .to_string();
        let params = match self.era {
            Era::Modern => with_meta(params),
            Era::Legacy => params.to_owned(),
        };
        let text = request(&id, method, &params);
        let coming = self.in_time(self.send(method, said_again, &text)).await??;
        let status = coming.status;
        let said = self.in_time(self.answered(coming, &id)).await?;
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let why = format!("it refuses who asks (status {status})");
            return Err(Inner::failed(&self.settings, status.as_str(), why));
        }
        let gone = status == StatusCode::NOT_FOUND && self.era == Era::Legacy;
        match said {
            Some(Err(said)) => Ok(Err(Said { gone, ..said })),
            Some(answer) => Ok(answer),
            None => Ok(Err(Said {
                code: code::INTERNAL,
                message: format!("no answer (status {status})"),
                gone,
                speaks: Vec::new(),
            })),
        }
    }

    /// Whom it is with.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether nobody is there any more.
    pub(super) fn is_over(&self) -> bool {
        match &self.way {
            Way::Http(_) => false,
            Way::Program(process) => process.is_over(),
        }
    }

    /// Ends it.
    pub(super) async fn end(self) {
        if let Way::Http(Some(session)) = &self.way {
            let mut headers = HeaderMap::new();
            if let Ok(version) = HeaderValue::try_from(&self.version) {
                headers.insert(HEADER_VERSION, version);
            }
            let sending = Sending {
                workspace: &self.workspace,
                settings: &self.settings,
                method: Method::DELETE,
                headers,
                session: Some(session),
                body: Bytes::new(),
                own: None,
            };
            let _ = self.inner.ask_http(sending).await;
        }
    }
}
