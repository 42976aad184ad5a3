//! What agents have of their lock files: given when they are deployed, and taken back when it has grown.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::value::RawValue;
use skep_api::{Agent, AgentLayers, AgentSpec, DeployWithLayers, LayersOrigin, Problem};
use skep_core::Code;
use skep_guard::policy::Resource;
use skep_ingress::CallPolicy;
use skep_runtime::{DataFolders, Desired, Layers, MOST_LAYER, place_layers};

use super::agents::find;
use super::input::{Caller, Json as Body, Ordered, Path};
use crate::gate::{self, Asker};
use crate::lending;
use crate::problem::ApiError;
use crate::state::State;

/// A layer that somebody sends: an object, of which nothing else is looked at.
fn given(name: &str, layer: Option<Box<RawValue>>) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(layer) = layer else {
        return Ok(None);
    };
    let text = layer.get();
    if !text.starts_with('{') || text.len() as u64 > MOST_LAYER {
        let most = MOST_LAYER >> 20;
        let detail = format!("`layers.{name}`: an object of up to {most} MiB");
        return Err(ApiError::new(Code::InvalidSpec, detail));
    }
    Ok(Some(text.as_bytes().to_vec()))
}

fn written(origin: &LayersOrigin) -> Result<Vec<u8>, ApiError> {
    let bytes = serde_json::to_vec(origin);
    bytes.map_err(|_| ApiError::new(Code::Internal, Code::Internal.title()))
}

/// A file of an agent, which may have written anything into it: checked, and not taken apart.
fn layer(name: &str, bytes: Option<Vec<u8>>) -> Result<Option<Box<RawValue>>, ApiError> {
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| odd(name, "it is no text"))?;
    let layer = RawValue::from_string(text);
    let layer = layer.map_err(|error| odd(name, &format!("line {}", error.line())))?;
    match layer.get().starts_with('{') {
        true => Ok(Some(layer)),
        false => Err(odd(name, "it is no object")),
    }
}

fn odd(name: &str, why: &str) -> ApiError {
    let detail = format!(
        "`$HOME/lock/{name}` is not the JSON that it must be ({why}): the agent may be writing it; try again"
    );
    ApiError::new(Code::AgentState, detail)
}

/// Whether somebody may deploy that, whichever way it comes.
pub(super) async fn may_deploy(
    state: &State,
    asker: &Asker,
    spec: &AgentSpec,
) -> Result<(), ApiError> {
    let agent = Resource::Agent(skep_guard::policy::Agent {
        name: &spec.name,
        driver: Some(&spec.driver),
        labels: Some(&spec.labels),
    });
    if gate::may(state, asker, "agent:deploy", agent).await? {
        return Ok(());
    }
    let detail = format!(
        "`agent:deploy` on `{}` as it is to be is not allowed",
        spec.name
    );
    Err(ApiError::new(Code::Forbidden, detail))
}

/// The layers that an agent has of its lock file, as they are at this moment.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/layers", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 200, body = AgentLayers), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<AgentLayers>, ApiError> {
    let layers = state.runtime.layers(&workspace, &name).await?;
    let checked = tokio::task::spawn_blocking(move || {
        let origin = layers.origin.map(|bytes| serde_json::from_slice(&bytes));
        Ok(AgentLayers {
            personality: layer("personality.json", layers.personality)?,
            memory: layer("memory.json", layers.memory)?,
            origin: origin
                .transpose()
                .map_err(|_| odd("origin.json", "it is of another form"))?,
        })
    });
    let checked = checked.await;
    checked
        .unwrap_or_else(|_| Err(ApiError::new(Code::Internal, Code::Internal.title())))
        .map(Json)
}

/// Deploys an agent with layers of its lock file in place before it starts. One that is there is restarted when
/// nothing else of it is new.
#[utoipa::path(put, path = "/api/v1/agents/{agent}/layers", tag = "agents", request_body = DeployWithLayers,
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 201, body = Agent, description = "A new agent"),
        (status = 200, body = Agent, description = "An agent that was there"),
        (status = "4XX", body = Problem)))]
pub(super) async fn deploy(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    Body(wish): Body<DeployWithLayers>,
) -> Result<Response, ApiError> {
    let mut spec = wish.spec;
    spec.name = name;
    may_deploy(&state, &asker, &spec).await?;
    CallPolicy::from_spec(&spec.calls)?;
    // Nothing is written for what cannot be deployed.
    state.runtime.check(&workspace, &spec).await?;
    lending::check(&state, &asker, &spec).await?;
    let layers = Layers {
        personality: given("personality", wish.layers.personality)?,
        memory: given("memory", wish.layers.memory)?,
        origin: wish.layers.origin.as_ref().map(written).transpose()?,
    };
    let there = find(&state, &workspace, &spec.name).await;
    let status = match there {
        Err(error) if error.public().code() == Code::AgentNotFound => {
            let place = move |folders: &DataFolders| place_layers(folders, &layers);
            let made =
                state
                    .runtime
                    .deploy_with(&by, &workspace, spec.clone(), Desired::Running, place);
            made.await?;
            StatusCode::CREATED
        }
        Err(error) => return Err(error),
        Ok(_) => {
            state
                .runtime
                .give_layers(&workspace, &spec.name, (layers, wish.keep_memory))
                .await?;
            let deployed = state.runtime.deploy(&by, &workspace, spec.clone()).await?;
            if deployed.agent.desired == Desired::Stopped {
                state.runtime.start(&by, &workspace, &spec.name).await?;
            } else if !deployed.changed {
                state.runtime.restart(&by, &workspace, &spec.name).await?;
            }
            StatusCode::OK
        }
    };
    let agent = find(&state, &workspace, &spec.name).await?;
    Ok((status, Json(agent)).into_response())
}

/// Says what of an agent's memory is in its lock file now.
#[utoipa::path(put, path = "/api/v1/agents/{agent}/layers/origin", tag = "agents", request_body = LayersOrigin,
    params(("agent" = String, Path, description = "The agent's name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn origin(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    Body(origin): Body<LayersOrigin>,
) -> Result<StatusCode, ApiError> {
    let layers = Layers {
        origin: Some(written(&origin)?),
        ..Layers::default()
    };
    state
        .runtime
        .give_layers(&workspace, &name, (layers, false))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
