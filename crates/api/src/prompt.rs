//! Prompts of models, and scores of answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A message of a prompt: a template, or what was made of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptMessage {
    /// Who says it: `system`, `user` or `assistant`.
    pub role: String,
    /// What: a template, in which `{{ name }}` is a variable.
    pub content: String,
}

/// A version of a prompt as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPromptVersion {
    /// The model, or the route, that is asked by way of it; without it, the one that is set for `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What is said before what a request says.
    pub messages: Vec<PromptMessage>,
    /// Why it is as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A version of a prompt. It never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptVersion {
    /// The prompt.
    pub name: String,
    /// Its number, from 1 on.
    pub version: u64,
    /// When it was made (RFC 3339).
    pub at: String,
    /// The model, or the route, that is asked by way of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What is said.
    pub messages: Vec<PromptMessage>,
    /// Why it is as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The variables that it names.
    pub variables: Vec<String>,
}

/// A version that a label leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptShare {
    /// The version.
    pub version: u64,
    /// How often it is taken, beside the others' weights; 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Where a label is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPromptLabel {
    /// One version, or several of which one is taken by weight.
    pub versions: Vec<PromptShare>,
}

/// Where a label is, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptLabel {
    /// The label.
    pub label: String,
    /// Which of its moves it is, from 1 on.
    pub number: u64,
    /// When it came there (RFC 3339).
    pub at: String,
    /// The move that this one went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// Where it leads; nowhere when it was taken away.
    pub versions: Vec<PromptShare>,
}

/// A prompt in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedPrompt {
    /// Its name.
    pub name: String,
    /// Its newest version.
    pub latest: u64,
    /// When that was made (RFC 3339).
    pub at: String,
    /// Where its labels lead.
    pub labels: Vec<PromptLabel>,
}

/// A prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelPrompt {
    /// Its name.
    pub name: String,
    /// Its versions, the newest first.
    pub versions: Vec<PromptVersion>,
    /// Where its labels are and were, the newest first.
    pub labels: Vec<PromptLabel>,
}

/// What is to be made of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderPrompt {
    /// A label, or the number of a version; `production` without it. `latest` is the newest version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The variables, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub variables: Map<String, Value>,
    /// The same thread gets the same version of a label that leads to several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

/// What a prompt says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenderedPrompt {
    /// The prompt.
    pub name: String,
    /// The version that it was made of.
    pub version: u64,
    /// The model, or the route, that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it says.
    pub messages: Vec<PromptMessage>,
}

/// What differs between two versions of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptDiff {
    /// The one version.
    pub from: u64,
    /// The other.
    pub to: u64,
    /// A unified diff; empty when both say the same.
    pub diff: String,
}

/// What was used by way of one version of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PromptUsage {
    /// The version.
    pub version: u64,
    /// Exchanges.
    pub requests: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Tokens in.
    pub input: u64,
    /// Tokens out.
    pub output: u64,
    /// What they cost, in US dollars.
    pub cost: String,
    /// How many scores there are.
    pub scores: u64,
    /// What they are on average, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// How good an exchange, or a thread, was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScore {
    /// The exchange, `exc_…`: the header `Skep-Exchange` of an answer says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// Or a thread, as requests named it in `Skep-Thread`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// From 0 to 1, the best.
    pub score: f64,
}
