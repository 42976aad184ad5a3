//! What looks in a request as if it were to turn a model against who asks it: phrases, forged roles, hidden and encoded
//! text, above all in what tools gave. It is told, and stops nothing by itself. What is not here: the words and the marks
//! that are looked for. No I/O; each byte is looked at a bounded number of times.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::personal::NOT_TEXTS;

mod marks;
mod words;

/// From this score on it is told.
pub(super) const TOLD: u8 = 40;
/// The highest score.
const MOST: u8 = 100;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Instructions that were given before are not to count.
    Override,
    /// A mark by which a model knows who speaks.
    Role,
    /// A line that begins as if somebody else spoke.
    Speaker,
    /// The model is to be somebody without rules.
    Persona,
    /// The model is to tell its own instructions.
    Reveal,
    /// Something secret is to be sent somewhere.
    Exfiltrate,
    /// The user is not to be told.
    Conceal,
    /// A model is spoken to.
    Addressed,
    /// The model is to use a tool.
    Tool,
    /// Text that people do not see.
    Hidden,
    /// One of these, in Base64.
    Encoded,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Override,
        Self::Role,
        Self::Speaker,
        Self::Persona,
        Self::Reveal,
        Self::Exfiltrate,
        Self::Conceal,
        Self::Addressed,
        Self::Tool,
        Self::Hidden,
        Self::Encoded,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Role => "role",
            Self::Speaker => "speaker",
            Self::Persona => "persona",
            Self::Reveal => "reveal",
            Self::Exfiltrate => "exfiltrate",
            Self::Conceal => "conceal",
            Self::Addressed => "addressed",
            Self::Tool => "tool",
            Self::Hidden => "hidden",
            Self::Encoded => "encoded",
        }
    }

    /// What it counts in what a tool gave; elsewhere half of it.
    const fn weight(self) -> u8 {
        match self {
            Self::Override | Self::Encoded => 80,
            Self::Role | Self::Hidden => 60,
            Self::Persona | Self::Reveal | Self::Conceal => 50,
            // Ordinary texts say such things, too.
            Self::Exfiltrate => 35,
            Self::Addressed => 30,
            Self::Speaker | Self::Tool => 20,
        }
    }
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is who asks, or the model: nobody looks.
    Own,
    /// A user says it, or it describes a tool.
    Said,
    /// A tool gave it, or it is a document.
    Foreign,
}

/// What was seen, and how much it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injection {
    found: [u8; Signal::ALL.len()],
}

impl Injection {
    /// From 0 to 100.
    #[must_use]
    pub fn score(&self) -> u8 {
        let sum: u32 = self.found.iter().map(|it| u32::from(*it)).sum();
        u8::try_from(sum).unwrap_or(MOST).min(MOST)
    }

    /// The words for what was seen.
    #[must_use]
    pub fn signals(&self) -> BTreeSet<String> {
        let seen = Signal::ALL.into_iter().filter(|it| self.has(*it));
        seen.map(|it| it.as_str().to_owned()).collect()
    }

    /// Whether this was seen.
    #[must_use]
    pub fn has(&self, signal: Signal) -> bool {
        self.found.get(signal as usize).is_some_and(|it| *it > 0)
    }

    fn see(&mut self, signal: Signal, place: Place) {
        let weight = match place {
            Place::Own => return,
            Place::Said => signal.weight() / 2,
            Place::Foreign => signal.weight(),
        };
        if let Some(known) = self.found.get_mut(signal as usize) {
            *known = (*known).max(weight);
        }
    }

    /// Whether something was seen that words or marks say.
    fn says_something(&self) -> bool {
        let weak = [Signal::Hidden, Signal::Speaker, Signal::Tool];
        let mut all = Signal::ALL.into_iter();
        all.any(|it| self.has(it) && !weak.contains(&it))
    }

    /// Looks at a text.
    pub fn look(&mut self, text: &str, place: Place) {
        if place == Place::Own {
            return;
        }
        words::read(text, &mut |signal| self.see(signal, place));
        for run in marks::coded(text.as_bytes()) {
            let mut inner = Self::default();
            let text = String::from_utf8_lossy(&run);
            words::read(&text, &mut |signal| inner.see(signal, place));
            if inner.says_something() {
                self.see(Signal::Encoded, place);
                for (own, other) in self.found.iter_mut().zip(inner.found) {
                    *own = (*own).max(other);
                }
            }
        }
    }

    /// Looks at all texts of a request, of whatever dialect.
    pub fn request(&mut self, body: &Value) {
        let Value::Object(all) = body else {
            return;
        };
        for (name, it) in all {
            let place = match name.as_str() {
                "system" | "systemInstruction" | "system_instruction" | "instructions" => {
                    Place::Own
                }
                _ => Place::Said,
            };
            if !is_idle(name, it, place) {
                self.value(it, place);
            }
        }
    }

    fn value(&mut self, value: &Value, place: Place) {
        match value {
            Value::String(text) => self.look(text, place),
            Value::Array(all) => all.iter().for_each(|it| self.value(it, place)),
            Value::Object(all) => {
                let place = placed(all, place);
                let is_text = all.get("type").and_then(Value::as_str) == Some("text");
                for (name, it) in all {
                    let place = match name.as_str() {
                        "functionResponse" | "function_response" => Place::Foreign,
                        _ => place,
                    };
                    if place == Place::Foreign {
                        self.look(name, place);
                    }
                    if (is_text && name == "data") || !is_idle(name, it, place) {
                        self.value(it, place);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Whether a field says nothing to a model. What a tool gave has fields of any name.
fn is_idle(name: &str, value: &Value, place: Place) -> bool {
    place != Place::Foreign && value.is_string() && NOT_TEXTS.contains(&name)
}

/// Where the texts of an object stand.
fn placed(all: &Map<String, Value>, place: Place) -> Place {
    let word = |name: &str| all.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = word("type");
    let given = kind.ends_with("tool_result") || kind.ends_with("_call_output");
    if place == Place::Foreign || given || matches!(kind, "document" | "mcp_call") {
        return Place::Foreign;
    }
    match word("role") {
        "tool" | "function" => Place::Foreign,
        "system" | "developer" | "assistant" | "model" => Place::Own,
        _ => place,
    }
}

#[cfg(test)]
#[path = "injection_tests.rs"]
mod tests;
