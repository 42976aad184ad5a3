//! Agents: deploy, look, start, stop, restart, remove, logs.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use serde::Deserialize;
use skep_api::{
    Agent, AgentSpec, CallState, Forgotten, InstanceState, LogLine, Page, Problem, Revision,
};
use skep_core::{Code, Timestamp, Workspace};
use skep_ingress::CallPolicy;
use skep_runtime::{AgentInfo, AgentQuery, LogQuery};
use utoipa::IntoParams;

use super::input::{self, Caller, Ordered, Path, Query, cursor, limit, page};
use crate::channel::ReceiverBody;
use crate::gate::Unasked;
use crate::lending;
use crate::problem::ApiError;
use crate::state::State;

/// Lines of a log that wait for a slow reader.
const LINES: usize = 64;
/// The most lines that `tail` may ask for.
const MOST_TAIL: usize = 100_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Where the page begins: `next` of the page before.
    pub(super) cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Where the page begins: `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// Those with a skill of this id on their card.
    skill: Option<String>,
    /// Those with a skill that has this tag.
    tag: Option<String>,
    /// Those that take this media type.
    input_mode: Option<String>,
    /// Those that give this media type.
    output_mode: Option<String>,
    /// Those that stand so, as of their last probe.
    state: Option<InstanceState>,
    /// Those in whose name, description and skills all these words are.
    text: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// Cancel the calls that are still open; without it they keep the agent.
    force: Option<bool>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CacheQuery {
    /// Only answers that had this word in their `Cache-Tag`.
    tag: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// Go on with new lines as they come.
    follow: Option<bool>,
    /// Lines from this moment on (RFC 3339), or of this last time (`10m`).
    since: Option<String>,
    /// The last lines only.
    tail: Option<usize>,
    /// Lines that contain this text.
    filter: Option<String>,
}

type Counts = HashMap<String, Vec<(CallState, u64)>>;

fn with_calls(info: &AgentInfo, counts: &Counts) -> Agent {
    let mut agent = Agent::from(info);
    if let Some(of_agent) = counts.get(&agent.name) {
        agent.calls = of_agent
            .iter()
            .map(|(state, count)| (state.as_str().to_owned(), *count))
            .collect();
    }
    agent
}

pub(super) async fn find(
    state: &State,
    workspace: &Workspace,
    name: &str,
) -> Result<Agent, ApiError> {
    let info = state.runtime.info(workspace, name)?;
    Ok(with_calls(
        &info,
        &state.ingress.counts(workspace, Some(name)).await?,
    ))
}

/// Agents, by name: all, or those that can something.
#[utoipa::path(get, path = "/api/v1/agents", tag = "agents", params(ListQuery),
    responses((status = 200, body = Page<Agent>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Agent>>, ApiError> {
    let limit = limit(query.limit)?;
    let counts = state.ingress.counts(&workspace, None).await?;
    let wanted = AgentQuery {
        skill: query.skill,
        tag: query.tag,
        input_mode: query.input_mode,
        output_mode: query.output_mode,
        state: query.state,
        text: query.text,
    };
    let page_of = (query.cursor.as_deref(), limit as usize + 1);
    let found = state.runtime.search(&workspace, &wanted, page_of);
    let Page { items, next } = page(found, limit, |info| info.name.clone());
    let items = items.iter().map(|info| with_calls(info, &counts)).collect();
    Ok(Json(Page { items, next }))
}

/// Deploys an agent: a new one, or a new revision of one that there is. The same specification
/// again changes nothing.
#[utoipa::path(post, path = "/api/v1/agents", tag = "agents", request_body = AgentSpec,
    responses(
        (status = 201, body = Agent, description = "A new agent"),
        (status = 200, body = Agent, description = "An agent that was there"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn deploy(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    unasked: Unasked,
    input::Json(spec): input::Json<AgentSpec>,
) -> Result<Response, ApiError> {
    let asker = unasked.asker.clone();
    let by = unasked
        .about(
            &state,
            skep_guard::policy::Agent {
                name: &spec.name,
                driver: Some(&spec.driver),
                labels: Some(&spec.labels),
            },
        )
        .await?;
    CallPolicy::from_spec(&spec.calls)?;
    lending::check(&state, &asker, &spec).await?;
    let deployed = state.runtime.deploy(&by, &workspace, spec).await?;
    let status = if deployed.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let agent = find(&state, &workspace, &deployed.agent.name).await?;
    let location = [(
        http::header::LOCATION,
        format!("/api/v1/agents/{}", agent.name),
    )];
    Ok((status, location, Json(agent)).into_response())
}

/// One agent.
#[utoipa::path(get, path = "/api/v1/agents/{agent}", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Agent), (status = 404, body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    Ok(Json(find(&state, &workspace, &name).await?))
}

/// Stops and forgets an agent. Its ended calls stay until retention takes them.
#[utoipa::path(delete, path = "/api/v1/agents/{agent}", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name"), RemoveQuery),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode, ApiError> {
    let agent = find(&state, &workspace, &name).await?;
    let count = |state: CallState| agent.calls.get(state.as_str()).copied().unwrap_or(0);
    let open = count(CallState::Accepted) + count(CallState::Running);
    if open > 0 && !query.force.unwrap_or(false) {
        return Err(ApiError::new(
            Code::AgentState,
            format!("`{name}` has {open} open calls; wait for them, or remove it with force"),
        ));
    }
    state.runtime.remove(&by, &workspace, &name).await?;
    state.ingress.remove_agent(&by, &workspace, &name).await?;
    crate::vault::forget_holder(&state, &by, &workspace, &format!("agent:{name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The revisions of an agent, newest first.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/revisions", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name"), PageQuery),
    responses((status = 200, body = Page<Revision>), (status = "4XX", body = Problem)))]
pub(super) async fn revisions(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Revision>>, ApiError> {
    let limit = limit(query.limit)?;
    let before = cursor(query.cursor.as_deref())?;
    let found = state
        .runtime
        .revisions(&workspace, &name, before, limit + 1)
        .await?;
    let items = found.iter().map(Revision::from).collect();
    Ok(Json(page(items, limit, |revision: &Revision| {
        revision.number.to_string()
    })))
}

/// Starts a stopped agent.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/start", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn start(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    state.runtime.start(&by, &workspace, &name).await?;
    Ok(Json(find(&state, &workspace, &name).await?))
}

/// Stops an agent. Its queued calls wait until it is started again.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/stop", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn stop(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    state.runtime.stop(&by, &workspace, &name).await?;
    Ok(Json(find(&state, &workspace, &name).await?))
}

/// Replaces the agent's instance by a new one, also out of a crash loop.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/restart", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn restart(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    state.runtime.restart(&by, &workspace, &name).await?;
    Ok(Json(find(&state, &workspace, &name).await?))
}

/// Forgets the agent's answers that are kept: those with a tag, or all.
#[utoipa::path(delete, path = "/api/v1/agents/{agent}/cache", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name"), CacheQuery),
    responses((status = 200, body = Forgotten), (status = "4XX", body = Problem)))]
pub(super) async fn forget_answers(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    Query(query): Query<CacheQuery>,
) -> Result<Json<Forgotten>, ApiError> {
    let tag = query.tag.as_deref();
    let answers = state.ingress.forget_answers(&workspace, &name, tag)?;
    Ok(Json(Forgotten { answers }))
}

fn log_query(query: LogsQuery, now: Timestamp) -> Result<LogQuery, ApiError> {
    let since = input::since(query.since.as_deref(), now)?;
    if query.tail.is_some_and(|tail| tail > MOST_TAIL) {
        return Err(ApiError::new(
            Code::BadRequest,
            format!("query: tail is over {MOST_TAIL}"),
        ));
    }
    let follow = query.follow.unwrap_or(false);
    Ok(LogQuery {
        since,
        tail: query.tail,
        filter: query.filter,
        follow,
    })
}

/// What the agent wrote, a JSON object a line.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/logs", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name"), LogsQuery),
    responses(
        (status = 200, body = LogLine, content_type = "application/x-ndjson"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn logs(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, ApiError> {
    let query = log_query(query, state.db.clock().now())?;
    let follow = query.follow;
    let mut lines = state.runtime.logs(&workspace, &name, query)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(LINES);
    let stop = state.stop.clone();
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                // Nothing else ends it, and the server waits for its answers.
                () = stop.cancelled(), if follow => return,
                () = sender.closed() => return,
            };
            let Some(line) = line else { return };
            let mut text = skep_api::to_json(&wire(&line));
            text.push('\n');
            if sender.send(Frame::data(Bytes::from(text))).await.is_err() {
                return;
            }
        }
    });
    let kind = [(http::header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(ReceiverBody(receiver))).into_response())
}

fn wire(line: &skep_runtime::LogLine) -> LogLine {
    LogLine {
        time: line.time.to_string(),
        stream: line.stream.as_str().to_owned(),
        instance: line.instance.to_string(),
        text: line.text.clone(),
    }
}
