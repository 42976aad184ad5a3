//! Agents' cards: what others are told that look for agents.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::Value;
use sha2::{Digest, Sha256};
use skep_api::{AgentSkillSpec, AgentSpec};
use skep_core::{Code, Workspace};
use skep_protocols::a2a::Version;
use skep_protocols::a2a::card::{Card, Interface, Skill, with_older};
use skep_store::Hash;

use super::VERSION;
use crate::dispatch::Body;
use crate::oauth;
use crate::problem::ApiError;
use crate::state::State;

/// Where a card is, behind an agent's address, and where the one of the agent in front is.
pub(crate) const PATH: &str = "/.well-known/agent-card.json";
/// Where it was in 0.2.
const OLDER: &str = "/.well-known/agent.json";
/// The label of the agent whose card stands for the workspace.
const FRONT: &str = "front";
/// How long a card is believed.
const KEPT: &str = "max-age=60";

/// Whether a request to an agent is for its card.
pub(super) fn is_meant(method: &Method, path: &str) -> bool {
    (method == Method::GET || method == Method::HEAD) && (path == PATH || path == OLDER)
}

/// The agent in front: the one with the label `front: "true"`, or the only one.
pub(crate) fn front(state: &State, workspace: &Workspace) -> Option<String> {
    let names = state.runtime.names(workspace);
    let is_front = |name: &&String| {
        let target = state.runtime.target(workspace, name);
        target.is_some_and(|it| it.spec().labels.get(FRONT).is_some_and(|it| it == "true"))
    };
    let found = names.iter().find(is_front);
    match (found, names.as_slice()) {
        (Some(name), _) => Some(name.clone()),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}

fn or(told: &[String], else_: &[&str]) -> Vec<String> {
    match told {
        [] => else_.iter().map(|it| (*it).to_owned()).collect(),
        told => told.to_vec(),
    }
}

fn skill(agent: &str, of: &AgentSkillSpec) -> Skill {
    Skill {
        id: of.id.clone(),
        name: of.name.clone().unwrap_or_else(|| of.id.clone()),
        description: of.description.clone(),
        tags: or(&of.tags, &[agent]),
        examples: of.examples.clone(),
        ..Skill::default()
    }
}

/// The card of an agent that is reached here.
fn card(spec: &AgentSpec, url: &str) -> Card {
    const MODES: [&str; 2] = ["text/plain", "application/json"];
    let told = spec.card.clone().unwrap_or_default();
    let name = spec.name.as_str();
    let unsaid = format!("The agent `{name}`.");
    let description = told.description.clone().unwrap_or(unsaid);
    let mut skills: Vec<Skill> = told.skills.iter().map(|it| skill(name, it)).collect();
    if skills.is_empty() {
        // A card has one, and who looks by words finds it.
        skills.push(Skill {
            id: name.to_owned(),
            name: name.to_owned(),
            description: description.clone(),
            tags: vec![name.to_owned()],
            ..Skill::default()
        });
    }
    Card {
        name: name.to_owned(),
        description,
        version: told.version.clone().unwrap_or_else(|| "1".to_owned()),
        interfaces: Interface::at(url, None),
        provider: None,
        documentation_url: told.documentation_url.clone(),
        icon_url: None,
        streaming: true,
        push_notifications: true,
        extended_agent_card: true,
        input_modes: or(&told.input_modes, &MODES),
        output_modes: or(&told.output_modes, &MODES),
        skills,
        bearer: Some(vec!["agent:call".to_owned()]),
    }
}

/// The card of an agent, for who asked for this address.
pub(crate) fn written(
    state: &State,
    (workspace, agent): (&Workspace, &str),
    (uri, headers): (&Uri, &HeaderMap),
    version: Version,
) -> Result<Value, ApiError> {
    let missing = || ApiError::new(Code::AgentNotFound, format!("there is no agent `{agent}`"));
    let target = state.runtime.target(workspace, agent).ok_or_else(missing)?;
    let unnamed = || ApiError::new(Code::BadRequest, "the request names no host");
    let origin = oauth::origin(state, uri, headers).ok_or_else(unnamed)?;
    let card = card(&target.spec(), &format!("{origin}/a2a/{agent}"));
    Ok(match version {
        Version::V1_0 => card.wire(),
        Version::V0_3 => with_older(card.wire()),
    })
}

pub(super) fn of(
    state: &State,
    of: (&Workspace, &str),
    head: &Parts,
    version: Version,
) -> Result<Value, ApiError> {
    written(state, of, (&head.uri, &head.headers), version)
}

/// In which version a card is read, as far as is said: one document serves both.
fn told(headers: &HeaderMap) -> Version {
    let told = headers.get(VERSION).and_then(|it| it.to_str().ok());
    Version::of(told).unwrap_or(Version::V0_3)
}

/// The card as a document that is kept for a while.
pub(super) fn answer(
    state: &State,
    (workspace, agent): (&Workspace, &str),
    head: &Parts,
) -> Result<Response<Body>, ApiError> {
    let version = told(&head.headers);
    let text = of(state, (workspace, agent), head, version)?.to_string();
    let hash = Hash::from_bytes(Sha256::digest(&text).into()).to_string();
    let tag = format!("\"{hash}\"");
    let is_known = head
        .headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .any(|it| it.trim() == tag || it.trim() == "*");
    let body = match is_known {
        true => axum::body::Body::empty(),
        false => axum::body::Body::from(text),
    };
    let mut response = Response::new(Body::Api(body));
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(KEPT));
    headers.insert(VARY, HeaderValue::from_static(Version::NAME));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// The agent whose card a request asks for, and what the request says, when nobody has to be known for it.
pub(crate) fn public(state: &State, head: &Parts) -> Option<Result<Response<Body>, ApiError>> {
    let workspace = Workspace::default();
    let path = head.uri.path();
    let agent = match path.strip_prefix("/a2a/") {
        Some(rest) => {
            let (agent, path) = rest.split_once('/')?;
            let path = format!("/{path}");
            is_meant(&head.method, &path).then(|| agent.to_owned())?
        }
        None => is_meant(&head.method, path).then(|| front(state, &workspace))??,
    };
    let target = state.runtime.target(&workspace, &agent)?;
    let spec = target.spec();
    let is_public = spec.card.as_ref().is_some_and(|it| it.public);
    is_public.then(|| answer(state, (&workspace, &agent), head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_says_something_in_every_field() {
        let spec = AgentSpec::new("counter", vec!["x".to_owned()]);
        let card = card(&spec, "https://skep.example/a2a/counter").wire();
        assert_eq!(card["description"], "The agent `counter`.");
        assert_eq!(card["skills"][0]["tags"][0], "counter");
        assert_eq!(
            card["supportedInterfaces"][0]["url"],
            "https://skep.example/a2a/counter"
        );
        assert_eq!(card["defaultOutputModes"][0], "text/plain");
    }

    #[test]
    fn what_the_manifest_says_stands_on_the_card() {
        let mut spec = AgentSpec::new("counter", vec!["x".to_owned()]);
        let told = serde_json::json!({ "description": "Counts.", "version": "2", "output_modes": ["image/png"],
            "skills": [{ "id": "sum", "description": "Adds.", "tags": ["maths"] }] });
        spec.card = Some(serde_json::from_value(told).unwrap());
        let card = card(&spec, "https://x/a2a/counter").wire();
        assert_eq!(card["skills"][0]["name"], "sum");
        assert_eq!(card["skills"][0]["tags"], serde_json::json!(["maths"]));
        assert_eq!(
            (&card["version"], &card["description"]),
            (&"2".into(), &"Counts.".into())
        );
        assert_eq!(card["defaultOutputModes"], serde_json::json!(["image/png"]));
    }
}
