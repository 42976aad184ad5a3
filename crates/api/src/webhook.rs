//! Outgoing webhooks, as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const fn yes() -> bool {
    true
}

/// An endpoint as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Where messages are sent: `https://example.com/hooks`.
    pub url: String,
    /// What it is told: `call.dead`, all of a group (`call.*`), or all (`*`).
    pub events: Vec<String>,
    /// Whether anything is sent.
    #[serde(default = "yes")]
    pub on: bool,
}

/// An endpoint, and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its name in the workspace.
    pub name: String,
    /// Where messages are sent.
    pub url: String,
    /// What it is told.
    pub events: Vec<String>,
    /// `on`; or why nothing is sent: `off` (somebody said so), `gone` (it answered 410), `failing` (it took nothing for too long).
    pub state: String,
    /// When it was changed last.
    pub changed_at: String,
    /// Until when the key before signs, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_key_until: Option<String>,
    /// When it took something last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<String>,
    /// When it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Since when it has taken nothing that it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
    /// Messages that wait for a try.
    pub waiting: u64,
    /// Messages that are not tried any more, until somebody says so.
    pub dead: u64,
    /// Messages that were never made, because too many waited.
    pub missed: u64,
    /// The key that signs, `whsec_…`: shown when it is made, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// How an endpoint gets another key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateWebhook {
    /// How long the key before signs, too: `24h` unless it is said, and `30d` at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
}

/// A message to an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WebhookMessage {
    /// Its id, the `webhook-id` of each try.
    pub id: String,
    /// When it was made.
    pub made_at: String,
    /// What it tells.
    pub event: String,
    /// `waiting`, `delivered` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<String>,
    /// When it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_try_at: Option<String>,
    /// How that went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answer: Option<String>,
    /// What is sent.
    pub payload: serde_json::Value,
}

/// How many messages are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookRedelivery {
    /// So many.
    pub messages: u64,
}
