//! API keys of the workspace.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{ApiKey, CreatedApiKey, NewApiKey, Page, Problem, RotateApiKey};
use skep_core::{Code, KeyId, Timestamp, units};
use skep_guard::Scopes;
use skep_guard::keys::{Key, KeyError, NewKey};

use super::input::{self, Caller, Ordered, Path};
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::quotas;
use crate::state::State;

/// For how long a key that is replaced still counts, unless it is said.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => Self::Store(error),
            KeyError::NotFound(_) => Self::new(Code::KeyNotFound, error.to_string()),
            KeyError::Invalid { .. } => Self::new(Code::InvalidSpec, error.to_string()),
            KeyError::TooMuch(_) => Self::new(Code::Forbidden, error.to_string()),
            KeyError::Last => Self::new(Code::KeyState, error.to_string()),
            KeyError::Random(why) => {
                tracing::error!(why, "no random bytes");
                Self::new(Code::Internal, Code::Internal.title())
            }
        }
    }
}

fn shown(key: &Key) -> ApiKey {
    ApiKey {
        id: key.id.to_string(),
        name: key.name.clone(),
        role: key.role.to_string(),
        scopes: key.scopes.iter().map(str::to_owned).collect(),
        created_at: key.created_at.to_string(),
        created_by: key.created_by.clone(),
        expires_at: key.expires_at.map(|at| at.to_string()),
        used_at: key.used_at.map(|at| at.to_string()),
        rate: key.rate.map(|rate| rate.to_string()),
    }
}

pub(super) fn duration(field: &str, text: &str) -> Result<Duration, ApiError> {
    units::parse_duration(text).ok_or_else(|| {
        let detail = format!("`{field}`: `{text}` is no duration such as 90d");
        ApiError::new(Code::InvalidSpec, detail)
    })
}

fn end(now: Timestamp, after: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let after = after.map(|text| duration("expires_in", text)).transpose()?;
    Ok(after.map(|after| now.plus(after)))
}

/// A key from the path. One that is malformed is one that does not exist.
fn id(text: &str) -> Result<KeyId, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        ApiError::new(Code::KeyNotFound, format!("there is no key `{shown}`"))
    })
}

/// The keys of the workspace, oldest first.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys",
    responses((status = 200, body = Page<ApiKey>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Json<Page<ApiKey>> {
    let items = state.keys.list(&workspace).iter().map(shown).collect();
    Json(Page { items, next: None })
}

/// Makes a key, which gets no more than the one that makes it has. Its text is told once.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = NewApiKey,
    responses((status = 201, body = CreatedApiKey), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(wanted): input::Json<NewApiKey>,
) -> Result<(StatusCode, Json<CreatedApiKey>), ApiError> {
    let role = wanted.role.parse();
    let rate = wanted.rate.as_deref().map(str::parse);
    let wrong = |why: String| ApiError::new(Code::InvalidSpec, format!("`rate`: {why}"));
    let scopes = match (wanted.canary, wanted.scopes) {
        (true, None) => Scopes::canary(),
        (true, Some(_)) => {
            let detail = "`scopes`: a canary may do nothing; leave them out";
            return Err(ApiError::new(Code::InvalidSpec, detail));
        }
        (false, scopes) => scopes.map_or_else(Scopes::all, Scopes::new),
    };
    if scopes.is_canary() && !wanted.canary {
        let detail =
            "`scopes`: `canary` is no scope; send `canary: true` for a key that may do nothing";
        return Err(ApiError::new(Code::InvalidSpec, detail));
    }
    let new = NewKey {
        name: wanted.name,
        role: role
            .map_err(|why: String| ApiError::new(Code::InvalidSpec, format!("`role`: {why}")))?,
        scopes,
        expires_at: end(state.db.clock().now(), wanted.expires_in.as_deref())?,
        rate: rate.transpose().map_err(wrong)?,
    };
    let _one = state.quotas.turn.lock().await;
    quotas::may_have_key(&state, &asker.principal.workspace, 0)?;
    let (key, secret) = state.keys.create(&by, &asker.principal, new).await?;
    let key = shown(&key);
    Ok((StatusCode::CREATED, Json(CreatedApiKey { key, secret })))
}

/// Makes a key that takes the place of another, which counts a little longer.
#[utoipa::path(post, path = "/api/v1/keys/{key}/rotate", tag = "keys", request_body = RotateApiKey,
    params(("key" = String, Path, description = "`key_…`")),
    responses((status = 201, body = CreatedApiKey), (status = "4XX", body = Problem)))]
pub(super) async fn rotate(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(key): Path<String>,
    input::Json(how): input::Json<RotateApiKey>,
) -> Result<(StatusCode, Json<CreatedApiKey>), ApiError> {
    let overlap = how.overlap.as_deref().map(|text| duration("overlap", text));
    let overlap = overlap.transpose()?.unwrap_or(OVERLAP);
    let end = end(state.db.clock().now(), how.expires_in.as_deref())?;
    let _one = state.quotas.turn.lock().await;
    // The old one counts for a while beside it.
    quotas::may_have_key(&state, &asker.principal.workspace, 1)?;
    let made = state
        .keys
        .rotate(&by, &asker.principal, id(&key)?, overlap, end)
        .await?;
    let (key, secret) = (shown(&made.0), made.1);
    Ok((StatusCode::CREATED, Json(CreatedApiKey { key, secret })))
}

/// Ends a key at once.
#[utoipa::path(delete, path = "/api/v1/keys/{key}", tag = "keys",
    params(("key" = String, Path, description = "`key_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(key): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = id(&key)?;
    state.keys.revoke(&by, &workspace, id).await?;
    crate::vault::forget_holder(&state, &by, &workspace, &format!("key:{id}")).await?;
    Ok(StatusCode::NO_CONTENT)
}
