//! Prompts of models: versions, labels, what is made of them; and scores of answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use skep_api::{
    ListedPrompt, ModelPrompt, NewPromptLabel, NewPromptVersion, NewScore, Page, Problem,
    PromptDiff, PromptLabel, PromptMessage, PromptShare, PromptUsage, PromptVersion, RenderPrompt,
    RenderedPrompt,
};
use skep_core::{Code, Workspace};
use skep_egress::llm::{
    Message, Move, Prompt, PromptLeg, Role, Scored, Version, VersionUsage, WhichVersion,
};

use super::input::{self, Caller, Ordered, Path};
use super::models::invalid;
use crate::gate::Asker;
use crate::models::who;
use crate::problem::ApiError;
use crate::state::State;

/// Days of usage unless it is said, and at most.
const DAYS: u32 = 30;
const MOST_DAYS: u32 = 366;

fn said(message: Message) -> PromptMessage {
    PromptMessage {
        role: message.role.as_str().to_owned(),
        content: message.content,
    }
}

fn shown(name: &str, version: Version) -> PromptVersion {
    let wanted = version.prompt.check().unwrap_or_default();
    PromptVersion {
        name: name.to_owned(),
        version: version.number,
        at: version.at.to_string(),
        model: version.prompt.model,
        messages: version.prompt.messages.into_iter().map(said).collect(),
        note: version.prompt.note,
        variables: wanted.into_iter().collect(),
    }
}

fn label(of: &Move) -> PromptLabel {
    let share = |it: &PromptLeg| PromptShare {
        version: it.version,
        weight: Some(it.weight),
    };
    PromptLabel {
        label: of.label.clone(),
        number: of.nth,
        at: of.at.to_string(),
        back_to: of.back,
        versions: of.legs.iter().map(share).collect(),
    }
}

/// The prompts, by name.
#[utoipa::path(get, path = "/api/v1/prompts", tag = "prompts",
    responses((status = 200, body = Page<ListedPrompt>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<ListedPrompt>>, ApiError> {
    let all = state.models.prompts(&workspace).await?;
    let items = all.into_iter().map(|it| ListedPrompt {
        name: it.name,
        latest: it.latest,
        at: it.at.to_string(),
        labels: it.labels.iter().map(label).collect(),
    });
    let items = items.collect();
    Ok(Json(Page { items, next: None }))
}

/// A prompt: all its versions, and where its labels are and were.
#[utoipa::path(get, path = "/api/v1/prompts/{prompt}", tag = "prompts",
    params(("prompt" = String, Path, description = "Its name")),
    responses((status = 200, body = ModelPrompt), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<ModelPrompt>, ApiError> {
    let (versions, moves) = state.models.prompt(&workspace, &name).await?;
    Ok(Json(ModelPrompt {
        versions: versions.into_iter().map(|it| shown(&name, it)).collect(),
        labels: moves.iter().map(label).collect(),
        name,
    }))
}

/// Removes a prompt, with all versions and labels. Its numbers are not used again.
#[utoipa::path(delete, path = "/api/v1/prompts/{prompt}", tag = "prompts",
    params(("prompt" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.models.drop_prompt(&by, &workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds a version to a prompt; the first one makes the prompt. No label moves.
#[utoipa::path(post, path = "/api/v1/prompts/{prompt}/versions", tag = "prompts", request_body = NewPromptVersion,
    params(("prompt" = String, Path, description = "Its name")),
    responses((status = 201, body = PromptVersion), (status = "4XX", body = Problem)))]
pub(super) async fn add(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewPromptVersion>,
) -> Result<(StatusCode, Json<PromptVersion>), ApiError> {
    let message = |it: PromptMessage| {
        let wrong = || invalid("role", "one of system, user, assistant");
        Ok(Message {
            role: Role::named(&it.role).ok_or_else(wrong)?,
            content: it.content,
        })
    };
    let messages: Result<Vec<Message>, ApiError> = new.messages.into_iter().map(message).collect();
    let prompt = Prompt {
        model: new.model,
        messages: messages?,
        note: new.note,
    };
    let made = state.models.add_prompt(&by, &workspace, (&name, &prompt));
    Ok((StatusCode::CREATED, Json(shown(&name, made.await?))))
}

/// One version of a prompt, by its number or a label.
#[utoipa::path(get, path = "/api/v1/prompts/{prompt}/versions/{number}", tag = "prompts",
    params(("prompt" = String, Path, description = "Its name"),
        ("number" = String, Path, description = "A number, a label, or `latest`")),
    responses((status = 200, body = PromptVersion), (status = "4XX", body = Problem)))]
pub(super) async fn version(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<PromptVersion>, ApiError> {
    let which = WhichVersion::of(Some(&version))?;
    let found = state
        .models
        .prompt_version(&workspace, (&name, which), None);
    Ok(Json(shown(&name, found.await?)))
}

/// Which versions.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffQuery {
    /// A number or a label; `production` without it.
    from: Option<String>,
    /// A number or a label; `latest` without it.
    to: Option<String>,
}

/// What differs between two versions of a prompt.
#[utoipa::path(get, path = "/api/v1/prompts/{prompt}/diff", tag = "prompts", params(DiffQuery,
        ("prompt" = String, Path, description = "Its name")),
    responses((status = 200, body = PromptDiff), (status = "4XX", body = Problem)))]
pub(super) async fn diff(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    input::Query(query): input::Query<DiffQuery>,
) -> Result<Json<PromptDiff>, ApiError> {
    let from = WhichVersion::of(query.from.as_deref())?;
    let to = WhichVersion::of(Some(query.to.as_deref().unwrap_or("latest")))?;
    let told = state
        .models
        .prompt_difference(&workspace, &name, (from, to));
    let (from, to, diff) = told.await?;
    Ok(Json(PromptDiff {
        from: from.number,
        to: to.number,
        diff,
    }))
}

/// What a prompt says with these variables. Nothing is sent to a model.
#[utoipa::path(post, path = "/api/v1/prompts/{prompt}/render", tag = "prompts", request_body = RenderPrompt,
    params(("prompt" = String, Path, description = "Its name")),
    responses((status = 200, body = RenderedPrompt), (status = "4XX", body = Problem)))]
pub(super) async fn render(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    input::Json(wish): input::Json<RenderPrompt>,
) -> Result<Json<RenderedPrompt>, ApiError> {
    let which = WhichVersion::of(wish.version.as_deref())?;
    let variables = Value::Object(wish.variables);
    let with = (wish.thread.as_deref().map(str::as_bytes), &variables);
    let made = state.models.make_prompt(&workspace, (&name, which), with);
    let made = made.await?;
    Ok(Json(RenderedPrompt {
        version: made.version,
        model: made.model,
        messages: made.messages.into_iter().map(said).collect(),
        name,
    }))
}

/// Over which time.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    /// So many days until now, 366 at most; 30 without it.
    days: Option<u32>,
}

/// What was used by way of each version of a prompt, and how it was found to be, the newest first.
#[utoipa::path(get, path = "/api/v1/prompts/{prompt}/usage", tag = "prompts", params(UsageQuery,
        ("prompt" = String, Path, description = "Its name")),
    responses((status = 200, body = Page<PromptUsage>), (status = "4XX", body = Problem)))]
pub(super) async fn usage(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    input::Query(query): input::Query<UsageQuery>,
) -> Result<Json<Page<PromptUsage>>, ApiError> {
    let days = query.days.unwrap_or(DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(invalid("days", "1 to 366"));
    }
    let used = state.models.prompt_usage(&workspace, &name, days).await?;
    let told = |it: VersionUsage| PromptUsage {
        version: it.version,
        requests: it.requests,
        failed: it.failed,
        input: it.input,
        output: it.output,
        cost: it.cost.to_string(),
        scores: it.scores,
        score: it.score,
    };
    let items = used.into_iter().map(told).collect();
    Ok(Json(Page { items, next: None }))
}

/// Where a label is now.
async fn moved(
    state: &State,
    workspace: &Workspace,
    (name, wanted): (&str, &str),
) -> Result<Json<PromptLabel>, ApiError> {
    let found = state.models.prompt_label(workspace, (name, wanted)).await?;
    let gone = || ApiError::new(Code::NotFound, "somebody removed it meanwhile");
    found.as_ref().map(label).map(Json).ok_or_else(gone)
}

/// Moves a label to a version, or to several of which one is taken by weight. Where it was before is kept.
#[utoipa::path(put, path = "/api/v1/prompts/{prompt}/labels/{label}", tag = "prompts", request_body = NewPromptLabel,
    params(("prompt" = String, Path, description = "Its name"), ("label" = String, Path, description = "The label")),
    responses((status = 200, body = PromptLabel), (status = "4XX", body = Problem)))]
pub(super) async fn put_label(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path((name, wanted)): Path<(String, String)>,
    input::Json(new): input::Json<NewPromptLabel>,
) -> Result<Json<PromptLabel>, ApiError> {
    if new.versions.is_empty() {
        return Err(invalid("versions", "one at least"));
    }
    let leg = |it: PromptShare| PromptLeg {
        version: it.version,
        weight: it.weight.unwrap_or(1),
    };
    let legs = new.versions.into_iter().map(leg).collect();
    let put = state
        .models
        .move_label(&by, &workspace, (&name, &wanted), legs);
    put.await?;
    moved(&state, &workspace, (&name, &wanted)).await
}

/// Moves a label back to where it was before; done again, one further.
#[utoipa::path(post, path = "/api/v1/prompts/{prompt}/labels/{label}/rollback", tag = "prompts",
    params(("prompt" = String, Path, description = "Its name"), ("label" = String, Path, description = "The label")),
    responses((status = 200, body = PromptLabel), (status = "4XX", body = Problem)))]
pub(super) async fn roll_back(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path((name, wanted)): Path<(String, String)>,
) -> Result<Json<PromptLabel>, ApiError> {
    let back = state
        .models
        .roll_label_back(&by, &workspace, (&name, &wanted));
    back.await?;
    moved(&state, &workspace, (&name, &wanted)).await
}

/// Takes a label away.
#[utoipa::path(delete, path = "/api/v1/prompts/{prompt}/labels/{label}", tag = "prompts",
    params(("prompt" = String, Path, description = "Its name"), ("label" = String, Path, description = "The label")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove_label(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path((name, wanted)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let put = state
        .models
        .move_label(&by, &workspace, (&name, &wanted), Vec::new());
    put.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says how good an exchange with a model, or all of a thread, was. Said again, it takes the place of what the same one said
/// before. An agent says it of its own.
#[utoipa::path(post, path = "/api/v1/models/scores", tag = "models", request_body = NewScore,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn score(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    input::Json(new): input::Json<NewScore>,
) -> Result<StatusCode, ApiError> {
    let scored = match (new.exchange, new.thread) {
        (Some(id), None) => {
            let wrong = |_| invalid("exchange", "the id of an exchange, `exc_…`");
            Scored::Exchange(id.parse().map_err(wrong)?)
        }
        (None, Some(thread)) => Scored::Thread(thread),
        _ => return Err(invalid("exchange", "either `exchange` or `thread`")),
    };
    let who = who(&asker);
    let score = state.models.score(&by, &who, (scored, new.score));
    score.await?;
    Ok(StatusCode::NO_CONTENT)
}
