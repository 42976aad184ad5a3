//! Whatever an agent sends becomes a right sequence of events: one that the official client takes without a word, its
//! `verifyEvents` and its reducer. A run begins once and ends once, under our ids; what is opened is closed; nothing comes
//! after the end.
//!
//! Chunks become starts, contents and ends; contents without a start begin; what continues something is whose that is. An id
//! stands for one thing of one sort: a text that begins again, or under the id of something else, gets an id of ours, and so
//! does what has none. A call that has ended does not begin again. Order has no effect on what is in order: applied twice,
//! it does nothing the second time.

mod open;

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::entities::{Entities, Entity, Kind};
use super::event::{Body, Encrypted, Event, ReasoningRole, Role};
use super::fold::all_activities;
use super::input::{Outcome, RunAgentInput};

/// Things that may be open at once: texts, calls, reasoning, steps, subagents.
pub const MOST_OPEN: usize = 256;
/// Things that one run may begin, and messages that a conversation may have.
pub const MOST_ENTITIES: usize = 32_768;
/// Bytes of an id.
pub const MOST_ID: usize = 1024;
/// Bytes of a name: of a tool, a step, a subagent, an activity.
pub const MOST_NAME: usize = 1024;
/// Bytes of one event as it is written. The official client gives up a stream at 10 MiB without the end of an event.
pub const MOST_EVENT: usize = 8 << 20;
/// Characters of the message of an error.
pub const MOST_MESSAGE: usize = 2000;

/// Code of an error: what the agent sent cannot be understood.
pub const MALFORMED: &str = "agent_malformed";
/// Code of an error: the agent's stream ended before its run did.
pub const INCOMPLETE: &str = "agent_incomplete";
/// Code of an error: the agent sent more than a run may have.
pub const TOO_MUCH: &str = "agent_too_much";

/// How a run ends that its agent has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All is said.
    Finished,
    /// Somebody stopped it.
    Cancelled,
    /// It failed.
    Failed {
        /// A word for programs.
        code: String,
        /// For people. What could harm a terminal is taken out, and what is too long.
        message: String,
    },
}

/// What is open, by the id that the agent gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    Entity(Kind, String),
    Step(Option<String>, String),
    Subagent(String),
}

/// Whether a run has begun and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Running,
    Over,
}

/// Over a bound.
struct TooMuch(&'static str);

/// Puts the events of an agent in order. Over a bound ([`MOST_OPEN`], [`MOST_ENTITIES`], [`MOST_ID`], [`MOST_NAME`],
/// [`MOST_EVENT`]) the run ends as an error with the code [`TOO_MUCH`].
#[derive(Debug)]
pub struct Order {
    thread_id: String,
    run_id: String,
    parent_run_id: Option<String>,
    stage: Stage,
    entities: Entities,
    /// In the order in which it was opened.
    open: Vec<Open>,
    /// What each subagent, or the agent itself, tells by chunks.
    lanes: BTreeMap<Option<String>, (Kind, String)>,
    /// Whether those that have begun are at work.
    subagents: HashMap<String, bool>,
    /// Calls without an answer, and how many there were before.
    pending: HashMap<String, u64>,
    calls: u64,
    out: Vec<Event>,
}

impl Order {
    /// The order of a run under these ids, in the conversation that the request tells.
    #[must_use]
    pub fn new(input: &RunAgentInput) -> Self {
        Self {
            thread_id: input.thread_id.clone(),
            run_id: input.run_id.clone(),
            parent_run_id: input.parent_run_id.clone(),
            stage: Stage::New,
            entities: Entities::new(input),
            open: Vec::new(),
            lanes: BTreeMap::new(),
            subagents: HashMap::new(),
            pending: HashMap::new(),
            calls: 0,
            out: Vec::new(),
        }
    }

    /// Begins the run, if it has not begun.
    pub fn start(&mut self) -> Vec<Event> {
        self.begin();
        std::mem::take(&mut self.out)
    }

    /// Takes the next event of the agent, and gives what is told.
    pub fn push(&mut self, event: Event) -> Vec<Event> {
        if self.stage != Stage::Over {
            self.begin();
            if let Err(TooMuch(what)) = self.bounded(&event).and_then(|()| self.take(event)) {
                let message = format!("the agent sent {what}");
                self.failed(&message, Some(TOO_MUCH.to_owned()), Vec::new());
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Ends a run that its agent has not ended; one that has ended stays as it is.
    pub fn end(&mut self, end: End) -> Vec<Event> {
        if self.stage != Stage::Over {
            self.begin();
            match end {
                End::Finished => self.finished(None, None, Vec::new()),
                End::Cancelled => self.finished(None, Some(Outcome::Cancelled), Vec::new()),
                End::Failed { code, message } => self.failed(&message, Some(code), Vec::new()),
            }
        }
        std::mem::take(&mut self.out)
    }

    /// What was said does not count any more, and another attempt follows: what is open ends, and conversation and state are as
    /// they were before. What was thought stays: clients keep it.
    pub fn again(&mut self, input: &RunAgentInput) -> Vec<Event> {
        if self.stage != Stage::Running {
            return Vec::new();
        }
        self.close_all(None, true);
        self.pending.clear();
        self.subagents
            .values_mut()
            .for_each(|at_work| *at_work = false);
        self.entities.again(input);
        // What a client has keeps its place, so that it is to have nothing first.
        for messages in [Vec::new(), input.messages.clone()] {
            let mut snapshot = Event::from(Body::MessagesSnapshot { messages });
            snapshot.metadata = Some(all_activities());
            self.take_other(snapshot);
        }
        let snapshot = input.state.clone().unwrap_or_else(|| json!({}));
        self.tell(Body::StateSnapshot { snapshot });
        std::mem::take(&mut self.out)
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn begin(&mut self) {
        if self.stage != Stage::New {
            return;
        }
        self.stage = Stage::Running;
        self.tell(Body::RunStarted {
            thread_id: self.thread_id.clone(),
            run_id: self.run_id.clone(),
            protocol_version: Some(super::PROTOCOL_VERSION.to_owned()),
            parent_run_id: self.parent_run_id.clone(),
            input: None,
        });
    }

    fn tell(&mut self, body: Body) {
        self.out.push(body.into());
    }

    fn bounded(&self, event: &Event) -> Result<(), TooMuch> {
        if self.entities.len() >= MOST_ENTITIES || self.subagents.len() >= MOST_ENTITIES {
            return Err(TooMuch("more messages and calls than a run may have"));
        }
        if !super::bounds::ids(event, MOST_ID) {
            return Err(TooMuch("an id that is too long"));
        }
        if !super::bounds::names(event, MOST_NAME) {
            return Err(TooMuch("a name that is too long"));
        }
        match super::bounds::fits(event, MOST_EVENT) {
            true => Ok(()),
            false => Err(TooMuch("an event that is too long")),
        }
    }
}

/// What becomes of each event.
impl Order {
    fn take(&mut self, event: Event) -> Result<(), TooMuch> {
        self.leave_lane(&event);
        match &event.body {
            // Ours has been told.
            Body::RunStarted { .. } => Ok(()),
            Body::RunFinished { .. } | Body::RunError { .. } => {
                self.take_end(event);
                Ok(())
            }
            Body::TextMessageStart { .. }
            | Body::TextMessageContent { .. }
            | Body::TextMessageEnd { .. }
            | Body::TextMessageChunk { .. } => self.take_text(event),
            Body::ToolCallStart { .. }
            | Body::ToolCallArgs { .. }
            | Body::ToolCallEnd { .. }
            | Body::ToolCallChunk { .. } => self.take_call(event),
            Body::ReasoningStart { .. }
            | Body::ReasoningEnd { .. }
            | Body::ReasoningMessageStart { .. }
            | Body::ReasoningMessageContent { .. }
            | Body::ReasoningMessageEnd { .. }
            | Body::ReasoningMessageChunk { .. } => self.take_reasoning(event),
            Body::StepStarted { .. } | Body::StepFinished { .. } => self.take_step(event),
            Body::SubagentStarted { .. }
            | Body::SubagentFinished { .. }
            | Body::SubagentError { .. } => self.take_subagent(event),
            _ => {
                self.take_other(event);
                Ok(())
            }
        }
    }

    fn take_end(&mut self, event: Event) {
        match event.body {
            Body::RunFinished {
                result,
                outcome,
                usage,
                ..
            } => self.finished(result, outcome, usage),
            Body::RunError {
                message,
                code,
                usage,
            } => self.failed(&message, code, usage),
            _ => {}
        }
        if let Some(end) = self.out.last_mut() {
            end.timestamp = event.timestamp;
            end.raw_event = event.raw_event;
            end.metadata = event.metadata;
        }
    }

    fn take_text(&mut self, mut event: Event) -> Result<(), TooMuch> {
        let body = std::mem::replace(&mut event.body, nothing());
        match body {
            Body::TextMessageStart {
                message_id,
                role,
                name,
            } => {
                if message_id.is_empty() {
                    // The one before has no name to end it by.
                    self.close(Kind::Text, "", nothing().into());
                }
                match self.entities.is_open(Kind::Text, &message_id) {
                    true => Ok(()),
                    false => self.open_text(&message_id, role, name, event).map(drop),
                }
            }
            Body::TextMessageContent { message_id, delta } => {
                self.text(&message_id, delta, None, None, event)
            }
            Body::TextMessageEnd { message_id } => {
                self.close(Kind::Text, &message_id, event);
                Ok(())
            }
            Body::TextMessageChunk {
                message_id,
                role,
                delta,
                name,
            } => {
                let owner = event.subagent_run_id.clone();
                let (lane, id) = self.lane(Kind::Text, message_id, owner);
                event.subagent_run_id.clone_from(&lane);
                self.lanes.insert(lane, (Kind::Text, id.clone()));
                self.text(&id, delta.unwrap_or_default(), role, name, event)
            }
            _ => Ok(()),
        }
    }

    /// Goes on with a text, and begins it where it has not begun.
    fn text(
        &mut self,
        given: &str,
        delta: String,
        role: Option<Role>,
        name: Option<String>,
        event: Event,
    ) -> Result<(), TooMuch> {
        let known = self.entities.get(Kind::Text, given);
        let entity = match known.filter(|it| it.is_open) {
            Some(entity) => entity.clone(),
            None => {
                let owner = event.subagent_run_id.as_deref();
                let start = Event::from(nothing()).by(owner);
                self.open_text(given, role, name, start)?
            }
        };
        let message_id = entity.id.clone();
        self.content(
            &entity,
            Body::TextMessageContent { message_id, delta },
            event,
        );
        Ok(())
    }

    fn open_text(
        &mut self,
        given: &str,
        role: Option<Role>,
        name: Option<String>,
        mut event: Event,
    ) -> Result<Entity, TooMuch> {
        let is_assistant = matches!(role, None | Some(Role::Assistant));
        let owner = event.subagent_run_id.take();
        let entity = self.entities.text(given, owner, is_assistant);
        event.body = Body::TextMessageStart {
            message_id: entity.id.clone(),
            role,
            name,
        };
        self.opened(Kind::Text, given, &entity, event)?;
        Ok(entity)
    }

    fn take_call(&mut self, mut event: Event) -> Result<(), TooMuch> {
        let body = std::mem::replace(&mut event.body, nothing());
        let (id, name, parent, delta) = match body {
            Body::ToolCallStart {
                tool_call_id,
                tool_call_name,
                parent_message_id,
            } => {
                if tool_call_id.is_empty() {
                    // The one before has no name to end it by.
                    self.close(Kind::Call, "", nothing().into());
                }
                (tool_call_id, Some(tool_call_name), parent_message_id, None)
            }
            Body::ToolCallArgs {
                tool_call_id,
                delta,
            } => (tool_call_id, None, None, Some(delta)),
            Body::ToolCallEnd { tool_call_id } => {
                self.close(Kind::Call, &tool_call_id, event);
                return Ok(());
            }
            Body::ToolCallChunk {
                tool_call_id,
                tool_call_name,
                parent_message_id,
                delta,
            } => {
                let owner = event.subagent_run_id.clone();
                let (lane, id) = self.lane(Kind::Call, tool_call_id, owner);
                event.subagent_run_id.clone_from(&lane);
                self.lanes.insert(lane, (Kind::Call, id.clone()));
                let delta = Some(delta.unwrap_or_default());
                (id, tool_call_name, parent_message_id, delta)
            }
            _ => return Ok(()),
        };
        self.call(&id, name, parent.as_deref(), delta, event)
    }

    /// Begins a call that has not begun, and goes on with it. One that has ended does not begin again: a client would put
    /// what it is given behind what it was given.
    fn call(
        &mut self,
        given: &str,
        name: Option<String>,
        parent: Option<&str>,
        delta: Option<String>,
        mut event: Event,
    ) -> Result<(), TooMuch> {
        let is_again = given.is_empty() && name.is_some();
        if self.entities.is_past_call(given) && !is_again {
            return Ok(());
        }
        let known = self.entities.get(Kind::Call, given);
        let entity = match known.filter(|it| it.is_open) {
            Some(entity) => entity.clone(),
            None => {
                let owner = event.subagent_run_id.clone();
                let (entity, parent) = self.entities.call(given, parent, owner);
                let mut start = Event::from(Body::ToolCallStart {
                    tool_call_id: entity.id.clone(),
                    tool_call_name: name.unwrap_or_else(|| "unknown".to_owned()),
                    parent_message_id: parent,
                });
                if delta.is_none() {
                    let body = std::mem::replace(&mut start.body, nothing());
                    start = std::mem::replace(&mut event, nothing().into());
                    start.body = body;
                }
                self.pending.insert(entity.id.clone(), self.calls);
                self.calls += 1;
                self.opened(Kind::Call, given, &entity, start)?;
                entity
            }
        };
        if let Some(delta) = delta {
            let tool_call_id = entity.id.clone();
            let body = Body::ToolCallArgs {
                tool_call_id,
                delta,
            };
            self.content(&entity, body, event);
        }
        Ok(())
    }

    fn take_reasoning(&mut self, mut event: Event) -> Result<(), TooMuch> {
        let body = std::mem::replace(&mut event.body, nothing());
        match body {
            Body::ReasoningStart { message_id } => self
                .open_reasoning(Kind::Span, &message_id, event)
                .map(drop),
            Body::ReasoningMessageStart { message_id, .. } => self
                .open_reasoning(Kind::Thought, &message_id, event)
                .map(drop),
            Body::ReasoningEnd { message_id } => {
                self.close(Kind::Span, &message_id, event);
                Ok(())
            }
            Body::ReasoningMessageEnd { message_id } => {
                self.close(Kind::Thought, &message_id, event);
                Ok(())
            }
            Body::ReasoningMessageContent { message_id, delta } => {
                self.thought(&message_id, delta, event)
            }
            Body::ReasoningMessageChunk { message_id, delta } => {
                let owner = event.subagent_run_id.clone();
                let (lane, id) = self.lane(Kind::Thought, message_id, owner);
                event.subagent_run_id.clone_from(&lane);
                self.lanes.insert(lane, (Kind::Thought, id.clone()));
                self.thought(&id, delta.unwrap_or_default(), event)
            }
            _ => Ok(()),
        }
    }

    fn open_reasoning(
        &mut self,
        kind: Kind,
        given: &str,
        mut event: Event,
    ) -> Result<Option<Entity>, TooMuch> {
        if self.entities.is_open(kind, given) {
            match given.is_empty() {
                false => return Ok(None),
                true => self.close(kind, given, nothing().into()),
            }
        }
        let owner = event.subagent_run_id.take();
        let entity = self.entities.reasoning(kind, given, owner);
        let message_id = entity.id.clone();
        event.body = match kind {
            Kind::Span => Body::ReasoningStart { message_id },
            _ => Body::ReasoningMessageStart {
                message_id,
                role: ReasoningRole::Reasoning,
            },
        };
        self.opened(kind, given, &entity, event)?;
        Ok(Some(entity))
    }

    fn thought(&mut self, given: &str, delta: String, event: Event) -> Result<(), TooMuch> {
        let known = self.entities.get(Kind::Thought, given);
        let entity = match known.filter(|it| it.is_open) {
            Some(entity) => Some(entity.clone()),
            None => {
                let start = Event::from(nothing()).by(event.subagent_run_id.as_deref());
                self.open_reasoning(Kind::Thought, given, start)?
            }
        };
        if let Some(entity) = entity {
            let message_id = entity.id.clone();
            let body = Body::ReasoningMessageContent { message_id, delta };
            self.content(&entity, body, event);
        }
        Ok(())
    }

    fn take_step(&mut self, mut event: Event) -> Result<(), TooMuch> {
        let owner = event.subagent_run_id.clone();
        match &event.body {
            Body::StepStarted { step_name } => {
                let step = Open::Step(owner, step_name.clone());
                if !self.open.contains(&step) {
                    return self.remember(step, event);
                }
            }
            Body::StepFinished { step_name } => {
                let name = step_name.clone();
                // Some take the subagent that works just now for the one whose step it is.
                let is_mine = self.open.contains(&Open::Step(owner.clone(), name.clone()));
                let mut open = self.open.iter().rev();
                let other = open.find_map(|it| match it {
                    Open::Step(owner, step) if *step == name => Some(owner.clone()),
                    _ => None,
                });
                let owner = if is_mine { Some(owner) } else { other };
                if let Some(owner) = owner {
                    event.subagent_run_id.clone_from(&owner);
                    self.open
                        .retain(|it| *it != Open::Step(owner.clone(), name.clone()));
                    self.out.push(event);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_subagent(&mut self, mut event: Event) -> Result<(), TooMuch> {
        let Some(id) = event.subagent_run_id.clone() else {
            return Ok(());
        };
        match &mut event.body {
            Body::SubagentStarted {
                parent_subagent_run_id,
                ..
            } => {
                if self.subagents.contains_key(&id) {
                    return Ok(());
                }
                parent_subagent_run_id.take_if(|it| !self.subagents.contains_key(it));
                self.subagents.insert(id.clone(), true);
                self.remember(Open::Subagent(id), event)?;
            }
            body => {
                if let Body::SubagentError { message, .. } = body {
                    *message = plain(message);
                }
                if self.subagents.get(&id) == Some(&true) {
                    self.subagents.insert(id.clone(), false);
                    self.open.retain(|it| *it != Open::Subagent(id.clone()));
                    self.out.push(event);
                }
            }
        }
        Ok(())
    }

    fn take_other(&mut self, mut event: Event) {
        let owner = event.subagent_run_id.clone();
        match &mut event.body {
            Body::ToolCallResult {
                message_id,
                tool_call_id,
                ..
            } => {
                let given = tool_call_id.clone();
                *tool_call_id = self.entities.call_id(&given);
                let Some(id) = self.entities.answer(message_id, tool_call_id, owner) else {
                    return;
                };
                *message_id = id;
                self.pending.remove(tool_call_id);
                self.close(Kind::Call, &given, nothing().into());
            }
            Body::MessagesSnapshot { messages } => {
                *messages = self.entities.renamed(std::mem::take(messages));
                event.subagent_run_id = None;
                let messages = std::mem::take(messages);
                self.restate(&messages);
                event.body = Body::MessagesSnapshot { messages };
            }
            Body::ActivitySnapshot {
                message_id,
                replace,
                ..
            } => {
                let replaces = *replace != Some(false);
                let activity = self.entities.activity(message_id, owner, replaces);
                *message_id = activity.id;
            }
            Body::ActivityDelta { message_id, .. } => {
                let Some(activity) = self.entities.known_activity(message_id) else {
                    return;
                };
                *message_id = activity.id;
                event.subagent_run_id = activity.owner;
            }
            Body::ReasoningEncryptedValue {
                subtype, entity_id, ..
            } => {
                let kinds: &[Kind] = match subtype {
                    Encrypted::ToolCall => &[Kind::Call],
                    Encrypted::Message => &[Kind::Text, Kind::Thought],
                };
                let mut known = kinds
                    .iter()
                    .filter_map(|it| self.entities.get(*it, entity_id));
                if let Some(known) = known.next() {
                    entity_id.clone_from(&known.id);
                }
                // It is whose the thing is.
                event.subagent_run_id = None;
            }
            _ => {}
        }
        self.out.push(event);
    }
}

/// A place that something else is about to take.
fn nothing() -> Body {
    Body::StepFinished {
        step_name: String::new(),
    }
}

/// The message of an error as it is shown: without what moves a cursor, and no longer than a bound.
#[must_use]
pub fn plain(message: &str) -> String {
    let hidden = |it: char| {
        it.is_control()
            || matches!(it, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let spaced = message.chars().map(|it| if hidden(it) { ' ' } else { it });
    let spaced: String = spaced.take(MOST_MESSAGE).collect();
    spaced.trim().to_owned()
}
