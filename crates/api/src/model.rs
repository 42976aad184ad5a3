//! Models as the API shows them: who answers for them, what may be spent on them, and what was.

use std::collections::BTreeMap;

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
    /// Whose costs count: `workspace`, `agent`, `key`, `user`, `model`, `server` and `tool` of tools,
    /// or `rule` of the web.
    pub of: String,
    /// Which one: an agent's name, a key's or a person's id, `provider/model`, an MCP server's name, `server/tool`, a
    /// rule's name. Not for a workspace.
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
    /// Or in uses of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Or in requests to the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// At how many of a hundred of it the event `budget.threshold` is told, once in each window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<u8>,
}

/// A budget, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelBudget {
    /// Its name in the workspace.
    pub name: String,
    /// Whose costs count: `workspace`, `agent`, `key`, `user`, `model`, `server` and `tool` of tools,
    /// or `rule` of the web.
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
    /// Or in uses of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Or in requests to the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// At how many of a hundred of it the event `budget.threshold` is told, once in each window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<u8>,
    /// What was spent in its time: US dollars, tokens, uses of tools, or requests.
    pub spent: String,
    /// What requests have set aside that run now.
    pub reserved: String,
    /// When its time began (RFC 3339).
    pub since: String,
}

/// A model of a route as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRouteModel {
    /// `provider/model`.
    pub model: String,
    /// How often it is asked first, beside the others' weights; 1 without it. Only weighted routes look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// A route as it is to be: a name that is asked for as a model is, and who answers in its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModelRoute {
    /// Who is asked first: `ordered` (the first of them), `weighted` (by chance) or `fastest`; `ordered` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pick: Option<String>,
    /// How often one is asked in a row before the next one is, 1 to 5; 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<u32>,
    /// Who answers.
    pub models: Vec<NewRouteModel>,
    /// When this version goes and the one before it comes back by itself; never, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RouteRollback>,
}

/// When the newest version of a route goes, and the one before it comes back by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRollback {
    /// After how many exchanges it is judged, and after how many scores: 5 to 5000.
    pub after: u64,
    /// So many of a hundred exchanges may come to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u64>,
    /// Milliseconds until 95 of 100 good answers have ended, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
    /// The average of its scores, in hundredths, at least: 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u64>,
}

/// A version of a route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelRouteVersion {
    /// Its number, from 1 on.
    pub version: u64,
    /// When it came (RFC 3339).
    pub at: String,
    /// The version that it went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// How it is.
    pub route: NewModelRoute,
}

/// A model of a route, and how it does as far as the server knows that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteModel {
    /// `provider/model`.
    pub model: String,
    /// Its weight.
    pub weight: u32,
    /// Failures in a row.
    pub failures: u32,
    /// It is left alone until then (RFC 3339), as it failed again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resting_until: Option<String>,
    /// Milliseconds until its answers begin, of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_ms: Option<u64>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelRoute {
    /// What is asked for.
    pub name: String,
    /// Who is asked first: `ordered`, `weighted` or `fastest`.
    pub pick: String,
    /// How often one is asked in a row before the next one is.
    pub tries: u32,
    /// Who answers.
    pub models: Vec<RouteModel>,
}

/// How a model did over some hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelPerformance {
    /// Who answered.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Requests.
    pub requests: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Milliseconds until half of the good answers had begun.
    pub first_ms_p50: u64,
    /// Milliseconds until 95 of 100 had.
    pub first_ms_p95: u64,
    /// Milliseconds until half of them had ended.
    pub whole_ms_p50: u64,
    /// Milliseconds until 95 of 100 had.
    pub whole_ms_p95: u64,
    /// Tokens of answers a second, from their beginnings to their ends; none when that took no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// What they cost, in US dollars.
    pub cost: String,
    /// How many scores were given to its answers.
    pub scores: u64,
    /// What they are on average, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// How models did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelPerformances {
    /// Each model, by provider and name.
    pub items: Vec<ModelPerformance>,
    /// There were more exchanges than are looked at: these are the newest.
    pub more: bool,
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
    /// Those that got an answer that was given before, for nothing.
    pub kept: u64,
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
    /// What this month costs, whatever days were asked for.
    pub month: ModelMonth,
}

/// What a month costs, in US dollars.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelMonth {
    /// Its first day (UTC).
    pub since: String,
    /// What it cost until now.
    pub cost: String,
    /// What it will have cost, when each day that is left costs what the last seven did on average.
    pub forecast: String,
}

/// How models are used by a workspace (`*`) or by one agent. What is left out is the workspace's, and what that leaves out
/// is off.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModelSettings {
    /// Models that may be asked (`provider/model`, with `*` for any text); any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// The model, or the route, that is asked when a request names `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The temperature of requests that say none, from 0 to 2 in hundredths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Bytes of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_body: Option<u64>,
    /// Tokens of an answer that a request may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_output: Option<u64>,
    /// For how many seconds an answer is given again to the same request; 0: never. Without it, when a request says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_s: Option<u64>,
    /// Kinds of events (`agent.deployed`, or `agent` for all that begin so) after which an answer from before is given again
    /// no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_on: Option<Vec<String>>,
    /// Which questions mean the same, so that an answer to one is given to the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar: Option<SimilarQuestions>,
    /// For how many days exchanges are kept, with request and answer; 0: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_days: Option<u32>,
    /// Whether another attempt of a call gets the answers again that the one before got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<bool>,
    /// What becomes of a request with what looks like a secret: `pass` or `block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaks: Option<String>,
    /// Whether it is told what looks in a request as if it were to turn a model against who asks it (prompt injection):
    /// `off` or `signal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<String>,
    /// What is personal and does not go out, but a placeholder that becomes the value again in the answer: `email`, `phone`,
    /// `card`, `iban`, `ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact: Option<Vec<String>>,
    /// The same by patterns of one's own (regular expressions), by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact_patterns: Option<BTreeMap<String, String>>,
}

/// Which questions mean the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimilarQuestions {
    /// The model that makes vectors of them (`provider/model`); empty: none means the same as another.
    pub model: String,
    /// How near their vectors are, from 0.5 to 1 (cosine).
    pub least: f64,
}

/// How models are used, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelSettings {
    /// An agent, or `*` for everybody.
    pub whose: String,
    /// What is set.
    pub settings: NewModelSettings,
}

/// An exchange with a model that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelExchange {
    /// `exc_…`.
    pub id: String,
    /// When it began (RFC 3339).
    pub at: String,
    /// When it is removed (RFC 3339).
    pub until: String,
    /// Until when its answer is given again to the same request (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_until: Option<String>,
    /// The kind of principal that asked: `agent`, `key`, `user`.
    pub of: String,
    /// Which of them.
    pub whose: String,
    /// Who answered: `provider/model`.
    pub model: String,
    /// How it ended: a status, or a word for what went wrong.
    pub outcome: String,
    /// The call that it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The number of that call's attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// By what its answer can be forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Bytes that were kept of it.
    pub bytes: u64,
}

/// An exchange with a model, and what was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelExchangeContent {
    /// Which.
    pub exchange: ModelExchange,
    /// The method and the path behind its door.
    pub target: String,
    /// The body that came in; none when only the answer was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// The body of the answer, as it went out.
    pub answer: String,
}

/// Which answers are given again no more; all of them, when nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetAnswers {
    /// Those with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Those of this model, `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// How it was with one key of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelKeyCheck {
    /// The secret that holds it; none, when the provider wants no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether the provider takes it.
    pub works: bool,
    /// The status that the provider answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Milliseconds until its answer was there.
    pub took_ms: u64,
}

/// Whether a provider can be asked, and which models it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelProviderCheck {
    /// Each key.
    pub keys: Vec<ModelKeyCheck>,
    /// The models that it says it has, 1,000 at most. The names come from outside.
    pub models: Vec<String>,
}
