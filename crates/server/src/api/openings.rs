//! Openings of lock files, as who opens them tells of them.

use std::sync::Arc;

use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{LockOpening, Problem};
use skep_core::Code;
use skep_store::{Change, StoreError};

use super::input::{self, Caller, Ordered};
use crate::problem::ApiError;
use crate::state::State;

/// Characters of a command's name.
const MOST_COMMAND: usize = 40;

/// Writes down that somebody opens a lock file, before they do.
#[utoipa::path(post, path = "/api/v1/lock-openings", tag = "secrets", request_body = LockOpening,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn tell(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    input::Json(opening): input::Json<LockOpening>,
) -> Result<StatusCode, ApiError> {
    let hex = |it: &str| it.len() == 32 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = |it: &str| {
        it.len() <= MOST_COMMAND
            && it
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    if !hex(&opening.agent) || !word(&opening.command) {
        let detail = "`agent` is the id in a lock file, 32 hexadecimal digits, and `command` a lower-case word";
        return Err(ApiError::new(Code::InvalidSpec, detail));
    }
    let written: Result<(), StoreError> = state
        .db
        .write(move |unit| {
            let now = unit.now();
            let what = format!("epoch {}, by `{}`", opening.epoch, opening.command);
            let change = Change {
                action: Some("lock:open"),
                resource: ("Lock", &opening.agent),
                what: &what,
                hash: None,
            };
            by.did(&mut unit.scope(&workspace), &change, now)
        })
        .await;
    written?;
    Ok(StatusCode::NO_CONTENT)
}
