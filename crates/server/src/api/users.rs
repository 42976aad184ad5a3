//! People of the workspace, and invitations to it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State as Shared};
use http::StatusCode;
use skep_api::{
    AcceptInvitation, CreatedInvitation, Invitation, NewInvitation, NewRole, Page, Problem, User,
};
use skep_core::{Code, UserId};
use skep_guard::Role;
use skep_guard::identity::{self, Accepted, INVITED_FOR, IdentityError, Member};
use skep_store::By;

use super::input::{self, Caller, Ordered, Path};
use super::keys::duration;
use super::me::act_of;
use super::providers::proven;
use crate::access::JOIN;
use crate::cookie::Visitor;
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::quotas;
use crate::state::State;

fn shown(member: &Member) -> User {
    let Member { user, role, since } = member;
    User {
        id: user.id.to_string(),
        email: user.email.clone(),
        name: user.name.clone(),
        role: role.to_string(),
        second_factor: user.second_factor,
        since: since.to_string(),
    }
}

fn invitation(it: &identity::Invitation) -> Invitation {
    Invitation {
        id: it.id.to_string(),
        workspace: it.workspace.to_string(),
        email: it.email.clone(),
        role: it.role.to_string(),
        invited_by: it.invited_by.clone(),
        created_at: it.created_at.to_string(),
        expires_at: it.expires_at.to_string(),
    }
}

/// A person from the path. One that is malformed is one that does not exist.
fn id(text: &str) -> Result<UserId, ApiError> {
    let none = || IdentityError::NoUser(text.chars().take(64).collect());
    Ok(text.parse().map_err(|_| none())?)
}

fn role(text: &str) -> Result<Role, ApiError> {
    let wrong = |why: String| ApiError::new(Code::InvalidSpec, format!("`role`: {why}"));
    text.parse().map_err(wrong)
}

/// The people of the workspace, by address.
#[utoipa::path(get, path = "/api/v1/users", tag = "users",
    responses((status = 200, body = Page<User>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<User>>, ApiError> {
    let all = state.users.members(&workspace).await?;
    let items = all.iter().map(shown).collect();
    Ok(Json(Page { items, next: None }))
}

/// Gives somebody another role.
#[utoipa::path(put, path = "/api/v1/users/{user}/role", tag = "users", request_body = NewRole,
    params(("user" = String, Path, description = "`usr_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn set_role(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(user): Path<String>,
    input::Json(wish): input::Json<NewRole>,
) -> Result<StatusCode, ApiError> {
    let (id, role) = (id(&user)?, role(&wish.role)?);
    state
        .users
        .set_role(&by, &asker.principal, id, role)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes somebody out of the workspace.
#[utoipa::path(delete, path = "/api/v1/users/{user}", tag = "users",
    params(("user" = String, Path, description = "`usr_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(user): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = id(&user)?;
    state.users.remove(&by, &asker.principal, id).await?;
    let workspace = &asker.principal.workspace;
    crate::vault::forget_holder(&state, &by, workspace, &format!("user:{id}")).await?;
    let all = state.tenants.all().all();
    state.users.forget_if_homeless(id, &all).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The open invitations, oldest first.
#[utoipa::path(get, path = "/api/v1/invitations", tag = "users",
    responses((status = 200, body = Page<Invitation>), (status = "4XX", body = Problem)))]
pub(super) async fn invitations(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<Invitation>>, ApiError> {
    let all = state.users.invitations(&workspace).await?;
    let items = all.iter().map(invitation).collect();
    Ok(Json(Page { items, next: None }))
}

/// Invites somebody. The text to hand over is told once; an earlier invitation of the address ends.
#[utoipa::path(post, path = "/api/v1/invitations", tag = "users", request_body = NewInvitation,
    responses((status = 201, body = CreatedInvitation), (status = "4XX", body = Problem)))]
pub(super) async fn invite(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(wish): input::Json<NewInvitation>,
) -> Result<(StatusCode, Json<CreatedInvitation>), ApiError> {
    let lasts = wish.expires_in.as_deref();
    let lasts = lasts
        .map(|text| duration("expires_in", text))
        .transpose()?
        .unwrap_or(INVITED_FOR);
    let role = role(&wish.role)?;
    let _one = state.quotas.turn.lock().await;
    quotas::may_have_user(&state, &asker.principal.workspace, &wish.email).await?;
    let made = state
        .users
        .invite(&by, &asker.principal, &wish.email, role, lasts);
    let (made, secret) = made.await?;
    let invitation = invitation(&made);
    Ok((
        StatusCode::CREATED,
        Json(CreatedInvitation { invitation, secret }),
    ))
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/api/v1/invitations/{invitation}", tag = "users",
    params(("invitation" = String, Path, description = "`inv_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn withdraw(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(invitation): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = invitation
        .parse()
        .map_err(|_| IdentityError::NoInvitation)?;
    state.users.withdraw(&by, &workspace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes an invitation: makes an account, or shows that there is one, and joins the workspace. Then log in.
/// Instead of a password an account at a provider counts that has the address which is invited.
#[utoipa::path(post, path = "/api/v1/invitations/accept", tag = "users",
    request_body = AcceptInvitation, security(()),
    responses((status = 201, body = User), (status = "4XX", body = Problem)))]
pub(super) async fn accept(
    Shared(state): Shared<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    input::Json(wish): input::Json<AcceptInvitation>,
) -> Result<(StatusCode, Json<User>), ApiError> {
    let all = state.tenants.all().all();
    let offer = state.users.offer(&wish.secret, &all).await?;
    let workspace = offer.invitation.workspace.clone();
    let act = act_of(&offer.user.to_string(), &workspace, visitor.remote, JOIN);
    let by = By::new(Arc::new(act));
    let user = match &wish.proof {
        Some(shown) => {
            let proven = proven(&state, shown).await?;
            let accepted = state.users.accept_proven(&by, offer, proven, &wish.name);
            accepted.await?
        }
        None => {
            let accepted = Accepted {
                name: wish.name,
                password: wish.password,
                remote: visitor.remote,
            };
            state.users.accept(&by, offer, accepted).await?
        }
    };
    let members = state.users.members(&workspace).await?;
    let member = members.iter().find(|it| it.user.id == user.id);
    let member = member.ok_or_else(|| IdentityError::NoUser(user.id.to_string()))?;
    Ok((StatusCode::CREATED, Json(shown(member))))
}
