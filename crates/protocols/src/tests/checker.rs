//! The rules of `verifyEvents` of the official client, written down again from their description and not from `Order`: what it
//! throws at is an error here. Two rules more are those of its reducer, which warns.

use std::collections::{HashMap, HashSet};

use crate::agui::{Body, Encrypted, Event, Message, RunAgentInput, Said};

type Owner = Option<String>;

#[derive(Default)]
pub(super) struct Checker {
    started: bool,
    over: bool,
    texts: HashSet<String>,
    calls: HashSet<String>,
    spans: HashSet<String>,
    thoughts: HashSet<String>,
    steps: HashSet<(Owner, String)>,
    working: HashSet<String>,
    done: HashSet<String>,
    of_message: HashMap<String, Owner>,
    of_call: HashMap<String, Owner>,
    of_activity: HashMap<String, Owner>,
    of_reasoning: HashMap<String, Owner>,
    /// The role under which a message stands in the conversation.
    roles: HashMap<String, &'static str>,
    /// Calls that stand in a message.
    held: HashSet<String>,
}

fn agrees(tag: &Owner, owner: Option<&Owner>) -> Result<(), String> {
    match (tag, owner) {
        (Some(tag), Some(owner)) if owner.as_ref() != Some(tag) => {
            Err(format!("the tag {tag} is not that of the owner {owner:?}"))
        }
        _ => Ok(()),
    }
}

fn role(said: &Said) -> &'static str {
    match said {
        Said::Reasoning { .. } => "reasoning",
        Said::Activity { .. } => "activity",
        Said::Tool { .. } => "tool",
        Said::Assistant { .. } => "assistant",
        _ => "other",
    }
}

fn claim<T: std::hash::Hash + Eq>(set: &mut HashSet<T>, it: T, what: &str) -> Result<(), String> {
    match set.insert(it) {
        true => Ok(()),
        false => Err(format!("{what} is open")),
    }
}

fn leave<T: std::hash::Hash + Eq>(set: &mut HashSet<T>, it: &T, what: &str) -> Result<(), String> {
    match set.remove(it) {
        true => Ok(()),
        false => Err(format!("{what} is not open")),
    }
}

impl Checker {
    pub(super) fn new(input: &RunAgentInput) -> Self {
        let mut new = Self::default();
        for message in &input.messages {
            new.roles.insert(message.id.clone(), role(&message.said));
            new.held
                .extend(message.tool_calls().iter().map(|it| it.id.clone()));
        }
        new
    }

    pub(super) fn all(input: &RunAgentInput, events: &[Event]) -> Result<(), String> {
        let mut checker = Self::new(input);
        for (at, event) in events.iter().enumerate() {
            checker
                .next(event)
                .map_err(|why| format!("{at}: {event:?}: {why}"))?;
        }
        match checker.over {
            true => Ok(()),
            false => Err("it has no end".to_owned()),
        }
    }

    pub(super) fn next(&mut self, event: &Event) -> Result<(), String> {
        if self.over {
            return Err("it is over".to_owned());
        }
        let is_start = matches!(event.body, Body::RunStarted { .. });
        if is_start == self.started {
            return Err("a run begins first and once".to_owned());
        }
        self.started = true;
        let tag = &event.subagent_run_id;
        match &event.body {
            Body::RunFinished { .. } => {
                self.over = true;
                let open = self.texts.len() + self.calls.len() + self.spans.len();
                let open = open + self.thoughts.len() + self.steps.len() + self.working.len();
                if open > 0 {
                    return Err(format!("{open} things are open"));
                }
                Ok(())
            }
            Body::RunError { .. } => {
                self.over = true;
                Ok(())
            }
            Body::StepStarted { step_name } => claim(
                &mut self.steps,
                (tag.clone(), step_name.clone()),
                "the step",
            ),
            Body::StepFinished { step_name } => leave(
                &mut self.steps,
                &(tag.clone(), step_name.clone()),
                "the step",
            ),
            Body::SubagentStarted { .. }
            | Body::SubagentFinished { .. }
            | Body::SubagentError { .. } => self.subagent(event),
            Body::MessagesSnapshot { messages } => {
                self.snapshot(messages);
                Ok(())
            }
            Body::TextMessageChunk { .. }
            | Body::ToolCallChunk { .. }
            | Body::ReasoningMessageChunk { .. } => Err("a chunk is left".to_owned()),
            _ => self.content(event),
        }
    }

    fn subagent(&mut self, event: &Event) -> Result<(), String> {
        let id = event.subagent_run_id.clone().ok_or("it has no id")?;
        if let Body::SubagentStarted {
            parent_subagent_run_id,
            ..
        } = &event.body
        {
            let known = |id: &String| self.working.contains(id) || self.done.contains(id);
            if known(&id) || !parent_subagent_run_id.as_ref().is_none_or(known) {
                return Err("it was there, or its parent was not".to_owned());
            }
            self.working.insert(id);
            return Ok(());
        }
        leave(&mut self.working, &id, "the subagent")?;
        self.done.insert(id);
        Ok(())
    }

    fn snapshot(&mut self, messages: &[Message]) {
        let roles = messages.iter().map(|it| (it.id.clone(), role(&it.said)));
        self.roles
            .retain(|_, role| matches!(*role, "reasoning" | "activity"));
        self.roles.extend(roles);
        self.held.clear();
        for message in messages {
            self.held
                .extend(message.tool_calls().iter().map(|it| it.id.clone()));
            let of = match &message.said {
                Said::Reasoning { .. } => &mut self.of_reasoning,
                Said::Activity { .. } => &mut self.of_activity,
                _ => &mut self.of_message,
            };
            of.insert(message.id.clone(), message.subagent_run_id.clone());
            for call in message.tool_calls() {
                self.of_call
                    .insert(call.id.clone(), message.subagent_run_id.clone());
            }
        }
    }

    /// The reducer finds a message of the right sort.
    fn there(&self, id: &str, is_reasoning: bool) -> Result<(), String> {
        match self.roles.get(id) {
            None => Err(format!("there is no message {id}")),
            Some(&"reasoning") if is_reasoning => Ok(()),
            Some(&("assistant" | "other")) if !is_reasoning => Ok(()),
            Some(role) => Err(format!("the message {id} is of {role}")),
        }
    }

    fn content(&mut self, event: &Event) -> Result<(), String> {
        let tag = &event.subagent_run_id;
        match &event.body {
            Body::TextMessageStart {
                message_id, role, ..
            } => {
                agrees(tag, self.of_message.get(message_id))?;
                self.of_message
                    .entry(message_id.clone())
                    .or_insert(tag.clone());
                let role = match role {
                    None | Some(crate::agui::Role::Assistant) => "assistant",
                    _ => "other",
                };
                let there = self.roles.entry(message_id.clone()).or_insert(role);
                if *there != role {
                    return Err(format!("the message is of {there}"));
                }
                claim(&mut self.texts, message_id.clone(), "the text")
            }
            Body::TextMessageContent { message_id, .. } => {
                agrees(tag, self.of_message.get(message_id))?;
                self.there(message_id, false)?;
                self.texts
                    .contains(message_id)
                    .then_some(())
                    .ok_or("it is not open".to_owned())
            }
            Body::TextMessageEnd { message_id } => {
                agrees(tag, self.of_message.get(message_id))?;
                self.there(message_id, false)?;
                leave(&mut self.texts, message_id, "the text")
            }
            Body::ToolCallStart { .. } | Body::ToolCallArgs { .. } | Body::ToolCallEnd { .. } => {
                self.call(event)
            }
            Body::ToolCallResult { message_id, .. } => {
                if self.roles.insert(message_id.clone(), "tool").is_some() {
                    return Err("the message is there".to_owned());
                }
                self.of_message.insert(message_id.clone(), tag.clone());
                Ok(())
            }
            Body::ActivitySnapshot { .. }
            | Body::ActivityDelta { .. }
            | Body::ReasoningEncryptedValue { .. } => self.beside(event),
            _ => self.reasoning(event),
        }
    }

    fn beside(&mut self, event: &Event) -> Result<(), String> {
        let tag = &event.subagent_run_id;
        match &event.body {
            Body::ActivitySnapshot {
                message_id,
                replace,
                ..
            } => {
                let is_new = !self.of_activity.contains_key(message_id);
                if is_new || *replace != Some(false) {
                    self.of_activity.insert(message_id.clone(), tag.clone());
                }
                match self.roles.insert(message_id.clone(), "activity") {
                    None | Some("activity") => Ok(()),
                    Some(role) => Err(format!("the message is of {role}")),
                }
            }
            Body::ActivityDelta { message_id, .. } => {
                agrees(tag, self.of_activity.get(message_id))?;
                match self.roles.get(message_id) {
                    None | Some(&"activity") => Ok(()),
                    Some(role) => Err(format!("the message is of {role}")),
                }
            }
            Body::ReasoningEncryptedValue {
                subtype, entity_id, ..
            } => {
                let owner = match subtype {
                    Encrypted::ToolCall => self.of_call.get(entity_id),
                    Encrypted::Message => {
                        let text = self.of_message.get(entity_id);
                        text.or_else(|| self.of_reasoning.get(entity_id))
                    }
                };
                agrees(tag, owner)
            }
            _ => Ok(()),
        }
    }

    fn call(&mut self, event: &Event) -> Result<(), String> {
        let tag = &event.subagent_run_id;
        match &event.body {
            Body::ToolCallStart {
                tool_call_id: id,
                parent_message_id: parent,
                ..
            } => {
                let inherited = parent
                    .as_ref()
                    .and_then(|it| self.of_message.get(it))
                    .cloned();
                if tag.is_some() && inherited.as_ref().is_some_and(|it| it != tag) {
                    return Err("its message is another's".to_owned());
                }
                if let Some(there) = self.of_call.get(id) {
                    agrees(tag, Some(there))?;
                    if tag.is_none() && inherited.as_ref().is_some_and(|it| it != there) {
                        return Err("its message is another's".to_owned());
                    }
                }
                let owner = tag.clone().or(inherited.flatten());
                self.of_call.entry(id.clone()).or_insert(owner);
                if !self.held.insert(id.clone()) {
                    // The reducer goes on with it.
                    return claim(&mut self.calls, id.clone(), "the call");
                }
                let holder = parent.as_ref().unwrap_or(id);
                match self.roles.insert(holder.clone(), "assistant") {
                    Some("assistant") if parent.is_some() => {}
                    None => {}
                    Some(role) => return Err(format!("its message is of {role}")),
                }
                claim(&mut self.calls, id.clone(), "the call")
            }
            Body::ToolCallArgs {
                tool_call_id: id, ..
            } => {
                agrees(tag, self.of_call.get(id))?;
                let is_open = self.calls.contains(id);
                is_open.then_some(()).ok_or("it is not open".to_owned())
            }
            Body::ToolCallEnd { tool_call_id: id } => {
                agrees(tag, self.of_call.get(id))?;
                leave(&mut self.calls, id, "the call")
            }
            _ => Ok(()),
        }
    }

    fn reasoning(&mut self, event: &Event) -> Result<(), String> {
        let tag = &event.subagent_run_id;
        match &event.body {
            Body::ReasoningStart { message_id: id }
            | Body::ReasoningMessageStart { message_id: id, .. } => {
                agrees(tag, self.of_reasoning.get(id))?;
                self.of_reasoning.entry(id.clone()).or_insert(tag.clone());
                if matches!(event.body, Body::ReasoningStart { .. }) {
                    return claim(&mut self.spans, id.clone(), "the span");
                }
                let there = self.roles.entry(id.clone()).or_insert("reasoning");
                if *there != "reasoning" {
                    return Err(format!("the message is of {there}"));
                }
                claim(&mut self.thoughts, id.clone(), "the reasoning")
            }
            Body::ReasoningMessageContent { message_id: id, .. } => {
                agrees(tag, self.of_reasoning.get(id))?;
                self.there(id, true)?;
                let is_open = self.thoughts.contains(id);
                is_open.then_some(()).ok_or("it is not open".to_owned())
            }
            Body::ReasoningMessageEnd { message_id: id } => {
                agrees(tag, self.of_reasoning.get(id))?;
                self.there(id, true)?;
                leave(&mut self.thoughts, id, "the reasoning")
            }
            Body::ReasoningEnd { message_id: id } => {
                agrees(tag, self.of_reasoning.get(id))?;
                leave(&mut self.spans, id, "the span")
            }
            _ => Ok(()),
        }
    }
}
