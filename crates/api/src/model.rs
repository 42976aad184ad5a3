//! Models as the API shows them: who answers for them, what may be spent on them, and what was.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A provider as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModelProvider {
    /// `openai`, `anthropic`, `google`, `mistral`, `groq`, `openrouter`, or `compatible` for what speaks as OpenAI does.
    pub kind: String,
    /// Where it is, such as `http://127.0.0.1:11434/v1`; without it, where this kind of provider is for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The names of the secrets that hold its keys; they take turns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The models that it is asked for; `*` stands for any text. Any, when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

/// A provider of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelProvider {
    /// Its name in the workspace.
    pub name: String,
    /// What kind it is.
    pub kind: String,
    /// Where it is.
    pub url: String,
    /// The names of the secrets that hold its keys.
    pub secrets: Vec<String>,
    /// The models that it is asked for; any, when there are none.
    pub models: Vec<String>,
    /// The path of the door that leads to it, such as `/llm/openai/v1`.
    pub door: String,
}

/// A budget as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModelBudget {
    /// Whose costs count: `workspace`, `agent`, `key`, `user` or `model`.
    pub of: String,
    /// Which one: an agent's name, a key's or a person's id, `provider/model`. Not for a workspace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub whose: String,
    /// Over which time: `minute`, `day`, `month` or `total`.
    pub window: String,
    /// How much there may be, in US dollars, such as `12.50`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<String>,
    /// Or in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// A budget, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelBudget {
    /// Its name in the workspace.
    pub name: String,
    /// Whose costs count: `workspace`, `agent`, `key`, `user` or `model`.
    pub of: String,
    /// Which one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub whose: String,
    /// Over which time.
    pub window: String,
    /// How much there may be, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<String>,
    /// Or in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// What was spent in its time: US dollars, or tokens.
    pub spent: String,
    /// What requests have set aside that run now.
    pub reserved: String,
    /// When its time began (RFC 3339).
    pub since: String,
}

/// What one principal used of one model on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsage {
    /// The day (UTC), such as `2026-11-22`.
    pub day: String,
    /// The kind of principal: `agent`, `key`, `user`.
    pub of: String,
    /// Their name or id.
    pub whose: String,
    /// Who answered.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Requests.
    pub requests: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Tokens in, cached or not.
    pub input: u64,
    /// Of those, read from the provider's cache.
    pub cache_read: u64,
    /// Of those, written to it.
    pub cache_write: u64,
    /// Tokens out.
    pub output: u64,
    /// What it cost, in US dollars.
    pub cost: String,
}

/// What was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsages {
    /// By day, principal and model.
    pub items: Vec<ModelUsage>,
    /// What all of it cost, in US dollars.
    pub cost: String,
    /// Whether there is more: ask for fewer days.
    pub more: bool,
}
