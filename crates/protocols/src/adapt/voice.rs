//! What an agent says, as events: texts, reasoning and calls that begin and end where others begin.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::agui::{Body, Event, Object, Outcome, ReasoningRole, TokenUsage};

/// Bytes of one delta: what comes at once is told in pieces.
const MOST_DELTA: usize = 64 << 10;
/// Calls of one answer that are told apart.
const MOST_CALLS: usize = 1024;

/// What is being said.
#[derive(Debug, PartialEq, Eq)]
enum Saying {
    Nothing,
    Text(String),
    Thought(String),
}

/// Tells what an agent says.
#[derive(Debug)]
pub(super) struct Voice {
    prefix: String,
    minted: u64,
    saying: Saying,
    /// The message in which calls stand.
    turn: Option<String>,
    /// Calls, by what the agent calls them.
    calls: BTreeMap<String, String>,
    usage: Option<TokenUsage>,
    /// What there is to say of each text.
    mark: Option<Object>,
    out: Vec<Event>,
}

impl Voice {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            minted: 0,
            saying: Saying::Nothing,
            turn: None,
            calls: BTreeMap::new(),
            usage: None,
            mark: None,
            out: Vec::new(),
        }
    }

    pub(super) fn taken(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out)
    }

    fn mint(&mut self) -> String {
        self.minted += 1;
        format!("{}-m{}", self.prefix, self.minted)
    }

    fn tell(&mut self, body: Body) {
        self.out.push(body.into());
    }

    /// One of the agent's own events.
    pub(super) fn event(&mut self, event: Event) {
        self.out.push(event);
    }

    /// Ends what is being said.
    pub(super) fn pause(&mut self) {
        match std::mem::replace(&mut self.saying, Saying::Nothing) {
            Saying::Nothing => {}
            Saying::Text(message_id) => self.tell(Body::TextMessageEnd { message_id }),
            Saying::Thought(message_id) => self.tell(Body::ReasoningMessageEnd { message_id }),
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let message_id = match &self.saying {
            Saying::Text(id) => id.clone(),
            _ => {
                self.pause();
                let id = self.mint();
                self.saying = Saying::Text(id.clone());
                self.turn = Some(id.clone());
                let mut start = Event::from(Body::TextMessageStart {
                    message_id: id.clone(),
                    role: None,
                    name: None,
                });
                start.metadata.clone_from(&self.mark);
                self.out.push(start);
                id
            }
        };
        for delta in pieces(text) {
            self.tell(Body::TextMessageContent {
                message_id: message_id.clone(),
                delta,
            });
        }
    }

    pub(super) fn thought(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let message_id = match &self.saying {
            Saying::Thought(id) => id.clone(),
            _ => {
                self.pause();
                let id = self.mint();
                self.saying = Saying::Thought(id.clone());
                self.tell(Body::ReasoningMessageStart {
                    message_id: id.clone(),
                    role: ReasoningRole::Reasoning,
                });
                id
            }
        };
        for delta in pieces(text) {
            self.tell(Body::ReasoningMessageContent {
                message_id: message_id.clone(),
                delta,
            });
        }
    }

    /// A call begins, which the agent calls by a key.
    pub(super) fn call(&mut self, key: &str, id: Option<&str>, name: &str) {
        if self.calls.len() >= MOST_CALLS {
            return;
        }
        self.pause();
        let id = match id.filter(|it| !it.is_empty()) {
            Some(id) => id.to_owned(),
            None => self.mint(),
        };
        if self.turn.is_none() {
            self.turn = Some(self.mint());
        }
        self.calls.insert(key.to_owned(), id.clone());
        self.tell(Body::ToolCallStart {
            tool_call_id: id,
            tool_call_name: name.to_owned(),
            parent_message_id: self.turn.clone(),
        });
    }

    /// Which call it is that the agent calls by a key.
    pub(super) fn called(&self, key: &str) -> Option<&str> {
        self.calls.get(key).map(String::as_str)
    }

    pub(super) fn arguments(&mut self, key: &str, text: &str) {
        let Some(id) = self.calls.get(key).cloned() else {
            return;
        };
        for delta in pieces(text) {
            self.tell(Body::ToolCallArgs {
                tool_call_id: id.clone(),
                delta,
            });
        }
    }

    pub(super) fn called_out(&mut self, key: &str) {
        if let Some(tool_call_id) = self.calls.remove(key) {
            self.tell(Body::ToolCallEnd { tool_call_id });
        }
    }

    /// All calls have all that they are given.
    pub(super) fn all_called_out(&mut self) {
        for tool_call_id in std::mem::take(&mut self.calls).into_values() {
            self.tell(Body::ToolCallEnd { tool_call_id });
        }
    }

    /// Something that has no words here.
    pub(super) fn custom(&mut self, value: Value) {
        self.tell(Body::Raw {
            event: value,
            source: None,
        });
    }

    /// What there is to say of each text from now on.
    pub(super) fn mark(&mut self, mark: Object) {
        self.mark = Some(mark);
    }

    pub(super) fn usage(&mut self, usage: TokenUsage) {
        self.usage = Some(usage);
    }

    pub(super) fn fail(&mut self, code: &str, message: &str) {
        self.pause();
        self.out.push(super::error(code, message));
    }

    pub(super) fn finish(&mut self, result: Option<Value>, outcome: Option<Outcome>) {
        self.pause();
        self.all_called_out();
        let usage = self.usage.take();
        self.tell(Body::RunFinished {
            thread_id: String::new(),
            run_id: String::new(),
            result: result.filter(|it| !it.is_null()),
            outcome,
            usage: usage.into_iter().collect(),
        });
    }
}

/// A text in pieces of a bounded length.
fn pieces(mut text: &str) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let mut end = text.len().min(MOST_DELTA);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        (!piece.is_empty()).then(|| piece.to_owned())
    })
}
