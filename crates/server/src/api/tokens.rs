//! Agents' tokens: a narrower and shorter one of one's own, to hand to another agent.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{NarrowerToken, Problem, Token};
use skep_core::Code;
use skep_guard::tokens::{LASTS, TokenError};

use super::input;
use super::keys::duration;
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::state::State;

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Wider(_) => Code::Forbidden,
            TokenError::Unknown(_) | TokenError::Longer | TokenError::Scopes => Code::InvalidSpec,
        };
        Self::new(code, error.to_string())
    }
}

/// Makes a token that is no wider and no longer than the one that asks, which is an agent's.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NarrowerToken,
    responses((status = 201, body = Token), (status = "4XX", body = Problem)))]
pub(super) async fn narrow(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    input::Json(wish): input::Json<NarrowerToken>,
) -> Result<(StatusCode, Json<Token>), ApiError> {
    let only = || {
        ApiError::new(
            Code::Forbidden,
            "only an agent, by its own token, makes one",
        )
    };
    let own = asker.token.as_deref().ok_or_else(only)?;
    let lasts = wish.expires_in.as_deref();
    let lasts = lasts.map(|text| duration("expires_in", text)).transpose()?;
    let now = state.db.clock().now();
    let lasts = lasts.unwrap_or(LASTS);
    let (token, end) = state.tokens.narrower(own, wish.scopes, lasts, now)?;
    let expires_at = end.to_string();
    Ok((StatusCode::CREATED, Json(Token { token, expires_at })))
}
