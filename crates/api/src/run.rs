//! Runs and threads as the API shows them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It is under way, or waits for its agent.
    Running,
    /// Its agent is done.
    Finished,
    /// It waits for answers, which the next run of its thread brings.
    Interrupted,
    /// It came to nothing.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Finished,
        Self::Interrupted,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The text form, as on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status with this text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// One run of an agent: what was asked once, and all that came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// `run_…`
    pub id: String,
    /// The conversation that it belongs to, `thr_…`.
    pub thread: String,
    /// The agent's name.
    pub agent: String,
    /// How it stands.
    pub status: RunStatus,
    /// What its client calls it: AG-UI's `runId`.
    pub name: String,
    /// Who asked: the kind of a principal and its id, `ApiKey:ci`.
    pub by: String,
    /// The call that carries it, `call_…`.
    pub call: String,
    /// The run in which its agent was asked by another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What the agent speaks.
    pub protocol: String,
    /// When it began.
    pub created_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// What it waits for, as AG-UI says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub interrupts: Vec<Value>,
    /// What models used, as the agent says and AG-UI has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub usage: Vec<Value>,
}

/// What went wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunError {
    /// A word for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// One conversation with an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Thread {
    /// `thr_…`
    pub id: String,
    /// The agent's name.
    pub agent: String,
    /// What its clients call it: AG-UI's `threadId`, A2A's `contextId`.
    pub name: String,
    /// Who talks: the kind of a principal and its id.
    pub by: String,
    /// When it began.
    pub created_at: String,
    /// When its last run ended, or it began.
    pub changed_at: String,
    /// The run that it has come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// A conversation, with what was said in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ThreadContent {
    /// Which.
    #[serde(flatten)]
    pub thread: Thread,
    /// The messages, as AG-UI has them.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<Value>,
    /// The state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub state: Option<Value>,
}

/// Where a new conversation branches off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFork {
    /// What it is called; else by its id. 1 to 200 bytes, without control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Behind which event of the run, by the id that it is shown with; else behind the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
}
