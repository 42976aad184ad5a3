//! The door to runs in AG-UI: `POST /agents/{agent}/agui`.

use http::{Method, Request, Response};
use skep_core::Code;
use skep_ingress::{Context, Visit};
use skep_protocols::agui::RunAgentInput;

use crate::dispatch::Body;
use crate::gate::Asker;
use crate::models;
use crate::peers::forward::Sent;
use crate::problem::ApiError;
use crate::runs::{Agui, Watch, Wish, begin, check_id, key, seen, stream, tell, whose};
use crate::state::State;

/// The path of the door, behind an agent's.
const PATH: &str = "/agui";

/// Whether a request to an agent is for this door.
pub(crate) fn is_meant(method: &Method, target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    *method == Method::POST && path == PATH
}

/// Reads what a client asks.
fn read(bytes: &[u8]) -> Result<RunAgentInput, ApiError> {
    let invalid = |detail: String| ApiError::new(Code::BadRequest, detail);
    let value = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("the body is no JSON: {error}")))?;
    let input = RunAgentInput::read(value).map_err(|error| invalid(error.to_string()))?;
    check_id("threadId", &input.thread_id)?;
    check_id("runId", &input.run_id)?;
    Ok(input)
}

/// Begins a run, or goes on with one that this client has begun, and shows it.
pub(crate) async fn answer(
    state: &State,
    (context, visit): (Context, Visit),
    (asker, agent): (&Asker, &str),
    request: Request<Sent>,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let behind = seen(&head.headers)?;
    let input = read(&models::read(body, &state.model_bounds).await?)?;
    let asker = &asker.principal;
    let wish = Wish {
        asker,
        agent,
        // Of a client that sends its request twice there is one run.
        key: key("agui", &[&whose(asker), &input.thread_id, &input.run_id]),
        input,
        task: None,
        id: None,
        headers: &head.headers,
        push: None,
    };
    let started = begin(state, (&context, visit), wish).await?;
    let watch = Watch::of(state, &context.workspace, &started, behind).await?;
    let mut response = stream(watch, Agui);
    tell(response.headers_mut(), &started);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_is_one_path() {
        for (method, target, meant) in [
            (Method::POST, "/agui", true),
            (Method::POST, "/agui?x=1", true),
            (Method::GET, "/agui", false),
            (Method::POST, "/agui/x", false),
            (Method::POST, "/x/agui", false),
        ] {
            assert_eq!(is_meant(&method, target), meant, "{method} {target}");
        }
    }
}
