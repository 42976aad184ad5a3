//! The servers that share the database.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use skep_api::{Page, Problem, Server};

use super::Caller;
use crate::problem::ApiError;
use crate::state::State;

/// The servers that share the database, the oldest first; without such a database, this one.
#[utoipa::path(get, path = "/api/v1/servers", tag = "servers",
    responses((status = 200, body = Page<Server>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<Server>>, ApiError> {
    let me = state.db.epoch();
    let servers = state.peers.servers();
    let leader = state.peers.leader();
    let here = u32::try_from(state.runtime.names(&workspace).len()).unwrap_or(u32::MAX);
    let server = |row: &skep_store::ServerRow| Server {
        id: row.server.to_string(),
        url: row.url.clone(),
        epoch: row.epoch,
        agents: match row.epoch == me {
            true => here,
            false => row.agents,
        },
        started_at: row.started_at.to_string(),
        leads: Some(row.epoch) == leader,
        this: row.epoch == me,
    };
    let items = servers.iter().map(server).collect();
    Ok(Json(Page { items, next: None }))
}
