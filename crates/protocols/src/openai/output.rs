//! What a run says to who takes its agent for a model: items in their order, which grow until they are done.

use std::collections::{HashMap, HashSet};

use crate::agui::{Body, Event, Message, Role, RunAgentInput, Said};

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Text,
    Thought,
    /// A call of one of the client's tools, whose name this is; its text are the arguments.
    Call(String),
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) is_done: bool,
}

/// What becomes of the items; each names one by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Begun(usize),
    More(usize, String),
    Done(usize),
}

impl Change {
    pub(super) const fn at(&self) -> usize {
        match self {
            Self::Begun(at) | Self::More(at, _) | Self::Done(at) => *at,
        }
    }
}

/// The agent took back what it had said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed;

/// What a run says.
#[derive(Debug)]
pub(super) struct Output {
    /// Messages that there were before.
    before: HashSet<String>,
    /// The client's tools.
    tools: HashSet<String>,
    pub(super) items: Vec<Item>,
    places: HashMap<(bool, String), usize>,
    answered: HashSet<String>,
}

impl Output {
    pub(super) fn new(input: &RunAgentInput) -> Self {
        let before = input.messages.iter().map(|it| it.id.clone());
        let tools = input.tools.iter().map(|it| it.name.clone());
        Self {
            before: before.collect(),
            tools: tools.collect(),
            items: Vec::new(),
            places: HashMap::new(),
            answered: HashSet::new(),
        }
    }

    /// Another attempt begins; what was said is given back.
    pub(super) fn again(&mut self) -> Vec<Item> {
        self.places.clear();
        self.answered.clear();
        std::mem::take(&mut self.items)
    }

    /// Whether a call waits for the client.
    pub(super) fn waits(&self) -> bool {
        let mut items = self.items.iter();
        items.any(|it| matches!(it.kind, Kind::Call(_)) && !self.answered.contains(&it.id))
    }

    pub(super) fn push(&mut self, event: &Event) -> Result<Vec<Change>, Changed> {
        let mut out = Vec::new();
        match &event.body {
            Body::TextMessageStart {
                message_id,
                role: None | Some(Role::Assistant),
                ..
            } => {
                self.begin(&mut out, message_id, Kind::Text);
            }
            Body::ReasoningMessageStart { message_id, .. } => {
                self.begin(&mut out, message_id, Kind::Thought);
            }
            Body::ToolCallStart {
                tool_call_id,
                tool_call_name,
                ..
            } if self.tools.contains(tool_call_name) => {
                self.begin(&mut out, tool_call_id, Kind::Call(tool_call_name.clone()));
            }
            Body::TextMessageContent { message_id, delta }
            | Body::ReasoningMessageContent { message_id, delta } => {
                self.more(&mut out, (false, message_id), delta)?;
            }
            Body::ToolCallArgs {
                tool_call_id,
                delta,
            } => self.more(&mut out, (true, tool_call_id), delta)?,
            Body::TextMessageEnd { message_id } | Body::ReasoningMessageEnd { message_id } => {
                self.done(&mut out, (false, message_id));
            }
            Body::ToolCallEnd { tool_call_id } => self.done(&mut out, (true, tool_call_id)),
            Body::ToolCallResult { tool_call_id, .. } => {
                self.answered.insert(tool_call_id.clone());
            }
            Body::MessagesSnapshot { messages } => self.restate(&mut out, messages)?,
            _ => {}
        }
        Ok(out)
    }

    /// One more text that is said at once.
    pub(super) fn say(&mut self, id: &str, text: &str) -> Vec<Change> {
        let mut out = Vec::new();
        self.begin(&mut out, id, Kind::Text);
        // It has just begun.
        let _ = self.more(&mut out, (false, id), text);
        out
    }

    /// Nothing more is said.
    pub(super) fn end(&mut self) -> Vec<Change> {
        let mut out = Vec::new();
        for (at, item) in self.items.iter_mut().enumerate() {
            if !std::mem::replace(&mut item.is_done, true) {
                out.push(Change::Done(at));
            }
        }
        out
    }

    fn place(&self, (is_call, id): (bool, &str)) -> Option<usize> {
        self.places.get(&(is_call, id.to_owned())).copied()
    }

    /// Begins an item, where there is none of its id: one that is open may be told of again.
    fn begin(&mut self, out: &mut Vec<Change>, id: &str, kind: Kind) {
        let is_call = matches!(kind, Kind::Call(_));
        if self.place((is_call, id)).is_some() {
            return;
        }
        let at = self.items.len();
        self.places.insert((is_call, id.to_owned()), at);
        self.items.push(Item {
            id: id.to_owned(),
            kind,
            text: String::new(),
            is_done: false,
        });
        out.push(Change::Begun(at));
    }

    fn more(
        &mut self,
        out: &mut Vec<Change>,
        of: (bool, &str),
        delta: &str,
    ) -> Result<(), Changed> {
        let place = self.place(of);
        let Some((at, item)) = place.and_then(|at| Some((at, self.items.get_mut(at)?))) else {
            return Ok(());
        };
        if delta.is_empty() {
            return Ok(());
        }
        if item.is_done {
            return Err(Changed);
        }
        item.text.push_str(delta);
        out.push(Change::More(at, delta.to_owned()));
        Ok(())
    }

    fn done(&mut self, out: &mut Vec<Change>, of: (bool, &str)) {
        let Some(at) = self.place(of) else {
            return;
        };
        if let Some(item) = self.items.get_mut(at)
            && !std::mem::replace(&mut item.is_done, true)
        {
            out.push(Change::Done(at));
        }
    }

    /// The conversation is this: it must have what was told.
    fn restate(&mut self, out: &mut Vec<Change>, messages: &[Message]) -> Result<(), Changed> {
        let mut kept = HashSet::new();
        for message in messages {
            if self.before.contains(&message.id) {
                continue;
            }
            match &message.said {
                Said::Assistant { content, .. } => {
                    if let Some(text) = content.as_deref().filter(|it| !it.is_empty()) {
                        kept.extend(self.stands(out, &message.id, Kind::Text, text)?);
                    }
                }
                Said::Reasoning { content } => {
                    kept.extend(self.stands(out, &message.id, Kind::Thought, content)?);
                }
                Said::Tool { tool_call_id, .. } => {
                    self.answered.insert(tool_call_id.clone());
                }
                _ => {}
            }
            for call in message.tool_calls() {
                let function = &call.function;
                if self.tools.contains(&function.name) {
                    let kind = Kind::Call(function.name.clone());
                    kept.extend(self.stands(out, &call.id, kind, &function.arguments)?);
                }
            }
        }
        let mut items = self.items.iter().enumerate();
        match items.all(|(at, it)| kept.contains(&at) || it.text.is_empty()) {
            true => Ok(()),
            false => Err(Changed),
        }
    }

    /// An item is this; gives its place.
    fn stands(
        &mut self,
        out: &mut Vec<Change>,
        id: &str,
        kind: Kind,
        text: &str,
    ) -> Result<Option<usize>, Changed> {
        let is_call = matches!(kind, Kind::Call(_));
        self.begin(out, id, kind);
        let at = self.place((is_call, id));
        let told = at.and_then(|at| self.items.get(at));
        let told = told.map(|it| it.text.as_str()).unwrap_or_default();
        let more = text.strip_prefix(told).ok_or(Changed)?.to_owned();
        self.more(out, (is_call, id), &more)?;
        Ok(at)
    }
}
