//! The events of AG-UI 1.0, all 31, as the published schema has them (`https://ag-ui.com/spec/1.0/schema.json`). What it
//! does not describe is dropped when an event is read; what is optional and absent, or `null`, is not written.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::input::{Interrupt, Outcome, RunAgentInput};
use super::message::{Content, Message, Object};
use super::patch::Operation;
use super::shape::{self, Malformed};

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What it tells.
    #[serde(flatten)]
    pub body: Body,
    /// The subagent whose event it is; none: the agent's own. With `SUBAGENT_*` the one that it is about, and needed. Events
    /// of the run as a whole have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subagent_run_id: Option<String>,
    /// When it was made, as a rule in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// What it was translated from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_event: Option<Value>,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Object>,
}

/// Who a text is from that comes as a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The developer of the application.
    Developer,
    /// The system.
    System,
    /// The agent; so it is when nothing is said.
    Assistant,
    /// The person.
    User,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "SCREAMING_SNAKE_CASE",
    rename_all_fields = "camelCase"
)]
#[expect(missing_docs, reason = "the schema's own names, which it documents")]
pub enum Body {
    TextMessageStart {
        message_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    TextMessageContent {
        message_id: String,
        delta: String,
    },
    TextMessageEnd {
        message_id: String,
    },
    TextMessageChunk {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        #[serde(skip_serializing_if = "Option::is_none")]
        delta: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    ToolCallStart {
        tool_call_id: String,
        tool_call_name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_message_id: Option<String>,
    },
    ToolCallArgs {
        tool_call_id: String,
        delta: String,
    },
    ToolCallEnd {
        tool_call_id: String,
    },
    ToolCallChunk {
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_call_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_call_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_message_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        delta: Option<String>,
    },
    ToolCallResult {
        message_id: String,
        tool_call_id: String,
        content: Content,
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<String>,
    },
    StateSnapshot {
        snapshot: Value,
    },
    StateDelta {
        delta: Vec<Operation>,
    },
    MessagesSnapshot {
        messages: Vec<Message>,
    },
    ActivitySnapshot {
        message_id: String,
        activity_type: String,
        content: Object,
        #[serde(skip_serializing_if = "Option::is_none")]
        replace: Option<bool>,
    },
    ActivityDelta {
        message_id: String,
        activity_type: String,
        patch: Vec<Operation>,
    },
    Raw {
        event: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    Custom {
        name: String,
        value: Value,
    },
    RunStarted {
        thread_id: String,
        run_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        protocol_version: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_run_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Option<Box<RunAgentInput>>,
    },
    RunFinished {
        thread_id: String,
        run_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        usage: Vec<TokenUsage>,
    },
    RunError {
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        usage: Vec<TokenUsage>,
    },
    StepStarted {
        step_name: String,
    },
    StepFinished {
        step_name: String,
    },
    ReasoningStart {
        message_id: String,
    },
    ReasoningMessageStart {
        message_id: String,
        role: ReasoningRole,
    },
    ReasoningMessageContent {
        message_id: String,
        delta: String,
    },
    ReasoningMessageEnd {
        message_id: String,
    },
    ReasoningMessageChunk {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        delta: Option<String>,
    },
    ReasoningEnd {
        message_id: String,
    },
    ReasoningEncryptedValue {
        subtype: Encrypted,
        entity_id: String,
        encrypted_value: String,
    },
    SubagentStarted {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_subagent_run_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_tool_call_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_message_id: Option<String>,
    },
    SubagentFinished {
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<SubagentOutcome>,
    },
    SubagentError {
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
}

/// The one role of a reasoning message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningRole {
    /// It is reasoning.
    #[default]
    Reasoning,
}

/// What an encrypted value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encrypted {
    /// A tool call.
    ToolCall,
    /// A message.
    Message,
}

/// Why a subagent's part of a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub enum SubagentOutcome {
    /// It is done.
    Success,
    /// It waits for answers.
    Suspended {
        /// To what.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        interrupt_ids: Vec<String>,
    },
}

/// Tokens that one model of one provider used: totals, and named parts of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the schema's own names, which it documents")]
pub struct TokenUsage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_input_tokens: Option<u64>,
}

impl From<Body> for Event {
    fn from(body: Body) -> Self {
        Self {
            body,
            subagent_run_id: None,
            timestamp: None,
            raw_event: None,
            metadata: None,
        }
    }
}

impl Event {
    /// Reads what an agent sent: older names, fields in snake case and a `null` for what is absent are understood, what is
    /// not known of it is dropped, and an event of a type that nobody knows becomes `RAW`.
    ///
    /// # Errors
    /// [`Malformed`], when something needed is missing or is of the wrong sort.
    pub fn read(value: Value) -> Result<Self, Malformed> {
        let value = super::older::translated(value)?;
        Self::of(value, shape::Mode::Lenient)
    }

    /// Reads one that must be as the schema says; what the schema does not know is dropped.
    ///
    /// # Errors
    /// [`Malformed`], which names the field.
    pub fn strict(value: Value) -> Result<Self, Malformed> {
        Self::of(value, shape::Mode::Strict)
    }

    fn of(mut value: Value, mode: shape::Mode) -> Result<Self, Malformed> {
        shape::check(&mut value, &shape::EVENT, mode)?;
        serde_json::from_value(value).map_err(|err| Malformed::other(&err))
    }

    /// The same, as the event of a subagent.
    #[must_use]
    pub fn by(mut self, subagent: Option<&str>) -> Self {
        self.subagent_run_id = subagent.map(str::to_owned);
        self
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.body, Body::RunFinished { .. } | Body::RunError { .. })
    }

    /// How it is written: one line of JSON without an end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Keys are texts and numbers finite: there is nothing that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The interrupts with which a run ends.
    #[must_use]
    pub fn interrupts(&self) -> &[Interrupt] {
        match &self.body {
            Body::RunFinished {
                outcome: Some(Outcome::Interrupt { interrupts }),
                ..
            } => interrupts,
            _ => &[],
        }
    }
}
