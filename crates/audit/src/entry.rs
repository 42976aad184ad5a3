//! One entry of the log: who did what to what, what decided it, and how it ended. Its bytes are JSON in
//! a fixed order, and are hashed as they are: nobody ever writes them anew.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use skep_core::Timestamp;

/// The most characters of a text in an entry.
const MOST_TEXT: usize = 512;
/// The most policies that an entry names.
const MOST_POLICIES: usize = 16;
/// Bytes that most entries have at most.
const USUAL: usize = 512;
/// The most commitments in an entry.
const MOST_PERSONAL: usize = 4;

/// A thing by its kind and its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thing<'a> {
    /// As in the policy schema: `User`, `ApiKey`, `Agent`, `Call`.
    pub kind: Cow<'a, str>,
    /// Its id or name; never what says who a person is.
    pub id: Cow<'a, str>,
}

impl<'a> Thing<'a> {
    /// A thing.
    pub fn new(kind: impl Into<Cow<'a, str>>, id: impl Into<Cow<'a, str>>) -> Self {
        Self {
            kind: kind.into(),
            id: id.into(),
        }
    }

    fn short(&self) -> Thing<'_> {
        Thing::new(short(&self.kind), short(&self.id))
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What a change made of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<'a> {
    /// What was changed: `revision 4`, `request`.
    pub what: Cow<'a, str>,
    /// SHA-256 of what it is now, in hexadecimal; absent when nothing is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Cow<'a, str>>,
}

/// Personal data, as an entry has it: what nobody reads out of it who has not the person's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment<'a> {
    /// What it is: `address`, `email`.
    pub kind: Cow<'a, str>,
    /// HMAC-SHA-256 of kind and value under the person's secret, in hexadecimal.
    pub commitment: Cow<'a, str>,
    /// Whose it is: an id that says nothing of them.
    pub person: Cow<'a, str>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// When, by the store's clock; RFC 3339.
    pub time: Cow<'a, str>,
    /// Where; absent for what is the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Cow<'a, str>>,
    /// Who.
    pub principal: Thing<'a>,
    /// What was done, as in the policy schema: `agent:deploy`.
    pub action: Cow<'a, str>,
    /// To what.
    pub resource: Thing<'a>,
    /// What was decided.
    pub decision: Decision,
    /// The policies that decided it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Cow<'a, str>>,
    /// The request, or the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Cow<'a, str>>,
    /// How it ended, in a word; absent when it is done by being recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Cow<'a, str>>,
    /// Why it was ordered, in the words of who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// What was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change<'a>>,
    /// Personal data that belongs to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub personal: Vec<Commitment<'a>>,
    /// How often the very same happened since the entry before of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

fn short(text: &str) -> Cow<'_, str> {
    // A character has a byte at least.
    let long = match text.len() > MOST_TEXT {
        true => text.char_indices().nth(MOST_TEXT),
        false => None,
    };
    match long {
        Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
        None => Cow::Borrowed(text),
    }
}

impl<'a> Entry<'a> {
    /// An entry of something that was allowed, and that is done by being recorded.
    pub fn new(
        now: Timestamp,
        principal: Thing<'a>,
        action: impl Into<Cow<'a, str>>,
        resource: Thing<'a>,
    ) -> Self {
        Self {
            time: Cow::Owned(now.to_string()),
            workspace: None,
            principal,
            action: action.into(),
            resource,
            decision: Decision::Allow,
            policies: Vec::new(),
            request: None,
            outcome: None,
            reason: None,
            change: None,
            personal: Vec::new(),
            times: None,
        }
    }

    /// Its bytes. Texts over their bound are cut, so that every entry fits.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bounded = Entry {
            time: Cow::Borrowed(&self.time),
            workspace: self.workspace.as_deref().map(short),
            principal: self.principal.short(),
            action: short(&self.action),
            resource: self.resource.short(),
            decision: self.decision,
            policies: self
                .policies
                .iter()
                .take(MOST_POLICIES)
                .map(|it| short(it))
                .collect(),
            request: self.request.as_deref().map(short),
            outcome: self.outcome.as_deref().map(short),
            reason: self.reason.as_deref().map(short),
            change: self.change.as_ref().map(|it| Change {
                what: short(&it.what),
                hash: it.hash.as_deref().map(short),
            }),
            personal: self
                .personal
                .iter()
                .take(MOST_PERSONAL)
                .map(|it| Commitment {
                    kind: short(&it.kind),
                    commitment: short(&it.commitment),
                    person: short(&it.person),
                })
                .collect(),
            times: self.times,
        };
        let mut bytes = Vec::with_capacity(USUAL);
        // Texts and numbers always have a JSON form.
        let _ = serde_json::to_writer(&mut bytes, &bounded);
        bytes
    }

    /// The entry of these bytes; `None` when they are none that this version knows.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_always_fits() {
        let mut entry = Entry::new(
            Timestamp::from_micros(1),
            Thing::new("ApiKey", "key_1"),
            "agent:deploy",
            Thing::new("Agent", "a\"\\\u{0}b"),
        );
        entry.workspace = Some("default".into());
        let bytes = entry.to_bytes();
        assert_eq!(Entry::parse(&bytes), Some(entry.clone()));
        // Every character is written as an escape of six bytes.
        let long = "\u{1}".repeat(100_000);
        entry.reason = Some(long.clone().into());
        entry.policies = vec![long.clone().into(); 100];
        entry.resource.id = long.into();
        assert!(entry.to_bytes().len() < skep_store::MOST_ENTRY);
    }
}
