//! Virtual MCP servers: tools of several servers behind one door.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{McpVirtual, McpVirtualTool, NewMcpVirtual, Page, Problem};
use skep_core::{Code, Workspace};
use skep_egress::EgressError;
use skep_egress::mcp::Known;

use super::input::{self, Caller, Ordered, Path};
use crate::problem::ApiError;
use crate::state::State;

fn shown(known: &Known, name: &str) -> Result<McpVirtual, ApiError> {
    let missing = || {
        let why = format!("there is no virtual MCP server `{name}`");
        ApiError::new(Code::NotFound, why)
    };
    let part = known.virtuals.get(name).ok_or_else(missing)?;
    let settings = serde_json::from_str(part.declared()).unwrap_or_default();
    let tools = known.leads(part).into_iter().map(|it| McpVirtualTool {
        name: it.name,
        uses: it.to,
        ready: it.well,
    });
    Ok(McpVirtual {
        name: name.to_owned(),
        door: format!("/mcp/{name}"),
        settings,
        tools: tools.collect(),
    })
}

async fn known(state: &State, workspace: &Workspace) -> Result<Known, ApiError> {
    Ok(state.tools.servers(workspace).await?)
}

/// The virtual MCP servers, by name, and where their tools lead.
#[utoipa::path(get, path = "/api/v1/mcp/virtuals", tag = "mcp",
    responses((status = 200, body = Page<McpVirtual>), (status = "4XX", body = Problem)))]
pub(super) async fn virtuals(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<McpVirtual>>, ApiError> {
    let known = known(&state, &workspace).await?;
    let items = known.virtuals.keys().map(|it| shown(&known, it));
    let items = items.collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next: None }))
}

/// Adds a virtual server, or puts it in the place of the one of its name. Its tools are those of servers that there are.
#[utoipa::path(put, path = "/api/v1/mcp/virtuals/{virtual}", tag = "mcp", request_body = NewMcpVirtual,
    params(("virtual" = String, Path, description = "Its name")),
    responses((status = 200, body = McpVirtual), (status = "4XX", body = Problem)))]
pub(super) async fn provide(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewMcpVirtual>,
) -> Result<Json<McpVirtual>, ApiError> {
    let text = serde_json::to_string(&new);
    let text = text.map_err(|error| EgressError::Invalid(error.to_string()))?;
    state
        .tools
        .put_virtual(&by, &workspace, &name, text)
        .await?;
    let known = known(&state, &workspace).await?;
    Ok(Json(shown(&known, &name)?))
}

/// Removes a virtual server. The servers that it has its tools from stay.
#[utoipa::path(delete, path = "/api/v1/mcp/virtuals/{virtual}", tag = "mcp",
    params(("virtual" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.tools.drop_virtual(&by, &workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
