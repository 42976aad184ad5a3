//! How a workspace and its agents use models, and what is kept of their exchanges.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Deserialize;
use skep_api::{
    ForgetAnswers, ModelExchange, ModelExchangeContent, ModelSettings, NewModelSettings, Page,
    Problem, SimilarQuestions,
};
use skep_core::ExchangeId;
use skep_egress::llm::{Injections, Leaks, Nearness, Personal, Preferences, Similar, Temperature};
use skep_egress::{EgressError, Recorded, Which};

use super::input::{self, Caller, Ordered, Path};
use super::models::invalid;
use crate::problem::ApiError;
use crate::state::State;
use crate::webhooks::is_kind;

/// Exchanges that are listed unless it is said.
const LISTED: u32 = 50;
const MOST_LISTED: u32 = 200;

fn shown(whose: &str, preferences: &Preferences) -> ModelSettings {
    let Preferences {
        models,
        model,
        temperature,
        most_body,
        most_output,
        cache_s,
        forget_on,
        similar,
        record_days,
        replay,
        leaks,
        injection,
        redact,
        redact_patterns,
    } = preferences.clone();
    let words = |all: Vec<Personal>| all.iter().map(|it| it.as_str().to_owned()).collect();
    ModelSettings {
        whose: whose.to_owned(),
        settings: NewModelSettings {
            models,
            model,
            temperature: temperature.map(f64::from),
            most_body,
            most_output,
            cache_s,
            forget_on,
            similar: similar.map(|it| SimilarQuestions {
                model: it.model,
                least: it.least.into(),
            }),
            record_days,
            replay,
            leaks: leaks.map(|it| it.as_str().to_owned()),
            injection: injection.map(|it| it.as_str().to_owned()),
            redact: redact.map(words),
            redact_patterns,
        },
    }
}

fn wanted(new: NewModelSettings) -> Result<Preferences, ApiError> {
    let leaks = new.leaks.as_deref().map(|word| {
        let wrong = || invalid("leaks", "one of pass, block");
        Leaks::named(word).ok_or_else(wrong)
    });
    let injection = new.injection.as_deref().map(|word| {
        let wrong = || invalid("injection", "one of off, signal");
        Injections::named(word).ok_or_else(wrong)
    });
    let personal = |word: &String| {
        let wrong = || invalid("redact", "each is one of email, phone, card, iban, ip");
        Personal::named(word).ok_or_else(wrong)
    };
    let redact = new.redact.map(|all| all.iter().map(personal).collect());
    let temperature = new.temperature.map(Temperature::try_from);
    let odd = new.forget_on.iter().flatten().find(|it| !is_kind(it));
    if let Some(odd) = odd {
        let why = format!("`{odd}` is no kind of event, such as `agent.deployed`");
        return Err(invalid("forget_on", &why));
    }
    let similar = new.similar.map(|it| {
        let least = Nearness::try_from(it.least)?;
        Ok::<_, EgressError>(Similar {
            model: it.model,
            least,
        })
    });
    Ok(Preferences {
        models: new.models,
        model: new.model,
        temperature: temperature.transpose()?,
        most_body: new.most_body,
        most_output: new.most_output,
        cache_s: new.cache_s,
        forget_on: new.forget_on,
        similar: similar.transpose()?,
        record_days: new.record_days,
        replay: new.replay,
        leaks: leaks.transpose()?,
        injection: injection.transpose()?,
        redact: redact.transpose()?,
        redact_patterns: new.redact_patterns,
    })
}

/// How models are used: by everybody (`*`), and by agents that have settings of their own.
#[utoipa::path(get, path = "/api/v1/models/settings", tag = "models",
    responses((status = 200, body = Page<ModelSettings>), (status = "4XX", body = Problem)))]
pub(super) async fn settings(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<ModelSettings>>, ApiError> {
    let all = state.models.preferences(&workspace).await?;
    let items = all.iter().map(|(whose, it)| shown(whose, it)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Sets how models are used by an agent, or by everybody (`*`), in the place of what was set.
#[utoipa::path(put, path = "/api/v1/models/settings/{whose}", tag = "models", request_body = NewModelSettings,
    params(("whose" = String, Path, description = "An agent, or `*`")),
    responses((status = 200, body = ModelSettings), (status = "4XX", body = Problem)))]
pub(super) async fn set(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(whose): Path<String>,
    input::Json(new): input::Json<NewModelSettings>,
) -> Result<Json<ModelSettings>, ApiError> {
    let preferences = wanted(new)?;
    let put = state
        .models
        .put_preferences(&by, &workspace, (&whose, &preferences));
    put.await?;
    Ok(Json(shown(&whose, &preferences)))
}

/// Takes the settings of an agent, or of everybody, away.
#[utoipa::path(delete, path = "/api/v1/models/settings/{whose}", tag = "models",
    params(("whose" = String, Path, description = "An agent, or `*`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn unset(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(whose): Path<String>,
) -> Result<StatusCode, ApiError> {
    let dropped = state.models.drop_preferences(&by, &workspace, &whose);
    dropped.await?;
    Ok(StatusCode::NO_CONTENT)
}

fn listed(one: Recorded) -> ModelExchange {
    let (call, attempt) = one.call.unzip();
    ModelExchange {
        id: ExchangeId::from_bytes(one.id).to_string(),
        at: one.at.to_string(),
        until: one.until.to_string(),
        cached_until: one.cached_until.map(|it| it.to_string()),
        of: one.kind,
        whose: one.who,
        model: one.model,
        outcome: one.outcome,
        call,
        attempt,
        tags: one.tags,
        bytes: one.bytes,
    }
}

pub(super) fn id(text: &str) -> Result<ExchangeId, ApiError> {
    let wrong = |_| invalid("exchange", "the id of an exchange, `exc_…`");
    text.parse().map_err(wrong)
}

/// Which exchanges.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ExchangesQuery {
    /// How many, 200 at most; 50 without it.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

impl ExchangesQuery {
    /// Before which one, and how many.
    pub(super) fn wanted(&self) -> Result<(Option<ExchangeId>, u32), ApiError> {
        let before = self.cursor.as_deref().map(id).transpose()?;
        let limit = self.limit.unwrap_or(LISTED).clamp(1, MOST_LISTED);
        Ok((before, limit))
    }
}

/// Of what was listed: where the next page begins, if there may be one.
pub(super) fn next(listed: &[Recorded], limit: u32) -> Option<String> {
    let full = listed.len() as u64 >= u64::from(limit);
    let last = listed.last().filter(|_| full)?;
    Some(ExchangeId::from_bytes(last.id).to_string())
}

/// Exchanges with models that are kept, the newest first: without what was said.
#[utoipa::path(get, path = "/api/v1/models/exchanges", tag = "models", params(ExchangesQuery),
    responses((status = 200, body = Page<ModelExchange>), (status = "4XX", body = Problem)))]
pub(super) async fn exchanges(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    input::Query(query): input::Query<ExchangesQuery>,
) -> Result<Json<Page<ModelExchange>>, ApiError> {
    let (before, limit) = query.wanted()?;
    let found = state.models.recordings(&workspace, (before, limit)).await?;
    let next = next(&found, limit);
    let items = found.into_iter().map(listed).collect();
    Ok(Json(Page { items, next }))
}

/// What was said in an exchange that is kept. Who looks at it stands in the audit log before it is shown.
#[utoipa::path(get, path = "/api/v1/models/exchanges/{exchange}", tag = "models",
    params(("exchange" = String, Path, description = "`exc_…`")),
    responses((status = 200, body = ModelExchangeContent), (status = "4XX", body = Problem)))]
pub(super) async fn exchange(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(exchange): Path<String>,
) -> Result<Json<ModelExchangeContent>, ApiError> {
    let id = id(&exchange)?;
    let (recorded, content) = state.models.recording(&by, &workspace, id).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Json(ModelExchangeContent {
        exchange: listed(recorded),
        target: content.target,
        asked: (!content.asked.is_empty()).then(|| text(&content.asked)),
        status: content.status,
        answer: text(&content.answer),
    }))
}

/// Removes an exchange that is kept.
#[utoipa::path(delete, path = "/api/v1/models/exchanges/{exchange}", tag = "models",
    params(("exchange" = String, Path, description = "`exc_…`")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(exchange): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = id(&exchange)?;
    state.models.drop_recording(&by, &workspace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives answers again no more: those of a tag, of a model, or all. Exchanges that people can look at stay.
#[utoipa::path(post, path = "/api/v1/models/forget", tag = "models", request_body = ForgetAnswers,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn forget(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    input::Json(wish): input::Json<ForgetAnswers>,
) -> Result<StatusCode, ApiError> {
    let which = Which {
        tag: wish.tag,
        model: wish.model,
    };
    state.models.forget(&by, &workspace, which).await?;
    Ok(StatusCode::NO_CONTENT)
}
