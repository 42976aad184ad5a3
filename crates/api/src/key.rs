//! API keys as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An API key, without what makes it one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// `key_…`
    pub id: String,
    /// What people call it; a key that replaces another has the same.
    pub name: String,
    /// `viewer`, `member`, `admin` or `owner`.
    pub role: String,
    /// How far of that role it may go: groups of actions, actions, or `*`; `canary` for one that may do nothing.
    pub scopes: Vec<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
    /// When it ends; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was last used, as this server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<String>,
    /// How often it may be used, such as `600/1m`; absent without such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

/// A key that is wished for. It gets no more than who makes it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// What people call it.
    pub name: String,
    /// `viewer`, `member`, `admin` or `owner`.
    pub role: String,
    /// How far of that role it may go; default `["*"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// For how long it counts, such as `90d`; default: without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// How often it may be used, such as `600/1m`; default: as often as all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Whether it may do nothing at all, and whoever uses it is a detection: to be laid out where nobody has
    /// a reason to look.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
}

/// A new key with its text, which nobody can tell again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiKey {
    /// What is known of it.
    #[serde(flatten)]
    pub key: ApiKey,
    /// Its text: keep it where nobody else reads it.
    pub secret: String,
}

impl std::fmt::Debug for CreatedApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedApiKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A narrower token that an agent wishes for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NarrowerToken {
    /// How far it reaches: groups of actions or actions, each for all agents or, with `@AGENT`, for one:
    /// `agent:call@worker`.
    pub scopes: Vec<String>,
    /// For how long it counts; default `5m`, at most `1h`, and no longer than the one that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// An agent's token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// It is sent as an API key is.
    pub token: String,
    /// When it ends, unless its agent's instance ends before (RFC 3339).
    pub expires_at: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// How a key is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateApiKey {
    /// For how long the old one still counts; default `24h`, at most 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// For how long the new one counts; default: without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}
