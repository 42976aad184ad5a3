//! What goes between the upstream and its dialects.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::flow::Frame;
use super::script::Script;

/// What is asked.
pub(crate) struct Ask<'a> {
    /// The body; null when there is none.
    pub(crate) json: &'a Value,
    /// What the model's name says.
    pub(crate) script: Script,
    /// A number of its own.
    pub(crate) id: u64,
}

/// What is said.
pub(crate) enum Said {
    /// All at once.
    Whole(String),
    /// Part by part.
    Frames(Vec<Frame>),
}

/// An answer.
pub(crate) struct Reply {
    /// `content-type`, or nothing for the dialect's JSON.
    pub(crate) kind: Option<&'static str>,
    /// What is said.
    pub(crate) said: Said,
    /// How.
    pub(crate) script: Script,
}

impl Reply {
    /// A JSON document.
    pub(crate) fn whole(text: String, script: Script) -> Self {
        Self {
            kind: None,
            said: Said::Whole(text),
            script,
        }
    }

    /// Server-sent events.
    pub(crate) fn events(frames: Vec<Frame>, script: Script) -> Self {
        Self {
            kind: Some("text/event-stream; charset=utf-8"),
            said: Said::Frames(frames),
            script,
        }
    }
}

/// Why there is no answer.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    /// There was no key at all.
    pub(crate) missing: bool,
    /// Seconds after which to come back.
    pub(crate) after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            missing: false,
            after: None,
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| it.as_secs())
}

/// Text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Headers whose values never change.
pub(crate) fn collected(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    pairs.collect()
}
