//! From one dialect to another, by way of the neutral form.
//!
//! What the other dialect cannot say is refused with the name of the field. Left out is only what has no effect
//! on the answer:
//! - who asks and what for (`user`, `metadata`, `safety_identifier`), hints for caches (`cache_control`,
//!   `prompt_cache_key`, …), `store: false`, and tiers of service that are the default;
//! - whether thoughts are told, where a dialect has no word for it;
//! - thoughts of another provider's model in what was said before: no model reads those of another;
//! - the name of an answer's schema.
//!
//! Some things are said by the nearest word: an effort for a budget of thinking, `Error: ` before the result of a
//! tool that failed, where a dialect has no flag for it.

use crate::json::Json;
use crate::neutral::{Answer, Request};
use crate::tap::{Tap, Usage};
use crate::{Dialect, chat, gemini, messages, responses};

/// Why something cannot be said in the other dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// It is no JSON, or none that can be read for certain.
    #[error("the body cannot be read: {0}")]
    NotJson(String),
    /// A field has no counterpart.
    #[error("`{field}`: {why}")]
    Field {
        /// Which one, such as `messages[2].content[0]`.
        field: String,
        /// What is the matter with it.
        why: String,
    },
    /// There is no way from this dialect to that.
    #[error("{from:?} cannot be translated to {to:?}")]
    Pair {
        /// What came in.
        from: Dialect,
        /// What was to come of it.
        to: Dialect,
    },
}

/// What the translation of an answer needs to know of its request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// The answer is to come piece by piece.
    pub stream: bool,
    /// The client asked for the usage of a stream.
    pub usage_asked: bool,
    /// Seconds since 1970, for answers that say when they were made and providers that do not.
    pub now: u64,
    /// Fields of the request that its answer says again.
    pub(crate) echo: Vec<(String, Json)>,
}

/// Translates a request. `streams` says what the path of Gemini says; the other dialects have it in the body.
/// The second is for the translation of the answer.
///
/// # Errors
/// [`Untranslatable`]
pub fn translate_request(
    from: Dialect,
    to: Dialect,
    body: &[u8],
    model: &str,
    streams: bool,
) -> Result<(Vec<u8>, Memory), Untranslatable> {
    let body = Json::read(body)?;
    let mut memory = Memory::default();
    if from == Dialect::Responses {
        memory.echo = responses::echo(&body);
    }
    let mut request = read_request(from, to, body)?;
    if from == Dialect::Gemini {
        request.stream = streams;
    }
    memory.stream = request.stream;
    memory.usage_asked = request.usage_asked;
    let made = write_request(from, to, &request, model)?;
    Ok((made.to_string().into_bytes(), memory))
}

pub(crate) fn read_request(
    from: Dialect,
    to: Dialect,
    body: Json,
) -> Result<Request, Untranslatable> {
    match from {
        Dialect::Chat => chat::read_request(body),
        Dialect::Messages => messages::read_request(body),
        Dialect::Gemini => gemini::read_request(body),
        Dialect::Responses => responses::read_request(body),
        Dialect::Embeddings => Err(Untranslatable::Pair { from, to }),
    }
}

pub(crate) fn write_request(
    from: Dialect,
    to: Dialect,
    request: &Request,
    model: &str,
) -> Result<Json, Untranslatable> {
    match to {
        Dialect::Chat => chat::write_request(request, model),
        Dialect::Messages => messages::write_request(request, model),
        Dialect::Gemini => gemini::write_request(request),
        Dialect::Responses => responses::write_request(request, model),
        Dialect::Embeddings => Err(Untranslatable::Pair { from, to }),
    }
}

/// Translates an answer that came at once: `from` is the dialect that the provider speaks.
///
/// # Errors
/// [`Untranslatable`], when it says what the client's dialect cannot, or is no answer.
pub fn translate_answer(
    from: Dialect,
    to: Dialect,
    body: &[u8],
    memory: &Memory,
) -> Result<Vec<u8>, Untranslatable> {
    let answer = read_answer(from, to, body)?;
    let made = write_answer(from, to, &answer, memory)?;
    Ok(made.to_string().into_bytes())
}

/// The usage that an answer tells.
fn usage(dialect: Dialect, body: &[u8]) -> Usage {
    let mut tap = Tap::new(dialect, false);
    tap.push(body);
    tap.usage().unwrap_or_default()
}

pub(crate) fn read_answer(
    from: Dialect,
    to: Dialect,
    body: &[u8],
) -> Result<Answer, Untranslatable> {
    let told = usage(from, body);
    let body = Json::read(body)?;
    match from {
        Dialect::Chat => chat::read_answer(body, told),
        Dialect::Messages => messages::read_answer(body, told),
        Dialect::Gemini => gemini::read_answer(body, told),
        Dialect::Responses => responses::read_answer(body, told),
        Dialect::Embeddings => Err(Untranslatable::Pair { from, to }),
    }
}

pub(crate) fn write_answer(
    from: Dialect,
    to: Dialect,
    answer: &Answer,
    memory: &Memory,
) -> Result<Json, Untranslatable> {
    match to {
        Dialect::Chat => chat::write_answer(answer, memory),
        Dialect::Messages => messages::write_answer(answer),
        Dialect::Gemini => gemini::write_answer(answer),
        Dialect::Responses => responses::write_answer(answer, memory),
        Dialect::Embeddings => Err(Untranslatable::Pair { from, to }),
    }
}
