//! The way to one server, for one message: over HTTP, to a program that runs, or to a web API.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use skep_core::Workspace;
use skep_mcp::{HEADER_SESSION, Settings, Transport, Value};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::chain::Steps;
use super::process::Process;
use super::service::Inner;
use crate::EgressError;
use crate::scrub::Forms;

/// What answers: its beginning, and what follows.
pub(super) struct Coming {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) flow: Flow,
    /// The server's secrets, which are not said on.
    pub(super) forms: Forms,
}

/// What follows.
pub(super) enum Flow {
    /// From a server.
    Http(Incoming),
    /// From a program, as events.
    Lines(mpsc::Receiver<Bytes>),
    /// Nothing, or it is here.
    Whole(Option<Bytes>),
}

impl Coming {
    /// An answer of ours, as JSON.
    pub(super) fn of(status: StatusCode, text: String) -> Self {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        Self {
            status,
            headers,
            flow: Flow::Whole(Some(text.into())),
            forms: Forms::default(),
        }
    }

    /// It was taken, and there is nothing to say.
    pub(super) fn accepted() -> Self {
        Self {
            status: StatusCode::ACCEPTED,
            headers: HeaderMap::new(),
            flow: Flow::Whole(None),
            forms: Forms::default(),
        }
    }

    /// Events of a program, which has taken its secrets out.
    pub(super) fn events(lines: mpsc::Receiver<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("text/event-stream");
        headers.insert(CONTENT_TYPE, kind);
        headers.insert("cache-control", HeaderValue::from_static("no-cache"));
        Self {
            status: StatusCode::OK,
            headers,
            flow: Flow::Lines(lines),
            forms: Forms::default(),
        }
    }
}

/// What is looked for of these secrets.
pub(super) fn forms(secrets: &[Zeroizing<Vec<u8>>]) -> Forms {
    let all: Vec<&[u8]> = secrets.iter().map(|it| it.as_slice()).collect();
    Forms::of(&all)
}

/// A value, with its secret put in, which is kept among those of the server.
pub(super) async fn filled(
    inner: &Inner,
    workspace: &Workspace,
    server: &str,
    (value, secrets): (&Value, &mut Vec<Zeroizing<Vec<u8>>>),
) -> Result<Zeroizing<Vec<u8>>, EgressError> {
    let mut whole = Zeroizing::new(value.before.as_bytes().to_vec());
    if let Some(secret) = &value.secret {
        let found = inner.keys.key(workspace, secret).await;
        let found = found.map_err(|why| EgressError::Key {
            provider: server.to_owned(),
            why,
        })?;
        whole.extend_from_slice(found.trim_ascii());
        secrets.push(Zeroizing::new(found.trim_ascii().to_vec()));
        whole.extend_from_slice(value.after.as_bytes());
    }
    Ok(whole)
}

/// Puts the headers of a server's settings into those of a request, with their secrets, which are kept.
pub(super) async fn filled_all(
    inner: &Inner,
    (workspace, settings): (&Workspace, &Settings),
    own: &BTreeMap<String, Value>,
    (all, secrets): (&mut HeaderMap, &mut Vec<Zeroizing<Vec<u8>>>),
) -> Result<(), EgressError> {
    let failed = |why: &str| Inner::unreachable(settings, why);
    for (name, value) in own {
        let value = (value, &mut *secrets);
        let filled = filled(inner, workspace, &settings.name, value).await?;
        let name = HeaderName::try_from(name).map_err(|_| failed("a header's name"))?;
        let value = HeaderValue::from_bytes(&filled);
        let mut value = value.map_err(|_| failed("a secret cannot stand in a header"))?;
        value.set_sensitive(true);
        all.insert(name, value);
    }
    Ok(())
}

/// A message to a server over HTTP.
pub(super) struct Sending<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) settings: &'a Settings,
    pub(super) method: Method,
    /// Of the protocol.
    pub(super) headers: HeaderMap,
    pub(super) session: Option<&'a str>,
    pub(super) body: Bytes,
    /// By which Skep itself is asked.
    pub(super) own: Option<&'a dyn Steps>,
}

/// How an exchange ends whose server gives no answer in time.
pub(super) const LATE: &str = "late";
/// How one ends whose answer has no end, or no beginning.
pub(super) const CUT: &str = "cut";
/// How one ends whose answer is too long.
pub(super) const LONG: &str = "long";
/// How one ends of which nothing was sent: it costs nothing.
pub(super) const UNREACHABLE: &str = "unreachable";

impl EgressError {
    /// How an exchange ends that comes to this.
    pub(super) fn outcome(&self) -> &str {
        match self {
            Self::ToolServer {
                sent: Some(outcome),
                ..
            } => outcome,
            _ => UNREACHABLE,
        }
    }

    /// The same, when it was before what is asked for was sent.
    pub(super) fn before(mut self) -> Self {
        if let Self::ToolServer { sent, .. } = &mut self {
            *sent = None;
        }
        self
    }
}

impl Inner {
    /// The error of a server that cannot be asked: nothing was sent.
    pub(super) fn unreachable(settings: &Settings, why: impl Into<String>) -> EgressError {
        EgressError::ToolServer {
            server: settings.name.clone(),
            why: why.into(),
            sent: None,
        }
    }

    /// The error of a server that was asked, by how that ended: it may have done what it was asked for.
    pub(super) fn failed(
        settings: &Settings,
        outcome: &str,
        why: impl Into<String>,
    ) -> EgressError {
        EgressError::ToolServer {
            server: settings.name.clone(),
            why: why.into(),
            sent: Some(outcome.to_owned()),
        }
    }

    /// Asks a server over HTTP, or who answers in the place of one.
    pub(super) async fn ask_http(&self, sending: Sending<'_>) -> Result<Coming, EgressError> {
        let settings = sending.settings;
        let failed = |why: &str| Self::unreachable(settings, why);
        let (url, headers) = match &settings.transport {
            Transport::Http { url, headers } => (url, headers),
            Transport::OpenApi { .. } | Transport::Skep { .. } => {
                return self.ask_api(sending).await;
            }
            Transport::Stdio { .. } => return Err(failed("it is no server over HTTP")),
        };
        let mut all = sending.headers.clone();
        let mut secrets = Vec::new();
        let of = (sending.workspace, settings);
        filled_all(self, of, headers, (&mut all, &mut secrets)).await?;
        if let Some(session) = sending.session {
            let value = HeaderValue::try_from(session);
            all.insert(
                HEADER_SESSION,
                value.map_err(|_| failed("its session's name"))?,
            );
        }
        all.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let both = HeaderValue::from_static("application/json, text/event-stream");
        all.entry(ACCEPT).or_insert(both);
        let mut request = Request::builder().method(sending.method).uri(url);
        if let Some(own) = request.headers_mut() {
            *own = all;
        }
        let request = request.body(Full::new(sending.body));
        let request = request.map_err(|error| failed(&error.to_string()))?;
        let answer = self.answer_of(settings, request).await?;
        let status = answer.status();
        if status.is_redirection() {
            let why = "it answers with a redirection, which is not followed";
            return Err(Self::failed(settings, status.as_str(), why));
        }
        let (head, body) = answer.into_parts();
        Ok(Coming {
            status: head.status,
            headers: head.headers,
            flow: Flow::Http(body),
            forms: forms(&secrets),
        })
    }

    /// The beginning of an answer, in the time of a server.
    pub(super) async fn answer_of(
        &self,
        settings: &Settings,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, EgressError> {
        let asked = tokio::time::timeout(settings.timeout, self.upstream.ask(request)).await;
        match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err((why, true))) => Err(Self::failed(settings, CUT, why)),
            Ok(Err((why, false))) => Err(Self::unreachable(settings, why)),
            Err(_) => {
                let why = format!("no answer within {} s", settings.timeout.as_secs());
                Err(Self::failed(settings, LATE, why))
            }
        }
    }

    /// A program of a server, begun.
    pub(super) async fn launch(
        self: &Arc<Self>,
        workspace: &Workspace,
        settings: &Settings,
    ) -> Result<Arc<Process>, EgressError> {
        Process::begin(self, workspace, settings).await
    }
}
