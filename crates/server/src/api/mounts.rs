//! Stores that are mounted in the vault of the workspace.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{MountedSecrets, NewSecretMount, Page, Problem, SecretMount};
use skep_core::{Code, MountId, PublicError as _, Workspace, units};
use skep_vault::{Mount, NewMount, VaultError, Which};

use super::input::{self, Caller, Ordered, Path};
use super::keys::duration;
use crate::access::SECRET_USE;
use crate::gate::{self, Asker};
use crate::problem::ApiError;
use crate::state::State;
use crate::vault::{holder, known};

/// Unless it is said.
const CACHE: Duration = Duration::from_secs(60);
const STALE: Duration = Duration::from_secs(3600);

async fn shown(state: &State, of: &Workspace, mount: &Mount) -> SecretMount {
    let with = state.vault.find(of, &Which::Id(mount.of.with)).await;
    SecretMount {
        id: mount.id.to_string(),
        path: mount.of.path.to_string(),
        address: mount.of.address.clone(),
        // Its id when it has been removed.
        with: with.map_or(mount.of.with.to_string(), |it| it.about.name.to_string()),
        cache: units::format_duration(mount.of.cache),
        stale: units::format_duration(mount.of.stale),
        created_at: mount.made_at.to_string(),
        created_by: mount.made_by.clone(),
    }
}

async fn meant(state: &State, of: &Workspace, text: &str) -> Result<Mount, ApiError> {
    let id: Result<MountId, _> = text.parse();
    let id = id.map_err(|_| ApiError::new(Code::VaultNotFound, "there is no such mount"))?;
    Ok(state.mounts.find(of, id).await?)
}

/// The stores that are mounted, oldest first.
#[utoipa::path(get, path = "/api/v1/secret-mounts", tag = "secrets",
    responses((status = 200, body = Page<SecretMount>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<SecretMount>>, ApiError> {
    let mut items = Vec::new();
    for mount in state.vault.mounts(&workspace).await? {
        items.push(shown(&state, &workspace, &mount).await);
    }
    Ok(Json(Page { items, next: None }))
}

/// Mounts a store below a path. It is asked for what it has first; over 1,000 secrets come as they are used.
#[utoipa::path(post, path = "/api/v1/secret-mounts", tag = "secrets", request_body = NewSecretMount,
    responses((status = 201, body = MountedSecrets), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(new): input::Json<NewSecretMount>,
) -> Result<(StatusCode, Json<MountedSecrets>), ApiError> {
    let (of, who) = (&asker.principal.workspace, holder(&asker.principal));
    let with = known(&state.vault, of, &new.with, &who).await?;
    let with = match with.filter(|it| it.is_here()) {
        Some(with) if gate::may_known(&state, &asker, &SECRET_USE, &with).await? => with,
        _ if !state.vault.is_open() => return Err(VaultError::Sealed.into()),
        // Whether it is there is not told to who may not know.
        _ => {
            let detail = format!(
                "`with` names the secret `{}`, which is not there, or on which you may not do `secret:use`",
                new.with
            );
            return Err(ApiError::new(Code::InvalidSpec, detail));
        }
    };
    let lasts =
        |field, text: Option<&str>, default| text.map_or(Ok(default), |text| duration(field, text));
    let wanted = NewMount {
        path: new.path.parse()?,
        address: new.address,
        with: with.secret.id,
        cache: lasts("cache", new.cache.as_deref(), CACHE)?,
        stale: lasts("stale", new.stale.as_deref(), STALE)?,
    };
    wanted.check()?;
    let all = state.mounts.probe(of, &wanted).await?;
    let mount = state.vault.mount(&by, of, &who, wanted).await?;
    let skipped = all.odd;
    let secrets = match state.mounts.keep(of, &mount, all).await {
        Ok(count) => count,
        Err(error) => {
            // It is mounted; what it has comes as it is used.
            tracing::warn!(mount = %mount.id, error = error.detail(), "what it has is not kept yet");
            0
        }
    };
    let mount = shown(&state, of, &mount).await;
    let mounted = MountedSecrets {
        mount,
        secrets,
        skipped,
    };
    Ok((StatusCode::CREATED, Json(mounted)))
}

/// Asks a mounted store for all that it has, now.
#[utoipa::path(post, path = "/api/v1/secret-mounts/{mount}/refresh", tag = "secrets",
    params(("mount" = String, Path, description = "`mnt_…`")),
    responses((status = 200, body = MountedSecrets), (status = "4XX", body = Problem)))]
pub(super) async fn refresh(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(mount): Path<String>,
) -> Result<Json<MountedSecrets>, ApiError> {
    let mount = meant(&state, &workspace, &mount).await?;
    let (secrets, skipped) = state.mounts.refresh(&workspace, &mount).await?;
    let mount = shown(&state, &workspace, &mount).await;
    Ok(Json(MountedSecrets {
        mount,
        secrets,
        skipped,
    }))
}

/// Takes a mount away, and what was read there, with its leases and shares. In the store nothing is done.
#[utoipa::path(delete, path = "/api/v1/secret-mounts/{mount}", tag = "secrets",
    params(("mount" = String, Path, description = "`mnt_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(mount): Path<String>,
) -> Result<StatusCode, ApiError> {
    let mount = meant(&state, &workspace, &mount).await?;
    state.vault.unmount(&by, &workspace, mount.id).await?;
    state.mounts.forget(mount.id);
    Ok(StatusCode::NO_CONTENT)
}
