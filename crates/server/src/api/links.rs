//! Accounts at providers that who asks comes in by.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{DropLink, Link, NewLink, Page, Problem};
use skep_core::UserId;
use skep_guard::identity::{self, IdentityError};

use super::input::{self, Caller, Ordered, Path};
use super::me::person;
use super::providers::proven;
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::state::State;

fn shown(state: &State, link: &identity::Link) -> Link {
    let all = state.logins.now();
    let mut all = all.iter().flat_map(|it| it.all.iter());
    let of = all.find(|it| it.provider.issuer == link.issuer);
    Link {
        id: link.id.to_string(),
        provider: of.map(|it| it.provider.name.clone()),
        issuer: link.issuer.clone(),
        email: link.email.clone(),
        created_at: link.created_at.to_string(),
        used_at: link.used_at.to_string(),
    }
}

/// The accounts that who asks comes in by, oldest first.
#[utoipa::path(get, path = "/api/v1/me/links", tag = "me",
    responses((status = 200, body = Page<Link>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
) -> Result<Json<Page<Link>>, ApiError> {
    let own: UserId = person(&asker)?.user;
    let all = state.users.links(own).await?;
    let items = all.iter().map(|it| shown(&state, it)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Links an account that was shown. Wants the password, or a login that has just been.
#[utoipa::path(post, path = "/api/v1/me/links", tag = "me", request_body = NewLink,
    responses((status = 201, body = Link), (status = "4XX", body = Problem)))]
pub(super) async fn add(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(wish): input::Json<NewLink>,
) -> Result<(StatusCode, Json<Link>), ApiError> {
    let own = person(&asker)?;
    let asked = state
        .users
        .ask_again(own.user, wish.password.as_deref(), own.began);
    asked.await?;
    let (proof, _) = proven(&state, &wish.proof).await?;
    let link = state
        .users
        .link((&by, &workspace), (own.user, own.hash), proof)
        .await?;
    Ok((StatusCode::CREATED, Json(shown(&state, &link))))
}

/// Takes a link away, and ends the sessions that began by it. Wants the password, or a login that has just been.
#[utoipa::path(post, path = "/api/v1/me/links/{link}/drop", tag = "me", request_body = DropLink,
    params(("link" = String, Path, description = "`lnk_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    Path(link): Path<String>,
    input::Json(wish): input::Json<DropLink>,
) -> Result<StatusCode, ApiError> {
    let own = person(&asker)?;
    let none = || IdentityError::NoLink(link.chars().take(64).collect());
    let id = link.parse().map_err(|_| none())?;
    let asked = state
        .users
        .ask_again(own.user, wish.password.as_deref(), own.began);
    asked.await?;
    state.users.unlink((&by, &workspace), own.user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
