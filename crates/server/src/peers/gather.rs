//! Answers that every server has a part of: lists of agents, and actions on the calls of all.

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
