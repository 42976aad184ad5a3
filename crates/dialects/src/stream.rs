//! Streams from one dialect to another: frames come in, become events of no dialect, and go out as frames.

mod chat;
mod gemini;
mod messages;
mod responses;

use crate::Dialect;
use crate::errors;
use crate::frames::{Frames, MOST_FRAME, Piece, Values, event};
use crate::json::{Json, Object, refused};
use crate::neutral::{Event, Stop};
use crate::tap::{Tap, Usage};
use crate::translate::{Memory, Untranslatable};

/// Bytes of what a stream says that are gathered where the other dialect must have them whole.
const MOST_GATHERED: usize = 32 << 20;

/// A stream of a provider, for a client of another dialect. What comes out is `text/event-stream`: of Gemini,
/// what a client gets who asks with `alt=sse`, as its SDKs do.
#[derive(Debug)]
pub struct StreamTranslation {
    /// Learns the usage.
    tap: Tap,
    cut: Cut,
    talk: Talk,
}

#[derive(Debug)]
enum Cut {
    Begins,
    Events(Frames),
    Json(Values),
}

#[derive(Debug)]
struct Talk {
    reader: Reader,
    writer: Writer,
    stopped: bool,
    is_over: bool,
}

#[derive(Debug)]
enum Reader {
    Chat(chat::Reader),
    Messages(messages::Reader),
    Gemini(gemini::Reader),
    Responses(responses::Reader),
}

#[derive(Debug)]
enum Writer {
    Chat(chat::Writer),
    Messages(messages::Writer),
    Gemini(gemini::Writer),
    Responses(responses::Writer),
}

impl StreamTranslation {
    /// Begins to translate: `from` is the dialect that the provider speaks.
    ///
    /// # Errors
    /// [`Untranslatable::Pair`]
    pub fn new(from: Dialect, to: Dialect, memory: &Memory) -> Result<Self, Untranslatable> {
        let reader = match from {
            Dialect::Chat => Reader::Chat(chat::Reader::default()),
            Dialect::Messages => Reader::Messages(messages::Reader),
            Dialect::Gemini => Reader::Gemini(gemini::Reader::default()),
            Dialect::Responses => Reader::Responses(responses::Reader::default()),
            Dialect::Embeddings => return Err(Untranslatable::Pair { from, to }),
        };
        let writer = match to {
            Dialect::Chat => Writer::Chat(chat::Writer::new(memory)),
            Dialect::Messages => Writer::Messages(messages::Writer::default()),
            Dialect::Gemini => Writer::Gemini(gemini::Writer::default()),
            Dialect::Responses => Writer::Responses(responses::Writer::new(memory)),
            Dialect::Embeddings => return Err(Untranslatable::Pair { from, to }),
        };
        Ok(Self {
            tap: Tap::new(from, true),
            cut: Cut::Begins,
            talk: Talk {
                reader,
                writer,
                stopped: false,
                is_over: false,
            },
        })
    }

    /// Takes the next bytes of the provider, and gives what the client is to have. What cannot be translated
    /// becomes an error in the stream, and its end.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.tap.push(bytes);
        let Self { tap, cut, talk } = self;
        if let Cut::Begins = cut {
            match bytes.trim_ascii_start().first() {
                Some(b'{' | b'[') => *cut = Cut::Json(Values::new(true)),
                Some(_) => *cut = Cut::Events(Frames::new(MOST_FRAME)),
                None => return out,
            }
        }
        match cut {
            Cut::Begins => {}
            Cut::Events(frames) => frames.push(bytes, &mut |piece| match piece {
                Piece::Frame(frame) => talk.frame(frame, tap, &mut out),
                Piece::Long(_) => talk.failed(502, "a frame of the stream is too long", &mut out),
                Piece::Tail(_) => {}
            }),
            Cut::Json(values) => {
                values.push(bytes, &mut |value| talk.data(value, tap, &mut out));
            }
        }
        out
    }

    /// The provider has ended the stream; one that stopped in the middle ends with an error.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.tap.finish();
        if let Cut::Events(frames) = &mut self.cut {
            let rest = frames.finish();
            // A frame that is whole but for the empty line after it.
            let (_, last) = event(&rest);
            if last.is_some_and(|last| last.trim_ascii() == b"[DONE]" || Json::read(&last).is_ok())
            {
                self.talk.frame(&rest, &self.tap, &mut out);
            }
        }
        match self.talk.stopped {
            true => self
                .talk
                .event(Event::End(Usage::default()), &self.tap, &mut out),
            false => self
                .talk
                .failed(502, "the provider's stream was cut off", &mut out),
        }
        out
    }
}

impl Talk {
    fn frame(&mut self, frame: &[u8], tap: &Tap, out: &mut Vec<u8>) {
        let (word, Some(data)) = event(frame) else {
            return self.alive(frame.starts_with(b":"), out);
        };
        if word == "ping" {
            return self.alive(true, out);
        }
        if data.trim_ascii() == b"[DONE]" {
            return self.event(Event::End(Usage::default()), tap, out);
        }
        self.data(&data, tap, out);
    }

    /// Hands on that the provider is still there. SDKs of Gemini do not know comments.
    fn alive(&self, is_said: bool, out: &mut Vec<u8>) {
        if is_said && !self.is_over && !matches!(self.writer, Writer::Gemini(_)) {
            out.extend_from_slice(b":\n\n");
        }
    }

    fn data(&mut self, data: &[u8], tap: &Tap, out: &mut Vec<u8>) {
        if self.is_over || data.trim_ascii().is_empty() {
            return;
        }
        let mut events = Vec::new();
        let read = Json::read(data).and_then(|data| match failure(&data) {
            Some(failed) => {
                events.push(failed);
                Ok(())
            }
            None => match &mut self.reader {
                Reader::Chat(reader) => reader.read(&data, &mut events),
                Reader::Messages(reader) => reader.read(&data, &mut events),
                Reader::Gemini(reader) => reader.read(data, &mut events),
                Reader::Responses(reader) => reader.read(&data, &mut events),
            },
        });
        for event in events {
            self.event(event, tap, out);
        }
        if let Err(error) = read {
            self.failed(502, &error.to_string(), out);
        }
    }

    fn event(&mut self, event: Event, tap: &Tap, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        let event = match event {
            Event::End(_) if !self.stopped => {
                return self.failed(502, "the provider's stream was cut off", out);
            }
            Event::End(_) => Event::End(tap.usage().unwrap_or_default()),
            Event::Failed { status, message } => return self.failed(status, &message, out),
            event => event,
        };
        self.is_over = matches!(event, Event::End(_));
        self.stopped |= matches!(event, Event::Stop(_));
        let wrote = match &mut self.writer {
            Writer::Chat(writer) => writer.write(event, out),
            Writer::Messages(writer) => writer.write(event, out),
            Writer::Gemini(writer) => writer.write(event, out),
            Writer::Responses(writer) => writer.write(event, out),
        };
        if let Err(error) = wrote {
            self.is_over = false;
            self.failed(502, &error.to_string(), out);
        }
    }

    /// Ends with an error.
    fn failed(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        match &mut self.writer {
            Writer::Chat(_) => {
                data(out, errors::error(Dialect::Chat, status, None, message));
            }
            Writer::Gemini(_) => {
                data(out, errors::error(Dialect::Gemini, status, None, message));
            }
            Writer::Messages(_) => {
                named(out, errors::error(Dialect::Messages, status, None, message));
            }
            Writer::Responses(writer) => writer.failed(status, message, out),
        }
    }
}

/// The error that a frame is, in whatever dialect.
fn failure(data: &Json) -> Option<Event> {
    let error = match data.get("type").and_then(Json::text) {
        Some("error") => data
            .get("error")
            .filter(|it| **it != Json::Null)
            .unwrap_or(data),
        Some("response.failed") => data.at(&["response", "error"])?,
        Some(_) => return None,
        None => data.get("error").filter(|it| **it != Json::Null)?,
    };
    let word = ["type", "status", "code"].into_iter();
    let mut word = word.filter_map(|name| error.get(name).and_then(Json::text));
    let word = word.find(|word| *word != "error").unwrap_or_default();
    Some(Event::Failed {
        status: errors::status(word),
        message: errors::message(error)
            .unwrap_or("the provider failed")
            .to_owned(),
    })
}

/// A frame of data alone.
fn data(out: &mut Vec<u8>, value: Object) {
    let value = Json::from(value);
    out.extend_from_slice(format!("data: {value}\n\n").as_bytes());
}

/// A frame that says of which type its data is.
fn named(out: &mut Vec<u8>, value: Object) {
    let value = Json::from(value);
    let kind = value.get("type").and_then(Json::text).unwrap_or_default();
    out.extend_from_slice(format!("event: {kind}\ndata: {value}\n\n").as_bytes());
}

/// Gathers, within bounds.
fn gather(kept: &mut String, text: &str) -> Result<(), Untranslatable> {
    match kept.len() + text.len() > MOST_GATHERED {
        true => Err(refused("stream", "it says more than is gathered")),
        false => {
            kept.push_str(text);
            Ok(())
        }
    }
}

/// What a stream has said of itself at its beginning.
#[derive(Debug, Clone, Default)]
struct Head {
    id: String,
    model: String,
    created: u64,
}

/// The stop that a writer holds back until all is said.
fn stop(held: Option<Stop>) -> Stop {
    held.unwrap_or(Stop::End)
}

fn indexed(kind: &str, index: u64) -> Object {
    Object::typed(kind).with("index", index)
}
