//! Agents as they speak: what each is asked, and its answer as events. What comes out of an [`Adapter`] is not in order yet:
//! `agui::Order` is for that.

mod a2a;
mod ask;
mod chat;
mod invocations;
mod plain;
mod responses;
mod voice;

use serde_json::Value;

use crate::agui::{Body, Event, INCOMPLETE, MALFORMED, TOO_MUCH, is_type, plain as shown};
use crate::stream::{Frames, TooLong, Utf8};
use voice::Voice;

pub use ask::{Ask, ask};

/// Bytes of an answer that comes at once.
pub const MOST_BODY: usize = 8 << 20;
/// Bytes of the answer of an agent that failed which are read for what it says.
const MOST_FAILURE: usize = 64 << 10;

/// Bytes of spaces after which an answer that does not say what it is is a text.
const MOST_SPACES: usize = 1024;

/// Code of an error: the agent answered with a status outside of 2xx, or told of an error.
pub const FAILED: &str = "agent_failed";

/// What an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Plain HTTP: a text, JSON, or a stream of either.
    Http,
    /// AG-UI.
    Agui,
    /// Invocations, as in Bedrock `AgentCore`.
    Invocations,
    /// Responses of `OpenAI`.
    Responses,
    /// A2A.
    A2a,
}

impl Protocol {
    /// All of them, by their names in a manifest.
    pub const ALL: [(&'static str, Self); 5] = [
        ("http", Self::Http),
        ("agui", Self::Agui),
        ("invocations", Self::Invocations),
        ("responses", Self::Responses),
        ("a2a", Self::A2a),
    ];

    /// The one of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(known, it)| (known == name).then_some(it))
    }
}

/// How the bytes of an answer come.
#[derive(Debug)]
enum Way {
    /// An error; its status.
    Failure(u16, Vec<u8>),
    /// What it is shows with the first byte that is no space; the spaces so far.
    Unsaid(Vec<u8>),
    Json(Vec<u8>),
    Text(Utf8),
    Frames(Frames),
}

/// Reads an agent's answer as it comes.
#[derive(Debug)]
pub struct Adapter {
    protocol: Protocol,
    way: Way,
    reader: Reader,
}

/// What has been read.
#[derive(Debug)]
struct Reader {
    voice: Voice,
    streams: bool,
    /// Events of AG-UI have come, which end with one that says so.
    is_agui: bool,
    responses: responses::Reader,
    invocations: invocations::Reader,
    a2a: a2a::Reader,
    /// The answer, where it is no text.
    result: Option<Value>,
    is_over: bool,
}

impl Adapter {
    /// Begins to read an answer of this status and content type. Ids of messages that have none begin with `run_id`.
    #[must_use]
    pub fn new(protocol: Protocol, status: u16, content_type: &str, run_id: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default();
        let kind = kind.trim().to_ascii_lowercase();
        let lines = [
            "application/x-ndjson",
            "application/jsonl",
            "application/ndjson",
        ];
        let way = match kind.as_str() {
            _ if !(200..300).contains(&status) => Way::Failure(status, Vec::new()),
            _ if matches!(status, 204 | 205) => Way::Unsaid(Vec::new()),
            "text/event-stream" => Way::Frames(Frames::of_events()),
            kind if lines.contains(&kind) || kind == "application/x-jsonlines" => {
                Way::Frames(Frames::of_lines())
            }
            kind if kind.ends_with("/json") || kind.ends_with("+json") => Way::Json(Vec::new()),
            "" | "application/octet-stream" => Way::Unsaid(Vec::new()),
            _ => Way::Text(Utf8::default()),
        };
        let reader = Reader {
            voice: Voice::new(run_id),
            streams: matches!(way, Way::Frames(_)),
            is_agui: false,
            responses: responses::Reader::default(),
            invocations: invocations::Reader::default(),
            a2a: a2a::Reader::default(),
            result: None,
            is_over: false,
        };
        Self {
            protocol,
            way,
            reader,
        }
    }

    /// The next bytes of the answer, and what they tell.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let Self {
            protocol,
            way,
            reader,
        } = self;
        if reader.is_over {
            return Vec::new();
        }
        let first;
        let mut bytes = bytes;
        if let Way::Unsaid(spaces) = way {
            spaces.extend_from_slice(bytes);
            let told = spaces.trim_ascii_start().first().copied();
            if told.is_none() && spaces.len() <= MOST_SPACES {
                return Vec::new();
            }
            first = std::mem::take(spaces);
            bytes = &first;
            *way = match told {
                Some(b'{' | b'[') => Way::Json(Vec::new()),
                _ => Way::Text(Utf8::default()),
            };
        }
        let read = match way {
            Way::Failure(_, body) => {
                let room = MOST_FAILURE.saturating_sub(body.len());
                body.extend(bytes.iter().take(room));
                Ok(())
            }
            Way::Unsaid(_) => Ok(()),
            Way::Json(body) if body.len() + bytes.len() > MOST_BODY => Err(TooLong),
            Way::Json(body) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
            Way::Text(text) => {
                let text = text.push(bytes);
                reader.text(*protocol, &text);
                Ok(())
            }
            Way::Frames(frames) => frames.push(bytes, &mut |frame| reader.frame(*protocol, frame)),
        };
        if read.is_err() {
            reader.fail(TOO_MUCH, "the agent sent an answer that is too long");
        }
        reader.voice.taken()
    }

    /// The answer has come to its end.
    pub fn finish(&mut self) -> Vec<Event> {
        let Self {
            protocol,
            way,
            reader,
        } = self;
        if reader.is_over {
            return Vec::new();
        }
        let read = match way {
            Way::Failure(status, body) => {
                reader.fail(FAILED, &failure(*status, body));
                Ok(())
            }
            Way::Unsaid(spaces) => {
                let text = String::from_utf8_lossy(spaces);
                reader.text(*protocol, &text);
                Ok(())
            }
            Way::Json(body) => {
                match serde_json::from_slice(body) {
                    Ok(value) => reader.whole(*protocol, value),
                    Err(_) => {
                        let why = "the agent's answer should be JSON, and is none";
                        reader.fail(MALFORMED, why);
                    }
                }
                Ok(())
            }
            Way::Text(text) => {
                let text = text.finish();
                reader.text(*protocol, &text);
                Ok(())
            }
            Way::Frames(frames) => frames.finish(&mut |frame| reader.frame(*protocol, frame)),
        };
        match read {
            Ok(()) => reader.end(*protocol),
            Err(_) => reader.fail(TOO_MUCH, "the agent sent an answer that is too long"),
        }
        reader.voice.taken()
    }
}

impl Reader {
    fn fail(&mut self, code: &str, message: &str) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.voice.fail(code, message);
        }
    }

    fn text(&mut self, protocol: Protocol, text: &str) {
        match protocol {
            Protocol::Agui | Protocol::Responses | Protocol::A2a if !text.is_empty() => {
                self.fail(MALFORMED, "the agent should answer with a stream of events");
            }
            _ => self.voice.text(text),
        }
    }

    /// One event of a stream.
    fn frame(&mut self, protocol: Protocol, frame: &[u8]) {
        if self.is_over || frame == b"[DONE]" {
            return;
        }
        match serde_json::from_slice::<Value>(frame) {
            Ok(value) if value.is_object() || value.is_array() || value.is_string() => {
                self.value(protocol, value);
            }
            // A number may be a word of a text.
            _ => {
                let text = String::from_utf8_lossy(frame);
                self.text(protocol, &text);
            }
        }
    }

    /// An answer that came at once.
    fn whole(&mut self, protocol: Protocol, value: Value) {
        match value {
            Value::Array(all) if protocol != Protocol::A2a && all.first().is_some_and(is_agui) => {
                for value in all {
                    if !self.is_over {
                        self.agui(value);
                    }
                }
            }
            value => self.value(protocol, value),
        }
    }

    fn value(&mut self, protocol: Protocol, value: Value) {
        if protocol == Protocol::A2a {
            return self.a2a(&value);
        }
        if protocol == Protocol::Agui || protocol != Protocol::Responses && is_agui(&value) {
            return self.agui(value);
        }
        if let Some(message) = self.responses.read(&value, &mut self.voice) {
            return match message {
                Ok(()) => {}
                Err(message) => self.fail(FAILED, &message),
            };
        }
        if protocol != Protocol::Responses && chat::read(&value, &mut self.voice) {
            return;
        }
        if let Some(message) = plain::error(&value) {
            return self.fail(FAILED, &message);
        }
        if protocol == Protocol::Responses {
            return self.fail(
                MALFORMED,
                "the agent should answer with events of a response",
            );
        }
        if self.streams && self.invocations.read(&value, &mut self.voice) {
            return;
        }
        match plain::text(&value) {
            Some(text) => {
                self.voice.text(&text);
                // What else it says is not lost.
                let is_more = value.as_object().is_some_and(|it| it.len() > 1);
                self.result = Some(value).filter(|_| is_more && !self.streams);
            }
            None if self.streams => self.voice.custom(value),
            None => self.result = Some(value),
        }
    }

    fn agui(&mut self, value: Value) {
        self.is_agui = true;
        match Event::read(value) {
            Ok(event) => {
                self.is_over = event.is_end();
                self.voice.event(event);
            }
            Err(err) => self.fail(MALFORMED, &format!("an event of the agent: {err}")),
        }
    }

    fn a2a(&mut self, value: &Value) {
        match self.a2a.read(value, &mut self.voice) {
            None => {}
            Some(Ok((result, outcome))) => {
                self.is_over = true;
                self.voice.finish(result, outcome);
            }
            Some(Err((code, message))) => self.fail(code, &message),
        }
    }

    fn end(&mut self, protocol: Protocol) {
        let is_cut = match protocol {
            Protocol::Agui | Protocol::A2a => true,
            Protocol::Responses => !self.responses.is_complete(),
            _ => self.is_agui || self.responses.is_cut(),
        };
        match is_cut {
            _ if self.is_over => {}
            true => self.fail(INCOMPLETE, "the agent's answer ended before its run did"),
            false => {
                self.is_over = true;
                self.voice.finish(self.result.take(), None);
            }
        }
    }
}

/// Whether a value is an event of AG-UI.
fn is_agui(value: &Value) -> bool {
    let told = value.get("type").and_then(Value::as_str);
    told.is_some_and(|it| is_type(it) || it.starts_with("THINKING_"))
}

/// What an agent says that failed.
fn failure(status: u16, body: &[u8]) -> String {
    let value = serde_json::from_slice::<Value>(body).ok();
    let told = value.as_ref().and_then(|value| {
        let text = || plain::text(value);
        plain::error(value).or_else(text)
    });
    let text = told.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let is_page = text.trim_start().starts_with('<');
    match shown(&text) {
        text if text.is_empty() || is_page => format!("the agent answered with status {status}"),
        text => {
            let text: String = text.chars().take(500).collect();
            format!("the agent answered with status {status}: {text}")
        }
    }
}

/// An error as an event.
fn error(code: &str, message: &str) -> Event {
    Event::from(Body::RunError {
        message: shown(message),
        code: Some(code.to_owned()),
        usage: Vec::new(),
    })
}
