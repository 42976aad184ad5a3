//! Rollouts: go back to an earlier revision, hold one that takes over, let it go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use skep_api::{Agent, Problem, Rollback};
use skep_core::Workspace;
use skep_runtime::RolloutOrder;

use super::agents::find;
use super::input::{self, Caller, Ordered, Path};
use crate::problem::ApiError;
use crate::state::State;

/// Goes to another revision, the one before the current unless it is said. It takes over when it
/// is ready; what serves now serves until then, and goes on when it fails.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/rollback", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")), request_body = Rollback,
    responses((status = 200, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn rollback(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(rollback): input::Json<Rollback>,
) -> Result<Json<Agent>, ApiError> {
    let Rollback { to, reason } = rollback;
    let moved = state.runtime.roll_to(&by, &workspace, &name, to, reason);
    moved.await?;
    Ok(Json(find(&state, &workspace, &name).await?))
}

async fn order(
    state: &State,
    workspace: &Workspace,
    name: &str,
    order: RolloutOrder,
) -> Result<Json<Agent>, ApiError> {
    let ordered = state.runtime.order_rollout(workspace, name, order);
    ordered.await?;
    Ok(Json(find(state, workspace, name).await?))
}

/// Holds the revision that is taking over where it is.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/rollout/pause", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn pause(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    order(&state, &workspace, &name, RolloutOrder::Pause).await
}

/// Lets a held revision go on, or leaves the step behind that waits for an order.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/rollout/resume", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn resume(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    order(&state, &workspace, &name, RolloutOrder::Resume).await
}

/// Leaves all steps behind: the revision that is taking over gets all calls.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/rollout/promote", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn promote(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    order(&state, &workspace, &name, RolloutOrder::Promote).await
}
