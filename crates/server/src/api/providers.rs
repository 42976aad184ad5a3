//! Logging in at a provider: begun by a browser, ended by the browser that began it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use skep_api::{LoggedIn, Page, Problem, ProvenLogin, Provider};
use skep_core::{Code, Workspace};
use skep_guard::identity::{self, Admits, Begun, IdentityError, Proof, Visit, is_challenge};
use skep_guard::oidc::{Flow, Refusal, is_back};
use skep_store::By;

use super::input::{self, Path, Query};
use super::me::{act_of, answer};
use crate::access::LOGIN;
use crate::cookie::{self, Visitor};
use crate::page::{page, reads_pages};
use crate::problem::ApiError;
use crate::providers::{All, Known};
use crate::state::State;

/// Characters of a code of a provider's.
const MOST_CODE: usize = 4096;
/// What tries at providers are counted as, from one network.
const TRIES: &str = "provider";

/// The providers that people log in by.
#[utoipa::path(get, path = "/api/v1/providers", tag = "me", security(()),
    responses((status = 200, body = Page<Provider>)))]
pub(super) async fn list(Shared(state): Shared<Arc<State>>) -> Json<Page<Provider>> {
    let all = state.logins.now();
    let items = all.map(|all| {
        let shown = |it: &Arc<Known>| Provider {
            name: it.provider.name.clone(),
            label: it.provider.label.clone(),
            login: all.login(it),
        };
        all.all.iter().map(shown).collect()
    });
    Json(Page {
        items: items.unwrap_or_default(),
        next: None,
    })
}

/// How a login begins.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Beginning {
    /// Where the browser goes afterwards: a path of Skep.
    to: Option<String>,
    /// The workspace to be in first.
    workspace: Option<String>,
    /// For a program: the S256 challenge (RFC 7636) of what it shows with the code that the browser gets.
    challenge: Option<String>,
}

fn bad(detail: &str) -> ApiError {
    ApiError::new(Code::BadRequest, detail)
}

fn found(state: &State, name: &str) -> Result<(Arc<All>, Arc<Known>), ApiError> {
    let all = state.logins.now();
    let known = all.as_ref().and_then(|all| all.find(name)).cloned();
    all.zip(known).ok_or_else(|| {
        let name: String = name.chars().take(63).collect();
        ApiError::new(
            Code::ProviderNotFound,
            format!("there is no provider `{name}`"),
        )
    })
}

/// Sends the browser to a provider.
#[utoipa::path(get, path = "/api/v1/login/{provider}", tag = "me", security(()),
    params(("provider" = String, Path, description = "Its name"), Beginning),
    responses((status = 303), (status = "4XX", body = Problem)))]
pub(super) async fn begin(
    Shared(state): Shared<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(wish): Query<Beginning>,
) -> Response {
    let begun = go(&state, &visitor, &name, wish).await;
    begun.unwrap_or_else(|error| shown(&headers, error))
}

async fn go(
    state: &State,
    visitor: &Visitor,
    name: &str,
    wish: Beginning,
) -> Result<Response, ApiError> {
    let (all, known) = found(state, name)?;
    if wish.to.as_deref().is_some_and(|it| !is_back(it)) {
        return Err(bad("query: `to` is a path of Skep, such as /"));
    }
    if wish
        .challenge
        .as_deref()
        .is_some_and(|it| !is_challenge(it))
    {
        return Err(bad("query: `challenge` is a SHA-256 in base64url"));
    }
    let workspace = wish.workspace.as_deref().map(Workspace::new).transpose();
    let workspace = workspace.map_err(|_| bad("query: `workspace` is no name of one"))?;
    let doors = state.logins.doors(&known).await.map_err(|_| away())?;
    let flow = Flow::new();
    let flow = flow.map_err(|_| ApiError::new(Code::Internal, "no random bytes"))?;
    let begun = Begun {
        provider: known.provider.name.clone(),
        back: wish.to,
        workspace,
        challenge: wish.challenge,
    };
    let kept = state.users.begin_login(flow.key(), begun, visitor.remote);
    kept.await?;
    let url = flow.url(&known.provider, &doors, &all.redirect(&known));
    let url = HeaderValue::try_from(url).map_err(|_| away())?;
    let lasts = identity::LOGIN_TIME.as_secs();
    Ok((
        StatusCode::SEE_OTHER,
        [
            (LOCATION, url),
            (SET_COOKIE, cookie::set_flow(flow.text(), lasts)),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ],
    )
        .into_response())
}

fn away() -> ApiError {
    ApiError::new(Code::ProviderUnavailable, Code::ProviderUnavailable.title())
}

/// An error as who asks reads it.
fn shown(headers: &HeaderMap, error: ApiError) -> Response {
    if !reads_pages(headers) {
        return error.into_response();
    }
    let public = error.public();
    let (code, detail, hint) = (public.code(), public.detail(), public.hint());
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    page(status, code.title(), &[&detail, &hint], None)
}

/// What the browser comes back with. A provider may send more, of no meaning here.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Back {
    /// What the login began with.
    state: Option<String>,
    /// What who it is can be asked with.
    code: Option<String>,
    /// That the provider says no.
    error: Option<String>,
    /// Who the provider is (RFC 9207).
    iss: Option<String>,
}

/// Takes the browser back from a provider. Only the one that began the login ends it, once.
#[utoipa::path(get, path = "/api/v1/callback/{provider}", tag = "me", security(()),
    params(("provider" = String, Path, description = "Its name"), Back),
    responses((status = 200), (status = 303), (status = "4XX", body = Problem)))]
pub(super) async fn callback(
    Shared(state): Shared<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(back): Query<Back>,
) -> Response {
    let ended = end(&state, &visitor, &headers, &name, &back).await;
    ended.unwrap_or_else(|error| shown(&headers, error))
}

/// Nobody is let in; it is written down that somebody tried.
async fn refused(state: &State, visitor: &Visitor, name: &str, why: Refusal) -> ApiError {
    let reason = why.as_str();
    tracing::info!(provider = name, reason, "a login at a provider was refused");
    note(state, visitor).await;
    match why {
        Refusal::Unreachable => away(),
        Refusal::Domain => ApiError::new(
            Code::NotInvited,
            "the provider does not say that this address is one of those that may come in",
        ),
        Refusal::SecondFactor => ApiError::new(
            Code::ProviderLoginFailed,
            "the provider does not say that it asked for a second factor",
        ),
        Refusal::State => ApiError::new(
            Code::ProviderLoginFailed,
            "this browser did not begin this login, or it is over",
        ),
        Refusal::Denied => ApiError::new(Code::ProviderLoginFailed, "the provider says no"),
        _ => ApiError::new(Code::ProviderLoginFailed, Code::ProviderLoginFailed.title()),
    }
}

async fn note(state: &State, visitor: &Visitor) {
    let act = act_of("", &Workspace::default(), visitor.remote, LOGIN);
    state.threats.failed(visitor.remote);
    act.is_refused();
    state.audit.refuse(&act).await;
}

/// The login that this browser began here and now ends.
async fn own(
    state: &State,
    visitor: &Visitor,
    known: &Known,
    back: &Back,
) -> Result<Result<(Flow, Begun), Refusal>, ApiError> {
    let flow = visitor.cookies.flow.as_deref().and_then(Flow::shown);
    let of = |flow: &Flow| back.state.as_deref().is_some_and(|it| flow.has_state(it));
    let Some(flow) = flow.filter(of) else {
        return Ok(Err(Refusal::State));
    };
    let begun = state.users.take_login(flow.key()).await?;
    let here = |it: &Begun| it.provider == known.provider.name;
    let Some(begun) = begun.filter(here) else {
        return Ok(Err(Refusal::State));
    };
    // Another provider may have got hold of the state (mix-up): what it says is not asked about.
    let names_itself = match state.logins.doors(known).await {
        Ok(doors) => doors.names_itself,
        Err(why) => return Ok(Err(why)),
    };
    let fits = match &back.iss {
        Some(iss) => *iss == known.provider.issuer,
        None => !names_itself,
    };
    match (fits, &back.error) {
        (false, _) => Ok(Err(Refusal::Issuer)),
        (true, Some(_)) => Ok(Err(Refusal::Denied)),
        (true, None) => Ok(Ok((flow, begun))),
    }
}

async fn end(
    state: &State,
    visitor: &Visitor,
    headers: &HeaderMap,
    name: &str,
    back: &Back,
) -> Result<Response, ApiError> {
    let (all, known) = found(state, name)?;
    let (flow, begun) = match own(state, visitor, &known, back).await? {
        Ok(own) => own,
        Err(why) => return Err(refused(state, visitor, name, why).await),
    };
    let code = back.code.as_deref().filter(|it| it.len() <= MOST_CODE);
    let Some(code) = code else {
        return Err(refused(state, visitor, name, Refusal::Code).await);
    };
    state.users.try_begins(TRIES, visitor.remote)?;
    let redirect = all.redirect(&known);
    let now = state.db.clock().now();
    let asked = state.logins.finish(&known, &flow, (code, &redirect), now);
    let proof = match asked.await {
        Ok(proof) => proof,
        Err(why) => return Err(refused(state, visitor, name, why).await),
    };
    state.users.try_was_right(TRIES, visitor.remote);
    if let Some(challenge) = begun.challenge {
        let code = state.users.keep_proof(challenge, proof).await?;
        return Ok(without_flow(page(
            StatusCode::OK,
            "Type this code into your terminal",
            &[
                "It counts once, for ten minutes, where you began this yourself.",
                "Nobody else needs it: whoever asks you for it wants to come in as you.",
            ],
            Some(&code),
        )));
    }
    let admits = known.provider.admits(&proof);
    let visit = visit(visitor, headers, begun.workspace.as_ref());
    let begun_session = log_in(state, visitor, (proof, admits), visit).await?;
    let response = match begun.back.map(HeaderValue::try_from) {
        Some(Ok(path)) => (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response(),
        _ => page(StatusCode::OK, "You are logged in", &[], None),
    };
    let mut response = without_flow(response);
    let session = &begun_session.session;
    let lasts = session.expires_at.since(session.created_at).as_secs();
    for cookie in cookie::set(&begun_session.secret, &begun_session.device, lasts) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

fn without_flow(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(SET_COOKIE, cookie::clear_flow());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn visit<'a>(
    visitor: &'a Visitor,
    headers: &'a HeaderMap,
    workspace: Option<&'a Workspace>,
) -> Visit<'a> {
    let agent = headers.get(USER_AGENT).and_then(|it| it.to_str().ok());
    Visit {
        workspace,
        remote: visitor.remote,
        agent: agent.unwrap_or_default(),
        device: visitor.cookies.device.as_deref(),
        before: visitor.cookies.session.as_deref(),
    }
}

async fn log_in(
    state: &State,
    visitor: &Visitor,
    proven: (Proof, Admits),
    visit: Visit<'_>,
) -> Result<identity::LoggedIn, ApiError> {
    let by = |user: &identity::User, workspace: &Workspace| {
        let act = act_of(&user.id.to_string(), workspace, visitor.remote, LOGIN);
        By::new(Arc::new(act))
    };
    let all = state.tenants.all().all();
    let begun = state.sessions.login_proven(proven, visit, &all, by).await;
    if matches!(
        begun,
        Err(IdentityError::NotInvited | IdentityError::ProviderFactor)
    ) {
        note(state, visitor).await;
    }
    Ok(begun?)
}

/// The proof that a program shows, and whom its provider's word lets in now.
pub(super) async fn proven(
    state: &State,
    shown: &skep_api::Proof,
) -> Result<(Proof, Admits), ApiError> {
    let proof = state.users.take_proof(&shown.verifier, &shown.code).await?;
    let (_, known) = found(state, &proof.provider)?;
    if known.provider.issuer != proof.issuer {
        return Err(IdentityError::NoProof.into());
    }
    let admits = known.provider.admits(&proof);
    Ok((proof, admits))
}

/// Lets a person in by what a browser did for a program.
#[utoipa::path(post, path = "/api/v1/sessions/proven", tag = "me", request_body = ProvenLogin,
    security(()),
    responses((status = 201, body = LoggedIn), (status = "4XX", body = Problem)))]
pub(super) async fn log_in_proven(
    Shared(state): Shared<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    input::Json(wish): input::Json<ProvenLogin>,
) -> Result<Response, ApiError> {
    let workspace = wish.workspace.as_deref().map(Workspace::new).transpose();
    let workspace = workspace.map_err(|_| {
        let name = wish.workspace.iter().flat_map(|it| it.chars());
        IdentityError::NoWorkspace(name.take(63).collect())
    })?;
    let proven = match proven(&state, &wish.proof).await {
        Ok(proven) => proven,
        Err(error) => {
            note(&state, &visitor).await;
            return Err(error);
        }
    };
    let visit = visit(&visitor, &headers, workspace.as_ref());
    let begun = log_in(&state, &visitor, proven, visit).await?;
    answer(&state, begun, true).await
}
