//! Outgoing webhooks: endpoints, their keys, and their messages.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Deserialize;
use skep_api::{
    NewWebhook, Page, Problem, RotateWebhook, Webhook, WebhookMessage, WebhookRedelivery,
};
use skep_core::{Code, MessageId, Timestamp, Workspace, units};
use skep_egress::webhooks::{
    Endpoint, Message, New, Query as Which, Selection, State as Stands, WebhookError,
};
use skep_store::By;
use utoipa::IntoParams;

use super::input::{self, Caller, Ordered, Path, Query, cursor, limit, page};
use crate::problem::ApiError;
use crate::state::State;
use crate::webhooks::{drop_keys, make_key};

/// How long a key that is replaced signs, too, unless it is said.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

fn invalid(field: &'static str, why: impl Into<String>) -> ApiError {
    let why = why.into();
    WebhookError::Invalid { field, why }.into()
}

fn shown(endpoint: Endpoint) -> Webhook {
    let text = |at: Timestamp| at.to_string();
    let health = endpoint.health;
    let (failed_at, failure) = health.last_failure.unzip();
    let selected = endpoint.events.iter();
    Webhook {
        name: endpoint.name,
        url: endpoint.url,
        events: selected.map(|it| it.as_str().to_owned()).collect(),
        state: endpoint.off.map_or("on", |off| off.as_str()).to_owned(),
        changed_at: endpoint.changed_at.to_string(),
        old_key_until: endpoint.before.map(|(_, until)| text(until)),
        last_success_at: health.last_success.map(text),
        last_failure_at: failed_at.map(text),
        last_failure: failure,
        failing_since: health.failing_since.map(text),
        waiting: health.waiting,
        dead: health.dead,
        missed: health.missed,
        secret: None,
    }
}

fn told(message: Message) -> WebhookMessage {
    let (tried_at, answer) = message.tried.unzip();
    let waits = message.state == Stands::Waiting;
    WebhookMessage {
        id: message.id.to_string(),
        made_at: message.made_at.to_string(),
        event: message.kind,
        state: message.state.as_str().to_owned(),
        tries: message.tries,
        next_try_at: waits.then(|| message.due.to_string()),
        last_try_at: tried_at.map(|at| at.to_string()),
        last_answer: answer,
        payload: serde_json::from_str(&message.body).unwrap_or_default(),
    }
}

/// A message's id from the path. One that is malformed is one that does not exist.
fn id(text: &str) -> Result<MessageId, ApiError> {
    text.parse().map_err(|_| {
        let shown = text.chars().take(64).collect();
        WebhookError::NoMessage(shown).into()
    })
}

fn wanted(state: &State, name: String, new: NewWebhook) -> Result<New, ApiError> {
    let kinds = state.webhooks.kinds();
    let select =
        |text: &String| Selection::parse(text, &kinds).map_err(|why| invalid("events", why));
    let events: Result<Vec<Selection>, ApiError> = new.events.iter().map(select).collect();
    let new = New {
        name,
        url: new.url,
        events: events?,
        on: new.on,
    };
    state.webhooks.check(&new)?;
    Ok(new)
}

/// The endpoints, by name, and how they do.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks",
    responses((status = 200, body = Page<Webhook>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<Webhook>>, ApiError> {
    let all = state.webhooks.list(&workspace).await?;
    let items = all.into_iter().map(shown).collect();
    Ok(Json(Page { items, next: None }))
}

/// One endpoint, and how it does.
#[utoipa::path(get, path = "/api/v1/webhooks/{webhook}", tag = "webhooks",
    params(("webhook" = String, Path, description = "Its name")),
    responses((status = 200, body = Webhook), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Webhook>, ApiError> {
    let found = state.webhooks.find(&workspace, &name).await?;
    Ok(Json(shown(found)))
}

async fn add(
    state: &State,
    (by, workspace): (&By, &Workspace),
    new: New,
) -> Result<Webhook, ApiError> {
    let (key, secret) = make_key(state, workspace, &new.name).await?;
    match state.webhooks.add(by, workspace, (new, key.clone())).await {
        Ok(endpoint) => Ok(Webhook {
            secret: Some(secret.to_string()),
            ..shown(endpoint)
        }),
        Err(error) => {
            drop_keys(state, workspace, &[key]).await;
            Err(error.into())
        }
    }
}

/// Adds an endpoint, whose key is in the answer and nowhere else afterwards; or changes the one of its name. One that is
/// turned on is told what happens from then on.
#[utoipa::path(put, path = "/api/v1/webhooks/{webhook}", tag = "webhooks", request_body = NewWebhook,
    params(("webhook" = String, Path, description = "Its name")),
    responses((status = 200, body = Webhook), (status = "4XX", body = Problem)))]
pub(super) async fn put(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewWebhook>,
) -> Result<Json<Webhook>, ApiError> {
    let new = wanted(&state, name, new)?;
    match state.webhooks.change(&by, &workspace, new.clone()).await? {
        Some(endpoint) => Ok(Json(shown(endpoint))),
        None => Ok(Json(add(&state, (&by, &workspace), new).await?)),
    }
}

/// Removes an endpoint with its messages. What is on its way may arrive still.
#[utoipa::path(delete, path = "/api/v1/webhooks/{webhook}", tag = "webhooks",
    params(("webhook" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let unused = state.webhooks.remove(&by, &workspace, &name).await?;
    drop_keys(&state, &workspace, &unused).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an endpoint another key, which is in the answer and nowhere else afterwards. Messages are signed with the one
/// before, too, for a time.
#[utoipa::path(post, path = "/api/v1/webhooks/{webhook}/rotate", tag = "webhooks", request_body = RotateWebhook,
    params(("webhook" = String, Path, description = "Its name")),
    responses((status = 200, body = Webhook), (status = "4XX", body = Problem)))]
pub(super) async fn rotate(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(how): input::Json<RotateWebhook>,
) -> Result<Json<Webhook>, ApiError> {
    let overlap = match how.overlap.as_deref() {
        None => OVERLAP,
        Some(text) => {
            let found = units::parse_duration(text);
            found.ok_or_else(|| invalid("overlap", "a duration, such as 24h"))?
        }
    };
    // Before a key is made for nobody.
    let name = state.webhooks.find(&workspace, &name).await?.name;
    let (key, secret) = make_key(&state, &workspace, &name).await?;
    let asked = (name.as_str(), key.clone(), overlap);
    let (endpoint, unused) = match state.webhooks.rotate(&by, &workspace, asked).await {
        Ok(rotated) => rotated,
        Err(error) => {
            drop_keys(&state, &workspace, &[key]).await;
            return Err(error.into());
        }
    };
    drop_keys(&state, &workspace, &unused).await;
    Ok(Json(Webhook {
        secret: Some(secret.to_string()),
        ..shown(endpoint)
    }))
}

/// Sends an endpoint a message of the type `webhook.test`.
#[utoipa::path(post, path = "/api/v1/webhooks/{webhook}/test", tag = "webhooks",
    params(("webhook" = String, Path, description = "Its name")),
    responses((status = 200, body = WebhookMessage), (status = "4XX", body = Problem)))]
pub(super) async fn test(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<Json<WebhookMessage>, ApiError> {
    let made = state.webhooks.test(&by, &workspace, &name).await?;
    Ok(Json(told(made)))
}

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MessagesQuery {
    /// `waiting`, `delivered` or `dead`.
    state: Option<String>,
    /// Where the page begins: `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    limit: Option<u32>,
}

/// Messages to an endpoint, newest first.
#[utoipa::path(get, path = "/api/v1/webhooks/{webhook}/messages", tag = "webhooks",
    params(("webhook" = String, Path, description = "Its name"), MessagesQuery),
    responses((status = 200, body = Page<WebhookMessage>), (status = "4XX", body = Problem)))]
pub(super) async fn messages(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<Page<WebhookMessage>>, ApiError> {
    let stands = match query.state.as_deref() {
        None => None,
        Some(word) => {
            let odd = "query: state is `waiting`, `delivered` or `dead`";
            let found = Stands::named(word);
            Some(found.ok_or_else(|| ApiError::new(Code::BadRequest, odd))?)
        }
    };
    let (before, limit) = (cursor(query.cursor.as_deref())?, limit(query.limit)?);
    let which = Which {
        state: stands,
        before,
    };
    let found = state
        .webhooks
        .messages(&workspace, &name, (which, limit + 1));
    let found = found.await?.into_iter().map(told).collect();
    Ok(Json(page(found, limit, |it: &WebhookMessage| {
        it.id.clone()
    })))
}

/// One message to an endpoint.
#[utoipa::path(get, path = "/api/v1/webhooks/{webhook}/messages/{message}", tag = "webhooks",
    params(("webhook" = String, Path, description = "Its name"), ("message" = String, Path, description = "`msg_…`")),
    responses((status = 200, body = WebhookMessage), (status = "4XX", body = Problem)))]
pub(super) async fn message(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path((name, message)): Path<(String, String)>,
) -> Result<Json<WebhookMessage>, ApiError> {
    let found = state
        .webhooks
        .message(&workspace, &name, id(&message)?)
        .await?;
    Ok(Json(told(found)))
}

/// Sends a message again at once, whatever became of it; its id stays the same.
#[utoipa::path(post, path = "/api/v1/webhooks/{webhook}/messages/{message}/redeliver", tag = "webhooks",
    params(("webhook" = String, Path, description = "Its name"), ("message" = String, Path, description = "`msg_…`")),
    responses((status = 200, body = WebhookMessage), (status = "4XX", body = Problem)))]
pub(super) async fn redeliver(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path((name, message)): Path<(String, String)>,
) -> Result<Json<WebhookMessage>, ApiError> {
    let which = (name.as_str(), id(&message)?);
    let found = state.webhooks.redeliver(&by, &workspace, which).await?;
    Ok(Json(told(found)))
}

/// Sends all dead messages of an endpoint again.
#[utoipa::path(post, path = "/api/v1/webhooks/{webhook}/redeliver", tag = "webhooks",
    params(("webhook" = String, Path, description = "Its name")),
    responses((status = 200, body = WebhookRedelivery), (status = "4XX", body = Problem)))]
pub(super) async fn redeliver_all(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<Json<WebhookRedelivery>, ApiError> {
    let count = state.webhooks.redeliver_all(&by, &workspace, &name).await?;
    Ok(Json(WebhookRedelivery {
        messages: count as u64,
    }))
}
