//! What a run has come to: the conversation, the state and what is open, after each event as the official client has them;
//! and the events that bring a client which comes anew to the same.

use serde_json::{Value, json};

use super::event::{Body, Encrypted, Event, Role, TokenUsage};
use super::input::{Interrupt, RunAgentInput};
use super::message::{Content, FunctionCall, Message, Object, Said, ToolCall};
use super::patch::{self, Inapplicable, Operation};

/// Bytes, as [`patch::weight`] counts them, of a conversation and of a state. A snapshot of more would not pass through the
/// official client, which takes events of 10 MiB.
pub const MOST_KEPT: usize = 8 << 20;
/// Where the official client reads which activities a snapshot has all of.
const ACTIVITY_HISTORY: &str = "@ag-ui/client";

/// An event that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFolded {
    /// A patch that does not apply. Clients complain of one in their logs: it should not be told.
    #[error(transparent)]
    Patch(#[from] Inapplicable),
    /// An activity is an object, and would be none.
    #[error("the patch makes an activity something other than an object")]
    NoObject,
    /// There is no room: from here on there is no snapshot, and who comes anew reads the run from its beginning.
    #[error("the conversation is too long to be shown at once")]
    TooMuch,
}

/// What a run has come to.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    started: Option<Event>,
    messages: Vec<Message>,
    state: Option<Value>,
    /// What began and has not ended, as it began.
    open: Vec<Event>,
    /// How each subagent began, and how it ended.
    subagents: Vec<(Event, Option<Event>)>,
    end: Option<Event>,
    /// Bytes of the messages.
    kept: usize,
    /// Bytes of the state.
    state_kept: usize,
    /// Where a message and a call were found last.
    last: (usize, usize),
    is_cut: bool,
}

impl PartialEq for Fold {
    fn eq(&self, other: &Self) -> bool {
        let parts = |it: &Self| {
            (
                it.started.clone(),
                it.messages.clone(),
                it.state.clone(),
                it.open.clone(),
                it.subagents.clone(),
                it.end.clone(),
            )
        };
        parts(self) == parts(other)
    }
}

impl Fold {
    /// What there is before a run begins.
    #[must_use]
    pub fn new(input: &RunAgentInput) -> Self {
        let mut fold = Self {
            messages: input.messages.clone(),
            state: input.state.clone(),
            ..Self::default()
        };
        fold.weigh();
        fold.state_kept = fold.state.as_ref().map_or(0, patch::weight);
        fold.is_cut |= fold.state_kept > MOST_KEPT;
        fold
    }

    /// The conversation.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The state, when there is one.
    #[must_use]
    pub fn state(&self) -> Option<&Value> {
        self.state.as_ref()
    }

    /// The event with which the run ended.
    #[must_use]
    pub fn end(&self) -> Option<&Event> {
        self.end.as_ref()
    }

    /// What the run waits for.
    #[must_use]
    pub fn interrupts(&self) -> &[Interrupt] {
        self.end.as_ref().map_or(&[], Event::interrupts)
    }

    /// What models used.
    #[must_use]
    pub fn usage(&self) -> &[TokenUsage] {
        match self.end.as_ref().map(|it| &it.body) {
            Some(Body::RunFinished { usage, .. } | Body::RunError { usage, .. }) => usage,
            _ => &[],
        }
    }

    /// Events that opened what is open, in their order; subagents are not among them.
    #[must_use]
    pub fn open(&self) -> &[Event] {
        &self.open
    }

    /// Takes over an event of a right sequence, as `Order` makes it.
    ///
    /// # Errors
    /// [`NotFolded`]: nothing has changed but, after `TooMuch`, that there is no snapshot any more.
    pub fn apply(&mut self, event: &Event) -> Result<(), NotFolded> {
        self.make_room(event)?;
        let metadata = event.metadata.as_ref();
        let owner = event.subagent_run_id.clone();
        match &event.body {
            Body::RunStarted { input, .. } => {
                let messages = input.iter().flat_map(|it| &it.messages);
                for message in messages {
                    if self.find(&message.id).is_none() {
                        self.messages.push(message.clone());
                    }
                }
                self.started = Some(bare(event));
                self.end = None;
            }
            Body::RunFinished { .. } | Body::RunError { .. } => self.end = Some(event.clone()),
            Body::TextMessageStart { .. }
            | Body::TextMessageContent { .. }
            | Body::TextMessageEnd { .. }
            | Body::ReasoningMessageStart { .. }
            | Body::ReasoningMessageContent { .. }
            | Body::ReasoningMessageEnd { .. } => self.apply_text(event),
            Body::ToolCallStart { .. }
            | Body::ToolCallArgs { .. }
            | Body::ToolCallEnd { .. }
            | Body::ToolCallResult { .. } => self.apply_call(event),
            Body::ReasoningStart { .. } | Body::StepStarted { .. } => self.open.push(bare(event)),
            Body::ReasoningEnd { .. } | Body::StepFinished { .. } => self.close(event),
            Body::SubagentStarted { .. } => self.subagents.push((bare(event), None)),
            Body::SubagentFinished { .. } | Body::SubagentError { .. } => {
                let mut all = self.subagents.iter_mut().rev();
                let it = all.find(|(began, _)| began.subagent_run_id == owner);
                if let Some((_, end)) = it {
                    *end = Some(bare(event));
                }
            }
            Body::StateSnapshot { snapshot } => {
                self.state_kept = patch::weight(snapshot);
                self.state = Some(snapshot.clone());
            }
            Body::StateDelta { delta } => self.patch_state(delta)?,
            Body::MessagesSnapshot { messages } => self.restate(messages, metadata),
            Body::ActivitySnapshot { .. } => self.apply_activity(event),
            Body::ActivityDelta {
                message_id,
                activity_type,
                patch,
            } => self.patch_activity(message_id, activity_type, patch, metadata)?,
            Body::ReasoningEncryptedValue {
                subtype,
                entity_id,
                encrypted_value,
            } => self.encrypted(*subtype, entity_id, encrypted_value),
            Body::Raw { .. }
            | Body::Custom { .. }
            | Body::TextMessageChunk { .. }
            | Body::ToolCallChunk { .. }
            | Body::ReasoningMessageChunk { .. } => {}
        }
        Ok(())
    }

    /// The events that bring a client which comes anew to where a run is that has begun. What comes after them goes on as if
    /// it had been there: the starts of what is open name messages that the snapshot has, and a client puts nothing there twice. None,
    /// when there was no room.
    #[must_use]
    pub fn snapshot(&self) -> Option<Vec<Event>> {
        if self.is_cut {
            return None;
        }
        let mut events: Vec<Event> = self.started.iter().cloned().collect();
        for (began, ended) in &self.subagents {
            events.push(began.clone());
            events.extend(ended.clone());
        }
        let messages = self.messages.clone();
        events.push(Body::MessagesSnapshot { messages }.into());
        let state = self.state.clone();
        events.extend(state.map(|snapshot| Event::from(Body::StateSnapshot { snapshot })));
        events.extend(self.open.iter().cloned());
        events.extend(self.end.clone());
        Some(events)
    }
}

impl Fold {
    fn find(&mut self, id: &str) -> Option<&mut Message> {
        let is_last = |it: &Message| it.id == id;
        if !self.messages.get(self.last.0).is_some_and(is_last) {
            // What changes is, as a rule, among the last.
            self.last.0 = self.messages.iter().rposition(is_last)?;
        }
        self.messages.get_mut(self.last.0)
    }

    fn find_call(&mut self, id: &str) -> Option<(usize, &mut ToolCall)> {
        let (at, call) = self.last;
        let there = self.messages.get(at).map(Message::tool_calls);
        let is_last = there
            .and_then(|it| it.get(call))
            .is_some_and(|it| it.id == id);
        if !is_last {
            let mut messages = self.messages.iter().enumerate().rev();
            self.last = messages.find_map(|(at, message)| {
                let mut calls = message.tool_calls().iter();
                Some((at, calls.position(|call| call.id == id)?))
            })?;
        }
        let (at, call) = self.last;
        match &mut self.messages.get_mut(at)?.said {
            Said::Assistant { tool_calls, .. } => Some((at, tool_calls.get_mut(call)?)),
            _ => None,
        }
    }

    fn begin_message(
        &mut self,
        id: &str,
        said: Said,
        owner: Option<String>,
        metadata: Option<&Object>,
    ) {
        if let Some(message) = self.find(id) {
            // A call made it before its text.
            merge(&mut message.metadata, metadata);
            return;
        }
        let mut message = Message::new(id, said);
        message.subagent_run_id = owner;
        message.metadata = metadata.cloned();
        self.messages.push(message);
    }

    fn close(&mut self, end: &Event) {
        let mut open = self.open.iter();
        if let Some(at) = open.position(|began| ends(end, began)) {
            self.open.remove(at);
        }
    }

    fn apply_text(&mut self, event: &Event) {
        let metadata = event.metadata.as_ref();
        let owner = event.subagent_run_id.clone();
        match &event.body {
            Body::TextMessageStart {
                message_id,
                role,
                name,
            } => {
                self.begin_message(message_id, text_of(*role, name.clone()), owner, metadata);
                self.open.push(bare(event));
            }
            Body::ReasoningMessageStart { message_id, .. } => {
                let said = Said::Reasoning {
                    content: String::new(),
                };
                self.begin_message(message_id, said, owner, metadata);
                self.open.push(bare(event));
            }
            Body::TextMessageContent { message_id, delta }
            | Body::ReasoningMessageContent { message_id, delta } => {
                if let Some(message) = self.find(message_id) {
                    append(&mut message.said, delta);
                    merge(&mut message.metadata, metadata);
                }
            }
            Body::TextMessageEnd { message_id } | Body::ReasoningMessageEnd { message_id } => {
                if let Some(message) = self.find(message_id) {
                    merge(&mut message.metadata, metadata);
                }
                self.close(event);
            }
            _ => {}
        }
    }

    fn apply_call(&mut self, event: &Event) {
        let metadata = event.metadata.as_ref();
        match &event.body {
            Body::ToolCallStart {
                tool_call_id,
                tool_call_name,
                parent_message_id,
            } => {
                self.begin_call(event, tool_call_id, tool_call_name, parent_message_id);
                self.open.push(bare(event));
            }
            Body::ToolCallArgs {
                tool_call_id,
                delta,
            } => {
                if let Some((_, call)) = self.find_call(tool_call_id) {
                    call.function.arguments.push_str(delta);
                    merge(&mut call.metadata, metadata);
                }
            }
            Body::ToolCallEnd { tool_call_id } => {
                if let Some((_, call)) = self.find_call(tool_call_id) {
                    merge(&mut call.metadata, metadata);
                }
                self.close(event);
            }
            Body::ToolCallResult {
                message_id,
                tool_call_id,
                content,
                ..
            } => {
                let said = Said::Tool {
                    content: content.clone(),
                    tool_call_id: tool_call_id.clone(),
                    error: None,
                };
                let mut message = Message::new(message_id, said);
                message.subagent_run_id.clone_from(&event.subagent_run_id);
                message.metadata = metadata.cloned();
                // Providers want an answer right behind the call.
                let at = match self.find_call(tool_call_id) {
                    None => self.messages.len(),
                    Some((call, _)) => {
                        let mut behind = self.messages.iter().skip(call + 1);
                        let other = behind.position(|it| !matches!(it.said, Said::Tool { .. }));
                        other.map_or(self.messages.len(), |other| call + 1 + other)
                    }
                };
                self.messages.insert(at, message);
            }
            _ => {}
        }
    }

    fn begin_call(&mut self, event: &Event, id: &str, name: &str, parent: &Option<String>) {
        let metadata = event.metadata.as_ref();
        if let Some((_, call)) = self.find_call(id) {
            name.clone_into(&mut call.function.name);
            merge(&mut call.metadata, metadata);
            return;
        }
        let call = ToolCall {
            id: id.to_owned(),
            r#type: super::Function::Function,
            function: FunctionCall {
                name: name.to_owned(),
                arguments: String::new(),
            },
            encrypted_value: None,
            metadata: metadata.cloned(),
        };
        let parent = parent.as_deref();
        if let Some(Message {
            said: Said::Assistant { tool_calls, .. },
            ..
        }) = parent.and_then(|it| self.find(it))
        {
            tool_calls.push(call);
            return;
        }
        let holder = parent.filter(|it| self.find(it).is_none()).unwrap_or(id);
        let said = Said::Assistant {
            content: None,
            tool_calls: vec![call],
            name: None,
        };
        let mut message = Message::new(holder, said);
        message.subagent_run_id.clone_from(&event.subagent_run_id);
        self.messages.push(message);
    }

    fn patch_state(&mut self, delta: &[Operation]) -> Result<(), NotFolded> {
        // A client begins with an empty one.
        let mut none = Value::Object(Object::new());
        let state = self.state.as_mut().unwrap_or(&mut none);
        let mut room = MOST_KEPT.saturating_sub(self.state_kept);
        patch::applied(state, delta, &mut room)?;
        self.state_kept = MOST_KEPT.saturating_sub(room);
        self.state.get_or_insert(none);
        Ok(())
    }

    fn apply_activity(&mut self, event: &Event) {
        let Body::ActivitySnapshot {
            message_id,
            activity_type,
            content,
            replace,
        } = &event.body
        else {
            return;
        };
        let said = Said::Activity {
            activity_type: activity_type.clone(),
            content: content.clone(),
        };
        let metadata = event.metadata.as_ref();
        let replaces = *replace != Some(false);
        let owner = event.subagent_run_id.clone();
        let Some(message) = self.find(message_id) else {
            self.begin_message(message_id, said, owner, metadata);
            return;
        };
        let is_activity = matches!(message.said, Said::Activity { .. });
        if replaces {
            message.said = said;
            message.subagent_run_id = owner;
            if !is_activity {
                message.metadata = None;
                message.encrypted_value = None;
            }
        }
        if replaces || is_activity {
            merge(&mut message.metadata, metadata);
        }
    }

    fn patch_activity(
        &mut self,
        id: &str,
        of_type: &str,
        patch: &[Operation],
        metadata: Option<&Object>,
    ) -> Result<(), NotFolded> {
        let mut room = MOST_KEPT.saturating_sub(self.kept);
        let Some(message) = self.find(id) else {
            return Ok(());
        };
        let Said::Activity {
            activity_type,
            content,
        } = &mut message.said
        else {
            return Ok(());
        };
        let mut new = Value::Object(std::mem::take(content));
        let applied = patch::applied(&mut new, patch, &mut room);
        let applied = applied.map_err(NotFolded::from).and_then(|undo| {
            if new.is_object() {
                return Ok(());
            }
            undo.take_back(&mut new);
            Err(NotFolded::NoObject)
        });
        if let Value::Object(new) = new {
            *content = new;
        }
        applied?;
        of_type.clone_into(activity_type);
        merge(&mut message.metadata, metadata);
        self.kept = MOST_KEPT.saturating_sub(room);
        Ok(())
    }

    /// Takes over the messages of a snapshot. What a client alone may have stays: reasoning and activities, as long as the
    /// snapshot has none of their kind.
    fn restate(&mut self, messages: &[Message], metadata: Option<&Object>) {
        let owned = owned_activities(metadata);
        let is_activity = |it: &Message| matches!(it.said, Said::Activity { .. });
        let is_reasoning = |it: &Message| matches!(it.said, Said::Reasoning { .. });
        let has_activity = messages.iter().any(is_activity);
        let has_reasoning = messages.iter().any(is_reasoning);
        let stays = |it: &Message| match &it.said {
            Said::Activity { activity_type, .. } => match &owned {
                Owned::All => false,
                Owned::Unsaid => !has_activity,
                Owned::These(types) => !types.contains(activity_type),
            },
            Said::Reasoning { .. } => !has_reasoning,
            _ => false,
        };
        let new: std::collections::HashMap<&str, &Message> =
            messages.iter().map(|it| (it.id.as_str(), it)).collect();
        let old = std::mem::take(&mut self.messages);
        let mut there = std::collections::HashSet::new();
        for message in old {
            let message = match new.get(message.id.as_str()) {
                Some(new) => (*new).clone(),
                None if stays(&message) => message,
                None => continue,
            };
            there.insert(message.id.clone());
            self.messages.push(message);
        }
        let more = messages.iter().filter(|it| !there.contains(&it.id));
        self.messages.extend(more.cloned());
        let mut open = std::mem::take(&mut self.open);
        for began in &mut open {
            self.restate_open(began);
        }
        self.open = open;
        self.weigh();
    }

    /// What is open is whose the snapshot says it is, and a call has the name that stands there.
    fn restate_open(&mut self, began: &mut Event) {
        let owner = match &mut began.body {
            Body::ToolCallStart {
                tool_call_id,
                tool_call_name,
                ..
            } => {
                let Some((at, call)) = self.find_call(tool_call_id) else {
                    return;
                };
                tool_call_name.clone_from(&call.function.name);
                self.messages.get(at).map(|it| &it.subagent_run_id)
            }
            Body::TextMessageStart { message_id, .. } => {
                self.find(message_id).map(|it| &it.subagent_run_id)
            }
            Body::ReasoningStart { message_id }
            | Body::ReasoningMessageStart { message_id, .. } => {
                let message = self.find(message_id);
                let is_reasoning = |it: &&mut Message| matches!(it.said, Said::Reasoning { .. });
                message.filter(is_reasoning).map(|it| &it.subagent_run_id)
            }
            _ => None,
        };
        if let Some(owner) = owner {
            began.subagent_run_id.clone_from(owner);
        }
    }

    fn encrypted(&mut self, subtype: Encrypted, id: &str, value: &str) {
        let place = match subtype {
            Encrypted::ToolCall => self
                .find_call(id)
                .map(|(_, call)| &mut call.encrypted_value),
            Encrypted::Message => {
                let message = self.find(id);
                let message = message.filter(|it| !matches!(it.said, Said::Activity { .. }));
                message.map(|it| &mut it.encrypted_value)
            }
        };
        if let Some(place) = place {
            *place = Some(value.to_owned());
        }
    }

    fn weigh(&mut self) {
        self.kept = self.messages.iter().map(weight).sum();
        self.is_cut |= self.kept > MOST_KEPT;
    }

    /// Looks for room for what an event brings.
    fn make_room(&mut self, event: &Event) -> Result<(), NotFolded> {
        if self.is_cut {
            return Err(NotFolded::TooMuch);
        }
        let brings = match &event.body {
            Body::TextMessageContent { delta, .. }
            | Body::ToolCallArgs { delta, .. }
            | Body::ReasoningMessageContent { delta, .. } => delta.len(),
            Body::TextMessageStart { .. }
            | Body::ReasoningMessageStart { .. }
            | Body::ToolCallStart { .. } => 256,
            Body::ToolCallResult { content, .. } => weight_of(content) + 256,
            Body::ActivitySnapshot { content, .. } => patch::weight_of(content) + 256,
            Body::ReasoningEncryptedValue {
                encrypted_value, ..
            } => encrypted_value.len(),
            Body::StateSnapshot { snapshot } => {
                self.is_cut = patch::weight(snapshot) > MOST_KEPT;
                0
            }
            // It takes the place of what there is.
            Body::MessagesSnapshot { messages } => {
                self.is_cut = messages.iter().map(weight).sum::<usize>() > MOST_KEPT;
                0
            }
            _ => 0,
        };
        self.kept += brings + event.metadata.as_ref().map_or(0, patch::weight_of);
        self.is_cut |= self.kept > MOST_KEPT;
        match self.is_cut {
            true => Err(NotFolded::TooMuch),
            false => Ok(()),
        }
    }
}

/// Of which activities a snapshot has all.
enum Owned {
    All,
    Unsaid,
    These(Vec<String>),
}

/// What a snapshot says that has all activities.
pub(super) fn all_activities() -> Object {
    let told = json!({ "authoritativeActivityTypes": null });
    Object::from_iter([(ACTIVITY_HISTORY.to_owned(), told)])
}

fn owned_activities(metadata: Option<&Object>) -> Owned {
    let Some(told) = metadata.and_then(|it| it.get(ACTIVITY_HISTORY)) else {
        return Owned::Unsaid;
    };
    let Value::Object(told) = told else {
        return Owned::These(Vec::new());
    };
    match told.get("authoritativeActivityTypes") {
        None => Owned::Unsaid,
        Some(Value::Null) => Owned::All,
        Some(types) => {
            let types = serde_json::from_value(types.clone());
            Owned::These(types.unwrap_or_default())
        }
    }
}

/// An event with nothing but what it tells and whose it is.
fn bare(event: &Event) -> Event {
    let mut body = event.body.clone();
    if let Body::RunStarted { input, .. } = &mut body {
        // Its messages are among ours.
        *input = None;
    }
    Event::from(body).by(event.subagent_run_id.as_deref())
}

/// Whether an event ends what another began.
fn ends(end: &Event, began: &Event) -> bool {
    match (&end.body, &began.body) {
        (Body::TextMessageEnd { message_id }, Body::TextMessageStart { message_id: id, .. })
        | (
            Body::ReasoningMessageEnd { message_id },
            Body::ReasoningMessageStart { message_id: id, .. },
        )
        | (Body::ReasoningEnd { message_id }, Body::ReasoningStart { message_id: id }) => {
            message_id == id
        }
        (
            Body::ToolCallEnd { tool_call_id },
            Body::ToolCallStart {
                tool_call_id: id, ..
            },
        ) => tool_call_id == id,
        (Body::StepFinished { step_name }, Body::StepStarted { step_name: name }) => {
            step_name == name && end.subagent_run_id == began.subagent_run_id
        }
        _ => false,
    }
}

/// An empty text of a role.
fn text_of(role: Option<Role>, name: Option<String>) -> Said {
    let content = String::new();
    match role {
        None | Some(Role::Assistant) => Said::Assistant {
            content: Some(content),
            tool_calls: Vec::new(),
            name,
        },
        Some(Role::Developer) => Said::Developer { content, name },
        Some(Role::System) => Said::System { content, name },
        Some(Role::User) => Said::User {
            content: Content::Text(content),
            name,
        },
    }
}

/// Puts a text behind what a message says. Parts give way to it, as they do in the official client.
fn append(said: &mut Said, delta: &str) {
    let text = match said {
        Said::Developer { content, .. }
        | Said::System { content, .. }
        | Said::Reasoning { content } => content,
        Said::Assistant { content, .. } => content.get_or_insert_default(),
        Said::User { content, .. } | Said::Tool { content, .. } => {
            if let Content::Parts(_) = content {
                *content = Content::Text(String::new());
            }
            match content {
                Content::Text(text) => text,
                Content::Parts(_) => return,
            }
        }
        Said::Activity { .. } => return,
    };
    text.push_str(delta);
}

/// Takes over metadata key by key.
fn merge(into: &mut Option<Object>, from: Option<&Object>) {
    if let Some(from) = from {
        let into = into.get_or_insert_default();
        into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

fn weight_of(content: &Content) -> usize {
    match content {
        Content::Text(text) => text.len(),
        // Media are most of it, and they are texts.
        Content::Parts(parts) => serde_json::to_string(parts).map_or(0, |it| it.len()),
    }
}

/// About how many bytes a message takes.
fn weight(message: &Message) -> usize {
    let own = match &message.said {
        Said::Developer { content, .. }
        | Said::System { content, .. }
        | Said::Reasoning { content } => content.len(),
        Said::Assistant {
            content,
            tool_calls,
            ..
        } => {
            let calls = tool_calls.iter();
            let calls = calls.map(|it| it.function.arguments.len() + it.function.name.len() + 64);
            calls.sum::<usize>() + content.as_ref().map_or(0, String::len)
        }
        Said::User { content, .. } | Said::Tool { content, .. } => weight_of(content),
        Said::Activity { content, .. } => patch::weight_of(content),
    };
    let encrypted = message.encrypted_value.as_ref().map_or(0, String::len);
    let metadata = message.metadata.as_ref().map_or(0, patch::weight_of);
    own + encrypted + metadata + 256
}
