//! Leases of secrets, shares, and wishes for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Deserialize;
use skep_api::{
    EndedLeases, NewSecretLease, NewSecretRequest, NewSecretShare, Page, Problem, RenewSecretLease,
    SecretDecision, SecretLease, SecretRequest, SecretShare,
};
use skep_core::{AccessRequestId, LeaseId, Workspace, units};
use skep_vault::{AccessRequest, Decision, Lease, NewLease, Share, VaultError};
use utoipa::IntoParams;

use super::input::{self, Caller, Meant, Ordered, Path};
use super::keys::duration;
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::state::State;
use crate::vault::{KnownSecret, holder};

fn shown(lease: &Lease) -> SecretLease {
    SecretLease {
        id: lease.id.to_string(),
        secret: lease.secret.to_string(),
        version: lease.version,
        field: lease.field.clone(),
        holder: lease.holder.clone(),
        parent: lease.parent.clone(),
        created_at: lease.made_at.to_string(),
        expires_at: lease.expires_at.to_string(),
        renewable_until: lease.most_until.to_string(),
    }
}

fn shared(share: &Share) -> SecretShare {
    SecretShare {
        holder: share.holder.clone(),
        may: share.may.to_string(),
        created_at: share.made_at.to_string(),
        created_by: share.made_by.clone(),
        expires_at: share.expires_at.map(|at| at.to_string()),
    }
}

fn asked(request: &AccessRequest) -> SecretRequest {
    SecretRequest {
        id: request.id.to_string(),
        secret: request.secret.to_string(),
        holder: request.holder.clone(),
        may: request.may.to_string(),
        reason: request.reason.clone(),
        lasts: units::format_duration(request.lasts),
        state: request.state.as_str().to_owned(),
        created_at: request.made_at.to_string(),
        decided_at: request.decided_at.map(|at| at.to_string()),
        decided_by: request.decided_by.clone(),
    }
}

/// A lease of this secret. One of another secret, or that is malformed, does not exist.
async fn of_secret(
    state: &State,
    workspace: &Workspace,
    secret: &KnownSecret,
    lease: &str,
) -> Result<Lease, ApiError> {
    let id: LeaseId = lease
        .parse()
        .map_err(|_| ApiError::new(skep_core::Code::VaultNotFound, "there is no such lease"))?;
    let lease = state.vault.find_lease(workspace, id).await?;
    match lease.secret == secret.secret.id {
        true => Ok(lease),
        false => Err(VaultError::NoLease(id).into()),
    }
}

/// The leases of a secret that count, oldest first.
#[utoipa::path(get, path = "/api/v1/secrets/{secret}/leases", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Page<SecretLease>), (status = "4XX", body = Problem)))]
pub(super) async fn leases(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Meant(secret): Meant,
) -> Result<Json<Page<SecretLease>>, ApiError> {
    let found = &secret.secret;
    let leases = state.vault.leases(&workspace, found.id).await?;
    let items = leases.iter().map(shown).collect();
    Ok(Json(Page { items, next: None }))
}

/// Lends a secret to who asks. A lease lets Skep put the value in; it does not show it.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/leases", tag = "secrets", request_body = NewSecretLease,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 201, body = SecretLease), (status = "4XX", body = Problem)))]
pub(super) async fn lend(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(wish): input::Json<NewSecretLease>,
) -> Result<(StatusCode, Json<SecretLease>), ApiError> {
    let new = NewLease {
        secret: secret.which(),
        version: wish.version,
        field: wish.field,
        holder: holder(&asker.principal),
        parent: wish.parent,
        ttl: duration("ttl", &wish.ttl)?,
    };
    let lease = state
        .vault
        .lease(&by, &asker.principal.workspace, new)
        .await?;
    Ok((StatusCode::CREATED, Json(shown(&lease))))
}

/// Lets a lease of who asks count longer.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/leases/{lease}/renew", tag = "secrets",
    request_body = RenewSecretLease,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`"),
        ("lease" = String, Path, description = "`lse_…`")),
    responses((status = 200, body = SecretLease), (status = "4XX", body = Problem)))]
pub(super) async fn renew(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    Path(names): Path<(String, String)>,
    input::Json(wish): input::Json<RenewSecretLease>,
) -> Result<Json<SecretLease>, ApiError> {
    let workspace = &asker.principal.workspace;
    let ttl = duration("ttl", &wish.ttl)?;
    let lease = of_secret(&state, workspace, &secret, &names.1).await?;
    if lease.holder != holder(&asker.principal) {
        return Err(VaultError::NoLease(lease.id).into());
    }
    let renewed = state.vault.renew(&by, workspace, lease.id, ttl).await?;
    Ok(Json(shown(&renewed)))
}

/// Ends a lease, and those that hang on it.
#[utoipa::path(delete, path = "/api/v1/secrets/{secret}/leases/{lease}", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`"),
        ("lease" = String, Path, description = "`lse_…`")),
    responses((status = 200, body = EndedLeases), (status = "4XX", body = Problem)))]
pub(super) async fn release(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    Path(names): Path<(String, String)>,
) -> Result<Json<EndedLeases>, ApiError> {
    let lease = of_secret(&state, &workspace, &secret, &names.1).await?;
    let ended = state.vault.revoke(&by, &workspace, lease.id).await?;
    Ok(Json(EndedLeases { ended }))
}

/// Who may do what with a secret besides those whom policies let.
#[utoipa::path(get, path = "/api/v1/secrets/{secret}/shares", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Page<SecretShare>), (status = "4XX", body = Problem)))]
pub(super) async fn shares(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Meant(secret): Meant,
) -> Result<Json<Page<SecretShare>>, ApiError> {
    let found = &secret.secret;
    let shares = state.vault.shares(&workspace, found.id).await?;
    let items = shares.iter().map(shared).collect();
    Ok(Json(Page { items, next: None }))
}

/// Lets somebody do something with a secret.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/shares", tag = "secrets", request_body = NewSecretShare,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 201, body = SecretShare), (status = "4XX", body = Problem)))]
pub(super) async fn share(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(wish): input::Json<NewSecretShare>,
) -> Result<(StatusCode, Json<SecretShare>), ApiError> {
    let lasts = wish.lasts.as_deref().map(|it| duration("lasts", it));
    let wanted = (wish.holder, wish.may.parse()?, lasts.transpose()?);
    let (workspace, who) = (&asker.principal.workspace, holder(&asker.principal));
    let which = secret.which();
    let made = state.vault.share(&by, workspace, &who, &which, wanted);
    Ok((StatusCode::CREATED, Json(shared(&made.await?))))
}

/// Whose share.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShareQuery {
    /// Who: `user:usr_…`, `agent:NAME`, `key:key_…`.
    holder: String,
    /// `use`, `reveal` or `write`.
    may: String,
}

/// Takes a share back; leases that were made of it end.
#[utoipa::path(delete, path = "/api/v1/secrets/{secret}/shares", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`"), ShareQuery),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn unshare(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Query(query): input::Query<ShareQuery>,
) -> Result<StatusCode, ApiError> {
    let whose = (query.holder, query.may.parse()?);
    let which = secret.which();
    state.vault.unshare(&by, &workspace, &which, whose).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks for a share of a secret.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/requests", tag = "secrets", request_body = NewSecretRequest,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 201, body = SecretRequest), (status = "4XX", body = Problem)))]
pub(super) async fn ask(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(wish): input::Json<NewSecretRequest>,
) -> Result<(StatusCode, Json<SecretRequest>), ApiError> {
    let wanted = (
        holder(&asker.principal),
        wish.may.parse()?,
        duration("lasts", &wish.lasts)?,
    );
    let which = secret.which();
    let workspace = &asker.principal.workspace;
    let made = state.vault.ask(&by, workspace, &which, wanted, wish.reason);
    Ok((StatusCode::CREATED, Json(asked(&made.await?))))
}

/// Which requests.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RequestsQuery {
    /// `waiting` (the default), `approved`, `denied` or `withdrawn`.
    state: Option<String>,
}

/// Wishes for secrets of the workspace, newest first.
#[utoipa::path(get, path = "/api/v1/secret-requests", tag = "secrets", params(RequestsQuery),
    responses((status = 200, body = Page<SecretRequest>), (status = "4XX", body = Problem)))]
pub(super) async fn requests(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    input::Query(query): input::Query<RequestsQuery>,
) -> Result<Json<Page<SecretRequest>>, ApiError> {
    let wanted = query.state.as_deref().unwrap_or("waiting").parse()?;
    let requests = state.vault.requests(&workspace, wanted).await?;
    let items = requests.iter().map(asked).collect();
    Ok(Json(Page { items, next: None }))
}

fn request_id(text: &str) -> Result<AccessRequestId, ApiError> {
    text.parse()
        .map_err(|_| ApiError::new(skep_core::Code::VaultNotFound, "there is no such request"))
}

/// Says yes or no to a wish of somebody else.
#[utoipa::path(post, path = "/api/v1/secret-requests/{request}/decision", tag = "secrets",
    request_body = SecretDecision,
    params(("request" = String, Path, description = "`acr_…`")),
    responses((status = 200, body = SecretRequest), (status = "4XX", body = Problem)))]
pub(super) async fn decide(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(request): Path<String>,
    input::Json(said): input::Json<SecretDecision>,
) -> Result<Json<SecretRequest>, ApiError> {
    let decision = match said.approve {
        true => Decision::Approved,
        false => Decision::Denied,
    };
    let (workspace, who) = (&asker.principal.workspace, holder(&asker.principal));
    let id = request_id(&request)?;
    let decided = state.vault.decide(&by, workspace, &who, id, decision);
    Ok(Json(asked(&decided.await?)))
}

/// Takes one's own wish back.
#[utoipa::path(post, path = "/api/v1/secret-requests/{request}/withdraw", tag = "secrets",
    params(("request" = String, Path, description = "`acr_…`")),
    responses((status = 200, body = SecretRequest), (status = "4XX", body = Problem)))]
pub(super) async fn withdraw(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(request): Path<String>,
) -> Result<Json<SecretRequest>, ApiError> {
    let (workspace, who) = (&asker.principal.workspace, holder(&asker.principal));
    let id = request_id(&request)?;
    let decided = state
        .vault
        .decide(&by, workspace, &who, id, Decision::Withdrawn);
    Ok(Json(asked(&decided.await?)))
}
