//! A message as a run: what a client says becomes what an agent is asked, and answers to what it waits for.

use serde_json::{Map, Value, json};

use super::error::Error;
use super::fields::Wrong;
use super::method::Version;
use super::model::{Content, Message, Part, Role};
use super::request::SendMessage;
use crate::agui::{self, Interrupt, Media, ResumeEntry, ResumeStatus, RunAgentInput, Said, Source};

/// Under which name the agent is told what only A2A has, in `forwardedProps`.
const PROPS: &str = "a2a";
/// Names an interrupt: in the metadata of a part that answers it, or in a data part beside `status` and `payload`.
const INTERRUPT: &str = "interruptId";
/// Says whether an interrupt is answered (`resolved`) or given up (`cancelled`).
const STATUS: &str = "status";

/// A message, and where it stands in its conversation.
///
/// | of the message | in the run |
/// |---|---|
/// | a text | the text of the person's message |
/// | a file (`raw`, `url`) | an image, audio, video or document of it, by its media type; its name in the part's metadata |
/// | data | its JSON as a text; the part's metadata say that it is data |
/// | metadata, extensions, referenced tasks; metadata and accepted output modes of the request | `forwardedProps.a2a` |
///
/// Where the conversation waits for answers, the message gives them, and is no message of the conversation: `resume` has one entry
/// for each interrupt. A part answers the one that the part's metadata name as `interruptId`, with its data or its text; a data
/// part `{"interruptId", "status"?, "payload"?}` answers the one that it names. What names none answers the one
/// that is left: data alone with its value, texts with their text. `status: "cancelled"`, there or in the metadata, gives one up.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// What the client sends.
    pub asked: &'a SendMessage,
    /// The conversation: the client's `contextId`, or a new one.
    pub thread_id: &'a str,
    /// The run.
    pub run_id: &'a str,
    /// The conversation so far.
    pub messages: Vec<agui::Message>,
    /// Its state.
    pub state: Option<Value>,
    /// What it waits for.
    pub open: &'a [Interrupt],
}

impl Question<'_> {
    /// What the agent is asked.
    ///
    /// # Errors
    /// [`Fault::InvalidParams`](super::Fault): the conversation has a message of that id, or an answer is wanting; which, is said.
    pub fn input(self) -> Result<RunAgentInput, Error> {
        let asked = &self.asked.message;
        let mut input = RunAgentInput::new(self.thread_id, self.run_id);
        input.messages = self.messages;
        input.state = self.state;
        if input.messages.iter().any(|it| it.id == asked.id) {
            let why = "the conversation has a message of this id";
            return Err(Error::invalid("message.messageId", why));
        }
        match self.open.is_empty() {
            false => input.resume = answers(asked, self.open)?,
            true => {
                let said = Said::User {
                    content: content(&asked.parts),
                    name: None,
                };
                input.messages.push(agui::Message::new(&asked.id, said));
            }
        }
        input.forwarded_props = Some(json!({ PROPS: props(self.asked, self.open.is_empty()) }));
        Ok(input)
    }
}

/// What there is beside what is said. A message that is none of the conversation is kept there.
fn props(asked: &SendMessage, is_said: bool) -> Value {
    let mut message = asked.message.wire(Version::V1_0);
    if let Some(message) = message.as_object_mut().filter(|_| is_said) {
        message.remove("parts");
    }
    let mut props = Map::new();
    props.insert("message".to_owned(), message);
    if let Some(metadata) = &asked.metadata {
        props.insert("metadata".to_owned(), metadata.clone().into());
    }
    let modes = &asked.accepted_output_modes;
    if !modes.is_empty() {
        props.insert("acceptedOutputModes".to_owned(), json!(modes));
    }
    props.into()
}

impl Message {
    /// The message with which a run was asked for, as [`Question::input`] left it there; of a run that was asked for in another
    /// protocol, what the person said last.
    #[must_use]
    pub fn of_input(input: &RunAgentInput) -> Option<Self> {
        let mut said = input.messages.iter().rev();
        let last = said.find(|it| matches!(it.said, Said::User { .. }));
        let props = input.forwarded_props.as_ref();
        let told = props.and_then(|it| it.get(PROPS)?.get("message"));
        let Some(mut told) = told.cloned() else {
            return Self::of(last?);
        };
        if told.get("parts").is_none() {
            let Self { parts, .. } = Self::of(last?)?;
            told["parts"] = parts.iter().map(|it| it.wire(Version::V1_0)).collect();
        }
        Self::read(Version::V1_0, &told).ok()
    }

    /// What a person or an agent said in a conversation; none, of what is no text and no file.
    #[must_use]
    pub fn of(said: &agui::Message) -> Option<Self> {
        let (role, parts) = match &said.said {
            Said::User { content, .. } => (Role::User, parts(content)),
            Said::Assistant { content, .. } => {
                let text = content.as_ref().filter(|it| !it.is_empty());
                (Role::Agent, text.map(Part::text).into_iter().collect())
            }
            _ => return None,
        };
        (!parts.is_empty()).then(|| Self::new(&said.id, role, parts))
    }
}

/// Parts as the person's message has them.
fn content(parts: &[Part]) -> agui::Content {
    match parts {
        [
            Part {
                content: Content::Text(text),
                metadata: None,
                ..
            },
        ] => agui::Content::Text(text.clone()),
        parts => agui::Content::Parts(parts.iter().map(part).collect()),
    }
}

fn part(part: &Part) -> agui::Part {
    let mut metadata = part.metadata.clone().unwrap_or_default();
    let mime = part.media_type.clone();
    let source = match &part.content {
        Content::Text(text) => {
            return agui::Part::Text {
                id: None,
                text: text.clone(),
                metadata: part.metadata.clone().map(Value::Object),
            };
        }
        Content::Data(data) => {
            metadata.insert("a2a".to_owned(), "data".into());
            return agui::Part::Text {
                id: None,
                text: data.to_string(),
                metadata: Some(metadata.into()),
            };
        }
        Content::Raw(value) => Source::Data {
            value: value.clone(),
            mime_type: mime.clone().unwrap_or_else(|| OCTETS.to_owned()),
        },
        Content::Url(value) => Source::Url {
            value: value.clone(),
            mime_type: mime.clone(),
        },
    };
    if let Some(name) = &part.filename {
        metadata.insert("filename".to_owned(), name.as_str().into());
    }
    let media = Media {
        id: None,
        source,
        metadata: Some(metadata.into()).filter(|it: &Value| it != &json!({})),
    };
    let mime = mime.unwrap_or_default().to_ascii_lowercase();
    match mime.split('/').next() {
        Some("image") => agui::Part::Image(media),
        Some("audio") => agui::Part::Audio(media),
        Some("video") => agui::Part::Video(media),
        _ => agui::Part::Document(media),
    }
}

/// The media type of bytes of which nothing is said.
const OCTETS: &str = "application/octet-stream";

/// The parts of a content, as they came.
fn parts(content: &agui::Content) -> Vec<Part> {
    let all = match content {
        agui::Content::Text(text) => return vec![Part::text(text)],
        agui::Content::Parts(all) => all,
    };
    let one = |part: &agui::Part| match part {
        agui::Part::Text { text, metadata, .. } => {
            let mut metadata = metadata.clone();
            let object = metadata.as_mut().and_then(Value::as_object_mut);
            let is_data = object.and_then(|it| it.remove("a2a")) == Some("data".into());
            let data = serde_json::from_str(text).ok().filter(|_| is_data);
            let mut part = data.map_or_else(|| Part::text(text), Part::data);
            part.metadata = rest(metadata);
            Some(part)
        }
        agui::Part::Image(media)
        | agui::Part::Audio(media)
        | agui::Part::Video(media)
        | agui::Part::Document(media) => {
            let (content, mime) = match &media.source {
                Source::Data { value, mime_type } => {
                    (Content::Raw(value.clone()), Some(mime_type.clone()))
                }
                Source::Url { value, mime_type } => {
                    (Content::Url(value.clone()), mime_type.clone())
                }
                Source::File { .. } => return None,
            };
            let mut metadata = media.metadata.clone();
            let object = metadata.as_mut().and_then(Value::as_object_mut);
            let name = object.and_then(|it| it.remove("filename"));
            Some(Part {
                content,
                filename: name.and_then(|it| it.as_str().map(str::to_owned)),
                media_type: mime.filter(|it| it != OCTETS),
                metadata: rest(metadata),
            })
        }
    };
    all.iter().filter_map(one).collect()
}

/// Metadata that are there and say something.
fn rest(metadata: Option<Value>) -> Option<agui::Object> {
    match metadata {
        Some(Value::Object(object)) if !object.is_empty() => Some(object),
        _ => None,
    }
}

/// The answers that a message gives to all that is open.
fn answers(asked: &Message, open: &[Interrupt]) -> Result<Vec<ResumeEntry>, Error> {
    let names = || {
        let names = open.iter().map(|it| format!("`{}`", it.id));
        names.collect::<Vec<_>>().join(", ")
    };
    let wrong = |at: usize, why: String| {
        Error::from(Wrong::new(why).within(&format!("message.parts[{at}]")))
    };
    let mut given: Vec<ResumeEntry> = Vec::new();
    let mut unnamed: Vec<&Part> = Vec::new();
    for (at, part) in asked.parts.iter().enumerate() {
        let Some(entry) = named(part).map_err(|why| wrong(at, why.to_owned()))? else {
            unnamed.push(part);
            continue;
        };
        if open.iter().all(|it| it.id != entry.interrupt_id) {
            let why = format!(
                "the task does not wait for `{}`; it waits for {}",
                entry.interrupt_id,
                names()
            );
            return Err(wrong(at, why));
        }
        if given.iter().any(|it| it.interrupt_id == entry.interrupt_id) {
            return Err(wrong(
                at,
                format!("`{}` is answered twice", entry.interrupt_id),
            ));
        }
        given.push(entry);
    }
    let is_given = |it: &&Interrupt| given.iter().any(|entry| entry.interrupt_id == it.id);
    let left: Vec<&Interrupt> = open.iter().filter(|it| !is_given(it)).collect();
    match (left.as_slice(), unnamed.as_slice()) {
        ([], _) => {}
        ([one], [_, ..]) => given.push(ResumeEntry {
            interrupt_id: one.id.clone(),
            status: status(asked.metadata.as_ref())
                .map_err(|why| Error::invalid("message.metadata.status", why))?,
            payload: payload(&unnamed),
            metadata: None,
        }),
        (left, _) => {
            let left: Vec<String> = left.iter().map(|it| format!("`{}`", it.id)).collect();
            let why = format!(
                "the task waits for {}: answer each by a data part {{\"interruptId\", \"payload\"}}",
                left.join(", ")
            );
            return Err(Error::invalid("message.parts", why));
        }
    }
    Ok(given)
}

/// The interrupt that a part names, and its answer.
fn named(part: &Part) -> Result<Option<ResumeEntry>, &'static str> {
    let id_in = |it: &agui::Object| Some(it.get(INTERRUPT)?.as_str()?.to_owned());
    if let Some(id) = part.metadata.as_ref().and_then(id_in) {
        return Ok(Some(ResumeEntry {
            interrupt_id: id,
            status: status(part.metadata.as_ref())?,
            payload: payload(&[part]),
            metadata: None,
        }));
    }
    let Content::Data(Value::Object(data)) = &part.content else {
        return Ok(None);
    };
    let Some(id) = id_in(data) else {
        return Ok(None);
    };
    Ok(Some(ResumeEntry {
        interrupt_id: id,
        status: status(Some(data))?,
        payload: data.get("payload").cloned(),
        metadata: None,
    }))
}

fn status(of: Option<&agui::Object>) -> Result<ResumeStatus, &'static str> {
    match of.and_then(|it| it.get(STATUS)).and_then(Value::as_str) {
        None | Some("resolved") => Ok(ResumeStatus::Resolved),
        Some("cancelled") => Ok(ResumeStatus::Cancelled),
        Some(_) => Err("status: it must be one of: resolved, cancelled"),
    }
}

/// What parts answer: data alone is itself, texts are a text, and what else there is comes as parts.
fn payload(parts: &[&Part]) -> Option<Value> {
    if let [
        Part {
            content: Content::Data(data),
            ..
        },
    ] = parts
    {
        return Some(data.clone());
    }
    let texts: Option<Vec<&str>> = parts.iter().map(|it| it.as_text()).collect();
    Some(match texts {
        Some(texts) => texts.join("\n").into(),
        None => parts.iter().map(|it| json!(part(it))).collect(),
    })
}
