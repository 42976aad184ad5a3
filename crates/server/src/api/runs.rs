//! Runs and threads: look, follow, cancel, fork, forget.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use skep_api::{NewFork, Page, Problem, Run, RunError, RunStatus, Thread, ThreadContent};
use skep_core::{Code, RunId, ThreadId, Workspace};
use skep_protocols::EventId;
use skep_protocols::agui::Fold;
use skep_runs::{Filter, Fork, Kept};
use skep_store::StoreError;
use utoipa::IntoParams;

use super::feed::{self, BATCH, Source, Told};
use super::input::{self, Caller, Ordered, Path, Query, cursor, limit, page};
use crate::changes::behind;
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::runs::{Agui, Started, Watch, check_id, seen, stream, tell, whose};
use crate::state::State;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this agent's runs.
    agent: Option<String>,
    /// Only those of this conversation, `thr_…`.
    thread: Option<String>,
    /// Only those that stand so.
    status: Option<RunStatus>,
    /// Only those in which an agent was asked by the one of this run.
    parent: Option<String>,
    /// Where the page begins: `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ThreadsQuery {
    /// Only those with this agent.
    agent: Option<String>,
    /// Where the page begins: `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    limit: Option<u32>,
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The id of a run; one that is malformed is one that does not exist.
fn run_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(|_| {
        let detail = format!("no run has the id `{}`", shown(text));
        ApiError::new(Code::RunNotFound, detail)
    })
}

/// The id of a thread; one that is malformed is one that does not exist.
fn thread_id(text: &str) -> Result<ThreadId, ApiError> {
    text.parse().map_err(|_| {
        let detail = format!("no thread has the id `{}`", shown(text));
        ApiError::new(Code::ThreadNotFound, detail)
    })
}

fn values<T: serde::Serialize>(all: &[T]) -> Vec<Value> {
    let value = |one| serde_json::to_value(one).unwrap_or_default();
    all.iter().map(value).collect()
}

fn run(of: &skep_runs::Run) -> Run {
    let error = of.error.clone();
    Run {
        id: of.id.to_string(),
        thread: of.thread.to_string(),
        agent: of.agent.clone(),
        status: of.status,
        name: of.name.clone(),
        by: of.whose.clone(),
        call: of.call.to_string(),
        parent: of.parent.map(|it| it.to_string()),
        protocol: of.protocol.clone(),
        created_at: of.created.to_string(),
        ended_at: of.ended.map(|it| it.to_string()),
        error: error.map(|(code, message)| RunError { code, message }),
        interrupts: values(&of.interrupts),
        usage: values(&of.usage),
    }
}

fn thread(of: &skep_runs::Thread) -> Thread {
    Thread {
        id: of.id.to_string(),
        agent: of.agent.clone(),
        name: of.name.clone(),
        by: of.whose.clone(),
        created_at: of.created.to_string(),
        changed_at: of.changed.to_string(),
        run: of.run.map(|it| it.to_string()),
    }
}

fn json<T: serde::de::DeserializeOwned>(bytes: Option<&[u8]>) -> Result<Option<T>, StoreError> {
    let wrong = |_| StoreError::Statement("what a run came to cannot be read".to_owned());
    bytes
        .map(|bytes| serde_json::from_slice(bytes).map_err(wrong))
        .transpose()
}

/// Runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(ListQuery),
    responses((status = 200, body = Page<Run>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Run>>, ApiError> {
    let limit = limit(query.limit)?;
    let before = cursor(query.cursor.as_deref())?;
    let filter = Filter {
        agent: query.agent,
        thread: query.thread.as_deref().map(thread_id).transpose()?,
        status: query.status,
        parent: query.parent.as_deref().map(run_id).transpose()?,
    };
    let found = state
        .runs()
        .list(&workspace, filter, (before, limit + 1))
        .await?;
    let items = found.iter().map(run).collect();
    Ok(Json(page(items, limit, |it: &Run| it.id.clone())))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Begin behind the change with this id, as the header `Last-Event-ID` does.
    after: Option<String>,
    /// Only this agent's runs.
    agent: Option<String>,
    /// Only those of this conversation, `thr_…`.
    thread: Option<String>,
}

/// What happens to runs, as server-sent events with ids: that they begin, and that they end. Each has the run as it stands when it is
/// told. A client that lost the connection goes on with `Last-Event-ID`. Without that and `after`, it begins now.
#[utoipa::path(get, path = "/api/v1/runs/stream", tag = "runs",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "Begin behind this change")),
    responses(
        (status = 200, body = Run, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn changes(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let thread = query.thread.as_deref().map(thread_id).transpose()?;
    let after = match feed::seen(&headers, query.after.as_deref())? {
        Some(after) => after,
        None => state.audit.log.integrate().await?,
    };
    let source = OfRuns {
        state: state.clone(),
        workspace,
        agent: query.agent,
        thread,
    };
    Ok(feed::stream(state, after, source))
}

/// What happens to runs: what happens to the calls that carry them.
struct OfRuns {
    state: Arc<State>,
    workspace: Workspace,
    agent: Option<String>,
    thread: Option<ThreadId>,
}

#[async_trait]
impl Source for OfRuns {
    async fn read(&mut self, after: u64) -> Result<(Vec<Told>, u64), ApiError> {
        let from = (&*self.state.audit, &self.state.ingress);
        let (found, next) = behind(from, &self.workspace, (after, BATCH), false).await?;
        let calls = found.iter().map(|(_, change)| change.call).collect();
        let runs = self.state.runs().of_calls(&self.workspace, calls).await?;
        let told = found
            .into_iter()
            .zip(runs)
            .filter_map(|((number, change), of)| {
                let of = of?;
                let wanted = self.agent.as_ref().is_none_or(|it| of.agent == *it)
                    && self.thread.is_none_or(|it| of.thread == it);
                let kind = match change.state.is_final() {
                    true => format!("run.{}", of.status.as_str()),
                    false => "run.running".to_owned(),
                };
                wanted.then(|| Told {
                    number,
                    kind,
                    data: skep_api::to_json(&run(&of)),
                })
            });
        Ok((told.collect(), next))
    }
}

/// One run.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs",
    params(("run" = String, Path, description = "`run_…`")),
    responses((status = 200, body = Run), (status = 404, body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Run>, ApiError> {
    let found = state.runs().show(&workspace, run_id(&id)?).await?;
    Ok(Json(run(&found)))
}

/// What was asked in a run: the request that AG-UI has for it.
#[utoipa::path(get, path = "/api/v1/runs/{run}/input", tag = "runs",
    params(("run" = String, Path, description = "`run_…`")),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn asked(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (input, _) = state.runs().asked(&workspace, run_id(&id)?).await?;
    Ok(Json(serde_json::to_value(input).unwrap_or_default()))
}

async fn started(state: &State, workspace: &Workspace, id: RunId) -> Result<Started, ApiError> {
    let (found, (input, _)) = (
        state.runs().show(workspace, id).await?,
        state.runs().asked(workspace, id).await?,
    );
    Ok(Started {
        run: found.id,
        call: found.call,
        input,
    })
}

/// The events of a run in AG-UI, from its beginning or behind one that was seen, until its end. Who comes behind an event is shown
/// what the run had come to by then, and what follows.
#[utoipa::path(get, path = "/api/v1/runs/{run}/events", tag = "runs",
    params(
        ("run" = String, Path, description = "`run_…`"),
        ("last-event-id" = Option<String>, Header, description = "Continue behind this event"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn events(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let behind = seen(&headers)?;
    let started = started(&state, &workspace, run_id(&id)?).await?;
    let watch = Watch::of(&state, &workspace, &started, behind).await?;
    let mut response = stream(watch, Agui).map(axum::body::Body::new);
    tell(response.headers_mut(), &started);
    Ok(response)
}

/// Ends a run that is not wanted any more.
#[utoipa::path(post, path = "/api/v1/runs/{run}/cancel", tag = "runs",
    params(("run" = String, Path, description = "`run_…`")),
    responses((status = 200, body = Run), (status = "4XX", body = Problem)))]
pub(super) async fn cancel(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(id): Path<String>,
) -> Result<Json<Run>, ApiError> {
    let id = run_id(&id)?;
    let found = state.runs().show(&workspace, id).await?;
    state.ingress.cancel(&by, &workspace, found.call).await?;
    let found = state.runs().show(&workspace, id).await?;
    Ok(Json(run(&found)))
}

/// What a run had come to behind one of its events.
async fn by_event(
    state: &State,
    workspace: &Workspace,
    (id, behind): (RunId, &str),
) -> Result<Kept, ApiError> {
    let wrong = || ApiError::new(Code::InvalidSpec, "`behind` is not an event of this run");
    let behind: EventId = behind.parse().map_err(|_| wrong())?;
    let started = started(state, workspace, id).await?;
    let mut watch = Watch::of(state, workspace, &started, None).await?;
    let mut fold = Fold::new(&started.input);
    let mut all = watch.begin();
    loop {
        for shown in all {
            // What does not apply changes nothing, as with a client.
            let _ = fold.apply(&shown.event);
            if shown.id == Some(behind) {
                let bytes = |it: &Value| it.to_string().into_bytes();
                let messages = serde_json::to_value(fold.messages()).unwrap_or_default();
                return Ok(Kept {
                    messages: Some(bytes(&messages)),
                    state: fold.state().map(bytes),
                    result: None,
                });
            }
        }
        match watch.next().await {
            None => return Err(wrong()),
            Some(Ok(next)) => all = next,
            Some(Err(why)) => return Err(ApiError::new(Code::ShuttingDown, why)),
        }
    }
}

/// Begins a new conversation with what this one had come to: by the end of the run, or by one of its events.
#[utoipa::path(post, path = "/api/v1/runs/{run}/fork", tag = "runs", request_body = NewFork,
    params(("run" = String, Path, description = "`run_…`")),
    responses((status = 201, body = Thread), (status = "4XX", body = Problem)))]
pub(super) async fn fork(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    asker: Asker,
    Path(id): Path<String>,
    input::Json(order): input::Json<NewFork>,
) -> Result<Response, ApiError> {
    let id = run_id(&id)?;
    if let Some(name) = &order.name {
        check_id("name", name)?;
    }
    let found = state.runs().show(&workspace, id).await?;
    let kept = match &order.behind {
        Some(behind) => by_event(&state, &workspace, (id, behind)).await?,
        None if found.status == RunStatus::Running => {
            let detail = format!("{id} is under way: name the event with `behind`");
            return Err(ApiError::new(Code::ThreadState, detail));
        }
        None => state.runs().kept(&workspace, id).await?,
    };
    let fork = Fork {
        agent: found.agent,
        whose: whose(&asker.principal),
        name: order.name,
        kept,
    };
    let made = state.runs().fork(&by, &workspace, fork).await?;
    let location = [(
        http::header::LOCATION,
        format!("/api/v1/threads/{}", made.id),
    )];
    Ok((StatusCode::CREATED, location, Json(thread(&made))).into_response())
}

/// Conversations, newest first.
#[utoipa::path(get, path = "/api/v1/threads", tag = "runs", params(ThreadsQuery),
    responses((status = 200, body = Page<Thread>), (status = "4XX", body = Problem)))]
pub(super) async fn threads(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<ThreadsQuery>,
) -> Result<Json<Page<Thread>>, ApiError> {
    let limit = limit(query.limit)?;
    let before = cursor(query.cursor.as_deref())?;
    let found = state
        .runs()
        .threads(&workspace, query.agent, (before, limit + 1))
        .await?;
    let items = found.iter().map(thread).collect();
    Ok(Json(page(items, limit, |it: &Thread| it.id.clone())))
}

/// One conversation, with what was said in it.
#[utoipa::path(get, path = "/api/v1/threads/{thread}", tag = "runs",
    params(("thread" = String, Path, description = "`thr_…`")),
    responses((status = 200, body = ThreadContent), (status = 404, body = Problem)))]
pub(super) async fn show_thread(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<ThreadContent>, ApiError> {
    let (found, kept) = state.runs().thread(&workspace, thread_id(&id)?).await?;
    Ok(Json(ThreadContent {
        thread: thread(&found),
        messages: json(kept.messages.as_deref())?.unwrap_or_default(),
        state: json(kept.state.as_deref())?,
    }))
}

/// Forgets a conversation with its runs. The calls that carried them stay for as long as calls are kept.
#[utoipa::path(delete, path = "/api/v1/threads/{thread}", tag = "runs",
    params(("thread" = String, Path, description = "`thr_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn forget(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state
        .runs()
        .forget(&by, &workspace, thread_id(&id)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
