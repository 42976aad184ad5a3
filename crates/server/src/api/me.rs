//! Who asks: logging in and out, sessions, password, second factor.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Response};
use http::header::{SET_COOKIE, USER_AGENT};
use http::{HeaderMap, StatusCode};
use skep_api::{
    ConfirmSecondFactor, LoggedIn, Login, Me, NewPassword, Page, Password, Problem, RecoveryCodes,
    SecondFactor, Session,
};
use skep_core::{Code, RequestId, UserId, Workspace};
use skep_guard::identity::{self, IdentityError, Known};
use skep_guard::{Principal, PrincipalKind, Scopes};
use skep_store::By;

use super::input::{self, Caller, Ordered, Path};
use crate::access::LOGIN;
use crate::act::Act;
use crate::cookie::{self, Visitor};
use crate::gate::Asker;
use crate::problem::{ApiError, REQUEST};
use crate::state::State;

fn shown(session: &identity::Session, current: bool) -> Session {
    Session {
        id: session.id.to_string(),
        current,
        created_at: session.created_at.to_string(),
        used_at: session.used_at.to_string(),
        expires_at: session.expires_at.to_string(),
        remote: session.remote.clone(),
        agent: session.agent.clone(),
    }
}

fn request_id() -> RequestId {
    REQUEST
        .try_with(|id| *id)
        .unwrap_or_else(|_| RequestId::new())
}

/// The act of somebody who is only just found out, or not at all: then without an id.
pub(super) fn act_of(
    user: &str,
    workspace: &Workspace,
    remote: IpAddr,
    access: crate::access::Access,
) -> Act {
    let principal = Principal {
        kind: PrincipalKind::User,
        id: user.into(),
        workspace: workspace.clone(),
        role: None,
        scopes: Scopes::all(),
    };
    let asker = Asker::plain(principal, remote);
    Act::new(&asker, workspace.clone(), access, "", request_id())
}

/// Lets a person in, by a cookie or with a token.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "me", request_body = Login, security(()),
    responses((status = 201, body = LoggedIn), (status = "4XX", body = Problem)))]
pub(super) async fn login(
    Shared(state): Shared<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    input::Json(wish): input::Json<Login>,
) -> Result<Response, ApiError> {
    let none = |name: &str| IdentityError::NoWorkspace(name.chars().take(63).collect());
    let wanted = wish.workspace.as_deref().map(|name| {
        let parsed = Workspace::new(name);
        parsed.map_err(|_| none(name))
    });
    let wanted = wanted.transpose()?;
    let agent = headers.get(USER_AGENT).and_then(|it| it.to_str().ok());
    let login = identity::Login {
        email: &wish.email,
        password: wish.password.clone(),
        code: wish.code.as_deref(),
        workspace: wanted.as_ref(),
        remote: visitor.remote,
        agent: agent.unwrap_or_default(),
        device: visitor.cookies.device.as_deref(),
        before: visitor.cookies.session.as_deref(),
    };
    let by = |user: &identity::User, workspace: &Workspace| {
        let act = act_of(&user.id.to_string(), workspace, visitor.remote, LOGIN);
        By::new(Arc::new(act))
    };
    let all = state.tenants.all().all();
    let begun = state.sessions.login(login, &all, by).await;
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) => {
            if matches!(error, IdentityError::WrongLogin | IdentityError::Wait(_)) {
                let act = act_of("", &Workspace::default(), visitor.remote, LOGIN);
                state.threats.failed(visitor.remote);
                act.is_refused();
                state.audit.refuse(&act).await;
            }
            return Err(error.into());
        }
    };
    let (secret, device) = (begun.secret.clone(), begun.device.clone());
    let session = &begun.session;
    let lasts = session.expires_at.since(session.created_at);
    let mut response = answer(&state, begun, wish.token).await?;
    if !wish.token {
        for cookie in cookie::set(&secret, &device, lasts.as_secs()) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    Ok(response)
}

/// Tells who is in; the session's text, when it is wished for.
pub(super) async fn answer(
    state: &State,
    begun: identity::LoggedIn,
    token: bool,
) -> Result<Response, ApiError> {
    let role = state.users.role(&begun.workspace, begun.user.id).await?;
    let me = Me {
        kind: PrincipalKind::User.to_string(),
        id: begun.user.id.to_string(),
        workspace: begun.workspace.to_string(),
        role: role.map(|role| role.to_string()),
        scopes: Vec::new(),
        email: Some(begun.user.email),
        second_factor: Some(begun.user.second_factor),
    };
    let answer = LoggedIn {
        session: shown(&begun.session, true),
        me,
        token: token.then_some(begun.secret),
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// The session of who asks, who must be a person.
pub(super) fn person(asker: &Asker) -> Result<&Known, ApiError> {
    let only = || ApiError::new(Code::Forbidden, "only a person who is logged in has that");
    asker.session.as_deref().ok_or_else(only)
}

/// Who asks.
#[utoipa::path(get, path = "/api/v1/me", tag = "me",
    responses((status = 200, body = Me), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
) -> Result<Json<Me>, ApiError> {
    let who = &asker.principal;
    let id: Option<UserId> = who.id.parse().ok();
    let user = match id.filter(|_| who.kind == PrincipalKind::User) {
        Some(id) => state.users.user(id).await?,
        None => None,
    };
    let is_key = who.kind == PrincipalKind::ApiKey;
    let scopes = who.scopes.iter().filter(|_| is_key);
    Ok(Json(Me {
        kind: who.kind.to_string(),
        id: who.id.to_string(),
        workspace: who.workspace.to_string(),
        role: who.role.map(|role| role.to_string()),
        scopes: scopes.map(str::to_owned).collect(),
        second_factor: user.as_ref().map(|user| user.second_factor),
        email: user.map(|user| user.email),
    }))
}

/// The sessions of who asks, the one that was used last first.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "me",
    responses((status = 200, body = Page<Session>), (status = "4XX", body = Problem)))]
pub(super) async fn sessions(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
) -> Result<Json<Page<Session>>, ApiError> {
    let own = person(&asker)?;
    let all = state.sessions.list(own.user).await?;
    let items = all.iter().map(|it| shown(it, it.id == own.session));
    let items = items.collect();
    Ok(Json(Page { items, next: None }))
}

fn gone() -> Response {
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie::clear())]).into_response()
}

/// Ends all sessions of who asks.
#[utoipa::path(delete, path = "/api/v1/sessions", tag = "me",
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn end_all(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
) -> Result<Response, ApiError> {
    let own = person(&asker)?;
    state
        .sessions
        .end((&by, &workspace), own.user, None)
        .await?;
    Ok(gone())
}

/// Ends a session of who asks; `current` is the one of this request.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}", tag = "me",
    params(("session" = String, Path, description = "`ses_…` or `current`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn end(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    Path(session): Path<String>,
) -> Result<Response, ApiError> {
    let own = person(&asker)?;
    let which = match session.as_str() {
        "current" => own.session,
        text => text.parse().map_err(|_| {
            let shown = text.chars().take(64).collect();
            IdentityError::NoSession(shown)
        })?,
    };
    let ended = state.sessions.end((&by, &workspace), own.user, Some(which));
    ended.await?;
    match which == own.session {
        true => Ok(gone()),
        false => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Takes another password; all other sessions end.
#[utoipa::path(put, path = "/api/v1/me/password", tag = "me", request_body = NewPassword,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn password(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(wish): input::Json<NewPassword>,
) -> Result<StatusCode, ApiError> {
    let own = person(&asker)?;
    let of = (&by, &workspace);
    let changed = state
        .users
        .change_password(of, own.user, (&wish.old, &wish.new), Some(own.hash));
    changed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What an authenticator is set up with. Nothing is kept until it is confirmed.
#[utoipa::path(post, path = "/api/v1/me/second-factor", tag = "me",
    responses((status = 200, body = SecondFactor), (status = "4XX", body = Problem)))]
pub(super) async fn second_factor(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
) -> Result<Json<SecondFactor>, ApiError> {
    let made = state.users.second_factor(person(&asker)?.user).await?;
    Ok(Json(SecondFactor {
        secret: made.secret,
        uri: made.uri,
    }))
}

/// Wants a code of this authenticator from now on.
#[utoipa::path(put, path = "/api/v1/me/second-factor", tag = "me",
    request_body = ConfirmSecondFactor,
    responses((status = 200, body = RecoveryCodes), (status = "4XX", body = Problem)))]
pub(super) async fn confirm_second_factor(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(wish): input::Json<ConfirmSecondFactor>,
) -> Result<Json<RecoveryCodes>, ApiError> {
    let own = person(&asker)?;
    let shown = (wish.secret.as_str(), wish.code.as_str());
    let confirmed = state
        .users
        .confirm((&by, &workspace), own.user, &wish.password, shown);
    let codes = confirmed.await?;
    Ok(Json(RecoveryCodes { codes }))
}

/// Wants no code any more.
#[utoipa::path(post, path = "/api/v1/me/second-factor/drop", tag = "me", request_body = Password,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn drop_second_factor(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(wish): input::Json<Password>,
) -> Result<StatusCode, ApiError> {
    let own = person(&asker)?;
    let dropped = state
        .users
        .drop_second_factor((&by, &workspace), own.user, &wish.password);
    dropped.await?;
    Ok(StatusCode::NO_CONTENT)
}
