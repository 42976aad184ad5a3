//! Events: pages of what happened, and a stream of what happens.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use serde::Deserialize;
use skep_api::{Event, Page, Problem};
use skep_core::{Code, Workspace};
use skep_runtime::EventQuery;
use tokio::sync::mpsc::{Sender, channel};
use utoipa::IntoParams;

use super::input::{Caller, Query, cursor, limit, since};
use crate::channel::ReceiverBody;
use crate::problem::ApiError;
use crate::state::State;

/// Events that wait for a slow reader.
const QUEUE: usize = 64;
/// Events that are read at once.
const BATCH: u32 = 256;
/// Time between two looks for new events.
const LOOK: Duration = Duration::from_millis(250);
/// Silence after which a comment tells both sides that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Where the page begins: `next` of the page before. Without it and `since`, the newest events.
    cursor: Option<String>,
    /// Events of the page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// Events from this moment on (RFC 3339), or of this last time (`10m`).
    since: Option<String>,
    /// Only those of this agent.
    agent: Option<String>,
    /// Only those of this type, or of all that begin so: `instance.ready`, `instance`.
    r#type: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Begin behind the event with this id, as the header `Last-Event-ID` does.
    after: Option<String>,
    /// Begin with the events from this moment on (RFC 3339), or of this last time (`10m`).
    since: Option<String>,
    /// Only those of this agent.
    agent: Option<String>,
    /// Only those of this type, or of all that begin so: `instance.ready`, `instance`.
    r#type: Option<String>,
}

/// What happened, oldest first: deployments, rollouts, instances that start and end, calls that
/// died, the server itself. `next` is where to go on, also when nothing is there yet.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(ListQuery),
    responses((status = 200, body = Page<Event>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Event>>, ApiError> {
    let limit = limit(query.limit)?;
    let wanted = EventQuery {
        after: cursor(query.cursor.as_deref())?,
        since: since(query.since.as_deref(), state.db.clock().now())?,
        agent: query.agent,
        kind: query.r#type,
    };
    let found = state.runtime.events(&workspace, &wanted, limit).await?;
    // The newest come as one page: there is nothing behind them.
    let more = found.len() == limit as usize && (wanted.after.is_some() || wanted.since.is_some());
    let next = found
        .last()
        .filter(|_| more)
        .map(|last| last.number.to_string());
    let items = found.iter().map(Event::from).collect();
    Ok(Json(Page { items, next }))
}

/// What happens, as server-sent events with ids: a client that lost the connection goes on with
/// `Last-Event-ID` and misses nothing that is still kept. Without that, `after` and `since`, it
/// begins now.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "Begin behind this event")),
    responses(
        (status = 200, body = Event, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn stream(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seen = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().map_err(|_| {
            ApiError::new(Code::BadRequest, "Last-Event-ID is not the id of an event")
        })?),
        None => query.after.as_deref(),
    };
    let mut wanted = EventQuery {
        after: cursor(seen)?,
        since: since(query.since.as_deref(), state.db.clock().now())?,
        agent: query.agent,
        kind: query.r#type,
    };
    if wanted.after.is_none() && wanted.since.is_none() {
        wanted.after = Some(state.runtime.last_event(&workspace).await?);
    }
    let (sender, receiver) = channel(QUEUE);
    tokio::spawn(follow(state, workspace, wanted, sender));
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((head, Body::new(ReceiverBody(receiver))).into_response())
}

/// Sends events as they are committed, until the client or the server goes.
async fn follow(
    state: Arc<State>,
    workspace: Workspace,
    mut wanted: EventQuery,
    sender: Sender<Frame<Bytes>>,
) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = sender.closed() => return,
            () = state.stop.cancelled() => return,
        }
        let found = match state.runtime.events(&workspace, &wanted, BATCH).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "events cannot be read");
                // The client comes back behind what it has seen.
                return;
            }
        };
        let mut text = String::new();
        for event in &found {
            let (id, kind) = (event.number, &event.kind);
            let data = skep_api::to_json(&Event::from(event));
            text.push_str(&format!("id: {id}\nevent: {kind}\ndata: {data}\n\n"));
        }
        if let Some(last) = found.last() {
            wanted.after = Some(last.number);
        }
        if text.is_empty() {
            if said.elapsed() < HEARTBEAT {
                continue;
            }
            text.push_str(": still here\n\n");
        }
        said = tokio::time::Instant::now();
        if sender.send(Frame::data(Bytes::from(text))).await.is_err() {
            return;
        }
    }
}
