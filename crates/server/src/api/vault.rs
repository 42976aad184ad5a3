//! The vault itself: open or sealed, its ways in, and rotations of its keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{
    CreatedSeal, KeyRotation, NewRootRotation, NewSeal, NewSecretRotation, Page, Problem, Unseal,
    VaultSeal, VaultStatus,
};
use skep_core::{Code, RotationId, Workspace};
use skep_crypto::passphrase::Passphrase;
use skep_vault::rotation::Level;
use skep_vault::seal::{Opening, Seal, SealKey, SealKind};
use skep_vault::{Rotation, Status, VaultError};

use super::input::{self, Caller, Ordered, Path};
use super::keys::duration;
use crate::problem::ApiError;
use crate::state::State;
use crate::ways::Tried;

/// For how long one can go back after a rotation, unless it is said.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

fn seal(seal: &Seal) -> VaultSeal {
    VaultSeal {
        id: seal.id,
        kind: seal.kind.to_string(),
        name: seal.name.clone(),
        kept_by: seal.kept_by.clone(),
        created_at: seal.made_at.to_string(),
    }
}

fn status_of(status: &Status) -> VaultStatus {
    let state = match (status.open, status.seals.is_empty()) {
        (true, _) => "open",
        (false, false) => "sealed",
        (false, true) => "new",
    };
    VaultStatus {
        state: state.to_owned(),
        seals: status.seals.iter().map(seal).collect(),
        root_key: status.root,
    }
}

fn passphrase(text: String) -> Result<Opening, ApiError> {
    let passphrase = Passphrase::new(text);
    passphrase
        .map(Opening::Passphrase)
        .map_err(|error| ApiError::new(Code::InvalidSpec, format!("`passphrase`: {error}")))
}

/// How the vault is.
#[utoipa::path(get, path = "/api/v1/vault", tag = "vault",
    responses((status = 200, body = VaultStatus), (status = "4XX", body = Problem)))]
pub(super) async fn status(
    Shared(state): Shared<Arc<State>>,
) -> Result<Json<VaultStatus>, ApiError> {
    Ok(Json(status_of(&state.vault.status().await?)))
}

/// Seals the vault on this server: its keys leave the memory.
#[utoipa::path(post, path = "/api/v1/vault/seal", tag = "vault",
    responses((status = 200, body = VaultStatus), (status = "4XX", body = Problem)))]
pub(super) async fn close(
    Shared(state): Shared<Arc<State>>,
    Ordered(by): Ordered,
) -> Result<Json<VaultStatus>, ApiError> {
    // Nothing opens by itself what somebody sealed.
    state.ways.rest();
    state.vault.seal(&by).await?;
    // Nor by a try that had begun.
    state.ways.settled().await;
    if state.vault.is_open() {
        state.ways.rest();
        state.vault.seal(&by).await?;
    }
    Ok(Json(status_of(&state.vault.status().await?)))
}

/// Opens the vault with what the configuration names.
async fn configured(state: &State) -> Result<(), ApiError> {
    state.ways.forgive();
    match state.ways.open(&state.vault).await {
        Ok(Tried::Open) => {
            state.vault_work.notify_one();
            Ok(())
        }
        Ok(Tried::Sealed(error)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the vault stays sealed");
            Err(ApiError::new(Code::SealKeeper, error.to_string()))
        }
    }
}

/// The key of a token or a KMS that the configuration names.
fn keeper(state: &State, kind: &str) -> Result<Opening, ApiError> {
    let (kind, setting) = match kind {
        "pkcs11" => (SealKind::Pkcs11, "seal.pkcs11"),
        "kms" => (SealKind::Kms, "seal.kms"),
        _ => {
            let detail = "`kept_by`: write pkcs11 or kms";
            return Err(ApiError::new(Code::InvalidSpec, detail));
        }
    };
    state.ways.keeper(kind).ok_or_else(|| {
        let detail = format!(
            "the server's configuration names no such key: set `{setting}` and start it again"
        );
        ApiError::new(Code::InvalidSpec, detail)
    })
}

/// Opens the vault on this server.
#[utoipa::path(post, path = "/api/v1/vault/unseal", tag = "vault", request_body = Unseal,
    responses((status = 200, body = VaultStatus), (status = "4XX", body = Problem)))]
pub(super) async fn unseal(
    Shared(state): Shared<Arc<State>>,
    input::Json(with): input::Json<Unseal>,
) -> Result<Json<VaultStatus>, ApiError> {
    let opening = match (with.key, with.passphrase, with.configured) {
        (Some(key), None, false) => Opening::Key(SealKey::new(&key)?),
        (None, Some(text), false) => passphrase(text)?,
        (None, None, true) => {
            configured(&state).await?;
            return Ok(Json(status_of(&state.vault.status().await?)));
        }
        _ => {
            let detail = "send one of `key`, `passphrase` and `configured`";
            return Err(ApiError::new(Code::InvalidSpec, detail));
        }
    };
    state.vault.unseal(opening).await?;
    state.ways.rest();
    state.vault_work.notify_one();
    Ok(Json(status_of(&state.vault.status().await?)))
}

/// Adds a way into the vault; the first one sets it up.
#[utoipa::path(post, path = "/api/v1/vault/seals", tag = "vault", request_body = NewSeal,
    responses((status = 201, body = CreatedSeal), (status = "4XX", body = Problem)))]
pub(super) async fn add(
    Shared(state): Shared<Arc<State>>,
    Ordered(by): Ordered,
    input::Json(new): input::Json<NewSeal>,
) -> Result<(StatusCode, Json<CreatedSeal>), ApiError> {
    let (opening, key) = match (new.passphrase, new.kept_by) {
        (Some(text), None) => (passphrase(text)?, None),
        (None, Some(kind)) => (keeper(&state, &kind)?, None),
        (Some(_), Some(_)) => {
            let detail = "send one of `passphrase` and `kept_by`";
            return Err(ApiError::new(Code::InvalidSpec, detail));
        }
        (None, None) => {
            let key = SealKey::random()?;
            let text = key.text().to_owned();
            (Opening::Key(key), Some(text))
        }
    };
    let made = if state.vault.is_set_up().await? {
        state.vault.add_seal(&by, opening, &new.name).await?
    } else {
        state.vault.set_up(&by, opening, &new.name).await?;
        let mut seals = state.vault.status().await?.seals;
        seals.pop().ok_or(VaultError::Sealed)?
    };
    let made = CreatedSeal {
        seal: seal(&made),
        key,
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Takes a way into the vault away.
#[utoipa::path(delete, path = "/api/v1/vault/seals/{seal}", tag = "vault",
    params(("seal" = i64, Path, description = "Its number")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Ordered(by): Ordered,
    Path(seal): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = seal
        .parse()
        .map_err(|_| ApiError::new(Code::VaultNotFound, "there is no such seal"))?;
    state.vault.remove_seal(&by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(rotation: &Rotation) -> KeyRotation {
    KeyRotation {
        id: rotation.id.to_string(),
        level: rotation.level.to_string(),
        phase: rotation.progress.phase.as_str().to_owned(),
        old: rotation.old,
        new: rotation.new,
        done: rotation.done,
        started_at: rotation.started_at.to_string(),
        keeps_until: rotation.progress.until.map(|at| at.to_string()),
        ended_at: rotation.ended_at.map(|at| at.to_string()),
    }
}

fn keep(text: Option<&str>) -> Result<Duration, ApiError> {
    text.map_or(Ok(KEEP), |text| duration("keep", text))
}

/// A rotation of the root key (no workspace), or of this workspace's keys. Another's does not exist.
async fn found(state: &State, id: &str, of: Option<&Workspace>) -> Result<RotationId, ApiError> {
    let missing = || ApiError::new(Code::VaultNotFound, "there is no such rotation");
    let id = id.parse().map_err(|_| missing())?;
    let rotation = state.vault.rotation(id).await?;
    match rotation.workspace.as_ref() == of {
        true => Ok(id),
        false => Err(missing()),
    }
}

async fn rotations(
    state: &State,
    of: Option<&Workspace>,
) -> Result<Json<Page<KeyRotation>>, ApiError> {
    let all = state.vault.rotations(of).await?;
    let items = all.iter().map(shown).collect();
    Ok(Json(Page { items, next: None }))
}

/// Rotations of the root key, newest first.
#[utoipa::path(get, path = "/api/v1/vault/rotations", tag = "vault",
    responses((status = 200, body = Page<KeyRotation>), (status = "4XX", body = Problem)))]
pub(super) async fn root_rotations(
    Shared(state): Shared<Arc<State>>,
) -> Result<Json<Page<KeyRotation>>, ApiError> {
    rotations(&state, None).await
}

/// Begins to replace the root key, while it is used.
#[utoipa::path(post, path = "/api/v1/vault/rotations", tag = "vault", request_body = NewRootRotation,
    responses((status = 202, body = KeyRotation), (status = "4XX", body = Problem)))]
pub(super) async fn rotate_root(
    Shared(state): Shared<Arc<State>>,
    Ordered(by): Ordered,
    input::Json(new): input::Json<NewRootRotation>,
) -> Result<(StatusCode, Json<KeyRotation>), ApiError> {
    let keep = keep(new.keep.as_deref())?;
    let made = state.vault.rotate(&by, (Level::Root, None), keep).await?;
    state.vault_work.notify_one();
    Ok((StatusCode::ACCEPTED, Json(shown(&made))))
}

/// Goes back to the root key of before, as long as it is kept.
#[utoipa::path(post, path = "/api/v1/vault/rotations/{rotation}/rollback", tag = "vault",
    params(("rotation" = String, Path, description = "`rot_…`")),
    responses((status = 200, body = KeyRotation), (status = "4XX", body = Problem)))]
pub(super) async fn roll_back_root(
    Shared(state): Shared<Arc<State>>,
    Ordered(by): Ordered,
    Path(rotation): Path<String>,
) -> Result<Json<KeyRotation>, ApiError> {
    let id = found(&state, &rotation, None).await?;
    let now = state.vault.roll_back(&by, id).await?;
    state.vault_work.notify_one();
    Ok(Json(shown(&now)))
}

/// Destroys what the old root key wrapped, now.
#[utoipa::path(post, path = "/api/v1/vault/rotations/{rotation}/finish", tag = "vault",
    params(("rotation" = String, Path, description = "`rot_…`")),
    responses((status = 200, body = KeyRotation), (status = "4XX", body = Problem)))]
pub(super) async fn finish_root(
    Shared(state): Shared<Arc<State>>,
    Ordered(by): Ordered,
    Path(rotation): Path<String>,
) -> Result<Json<KeyRotation>, ApiError> {
    let id = found(&state, &rotation, None).await?;
    let now = state.vault.finish(&by, id).await?;
    state.vault_work.notify_one();
    Ok(Json(shown(&now)))
}

/// Rotations of the workspace's keys, newest first.
#[utoipa::path(get, path = "/api/v1/secret-rotations", tag = "vault",
    responses((status = 200, body = Page<KeyRotation>), (status = "4XX", body = Problem)))]
pub(super) async fn own_rotations(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<KeyRotation>>, ApiError> {
    rotations(&state, Some(&workspace)).await
}

/// Begins to replace the workspace's key, or the keys of its values, while they are used.
#[utoipa::path(post, path = "/api/v1/secret-rotations", tag = "vault", request_body = NewSecretRotation,
    responses((status = 202, body = KeyRotation), (status = "4XX", body = Problem)))]
pub(super) async fn rotate(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    input::Json(new): input::Json<NewSecretRotation>,
) -> Result<(StatusCode, Json<KeyRotation>), ApiError> {
    let level = match new.level.parse() {
        Ok(level @ (Level::Workspace | Level::Data)) => level,
        _ => {
            let detail = "`level`: write workspace or data";
            return Err(ApiError::new(Code::InvalidSpec, detail));
        }
    };
    let keep = keep(new.keep.as_deref())?;
    let made = state
        .vault
        .rotate(&by, (level, Some(&workspace)), keep)
        .await?;
    state.vault_work.notify_one();
    Ok((StatusCode::ACCEPTED, Json(shown(&made))))
}

/// Goes back to the keys of before, as long as they are kept.
#[utoipa::path(post, path = "/api/v1/secret-rotations/{rotation}/rollback", tag = "vault",
    params(("rotation" = String, Path, description = "`rot_…`")),
    responses((status = 200, body = KeyRotation), (status = "4XX", body = Problem)))]
pub(super) async fn roll_back(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(rotation): Path<String>,
) -> Result<Json<KeyRotation>, ApiError> {
    let id = found(&state, &rotation, Some(&workspace)).await?;
    let now = state.vault.roll_back(&by, id).await?;
    state.vault_work.notify_one();
    Ok(Json(shown(&now)))
}

/// Destroys what the old keys wrapped, now.
#[utoipa::path(post, path = "/api/v1/secret-rotations/{rotation}/finish", tag = "vault",
    params(("rotation" = String, Path, description = "`rot_…`")),
    responses((status = 200, body = KeyRotation), (status = "4XX", body = Problem)))]
pub(super) async fn finish(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(rotation): Path<String>,
) -> Result<Json<KeyRotation>, ApiError> {
    let id = found(&state, &rotation, Some(&workspace)).await?;
    let now = state.vault.finish(&by, id).await?;
    state.vault_work.notify_one();
    Ok(Json(shown(&now)))
}
