//! What agents use, and how their calls go: the runtime's figures and the call door's, joined.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use serde::Deserialize;
use skep_api::{
    InstanceState, InstanceStats, Page, Performance, PerformanceHour, Problem, RevisionStats,
    Stats, Traffic, Usage,
};
use skep_core::{InstanceId, Workspace};
use skep_ingress::Pace;
use skep_runtime::AgentUsage;
use utoipa::IntoParams;

use super::agents::PageQuery;
use super::input::{Caller, Path, Query, limit, page, since};
use crate::problem::ApiError;
use crate::state::State;

/// How far back performance goes, unless somebody says how far.
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn traffic(
    state: &State,
    workspace: &Workspace,
    agent: &str,
    instance: Option<InstanceId>,
) -> Traffic {
    let (pace, in_flight) = state.ingress.pace(workspace, agent, instance);
    shown(&pace, in_flight)
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn shown(pace: &Pace, in_flight: u64) -> Traffic {
    Traffic {
        in_flight,
        calls_per_second: (pace.per_second * 100.0).round() / 100.0,
        errors: pace.errors,
        p50_ms: pace.p50.map(ms),
        p99_ms: pace.p99.map(ms),
    }
}

/// The sum of what is known; nothing, when nothing is.
fn sum<T: std::iter::Sum + Copy>(
    all: &[InstanceStats],
    of: impl Fn(&Usage) -> Option<T>,
) -> Option<T> {
    let known: Vec<T> = all.iter().filter_map(|one| of(&one.usage)).collect();
    (!known.is_empty()).then(|| known.into_iter().sum())
}

fn ready<'a>(all: impl IntoIterator<Item = &'a InstanceStats>) -> u32 {
    let ready = all
        .into_iter()
        .filter(|one| one.state == InstanceState::Ready);
    u32::try_from(ready.count()).unwrap_or(u32::MAX)
}

fn revisions(
    state: &State,
    workspace: &Workspace,
    agent: &str,
    instances: &[InstanceStats],
) -> Vec<RevisionStats> {
    let mut paces: BTreeMap<u32, Pace> =
        state.ingress.paces(workspace, agent).into_iter().collect();
    for one in instances {
        paces.entry(one.revision).or_default();
    }
    let stats = |(revision, pace): (u32, Pace)| {
        let its = || instances.iter().filter(|one| one.revision == revision);
        RevisionStats {
            revision,
            ready: ready(its()),
            traffic: shown(&pace, its().map(|one| one.traffic.in_flight).sum()),
        }
    };
    paces.into_iter().map(stats).collect()
}

fn join(state: &State, workspace: &Workspace, found: &AgentUsage) -> Stats {
    let agent = &found.agent;
    let instances: Vec<_> = found
        .instances
        .iter()
        .map(|one| InstanceStats {
            instance: one.instance.to_string(),
            revision: one.revision,
            state: one.state,
            usage: one.into(),
            traffic: traffic(state, workspace, &agent.name, Some(one.instance)),
        })
        .collect();
    let usage = Usage {
        cpu_ms: sum(&instances, |usage| usage.cpu_ms),
        cpu_percent: sum(&instances, |usage| usage.cpu_percent),
        memory_bytes: sum(&instances, |usage| usage.memory_bytes),
        processes: sum(&instances, |usage| usage.processes),
        received_bytes: sum(&instances, |usage| usage.received_bytes),
        sent_bytes: sum(&instances, |usage| usage.sent_bytes),
    };
    Stats {
        agent: agent.name.clone(),
        state: agent.state,
        replicas: agent.replicas,
        ready: ready(&instances),
        usage,
        traffic: traffic(state, workspace, &agent.name, None),
        queued: state.ingress.load(workspace, &agent.name).waiting,
        restarts: agent.restarts,
        revisions: revisions(state, workspace, &agent.name, &instances),
        instances,
    }
}

/// What an agent uses now, each of its instances, and how its calls go.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/stats", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = Stats), (status = 404, body = Problem)))]
pub(super) async fn stats(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Stats>, ApiError> {
    // With an error that knows similar names.
    state.runtime.info(&workspace, &name)?;
    let found = state
        .runtime
        .usage(&workspace, std::slice::from_ref(&name))
        .await;
    match found.first() {
        Some(found) => Ok(Json(join(&state, &workspace, found))),
        // Removed meanwhile.
        None => Err(state.runtime.info(&workspace, &name).err().map_or_else(
            || ApiError::new(skep_core::Code::AgentNotFound, "the agent is gone"),
            ApiError::from,
        )),
    }
}

/// What every agent uses now, by name.
#[utoipa::path(get, path = "/api/v1/stats", tag = "agents", params(PageQuery),
    responses((status = 200, body = Page<Stats>), (status = "4XX", body = Problem)))]
pub(super) async fn all_stats(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Stats>>, ApiError> {
    let limit = limit(query.limit)?;
    let found = state
        .runtime
        .list(&workspace, query.cursor.as_deref(), limit as usize + 1);
    let Page { items, next } = page(found, limit, |info| info.name.clone());
    let names: Vec<_> = items.into_iter().map(|info| info.name).collect();
    let found = state.runtime.usage(&workspace, &names).await;
    let items = found.iter().map(|found| join(&state, &workspace, found));
    Ok(Json(Page {
        items: items.collect(),
        next,
    }))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PerformanceQuery {
    /// From this moment on (RFC 3339), or of this last time (`24h`, the default); whole hours.
    since: Option<String>,
}

/// How an agent's requests went, hour by hour, for each revision.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/performance", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name"), PerformanceQuery),
    responses((status = 200, body = Performance), (status = "4XX", body = Problem)))]
pub(super) async fn performance(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(agent): Path<String>,
    Query(query): Query<PerformanceQuery>,
) -> Result<Json<Performance>, ApiError> {
    // With an error that knows similar names.
    state.runtime.info(&workspace, &agent)?;
    let now = state.db.clock().now();
    let since = since(query.since.as_deref(), now)?.unwrap_or_else(|| now.minus(DAY));
    let hours = state.ingress.hours(&workspace, &agent, since).await?;
    let hours = hours.into_iter().map(|hour| PerformanceHour {
        time: hour.at.to_string(),
        revision: hour.revision,
        calls: hour.calls,
        errors: hour.errors,
        p50_ms: hour.p50.map(ms),
        p95_ms: hour.p95.map(ms),
        p99_ms: hour.p99.map(ms),
    });
    Ok(Json(Performance {
        agent,
        hours: hours.collect(),
    }))
}
