//! Answers that every server has a part of: lists of agents, and actions on the calls of all.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full, Limited};
use serde_json::Value;
use skep_core::Code;

use super::forward::{Failed, Sender};
use crate::problem::ApiError;
use crate::state::State;

/// Time for one server to say its part.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a list is asked for, before an agent that is in no part is told to be on its way.
pub(crate) const TRIES: u32 = 5;
/// The largest answer of one server.
const MOST_BODY: usize = 64 << 20;
/// Rows of a page unless the client says how many, as every list has it.
const DEFAULT_LIMIT: usize = 100;

/// How the parts become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gathering {
    /// Pages of rows with this field as their order.
    Pages(&'static str),
    /// Numbers of calls.
    Sums,
}

/// Whether each server has a part of the answer to this.
pub(crate) fn gathering(method: &Method, path: &str) -> Option<Gathering> {
    match (method.as_str(), path) {
        ("GET", "/api/v1/agents") => Some(Gathering::Pages("name")),
        ("GET", "/api/v1/stats") => Some(Gathering::Pages("agent")),
        ("POST", "/api/v1/calls/redrive") => Some(Gathering::Sums),
        _ => None,
    }
}

/// A list of agents of all servers, and one that is missing in it: on its way from one server to
/// another it may be in the part of neither, and all must be asked again.
pub(crate) async fn complete(
    state: &State,
    sender: &Sender,
    uri: &Uri,
    how: Gathering,
    whole: Response<axum::body::Body>,
) -> Result<(Response<axum::body::Body>, Option<String>), ApiError> {
    let Gathering::Pages(key) = how else {
        return Ok((whole, None));
    };
    if whole.status() != StatusCode::OK {
        return Ok((whole, None));
    }
    let (head, body) = whole.into_parts();
    let page = parse(body).await?;
    // After the parts, so that whoever was removed meanwhile is not missed.
    let owners = state.runtime.owners(&sender.workspace).await?;
    // One whose server is gone, and that no other may have, is nobody's to show.
    let living = owners
        .iter()
        .filter(|(_, epoch)| state.peers.lives(**epoch));
    let missed = missing(living.map(|(name, _)| name), &page, key, uri);
    Ok((Response::from_parts(head, page.to_string().into()), missed))
}

/// The first agent that belongs to a page and is not in it.
fn missing<'a>(
    all: impl Iterator<Item = &'a String>,
    page: &Value,
    key: &str,
    uri: &Uri,
) -> Option<String> {
    let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
    let there: HashSet<&str> = items.iter().filter_map(|it| it[key].as_str()).collect();
    let query = uri.query().unwrap_or_default();
    let mut parts = query.split('&');
    let is_of_page =
        |it: &str| it.is_empty() || it.starts_with("cursor=") || it.starts_with("limit=");
    if !parts.clone().all(is_of_page) {
        // Of a search nobody knows who belongs to it.
        return None;
    }
    // Names of agents need no escapes.
    let after = parts.find_map(|part| part.strip_prefix("cursor="));
    let last = page["next"].as_str();
    let belongs = |name: &&String| {
        after.is_none_or(|after| name.as_str() > after)
            && last.is_none_or(|last| name.as_str() <= last)
    };
    all.filter(belongs)
        .find(|name| !there.contains(name.as_str()))
        .cloned()
}

/// Asks the others the same and adds what they say to this server's own answer.
pub(crate) async fn gather(
    state: &State,
    sender: &Sender,
    (method, uri): (Method, Uri),
    how: Gathering,
    own: Response<axum::body::Body>,
) -> Result<Response<axum::body::Body>, ApiError> {
    if own.status() != StatusCode::OK {
        return Ok(own);
    }
    let (head, body) = own.into_parts();
    let mut parts = vec![parse(body).await?];
    for peer in state.peers.others() {
        let Some(wire) = &state.peers.wire else { break };
        let mut request = Request::new(Either::Right(Full::new(Bytes::new())));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = HeaderMap::new();
        let missing = |why: String| {
            let detail = format!("the server at {} did not say its part: {why}", peer.url);
            ApiError::new(Code::AgentElsewhere, detail)
        };
        let part = async {
            match wire.send(&peer, sender, request).await {
                Ok(response) if response.status() == StatusCode::OK => {
                    parse(response.into_body()).await
                }
                Ok(response) => Err(missing(response.status().to_string())),
                Err(Failed::Unsent(_, why) | Failed::Broken(why)) => Err(missing(why)),
            }
        };
        let part = tokio::time::timeout(PATIENCE, part).await;
        parts.push(part.unwrap_or_else(|_| Err(missing("no answer in time".to_owned())))?);
    }
    let whole = match how {
        Gathering::Pages(key) => pages(parts, key, limit(&uri)),
        Gathering::Sums => {
            let calls = parts.iter().filter_map(|part| part["calls"].as_u64()).sum();
            serde_json::json!(skep_api::Redriven { calls })
        }
    };
    let mut response = Response::from_parts(head, axum::body::Body::from(whole.to_string()));
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    Ok(response)
}

fn limit(uri: &Uri) -> usize {
    let query = uri.query().unwrap_or_default();
    let given = query
        .split('&')
        .find_map(|part| part.strip_prefix("limit="));
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(DEFAULT_LIMIT)
}

async fn parse<B>(body: B) -> Result<Value, ApiError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let unreadable = |why: String| {
        let detail = format!("a server's part of the answer cannot be read: {why}");
        ApiError::new(Code::AgentElsewhere, detail)
    };
    let collected = Limited::new(body, MOST_BODY).collect().await;
    let bytes = collected.map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| unreadable(error.to_string()))
}

/// One page of several, in the order of a field, with a cursor when there is more.
fn pages(parts: Vec<Value>, key: &str, limit: usize) -> Value {
    let more_there = parts.iter().any(|part| part.get("next").is_some());
    let mut items: Vec<Value> = parts
        .into_iter()
        .filter_map(|mut part| match part["items"].take() {
            Value::Array(items) => Some(items),
            _ => None,
        })
        .flatten()
        .collect();
    items.sort_by(|a, b| a[key].as_str().cmp(&b[key].as_str()));
    // An agent that moved between two answers is in both.
    items.dedup_by(|a, b| a[key] == b[key]);
    let more = more_there || items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last[key].clone());
    match next {
        Some(next) => serde_json::json!({ "items": items, "next": next }),
        None => serde_json::json!({ "items": items }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_that_is_in_no_part_is_missed() {
        let all: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let missed = |page: Value, at: &str| missing(all.iter(), &page, "name", &uri(at));
        let whole = json!({"items": [{"name": "a"}, {"name": "b"}], "next": "b"});
        assert_eq!(missed(whole.clone(), "/api/v1/agents?limit=2"), None);
        let hole = json!({"items": [{"name": "a"}, {"name": "c"}], "next": "c"});
        assert_eq!(missed(hole, "/api/v1/agents?limit=2").as_deref(), Some("b"));
        let last = json!({"items": [{"name": "d"}]});
        assert_eq!(missed(last.clone(), "/api/v1/agents?cursor=c"), None);
        assert_eq!(missed(last, "/api/v1/agents").as_deref(), Some("a"));
    }

    #[test]
    fn pages_of_several_servers_are_one_page() {
        let one = json!({"items": [{"name": "a"}, {"name": "c"}], "next": "c"});
        let two = json!({"items": [{"name": "b"}, {"name": "c"}]});
        let page = pages(vec![one.clone(), two.clone()], "name", 2);
        assert_eq!(
            page,
            json!({"items": [{"name": "a"}, {"name": "b"}], "next": "b"})
        );
        let page = pages(vec![one, two.clone()], "name", 3);
        assert_eq!(page["items"].as_array().map(Vec::len), Some(3));
        // What stands behind the last row of a page that has a next one is not lost.
        assert_eq!(page["next"], "c");
        assert_eq!(pages(vec![two.clone()], "name", 2), two);
    }
}
