//! Calls: look, attach, cancel, replay, redrive, purge.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use skep_api::{Call, CallChange, CallState, Page, Problem, Redriven};
use skep_core::{CallId, RequestId, Workspace};
use skep_ingress::Filter;
use utoipa::IntoParams;

use super::feed::{self, BATCH, Source, Told, seen};
use super::input::{CallPath, Caller, Ordered, Query, cursor, limit, page};
use crate::changes::{self, Change};
use crate::problem::{ApiError, REQUEST};
use crate::state::State;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this agent's calls.
    agent: Option<String>,
    /// Only calls in this state.
    state: Option<CallState>,
    /// Where the page begins: `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ManyQuery {
    /// Only this agent's calls.
    agent: Option<String>,
    /// The state in which they ended; default `dead`.
    state: Option<CallState>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// Whether to wait for the answer; default true.
    wait: Option<bool>,
}

/// Calls, newest first.
#[utoipa::path(get, path = "/api/v1/calls", tag = "calls", params(ListQuery),
    responses((status = 200, body = Page<Call>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Call>>, ApiError> {
    let limit = limit(query.limit)?;
    let before = cursor(query.cursor.as_deref())?;
    let filter = Filter {
        agent: query.agent,
        state: query.state,
    };
    let items = state
        .ingress
        .list(&workspace, filter, before, limit + 1)
        .await?;
    Ok(Json(page(items, limit, |call: &Call| call.id.clone())))
}

/// One call, with its attempts and headers.
#[utoipa::path(get, path = "/api/v1/calls/{call}", tag = "calls",
    params(("call" = String, Path, description = "`call_…`")),
    responses((status = 200, body = Call), (status = 404, body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    CallPath(id): CallPath,
) -> Result<Json<Call>, ApiError> {
    Ok(Json(state.ingress.show(&workspace, id).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Begin behind the change with this id, as the header `Last-Event-ID` does.
    after: Option<String>,
    /// Only calls of this agent.
    agent: Option<String>,
}

/// What happens to calls, as server-sent events with ids: that they are accepted, that they end, that they begin anew. A client that
/// lost the connection goes on with `Last-Event-ID` and misses nothing that the audit log has. Without that and `after`, it begins now.
#[utoipa::path(get, path = "/api/v1/calls/stream", tag = "calls",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "Begin behind this change")),
    responses(
        (status = 200, body = CallChange, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn stream(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = match seen(&headers, query.after.as_deref())? {
        Some(after) => after,
        None => state.audit.log.integrate().await?,
    };
    let source = OfCalls {
        state: state.clone(),
        workspace,
        agent: query.agent,
    };
    Ok(feed::stream(state, after, source))
}

/// What happens to calls.
struct OfCalls {
    state: Arc<State>,
    workspace: Workspace,
    agent: Option<String>,
}

#[async_trait]
impl Source for OfCalls {
    async fn read(&mut self, after: u64) -> Result<(Vec<Told>, u64), ApiError> {
        let from = (&*self.state.audit, &self.state.ingress);
        let (found, next) = changes::behind(from, &self.workspace, (after, BATCH), false).await?;
        let is_wanted = |it: &Change| self.agent.is_none() || it.agent == self.agent;
        let wanted = found.into_iter().filter(|(_, change)| is_wanted(change));
        let told = wanted.map(|(number, change)| Told {
            number,
            kind: format!("call.{}", change.state.as_str()),
            data: skep_api::to_json(&CallChange {
                call: change.call.to_string(),
                agent: change.agent,
                state: change.state,
                status: change.status,
                at: change.at.to_string(),
            }),
        });
        Ok((told.collect(), next))
    }
}

/// One call as it stands, and again whenever it stands otherwise, until it has ended: server-sent events.
#[utoipa::path(get, path = "/api/v1/calls/{call}/stream", tag = "calls",
    params(
        ("call" = String, Path, description = "`call_…`"),
        ("Last-Event-ID" = Option<String>, Header, description = "It stood so when it was seen last"),
    ),
    responses(
        (status = 200, body = Call, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn follow(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    CallPath(id): CallPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = seen(&headers, None)?.unwrap_or_default();
    state.ingress.show(&workspace, id).await?;
    let source = OfCall {
        state: state.clone(),
        workspace,
        id,
        over: false,
    };
    Ok(feed::stream(state, after, source))
}

/// How one call stands.
struct OfCall {
    state: Arc<State>,
    workspace: Workspace,
    id: CallId,
    over: bool,
}

/// What tells how a call stands from how it stood before: never 0.
fn standing(call: &Call) -> u64 {
    let state = CallState::ALL.iter().position(|it| *it == call.state);
    u64::from(call.attempts) * 8 + state.unwrap_or_default() as u64 + 1
}

#[async_trait]
impl Source for OfCall {
    async fn read(&mut self, after: u64) -> Result<(Vec<Told>, u64), ApiError> {
        let call = self.state.ingress.show(&self.workspace, self.id).await?;
        self.over = call.state.is_final();
        let number = standing(&call);
        let told = (number != after).then(|| Told {
            number,
            kind: format!("call.{}", call.state.as_str()),
            data: skep_api::to_json(&call),
        });
        Ok((told.into_iter().collect(), number))
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

/// Forgets a call that has ended.
#[utoipa::path(delete, path = "/api/v1/calls/{call}", tag = "calls",
    params(("call" = String, Path, description = "`call_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn purge(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    CallPath(id): CallPath,
) -> Result<StatusCode, ApiError> {
    state.ingress.purge(&by, &workspace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body that the agent got.
#[utoipa::path(get, path = "/api/v1/calls/{call}/request", tag = "calls",
    params(("call" = String, Path, description = "`call_…`")),
    responses((status = 200, description = "The body as it was sent"), (status = 404, body = Problem)))]
pub(super) async fn request(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    CallPath(id): CallPath,
) -> Result<Response, ApiError> {
    Ok(state
        .ingress
        .request_body(&workspace, id)
        .await?
        .map(axum::body::Body::new))
}

/// The agent's answer: stored, or attached to while it comes in.
#[utoipa::path(get, path = "/api/v1/calls/{call}/response", tag = "calls",
    params(
        ("call" = String, Path, description = "`call_…`"),
        WaitQuery,
        ("last-event-id" = Option<String>, Header, description = "Continue an event stream behind this event"),
    ),
    responses(
        (status = 200, description = "The agent's own status, headers and body"),
        (status = "default", body = Problem),
    ))]
pub(super) async fn response(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    CallPath(id): CallPath,
    Query(query): Query<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok());
    let response = state
        .ingress
        .attach(&workspace, id, seen, query.wait.unwrap_or(true))
        .await?;
    Ok(response.map(axum::body::Body::new))
}

/// Ends a call that is not wanted any more.
#[utoipa::path(post, path = "/api/v1/calls/{call}/cancel", tag = "calls",
    params(("call" = String, Path, description = "`call_…`")),
    responses((status = 200, body = Call), (status = "4XX", body = Problem)))]
pub(super) async fn cancel(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    CallPath(id): CallPath,
) -> Result<Json<Call>, ApiError> {
    state.ingress.cancel(&by, &workspace, id).await?;
    Ok(Json(state.ingress.show(&workspace, id).await?))
}

/// Makes a new call of the same request.
#[utoipa::path(post, path = "/api/v1/calls/{call}/replay", tag = "calls",
    params(("call" = String, Path, description = "`call_…`")),
    responses((status = 202, body = Call), (status = "4XX", body = Problem)))]
pub(super) async fn replay(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    CallPath(id): CallPath,
) -> Result<Response, ApiError> {
    let request = REQUEST
        .try_with(|id| *id)
        .unwrap_or_else(|_| RequestId::new());
    let id = state.ingress.replay(&by, &workspace, id, request).await?;
    let call = state.ingress.show(&workspace, id).await?;
    let location = [(http::header::LOCATION, format!("/api/v1/calls/{id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(call)).into_response())
}

/// Gives a dead call another round of attempts.
#[utoipa::path(post, path = "/api/v1/calls/{call}/redrive", tag = "calls",
    params(("call" = String, Path, description = "`call_…`")),
    responses((status = 200, body = Call), (status = "4XX", body = Problem)))]
pub(super) async fn redrive(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    CallPath(id): CallPath,
) -> Result<Json<Call>, ApiError> {
    state.ingress.redrive(&by, &workspace, id).await?;
    Ok(Json(state.ingress.show(&workspace, id).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AgentQuery {
    /// Only this agent's calls.
    agent: Option<String>,
}

/// Gives every dead call another round of attempts.
#[utoipa::path(post, path = "/api/v1/calls/redrive", tag = "calls", params(AgentQuery),
    responses((status = 200, body = Redriven), (status = "4XX", body = Problem)))]
pub(super) async fn redrive_all(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Query(query): Query<AgentQuery>,
) -> Result<Json<Redriven>, ApiError> {
    Ok(Json(Redriven {
        calls: state
            .ingress
            .redrive_all(&by, &workspace, query.agent)
            .await?,
    }))
}

/// Forgets every call that ended in a state.
#[utoipa::path(post, path = "/api/v1/calls/purge", tag = "calls", params(ManyQuery),
    responses((status = 200, body = Redriven), (status = "4XX", body = Problem)))]
pub(super) async fn purge_all(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Query(query): Query<ManyQuery>,
) -> Result<Json<Redriven>, ApiError> {
    let ended = query.state.unwrap_or(CallState::Dead);
    Ok(Json(Redriven {
        calls: state
            .ingress
            .purge_all(&by, &workspace, query.agent, ended)
            .await?,
    }))
}
