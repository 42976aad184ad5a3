//! Calls as the API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a call is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// Durable, waiting for an instance, a free place or its due time.
    Accepted,
    /// An attempt holds the lease.
    Running,
    /// The agent answered 2xx or 3xx.
    Succeeded,
    /// The agent's own final answer outside 2xx/3xx that policy says not to retry.
    Failed,
    /// It used up its attempts and waits in the dead-letter queue.
    Dead,
    /// Somebody cancelled it.
    Cancelled,
    /// Its deadline passed.
    Expired,
}

impl CallState {
    /// Every state, in the order of a call's life.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The text form, as on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state with this text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether the call has ended (a dead one can be redriven).
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Accepted | Self::Running)
    }
}

/// One durable request to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Call {
    /// `call_…`
    pub id: String,
    /// The agent's name.
    pub agent: String,
    /// Where it is in its life.
    pub state: CallState,
    /// The HTTP method.
    pub method: String,
    /// Path and query as the agent sees them, byte for byte.
    pub target: String,
    /// How many attempts have begun.
    pub attempts: u32,
    /// The agent's status, once it has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it is in this state, when there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The client's idempotency key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The call that this one replays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    /// When it was accepted.
    pub accepted_at: String,
    /// When the next attempt is due, between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// When it expires unless it has ended.
    pub deadline_at: String,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The instance of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Earlier attempts and why each ended; only in the answer for a single call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Attempt>,
    /// The request's headers; only in the answer for a single call, credentials left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<(String, String)>,
    /// The answer's headers; only in the answer for a single call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<(String, String)>,
}

/// One try of a call that did not end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// The instance that held the lease.
    pub instance: String,
    /// The server's epoch that granted the lease.
    pub epoch: i64,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: String,
    /// The agent's status, when it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it did not end the call.
    pub reason: String,
}

/// How many calls an action on many of them reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// The number of calls that were changed.
    pub calls: u64,
}

/// Numbers of calls by state, for one agent or all.
pub type StateCounts = BTreeMap<String, u64>;

/// What happened to a call: that it was accepted, that it ended, or that it begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallChange {
    /// `call_…`
    pub call: String,
    /// The agent's name; none when the call is not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The state that it came to.
    pub state: CallState,
    /// The agent's status, when it ended by an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// When, by the store's clock; RFC 3339.
    pub at: String,
}
