//! Events: pages of what happened, and a stream of what happens.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use skep_api::{Event, Page, Problem};
use skep_core::Workspace;
use skep_runtime::EventQuery;
use utoipa::IntoParams;

use super::feed::{self, BATCH, Source, Told, seen};
use super::input::{Caller, Query, cursor, limit, since};
use crate::problem::ApiError;
use crate::state::State;

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
    let wanted = EventQuery {
        after: seen(&headers, query.after.as_deref())?,
        since: since(query.since.as_deref(), state.db.clock().now())?,
        agent: query.agent,
        kind: query.r#type,
    };
    let after = match (wanted.after, wanted.since) {
        (Some(after), _) => after,
        (None, Some(_)) => 0,
        (None, None) => state.runtime.last_event(&workspace).await?,
    };
    let source = OfEvents {
        state: state.clone(),
        workspace,
        wanted,
    };
    Ok(feed::stream(state, after, source))
}

/// The events of a workspace.
struct OfEvents {
    state: Arc<State>,
    workspace: Workspace,
    wanted: EventQuery,
}

#[async_trait]
impl Source for OfEvents {
    async fn read(&mut self, after: u64) -> Result<(Vec<Told>, u64), ApiError> {
        self.wanted.after = Some(after);
        let (of, wanted) = (&self.workspace, &self.wanted);
        let found = self.state.runtime.events(of, wanted, BATCH).await?;
        let next = found.last().map_or(after, |last| last.number);
        let told = found.into_iter().map(|event| Told {
            number: event.number,
            data: skep_api::to_json(&Event::from(&event)),
            kind: event.kind,
        });
        Ok((told.collect(), next))
    }
}
