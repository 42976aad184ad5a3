//! Workspaces: the ones of who asks, and for who administers the server all of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{
    CreatedWorkspace, NewQuota, NewWorkspace, Page, Problem, QuotaUse, WorkspaceDetail,
    WorkspaceInfo,
};
use skep_core::{Code, Workspace};
use skep_guard::identity::{FirstOwner, IdentityError};
use skep_guard::quotas::What;
use skep_guard::{Ask, Resource};

use super::input::{self, Ordered, Path};
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::quotas;
use crate::state::State;

/// Where removed agents still end, a workspace waits for.
fn in_use(agents: usize) -> IdentityError {
    IdentityError::WorkspaceInUse(format!("it has {agents} agents"))
}

/// The workspaces that who asks belongs to; who may make some sees all.
#[utoipa::path(get, path = "/api/v1/workspaces", tag = "workspaces",
    responses((status = 200, body = Page<WorkspaceInfo>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
) -> Result<Json<Page<WorkspaceInfo>>, ApiError> {
    let who = &asker.principal;
    let all = state.tenants.all().all();
    let own = match &asker.session {
        Some(known) => state.sessions.homes(known.user, &all).await?,
        None => Vec::new(),
    };
    let role = |name: &Workspace| match &asker.session {
        Some(_) => own.iter().find(|(of, _)| of == name).map(|(_, role)| *role),
        None => who.role.filter(|_| who.workspace == *name),
    };
    let slice = state.policies.slice(&who.workspace).await?;
    let administers = slice.decide(&Ask {
        principal: who,
        action: "workspace:create",
        resource: Resource::Server,
        circumstances: &asker.circumstances(&state, "GET", "/api/v1/workspaces"),
    });
    let items = state.tenants.list().await?.into_iter().filter_map(|it| {
        let role = role(&it.name);
        let shown = administers.allow || role.is_some() || it.name == who.workspace;
        shown.then(|| WorkspaceInfo {
            name: it.name.to_string(),
            role: role.map(|role| role.to_string()),
            created_at: it
                .created_at
                .filter(|_| administers.allow)
                .map(|at| at.to_string()),
        })
    });
    let items = items.collect();
    Ok(Json(Page { items, next: None }))
}

/// Makes a workspace. A person who makes it owns it; a key gets a key of an owner.
#[utoipa::path(post, path = "/api/v1/workspaces", tag = "workspaces", request_body = NewWorkspace,
    responses((status = 201, body = CreatedWorkspace), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(wish): input::Json<NewWorkspace>,
) -> Result<(StatusCode, Json<CreatedWorkspace>), ApiError> {
    let wrong = |why: String| ApiError::new(Code::InvalidSpec, format!("`name`: {why}"));
    let name = Workspace::new(&wish.name).map_err(|error| wrong(error.to_string()))?;
    let creator = &asker.principal.id;
    let (owner, secret) = match &asker.session {
        Some(known) => (FirstOwner::User(known.user), None),
        None => {
            let now = state.db.clock().now();
            let (owner, secret) = FirstOwner::new_key(&name, creator, now)?;
            (owner, Some(secret))
        }
    };
    state.tenants.create(&by, &name, creator, owner).await?;
    state.keys.read().await?;
    let name = name.to_string();
    Ok((StatusCode::CREATED, Json(CreatedWorkspace { name, secret })))
}

/// Whether who asks administers the server.
async fn administers(state: &State, asker: &Asker, path: &str) -> Result<bool, ApiError> {
    let slice = state.policies.slice(&asker.principal.workspace).await?;
    let decision = slice.decide(&Ask {
        principal: &asker.principal,
        action: "workspace:quota",
        resource: Resource::Server,
        circumstances: &asker.circumstances(state, "GET", path),
    });
    Ok(decision.allow)
}

/// A workspace that there is.
fn known(state: &State, name: &str) -> Result<Workspace, ApiError> {
    let none = || IdentityError::NoWorkspace(name.chars().take(63).collect());
    let workspace = Workspace::new(name).map_err(|_| none())?;
    match state.tenants.all().has(&workspace) {
        true => Ok(workspace),
        false => Err(none().into()),
    }
}

async fn detail(state: &State, workspace: &Workspace) -> Result<WorkspaceDetail, ApiError> {
    let (quota, used) = (
        state.quotas.said.of(workspace),
        quotas::used(state, workspace).await?,
    );
    let quotas = What::ALL
        .into_iter()
        .zip(used)
        .map(|(what, used)| QuotaUse {
            what: what.as_str().to_owned(),
            used,
            most: quota.of(what),
            own: state.quotas.said.is_own(workspace, what),
        });
    Ok(WorkspaceDetail {
        name: workspace.to_string(),
        quotas: quotas.collect(),
    })
}

/// A workspace with how much it has and may have: one's own, or for who administers the server any.
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}", tag = "workspaces",
    params(("workspace" = String, Path, description = "The name")),
    responses((status = 200, body = WorkspaceDetail), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Path(name): Path<String>,
) -> Result<Json<WorkspaceDetail>, ApiError> {
    let path = format!("/api/v1/workspaces/{name}");
    if name != asker.principal.workspace.as_str() && !administers(&state, &asker, &path).await? {
        // Of another one nothing is told, whether there is one or not.
        return Err(IdentityError::NoWorkspace(name.chars().take(63).collect()).into());
    }
    let workspace = known(&state, &name)?;
    Ok(Json(detail(&state, &workspace).await?))
}

/// Says how much a workspace may have; who administers the server does. What it has more stays.
#[utoipa::path(put, path = "/api/v1/workspaces/{workspace}/quota", tag = "workspaces", request_body = NewQuota,
    params(("workspace" = String, Path, description = "The name")),
    responses((status = 200, body = WorkspaceDetail), (status = "4XX", body = Problem)))]
pub(super) async fn set_quota(
    Shared(state): Shared<Arc<State>>,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(wish): input::Json<NewQuota>,
) -> Result<Json<WorkspaceDetail>, ApiError> {
    let workspace = known(&state, &name)?;
    let said = quotas::said(&wish)?;
    if said.is_empty() {
        let detail = "name at least one of agents, instances, calls_waiting, calls_per_day, keys, users, stored_bytes";
        return Err(ApiError::new(Code::InvalidSpec, detail));
    }
    state.quotas.said.set(&by, &workspace, &said).await?;
    Ok(Json(detail(&state, &workspace).await?))
}

/// Removes the workspace of who asks, with all that is left in it. It has no agents any more.
#[utoipa::path(delete, path = "/api/v1/workspaces/{workspace}", tag = "workspaces",
    params(("workspace" = String, Path, description = "The name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let workspace = &asker.principal.workspace;
    if name != workspace.as_str() {
        // Of another one nothing is told, whether there is one or not.
        return Err(IdentityError::NoWorkspace(name.chars().take(63).collect()).into());
    }
    let agents = state.runtime.owners(workspace).await?.len();
    if agents > 0 {
        return Err(in_use(agents).into());
    }
    state.tenants.remove(&by, workspace).await?;
    // From here on nobody reads its secrets, wherever a copy lies.
    state.vault.forget_workspace(workspace).await?;
    state.keys.read().await?;
    Ok(StatusCode::NO_CONTENT)
}
