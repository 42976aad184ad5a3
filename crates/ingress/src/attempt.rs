//! One attempt: the request to the agent's instance and its answer, complete and recorded, or why
//! there is none.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use skep_core::{CallId, RunId, Workspace};
use skep_store::{Blobs, PinnedBlob};

use crate::agents::{Agents, Head, Shape};
use crate::body::Body;
use crate::headers::{mark_chunked, settle_length, strip_hop_by_hop};
use crate::journal::{Answer, Request};
use crate::lane::Lane;
use crate::life::End;
use crate::live::{Live, Phase};
use crate::payload::{MEMORY_BYTES, store};
use crate::pool::{Link, Place};
use crate::recording::{CutOffOnDrop, Recording, Scribe};
use crate::sse::Stamper;

/// An answer of unknown length that takes longer is shown to the client as it comes.
const PATIENCE: Duration = Duration::from_millis(20);

/// What an attempt needs to know.
pub(crate) struct Attempt<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) blobs: &'a Blobs,
    pub(crate) id: CallId,
    pub(crate) number: u32,
    pub(crate) place: Place,
    pub(crate) live: &'a Live,
    pub(crate) agents: &'a dyn Agents,
    pub(crate) idle: Duration,
    pub(crate) answer_limit: u64,
    /// The attempt's own trace context, instead of the stored one.
    pub(crate) traceparent: Option<HeaderValue>,
}

/// A complete answer. The pin holds until its row is committed; the recording's end is told then.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) answer: Answer,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) pin: Option<PinnedBlob>,
    pub(crate) recording: Option<Arc<Recording>>,
    /// What is told of it when the call ends by it.
    pub(crate) summary: Option<Bytes>,
}

impl Attempt<'_> {
    /// Runs the attempt to its end.
    pub(crate) async fn run(&self, request: &Request) -> Result<Complete, End> {
        let (response, mut link) = self.send(request).await?;
        let (head, body) = response.into_parts();
        if head.status.is_informational() {
            return Err(End::Broken(
                "the agent changed the protocol unasked".to_owned(),
            ));
        }
        let mut headers = head.headers;
        settle_length(&mut headers).map_err(|reason| End::Broken(reason.to_owned()))?;
        let retry_after = retry_after(&headers);
        strip_hop_by_hop(&mut headers);
        let status = head.status.as_u16();
        let reader = Reading {
            attempt: self,
            link: &mut link,
            body,
            shape: self.shape(request.run, status, &mut headers).await?,
            headers,
            status,
        };
        let complete = reader.read(retry_after).await?;
        self.lane.pool.keep(self.place, link);
        Ok(complete)
    }

    async fn body(&self, request: &Request) -> Result<Body, End> {
        Body::stored(
            self.blobs,
            &self.lane.workspace,
            &request.body,
            request.trailers.clone(),
        )
        .await
        .map_err(|error| End::Undelivered(format!("the request's body cannot be read: {error}")))
    }

    async fn send(&self, request: &Request) -> Result<(Response<Incoming>, Link), End> {
        let mut reused = self.lane.pool.reuse(self.place).await;
        loop {
            let fresh = reused.is_none();
            let mut link = match reused.take() {
                Some(link) => link,
                None => {
                    let connecting = self.lane.agent.connect(self.place.instance);
                    Link::open(connecting).await.map_err(|reason| {
                        self.lane.agent.suspect(self.place.instance);
                        End::Undelivered(format!("cannot connect: {reason}"))
                    })?
                }
            };
            let message = self.message(request, self.body(request).await?)?;
            match tokio::time::timeout(self.idle, link.send(message)).await {
                Err(_) => return Err(End::Broken(silence(self.idle))),
                Ok(Ok(response)) => return Ok((response, link)),
                // The connection was closed while it was idle, before anything was sent on it.
                Ok(Err(error)) if error.message().is_some() && !fresh => {}
                Ok(Err(error)) => {
                    self.lane.agent.suspect(self.place.instance);
                    let unsent = error.message().is_some();
                    let reason = describe(&error.into_error());
                    return Err(if unsent {
                        End::Undelivered(reason)
                    } else {
                        End::Cut(reason)
                    });
                }
            }
        }
    }

    fn message(&self, request: &Request, body: Body) -> Result<http::Request<Body>, End> {
        let mut message = http::Request::new(body);
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = request
            .target
            .parse()
            .map_err(|error| End::Broken(format!("the target cannot be sent: {error}")))?;
        let mut headers = request.headers.clone();
        let id = self.id.to_string();
        if let Ok(value) = HeaderValue::try_from(&id) {
            headers.insert(skep_api::HEADER_CALL_ID, value.clone());
            if !headers.contains_key(skep_api::HEADER_IDEMPOTENCY_KEY) {
                headers.insert(skep_api::HEADER_IDEMPOTENCY_KEY, value);
            }
        }
        headers.insert(skep_api::HEADER_ATTEMPT, HeaderValue::from(self.number));
        if let Some(Ok(run)) = request.run.map(|it| HeaderValue::try_from(it.to_string())) {
            headers.insert(skep_api::HEADER_RUN_ID, run);
        }
        if let Some(traceparent) = &self.traceparent {
            headers.insert("traceparent", traceparent.clone());
        }
        mark_chunked(&mut headers, message.body());
        *message.headers_mut() = headers;
        Ok(message)
    }

    /// What a run's answer becomes: events, whatever it was.
    async fn shape(
        &self,
        run: Option<RunId>,
        status: u16,
        headers: &mut HeaderMap,
    ) -> Result<Option<Box<dyn Shape>>, End> {
        let Some(run) = run else {
            return Ok(None);
        };
        let head = Head {
            workspace: self.workspace(),
            run,
            attempt: self.number,
            status,
            headers,
        };
        let shape = self.agents.shape(&head).await.map_err(End::Unrecorded)?;
        for name in [CONTENT_LENGTH, CONTENT_ENCODING] {
            headers.remove(name);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(Some(shape))
    }

    fn workspace(&self) -> &Workspace {
        &self.lane.workspace
    }
}

fn silence(idle: Duration) -> String {
    format!(
        "the agent was silent for {}",
        skep_core::units::format_duration(idle)
    )
}

/// What a connection's error means, without addresses or internals.
fn describe(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "the agent closed the connection before it answered".to_owned();
    }
    if error.is_parse() {
        return "the agent's answer is not HTTP".to_owned();
    }
    match std::error::Error::source(error) {
        Some(source) => format!("the connection to the agent broke: {source}"),
        None => format!("the connection to the agent broke: {error}"),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

fn is_stream(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| {
        kind == "text/event-stream" || kind == "application/jsonl" || kind.ends_with("ndjson")
    })
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// The answer while it is read.
struct Reading<'a> {
    attempt: &'a Attempt<'a>,
    link: &'a mut Link,
    body: Incoming,
    status: u16,
    headers: HeaderMap,
    /// What the body becomes, if it is not recorded as it comes.
    shape: Option<Box<dyn Shape>>,
}

/// What a body gave next.
enum Got {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Reading<'_> {
    async fn frame(&mut self) -> Result<Got, End> {
        let idle = self.attempt.idle;
        match tokio::time::timeout(idle, poll_fn(|cx| self.link.poll_frame(&mut self.body, cx)))
            .await
        {
            Err(_) => Err(End::Broken(silence(idle))),
            Ok(None) => Ok(Got::End),
            Ok(Some(Err(error))) => {
                self.attempt.lane.agent.suspect(self.attempt.place.instance);
                Err(End::Cut(describe(&error)))
            }
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(Got::Data(data)),
                Err(frame) => Ok(frame
                    .into_trailers()
                    .map_or(Got::Data(Bytes::new()), Got::Trailers)),
            },
        }
    }

    /// Reads a short answer whole; a long or slow one is shown to the client as it comes.
    async fn read(mut self, retry_after: Option<Duration>) -> Result<Complete, End> {
        let length = self.body.size_hint().exact();
        // What a shape makes of it is a stream, too.
        if is_stream(&self.headers) || length.is_some_and(|length| length > MEMORY_BYTES as u64) {
            return self.stream(Bytes::new(), retry_after).await;
        }
        let (mut first, mut rest, mut trailers) = (Bytes::new(), BytesMut::new(), None);
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let got = tokio::select! {
                biased;
                got = self.frame() => got?,
                () = &mut patience, if length.is_none() => {
                    first = join(first, &rest);
                    return self.stream(first, retry_after).await;
                }
            };
            match got {
                Got::End => break,
                Got::Trailers(got) => trailers = Some(got),
                Got::Data(data) if first.is_empty() => first = data,
                Got::Data(data) => rest.extend_from_slice(&data),
            }
            if first.len() + rest.len() > MEMORY_BYTES {
                first = join(first, &rest);
                return self.stream(first, retry_after).await;
            }
        }
        let bytes = join(first, &rest);
        let (body, pin) = store(self.attempt.blobs, self.attempt.workspace(), bytes)
            .await
            .map_err(|error| End::Unrecorded(error.to_string()))?;
        let answer = Answer {
            status: self.status,
            headers: self.headers,
            body,
            trailers,
        };
        Ok(Complete {
            answer,
            retry_after,
            pin,
            recording: None,
            summary: None,
        })
    }

    /// Records the answer, and clients read it while it grows.
    async fn stream(
        mut self,
        start: Bytes,
        retry_after: Option<Duration>,
    ) -> Result<Complete, End> {
        let mut shape = self.shape.take().or_else(|| self.stamped());
        let length = match shape {
            Some(_) => None,
            None => self.body.size_hint().exact(),
        };
        if shape.is_some() {
            self.headers.remove(CONTENT_LENGTH);
        }
        let length = length.map(|left| left + start.len() as u64);
        let recording = Arc::new(Recording::new(self.status, self.headers.clone(), length));
        let attempt = self.attempt;
        let mut scribe = Scribe::new(recording.clone(), attempt.blobs, attempt.workspace());
        let mut guard = CutOffOnDrop(Some(recording.clone()));
        if self.may_show() {
            self.attempt.live.tell(Phase::Streaming(recording.clone()));
        }
        let mut trailers = None;
        let mut next = Got::Data(start);
        loop {
            let data = match next {
                Got::End => break,
                Got::Trailers(got) => {
                    trailers = Some(got);
                    Bytes::new()
                }
                Got::Data(data) => match &mut shape {
                    Some(shape) => shape.push(data),
                    None => data,
                },
            };
            self.append(&mut scribe, data).await?;
            next = self.frame().await?;
        }
        if let Some(shape) = &mut shape {
            self.append(&mut scribe, shape.finish()).await?;
        }
        let kept = scribe.finish().await;
        let (body, pin) = kept.map_err(|error| End::Unrecorded(error.to_string()))?;
        guard.0 = None;
        let answer = Answer {
            status: self.status,
            headers: self.headers,
            body,
            trailers,
        };
        Ok(Complete {
            answer,
            retry_after,
            pin,
            recording: Some(recording),
            summary: shape.and_then(|it| it.summary()),
        })
    }

    /// Ids of ours go into events that are read as they come.
    fn stamped(&self) -> Option<Box<dyn Shape>> {
        let plain = !self.headers.contains_key(CONTENT_ENCODING);
        let events = content_type(&self.headers).as_deref() == Some("text/event-stream");
        (events && plain).then(|| Box::new(Stamper::new(self.attempt.number)) as Box<dyn Shape>)
    }

    /// A status that will be tried again is not shown: the next attempt's answer may be.
    fn may_show(&self) -> bool {
        !self
            .attempt
            .lane
            .agent
            .policy()
            .retry_statuses
            .contains(&self.status)
    }

    async fn append(&self, scribe: &mut Scribe, data: Bytes) -> Result<(), End> {
        if scribe.size() + data.len() as u64 > self.attempt.answer_limit {
            let limit = skep_core::units::format_bytes(self.attempt.answer_limit);
            return Err(End::Broken(format!("the answer is over {limit}")));
        }
        let appended = scribe.append(data).await;
        appended.map_err(|error| End::Unrecorded(error.to_string()))
    }
}

fn join(first: Bytes, rest: &BytesMut) -> Bytes {
    if rest.is_empty() {
        return first;
    }
    let mut all = BytesMut::with_capacity(first.len() + rest.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(rest);
    all.freeze()
}
