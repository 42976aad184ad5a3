//! Providers of models, budgets, and what was used.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Deserialize;
use skep_api::{
    ModelBudget, ModelKeyCheck, ModelMonth, ModelProvider, ModelProviderCheck, ModelUsage,
    ModelUsages, NewModelBudget, NewModelProvider, Page, Problem,
};
use skep_core::{Code, Timestamp};
use skep_egress::ledger::Way;
use skep_egress::llm::{Budget, Kind, Most, Provider, Standing, Subject, Window};
use skep_egress::{DayFilter, EgressError, Money};

use super::input::{self, Caller, Ordered, Path};
use crate::credentials::may_name;
use crate::gate::Asker;
use crate::models::path;
use crate::problem::ApiError;
use crate::state::State;

/// Days of usage unless it is said.
const DAYS: i64 = 30;

pub(super) fn invalid(field: &str, why: impl std::fmt::Display) -> ApiError {
    EgressError::Invalid(format!("`{field}`: {why}")).into()
}

fn shown(provider: &Provider) -> ModelProvider {
    ModelProvider {
        name: provider.name.clone(),
        kind: provider.kind.as_str().to_owned(),
        url: provider.base().to_owned(),
        secrets: provider.secrets.clone(),
        models: provider.models.clone(),
        door: path(provider.kind.door()).to_owned(),
    }
}

/// The providers of models, by name.
#[utoipa::path(get, path = "/api/v1/models/providers", tag = "models",
    responses((status = 200, body = Page<ModelProvider>), (status = "4XX", body = Problem)))]
pub(super) async fn providers(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<ModelProvider>>, ApiError> {
    let all = state.models.providers(&workspace).await?;
    let items = all.iter().map(|it| shown(it)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Adds a provider, or puts it in the place of the one of its name. Whoever names secrets must be allowed to use them.
#[utoipa::path(put, path = "/api/v1/models/providers/{provider}", tag = "models", request_body = NewModelProvider,
    params(("provider" = String, Path, description = "Its name")),
    responses((status = 200, body = ModelProvider), (status = "4XX", body = Problem)))]
pub(super) async fn provide(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewModelProvider>,
) -> Result<Json<ModelProvider>, ApiError> {
    let workspace = &asker.principal.workspace;
    let kind = Kind::named(&new.kind).ok_or_else(|| {
        let all: Vec<&str> = Kind::ALL.iter().map(|it| it.as_str()).collect();
        invalid("kind", format!("one of {}", all.join(", ")))
    })?;
    let provider = Provider {
        name,
        kind,
        url: new.url,
        secrets: new.secrets,
        models: new.models,
    };
    provider.check()?;
    for secret in &provider.secrets {
        may_name(&state, &asker, secret)
            .await?
            .map_err(|why| invalid("secrets", why))?;
    }
    let put = state.models.put_provider(&by, workspace, &provider);
    put.await?;
    Ok(Json(shown(&provider)))
}

/// Asks a provider for its models, once with each of its keys: whether it can be reached, and takes them. It costs nothing.
#[utoipa::path(post, path = "/api/v1/models/providers/{provider}/check", tag = "models",
    params(("provider" = String, Path, description = "Its name")),
    responses((status = 200, body = ModelProviderCheck), (status = "4XX", body = Problem)))]
pub(super) async fn check(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<ModelProviderCheck>, ApiError> {
    let (keys, models) = state.models.check(&workspace, &name).await?;
    let keys = keys.into_iter().map(|it| ModelKeyCheck {
        works: it.trouble.is_none(),
        secret: it.secret,
        status: it.status,
        trouble: it.trouble.map(str::to_owned),
        took_ms: u64::try_from(it.took.as_millis()).unwrap_or(u64::MAX),
    });
    let keys = keys.collect();
    Ok(Json(ModelProviderCheck { keys, models }))
}

/// Removes a provider. Exchanges that run go on.
#[utoipa::path(delete, path = "/api/v1/models/providers/{provider}", tag = "models",
    params(("provider" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove_provider(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.models.drop_provider(&by, &workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn amount(most: Most, value: i128) -> String {
    match most {
        Most::Money(_) => Money::from_nanos(i64::try_from(value).unwrap_or(i64::MAX)).to_string(),
        Most::Tokens(_) | Most::Calls(_) | Most::Requests(_) => value.to_string(),
    }
}

fn stands(standing: &Standing) -> ModelBudget {
    let Standing {
        budget,
        spent,
        reserved,
        start,
    } = standing;
    let (of, whose) = budget.subject.parts();
    let (mut money, mut tokens, mut calls, mut requests) = (None, None, None, None);
    match budget.most {
        Most::Money(most) => money = Some(most.to_string()),
        Most::Tokens(most) => tokens = Some(most),
        Most::Calls(most) => calls = Some(most),
        Most::Requests(most) => requests = Some(most),
    }
    ModelBudget {
        name: budget.name.clone(),
        of: of.to_owned(),
        whose: whose.to_owned(),
        window: budget.window.as_str().to_owned(),
        money,
        tokens,
        calls,
        requests,
        alerts: budget.alerts.clone(),
        spent: amount(budget.most, *spent),
        reserved: amount(budget.most, *reserved),
        since: start.to_string(),
    }
}

/// The budgets, and how they stand.
#[utoipa::path(get, path = "/api/v1/models/budgets", tag = "models",
    responses((status = 200, body = Page<ModelBudget>), (status = "4XX", body = Problem)))]
pub(super) async fn budgets(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<ModelBudget>>, ApiError> {
    let all = state.models.budgets(&workspace).await?;
    let items = all.iter().map(stands).collect();
    Ok(Json(Page { items, next: None }))
}

/// Adds a budget, or puts it in the place of the one of its name.
#[utoipa::path(put, path = "/api/v1/models/budgets/{budget}", tag = "models", request_body = NewModelBudget,
    params(("budget" = String, Path, description = "Its name")),
    responses((status = 200, body = ModelBudget), (status = "4XX", body = Problem)))]
pub(super) async fn set_budget(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewModelBudget>,
) -> Result<Json<ModelBudget>, ApiError> {
    let subject = Subject::of(&new.of, &new.whose);
    let subject = subject.ok_or_else(|| {
        invalid(
            "of",
            "one of workspace, agent, key, user, model, server, tool, rule",
        )
    })?;
    if subject == Subject::Workspace && !new.whose.is_empty() {
        return Err(invalid("whose", "a workspace is this one"));
    }
    let window = Window::named(&new.window);
    let window = window.ok_or_else(|| invalid("window", "one of minute, day, month, total"))?;
    let most = match (new.money, new.tokens, new.calls, new.requests) {
        (Some(money), None, None, None) => {
            let money: Result<Money, _> = money.parse();
            Most::Money(money.map_err(|error| invalid("money", error))?)
        }
        (None, Some(tokens), None, None) => Most::Tokens(tokens),
        (None, None, Some(calls), None) => Most::Calls(calls),
        (None, None, None, Some(requests)) => Most::Requests(requests),
        _ => {
            return Err(invalid(
                "money",
                "one of `money`, `tokens`, `calls` and `requests`",
            ));
        }
    };
    let budget = Budget {
        name: name.clone(),
        subject,
        window,
        most,
        alerts: new.alerts,
    };
    state.models.put_budget(&by, &workspace, &budget).await?;
    let all = state.models.budgets(&workspace).await?;
    let found = all.iter().find(|it| it.budget.name == name);
    let gone = || ApiError::new(Code::NotFound, "somebody removed it meanwhile");
    Ok(Json(stands(found.ok_or_else(gone)?)))
}

/// Removes a budget.
#[utoipa::path(delete, path = "/api/v1/models/budgets/{budget}", tag = "models",
    params(("budget" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove_budget(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.models.drop_budget(&by, &workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which days.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    /// From this day on (UTC), such as `2026-11-01`; without it, for 30 days.
    since: Option<String>,
    /// Up to this day; without it, today.
    until: Option<String>,
}

fn day(field: &str, text: &str) -> Result<i64, ApiError> {
    let begins = Timestamp::of_date(text);
    let begins = begins.map_err(|_| invalid(field, "a day such as `2026-11-01`"))?;
    Ok(begins.day())
}

/// What was used, by day, principal and model.
#[utoipa::path(get, path = "/api/v1/models/usage", tag = "models", params(UsageQuery),
    responses((status = 200, body = ModelUsages), (status = "4XX", body = Problem)))]
pub(super) async fn usage(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    input::Query(query): input::Query<UsageQuery>,
) -> Result<Json<ModelUsages>, ApiError> {
    let today = state.db.clock().now().day();
    let to = query.until.map_or(Ok(today), |it| day("until", &it))?;
    let from = query
        .since
        .map_or(Ok(to.saturating_sub(DAYS - 1)), |it| day("since", &it))?;
    let (days, more) = state
        .models
        .days(
            &workspace,
            DayFilter {
                way: Way::Model,
                from,
                to,
            },
        )
        .await?;
    let cost: Money = days.iter().map(|it| it.usage.cost).sum();
    let items = days.into_iter().map(|it| ModelUsage {
        day: Timestamp::of_day(it.day).date(),
        of: it.kind,
        whose: it.who,
        provider: it.provider,
        model: it.model,
        requests: it.usage.requests,
        failed: it.usage.failed,
        kept: it.usage.kept,
        input: it.usage.input,
        cache_read: it.usage.cache_read,
        cache_write: it.usage.cache_write,
        output: it.usage.output,
        cost: it.usage.cost.to_string(),
    });
    let month = state.models.forecast(&workspace).await?;
    Ok(Json(ModelUsages {
        items: items.collect(),
        cost: cost.to_string(),
        more,
        month: ModelMonth {
            since: month.since.date(),
            cost: month.cost.to_string(),
            forecast: month.whole.to_string(),
        },
    }))
}
