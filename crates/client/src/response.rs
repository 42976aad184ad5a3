//! What comes back: an agent's answer as it streams in, and the lines of a log.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use skep_api::{Call, Event, LogLine};

use crate::ClientError;
use crate::through::Through;

/// The longest line of a log that is taken.
const MOST_LINE_BYTES: usize = 4 << 20;
/// The largest answer that [`Answer::bytes`] gathers.
const MOST_BODY_BYTES: usize = 256 << 20;

/// A body that ends with its connection, or one that goes on with another.
#[derive(Debug)]
pub(crate) enum Body {
    Plain(Plain),
    Through(Box<Through>),
}

/// A body that comes in pieces, or that had to be read to know what it is.
#[derive(Debug)]
pub(crate) enum Plain {
    Incoming(Incoming),
    Gathered(Bytes),
}

impl Plain {
    /// The next piece; `None` at the end.
    pub(crate) async fn chunk(&mut self, url: &str) -> Result<Option<Bytes>, ClientError> {
        let body = match self {
            Self::Incoming(body) => body,
            Self::Gathered(bytes) => {
                return Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()));
            }
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ClientError::Interrupted {
                url: url.to_owned(),
                source: error.into(),
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// An answer whose body comes in pieces.
#[derive(Debug)]
pub struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) url: String,
    /// The connection's other protocol, of an answer that changes to it.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Answer {
    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The id of the call that the answer belongs to; `None` when it was not journaled.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        self.text(skep_api::HEADER_CALL_ID)
    }

    /// The id of the request, to look up in the server's log.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.text(skep_api::HEADER_REQUEST_ID)
    }

    /// Whether an earlier request with the same idempotency key got this answer.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.text(skep_api::HEADER_REPLAYED) == Some("true")
    }

    /// Whether this is Skep's word that the call is durable and will be answered later, instead of
    /// the agent's answer.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        let location = self
            .text("location")
            .and_then(|at| at.strip_prefix("/api/v1/calls/"));
        self.status == StatusCode::ACCEPTED && location.is_some() && location == self.call_id()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`] when the connection was lost before the end; of an answer that
    /// goes on by itself, what became of that, or [`ClientError::Unresumable`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        match &mut self.body {
            Body::Plain(body) => body.chunk(&self.url).await,
            Body::Through(body) => body.chunk().await,
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Answer::chunk`]; [`ClientError::Protocol`] when it is over 256 MiB.
    pub async fn bytes(mut self) -> Result<Bytes, ClientError> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > MOST_BODY_BYTES {
                return Err(self.strange("the body is larger than can be gathered".to_owned()));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    pub(crate) async fn gathered(self) -> Result<(Self, Bytes), ClientError> {
        let (status, headers, url) = (self.status, self.headers.clone(), self.url.clone());
        let bytes = self.bytes().await?;
        let body = Body::Plain(Plain::Gathered(bytes.clone()));
        let answer = Self {
            status,
            headers,
            body,
            url,
            upgrade: None,
        };
        Ok((answer, bytes))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// As [`Answer::bytes`]; [`ClientError::Protocol`] when it is not what was expected.
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, ClientError> {
        let url = self.url.clone();
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Protocol {
            url,
            detail: error.to_string(),
        })
    }

    /// The call, of an answer that is [accepted](Self::is_accepted).
    ///
    /// # Errors
    /// As [`Answer::json`].
    pub async fn accepted(self) -> Result<Call, ClientError> {
        self.json().await
    }

    /// The server's address, and the connection when it has changed its protocol.
    pub(crate) fn upgrade(mut self) -> Result<(String, OnUpgrade), ClientError> {
        match self.upgrade.take() {
            Some(upgrade) => Ok((self.url, upgrade)),
            None => Err(self.strange("the connection cannot be upgraded".to_owned())),
        }
    }

    pub(crate) fn strange(&self, detail: String) -> ClientError {
        ClientError::Protocol {
            url: self.url.clone(),
            detail,
        }
    }
}

/// The lines of an answer as they come.
#[derive(Debug)]
struct Lines {
    answer: Answer,
    buffer: BytesMut,
}

impl Lines {
    fn new(answer: Answer) -> Self {
        Self {
            answer,
            buffer: BytesMut::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<BytesMut>, ClientError> {
        let mut searched = 0;
        loop {
            let fresh = &self.buffer[searched..];
            if let Some(end) = fresh.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(searched + end);
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched > MOST_LINE_BYTES {
                return Err(self.answer.strange("a line has no end".to_owned()));
            }
            match self.answer.chunk().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(self.buffer.split())),
            }
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, text: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(text).map_err(|error| self.answer.strange(error.to_string()))
    }
}

/// The lines of a log as they come.
#[derive(Debug)]
pub struct Logs(Lines);

impl Logs {
    pub(crate) fn new(answer: Answer) -> Self {
        Self(Lines::new(answer))
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`], and [`ClientError::Protocol`] when a line is not one.
    pub async fn next(&mut self) -> Result<Option<LogLine>, ClientError> {
        match self.0.next().await? {
            Some(line) => self.0.json(&line).map(Some),
            None => Ok(None),
        }
    }
}

/// Events as they happen.
#[derive(Debug)]
pub struct Events(Lines);

impl Events {
    pub(crate) fn new(answer: Answer) -> Self {
        Self(Lines::new(answer))
    }

    /// The next event; `None` when the server ended the stream, which can be taken up again behind
    /// the last one.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`], and [`ClientError::Protocol`] when an event is not one.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        // Each is one line of data, which holds the id too.
        while let Some(line) = self.0.next().await? {
            if let Some(data) = line.strip_prefix(b"data: ") {
                return self.0.json(data).map(Some);
            }
        }
        Ok(None)
    }
}

/// An event of a run, as AG-UI has it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEvent {
    /// Which, for who goes on behind it; none, of what is not recorded.
    pub id: Option<String>,
    /// What it tells.
    pub event: serde_json::Value,
}

/// The events of a run, as they happen.
#[derive(Debug)]
pub struct RunEvents(Lines);

impl RunEvents {
    pub(crate) fn new(answer: Answer) -> Self {
        Self(Lines::new(answer))
    }

    /// The next event; `None` when the run has ended.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`], and [`ClientError::Protocol`] when an event is not one.
    pub async fn next(&mut self) -> Result<Option<RunEvent>, ClientError> {
        let mut id = None;
        while let Some(line) = self.0.next().await? {
            if let Some(text) = line.strip_prefix(b"id: ") {
                id = Some(String::from_utf8_lossy(text).into_owned());
            }
            if let Some(data) = line.strip_prefix(b"data: ") {
                let event = self.0.json(data)?;
                return Ok(Some(RunEvent { id, event }));
            }
        }
        Ok(None)
    }
}
