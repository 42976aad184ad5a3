//! Calls: look, attach, cancel, replay, redrive, purge.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use skep_api::{Call, CallState, Page, Problem, Redriven};
use skep_core::RequestId;
use skep_ingress::Filter;
use utoipa::IntoParams;

use super::input::{CallPath, Caller, Ordered, Query, cursor, limit, page};
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
