//! Events: what happened to agents, their instances and calls, and to the server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// A number that grows with each event of the workspace: where to go on.
    pub id: String,
    /// When it happened.
    pub time: String,
    /// What happened, such as `instance.ready`. New ones may come with any version.
    #[serde(rename = "type")]
    pub kind: String,
    /// The agent that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The instance that it is about, `ins_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The revision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// The call that it is about, `call_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Whose key it was, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The rest, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}
