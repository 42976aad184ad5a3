//! What looked like an attack: listed, shown, acknowledged.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use serde::Deserialize;
use skep_api::{Detection, Page, Problem};
use skep_core::{Code, DetectionId};
use skep_guard::threats::rows::{self, Filter};
use utoipa::IntoParams;

use super::input::{Caller, Ordered, Path, Query, cursor, limit, page, since};
use crate::problem::ApiError;
use crate::state::State;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DetectionsQuery {
    /// Where the page begins: `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// Of this kind: `denials`, `failed-authentications`, `rate`, `networks`, `new-address`, `canary`, `patterns`,
    /// `missing`, `foreign`, `injection`.
    kind: Option<String>,
    /// At least as bad as this: `low`, `medium`, `high`, `critical`.
    severity: Option<String>,
    /// From this moment on (RFC 3339), or of this last time (`10m`).
    since: Option<String>,
    /// `open`, or `acknowledged`.
    state: Option<String>,
}

fn word<T>(
    name: &str,
    text: Option<&str>,
    of: fn(&str) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let shown: String = text.chars().take(64).collect();
    let wrong = || ApiError::new(Code::BadRequest, format!("query: `{shown}` is no {name}"));
    of(text).ok_or_else(wrong).map(Some)
}

fn shown(one: rows::Detection) -> Detection {
    Detection {
        id: one.id.to_string(),
        time: one.at.to_string(),
        kind: one.kind.as_str().to_owned(),
        severity: one.severity.as_str().to_owned(),
        subject_kind: one.subject_kind,
        subject: one.subject,
        detail: one.detail,
        acknowledged_at: one.acknowledged_at.map(|at| at.to_string()),
    }
}

fn id(text: &str) -> Result<DetectionId, ApiError> {
    text.parse().map_err(|_| none(text))
}

fn none(text: &str) -> ApiError {
    let shown: String = text.chars().take(64).collect();
    ApiError::new(
        Code::DetectionNotFound,
        format!("there is no detection `{shown}`"),
    )
}

/// What looked like an attack, newest first.
#[utoipa::path(get, path = "/api/v1/security/detections", tag = "security", params(DetectionsQuery),
    responses((status = 200, body = Page<Detection>), (status = "4XX", body = Problem)))]
pub(super) async fn detections(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<DetectionsQuery>,
) -> Result<Json<Page<Detection>>, ApiError> {
    let filter = Filter {
        kind: word("kind", query.kind.as_deref(), |it| it.parse().ok())?,
        severity: word("severity", query.severity.as_deref(), |it| it.parse().ok())?,
        since: since(query.since.as_deref(), state.db.clock().now())?,
        acknowledged: word("state", query.state.as_deref(), |it| match it {
            "open" => Some(false),
            "acknowledged" => Some(true),
            _ => None,
        })?,
    };
    let (before, limit) = (cursor(query.cursor.as_deref())?, limit(query.limit)?);
    let most = limit as usize + 1;
    let found = rows::list(&state.db, &workspace, filter, before, most).await?;
    let found = found.into_iter().map(shown).collect();
    Ok(Json(page(found, limit, |one: &Detection| one.id.clone())))
}

/// A detection.
#[utoipa::path(get, path = "/api/v1/security/detections/{detection}", tag = "security",
    params(("detection" = String, Path, description = "`det_…`")),
    responses((status = 200, body = Detection), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(detection): Path<String>,
) -> Result<Json<Detection>, ApiError> {
    let found = rows::show(&state.db, &workspace, id(&detection)?).await?;
    found
        .map(|one| Json(shown(one)))
        .ok_or_else(|| none(&detection))
}

/// Says that somebody has seen a detection. The first time counts.
#[utoipa::path(post, path = "/api/v1/security/detections/{detection}/acknowledge", tag = "security",
    params(("detection" = String, Path, description = "`det_…`")),
    responses((status = 200, body = Detection), (status = "4XX", body = Problem)))]
pub(super) async fn acknowledge(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(detection): Path<String>,
) -> Result<Json<Detection>, ApiError> {
    let found = rows::acknowledge(&state.db, by, &workspace, id(&detection)?).await?;
    found
        .map(|one| Json(shown(one)))
        .ok_or_else(|| none(&detection))
}
