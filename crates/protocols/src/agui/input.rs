//! What a run begins with and how it ends: the request of a client, interrupts, outcomes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message::{Message, Object, Said};
use super::shape::{self, Malformed};

/// A request to run an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunAgentInput {
    /// The conversation.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// The version of the protocol that the client speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// The run from which this one branches off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<String>,
    /// The state that the client has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Tools that the client itself carries out.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// What else is to be known.
    #[serde(default)]
    pub context: Vec<Context>,
    /// What the client hands through to the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_props: Option<Value>,
    /// Answers to the interrupts with which the run before ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<ResumeEntry>,
}

impl RunAgentInput {
    /// An empty request.
    #[must_use]
    pub fn new(thread_id: impl Into<String>, run_id: impl Into<String>) -> Self {
        Self {
            thread_id: thread_id.into(),
            run_id: run_id.into(),
            protocol_version: None,
            parent_run_id: None,
            state: None,
            messages: Vec::new(),
            tools: Vec::new(),
            context: Vec::new(),
            forwarded_props: None,
            resume: Vec::new(),
        }
    }

    /// Reads what a client sent. What the schema does not know is dropped, and `null` is the same as absent where a field
    /// is optional. How many bytes there may be is the reader's to say.
    ///
    /// # Errors
    /// [`Malformed`], which names the field and says what it must be.
    pub fn read(mut value: Value) -> Result<Self, Malformed> {
        shape::check(&mut value, &shape::INPUT, shape::Mode::Strict)?;
        serde_json::from_value(value).map_err(|err| Malformed::other(&err))
    }

    /// What the person said last.
    #[must_use]
    pub fn prompt(&self) -> Option<String> {
        let mut messages = self.messages.iter().rev();
        messages.find_map(|message| match &message.said {
            Said::User { content, .. } => Some(content.text()),
            _ => None,
        })
    }
}

/// A tool that the agent may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The JSON Schema of what it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Object>,
}

/// Something that the agent is to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// What it is.
    pub description: String,
    /// What it says.
    pub value: String,
}

/// An answer to an interrupt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeEntry {
    /// To which.
    pub interrupt_id: String,
    /// Whether it was answered.
    pub status: ResumeStatus,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Object>,
}

/// Whether an interrupt was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResumeStatus {
    /// It was.
    Resolved,
    /// It was given up.
    Cancelled,
}

/// What a run waits for from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupt {
    /// Which it is.
    pub id: String,
    /// Why, as a word.
    pub reason: String,
    /// Why, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The tool call that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The JSON Schema of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Object>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The subagent that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subagent_run_id: Option<String>,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Object>,
}

/// Why a run ended that did not fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// It is done.
    Success {
        /// Calls that the client is to carry out.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pending_tool_call_ids: Vec<String>,
    },
    /// It waits for answers; at least one.
    Interrupt {
        /// To what.
        interrupts: Vec<Interrupt>,
    },
    /// Somebody stopped it.
    Cancelled,
}
