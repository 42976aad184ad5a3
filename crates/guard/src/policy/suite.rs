//! Questions as documents, and files of cases with the answer that is expected: tests of policies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use skep_core::{Timestamp, Workspace};

use super::ask::{
    Agent, Ask, Circumstances, Principal, PrincipalKind, Resource, Role, Scopes, Secret, Sent, Tool,
};
use super::slice::{Decision, Slice};

/// Cases that a file may have.
const MOST_CASES: usize = 10_000;
/// When a case happens that does not say it: the noon of a working day.
const NOON: &str = "2026-01-05T12:00:00Z";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// `User`, `ApiKey` or `Agent`.
    pub kind: String,
    /// The id or name.
    pub id: String,
    /// `viewer`, `member`, `admin` or `owner`; agents have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How far a key's rights go; without it as far as the role's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// What something is done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct What {
    /// `Workspace`, `Agent`, `Call`, `Secret` or `Server`.
    pub kind: String,
    /// The name of an agent or a secret, or the id of a call.
    #[serde(default)]
    pub id: String,
    /// Whose call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What runs the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The labels of an agent, or the tags of a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What somebody let who asks do with a secret: `use`, `reveal`, `write`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
}

/// A tool that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedTool {
    /// Its name.
    pub name: String,
    /// What it is given.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
}

/// What looks as if it were to turn a model against who asks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenInjection {
    /// 0 to 100.
    pub score: i64,
    /// What was seen.
    #[serde(default)]
    pub signals: BTreeSet<String>,
}

/// Under which circumstances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// When (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub tool: Option<UsedTool>,
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
    pub injection: Option<SeenInjection>,
}

impl How {
    fn sent(&self) -> Sent<'_> {
        let injection = self.injection.as_ref();
        Sent {
            body_bytes: self.body_bytes,
            output_tokens: self.output_tokens,
            pii: self.pii.as_ref(),
            secrets: self.secrets.as_ref(),
            injection: injection.map(|it| (it.score, &it.signals)),
        }
    }
}

/// A question as a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who.
    pub principal: Who,
    /// Does what.
    pub action: String,
    /// To what; without it, the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<What>,
    /// Under which circumstances.
    #[serde(default)]
    pub context: How,
}

impl Question {
    /// Asks it; `now` is when nothing else is said.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn ask<T>(
        &self,
        workspace: &Workspace,
        now: Timestamp,
        then: impl FnOnce(&Ask<'_>) -> T,
    ) -> Result<T, String> {
        let principal = self.principal(workspace)?;
        let kinds = super::actions::actions();
        let kinds = kinds.get(&self.action);
        let kinds = kinds.ok_or_else(|| format!("there is no action `{}`", self.action))?;
        let resource = self.resource()?;
        if !kinds.contains(resource.kind()) {
            let (action, kind) = (&self.action, resource.kind());
            let kinds = kinds.iter().cloned().collect::<Vec<_>>().join(" or ");
            return Err(format!("`{action}` is done to {kinds}, not to {kind}"));
        }
        let how = &self.context;
        let time = match &how.time {
            Some(time) => time.parse().map_err(|error| format!("time: {error}"))?,
            None => now,
        };
        let circumstances = Circumstances {
            time,
            address: how.address,
            method: how.method.as_deref(),
            path: how.path.as_deref(),
            rule: how.rule.as_deref(),
            labels: how.labels.as_ref(),
            tool: how.tool.as_ref().map(|tool| Tool {
                name: &tool.name,
                arguments: &tool.arguments,
            }),
            risk: how.risk,
            sent: how.sent(),
        };
        Ok(then(&Ask {
            principal: &principal,
            action: &self.action,
            resource,
            circumstances: &circumstances,
        }))
    }

    fn principal(&self, workspace: &Workspace) -> Result<Principal, String> {
        let who = &self.principal;
        let kind: PrincipalKind = who.kind.parse()?;
        let role = who.role.as_deref().map(str::parse::<Role>).transpose()?;
        if role.is_some() && kind == PrincipalKind::Agent {
            return Err("an agent has no role".to_owned());
        }
        let scopes = who.scopes.clone();
        let scopes = scopes.map_or_else(Scopes::all, Scopes::new);
        if let Some(scope) = scopes.unknown() {
            return Err(format!(
                "`{scope}` is no scope: use `*`, a group or an action"
            ));
        }
        Ok(Principal {
            kind,
            id: who.id.as_str().into(),
            workspace: workspace.clone(),
            role,
            scopes,
        })
    }

    fn resource(&self) -> Result<Resource<'_>, String> {
        let Some(what) = &self.resource else {
            return Ok(Resource::Workspace);
        };
        let agent = |name| Agent {
            name,
            driver: what.driver.as_deref(),
            labels: Some(&what.labels),
        };
        match what.kind.as_str() {
            "Workspace" => Ok(Resource::Workspace),
            "Server" => Ok(Resource::Server),
            "Agent" => Ok(Resource::Agent(agent(&what.id))),
            "Secret" => Ok(Resource::Secret(Secret {
                name: Some(&what.id),
                tags: Some(&what.labels),
                shared: &what.shared,
                ..Secret::unknown(&what.id)
            })),
            "Model" => Ok(Resource::Model(&what.id)),
            "Tool" => Ok(Resource::Tool {
                name: &what.id,
                class: what.labels.get("class").map_or("execute", String::as_str),
            }),
            "Host" => Ok(Resource::Host(&what.id)),
            "Call" => Ok(Resource::Call {
                id: &what.id,
                agent: what.agent.as_deref().map(agent),
            }),
            other => Err(format!(
                "`{other}` is no kind of resource: there are Workspace, Agent, Call, Secret, Model, Tool, Host, Server"
            )),
        }
    }
}

/// What is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// What it shows.
    #[serde(default)]
    pub name: String,
    /// The question.
    #[serde(flatten)]
    pub question: Question,
    /// The answer.
    pub expect: Expected,
    /// The policies that are to decide, when that matters too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
}

/// A file of cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The cases.
    pub cases: Vec<Case>,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it shows.
    pub name: String,
    /// What differs from what was expected; `None` when nothing does.
    pub wrong: Option<String>,
}

fn judge(case: &Case, decision: &Decision) -> Option<String> {
    let told = |allow: bool| if allow { "allow" } else { "deny" };
    let by = match decision.policies.as_slice() {
        [] => "nothing allows it".to_owned(),
        some => format!("by {}", some.join(", ")),
    };
    let expected = case.expect == Expected::Allow;
    if decision.allow != expected {
        let (expected, is) = (told(expected), told(decision.allow));
        return Some(format!("expected {expected}, and it is {is} ({by})"));
    }
    let wanted = case.by.as_ref()?;
    let same = wanted.len() == decision.policies.len()
        && wanted
            .iter()
            .all(|it| decision.policies.iter().any(|one| **one == **it));
    let wanted = wanted.join(", ");
    (!same).then(|| format!("expected by {wanted}, and it is {by}"))
}

impl Suite {
    /// Asks every case.
    ///
    /// # Errors
    /// When there are none, or too many: a suite that asks nothing shows nothing.
    pub fn run(&self, slice: &Slice, workspace: &Workspace) -> Result<Vec<Outcome>, String> {
        if self.cases.is_empty() || self.cases.len() > MOST_CASES {
            let count = self.cases.len();
            return Err(format!(
                "there are {count} cases, and must be 1 to {MOST_CASES}"
            ));
        }
        let noon = NOON.parse().unwrap_or(Timestamp::from_micros(0));
        let outcome = |(at, case): (usize, &Case)| {
            let asked = case.question.ask(workspace, noon, |ask| slice.decide(ask));
            let wrong = match asked {
                Ok(decision) => judge(case, &decision),
                Err(error) => Some(error),
            };
            let name = match case.name.as_str() {
                "" => format!("case {}", at + 1),
                name => name.to_owned(),
            };
            Outcome { name, wrong }
        };
        Ok(self.cases.iter().enumerate().map(outcome).collect())
    }
}
