//! Policies as the API shows and takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The policies that a workspace has besides Skep's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// The version that holds; 0 when the workspace has none of its own.
    pub version: u64,
    /// The policies, in Cedar.
    pub text: String,
    /// SHA-256 of the text, in hexadecimal, as in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Skep's own policies, which hold in every workspace.
    pub defaults: String,
}

/// Policies that are to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// The policies, in Cedar.
    pub text: String,
    /// The version that is changed: when another one holds by then, nothing is done. The header `If-Match`
    /// says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// Which version is to hold again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRollback {
    /// The version; 0 for none. Without it, the one before the one that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The version that holds as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// A version of the policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyVersion {
    /// Its number, from 1.
    pub version: u64,
    /// SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// Who set it: the kind of principal.
    pub by_kind: String,
    /// Who set it: the id.
    pub by: String,
    /// When (RFC 3339).
    pub created_at: String,
    /// Whether it holds.
    pub current: bool,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyPrincipal {
    /// `User`, `ApiKey` or `Agent`.
    pub kind: String,
    /// The id, or an agent's or key's name.
    pub id: String,
    /// `viewer`, `member`, `admin` or `owner`; agents have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How far a key's rights go; without it as far as the role's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// What something is done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyResource {
    /// `Workspace`, `Agent`, `Call`, `Server`, `Model`, `Tool`, `Host`, `Secret` or `User`.
    pub kind: String,
    /// The agent's name or the call's id; of a model `provider/model`.
    #[serde(default)]
    pub id: String,
    /// Whose call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What runs the agent. Of an agent that is deployed, driver and labels are known when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The agent's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A tool that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTool {
    /// Its name.
    pub name: String,
    /// What it is given.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
}

/// What looks as if it were to turn a model against who asks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyInjection {
    /// 0 to 100.
    pub score: i64,
    /// What was seen.
    #[serde(default)]
    pub signals: BTreeSet<String>,
}

/// Under which circumstances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyContext {
    /// When (RFC 3339); now, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// From which address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The request's method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The request's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The rule that lets the request out to the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The request's labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The tool that is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<PolicyTool>,
    /// How risky it is, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<i64>,
    /// Bytes of a request to a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<i64>,
    /// Tokens of an answer that it asks for at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<i64>,
    /// Kinds of what is personal in it, such as `email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pii: Option<BTreeSet<String>>,
    /// Kinds of what looks like a secret in it, such as `github-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BTreeSet<String>>,
    /// What looks in it as if it were to turn a model against who asks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<PolicyInjection>,
}

/// A question to the policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyQuestion {
    /// Who; without it, who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PolicyPrincipal>,
    /// Does what: `agent:deploy`.
    pub action: String,
    /// To what; without it, the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<PolicyResource>,
    /// Under which circumstances.
    #[serde(default)]
    pub context: PolicyContext,
}

/// A policy that came near.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyNear {
    /// Its id.
    pub policy: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Why it did not decide.
    pub why: String,
}

/// What is decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyExplanation {
    /// `allow` or `deny`.
    pub decision: String,
    /// What decided. None at all: nothing allows it.
    pub policies: Vec<String>,
    /// Policies about the same that did not decide.
    pub near: Vec<PolicyNear>,
    /// What could not be evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// What policies are checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySchema {
    /// The schema, in Cedar's language of schemas.
    pub schema: String,
}
