//! The dialects in which models are asked over HTTP. What is here is pure: bytes go in and bytes come out,
//! whoever sends them.
//!
//! [`glance()`] tells what a broker must know of a request before it is sent, without changing it; [`Tap`]
//! watches an answer as it passes. What does not live here: who may ask which model, prices, and HTTP.

mod frames;
mod glance;
mod lazy;
mod tap;
mod texts;

pub use glance::{BadRequest, Glance, glance, rewritten, with_model, with_usage};
pub use tap::{Tap, Usage, WithoutUsage};

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
