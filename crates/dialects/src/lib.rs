//! The dialects in which models are asked over HTTP. What is here is pure: bytes go in and bytes come out,
//! whoever sends them.
//!
//! [`glance()`] tells what a broker must know of a request before it is sent, without changing it; [`Tap`]
//! watches an answer as it passes. What does not live here: who may ask which model, prices, and HTTP.

mod chat;
mod embeddings;
mod errors;
mod frames;
mod gemini;
mod glance;
mod json;
mod lazy;
mod messages;
mod neutral;
mod question;
mod responses;
mod restore;
mod same;
mod schema;
mod stream;
mod tap;
mod texts;
mod translate;

pub use embeddings::{Inputs, apart, together};
pub use errors::{error_body, translate_error};
pub use glance::{BadRequest, Glance, glance, rewritten, with_model, with_temperature, with_usage};
pub use messages::MOST_OUTPUT;
pub use question::{Question, embedding};
pub use restore::{Pair, Restore};
pub use same::same;
pub use stream::StreamTranslation;
pub use tap::{Tap, Usage, WithoutUsage};
pub use translate::{Memory, Untranslatable, translate_answer, translate_request};

/// A way in which models are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Chat completions of `OpenAI`, which most others speak too.
    Chat,
    /// Responses of `OpenAI`.
    Responses,
    /// Embeddings of `OpenAI`.
    Embeddings,
    /// Messages of Anthropic, and the question how many tokens one has.
    Messages,
    /// Gemini: `generateContent`, `streamGenerateContent`, `countTokens`. The model is in the path.
    Gemini,
}

#[cfg(test)]
mod tests;
