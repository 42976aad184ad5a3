//! Policies: what holds, its versions, and why something is decided as it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ETAG, HeaderValue, IF_MATCH};
use skep_api::{
    Page, Policy, PolicyExplanation, PolicyNear, PolicyQuestion, PolicyRollback, PolicySchema,
    PolicyText, PolicyVersion, Problem,
};
use skep_core::{Code, Workspace};
use skep_guard::policy::{self, Change, DEFAULT, Question, SCHEMA};
use skep_guard::{Principal, PrincipalKind, Role, Scopes};

use super::agents::PageQuery;
use super::input::{self, Caller, Ordered, Query, cursor, limit, page};
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::state::State;

/// The route of changes, as policies see it.
const PATH: &str = "/api/v1/policy";

async fn shown(state: &State, workspace: &Workspace) -> Result<Response, ApiError> {
    let stored = state.policies.current(workspace).await?;
    let version = stored.as_ref().map_or(0, |it| it.version.number);
    let hash = stored.as_ref().map(|it| it.version.hash.to_string());
    let text = stored.map_or_else(String::new, |it| it.text);
    let shown = Policy {
        version,
        text,
        hash,
        defaults: DEFAULT.to_owned(),
    };
    let mut response = Json(shown).into_response();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// The policies of the workspace.
#[utoipa::path(get, path = "/api/v1/policy", tag = "policy",
    responses((status = 200, body = Policy), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Response, ApiError> {
    shown(&state, &workspace).await
}

/// The version that `If-Match` names.
fn matched(headers: &HeaderMap, expected: Option<u64>) -> Result<Option<u64>, ApiError> {
    let Some(tag) = headers.get(IF_MATCH) else {
        return Ok(expected);
    };
    let text = tag.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(expected);
    }
    let number = text.trim_matches('"').parse().ok();
    match (number, expected) {
        (Some(number), None) => Ok(Some(number)),
        (Some(number), Some(other)) if number == other => Ok(Some(number)),
        _ => Err(ApiError::new(
            Code::BadRequest,
            "If-Match is not the ETag of a version, or another one than `expected`",
        )),
    }
}

/// Those of whom one must still be able to change the policies.
fn owners(asker: &Asker) -> Vec<Principal> {
    match asker.principal.role {
        Some(Role::Owner) => vec![asker.principal.clone()],
        // Any owner will do: who asks is none.
        _ => vec![Principal {
            kind: PrincipalKind::User,
            id: "an owner".into(),
            workspace: asker.principal.workspace.clone(),
            role: Some(Role::Owner),
            scopes: Scopes::all(),
        }],
    }
}

/// Makes a text the policies of the workspace.
#[utoipa::path(put, path = "/api/v1/policy", tag = "policy", request_body = PolicyText,
    params(("If-Match" = Option<String>, Header, description = "The ETag of the version that is changed")),
    responses((status = 200, body = Policy), (status = "4XX", body = Problem)))]
pub(super) async fn set(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    headers: HeaderMap,
    input::Json(body): input::Json<PolicyText>,
) -> Result<Response, ApiError> {
    let change = Change {
        by: &by,
        principal: &asker.principal,
        expected: matched(&headers, body.expected)?,
        owners: &owners(&asker),
        circumstances: &asker.circumstances(&state, "PUT", PATH),
    };
    state.policies.set(&change, body.text).await?;
    shown(&state, &workspace).await
}

/// The versions, newest first.
#[utoipa::path(get, path = "/api/v1/policy/versions", tag = "policy", params(PageQuery),
    responses((status = 200, body = Page<PolicyVersion>), (status = "4XX", body = Problem)))]
pub(super) async fn versions(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<PolicyVersion>>, ApiError> {
    let limit = limit(query.limit)?;
    let below = cursor(query.cursor.as_deref())?;
    let policies = &state.policies;
    let current = policies.current(&workspace).await?;
    let current = current.map_or(0, |it| it.version.number);
    let most = limit as usize + 1;
    let found = policies.versions(&workspace, below, most).await?;
    let all = found.into_iter().map(|it| PolicyVersion {
        version: it.number,
        hash: it.hash.to_string(),
        by_kind: it.by.0,
        by: it.by.1,
        created_at: it.created_at.to_string(),
        current: it.number == current,
    });
    Ok(Json(page(all.collect(), limit, |it| {
        it.version.to_string()
    })))
}

/// Makes an earlier version hold again.
#[utoipa::path(post, path = "/api/v1/policy/rollback", tag = "policy", request_body = PolicyRollback,
    responses((status = 200, body = Policy), (status = "4XX", body = Problem)))]
pub(super) async fn rollback(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(body): input::Json<PolicyRollback>,
) -> Result<Response, ApiError> {
    let policies = &state.policies;
    let (to, expected) = match body.version {
        Some(version) => (version, body.expected),
        None => {
            let current = policies.current(&workspace).await?;
            let current = current.map_or(0, |it| it.version.number);
            if current == 0 {
                let detail = "no version holds that another one was before";
                return Err(ApiError::new(Code::PolicyNotFound, detail));
            }
            let before = policies.versions(&workspace, Some(current), 1).await?;
            let before = before.first().map_or(0, |it| it.number);
            // What was looked at is what is changed.
            (before, Some(body.expected.unwrap_or(current)))
        }
    };
    let change = Change {
        by: &by,
        principal: &asker.principal,
        expected,
        owners: &owners(&asker),
        circumstances: &asker.circumstances(&state, "PUT", PATH),
    };
    policies.roll_back(&change, to).await?;
    shown(&state, &workspace).await
}

/// The schema of all policies.
#[utoipa::path(get, path = "/api/v1/policy/schema", tag = "policy",
    responses((status = 200, body = PolicySchema), (status = "4XX", body = Problem)))]
pub(super) async fn schema() -> Json<PolicySchema> {
    Json(PolicySchema {
        schema: SCHEMA.to_owned(),
    })
}

/// Who asks, as a question has it.
fn own(asker: &Asker) -> skep_api::PolicyPrincipal {
    let who = &asker.principal;
    let is_key = who.kind == PrincipalKind::ApiKey;
    skep_api::PolicyPrincipal {
        kind: who.kind.to_string(),
        id: who.id.to_string(),
        role: who.role.map(|role| role.to_string()),
        scopes: is_key.then(|| who.scopes.iter().map(str::to_owned).collect()),
    }
}

/// Fills in what is known of the agent that a question is about.
fn known(state: &State, workspace: &Workspace, question: &mut PolicyQuestion) {
    let Some(resource) = &mut question.resource else {
        return;
    };
    let agent = match resource.kind.as_str() {
        "Agent" => Some(resource.id.as_str()),
        _ => resource.agent.as_deref(),
    };
    let told = resource.driver.is_some() || !resource.labels.is_empty();
    let target = agent.filter(|_| !told);
    if let Some(target) = target.and_then(|agent| state.runtime.target(workspace, agent)) {
        let spec = target.spec();
        resource.driver = Some(spec.driver.clone());
        resource.labels.clone_from(&spec.labels);
    }
}

/// What would be decided, by which policies, and which came near. Nothing is done.
#[utoipa::path(post, path = "/api/v1/policy/explain", tag = "policy", request_body = PolicyQuestion,
    responses((status = 200, body = PolicyExplanation), (status = "4XX", body = Problem)))]
pub(super) async fn explain(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    input::Json(mut question): input::Json<PolicyQuestion>,
) -> Result<Json<PolicyExplanation>, ApiError> {
    known(&state, &workspace, &mut question);
    question.principal.get_or_insert_with(|| own(&asker));
    if question.context.address.is_none() {
        question.context.address = Some(asker.remote);
    }
    let malformed = |error: String| ApiError::new(Code::BadRequest, error);
    // The documents of questions and the API have the same form; a test holds them to it.
    let form = serde_json::to_value(&question).map_err(|error| malformed(error.to_string()))?;
    let question: Question =
        serde_json::from_value(form).map_err(|error| malformed(error.to_string()))?;
    let slice = state.policies.slice(&workspace).await?;
    let now = state.db.clock().now();
    let explained = question.ask(&workspace, now, |ask| policy::explain(&slice, ask));
    let explained = explained.map_err(malformed)?;
    let decision = &explained.decision;
    let near = explained.near.iter().map(|it| PolicyNear {
        policy: it.policy.to_string(),
        effect: if it.forbids { "forbid" } else { "permit" }.to_owned(),
        why: it.why.clone(),
    });
    Ok(Json(PolicyExplanation {
        decision: if decision.allow { "allow" } else { "deny" }.to_owned(),
        policies: decision.policies.iter().map(ToString::to_string).collect(),
        near: near.collect(),
        errors: decision.errors.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_of_the_api_is_a_question() {
        let all = json!({
            "principal": { "kind": "ApiKey", "id": "k", "role": "member", "scopes": ["use"] },
            "action": "agent:call",
            "resource": { "kind": "Call", "id": "c", "agent": "a", "driver": "process",
                "labels": { "team": "red" } },
            "context": { "time": "2026-01-05T12:00:00Z", "address": "192.0.2.1", "method": "POST",
                "path": "/x", "labels": { "a": "b" }, "risk": 7,
                "tool": { "name": "read", "arguments": { "path": "/tmp" } },
                "body_bytes": 9, "output_tokens": 8, "pii": ["card"], "secrets": ["github-token"],
                "injection": { "score": 80, "signals": ["override"] } }
        });
        let wire: PolicyQuestion = serde_json::from_value(all.clone()).unwrap();
        assert_eq!(serde_json::to_value(&wire).unwrap(), all);
        let question: Question = serde_json::from_value(all.clone()).unwrap();
        assert_eq!(serde_json::to_value(&question).unwrap(), all);
    }
}
