//! What happens, as it happens: several topics over one connection. A topic is a stream of the API, which Skep asks for in the name of
//! who listens; so policy is asked, the audit log written and the server found that has the run, as for any request of theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde_json::value::RawValue;
use skep_core::config::Settings;
use skep_core::{Code, RequestId};
use skep_mcp::Asked;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::dispatch::Dispatcher;
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::state::State;
use crate::who::Again;
use crate::within::{self, Answer};

/// Where it is.
pub(crate) const PATH: &str = "/api/v1/live";
/// What is spoken over a WebSocket.
pub(crate) const PROTOCOL: &str = "skep.v1";
/// What stands before a key or a token among the protocols that a browser offers: it can set no other header.
const BEARER: &str = "skep.bearer.";
/// How often is looked whether the other side is there, and who it is.
pub(crate) const BEAT: Duration = Duration::from_secs(15);
/// After how many beats it is asked again whether topics may be followed.
const ASK_AGAIN: u32 = 4;
/// Topics of a connection.
const MOST_TOPICS: usize = 64;
/// Bytes of a topic's name.
const MOST_NAME: usize = 512;
/// Frames that wait for who listens: while there are so many, nothing more is read of any topic.
const QUEUE: usize = 64;
/// Bytes of one thing that is told, and of a refusal.
const MOST_EVENT: usize = 16 << 20;
const MOST_PROBLEM: usize = 64 << 10;
/// What a token is called in a query, where it would stand in every log.
const TOKENS: [&str; 6] = ["token", "access_token", "key", "api_key", "apikey", "auth"];

/// Whether a browser's cookie lets in here. Says loudly that it does.
pub(crate) fn cookies(settings: &Settings) -> bool {
    if settings.live_cookies {
        tracing::warn!(
            "`live.cookies` is on: whatever page of this origin a browser shows can listen as who is logged in there"
        );
    }
    settings.live_cookies
}

/// Takes a key or token from among the offered protocols to where those of all others stand.
pub(crate) fn show_token<B>(request: &mut Request<B>) {
    if request.uri().path() != PATH {
        return;
    }
    let headers = request.headers_mut();
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = offered
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','));
    let (shown, kept): (Vec<&str>, Vec<&str>) = offered
        .map(str::trim)
        .partition(|it| it.starts_with(BEARER));
    let Some(token) = shown.first().and_then(|it| it.strip_prefix(BEARER)) else {
        return;
    };
    let shown = HeaderValue::try_from(format!("Bearer {token}")).ok();
    let kept = HeaderValue::try_from(kept.join(", ")).ok();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept.filter(|it| !it.is_empty()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
    if let Some(mut shown) = shown.filter(|_| !headers.contains_key(AUTHORIZATION)) {
        shown.set_sensitive(true);
        headers.insert(AUTHORIZATION, shown);
    }
}

/// Refuses a token in the query.
///
/// # Errors
/// [`Code::BadRequest`].
pub(crate) fn check_query<B>(request: &Request<B>) -> Result<(), ApiError> {
    if request.uri().path() != PATH {
        return Ok(());
    }
    let query = request.uri().query().unwrap_or_default();
    let names = query
        .split('&')
        .map(|it| it.split('=').next().unwrap_or_default());
    let found = names
        .map(str::to_ascii_lowercase)
        .find(|it| TOKENS.contains(&it.as_str()));
    match found {
        None => Ok(()),
        Some(name) => Err(ApiError::new(
            Code::BadRequest,
            format!(
                "`{name}` in a query stands in logs and histories: show it as `Authorization: Bearer …`, or offer the protocol `{BEARER}…`"
            ),
        )),
    }
}

/// A topic, and the stream that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    /// As who listens calls it.
    pub(crate) name: String,
    target: String,
    /// Only what is of an agent.
    of_agents: bool,
}

impl Topic {
    /// Reads a topic's name.
    ///
    /// # Errors
    /// [`Code::BadRequest`], with those that there are.
    pub(crate) fn parse(name: &str) -> Result<Self, ApiError> {
        let plain = |it: &str| {
            !it.is_empty()
                && it
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it))
        };
        let (path, query) = name.split_once('?').unwrap_or((name, ""));
        let query_fits = query.bytes().all(|it| it.is_ascii_graphic() && it != b'#');
        let target = match path.split_once('/') {
            _ if name.len() > MOST_NAME || !query_fits => None,
            None if path == "agents" => Some("/api/v1/events/stream".to_owned()),
            None if ["events", "calls", "runs"].contains(&path) => {
                Some(format!("/api/v1/{path}/stream"))
            }
            Some((_, of)) if !plain(of) || !query.is_empty() => None,
            Some(("agents", of)) => Some(format!("/api/v1/events/stream?agent={of}")),
            Some(("calls", of)) => Some(format!("/api/v1/calls/{of}/stream")),
            Some(("runs", of)) => Some(format!("/api/v1/runs/{of}/events")),
            _ => None,
        };
        let wrong = || {
            let shown: String = name.chars().take(64).collect();
            let known =
                "`events`, `agents`, `agents/NAME`, `calls`, `calls/ID`, `runs` and `runs/ID`";
            ApiError::new(
                Code::BadRequest,
                format!("`{shown}` is no topic: there are {known}"),
            )
        };
        let mut target = target.ok_or_else(wrong)?;
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        Ok(Self {
            name: name.to_owned(),
            target,
            of_agents: path == "agents",
        })
    }

    fn ask(&self, method: &'static str, after: Option<&str>) -> Asked {
        let after = after.map(|it| ("last-event-id".to_owned(), it.to_owned()));
        Asked {
            method,
            target: self.target.clone(),
            headers: after.into_iter().collect(),
            body: None,
        }
    }
}

/// What is told of a topic, or of none.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Frame {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    /// Behind which to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<String>,
    /// `open`; `ended`: nothing follows; `cut`: it goes on for who comes back behind the last `seq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// What happened, where the event does not say it.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
    /// The problem document of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
}

impl Frame {
    fn of(topic: &Topic) -> Self {
        Self {
            topic: Some(topic.name.clone()),
            ..Self::default()
        }
    }

    fn state(topic: &Topic, state: &'static str) -> Self {
        Self {
            state: Some(state),
            ..Self::of(topic)
        }
    }

    /// A refusal.
    pub(crate) fn refused(topic: Option<String>, error: &ApiError) -> Self {
        let problem = skep_api::Problem::new(error.public(), &RequestId::new().to_string());
        Self {
            topic,
            error: RawValue::from_string(skep_api::to_json(&problem)).ok(),
            ..Self::default()
        }
    }

    /// Whether nothing follows of the topic.
    fn is_last(&self) -> bool {
        self.error.is_some() || matches!(self.state, Some("ended" | "cut"))
    }

    pub(crate) fn to_json(&self) -> String {
        skep_api::to_json(self)
    }
}

/// Reads one event of a stream of the API.
fn read(topic: &Topic, text: &str) -> Option<Frame> {
    let mut frame = Frame::of(topic);
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("id", value)) => frame.seq = Some(value.to_owned()),
            Some(("event", value)) => frame.kind = Some(value.to_owned()),
            Some(("data", value)) => {
                frame.event = Some(RawValue::from_string(value.to_owned()).ok()?);
            }
            _ => {}
        }
    }
    let names_agent = |event: &RawValue| {
        let event: Result<serde_json::Value, _> = serde_json::from_str(event.get());
        event.is_ok_and(|event| event["agent"].is_string())
    };
    if topic.of_agents && !frame.event.as_deref().is_none_or(names_agent) {
        (frame.event, frame.kind) = (None, None);
    }
    Some(frame)
}

/// Follows a topic to its end, or until who listens has gone. What ends it is told last.
async fn follow(
    (dispatcher, asker): (Dispatcher, Asker),
    (topic, after, number): (Topic, Option<String>, u64),
    sender: mpsc::Sender<(u64, Frame)>,
) {
    let tell = |frame| sender.send((number, frame));
    let asked = topic.ask("GET", after.as_deref());
    let last = match within::open(&dispatcher, &asker, asked).await {
        Ok(answer) if answer.head.status == StatusCode::OK => {
            if tell(Frame::state(&topic, "open")).await.is_err() {
                return;
            }
            match pass(&topic, answer, &tell).await {
                Some(state) => Frame::state(&topic, state),
                None => return,
            }
        }
        Ok(mut answer) => {
            let body = Limited::new(&mut answer.body, MOST_PROBLEM).collect().await;
            let body = body.map(|it| it.to_bytes()).unwrap_or_default();
            Frame {
                error: serde_json::from_slice(&body).ok(),
                state: Some("ended"),
                ..Frame::of(&topic)
            }
        }
        Err(why) => Frame::refused(
            Some(topic.name.clone()),
            &ApiError::new(Code::Internal, why),
        ),
    };
    let _ = tell(last).await;
}

/// Passes on what a stream tells; how it ended, unless who listens has gone.
async fn pass<F>(
    topic: &Topic,
    mut answer: Answer,
    tell: &impl Fn(Frame) -> F,
) -> Option<&'static str>
where
    F: Future<Output = Result<(), mpsc::error::SendError<(u64, Frame)>>>,
{
    let mut rest = Vec::new();
    loop {
        let data: Bytes = match answer.body.frame().await {
            None => return Some("ended"),
            Some(Err(_)) => return Some("cut"),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        rest.extend_from_slice(&data);
        // The last two bytes of what was there may be half of an end.
        let mut from = rest.len().saturating_sub(data.len() + 1);
        let mut begins = 0;
        while let Some(at) = find_end(&rest, from) {
            let one = rest.get(begins..at).unwrap_or_default();
            let Some(frame) = std::str::from_utf8(one).ok().and_then(|it| read(topic, it)) else {
                return Some("cut");
            };
            let is_news = frame.event.is_some() || frame.seq.is_some();
            if is_news && tell(frame).await.is_err() {
                return None;
            }
            (begins, from) = (at, at);
        }
        rest.drain(..begins);
        if rest.len() > MOST_EVENT {
            return Some("cut");
        }
    }
}

/// Where an event ends, from a place on.
fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let found = bytes.get(from..)?.windows(2).position(|it| it == b"\n\n")?;
    Some(from + found + 2)
}

/// Who listens, and to what.
pub(crate) struct Listener {
    state: Arc<State>,
    dispatcher: Dispatcher,
    asker: Asker,
    again: Arc<Again>,
    topics: HashMap<String, (u64, Topic, AbortOnDropHandle<()>)>,
    /// Subscriptions so far: what was told of one that was given up is told to nobody.
    number: u64,
    beats: u32,
    sender: mpsc::Sender<(u64, Frame)>,
    receiver: mpsc::Receiver<(u64, Frame)>,
}

impl Listener {
    pub(crate) fn new(
        state: Arc<State>,
        dispatcher: Dispatcher,
        (asker, again): (Asker, Arc<Again>),
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            state,
            dispatcher,
            asker,
            again,
            topics: HashMap::new(),
            number: 0,
            beats: 0,
            sender,
            receiver,
        }
    }

    /// Begins to follow a topic, behind what was seen of it.
    ///
    /// # Errors
    /// [`Code::BadRequest`]: it is followed already, or too many are.
    pub(crate) fn subscribe(
        &mut self,
        topic: Topic,
        after: Option<String>,
    ) -> Result<(), ApiError> {
        let refused = |why: String| Err(ApiError::new(Code::BadRequest, why));
        if self.topics.contains_key(&topic.name) {
            return refused(format!("`{}` is followed already", topic.name));
        }
        if self.topics.len() == MOST_TOPICS {
            return refused(format!(
                "{MOST_TOPICS} topics are followed over one connection"
            ));
        }
        if after
            .as_ref()
            .is_some_and(|it| it.len() > MOST_NAME || it.contains(char::is_control))
        {
            return refused("`after` is the `seq` of something that was told".to_owned());
        }
        self.number += 1;
        let who = (self.dispatcher.clone(), self.asker.clone());
        let what = (topic.clone(), after, self.number);
        let task = tokio::spawn(follow(who, what, self.sender.clone()));
        let followed = (self.number, topic.clone(), AbortOnDropHandle::new(task));
        self.topics.insert(topic.name, followed);
        Ok(())
    }

    /// Follows a topic no more. Tells whether it was followed.
    pub(crate) fn unsubscribe(&mut self, name: &str) -> bool {
        self.topics.remove(name).is_some()
    }

    /// Whether nothing is followed.
    pub(crate) fn is_idle(&self) -> bool {
        self.topics.is_empty()
    }

    /// What is told next. It may be given up while it waits.
    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            // One sender is here: it does not end.
            let Some((number, frame)) = self.receiver.recv().await else {
                return std::future::pending().await;
            };
            let name = frame.topic.as_deref().unwrap_or_default();
            if self.topics.get(name).is_none_or(|(it, ..)| *it != number) {
                continue;
            }
            if frame.is_last() {
                self.topics.remove(name);
            }
            return frame;
        }
    }

    /// Looks whether who listens is who they were, and now and then whether they still may: what they may not is told last of each
    /// topic. Tells whether they count.
    pub(crate) async fn beat(&mut self) -> (bool, Vec<Frame>) {
        if !self.again.counts(&self.state, &self.asker).await {
            return (false, Vec::new());
        }
        self.beats += 1;
        let mut refused = Vec::new();
        if !self.beats.is_multiple_of(ASK_AGAIN) {
            return (true, refused);
        }
        for (name, (_, topic, _)) in &self.topics {
            let asked = within::open(&self.dispatcher, &self.asker, topic.ask("HEAD", None)).await;
            let status = asked.map(|answer| answer.head.status);
            if status
                .is_ok_and(|it| [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&it))
            {
                let error = ApiError::new(Code::Forbidden, "it may not be followed any more");
                refused.push(Frame::refused(Some(name.clone()), &error));
            }
        }
        for frame in &refused {
            self.topics
                .remove(frame.topic.as_deref().unwrap_or_default());
        }
        (true, refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_stream_of_the_api() {
        for (name, target) in [
            ("events", "/api/v1/events/stream"),
            (
                "events?type=instance&agent=a",
                "/api/v1/events/stream?type=instance&agent=a",
            ),
            ("agents", "/api/v1/events/stream"),
            ("agents/shop-1", "/api/v1/events/stream?agent=shop-1"),
            ("calls?agent=a", "/api/v1/calls/stream?agent=a"),
            ("calls/call_1", "/api/v1/calls/call_1/stream"),
            ("runs", "/api/v1/runs/stream"),
            ("runs/run_1", "/api/v1/runs/run_1/events"),
        ] {
            assert_eq!(Topic::parse(name).unwrap().target, target, "{name}");
        }
        let long = format!("agents/{}", "a".repeat(600));
        for name in [
            "",
            "secrets",
            "calls/",
            "calls/a/b",
            "calls/..%2f",
            "agents/a?x=1",
            "agents/a b",
            "events?a#b",
            "events? ",
            "runs/é",
            "live",
            &long,
        ] {
            assert!(Topic::parse(name).is_err(), "{name}");
        }
    }

    fn request(uri: &str, offered: &[&'static str]) -> Request<()> {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        for offered in offered {
            let value = HeaderValue::from_static(offered);
            request.headers_mut().append(SEC_WEBSOCKET_PROTOCOL, value);
        }
        request
    }

    #[test]
    fn a_token_among_the_protocols_is_taken_out() {
        let mut asked = request(PATH, &["skep.v1, skep.bearer.skep_abc", "other"]);
        show_token(&mut asked);
        assert_eq!(asked.headers()[AUTHORIZATION], "Bearer skep_abc");
        assert!(asked.headers()[AUTHORIZATION].is_sensitive());
        assert_eq!(asked.headers()[SEC_WEBSOCKET_PROTOCOL], "skep.v1, other");
        // Who shows one as all others do is not somebody else.
        let mut asked = request(PATH, &["skep.bearer.two"]);
        let one = HeaderValue::from_static("Bearer one");
        asked.headers_mut().insert(AUTHORIZATION, one);
        show_token(&mut asked);
        assert_eq!(asked.headers()[AUTHORIZATION], "Bearer one");
        assert!(!asked.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        // An agent's own protocols are its own.
        let mut asked = request("/agents/a/ws", &["skep.bearer.x"]);
        show_token(&mut asked);
        assert_eq!(asked.headers()[SEC_WEBSOCKET_PROTOCOL], "skep.bearer.x");
    }

    #[test]
    fn a_token_in_the_query_is_refused() {
        let fits = |uri: &str| check_query(&request(uri, &[])).is_ok();
        assert!(fits("/api/v1/live") && fits("/api/v1/live?topic=events"));
        assert!(fits("/agents/a?token=x"));
        for name in ["token", "access_token", "key", "API_KEY"] {
            assert!(
                !fits(&format!("/api/v1/live?topic=events&{name}=x")),
                "{name}"
            );
        }
    }

    #[test]
    fn what_a_stream_says_becomes_frames() {
        let topic = Topic::parse("agents").unwrap();
        let told = |text: &str| read(&topic, text).map(|it| it.to_json());
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let of = told("id: 4\nevent: agent.deployed\ndata: {\"agent\":\"a\"}\n\n").unwrap();
        assert_eq!(
            json(&of),
            serde_json::json!({ "topic": "agents", "seq": "4", "type": "agent.deployed", "event": { "agent": "a" } })
        );
        // What is of no agent only says where the stream is.
        let of = told("id: 5\nevent: server.started\ndata: {}\n\n").unwrap();
        assert_eq!(
            json(&of),
            serde_json::json!({ "topic": "agents", "seq": "5" })
        );
        assert_eq!(told("data: {\n\n"), None);
    }

    #[test]
    fn an_event_ends_wherever_it_is_cut() {
        assert_eq!(find_end(b"a\n\nb", 0), Some(3));
        assert_eq!(find_end(b"a\n\nb", 1), Some(3));
        assert_eq!(find_end(b"a\n\nb", 2), None);
        assert_eq!(find_end(b"", 0), None);
    }
}
