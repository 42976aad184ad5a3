//! Routes to models: who answers in the place of a name; and how models did.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Deserialize;
use skep_api::{
    ModelPerformance, ModelPerformances, ModelRoute, ModelRouteVersion, NewModelRoute,
    NewRouteModel, Page, Problem, RouteModel, RouteRollback,
};
use skep_core::{Code, Workspace};
use skep_egress::Performance;
use skep_egress::llm::{Bound, Leg, Pick, Route, RouteVersion};

use super::input::{self, Caller, Ordered, Path};
use super::models::invalid;
use crate::problem::ApiError;
use crate::state::State;

/// Hours that are looked at unless it is said, and at most.
const HOURS: u64 = 24;
const MOST_HOURS: u64 = 24 * 31;

fn shown(state: &State, workspace: &Workspace, route: &Route) -> ModelRoute {
    let model = |leg: &Leg| {
        let condition = state.models.condition(workspace, &leg.model);
        let millis = |it: std::time::Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        RouteModel {
            model: leg.model.clone(),
            weight: leg.weight,
            failures: condition.failures,
            resting_until: condition.until.map(|it| it.to_string()),
            first_ms: condition.first.map(millis),
        }
    };
    ModelRoute {
        name: route.name.clone(),
        pick: route.pick.as_str().to_owned(),
        tries: route.tries,
        models: route.legs.iter().map(model).collect(),
    }
}

/// The routes to models, by name.
#[utoipa::path(get, path = "/api/v1/models/routes", tag = "models",
    responses((status = 200, body = Page<ModelRoute>), (status = "4XX", body = Problem)))]
pub(super) async fn routes(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<ModelRoute>>, ApiError> {
    let all = state.models.routes(&workspace).await?;
    let items = all.iter().map(|it| shown(&state, &workspace, it)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Adds a route, or puts it in the place of the one of its name. Who asks for it must be allowed to use who answers.
#[utoipa::path(put, path = "/api/v1/models/routes/{route}", tag = "models", request_body = NewModelRoute,
    params(("route" = String, Path, description = "Its name")),
    responses((status = 200, body = ModelRoute), (status = "4XX", body = Problem)))]
pub(super) async fn set_route(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewModelRoute>,
) -> Result<Json<ModelRoute>, ApiError> {
    let pick = Pick::named(new.pick.as_deref().unwrap_or("ordered"));
    let legs = new.models.into_iter().map(|it| Leg {
        model: it.model,
        weight: it.weight.unwrap_or(1),
    });
    let route = Route {
        name,
        pick: pick.ok_or_else(|| invalid("pick", "one of ordered, weighted, fastest"))?,
        tries: new.tries.unwrap_or(1),
        legs: legs.collect(),
        bound: new.rollback.as_ref().map(bound),
    };
    state.models.put_route(&by, &workspace, &route).await?;
    Ok(Json(shown(&state, &workspace, &route)))
}

fn bound(of: &RouteRollback) -> Bound {
    Bound {
        after: of.after,
        failures: of.failures,
        p95_ms: of.p95_ms,
        score: of.score,
    }
}

fn version(of: RouteVersion) -> ModelRouteVersion {
    let model = |it: Leg| NewRouteModel {
        model: it.model,
        weight: Some(it.weight),
    };
    let rollback = of.route.bound.map(|it| RouteRollback {
        after: it.after,
        failures: it.failures,
        p95_ms: it.p95_ms,
        score: it.score,
    });
    ModelRouteVersion {
        version: of.number,
        at: of.at.to_string(),
        back_to: of.back,
        route: NewModelRoute {
            pick: Some(of.route.pick.as_str().to_owned()),
            tries: Some(of.route.tries),
            models: of.route.legs.into_iter().map(model).collect(),
            rollback,
        },
    }
}

/// The versions of a route, the newest first.
#[utoipa::path(get, path = "/api/v1/models/routes/{route}/versions", tag = "models",
    params(("route" = String, Path, description = "Its name")),
    responses((status = 200, body = Page<ModelRouteVersion>), (status = "4XX", body = Problem)))]
pub(super) async fn versions(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Page<ModelRouteVersion>>, ApiError> {
    let all = state.models.route_versions(&workspace, &name).await?;
    let items = all.into_iter().map(version).collect();
    Ok(Json(Page { items, next: None }))
}

/// Goes back to the version of a route before the newest one; done again, one further.
#[utoipa::path(post, path = "/api/v1/models/routes/{route}/rollback", tag = "models",
    params(("route" = String, Path, description = "Its name")),
    responses((status = 200, body = ModelRouteVersion), (status = "4XX", body = Problem)))]
pub(super) async fn roll_back(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<Json<ModelRouteVersion>, ApiError> {
    let back = state
        .models
        .roll_route_back(&by, &workspace, (&name, None), |_, _| Ok(()));
    back.await?;
    let mut all = state.models.route_versions(&workspace, &name).await?;
    let gone = || ApiError::new(Code::NotFound, "somebody removed it meanwhile");
    if all.is_empty() {
        return Err(gone());
    }
    Ok(Json(version(all.swap_remove(0))))
}

/// Removes a route. Who asks for its name is answered by a model of that name, or by nobody.
#[utoipa::path(delete, path = "/api/v1/models/routes/{route}", tag = "models",
    params(("route" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove_route(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.models.drop_route(&by, &workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Over which time.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PerformanceQuery {
    /// So many hours until now, 744 at most; 24 without it.
    hours: Option<u64>,
}

fn told(of: Performance) -> ModelPerformance {
    ModelPerformance {
        provider: of.provider,
        model: of.model,
        requests: of.requests,
        failed: of.failed,
        first_ms_p50: of.first_us.0 / 1_000,
        first_ms_p95: of.first_us.1 / 1_000,
        whole_ms_p50: of.whole_us.0 / 1_000,
        whole_ms_p95: of.whole_us.1 / 1_000,
        tokens_per_s: of.tokens_per_s,
        cost: of.cost.to_string(),
        scores: of.scores,
        score: of.score,
    }
}

/// How each model did of late: how soon its answers began and ended, how many failed, and what they cost.
#[utoipa::path(get, path = "/api/v1/models/performance", tag = "models", params(PerformanceQuery),
    responses((status = 200, body = ModelPerformances), (status = "4XX", body = Problem)))]
pub(super) async fn performance(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    input::Query(query): input::Query<PerformanceQuery>,
) -> Result<Json<ModelPerformances>, ApiError> {
    let hours = query.hours.unwrap_or(HOURS);
    if !(1..=MOST_HOURS).contains(&hours) {
        return Err(invalid("hours", "1 to 744"));
    }
    let (all, more) = state.models.performance(&workspace, hours).await?;
    let items = all.into_iter().map(told).collect();
    Ok(Json(ModelPerformances { items, more }))
}
