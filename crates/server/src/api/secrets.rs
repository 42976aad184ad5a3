//! Secrets of the workspace: made, found, changed, shown to who may, forgotten.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use skep_api::{
    BulkOutcome, BulkSecrets, NewSecret, NewVersion, Page, Problem, Reveal, Revealed, Secret,
    SecretChange, SecretRenewal, SecretVersion, SecretVersions,
};
use skep_core::{Code, units};
use skep_guard::policy::{Resource, Secret as Asked};
use skep_vault::renewal::Renewal;
use skep_vault::{About, Bulk, Generate, Outcome, Query, SecretValue, State as Kept, VaultError};
use utoipa::IntoParams;

use super::input::{self, Caller, Meant, Ordered};
use super::keys::duration;
use crate::access::SECRET_WRITE as WRITE;
use crate::gate::{self, Asker};
use crate::problem::ApiError;
use crate::state::State;
use crate::vault::{KnownSecret, holder};

/// Which secrets.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Words, or beginnings of words, of the name: all must be there.
    query: Option<String>,
    /// Tags, with commas between them: `team`, `team=red`.
    tags: Option<String>,
    /// Rows of the page, 1 to 1000; at most 200 come.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

fn lasts(duration: Option<Duration>) -> Option<String> {
    duration.map(units::format_duration)
}

fn renewing(renewal: &Renewal) -> SecretRenewal {
    SecretRenewal {
        phase: renewal.phase.as_str().to_owned(),
        follows: renewal.follows,
        tries: renewal.tries,
        next_at: renewal.next_at.to_string(),
        began_at: renewal.began_at.to_string(),
    }
}

pub(super) fn shown(secret: &skep_vault::Secret) -> Secret {
    let about = &secret.about;
    Secret {
        id: secret.id.to_string(),
        name: about.name.to_string(),
        description: about.description.clone(),
        tags: about.tags.clone(),
        latest: secret.latest,
        keep: about.keep,
        check: about.check,
        canary: about.canary,
        ttl: lasts(about.ttl),
        rotate_every: lasts(about.rotate_every),
        rotate_at: secret.rotate_at.map(|at| at.to_string()),
        renewal: None,
        created_at: secret.made_at.to_string(),
        updated_at: secret.changed_at.to_string(),
    }
}

fn invalid(field: &str, reason: &str) -> ApiError {
    ApiError::new(Code::InvalidSpec, format!("`{field}`: {reason}"))
}

/// A value as somebody sent it, in one of three ways.
fn value(
    text: Option<String>,
    base64: Option<&str>,
    generate: Option<&str>,
) -> Result<SecretValue, ApiError> {
    match (text, base64, generate) {
        (Some(text), None, None) => Ok(SecretValue::new(text)?),
        (None, Some(base64), None) => {
            let wrong = |_| invalid("value_base64", "it is no base64");
            Ok(SecretValue::new(STANDARD.decode(base64).map_err(wrong)?)?)
        }
        (None, None, Some(how)) => Ok(how.parse::<Generate>()?.make()?),
        _ => Err(invalid(
            "value",
            "send one of `value`, `value_base64` and `generate`",
        )),
    }
}

fn ttl(field: &str, text: Option<&str>) -> Result<Option<Duration>, ApiError> {
    text.map(|text| duration(field, text)).transpose()
}

fn wished(new: NewSecret) -> Result<skep_vault::NewSecret, ApiError> {
    let value = value(
        new.value,
        new.value_base64.as_deref(),
        new.generate.as_deref(),
    )?;
    let mut about = About::named(new.name.parse::<skep_vault::SecretName>()?);
    about.description = new.description;
    about.tags = new.tags;
    about.ttl = ttl("ttl", new.ttl.as_deref())?;
    about.keep = new.keep.unwrap_or(about.keep);
    about.check = new.check;
    about.canary = new.canary;
    about.rotate_every = ttl("rotate_every", new.rotate_every.as_deref())?;
    Ok(skep_vault::NewSecret {
        about,
        value,
        ttl: None,
    })
}

/// The secrets of the workspace, oldest first, without their values.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", params(ListQuery),
    responses((status = 200, body = Page<Secret>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    input::Query(query): input::Query<ListQuery>,
) -> Result<Json<Page<Secret>>, ApiError> {
    let limit = input::limit(query.limit)? as usize;
    let after = input::cursor(query.cursor.as_deref())?;
    let tags = query.tags.as_deref().unwrap_or_default();
    let tags = tags.split(',').filter(|tag| !tag.is_empty());
    let wanted = Query::new(query.query.as_deref().unwrap_or_default(), tags)?;
    let page = state.vault.list(&workspace, wanted, after, limit).await?;
    Ok(Json(Page {
        items: page.items.iter().map(shown).collect(),
        next: page.next.map(|id| id.to_string()),
    }))
}

/// Makes a secret.
#[utoipa::path(post, path = "/api/v1/secrets", tag = "secrets", request_body = NewSecret,
    responses((status = 201, body = Secret), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(new): input::Json<NewSecret>,
) -> Result<(StatusCode, Json<Secret>), ApiError> {
    let (workspace, who) = (&asker.principal.workspace, holder(&asker.principal));
    let made = state
        .vault
        .create(&by, workspace, &who, wished(new)?)
        .await?;
    Ok((StatusCode::CREATED, Json(shown(&made))))
}

/// Makes secrets, and gives those that are there new versions: all or none.
#[utoipa::path(post, path = "/api/v1/secrets-bulk", tag = "secrets", request_body = BulkSecrets,
    responses((status = 200, body = Vec<BulkOutcome>), (status = "4XX", body = Problem)))]
pub(super) async fn bulk(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(all): input::Json<BulkSecrets>,
) -> Result<Json<Vec<BulkOutcome>>, ApiError> {
    let (workspace, who) = (&asker.principal.workspace, holder(&asker.principal));
    let wanted: Result<Vec<_>, ApiError> = all.secrets.into_iter().map(wished).collect();
    let wanted = wanted?;
    let mut how = Bulk {
        dry: all.dry_run,
        ..Bulk::default()
    };
    for new in &wanted {
        let name = new.about.name.as_str();
        // What is there already was not asked about yet.
        let Some(known) = crate::vault::known(&state.vault, workspace, name, &who).await? else {
            continue;
        };
        if let Some(mount) = known.mount {
            return Err(VaultError::Mounted(mount.of.path.to_string()).into());
        }
        // One that comes after this look is not among the writable ones, which ends the same way.
        if all.only_new {
            return Err(VaultError::Exists(name.to_owned()).into());
        }
        let id = known.secret.id;
        if !gate::may_known(&state, &asker, &WRITE, &known).await? {
            let detail = format!("`secret:write` on `{name}` is not allowed; nothing was done");
            return Err(ApiError::new(Code::Forbidden, detail));
        }
        how.writable.insert(id);
        if gate::may(
            &state,
            &asker,
            "secret:reveal",
            known.as_resource(&id.to_string()),
        )
        .await?
        {
            how.visible.insert(id);
        }
    }
    let done = state
        .vault
        .bulk(&by, workspace, &who, (wanted, how))
        .await?;
    let outcomes = done.into_iter().map(|(name, outcome)| BulkOutcome {
        name: name.to_string(),
        outcome: match outcome {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Unchanged => "unchanged",
        }
        .to_owned(),
    });
    Ok(Json(outcomes.collect()))
}

/// A secret without its value.
#[utoipa::path(get, path = "/api/v1/secrets/{secret}", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Secret), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Meant(secret): Meant,
) -> Result<Json<Secret>, ApiError> {
    let found = &secret.secret;
    let renewal = state.vault.renewal(&workspace, found.id).await?;
    let mut shown = shown(found);
    shown.renewal = renewal.as_ref().map(renewing);
    Ok(Json(shown))
}

/// Lets the secret's hook make a new value now. Of what goes on already the step that failed is tried again.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/rotate", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 202, body = SecretRenewal), (status = "4XX", body = Problem)))]
pub(super) async fn rotate(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
) -> Result<(StatusCode, Json<SecretRenewal>), ApiError> {
    let found = &secret.secret;
    let name = found.about.name.as_str();
    if !state.renewals.has(&workspace, name) {
        let detail = format!(
            "no hook is for `{name}`: name one in the file of `secrets.hooks`, or write a new value with \
             `skep secrets put`"
        );
        return Err(ApiError::new(Code::InvalidSpec, detail));
    }
    let renewal = state
        .vault
        .renew_value(&by, &workspace, &secret.which())
        .await?;
    state.renewal_work.notify_one();
    Ok((StatusCode::ACCEPTED, Json(renewing(&renewal))))
}

/// Changes what is known about a secret.
#[utoipa::path(patch, path = "/api/v1/secrets/{secret}", tag = "secrets", request_body = SecretChange,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Secret), (status = "4XX", body = Problem)))]
pub(super) async fn update(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(change): input::Json<SecretChange>,
) -> Result<Json<Secret>, ApiError> {
    let name = change.name.as_deref().map(str::parse).transpose()?;
    // An empty one takes it away.
    let end = |field, text: Option<&str>| match text {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some(text) => duration(field, text).map(|it| Some(Some(it))),
    };
    let ttl = end("ttl", change.ttl.as_deref())?;
    let every = end("rotate_every", change.rotate_every.as_deref())?;
    let workspace = &asker.principal.workspace;
    let found = &secret.secret;
    let apply = move |about: &mut About| {
        about.name = name.unwrap_or_else(|| about.name.clone());
        about.description = change
            .description
            .unwrap_or_else(|| about.description.clone());
        about.tags = change.tags.unwrap_or_else(|| about.tags.clone());
        about.ttl = ttl.unwrap_or(about.ttl);
        about.keep = change.keep.unwrap_or(about.keep);
        about.check = change.check.unwrap_or(about.check);
        about.canary = change.canary.unwrap_or(about.canary);
        about.rotate_every = every.unwrap_or(about.rotate_every);
    };
    // Policies decide by names and tags: it is asked about the secret as it is to be, too.
    let mut about = found.about.clone();
    apply.clone()(&mut about);
    let id = found.id.to_string();
    let after = Asked {
        id: &id,
        name: Some(about.name.as_str()),
        tags: Some(&about.tags),
        canary: about.canary,
        shared: &secret.shared,
    };
    if !gate::may(&state, &asker, "secret:update", Resource::Secret(after)).await? {
        let detail = "`secret:update` on the secret as it is to be is not allowed";
        return Err(ApiError::new(Code::Forbidden, detail));
    }
    let (before, latest) = (found.about.clone(), found.latest);
    let which = secret.which();
    let changed = state.vault.update(&by, workspace, &which, move |about| {
        // What was asked about is what is changed.
        if *about != before {
            return Err(VaultError::Changed {
                latest,
                expected: latest,
            });
        }
        apply(about);
        Ok(())
    });
    Ok(Json(shown(&changed.await?)))
}

/// Forgets a secret with all of its versions, for ever.
#[utoipa::path(delete, path = "/api/v1/secrets/{secret}", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
) -> Result<StatusCode, ApiError> {
    state.vault.remove(&by, &workspace, &secret.which()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The versions of a secret, oldest first.
#[utoipa::path(get, path = "/api/v1/secrets/{secret}/versions", tag = "secrets",
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Page<SecretVersion>), (status = "4XX", body = Problem)))]
pub(super) async fn versions(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Meant(secret): Meant,
) -> Result<Json<Page<SecretVersion>>, ApiError> {
    let found = &secret.secret;
    let versions = state.vault.versions(&workspace, found.id).await?;
    let items = versions.into_iter().map(|version| SecretVersion {
        version: version.number,
        state: version.state.as_str().to_owned(),
        created_at: version.made_at.to_string(),
        created_by: version.made_by,
        expires_at: version.expires_at.map(|at| at.to_string()),
    });
    Ok(Json(Page {
        items: items.collect(),
        next: None,
    }))
}

/// Gives a secret a new version.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/versions", tag = "secrets", request_body = NewVersion,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 201, body = Secret), (status = "4XX", body = Problem)))]
pub(super) async fn put(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(new): input::Json<NewVersion>,
) -> Result<(StatusCode, Json<Secret>), ApiError> {
    let value = value(
        new.value,
        new.value_base64.as_deref(),
        new.generate.as_deref(),
    )?;
    let ttl = ttl("ttl", new.ttl.as_deref())?;
    let which = secret.which();
    let (workspace, who) = (&asker.principal.workspace, holder(&asker.principal));
    let put = state
        .vault
        .put(&by, workspace, &who, &which, (value, new.follows, ttl));
    Ok((StatusCode::CREATED, Json(shown(&put.await?))))
}

/// Shows a value to who may see it. The reason stands in the audit log before it is shown.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/reveal", tag = "secrets", request_body = Reveal,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Revealed), (status = "4XX", body = Problem)))]
pub(super) async fn reveal(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(wish): input::Json<Reveal>,
) -> Result<Json<Revealed>, ApiError> {
    let which = secret.which();
    let (id, version, mut value) = state
        .vault
        .reveal(&by, &workspace, &which, wish.version, wish.reason)
        .await?;
    if let Some(field) = &wish.field {
        value = value.field(field)?;
    }
    let text = std::str::from_utf8(value.bytes()).ok().map(str::to_owned);
    let base64 = text.is_none().then(|| STANDARD.encode(value.bytes()));
    Ok(Json(Revealed {
        id: id.to_string(),
        version,
        value: text,
        value_base64: base64,
    }))
}

async fn set(
    state: &State,
    workspace: &skep_core::Workspace,
    by: &skep_store::By,
    secret: &KnownSecret,
    (versions, kept): (Vec<u32>, Kept),
) -> Result<Json<Secret>, ApiError> {
    if versions.is_empty() || versions.len() > 1_000 {
        return Err(invalid("versions", "1 to 1,000 of them"));
    }
    let which = secret.which();
    let set = state
        .vault
        .set_state(by, workspace, &which, (versions, kept));
    let set: Result<_, VaultError> = set.await;
    Ok(Json(shown(&set?)))
}

/// Deletes versions: they cannot be read, and can be brought back.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/delete", tag = "secrets", request_body = SecretVersions,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Secret), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(which): input::Json<SecretVersions>,
) -> Result<Json<Secret>, ApiError> {
    set(
        &state,
        &workspace,
        &by,
        &secret,
        (which.versions, Kept::Deleted),
    )
    .await
}

/// Brings deleted versions back.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/undelete", tag = "secrets", request_body = SecretVersions,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Secret), (status = "4XX", body = Problem)))]
pub(super) async fn undelete(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(which): input::Json<SecretVersions>,
) -> Result<Json<Secret>, ApiError> {
    set(
        &state,
        &workspace,
        &by,
        &secret,
        (which.versions, Kept::Live),
    )
    .await
}

/// Destroys the values of versions for ever.
#[utoipa::path(post, path = "/api/v1/secrets/{secret}/destroy", tag = "secrets", request_body = SecretVersions,
    params(("secret" = String, Path, description = "The name (with `%2F` for `/`), or `sec_…`")),
    responses((status = 200, body = Secret), (status = "4XX", body = Problem)))]
pub(super) async fn destroy(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Meant(secret): Meant,
    input::Json(which): input::Json<SecretVersions>,
) -> Result<Json<Secret>, ApiError> {
    set(
        &state,
        &workspace,
        &by,
        &secret,
        (which.versions, Kept::Destroyed),
    )
    .await
}
