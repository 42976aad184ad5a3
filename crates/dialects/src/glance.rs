//! What a broker must know of a request before it is sent, read in one pass without a tree; and the three changes
//! that it makes to one: another model, the wish for the usage of a stream, and a temperature where none is said.

use std::fmt;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::Dialect;
use crate::lazy::Lazy;
use crate::texts::{Count, Texts};

/// Letters of a field's name that a message shows.
const MOST_SHOWN: usize = 64;

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// It is no JSON object.
    #[error("the body is not a JSON object: {0}")]
    NotJson(String),
    /// A field that decides about the request is there twice, or once more in other letters: then two readers
    /// could read two requests.
    #[error("the field `{0}` is there twice, or written in other letters than it is called")]
    Twice(String),
    /// A field is of another sort than the dialect has it.
    #[error("the field `{field}` must be {expected}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What it is in the dialect.
        expected: &'static str,
    },
}

/// What a request says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// The model; none for Gemini, where it is in the path.
    pub model: Option<String>,
    /// The answer is to come piece by piece (Gemini says this in the path).
    pub stream: bool,
    /// The stream is to tell its usage, in the dialect where that must be asked for.
    pub usage_asked: bool,
    /// Tokens of an answer, at most.
    pub most_output: Option<u64>,
    /// How many answers are asked for.
    pub answers: u64,
    /// Bytes of all texts that the model reads: messages, instructions, tools.
    pub text_bytes: u64,
    /// Images, files and sounds that the model reads.
    pub media: u64,
    /// Bytes of these as they stand in the request.
    pub media_bytes: u64,
    /// It says how freely the model is to choose.
    pub temperature: bool,
    is_chat: bool,
    model_at: Option<Range<usize>>,
    options_at: Option<Range<usize>>,
    include_at: Option<Range<usize>>,
    config_at: Option<Range<usize>>,
}

/// The fields of a request that matter here.
#[derive(Debug, Clone, Copy)]
enum Field {
    Model,
    Stream,
    IncludeUsage,
    Most(&'static str),
    Answers(&'static str),
    Temperature,
    /// Each text in it is read by the model.
    Texts,
    /// All of it is read by the model, as it is written.
    Json,
    /// More fields are in it.
    Object(&'static str, &'static [(&'static str, Field)]),
}

use Field::{Answers, IncludeUsage, Json, Model, Most, Object, Stream, Temperature, Texts as Text};

const CHAT: &[(&str, Field)] = &[
    ("model", Model),
    ("stream", Stream),
    (
        "stream_options",
        Object("stream_options", &[("include_usage", IncludeUsage)]),
    ),
    ("max_tokens", Most("max_tokens")),
    ("max_completion_tokens", Most("max_completion_tokens")),
    ("n", Answers("n")),
    ("temperature", Temperature),
    ("messages", Text),
    ("tools", Json),
    ("functions", Json),
    ("response_format", Json),
    ("prediction", Text),
];
const RESPONSES: &[(&str, Field)] = &[
    ("model", Model),
    ("stream", Stream),
    ("max_output_tokens", Most("max_output_tokens")),
    ("temperature", Temperature),
    ("input", Text),
    ("instructions", Text),
    ("prompt", Text),
    ("tools", Json),
    ("text", Json),
];
const EMBEDDINGS: &[(&str, Field)] = &[("model", Model), ("input", Text)];
const MESSAGES: &[(&str, Field)] = &[
    ("model", Model),
    ("stream", Stream),
    ("max_tokens", Most("max_tokens")),
    ("temperature", Temperature),
    ("messages", Text),
    ("system", Text),
    ("tools", Json),
    ("output_config", Json),
    ("output_format", Json),
];
/// Where Gemini is told how to answer.
const CONFIGURED: &str = "generationConfig";
const CONFIG: &[(&str, Field)] = &[
    ("maxOutputTokens", Most("maxOutputTokens")),
    ("max_output_tokens", Most("maxOutputTokens")),
    ("candidateCount", Answers("candidateCount")),
    ("candidate_count", Answers("candidateCount")),
    ("temperature", Temperature),
    ("responseSchema", Json),
    ("response_schema", Json),
    ("responseJsonSchema", Json),
    ("response_json_schema", Json),
];
/// What a request to count tokens holds a request to generate in.
const COUNTED: &[(&str, Field)] = &[
    ("contents", Text),
    ("systemInstruction", Text),
    ("system_instruction", Text),
    ("tools", Json),
    ("generationConfig", Object(CONFIGURED, CONFIG)),
    ("generation_config", Object(CONFIGURED, CONFIG)),
];
const GEMINI: &[(&str, Field)] = &[
    ("contents", Text),
    ("systemInstruction", Text),
    ("system_instruction", Text),
    ("tools", Json),
    ("generationConfig", Object(CONFIGURED, CONFIG)),
    ("generation_config", Object(CONFIGURED, CONFIG)),
    (
        "generateContentRequest",
        Object("generateContentRequest", COUNTED),
    ),
    (
        "generate_content_request",
        Object("generateContentRequest", COUNTED),
    ),
    ("content", Text),
    ("requests", Text),
];

/// Reads what matters of a request.
///
/// # Errors
/// [`BadRequest`]: it is no JSON object, or says one of these things twice or in no way that the dialect knows.
pub fn glance(dialect: Dialect, body: &[u8]) -> Result<Glance, BadRequest> {
    let text = std::str::from_utf8(body).map_err(|error| BadRequest::NotJson(error.to_string()))?;
    // The parser's own words would show the whole of a text that is no object.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(BadRequest::NotJson("it does not begin with `{`".to_owned()));
    }
    let mut look = Look {
        found: Glance {
            answers: 1,
            is_chat: dialect == Dialect::Chat,
            ..Glance::default()
        },
        texts: Texts::default(),
        body: text,
        refused: None,
    };
    look.read(
        text,
        match dialect {
            Dialect::Chat => CHAT,
            Dialect::Responses => RESPONSES,
            Dialect::Embeddings => EMBEDDINGS,
            Dialect::Messages => MESSAGES,
            Dialect::Gemini => GEMINI,
        },
    )?;
    look.found.text_bytes = look.texts.bytes;
    look.found.media = look.texts.media;
    look.found.media_bytes = look.texts.media_bytes;
    Ok(look.found)
}

struct Look<'b> {
    found: Glance,
    texts: Texts,
    body: &'b str,
    refused: Option<BadRequest>,
}

impl<'b> Look<'b> {
    fn read(&mut self, text: &'b str, known: Known) -> Result<(), BadRequest> {
        let mut read = serde_json::Deserializer::from_str(text);
        let fields = Fields {
            known,
            look: &mut *self,
        };
        let done = read.deserialize_map(fields).and_then(|()| read.end());
        match self.refused.take() {
            Some(refused) => Err(refused),
            None => done.map_err(|error| BadRequest::NotJson(error.to_string())),
        }
    }

    /// Where a value stands in the body.
    fn place(&self, value: Lazy<'_>) -> Option<Range<usize>> {
        let start = (value.raw().as_ptr() as usize).checked_sub(self.body.as_ptr() as usize)?;
        Some(start..start + value.raw().len())
    }

    /// Takes one field of the request.
    fn take(&mut self, field: Field, value: Lazy<'b>) -> Result<(), BadRequest> {
        match field {
            Model => {
                let model = value.text().ok_or(BadRequest::Field {
                    field: "model",
                    expected: "a text",
                })?;
                self.found.model = Some(model.into_owned());
                self.found.model_at = self.place(value);
            }
            Stream => self.found.stream = flag(value, "stream")?,
            IncludeUsage => {
                self.found.usage_asked = flag(value, "stream_options.include_usage")?;
                self.found.include_at = self.place(value);
            }
            Most(name) => {
                let most = number(value, name, "a number of tokens")?;
                self.found.most_output = self.found.most_output.max(most);
            }
            Answers(name) => {
                let expected = "a number of answers, at least 1";
                self.found.answers = match number(value, name, expected)? {
                    Some(0) => return Err(odd(name, expected)),
                    answers => answers.unwrap_or(1),
                };
            }
            Object(name, known) => {
                match name {
                    "stream_options" => self.found.options_at = self.place(value),
                    CONFIGURED => self.found.config_at = self.place(value),
                    _ => {}
                }
                match value.raw().as_bytes() {
                    b"null" => {}
                    [b'{', ..] => self.read(value.raw(), known)?,
                    _ => return Err(odd(name, "an object")),
                }
            }
            // Whoever says `null` says that it is the provider's.
            Temperature => self.found.temperature = true,
            Json => self.texts.json(value),
            // It is counted as it is parsed.
            Text => {}
        }
        Ok(())
    }
}

fn odd(field: &'static str, expected: &'static str) -> BadRequest {
    BadRequest::Field { field, expected }
}

fn number(
    value: Lazy<'_>,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<u64>, BadRequest> {
    match value.number() {
        None if value.is_some() => Err(odd(field, expected)),
        number => Ok(number),
    }
}

fn flag(value: Lazy<'_>, field: &'static str) -> Result<bool, BadRequest> {
    match value.raw() {
        "true" => Ok(true),
        "false" | "null" => Ok(false),
        _ => Err(odd(field, "true or false")),
    }
}

type Known = &'static [(&'static str, Field)];

struct Fields<'l, 'b> {
    known: Known,
    look: &'l mut Look<'b>,
}

impl<'b> Visitor<'b> for Fields<'_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'b>>(self, mut map: A) -> Result<(), A::Error> {
        // Both spellings of a field are one field.
        let mut seen: Vec<String> = Vec::new();
        while let Some(key) = map.next_key_seed(Key(self.known))? {
            let field = match key {
                Ok(None) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Ok(Some((name, field))) => {
                    let plain = name.replace('_', "").to_ascii_lowercase();
                    match seen.contains(&plain) {
                        true => Err(name.to_owned()),
                        false => {
                            seen.push(plain);
                            Ok(field)
                        }
                    }
                }
                Err(name) => Err(name),
            };
            let taken = match field {
                Ok(Text) => {
                    map.next_value_seed(Count(&mut self.look.texts))?;
                    continue;
                }
                Ok(field) => {
                    let value: &RawValue = map.next_value()?;
                    self.look.take(field, Lazy::from(value))
                }
                Err(name) => Err(BadRequest::Twice(name)),
            };
            if let Err(refused) = taken {
                self.look.refused = Some(refused);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// Finds the field that a key names: none, one, or one in other letters, which is refused.
struct Key(Known);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Result<Option<(&'static str, Field)>, String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Result<Option<(&'static str, Field)>, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        if let Some(known) = self.0.iter().find(|(name, _)| *name == key) {
            return Ok(Ok(Some(*known)));
        }
        let mut known = self.0.iter();
        Ok(
            match known.any(|(name, _)| name.eq_ignore_ascii_case(key)) {
                true => Err(key.chars().take(MOST_SHOWN).collect()),
                false => Ok(None),
            },
        )
    }
}

/// The body with another model and, if `usage` is set and the request is a streaming chat that does not do so,
/// with the wish for its usage. Every other byte is kept. The body must be the one that was glanced at.
#[must_use]
pub fn rewritten(glance: &Glance, body: &[u8], model: Option<&str>, usage: bool) -> Vec<u8> {
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    if let (Some(at), Some(model)) = (&glance.model_at, model) {
        changes.push((at.clone(), serde_json::Value::from(model).to_string()));
    }
    if usage && glance.is_chat && glance.stream && !glance.usage_asked {
        changes.extend(asking(glance, body));
    }
    changes.sort_by_key(|(at, _)| at.start);
    let more: usize = changes.iter().map(|(_, text)| text.len()).sum();
    let mut made = Vec::with_capacity(body.len() + more);
    let mut from = 0;
    for (at, text) in changes {
        made.extend_from_slice(body.get(from..at.start).unwrap_or_default());
        made.extend_from_slice(text.as_bytes());
        from = at.end;
    }
    made.extend_from_slice(body.get(from..).unwrap_or_default());
    made
}

/// The body with a temperature; nothing, when it says one itself, or asks for what has none. Every other byte is kept.
/// The body must be the one that was glanced at.
#[must_use]
pub fn with_temperature(
    dialect: Dialect,
    glance: &Glance,
    body: &[u8],
    temperature: f64,
) -> Option<Vec<u8>> {
    if glance.temperature {
        return None;
    }
    let said = format!("\"temperature\":{temperature}");
    let (at, text) = match (dialect, &glance.config_at) {
        (Dialect::Embeddings, _) => return None,
        (Dialect::Gemini, Some(config)) => inside(config, body, &said),
        (Dialect::Gemini, None) => beginning(body, &format!("\"{CONFIGURED}\":{{{said}}}"))?,
        (Dialect::Chat | Dialect::Responses | Dialect::Messages, _) => beginning(body, &said)?,
    };
    let mut made = body.get(..at.start)?.to_vec();
    made.extend_from_slice(text.as_bytes());
    made.extend_from_slice(body.get(at.end..)?);
    Some(made)
}

/// The change that puts a field before all others of a body.
fn beginning(body: &[u8], field: &str) -> Option<(Range<usize>, String)> {
    let start = body.iter().position(|byte| *byte == b'{')?;
    let whole = start..body.len();
    Some(inside(&whole, body, field))
}

/// The change that puts a field into an object, or makes one where there is none.
fn inside(place: &Range<usize>, body: &[u8], field: &str) -> (Range<usize>, String) {
    let text = body.get(place.clone()).unwrap_or_default();
    let Some(inner) = text.strip_prefix(b"{") else {
        return (place.clone(), format!("{{{field}}}"));
    };
    let start = place.start + 1;
    let is_empty = inner.trim_ascii_start().starts_with(b"}");
    let comma = if is_empty { "" } else { "," };
    (start..start, format!("{field}{comma}"))
}

/// The change that asks for the usage of a stream.
fn asking(glance: &Glance, body: &[u8]) -> Option<(Range<usize>, String)> {
    const ASKS: &str = r#""include_usage":true"#;
    if let Some(at) = &glance.include_at {
        return Some((at.clone(), "true".to_owned()));
    }
    match &glance.options_at {
        Some(options) => Some(inside(options, body, ASKS)),
        None => beginning(body, &format!(r#""stream_options":{{{ASKS}}}"#)),
    }
}

/// The body with another model, every other byte kept. A body that names none stays as it is.
#[must_use]
pub fn with_model(glance: &Glance, body: &[u8], model: &str) -> Vec<u8> {
    rewritten(glance, body, Some(model), false)
}

/// A streaming chat request that also asks for its usage, every other byte kept. Any other request stays as
/// it is.
#[must_use]
pub fn with_usage(glance: &Glance, body: &[u8]) -> Vec<u8> {
    rewritten(glance, body, None, true)
}
